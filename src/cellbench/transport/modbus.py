"""Modbus master on a byte stream, TCP or RTU framing: registers in, registers out.

One exchange at a time, whole frames out of a stream, resynchronising after silence or garbage.
Instruments are polled all the time, so that frames are packed here, without objects; pymodbus's
frames are what they are tested against. Source: Modbus application protocol 1.1b3, Modbus messaging
on TCP/IP 1.0b, Modbus over serial line 1.02.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from pymodbus.framer import FramerRTU

from cellbench.clock import sleep_until
from cellbench.errors import CellbenchError, TransportTimeout
from cellbench.transport.reconnect import stay_connected
from cellbench.transport.stream import Stream

Framing = Literal["tcp", "rtu"]
WordOrder = Literal["lsw first", "msw first"]

_RESYNCHRONISE_S = 0.05
#: Silence that separates two RTU frames: 3.5 characters at 9600 baud.
_RTU_GAP_S = 0.004
_MBAP = struct.Struct(">HHHB")
_THREE = struct.Struct(">BHH")
_WRITE_HEAD = struct.Struct(">BHHB")
_PDU_MAX = 253
_EXCEPTION_BIT = 0x80
_RTU_EXCEPTION_SIZE = 5
_RTU_WRITE_REPLY_SIZE = 8
_READ, _WRITE_ONE, _WRITE_MANY = 3, 6, 16

_EXCEPTIONS = {
    1: "function not supported",
    2: "no such register",
    3: "value not possible",
    4: "the device failed",
    5: "accepted, takes time",
    6: "the device is busy",
    8: "memory parity error",
    10: "the gateway has no path",
    11: "the device behind the gateway does not answer",
}


class ModbusError(CellbenchError):
    """The device refused a request; ``code`` is the Modbus exception code, 0 if it has none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class GarbledReply(ModbusError):
    """What came back is no frame, or no answer to what was asked."""


class ModbusMaster:
    """A master that talks to one unit; several tasks may use it.

    Args:
        stream: The connection.
        unit: Unit identifier (TCP) or slave address (RTU).
        framing: ``tcp`` or ``rtu``.
        timeout_s: How long a reply may take.
    """

    def __init__(self, stream: Stream, unit: int, framing: Framing, timeout_s: float = 1.0) -> None:
        self._stream = stream
        self._unit, self._address = unit, bytes([unit])
        self._rtu = framing == "rtu"
        self._head_size = _RTU_EXCEPTION_SIZE if self._rtu else _MBAP.size
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._transaction = 0
        self._in_step = True
        self._line_free_s = 0.0

    async def read_registers(self, address: int, count: int) -> list[int]:
        """Read holding registers (function 3); asked once more if no good reply comes.

        Raises:
            ModbusError: The device refuses, or answers garbage twice.
            TransportTimeout: It is silent, twice.
            TransportClosed: The connection is gone.
        """
        request, begins, words = _reading(address, count)
        try:
            reply = await self._exchange(request, begins, 2 + words.size)
        except (TransportTimeout, GarbledReply):
            reply = await self._exchange(request, begins, 2 + words.size)
        return list(words.unpack_from(reply, 2))

    async def write_registers(self, address: int, values: Sequence[int]) -> None:
        """Write holding registers (function 16), once; errors as `read_registers`."""
        count = len(values)
        head = _WRITE_HEAD.pack(_WRITE_MANY, address, count, 2 * count)
        await self._exchange(head + _words(count).pack(*values), head[:5], 5)

    async def write_register(self, address: int, value: int) -> None:
        """Write one holding register (function 6), once; errors as `read_registers`."""
        request = _THREE.pack(_WRITE_ONE, address, value)
        await self._exchange(request, request, 5)

    async def _exchange(self, pdu: bytes, begins: bytes, size: int) -> bytes:
        """Send a request and return the PDU that answers it, of a known size and beginning."""
        stream = self._stream
        # Without the frames of "async with": instruments are asked all the time.
        await self._lock.acquire()
        try:
            if stream.lost and await stay_connected(stream):
                self._in_step = True
            if not self._in_step or (self._rtu and stream.unread):
                # Let the late reply to a lost request pass; over TCP it is told by its number.
                await stream.drain(_RESYNCHRONISE_S)
            if self._rtu and self._line_free_s > stream.now():
                await sleep_until(self._line_free_s)
            self._in_step = False
            await stream.write(self._framed(pdu))
            reply = self._at_once(begins, size)
            if reply is None:
                reply = await self._reply(pdu[0])
                _check_fits(pdu, reply)
            self._in_step = True
        finally:
            self._lock.release()
        if reply[0] & _EXCEPTION_BIT:
            meaning = _EXCEPTIONS.get(reply[1], "unknown")
            where = f"function {pdu[0]}, register {int.from_bytes(pdu[1:3], 'big')}"
            message = f"refused with exception {reply[1]}, {meaning} ({where})"
            raise ModbusError(message, reply[1])
        return reply

    def _framed(self, pdu: bytes) -> bytes:
        if not self._rtu:
            self._transaction = self._transaction % 0xFFFF + 1
            return _MBAP.pack(self._transaction, 0, len(pdu) + 1, self._unit) + pdu
        return _rtu_frame(self._unit, pdu)

    def _at_once(self, begins: bytes, size: int) -> bytes | None:
        """The PDU of the reply, where it is there already and is what was asked for: nearly always.

        What else came is left where it is, for `_reply` to judge.
        """
        if not self._rtu:
            head = _MBAP.pack(self._transaction, 0, size + 1, self._unit)
            frame = self._stream.arrived(head + begins, _MBAP.size + size)
            return frame and frame[_MBAP.size :]
        frame = self._stream.arrived(self._address + begins, size + 3)
        if frame is None:
            return None
        self._line_free_s = self._stream.now() + _RTU_GAP_S
        return _checked(frame)

    async def _reply(self, function: int) -> bytes:
        now = self._stream.now
        deadline_s = now() + self._timeout_s
        frame = await self._frame(self._timeout_s)
        if self._rtu:
            self._line_free_s = now() + _RTU_GAP_S
            unit, pdu = frame[0], _checked(frame)
        else:
            while int.from_bytes(frame[:2], "big") != self._transaction:
                # The late reply to a request that was given up.
                frame = await self._frame(deadline_s - now())
            unit, pdu = frame[_MBAP.size - 1], frame[_MBAP.size :]
        if unit != self._unit or pdu[0] & ~_EXCEPTION_BIT != function:
            raise _garbled(frame)
        return pdu

    async def _frame(self, timeout_s: float) -> bytes:
        """Take one whole frame from the stream, by the length that it tells of itself."""
        head = await self._stream.read_exactly(self._head_size, timeout_s)
        rest = self._size(head) - self._head_size
        return head + (await self._stream.read_exactly(rest, timeout_s) if rest else b"")

    def _size(self, head: bytes) -> int:
        return self._rtu_size(head) if self._rtu else self._tcp_size(head)

    def _tcp_size(self, head: bytes) -> int:
        _, protocol, length, _ = _MBAP.unpack_from(head)
        if protocol or not 2 < length <= _PDU_MAX + 1:
            raise _garbled(head)
        return _MBAP.size - 1 + int(length)

    def _rtu_size(self, head: bytes) -> int:
        function = head[1]
        if head[0] != self._unit:
            raise _garbled(head)
        if function & _EXCEPTION_BIT:
            return _RTU_EXCEPTION_SIZE
        return head[2] + 5 if function == _READ else _RTU_WRITE_REPLY_SIZE


def _checked(frame: bytes) -> bytes:
    """The PDU of an RTU frame whose checksum is right."""
    if _crc(frame[:-2]) != frame[-2:]:
        raise _garbled(frame)
    return frame[1:-2]


def _garbled(frame: bytes) -> GarbledReply:
    return GarbledReply(f"garbled reply {frame.hex(' ')}")


def _check_fits(request: bytes, reply: bytes) -> None:
    """Raise GarbledReply for what answers another request than this one, e.g. the one before."""
    if reply[0] & _EXCEPTION_BIT:
        return
    if request[0] == _READ:
        size = 2 * int.from_bytes(request[3:5], "big")
        fits = reply[1] == size and len(reply) == 2 + size
    else:
        fits = reply == request[:5]
    if not fits:
        raise GarbledReply(f"{reply.hex(' ')} came, which does not answer {request.hex(' ')}")


@lru_cache
def _words(count: int) -> struct.Struct:
    return struct.Struct(f">{count}H")


# What is asked, and nearly all that is answered, is the same again and again.
@lru_cache(maxsize=256)
def _reading(address: int, count: int) -> tuple[bytes, bytes, struct.Struct]:
    """A request to read registers, how its reply begins, and how that holds them."""
    return _THREE.pack(_READ, address, count), bytes((_READ, 2 * count)), _words(count)


@lru_cache(maxsize=256)
def _rtu_frame(unit: int, pdu: bytes) -> bytes:
    frame = bytes([unit]) + pdu
    return frame + _crc(frame)


@lru_cache(maxsize=256)
def _crc(frame: bytes) -> bytes:
    return FramerRTU.compute_CRC(frame).to_bytes(2, "big")


def float_from(registers: Sequence[int], word_order: WordOrder) -> float:
    """Read a 32-bit float from two registers."""
    low, high = registers if word_order == "lsw first" else reversed(registers)
    value: float = struct.unpack(">f", struct.pack(">HH", high, low))[0]
    return value


def float_registers(value: float, word_order: WordOrder) -> list[int]:
    """Write a number as a 32-bit float in two registers."""
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return [low, high] if word_order == "lsw first" else [high, low]
