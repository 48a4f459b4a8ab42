"""Numbers with units, as the preset files write them, turned into plain SI floats.

A preset says `0.57 mA/cm2` or `0.394 eV`; the models hold amperes per square metre, pascals, kelvins.
Only ratios are known here: a temperature is written in K.
"""

import re
from collections.abc import Iterator

_PREFIXES = {
    "": 1.0,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "c": 1e-2,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
}
_NAMED: dict[str, tuple[float, dict[str, int]]] = {
    "1": (1.0, {}),
    "m": (1.0, {"m": 1}),
    "s": (1.0, {"s": 1}),
    "min": (60.0, {"s": 1}),
    "h": (3600.0, {"s": 1}),
    "A": (1.0, {"A": 1}),
    "C": (1.0, {"A": 1, "s": 1}),
    "Ah": (3600.0, {"A": 1, "s": 1}),
    "Ohm": (1.0, {"Ohm": 1}),
    "S": (1.0, {"Ohm": -1}),
    "F": (1.0, {"s": 1, "Ohm": -1}),
    "Pa": (1.0, {"Pa": 1}),
    "K": (1.0, {"K": 1}),
    "eV": (1.0, {"eV": 1}),
}
_NUMBER = re.compile(r"\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*(\S.*)?")
_TOKEN = re.compile(r"([A-Za-z]+|1)(-?\d+)?")

Dimension = dict[str, int]


def to_si(text: str, unit: str) -> float:
    """Return the number in `text` in the SI `unit`.

    Raises:
        ValueError: if `text` is no number with a unit, or its unit measures something else.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit")
    factor, dimension = _unit(match[2] or "1")
    wanted_factor, wanted_dimension = _unit(unit)
    if dimension != wanted_dimension:
        raise ValueError(f"{text!r} cannot be given in {unit}")
    return float(match[1]) * factor / wanted_factor


def _unit(text: str) -> tuple[float, Dimension]:
    factor = 1.0
    dimension: Dimension = {}
    for name, power in _tokens(text):
        scale, parts = _named(name)
        factor *= scale**power
        for base, exponent in parts.items():
            dimension[base] = dimension.get(base, 0) + exponent * power
    return factor, {base: exponent for base, exponent in dimension.items() if exponent}


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """Yield names and powers; everything after a slash divides, one slash per divisor."""
    for place, group in enumerate(text.split("/")):
        for word in group.split():
            match = _TOKEN.fullmatch(word)
            if match is None:
                raise ValueError(f"{word!r} in {text!r} is not a unit")
            yield match[1], int(match[2] or 1) * (-1 if place else 1)


def _named(name: str) -> tuple[float, Dimension]:
    if name in _NAMED:
        return _NAMED[name]
    prefix, base = name[0], name[1:]
    if prefix not in _PREFIXES or base not in _NAMED:
        raise ValueError(f"{name!r} is not a unit known to presets")
    scale, dimension = _NAMED[base]
    return _PREFIXES[prefix] * scale, dimension
