"""The MethodSCRIPT language on the wire: literals out, data packages and error codes in.

Sources: MethodSCRIPT manual 1.8 (literals, chapter 5 packages) and the vendor's public Python
examples (package parser, variable types).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from cellbench.instruments.readings import Flag

_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "u", -3: "m"} | {
    0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"
}  # fmt: skip
#: A package holds an integer and a prefix; dividing keeps decimal fractions as they were.
_DIVISORS = {prefix or " ": 10.0**-exponent for exponent, prefix in _PREFIXES.items()} | {"i": 1.0}
_OFFSET = 1 << 27
_NAN = "     nan"

_STATUS_FLAGS = {0x1: Flag.LATE, 0x2: Flag.SATURATED, 0x4: Flag.UNDERRANGE}

#: Variable types as the manual numbers them, by what they are for cellbench.
TIME = frozenset({"eb"})
VOLTAGE = frozenset({"ab", "da"})  # a voltage-controlled loop reports the potential it set
CURRENT = frozenset({"ba", "db"})
FREQUENCY = frozenset({"dc"})
IMPEDANCE_REAL = frozenset({"cc"})
IMPEDANCE_IMAG = frozenset({"cd"})

Layout = tuple[frozenset[str], ...]


def literal(value: float) -> str:
    """Write a number as an integer with an SI prefix, to six significant digits or one atto.

    Raises:
        ValueError: The number is not finite or beyond the prefixes.
    """
    if not abs(value) < 1e20:  # a NaN compares false
        raise ValueError(f"{value} cannot be written in MethodSCRIPT")
    sign, digits, exponent = round(Decimal(f"{value:.5e}"), 18).normalize().as_tuple()
    if not any(digits) or not isinstance(exponent, int):
        return "0"
    step = min(exponent // 3 * 3, 18)
    number = int("".join(map(str, digits))) * 10 ** (exponent - step)
    return f"{'-' if sign else ''}{number}{_PREFIXES[step]}"


def decode_package(line: str, layout: Layout) -> tuple[list[float], int]:
    """Read one ``P`` line (without its line feed).

    Args:
        line: e.g. ``Pda7F85F36u;ba812D450n,10,212``.
        layout: For each variable the types that are accepted in its place.

    Returns:
        The values in SI units, and the `Flag` bits of the row. A NaN of the instrument is a NaN
        flagged as saturated.

    Raises:
        ValueError: The line is not a package of this layout.
    """
    try:
        return _decode(line[1:].split(";"), layout)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"garbled package {line!r}") from error


def _decode(items: Sequence[str], layout: Layout) -> tuple[list[float], int]:
    """Values and flags of variables such as ``ba812D450n,10,212``."""
    if len(items) != len(layout):
        raise ValueError(f"{len(items)} variables")
    values, flags = [], 0
    for index, item in enumerate(items):
        if item[:2] not in layout[index]:
            raise ValueError(item)
        # What follows a number; the last letter of "nan" is a prefix as well.
        divisor, told = _scale(item[9:])
        if item[2:10] == _NAN:
            value, told = math.nan, told | Flag.SATURATED
        else:
            value = (int(item[2:9], 16) - _OFFSET) / divisor
        values.append(value)
        flags |= told
    return values, flags


@lru_cache(maxsize=1024)
def _scale(ending: str) -> tuple[float, int]:
    """Divisor and flags that follow a number, as prefix and metadata such as ``n,10,212``.

    Of the metadata only the status token says something of a row.
    """
    prefix, flags = ending[:1], 0
    for token in ending.split(",")[1:]:
        if token.startswith("1"):
            status = int(token[1:2], 16)
            flags |= sum(flag for bit, flag in _STATUS_FLAGS.items() if status & bit)
    return _DIVISORS[prefix], int(flags)


def error_meaning(code: str) -> str:
    """Say what an error code such as ``4001`` means; unlisted codes say so."""
    return _ERRORS.get(code.upper(), "a code that the manual's list does not explain")


_ERRORS = {
    "0001": "unspecified failure",
    "0002": "variable type not valid",
    "0003": "command not recognised",
    "0004": "no such register",
    "0005": "register can only be read",
    "0006": "not possible now: a script is running, or none is",
    "0007": "argument has an unexpected value",
    "0008": "command too long",
    "0009": "the instrument timed out",
    "000B": "no memory left for variables",
    "000C": "no script is loaded",
    "000E": "overflow while averaging",
    "000F": "potential not possible",
    "0010": "a number became NaN or infinite",
    "0011": "frequency not possible",
    "0012": "amplitude not possible",
    "0014": "open circuit asked for while the cell is on",
    "0015": "checksum wrong",
    "0016": "flash memory failed",
    "0018": "settings are corrupted",
    "001A": "calibration not valid",
    "001B": "this instrument cannot do that",
    "001C": "step below the resolution of the converter",
    "001D": "pulse below the resolution of the converter",
    "001E": "amplitude below the resolution of the converter",
    "001F": "feature is not licensed",
    "0020": "modes are in conflict",
    "0021": "potentiostat mode not available",
    "0023": "not allowed in this potentiostat mode",
    "0024": "too many variables",
    "0026": "file operation failed",
    "0027": "file exists already",
    "0028": "division by zero",
    "002E": "settings are not initialised",
    "002F": "channel not available",
    "0032": "critical overload of the cell: the measurement was broken off to prevent damage",
    "0044": "needs to be initialised further",
    "0045": "configuration not valid",
    "004B": "argument too short",
    "004C": "argument has the wrong form",
    "0052": "characters were lost: the instrument's input overran",
    "0058": "timing cannot be kept",
    "005A": "timing cannot be kept",
    "005B": "variable is measured twice",
    "0080": "the counter electrode oscillates",
    "0082": "system warnings must be cleared first",
    "4001": "script command not known",
    "4004": "unexpected character",
    "4005": "script too large",
    "4008": "optional argument not valid",
    "400B": "measurement loop inside a measurement loop",
    "400C": "not supported in this situation",
    "400D": "blocks are nested too deeply",
    "400F": "array index out of bounds",
    "4018": "script ended unexpectedly",
    "401A": "not allowed inside a measurement loop",
    "401B": "package commands in the wrong order",
    "4026": "variable exists already",
    "4027": "the cell must be on for this",
    "4028": "the cell must be off for this",
    "4029": "at least one step is needed",
    "402B": "variable name not valid",
    "4032": "potential or its range cannot be set inside a running loop",
    "4033": "current or its range cannot be set inside a running loop",
    "4034": "command is not licensed",
    "4039": "number is malformed",
    "4206": "not for this instrument",
    "4207": "wrong data type of an argument",
    "4209": "variable type not valid",
    "420B": "variable is not declared",
    "420F": "array too small",
    "7FFF": "fatal error: the instrument must be reset",
} | {f"420{digit}": "argument has the wrong sign or is out of bounds" for digit in range(6)}
