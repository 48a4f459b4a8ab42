"""Numbers of MethodSCRIPT: literals in scripts, values in data packages.

A package value is seven upper-case hexadecimal digits (offset 2**27) and an SI prefix, or ``i``
for an integer; not a number is five blanks and ``nan``. A literal is an integer with an optional
prefix.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left

OFFSET = 1 << 27
_LARGEST = OFFSET - 1
_NOT_A_NUMBER = "     nan"
#: Prefixes with the power of ten that turns a value into their unit.
_PREFIXES = "afpnum kMGTPE"
_SCALES = tuple(10.0 ** (18 - 3 * step) for step in range(len(_PREFIXES)))
_LIMITS = tuple(_LARGEST / scale for scale in _SCALES)
_FACTORS = {
    "": 1.0,
    **{prefix: 10.0 ** (3 * step - 18) for step, prefix in enumerate(_PREFIXES) if prefix != " "},
}
_DIVISORS = {prefix: 10.0 ** (18 - 3 * step) for step, prefix in enumerate("afpnum")}
_LITERAL = re.compile(r"([-+]?\d+)([afpnumkMGTPEi]?)")
_HEX_OR_BINARY = re.compile(r"(0x[0-9A-Fa-f]+|0b[01]+)i")

#: Variable types that exist: a letter for the family, a letter within it.
VAR_TYPES = frozenset(
    family + letter
    for family, letters in {
        "a": "abcdefghistuvwxyz",
        "b": "ab",
        "c": "abcdefghijklmnopqrstuvwxyz",
        "d": "abcd",
        "e": "abcdefg",
        "h": "abcd",
        "i": "abcd",
        "j": "abcd",
    }.items()
    for letter in letters
)

Number = float | int


class ScriptError(Exception):
    """The script cannot be accepted: an error code and where it is."""

    def __init__(self, code: int, line: int, column: int | None = None) -> None:
        place = f"Line {line}" if column is None else f"Line {line}, Col {column}"
        super().__init__(f"!{code:04X}: {place}")
        self.code, self.line = code, line


def literal(token: str) -> Number | None:
    """Return the value of a literal, or None if ``token`` is not a well-formed one."""
    match = _LITERAL.fullmatch(token)
    if match is None:
        digits = _HEX_OR_BINARY.fullmatch(token)
        return int(digits[1], 0) if digits else None
    digits_text, prefix = match.groups()
    if prefix == "i":
        return int(digits_text)
    # Dividing by a whole power of ten gives the double nearest to the decimal that was meant.
    if prefix in _DIVISORS:
        return int(digits_text) / _DIVISORS[prefix]
    return int(digits_text) * _FACTORS[prefix]


def encode(value: Number) -> str:
    """Encode a value with the smallest prefix, hence the finest resolution, that can hold it."""
    if type(value) is int:
        return _digits(min(max(value, -OFFSET), _LARGEST)) + "i"
    if value == 0.0:
        return "8000000 "
    if not math.isfinite(value):
        return _NOT_A_NUMBER
    step = bisect_left(_LIMITS, abs(value))
    if step == len(_LIMITS):
        return _NOT_A_NUMBER
    return _digits(round(value * _SCALES[step])) + _PREFIXES[step]


def encode_time(value: Number) -> str:
    """Encode a time in s: in microseconds below one second, then in ms, after 37 h in seconds."""
    if type(value) is int or not math.isfinite(value):
        return encode(value)
    magnitude = abs(value)
    if magnitude < 1.0:
        return _digits(round(value * 1e6)) + "u"
    if magnitude * 1e3 < _LARGEST:
        return _digits(round(value * 1e3)) + "m"
    return _digits(min(round(value), _LARGEST)) + " "


def _digits(number: int) -> str:
    return "%07X" % (number + OFFSET)  # half the cost of an f-string
