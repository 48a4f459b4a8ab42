"""Modbus master on a byte stream, TCP or RTU framing: registers in, registers out.

Frames and PDUs are pymodbus's. This module decides what a serial line or a socket needs around
them: one exchange at a time, whole frames out of a stream, resynchronising after silence or
garbage. Source: Modbus application protocol 1.1b3, Modbus messaging on TCP/IP 1.0b, Modbus over
serial line 1.02.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Literal

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from cellbench.clock import sleep_until
from cellbench.errors import CellbenchError, TransportTimeout
from cellbench.transport.stream import Stream

Framing = Literal["tcp", "rtu"]
WordOrder = Literal["lsw first", "msw first"]

_RESYNCHRONISE_S = 0.05
#: Silence that separates two RTU frames: 3.5 characters at 9600 baud.
_RTU_GAP_S = 0.004
_MBAP = struct.Struct(">HHHB")
_PDU_MAX = 253
_EXCEPTION_BIT = 0x80
_RTU_EXCEPTION_SIZE = 5
_RTU_WRITE_REPLY_SIZE = 8
_READ = 3

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
        self._unit = unit
        self._rtu = framing == "rtu"
        self._timeout_s = timeout_s
        decoder = DecodePDU(is_server=False)
        self._framer = FramerRTU(decoder) if self._rtu else FramerSocket(decoder)
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
        request = ReadHoldingRegistersRequest(address=address, count=count, dev_id=self._unit)
        try:
            registers = list((await self._exchange(request)).registers)
        except (TransportTimeout, GarbledReply):
            registers = list((await self._exchange(request)).registers)
        if len(registers) != count:
            raise GarbledReply(f"{count} registers were asked for, {len(registers)} came")
        return registers

    async def write_registers(self, address: int, values: Sequence[int]) -> None:
        """Write holding registers (function 16), once; errors as `read_registers`."""
        request = WriteMultipleRegistersRequest(
            address=address, registers=list(values), dev_id=self._unit
        )
        reply = await self._exchange(request)
        if (reply.address, reply.count) != (address, len(values)):
            raise GarbledReply(f"{len(values)} registers at {address} were written, not answered")

    async def write_register(self, address: int, value: int) -> None:
        """Write one holding register (function 6), once; errors as `read_registers`."""
        request = WriteSingleRegisterRequest(address=address, registers=[value], dev_id=self._unit)
        reply = await self._exchange(request)
        if (reply.address, list(reply.registers)) != (address, [value]):
            raise GarbledReply(f"{value} was written at {address}, {reply.registers} answered")

    async def _exchange(self, request: ModbusPDU) -> ModbusPDU:
        async with self._lock:
            await self._get_in_step()
            self._in_step = False
            self._transaction = self._transaction % 0xFFFF + 1
            request.transaction_id = self._transaction
            await self._stream.write(self._framer.buildFrame(request))
            reply = await self._reply(request.function_code)
            self._in_step = True
        if reply.isError():
            code = reply.exception_code
            meaning = _EXCEPTIONS.get(code, "unknown")
            where = f"function {request.function_code}, register {request.address}"
            raise ModbusError(f"refused with exception {code}, {meaning} ({where})", code)
        return reply

    async def _get_in_step(self) -> None:
        """After an exchange that did not end well, let its late reply pass."""
        if not self._in_step:
            await self._stream.drain(_RESYNCHRONISE_S)
        if self._rtu:
            await sleep_until(self._line_free_s)

    async def _reply(self, function: int) -> ModbusPDU:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        while True:
            frame = await self._frame(deadline_s - loop.time())
            used, unit, transaction, data = self._framer.decode(frame)
            self._line_free_s = loop.time() + _RTU_GAP_S
            if transaction and transaction != self._transaction:
                continue  # the late reply to a request that was given up
            if not used or unit != self._unit or data[0] & ~_EXCEPTION_BIT != function:
                raise GarbledReply(f"garbled reply {frame.hex(' ')}")
            reply = self._framer.decoder.decode(data)
            if reply is None:
                raise GarbledReply(f"garbled reply {frame.hex(' ')}")
            return reply

    async def _frame(self, timeout_s: float) -> bytes:
        """Take one whole frame from the stream, by the length that it tells of itself."""
        size = _RTU_EXCEPTION_SIZE if self._rtu else _MBAP.size
        head = await self._stream.read_exactly(size, timeout_s)
        rest = self._rtu_size(head) - size if self._rtu else self._tcp_rest(head)
        return head + (await self._stream.read_exactly(rest, timeout_s) if rest else b"")

    def _tcp_rest(self, head: bytes) -> int:
        _, protocol, length, _ = _MBAP.unpack(head)
        if protocol or not 2 < length <= _PDU_MAX + 1:
            raise GarbledReply(f"garbled reply {head.hex(' ')}")
        return int(length) - 1

    def _rtu_size(self, head: bytes) -> int:
        function = head[1]
        if head[0] != self._unit:
            raise GarbledReply(f"garbled reply {head.hex(' ')}")
        if function & _EXCEPTION_BIT:
            return _RTU_EXCEPTION_SIZE
        return head[2] + 5 if function == _READ else _RTU_WRITE_REPLY_SIZE


def float_from(registers: Sequence[int], word_order: WordOrder) -> float:
    """Read a 32-bit float from two registers."""
    low, high = registers if word_order == "lsw first" else reversed(registers)
    value: float = struct.unpack(">f", struct.pack(">HH", high, low))[0]
    return value


def float_registers(value: float, word_order: WordOrder) -> list[int]:
    """Write a number as a 32-bit float in two registers."""
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return [low, high] if word_order == "lsw first" else [high, low]
