"""Numbers with units, as people write them, to plain SI floats: parsed once, at the edge.

Units go through pint with a short list of definitions of our own: its full registry takes a fifth
of a second to build and knows units that only turn typing errors into valid input. pint itself is
imported with the first unit that is parsed.

A quantity is a number and a product of units (``0.5 mA/cm2``, ``2 mA h``, ``5 %``), a C-rate
(``C/5``, ``2C``, ``0.2C``) or a potential with its reference (``4.8 V vs Li+/Li``). ``t`` is the
tonne-force of press gauges. ``5 C`` is refused: it could be a C-rate or coulombs.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from cellbench.errors import InputError

if TYPE_CHECKING:
    from pint import UnitRegistry

#: Exponents of metre, kilogram, second, ampere, kelvin and C-rate.
Exponents: TypeAlias = tuple[float, ...]

#: What a potential can refer to.
LITHIUM = "Li+/Li"
TERMINALS = "terminals"
#: The reference of temperatures that were given on a scale, not as a difference.
ABSOLUTE = "absolute zero"

PLAIN: Exponents = (0.0,) * 6
_BASE = ("metre", "kilogram", "second", "ampere", "kelvin", "crate")
_DEFINITIONS = """
pico- = 1e-12 = p-
nano- = 1e-9 = n-
micro- = 1e-6 = µ- = u- = μ-
milli- = 1e-3 = m-
centi- = 1e-2 = c-
kilo- = 1e3 = k-
mega- = 1e6 = M-
giga- = 1e9 = G-
metre = [length] = m = meter
kilogram = [mass] = kg
second = [time] = s = sec
ampere = [current] = A = amp
kelvin = [temperature] = K
crate = [crate]
percent = 0.01 = %
ppm = 1e-6
minute = 60 * second = min
hour = 3600 * second = h = hr
day = 86400 * second = d
gram = 1e-3 * kilogram = g
hertz = 1 / second = Hz
newton = kilogram * metre / second ** 2 = N
pascal = newton / metre ** 2 = Pa
bar = 1e5 * pascal
kilogram_force = 9.80665 * newton = kgf
tonne_force = 9806.65 * newton = t = tonne = ton
joule = newton * metre = J
watt = joule / second = W
coulomb = ampere * second
ampere_hour = 3600 * coulomb = Ah
volt = watt / ampere = V
ohm = volt / ampere = Ω = Ohm = Ω
siemens = 1 / ohm = S
farad = coulomb / volt = F
"""
#: What is proposed for a unit that nobody knows.
_COMMON = (
    "nA uA mA A mA/cm2 uA/cm2 A/m2 mA/g mV V Hz kHz MHz mHz s min h d ms mm um cm m mm2 cm2 N kN t "
    "kgf Pa kPa MPa GPa bar degC K Ohm kOhm mOhm Ah mAh uAh mAh/cm2 mAh/g g mg mg/cm2 % MPa/s V/s "
    "mV/s mS/cm S/cm coulomb MPa/min K/min ppm"
).split()
_CELSIUS = {"degC", "°C", "℃", "celsius"}
#: Dimensions that people write in tenths of a unit: 0.5 V, 0.5 MPa, 0.35 mm.
_TENTHS = {
    "voltage",
    "pressure",
    "rate of pressure",
    "current density",
    "length",
    "conductivity",
    "areal capacity",
}
#: Words that may follow a number without being its unit.
KEYWORDS = frozenset("to by of vs at and or not over for if per".split())

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3}(?![A-Za-z0-9]))?")
_C_RATE = re.compile(r"([+-]?\d+\.?\d*|[+-]?\.\d+|[+-])?C(?:/(\d+\.?\d*))?(?![A-Za-z0-9_°µ])")
_COULOMB_OR_RATE = re.compile(r"[+-]?\d+\.?\d*\s+C(?![A-Za-z0-9_])")
_FACTOR = re.compile(r"([A-Za-zµμΩΩ°℃%_]+)(?:(?:\^|\*\*)?(-?[1-9])(?![\d.]))?")
_JOINT = re.compile(r"\s*([/*·])\s*(?=[A-Za-zµμΩ°%])|\s+(?=[A-Za-zµμΩ°])")
_REFERENCE = re.compile(r"\s*\b(?:vs\.?\s+(?P<electrode>[A-Za-z0-9/+]+)|at\s+(?:the\s+)?terminals?)")
_DECIMAL_COMMA = re.compile(r"(?<![\d.])\d+,\d+(?![\d.])")
_MAX_ITEMS = 10_000
_MAX_TEXT = 2000


class QuantityError(InputError):
    """A text is not the quantity that is needed; ``column`` and ``length`` say where in it."""

    def __init__(self, message: str, column: int = 0, length: int = 1) -> None:
        super().__init__(message)
        self.column = column
        self.length = length


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


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``; None is open. In SI units."""

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Dimension:
    """A kind of quantity that fields ask for: its SI unit, units to print it in, an example."""

    name: str
    si_unit: str
    units: tuple[str, ...]
    example: str

    @property
    def exponents(self) -> Exponents:
        """Its exponents of the base units."""
        return PLAIN if not self.si_unit else unit_of(self.si_unit)[1]


def _dimensions(*rows: tuple[str, str, str, str]) -> dict[str, Dimension]:
    return {name: Dimension(name, si, tuple(units.split()), ex) for name, si, units, ex in rows}


DIMENSIONS = _dimensions(
    ("time", "s", "h min s ms us", "30 min"),
    ("current", "A", "A mA uA nA", "2 mA"),
    ("current density", "A/m2", "mA/cm2 uA/cm2", "0.5 mA/cm2"),
    ("current per length", "A/m", "mA/cm", "1 mA/cm"),
    ("specific current", "A/kg", "mA/g", "180 mA/g"),
    ("C-rate", "crate", "", "C/5"),
    ("voltage", "V", "V mV uV", "0.1 V"),
    ("voltage rate", "V/s", "V/s mV/s uV/s", "0.1 mV/s"),
    ("pressure", "Pa", "MPa kPa Pa", "5 MPa"),
    ("rate of pressure", "Pa/s", "MPa/s kPa/s Pa/s", "0.5 MPa/s"),
    ("force", "N", "kN N", "2 kN"),
    ("rate of force", "N/s", "N/s", "50 N/s"),
    ("length", "m", "m mm um", "10 mm"),
    ("area", "m2", "cm2", "0.785 cm2"),
    ("temperature", "K", "K", "25 degC"),
    ("temperature difference", "K", "K", "0.5 K"),
    ("rate of temperature", "K/s", "K/min", "1 K/min"),
    ("frequency", "Hz", "MHz kHz Hz mHz uHz", "100 mHz"),
    ("charge", "A*s", "Ah mAh uAh", "2 mAh"),
    ("areal capacity", "A*s/m2", "mAh/cm2", "1 mAh/cm2"),
    ("specific capacity", "A*s/kg", "mAh/g", "180 mAh/g"),
    ("loading", "kg/m2", "mg/cm2", "6 mg/cm2"),
    ("mass", "kg", "g mg", "70 mg"),
    ("resistance", "Ohm", "MOhm kOhm Ohm mOhm", "100 Ohm"),
    ("area resistance", "Ohm*m2", "Ohm*cm2", "50 Ohm cm2"),
    ("conductivity", "S/m", "mS/cm", "0.35 mS/cm"),
    ("capacitance", "F", "F mF uF nF pF", "20 nF"),
    ("power", "W", "W mW uW", "2 mW"),
    ("energy", "J", "J mJ", "3 J"),
    ("fraction", "", "%", "5 %"),
    ("number", "", "", "3"),
)


@lru_cache(maxsize=1)
def _registry() -> UnitRegistry:
    from pint import UnitRegistry  # noqa: PLC0415 - a tenth of a second that --help must not pay

    registry: UnitRegistry = UnitRegistry(None)
    registry.load_definitions([line for line in _DEFINITIONS.splitlines() if line])
    return registry


@lru_cache(maxsize=256)
def _named_unit(name: str) -> tuple[float, Exponents] | None:
    """SI factor and exponents of a single, perhaps prefixed, unit."""
    if name in _CELSIUS:
        name = "K"
    registry = _registry()
    found = registry.parse_unit_name(name)
    if not found:
        return None
    prefix, unit, _ = found[0]
    factor, units = registry.get_root_units(prefix + unit)
    powers = {str(base): float(power) for base, power in units._units.items()}
    return float(factor), tuple(powers.get(base, 0.0) for base in _BASE)


@lru_cache(maxsize=512)
def unit_of(text: str) -> tuple[float, Exponents]:
    """SI factor and exponents of a product of units such as ``mA/cm2``.

    Raises:
        QuantityError: It is not one.
    """
    unit, end = _scan_unit(text, 0)
    if unit is None or end != len(text):
        raise _unknown_unit(text, 0)
    return unit


def is_unit(word: str) -> bool:
    """Whether a word names a unit."""
    return word not in KEYWORDS and _named_unit(word) is not None


def _unknown_unit(word: str, column: int) -> QuantityError:
    close = difflib.get_close_matches(word, _COMMON, 1, 0.5)
    folded = [unit for unit in _COMMON if unit.lower() == word.lower()]
    proposal = f'; did you mean "{(folded or close)[0]}"?' if folded or close else ""
    return QuantityError(f'"{word[:40]}" is not a unit{proposal}', column, min(len(word), 40))


def _scan_unit(text: str, start: int) -> tuple[tuple[float, Exponents] | None, int]:
    """Read a product of units from ``start``; None (and ``start``) where there is none."""
    factor, exponents, position, sign = 1.0, PLAIN, start, 1.0
    first = True
    while match := _FACTOR.match(text, position):
        unit = None if match[1] in KEYWORDS else _named_unit(match[1])
        if unit is None and (first or sign < 0) and match[1] not in KEYWORDS:
            raise _unknown_unit(match[1], match.start(1))
        if unit is None:
            break
        power = sign * float(match[2] or 1)
        factor *= unit[0] ** power
        exponents = tuple(a + power * b for a, b in zip(exponents, unit[1], strict=True))
        position, first = match.end(), False
        joint = _joint(text, position)
        if joint is None:
            break
        sign, next_position = joint
        if not _unit_follows(text, next_position, required=sign < 0):
            break
        position = next_position
    return (None if first else (factor, exponents)), (start if first else position)


def _joint(text: str, position: int) -> tuple[float, int] | None:
    """What joins two units: a blank, a product sign or a division."""
    match = _JOINT.match(text, position)
    return None if match is None else (-1.0 if match[1] == "/" else 1.0, match.end())


def _unit_follows(text: str, position: int, *, required: bool) -> bool:
    match = _FACTOR.match(text, position)
    if match is None or match[1] in KEYWORDS or text[match.end() : match.end() + 1] == "(":
        return False
    return required or _named_unit(match[1]) is not None


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
    unit, end = _scan_unit(text, after)
    if unit is None:
        quantity, end = Quantity(value), number.end()
    else:
        name = text[after:end]
        offset = 273.15 if name in _CELSIUS else 0.0
        quantity = Quantity(
            value * unit[0] + offset, unit[1], ABSOLUTE if offset else "", name
        )
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


# --- Asking for a dimension ---------------------------------------------------------------------


def dimension(name: str) -> Dimension:
    """Return a dimension by name; raises KeyError for a name that cellbench does not use."""
    return DIMENSIONS[name]


def name_of(exponents: Exponents) -> str:
    """What people call a dimension, e.g. ``current density``; else its base units."""
    for each in DIMENSIONS.values():
        if each.exponents == exponents:
            return "a bare number" if each.exponents == PLAIN else each.name
    symbols = ("m", "kg", "s", "A", "K", "C-rate")
    parts = [f"{s}^{e:g}" for s, e in zip(symbols, exponents, strict=True) if e]
    return " ".join(parts)


def convert(quantity: Quantity, *dimensions: str) -> float:
    """SI value of a quantity that must have one of ``dimensions``.

    Raises:
        QuantityError: It has another, with an example of what is needed.
    """
    for name in dimensions:
        if DIMENSIONS[name].exponents == quantity.exponents:
            if name == "temperature difference" and quantity.reference == ABSOLUTE:
                return quantity.value - 273.15
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
    if match := _DECIMAL_COMMA.search(stripped):
        raise _decimal_comma(match)
    quantity, end = scan(stripped)
    if end != len(stripped):
        rest = stripped[end:].strip()
        word = rest.split()[0]
        if word.isalpha() and word not in KEYWORDS and not is_unit(word):
            raise _unknown_unit(word, end)
        raise QuantityError(f'"{rest[:40]}" after "{stripped[:end][:40]}" makes no sense', end)
    return quantity


def parse(text: str, *dimensions: str) -> float:
    """Parse a quantity of one of the named dimensions to SI units.

    Raises:
        QuantityError: The text is not one, or of another dimension.
    """
    return convert(parse_quantity(text), *dimensions)


def _decimal_comma(match: re.Match[str]) -> QuantityError:
    point, blank = match[0].replace(",", "."), match[0].replace(",", ", ")
    return QuantityError(
        f'"{match[0]}" could be a decimal comma or a list: write "{point}" or "{blank}"',
        match.start(),
        len(match[0]),
    )


# --- Lists, ranges, intervals -------------------------------------------------------------------


def with_unit_of(quantity: Quantity, other: Quantity) -> Quantity:
    """Give a bare number the unit and reference of another quantity."""
    if quantity.exponents != PLAIN or quantity.unit or other.exponents == PLAIN:
        return quantity
    factor = unit_of(other.unit)[0] if other.unit not in {"C", ""} else 1.0
    offset = 273.15 if other.unit in _CELSIUS else 0.0
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
    if step == 0 or abs(distance) / step > _MAX_ITEMS:
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
    return quantity.value - (273.15 if quantity.reference == ABSOLUTE else 0.0)


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
    if match := _DECIMAL_COMMA.search(text):
        raise _decimal_comma(match)
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
    low, high = parse_bounds(text)
    return Interval(
        None if low is None else convert(low, *dimensions),
        None if high is None else convert(high, *dimensions),
    )


# --- For people ---------------------------------------------------------------------------------


def describe(quantity: Quantity) -> str:
    """Write a quantity in the unit that it was given in, else in a fitting one."""
    suffix = {LITHIUM: " vs Li+/Li", TERMINALS: " at the terminals"}.get(quantity.reference, "")
    if quantity.unit == "C":
        return f"{quantity.value:.6g}C"
    if quantity.unit:
        factor = unit_of(quantity.unit)[0]
        offset = 273.15 if quantity.unit in _CELSIUS else 0.0
        return f"{(quantity.value - offset) / factor:.6g} {quantity.unit}{suffix}"
    if quantity.exponents == PLAIN:
        return f"{quantity.value:.6g}"
    name = name_of(quantity.exponents)
    if name not in DIMENSIONS:
        return f"{quantity.value:.6g} {name}"
    return format_quantity(quantity.value, name) + suffix


def format_quantity(value: float, dimension_name: str) -> str:
    """Write an SI value as people would: engineering units, four significant digits."""
    if dimension_name == "temperature":
        return f"{value - 273.15:.4g} °C"
    if dimension_name == "C-rate":
        return f"{value:.4g}C"
    units = DIMENSIONS[dimension_name].units
    if not units:
        return f"{value:.4g}"
    least = 0.0999 if dimension_name in _TENTHS else 0.9999
    chosen = next((u for u in units if abs(value) >= least * unit_of(u)[0]), units[-1])
    if value == 0:
        si_unit = DIMENSIONS[dimension_name].si_unit
        chosen = si_unit if si_unit in units else units[0]
    if dimension_name == "time" and chosen != units[0] and 0.9999 <= abs(value) < 120:
        chosen = "s"
    if dimension_name == "time" and chosen == "h" and abs(value) < 7200:
        chosen = "min"
    return f"{value / unit_of(chosen)[0]:.4g} {chosen}"
