"""Instruments for driver tests: one that follows a script of bytes, one that keeps registers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from types import TracebackType

import pytest
from pymodbus.framer import FramerRTU

from cellbench.transport import Stream, pipe

Answer = bytes | Sequence[tuple[float, bytes]]


class ScriptedInstrument:
    """Expects each exchange's bytes and answers; leaving the context checks that all took place.

    An expectation that ends in an ellipsis (``b"e\\n..."``) is the beginning of a MethodSCRIPT, up
    to its empty line. An answer is bytes, or pairs of a delay in seconds and bytes.
    """

    def __init__(self, *exchanges: tuple[bytes, Answer]) -> None:
        self._exchanges = list(exchanges)
        self.heard: list[bytes] = []
        ours, self.end = pipe()
        self.stream: Stream = ours

    async def __aenter__(self) -> ScriptedInstrument:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._task.cancel()
            (fault,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(fault, AssertionError):
                raise fault
            return
        await asyncio.wait_for(self._task, 60.0)
        assert not bytes(self.end._buffer), "more was sent than expected"

    async def _serve(self) -> None:
        for expected, answer in self._exchanges:
            await self._expect(expected)
            for delay_s, data in [(0.0, answer)] if isinstance(answer, bytes) else answer:
                await asyncio.sleep(delay_s)
                await self.end.write(data)

    async def _expect(self, expected: bytes) -> None:
        if expected.endswith(b"..."):
            heard = await self.end.read_until(b"\n\n", 1e6)
            assert heard.startswith(expected[:-3]), heard
        else:
            heard = await self.end.read_exactly(len(expected), 1e6)
            assert heard == expected
        self.heard.append(heard)


@pytest.fixture
def scripted() -> type[ScriptedInstrument]:
    return ScriptedInstrument


class RegisterBank:
    """A Modbus device that only remembers: registers in a dictionary, writes in a list.

    ``on_write`` may change registers when one is written, as a device would.
    """

    def __init__(self, framing: str = "tcp", unit: int = 1) -> None:
        self.registers: dict[int, int] = {}
        self.written: list[tuple[int, list[int]]] = []
        self.functions: list[int] = []
        self.on_write: Callable[[int, list[int]], None] | None = None
        self._rtu = framing == "rtu"
        self._unit = unit
        ours, self.end = pipe()
        self.stream: Stream = ours

    async def __aenter__(self) -> RegisterBank:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _serve(self) -> None:
        while True:
            head = await self.end.read_exactly(0 if self._rtu else 6, 1e9)
            unit, function, address, count = struct.unpack(
                ">BBHH", await self.end.read_exactly(6, 1e9)
            )
            values: list[int] = []
            if function == 16:
                size = (await self.end.read_exactly(1, 1.0))[0]
                data = await self.end.read_exactly(size, 1.0)
                values = list(struct.unpack(f">{count}H", data))
            if self._rtu:
                await self.end.read_exactly(2, 1.0)
            assert unit == self._unit
            await self._answer(head, self._reply(function, address, count, values))

    def _reply(self, function: int, address: int, count: int, values: list[int]) -> bytes:
        self.functions.append(function)
        if function == 3:
            found = [self.registers.get(address + at, 0) for at in range(count)]
            return struct.pack(f">BB{count}H", 3, 2 * count, *found)
        values = values or [count]
        self.written.append((address, values))
        self.registers.update({address + at: value for at, value in enumerate(values)})
        if self.on_write is not None:
            self.on_write(address, values)
        return struct.pack(">BHH", function, address, count)

    async def _answer(self, head: bytes, pdu: bytes) -> None:
        frame = bytes([self._unit]) + pdu
        if self._rtu:
            await self.end.write(frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big"))
        else:
            await self.end.write(head[:4] + len(frame).to_bytes(2, "big") + frame)


@pytest.fixture
def register_bank() -> type[RegisterBank]:
    return RegisterBank
