"""One quantity: read from text, converted to the dimension that is asked for, written again."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TypeAlias

from cellbench.quantities.dimensions import DIMENSIONS, format_quantity, name_of
from cellbench.quantities.units import (
    CELSIUS,
    KEYWORDS,
    PLAIN,
    Exponents,
    QuantityError,
    is_unit,
    scan_unit,
    unit_of,
    unknown_unit,
)

#: What a potential can refer to.
LITHIUM = "Li+/Li"
TERMINALS = "terminals"
#: The reference of temperatures that were given on a scale, not as a difference.
ABSOLUTE = "absolute zero"

#: 0 degC in kelvin.
ZERO_CELSIUS_K = 273.15

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3}(?!\d))?")
_C_RATE = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?|[+-])?C(?:/(\d+\.?\d*))?(?![A-Za-z0-9_°µ])"
)
_COULOMB_OR_RATE = re.compile(r"[+-]?\d+\.?\d*\s+C(?![A-Za-z0-9_])")
_BARE_CELSIUS = re.compile(r"([+-]?\d+\.?\d*)\s*C(?![A-Za-z0-9_/])")
_REFERENCE = re.compile(
    r"\s*\b(?:vs\.?\s+(?P<electrode>[A-Za-z0-9/+]+)|at\s+(?:the\s+)?terminals?)"
)
_DECIMAL_COMMA = re.compile(r"(?<![\d.])\d+,\d+(?![\d.])")
_MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in SI units with its dimension, and the reference if it is a point on a scale."""

    value: float
    exponents: Exponents = PLAIN
    reference: str = ""
    unit: str = field(default="", compare=False)

    def __str__(self) -> str:
        """As a person would write it, in the unit that it was given in."""
        return describe(self)


#: What a name in a protocol can stand for.
Value: TypeAlias = Quantity | tuple[Quantity, ...] | str | bool


def scan(text: str, start: int = 0) -> tuple[Quantity, int]:
    """Read one quantity from ``text[start:]``; returns it and where it ends.

    Raises:
        QuantityError: There is none, or its unit is unknown.
    """
    if match := _C_RATE.match(text, start):
        return _c_rate(match), match.end()
    match = _NUMBER.match(text, start)
    if match is None:
        raise QuantityError(f'"{text[start : start + 40]}" is not a number with a unit', start)
    if _COULOMB_OR_RATE.match(text, start):
        number = match[0]
        raise QuantityError(
            f'"{number} C" could be a C-rate or coulombs: write "{number}C" or "{number} coulomb"',
            start,
            len(number) + 2,
        )
    return _with_unit(text, start, match)


def _c_rate(match: re.Match[str]) -> Quantity:
    number = match[1] or "1"
    number = number + "1" if number in {"+", "-"} else number
    divisor = float(match[2] or 1)
    if divisor == 0:
        raise QuantityError(f'"{match[0]}" divides by zero', match.start(), len(match[0]))
    return Quantity(float(number) / divisor, DIMENSIONS["C-rate"].exponents, unit="C")


def _with_unit(text: str, start: int, number: re.Match[str]) -> tuple[Quantity, int]:
    value = float(number[0])
    after = number.end()
    while text[after : after + 1] == " ":
        after += 1
    unit, end = scan_unit(text, after)
    if unit is None:
        quantity, end = Quantity(value), number.end()
    else:
        name = text[after:end]
        offset = ZERO_CELSIUS_K if name in CELSIUS else 0.0
        quantity = Quantity(value * unit[0] + offset, unit[1], ABSOLUTE if offset else "", name)
    if not math.isfinite(quantity.value):
        raise QuantityError(f'"{number[0][:40]}" is beyond all bounds', start, len(number[0]))
    return _with_reference(text, quantity, end)


def _with_reference(text: str, quantity: Quantity, end: int) -> tuple[Quantity, int]:
    match = _REFERENCE.match(text, end)
    if match is None:
        return quantity, end
    electrode = match["electrode"]
    if electrode is not None and electrode not in {"Li+/Li", "Li/Li+", "Li"}:
        raise QuantityError(
            f'potentials can be given "vs Li+/Li" or "at the terminals", not vs {electrode}',
            match.start(),
            len(match[0]),
        )
    if quantity.exponents != DIMENSIONS["voltage"].exponents and quantity.exponents != PLAIN:
        raise QuantityError("only a potential has a reference", match.start(), len(match[0]))
    reference = TERMINALS if electrode is None else LITHIUM
    return Quantity(quantity.value, quantity.exponents, reference, quantity.unit), match.end()


def convert(quantity: Quantity, *dimensions: str) -> float:
    """SI value of a quantity that must have one of ``dimensions``.

    Raises:
        QuantityError: It has another, with an example of what is needed.
    """
    for name in dimensions:
        if DIMENSIONS[name].exponents == quantity.exponents:
            if name == "temperature difference" and quantity.reference == ABSOLUTE:
                return quantity.value - ZERO_CELSIUS_K
            return quantity.value
    needed = " or ".join(f'{name} like "{DIMENSIONS[name].example}"' for name in dimensions)
    if quantity.exponents == PLAIN and not quantity.unit:
        raise QuantityError(f'"{quantity}" has no unit; what is needed is a {needed}')
    kind = name_of(quantity.exponents)
    raise QuantityError(f'"{quantity}" has the dimension {kind}; what is needed is a {needed}')


def parse_quantity(text: str) -> Quantity:
    """Parse one quantity of any dimension.

    Raises:
        QuantityError: The text is not one.
    """
    stripped = text.strip()
    if len(stripped) > _MAX_TEXT:
        raise QuantityError(f"{len(stripped)} characters are no quantity")
    refuse_decimal_comma(stripped)
    quantity, end = scan(stripped)
    if end != len(stripped):
        rest = stripped[end:].strip()
        word = rest.split()[0]
        if word.isalpha() and word not in KEYWORDS and not is_unit(word):
            raise unknown_unit(word, end)
        raise QuantityError(f'"{rest[:40]}" after "{stripped[:end][:40]}" makes no sense', end)
    return quantity


def parse(text: str, *dimensions: str) -> float:
    """Parse a quantity of one of the named dimensions to SI units.

    Raises:
        QuantityError: The text is not one, or of another dimension.
    """
    return convert(parse_quantity(text), *dimensions)


def refuse_decimal_comma(text: str) -> None:
    """Raise QuantityError for ``0,5``: a decimal comma, or a list?"""
    if match := _DECIMAL_COMMA.search(text):
        point, blank = match[0].replace(",", "."), match[0].replace(",", ", ")
        raise QuantityError(
            f'"{match[0]}" could be a decimal comma or a list: write "{point}" or "{blank}"',
            match.start(),
            len(match[0]),
        )


def refuse_bare_celsius(text: str) -> None:
    """Raise QuantityError for ``25 C`` where a temperature is needed."""
    if match := _BARE_CELSIUS.search(text):
        raise QuantityError(
            f'"{match[0]}" is no temperature: write "{match[1]} degC"',
            match.start(),
            len(match[0]),
        )


def describe(quantity: Quantity) -> str:
    """Write a quantity in the unit that it was given in, else in a fitting one.

    A value that only the run will give (NaN) is a question mark.
    """
    if math.isnan(quantity.value):
        return f"? {quantity.unit}".rstrip()
    suffix = {LITHIUM: " vs Li+/Li", TERMINALS: " at the terminals"}.get(quantity.reference, "")
    if quantity.unit == "C":
        return f"{quantity.value:.6g}C"
    if quantity.unit:
        factor = unit_of(quantity.unit)[0]
        offset = ZERO_CELSIUS_K if quantity.unit in CELSIUS else 0.0
        return f"{(quantity.value - offset) / factor:.6g} {quantity.unit}{suffix}"
    if quantity.exponents == PLAIN:
        return f"{quantity.value:.6g}"
    name = name_of(quantity.exponents)
    if name not in DIMENSIONS:
        return f"{quantity.value:.6g} {name}"
    return format_quantity(quantity.value, name) + suffix
