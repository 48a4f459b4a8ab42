"""MacNet's JSON: where a request ends, what its parameters must be, and what refuses it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Whole numbers beyond this are no quantities.
_LARGEST = 1 << 63


class MacNetError(Exception):
    """A request that is answered by an error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def illegal() -> MacNetError:
    """Return what is raised for a value that cannot be."""
    return MacNetError(-32602, "Illegal value")


@dataclass(frozen=True)
class Params:
    """The parameters of one request; names are case sensitive."""

    values: Mapping[str, Any]

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number, or raise MacNetError."""
        value = self.values.get(name, default)
        if value is None:
            raise MacNetError(-32602, "Missing object")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise illegal()
        if (isinstance(value, int) and abs(value) > _LARGEST) or not math.isfinite(value):
            raise illegal()
        return float(value)

    def integer(self, name: str, lowest: int, highest: int, default: int | None = None) -> int:
        """Return a whole number between two, or raise MacNetError."""
        value = self.number(name, default)
        if value != int(value) or not lowest <= value <= highest:
            raise illegal()
        return int(value)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text without the space that pads fixed fields, or raise MacNetError."""
        value = self.values.get(name, default)
        if value is None:
            raise MacNetError(-32602, "Missing object")
        if not isinstance(value, str):
            raise illegal()
        return value.strip()


def end_of_object(data: bytearray) -> int | None:
    """Return where the first object (or nonsense before it) ends; None where it goes on."""
    start = len(data) - len(data.lstrip())
    if data[start] != ord("{"):
        following = data.find(b"{", start)
        return following if following >= 0 else len(data)
    depth, in_text = 0, False
    for at in range(start, len(data)):
        byte = data[at]
        if in_text:
            in_text = byte != ord('"') or _is_escaped(data, at)
        elif byte == ord('"'):
            in_text = True
        elif byte in b"{}":
            depth += 1 if byte == ord("{") else -1
            if depth == 0:
                return at + 1
    return None


def _is_escaped(data: bytearray, at: int) -> bool:
    """Whether an odd number of backslashes stands before a quotation mark."""
    before = at
    while before > 0 and data[before - 1] == ord("\\"):
        before -= 1
    return (at - before) % 2 == 1
