"""The server's side of Modbus holding registers: frames by pymodbus, register banks by emulators.

Functions 3 (read), 6 (write one) and 16 (write several); where a device has them, 4 (read, of the
same registers), 8 (loop back) and 23 (write, then read). Exceptions: 1 for any other function, 2
for an address that does not exist or cannot be written, 3 for a value or count that is not allowed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from pymodbus.framer import FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

#: What every device does here, and what larger controllers do besides.
BASIC_FUNCTIONS = frozenset({3, 6, 16})
ALL_FUNCTIONS = BASIC_FUNCTIONS | {4, 8, 23}
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
_READ, _READ_INPUT, _WRITE_ONE, _LOOP_BACK, _WRITE_MANY, _WRITE_AND_READ = 3, 4, 6, 8, 16, 23
_EXCEPTION_BIT = 0x80
_READ_MAX, _WRITE_MAX = 125, 123
_FRAME_MAX = 260
_FRAMES_KEPT = 256
#: How requests begin: the function, from which register on, how many (or the value of the one).
_HEAD = struct.Struct(">BHH")


class ModbusRefusal(Exception):
    """A request is answered with an exception.

    Args:
        code: The exception code, 1 to 3.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class RegisterBank(Protocol):
    """The holding registers of a device, 16 bits each; both raise `ModbusRefusal`."""

    def read_registers(self, address: int, count: int) -> Sequence[int]:
        """Return ``count`` registers from ``address`` on."""

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Take new values for the registers from ``address`` on: all or none."""


class ModbusServer:
    """Answers the requests in a stream of bytes.

    Args:
        bank: The registers.
        unit: The unit (slave) identifier that is listened to.
        framer: `FramerSocket` for Modbus TCP, `FramerRTU` for a serial line.
        functions: The function codes that the device knows.
        read_max: Registers that it gives in one answer.
    """

    def __init__(
        self,
        bank: RegisterBank,
        unit: int,
        framer: type[FramerSocket] | type[FramerRTU],
        *,
        functions: frozenset[int] = BASIC_FUNCTIONS,
        read_max: int = _READ_MAX,
    ) -> None:
        self._bank = bank
        answers = {
            _READ: self._read,
            _READ_INPUT: self._read,
            _WRITE_ONE: self._write,
            _LOOP_BACK: self._loop_back,
            _WRITE_MANY: self._write,
            _WRITE_AND_READ: self._write_and_read,
        }
        self._answers = {function: answers[function] for function in functions}
        # A host asks for the same few blocks again and again.
        self._asked = lru_cache(_FRAMES_KEPT)(self._parse)
        self._read_max = read_max
        self._unit = unit
        self._framer: FramerBase = framer(DecodePDU(is_server=True))
        self._decode, self._encode = self._framer.decode, self._framer.encode
        if framer is FramerRTU:
            # Without transaction numbers the same few frames come and go again and again, and their
            # checksums cost more than what they ask for.
            self._decode = lru_cache(_FRAMES_KEPT)(self._decode)
            self._encode = lru_cache(_FRAMES_KEPT)(self._encode)
        self._received = b""

    def reset(self) -> None:
        """Forget half a request."""
        self._received = b""

    def feed(self, data: bytes, send: Callable[[bytes], None]) -> None:
        """Take in bytes and ``send`` the answer to each complete request."""
        self._received += data
        while received := self._received:
            try:
                used, unit, transaction, pdu = self._decode(received)
            except (IndexError, ValueError):
                # The framer trips over some garbage whose length it tries to work out.
                used, pdu = len(received), b""
            if not used:
                if len(received) > _FRAME_MAX or _is_not_mbap(self._framer, received):
                    self._received = b""  # it can never become a frame
                return
            self._received = received[used:]
            if pdu and unit == self._unit:
                send(self._encode(self._reply(pdu), unit, transaction))

    def _reply(self, pdu: bytes) -> bytes:
        function = pdu[0]
        answer = self._answers.get(function)
        if answer is None:
            return bytes([function | _EXCEPTION_BIT, ILLEGAL_FUNCTION])
        try:
            return answer(pdu)
        except ModbusRefusal as refusal:
            return bytes([function | _EXCEPTION_BIT, refusal.code])

    def _read(self, pdu: bytes) -> bytes:
        """Answer with the registers."""
        address, count, head, pack = self._asked(pdu)
        return head + pack(*self._bank.read_registers(address, count))

    def _parse(self, pdu: bytes) -> tuple[int, int, bytes, Callable[..., bytes]]:
        """Return what a read asks for: address and count; how the answer begins and is packed."""
        if len(pdu) != _HEAD.size:
            raise ModbusRefusal(ILLEGAL_VALUE)
        function, address, count = _HEAD.unpack(pdu)
        if not 1 <= count <= self._read_max:
            raise ModbusRefusal(ILLEGAL_VALUE)
        return address, count, bytes([function, 2 * count]), _words(count).pack

    def _write_and_read(self, pdu: bytes) -> bytes:
        self._write(bytes([_WRITE_MANY]) + pdu[5:])
        return self._read(pdu[:5])

    def _loop_back(self, pdu: bytes) -> bytes:
        """Answer with the request itself; there are no other diagnostics."""
        if pdu[1:3] != b"\0\0":
            raise ModbusRefusal(ILLEGAL_FUNCTION)
        return pdu

    def _write(self, pdu: bytes) -> bytes:
        """Answer with the head of the request, once its values are taken."""
        if len(pdu) < _HEAD.size:
            raise ModbusRefusal(ILLEGAL_VALUE)
        function, address, count = _HEAD.unpack_from(pdu)
        if function == _WRITE_ONE and len(pdu) == _HEAD.size:
            self._bank.write_registers(address, (count,))
        elif function != _WRITE_ONE and _is_whole(pdu, count):
            self._bank.write_registers(address, _words(count).unpack_from(pdu, 6))
        else:
            raise ModbusRefusal(ILLEGAL_VALUE)
        return pdu[: _HEAD.size]


@lru_cache
def _words(count: int) -> struct.Struct:
    return struct.Struct(f">{count}H")


def _is_whole(pdu: bytes, count: int) -> bool:
    """Whether a write of several registers brings as many values as it says."""
    return 1 <= count <= _WRITE_MAX and len(pdu) == 6 + 2 * count and pdu[5] == 2 * count


def _is_not_mbap(framer: FramerBase, frame: bytes) -> bool:
    """Whether a TCP frame's header names another protocol or an impossible length."""
    if not isinstance(framer, FramerSocket) or len(frame) < 6:
        return False
    length = int.from_bytes(frame[4:6], "big")
    return frame[2:4] != b"\0\0" or not 2 < length <= _FRAME_MAX - 6
