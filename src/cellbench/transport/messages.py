"""What a chunk of bytes says: for people to read, and to compare two chunks by their meaning.

Lines of text and Modbus frames (TCP and RTU, read by pymodbus) are recognised by themselves. A
driver whose instrument speaks anything else, or has signs of life, offers ``decoder``: a static
method of the instrument's name and options that returns a `Decode`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU

#: Two numbers that differ by less than this fraction say the same.
NUMBERS_AGREE = 1e-6

_MBAP = struct.Struct(">HHH")
_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")
_TOKEN = re.compile(r"[^\s,]+")
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([afpnumkMGTi]?)")
#: Prefixes as MethodSCRIPT writes them; its ``i`` marks a whole number.
_PREFIXES = {
    "a": 1e-18, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "i": 1.0,
    "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
}  # fmt: skip
_READS = frozenset({1, 2, 3, 4})
_REQUESTS = DecodePDU(True)


@dataclass(frozen=True, slots=True)
class Message:
    """What one write says.

    Attributes:
        text: For people; several lines where the instrument is sent several.
        meaning: Words and numbers in order; two messages with the same ones say the same.
        routine: A look at the instrument, or a sign of life: it changes nothing that lasts, and may
            be sent more or less often.
        tag: The first bytes, where they change with each request and come back with its answer.
    """

    text: str
    meaning: tuple[str | float, ...]
    routine: bool = False
    tag: bytes = b""

    def agrees(self, other: Message) -> bool:
        """Whether it says the same as another."""
        return self.meaning == other.meaning or (
            len(self.meaning) == len(other.meaning)
            and all(map(_agree, self.meaning, other.meaning))
        )


#: Says what the bytes of one write mean.
Decode = Callable[[bytes], Message]


def decode(data: bytes) -> Message:
    """Say what bytes mean whose protocol nobody has told; shown as hex where nothing is known."""
    if _PRINTABLE.issuperset(data):
        return _text(data)
    return _modbus_tcp(data) or _modbus_rtu(data) or Message(data.hex(" "), (data.hex(),))


def _agree(a: str | float, b: str | float) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return math.isclose(a, b, rel_tol=NUMBERS_AGREE, abs_tol=1e-18)


def _text(data: bytes) -> Message:
    lines = [line.strip() for line in re.split(r"[\r\n]+", data.decode("ascii")) if line.strip()]
    meaning: list[str | float] = []
    for line in lines:
        meaning += [*map(_word, _TOKEN.findall(line)), "\n"]
    routine = len(lines) == 1 and lines[0].endswith("?")
    return Message("\n".join(lines) or repr(data.decode("ascii")), tuple(meaning), routine)


def _word(token: str) -> str | float:
    matched = _NUMBER.fullmatch(token)
    return token if matched is None else float(matched[1]) * _PREFIXES[matched[2]]


def _modbus_tcp(data: bytes) -> Message | None:
    if len(data) < _MBAP.size + 2:
        return None
    transaction, protocol, length = _MBAP.unpack_from(data)
    if protocol or length != len(data) - _MBAP.size:
        return None
    return _modbus(data[6], data[7:], f"Modbus TCP {transaction}", data[:2])


def _modbus_rtu(data: bytes) -> Message | None:
    if len(data) < 4 or FramerRTU.compute_CRC(data[:-2]).to_bytes(2, "big") != data[-2:]:
        return None
    return _modbus(data[0], data[1:-2], "Modbus RTU", b"")


def _modbus(unit: int, pdu: bytes, wire: str, tag: bytes) -> Message:
    """Read a request; writing one register by function 6 or 16 is the same."""
    function = pdu[0]
    request: Any = _REQUESTS.decode(pdu)
    if request is None:
        return Message(f"{wire}, unit {unit}: {pdu.hex(' ')}", (float(unit), pdu.hex()), tag=tag)
    words = list(request.registers or request.bits)
    if function in _READS:
        what, values = f"reads {request.count} at {request.address}", [request.count]
    else:
        what, values = f"writes {words} at {request.address}", words
    kind = f"function {function}" if function in _READS else "write"
    numbers = [float(each) for each in (request.address, *values)]
    meaning: tuple[str | float, ...] = (float(unit), kind, *numbers)
    text = f"{wire}, unit {unit}, function {function}: {what}"
    return Message(text, meaning, function in _READS, tag)
