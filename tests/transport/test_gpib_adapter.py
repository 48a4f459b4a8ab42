"""A Prologix-style GPIB adapter on TCP, with an emulated source-measure unit on its bus.

The adapter is written from its public manual: lines that begin with ``++`` are its own, ESC escapes
what is the instrument's, and an instrument talks when it is asked to by ``++read eoi``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from cellbench.errors import InstrumentError, TransportClosed, TransportTimeout
from cellbench.instruments.readings import EndingKind
from cellbench.instruments.techniques import ConstantCurrent, ElectricalLimits
from cellbench.transport import Stream
from cellbench.transport.address import open_stream
from cellbench.transport.visa import open_visa
from cellbench_drivers.keithley import Keithley
from cellbench_sim.bench import SimulatedBench

ESCAPE = b"\x1b"
ADDRESS = 5


class Adapter:
    """One controller with one instrument on its bus."""

    def __init__(self, instrument: Stream) -> None:
        self._instrument = instrument
        self._addressed = 0
        self._wait_s = 0.05
        self.asked_in_vain = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out what a host says, until it hangs up."""
        while line := await self._line(reader):
            match line.split():
                case [b"++addr", address]:
                    self._addressed = int(address)
                case [b"++read_tmo_ms", wait]:
                    self._wait_s = int(wait) / 1e3
                case [b"++read", b"eoi"]:
                    writer.write(await self._talk())
                case [first, *_] if first.startswith(b"++"):
                    pass
                case _ if self._addressed == ADDRESS:
                    await self._instrument.write(line + b"\n")
        writer.close()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        line = b""
        while byte := await reader.read(1):
            if byte == ESCAPE:
                line += await reader.read(1)
            elif byte == b"\n":
                return line or b"++"
            else:
                line += byte
        return b""

    async def _talk(self) -> bytes:
        answer = b""
        if self._addressed == ADDRESS:
            with suppress(TransportTimeout):
                answer = await self._instrument.read_until(b"\n", self._wait_s)
        self.asked_in_vain += not answer
        return answer


@asynccontextmanager
async def on_the_bus() -> AsyncIterator[tuple[Adapter, int]]:
    instruments = {"smu": {"driver": "keithley", "port": "simulated", "model": "2400"}}
    async with SimulatedBench("LYC_PMMA", 7, instruments=instruments) as bench:
        adapter = Adapter(bench.connect("smu"))
        server = await asyncio.start_server(adapter.serve, "127.0.0.1", 0)
        async with server:
            yield adapter, server.sockets[0].getsockname()[1]


def address(port: int, at: int = ADDRESS, board: str = "") -> str:
    return f"visa:PRLGX-TCPIP{board}::127.0.0.1::{port}::INTFC GPIB{board}::{at}::INSTR"


async def test_a_driver_works_through_the_adapter() -> None:
    async with on_the_bus() as (adapter, port):
        driver = Keithley("smu", await open_stream(address(port)), {"model": "2400"})
        identity = await driver.connect()
        assert "2400" in identity.model
        drained = adapter.asked_in_vain
        technique = ConstantCurrent(current_A=1e-4, duration_s=1.0, interval_s=0.25)
        limits = ElectricalLimits(voltage_min_V=-2, voltage_max_V=2, current_max_A=1e-3)
        async with driver.run(technique, limits) as running:
            rows = [row async for block in running for row in block.columns["current_A"]]
        assert running.ending is not None
        assert running.ending.kind is EndingKind.COMPLETED
        assert rows[-1] == pytest.approx(1e-4, rel=0.02)
        assert (await driver.quiet()).confirmed
        # An instrument that is asked to talk and has nothing to say enters an error: that happens
        # while a line is drained before its first use, and the driver clears its errors then.
        assert adapter.asked_in_vain == drained <= 1
        await driver.close()


async def test_special_characters_reach_the_instrument_as_they_are() -> None:
    async with on_the_bus() as (_, port):
        stream = await open_visa(address(port).removeprefix("visa:"))
        await stream.write(b":SOUR:CURR +1e-5\n")
        await stream.write(b":SOUR:CURR?\n")
        assert float(await stream.read_until(b"\n", 5.0)) == pytest.approx(1e-5)
        await stream.close()


async def test_nobody_at_an_address_is_silence() -> None:
    async with on_the_bus() as (_, port):
        stream = await open_stream(address(port, at=9))
        await stream.write(b"*IDN?\n")
        with pytest.raises(TransportTimeout):
            await stream.read_until(b"\n", 0.2)
        await stream.close()


async def test_each_adapter_has_one_instrument_and_a_number() -> None:
    async with on_the_bus() as (_, port), on_the_bus() as (_, second):
        stream = await open_stream(address(port))
        with pytest.raises(InstrumentError, match="adapter 0 is open already"):
            await open_stream(address(port, at=6))
        other = await open_stream(address(second, board="1"))
        for each in (stream, other):
            await each.write(b"*IDN?\n")
            assert b"2400" in await each.read_until(b"\n", 5.0)
        await stream.reopen()
        await stream.close()
        await other.close()
        again = await open_stream(address(port))  # closed, it is free again
        await again.close()


@pytest.mark.parametrize(
    "resource", ["ASRL7::INSTR GPIB::5::INSTR", "PRLGX-TCPIP::192.0.2.1 GPIB::5::INSTR"]
)
async def test_what_is_no_adapter_is_said(resource: str) -> None:
    with pytest.raises(TransportClosed, match="is no adapter: write PRLGX-TCPIP::host"):
        await open_visa(resource)


async def test_an_adapter_that_is_not_there_is_told() -> None:
    with pytest.raises(InstrumentError, match="cannot be opened"):
        await open_stream(address(1))
