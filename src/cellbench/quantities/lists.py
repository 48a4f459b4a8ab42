"""Lists, ranges and intervals of quantities."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cellbench.quantities.quantity import (
    ABSOLUTE,
    ZERO_CELSIUS_K,
    Quantity,
    convert,
    parse_quantity,
    refuse_bare_celsius,
    refuse_decimal_comma,
)
from cellbench.quantities.units import CELSIUS, PLAIN, QuantityError, unit_of

_MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``; None is open. In SI units."""

    low: float | None
    high: float | None


def with_unit_of(quantity: Quantity, other: Quantity) -> Quantity:
    """Give a bare number the unit and reference of another quantity."""
    if quantity.exponents != PLAIN or quantity.unit or other.exponents == PLAIN:
        return quantity
    factor = unit_of(other.unit)[0] if other.unit not in {"C", ""} else 1.0
    offset = ZERO_CELSIUS_K if other.unit in CELSIUS else 0.0
    value = quantity.value * factor + offset
    reference = quantity.reference or other.reference
    return Quantity(value, other.exponents, reference, other.unit)


def steps_between(first: Quantity, last: Quantity, by: Quantity) -> tuple[Quantity, ...]:
    """Return the values from ``first`` to ``last`` inclusive, ``by`` apart in either direction.

    Raises:
        QuantityError: The step is zero, of another dimension, or there would be too many values.
    """
    if not first.exponents == last.exponents == by.exponents:
        raise QuantityError(f'"{first}", "{last}" and "{by}" are not of one dimension')
    distance, step = last.value - first.value, abs(convert_step(by))
    if step == 0:
        raise QuantityError(f'from "{first}" to "{last}" by "{by}": a step of zero never arrives')
    if abs(distance) / step > _MAX_ITEMS:
        raise QuantityError(f'steps of "{by}" from "{first}" to "{last}" are too many')
    count = math.floor(abs(distance) / step * (1 + 1e-9) + 1e-9) + 1
    signed = math.copysign(step, distance)
    return tuple(
        Quantity(
            float(f"{first.value + index * signed:.12g}"),
            first.exponents,
            first.reference,
            first.unit,
        )
        for index in range(count)
    )


def convert_step(quantity: Quantity) -> float:
    """SI value of a step between two values: of a temperature, the difference."""
    return quantity.value - (ZERO_CELSIUS_K if quantity.reference == ABSOLUTE else 0.0)


def parse_list(text: str, *dimensions: str) -> tuple[float, ...]:
    """Parse ``0.02, 0.05, 0.1 to 0.6 by 0.1 mA/cm2``; the last unit applies to bare numbers.

    Raises:
        QuantityError: An item is not a quantity of one of the dimensions.
    """
    return tuple(convert(each, *dimensions) for each in parse_quantities(text))


def parse_quantities(text: str) -> tuple[Quantity, ...]:
    """Parse a list with ranges, of any dimension.

    Raises:
        QuantityError: An item is not a quantity.
    """
    refuse_decimal_comma(text)
    items = [re.split(r"\s+(?:to|by)\s+", item) for item in text.split(",")]
    if len(items) > _MAX_ITEMS:
        raise QuantityError(f"{len(items)} items are too many")
    return spread([[parse_quantity(part) for part in item] for item in items])


def spread(items: Sequence[Sequence[Quantity]]) -> tuple[Quantity, ...]:
    """Give bare numbers the last unit, and write out ranges (items of three).

    Raises:
        QuantityError: A range has no step.
    """
    last = items[-1][-1]
    values: list[Quantity] = []
    for item in items:
        parts = [with_unit_of(part, last) for part in item]
        if len(parts) == 2:
            raise QuantityError(
                f'from "{parts[0]}" to "{parts[1]}" by how much? Write "{parts[0]} to {parts[1]} '
                f'by ..."'
            )
        values.extend(steps_between(*parts) if len(parts) == 3 else parts)
    if len(values) > _MAX_ITEMS:
        raise QuantityError(f"{len(values)} values are too many")
    return tuple(values)


def parse_bounds(text: str) -> tuple[Quantity | None, Quantity | None]:
    """Parse ``-2 V to 2 V``, ``at most 12 MPa``, ``at least 3 V``; a bare value is "at most".

    Raises:
        QuantityError: The text is none of these, or its ends are in the wrong order.
    """
    stripped = text.strip()
    if match := re.match(r"at\s+(most|least)\s+", stripped):
        quantity = parse_quantity(stripped[match.end() :])
        return (None, quantity) if match[1] == "most" else (quantity, None)
    parts = re.split(r"\s+to\s+", stripped)
    if len(parts) == 1:
        return None, parse_quantity(stripped)
    if len(parts) != 2:
        raise QuantityError(f'"{stripped[:60]}" is not an interval like "2 V to 3 V"')
    high = parse_quantity(parts[1])
    low = with_unit_of(parse_quantity(parts[0]), high)
    if not low.reference and high.reference:
        low = Quantity(low.value, low.exponents, high.reference, low.unit)
    if low.exponents == high.exponents and low.value >= high.value:
        raise QuantityError(f'"{stripped[:60]}" ends below its start; write the lower end first')
    return low, high


def parse_interval(text: str, *dimensions: str) -> Interval:
    """Parse an interval to SI units; see `parse_bounds`.

    Raises:
        QuantityError: The text is no interval of one of the dimensions.
    """
    if "temperature" in dimensions:
        refuse_bare_celsius(text)
    low, high = parse_bounds(text)
    return Interval(
        None if low is None else convert(low, *dimensions),
        None if high is None else convert(high, *dimensions),
    )
