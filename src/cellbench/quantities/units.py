"""Units: pint with a short list of definitions of our own, and products of units such as mA/cm2."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from cellbench.errors import InputError

if TYPE_CHECKING:
    from pint import UnitRegistry

#: Exponents of metre, kilogram, second, ampere, kelvin and C-rate.
Exponents: TypeAlias = tuple[float, ...]

PLAIN: Exponents = (0.0,) * 6
_BASE = ("[length]", "[mass]", "[time]", "[current]", "[temperature]", "[crate]")
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
    "nA", "uA", "mA", "A", "mA/cm2", "uA/cm2", "A/m2", "mA/g", "mV", "V", "Hz", "kHz", "MHz", "mHz",
    "s", "min", "h", "d", "ms", "mm", "um", "cm", "m", "mm2", "cm2", "N", "kN", "t", "kgf", "Pa",
    "kPa", "MPa", "GPa", "bar", "degC", "K", "Ohm", "kOhm", "mOhm", "Ah", "mAh", "uAh", "mAh/cm2",
    "mAh/g", "g", "mg", "mg/cm2", "%", "MPa/s", "V/s", "mV/s", "mS/cm", "S/cm", "coulomb",
    "MPa/min", "K/min", "ppm",
)  # fmt: skip
CELSIUS = {"degC", "°C", "℃", "celsius"}
#: Words that may follow a number without being its unit.
KEYWORDS = frozenset(("to", "by", "of", "vs", "at", "and", "or", "not", "over", "for", "if", "per"))

_FACTOR = re.compile(r"([A-Za-zµμΩΩ°℃%_]+)(?:(?:\^|\*\*)?(-?[1-9])(?![\d.]))?")
_JOINT = re.compile(r"\s*([/*·⋅])\s*(?=[A-Za-zµμΩ°%])|\s+(?=[A-Za-zµμΩ°])")

#: Raised exponents, each to one character, so that places in the text stay as they are.
_RAISED = str.maketrans("⁻¹²³⁴", "-1234")
#: People write these for times; a month or a year has no length that a test could rely on.
_LONG_TIMES = {"week", "wk", "month", "year", "yr"}


class QuantityError(InputError, ValueError):
    """A text is not the quantity that is needed; ``column`` and ``length`` say where (0: all)."""

    def __init__(self, message: str, column: int = 0, length: int = 0) -> None:
        super().__init__(message)
        self.column = column
        self.length = length


@lru_cache(maxsize=1)
def _registry() -> UnitRegistry[Any]:
    from pint import UnitRegistry  # noqa: PLC0415 - a tenth of a second that --help must not pay

    registry: UnitRegistry[Any] = UnitRegistry(None)
    registry.load_definitions([line for line in _DEFINITIONS.splitlines() if line])
    return registry


@lru_cache(maxsize=256)
def _named_unit(name: str) -> tuple[float, Exponents] | None:
    """SI factor and exponents of a single, perhaps prefixed, unit."""
    if name in CELSIUS:
        name = "K"
    registry = _registry()
    found = registry.parse_unit_name(name)
    if not found:
        return None
    prefix, unit, _ = found[0]
    factor: Any = registry.get_root_units(prefix + unit)[0]
    powers: Any = registry.get_dimensionality(prefix + unit)
    return float(factor), tuple(float(powers.get(base, 0)) for base in _BASE)


@lru_cache(maxsize=512)
def unit_of(text: str) -> tuple[float, Exponents]:
    """SI factor and exponents of a product of units such as ``mA/cm2``.

    Raises:
        QuantityError: It is not one.
    """
    unit, end = scan_unit(text, 0)
    if unit is None or end != len(text):
        raise unknown_unit(text, 0)
    return unit


def is_unit(word: str) -> bool:
    """Whether a word names a unit."""
    return word not in KEYWORDS and _named_unit(word) is not None


def unknown_unit(word: str, column: int) -> QuantityError:
    """Return the error for a word that is no unit, with a proposal."""
    if word.lower().removesuffix("s") in _LONG_TIMES:
        message = f'"{word[:40]}" is not a unit; for a time, use s, min, h or d'
        return QuantityError(message, column, len(word))
    close = difflib.get_close_matches(word, _COMMON, 1, 0.5)
    folded = [unit for unit in _COMMON if unit.lower() == word.lower()]
    proposal = f'; did you mean "{(folded or close)[0]}"?' if folded or close else ""
    return QuantityError(f'"{word[:40]}" is not a unit{proposal}', column, min(len(word), 40))


def scan_unit(text: str, start: int) -> tuple[tuple[float, Exponents] | None, int]:
    """Read a product of units from ``start``; None (and ``start``) where there is none."""
    text = text.translate(_RAISED)
    factor, exponents, position, sign = 1.0, PLAIN, start, 1.0
    first = True
    while match := _FACTOR.match(text, position):
        unit = None if match[1] in KEYWORDS else _named_unit(match[1])
        if unit is None and (first or sign < 0) and match[1] not in KEYWORDS:
            raise unknown_unit(match[1], match.start(1))
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
