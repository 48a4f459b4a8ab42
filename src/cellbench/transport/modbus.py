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
from dataclasses import dataclass
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
#: The head of a TCP frame: the number of the transaction, and what is known without it.
_NUMBER, _HEAD = struct.Struct(">H"), struct.Struct(">HHB")
_MBAP = struct.Struct(">HHHB")
_THREE = struct.Struct(">BHH")
_WRITE_HEAD = struct.Struct(">BHHB")
_PDU_MAX = 253
_EXCEPTION_BIT = 0x80
_RTU_EXCEPTION_SIZE = 5
#: Bytes around the PDU of an RTU frame: address and checksum.
_RTU_AROUND = 3
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


@dataclass(slots=True)
class _Request:
    """What goes out, and what answers it; over TCP both begin with a number besides.

    Attributes:
        pdu: The request without its frame.
        frame: What goes out.
        begins: How the frame that answers it begins.
        size: How long that is, with the number.
    """

    pdu: bytes
    frame: bytes
    begins: bytes
    size: int


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
        self._unit, self._framing = unit, framing
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
        request, words = _reading(self._framing, self._unit, address, count)
        try:
            frame = await self._exchange(request)
        except (TransportTimeout, GarbledReply):
            frame = await self._exchange(request)
        return list(words.unpack(frame))

    async def write_registers(self, address: int, values: Sequence[int]) -> None:
        """Write holding registers (function 16), once; errors as `read_registers`."""
        count = len(values)
        head = _WRITE_HEAD.pack(_WRITE_MANY, address, count, 2 * count)
        pdu = head + struct.pack(f">{count}H", *values)
        await self._exchange(_request(self._framing, self._unit, pdu, head[:5], 5))

    async def write_register(self, address: int, value: int) -> None:
        """Write one holding register (function 6), once; errors as `read_registers`."""
        pdu = _THREE.pack(_WRITE_ONE, address, value)
        await self._exchange(_request(self._framing, self._unit, pdu, pdu, 5))

    async def _exchange(self, request: _Request) -> bytes:
        """Send a request and return the frame that answers it."""
        stream, number = self._stream, b""
        # Without the frames of "async with": instruments are asked all the time.
        await self._lock.acquire()
        try:
            if stream.lost and await stay_connected(stream):
                self._in_step = True
            if not self._in_step or (self._rtu and stream.unread):
                # Let the late reply to a lost request pass; over TCP it is told by its number.
                await stream.drain(_RESYNCHRONISE_S)
            if not self._rtu:
                self._transaction = self._transaction % 0xFFFF + 1
                number = _NUMBER.pack(self._transaction)
            elif self._line_free_s > stream.now():
                await sleep_until(self._line_free_s)
            self._in_step = False
            await stream.write(number + request.frame)
            # Nearly always the answer is there at once; what else came is left to be judged.
            frame = stream.arrived(number + request.begins, request.size)
            if frame is None:
                frame = await self._reply(number, request)
            elif self._rtu:
                self._line_free_s = stream.now() + _RTU_GAP_S
                _check_sum(frame)
            self._in_step = True
        finally:
            self._lock.release()
        return frame

    async def _reply(self, number: bytes, request: _Request) -> bytes:
        """Wait for a reply and see that it is the answer to this request."""
        now = self._stream.now
        deadline_s = now() + self._timeout_s
        frame = await self._frame(self._timeout_s)
        if self._rtu:
            self._line_free_s = now() + _RTU_GAP_S
            _check_sum(frame)
            unit, pdu = frame[0], frame[1:-2]
        else:
            while not frame.startswith(number):
                # The late reply to a request that was given up.
                frame = await self._frame(deadline_s - now())
            unit, pdu = frame[_MBAP.size - 1], frame[_MBAP.size :]
        if unit != self._unit or pdu[0] & ~_EXCEPTION_BIT != request.pdu[0]:
            raise _garbled(frame)
        if pdu[0] & _EXCEPTION_BIT:
            self._in_step = True
            raise _refusal(request.pdu, pdu[1])
        if len(frame) != request.size or not frame.startswith(number + request.begins):
            # For instance the answer to the request before this one.
            text = f"{pdu.hex(' ')} came, which does not answer {request.pdu.hex(' ')}"
            raise GarbledReply(text)
        return frame

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


def _check_sum(frame: bytes) -> None:
    """Raise GarbledReply for an RTU frame whose checksum is wrong."""
    if _crc(frame[:-2]) != frame[-2:]:
        raise _garbled(frame)


def _garbled(frame: bytes) -> GarbledReply:
    return GarbledReply(f"garbled reply {frame.hex(' ')}")


def _refusal(request: bytes, code: int) -> ModbusError:
    meaning = _EXCEPTIONS.get(code, "unknown")
    where = f"function {request[0]}, register {int.from_bytes(request[1:3], 'big')}"
    return ModbusError(f"refused with exception {code}, {meaning} ({where})", code)


def _request(framing: Framing, unit: int, pdu: bytes, begins: bytes, size: int) -> _Request:
    """Frame a request whose answer, a PDU as well, begins so and is so long."""
    if framing == "rtu":
        address = bytes([unit])
        frame = address + pdu
        return _Request(pdu, frame + _crc(frame), address + begins, size + _RTU_AROUND)
    frame = _HEAD.pack(0, len(pdu) + 1, unit) + pdu
    return _Request(pdu, frame, _HEAD.pack(0, size + 1, unit) + begins, size + _MBAP.size)


# What is asked, and nearly all that is answered, is the same again and again.
@lru_cache(maxsize=256)
def _reading(
    framing: Framing, unit: int, address: int, count: int
) -> tuple[_Request, struct.Struct]:
    """A request to read registers, and how the frame that answers it holds them."""
    pdu, begins = _THREE.pack(_READ, address, count), bytes((_READ, 2 * count))
    # Before them are the head or the address, the function and how many bytes they take.
    words = struct.Struct(f">3x{count}H2x" if framing == "rtu" else f">9x{count}H")
    return _request(framing, unit, pdu, begins, 2 + 2 * count), words


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
