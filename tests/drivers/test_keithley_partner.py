"""The Keithley driver against simulators that nobody of this project wrote, over real TCP.

The partners know the set-up commands, the output and the resistor behind it. The 2400 knows all
that the driver needs, but for the output-off state, abort, and which functions it measures. The
2450 has no trigger model and no buffer: the adapter below plays those from the blocks that it is
sent, with readings that the partner takes, so that what is independent is the set-up and the sign
and place of each value.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block, Ending, EndingKind
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Rest,
    Sweep,
    Technique,
)
from cellbench.transport.tcp import open_tcp
from cellbench_drivers.keithley import Keithley

partner: Any = pytest.importorskip(
    "labmcp_keithley_smu.simulator", reason="labmcp-keithley-smu is not installed"
)

LIMITS = ElectricalLimits(voltage_min_V=-2.0, voltage_max_V=2.0, current_max_A=2e-3)
#: What the partners do not know; the answer where it is a query.
_UNKNOWN = {
    ":ABOR": "",
    ":OUTP:SMOD HIMP": "",
    ":OUTP:VOLT:SMOD HIMP": "",
    ":OUTP:CURR:SMOD HIMP": "",
    ":OUTP:SMOD?": "HIMP",
    ":OUTP:VOLT:SMOD?": "HIMP",
    ":OUTP:CURR:SMOD?": "HIMP",
    ':TRAC:DEL "cell"': "",
    ':TRAC:MAKE "cell",100000': "",
}

#: The 2400 measures both at once.
_UNKNOWN_2400 = {":SENS:FUNC?": '"VOLT:DC","CURR:DC"'}


class Adapter:
    """Serves a partner; plays the trigger model and the buffer that it lacks."""

    def __init__(self, dialect: str) -> None:
        self.simulator: Any = partner.make_simulator(dialect)
        self._unknown = _UNKNOWN | (_UNKNOWN_2400 if dialect == "2400" else {})
        self._blocks: dict[int, list[str]] = {}
        self._steps: list[str] = []
        self._readings: list[str] = []
        self._model: asyncio.Task[None] | None = None
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode("ascii").strip():
            if answer := self.answer(line):
                writer.write(f"{answer}\n".encode("ascii"))
        writer.close()
        await writer.wait_closed()
        self.left.set()

    def answer(self, line: str) -> str:
        if line in self._unknown:
            if line == ":ABOR" and self._model is not None:
                self._model.cancel()
            return self._unknown[line]
        if line.startswith((":TRIG:BLOC:", ":TRAC:", ":TRIG:LOAD", ":TRIG:STAT", ":INIT")):
            return self._played(line)
        if line.startswith(":SOUR:LIST:VOLT"):
            self._steps += line.split(" ")[1].split(",")
            return ""
        if line.startswith(":SOUR:VOLT:PROT"):
            return ""
        return self.simulator.handle(line) or ""

    def _played(self, line: str) -> str:
        header, _, arguments = line.partition(" ")
        if header.startswith(":TRIG:BLOC:"):
            number, *rest = arguments.split(",")
            self._blocks[int(number)] = [header.removeprefix(":TRIG:BLOC:"), *rest]
        elif header == ":TRIG:LOAD":
            self._blocks, self._steps = {}, []
        elif header == ":TRAC:CLE":
            self._readings = []
        elif header == ":TRAC:ACT?":
            return str(len(self._readings))
        elif header == ":TRAC:DATA?":
            first, last = map(int, arguments.split(",")[:2])
            return ",".join(self._readings[first - 1 : last])
        elif header == ":TRIG:STAT?":
            running = self._model is not None and not self._model.done()
            return "RUNNING;RUNNING;1" if running else "IDLE;IDLE;1"
        elif header == ":INIT":
            self._model = asyncio.create_task(self._run())
        return ""

    async def _run(self) -> None:
        at, counts, step, begun_s = 1, dict.fromkeys(self._blocks, 0), 0, 0.0
        reading = 0.0
        while at in self._blocks:
            kind, *rest = self._blocks[at]
            at, here = at + 1, at
            if kind == "SOUR:STAT":
                self.simulator.handle(f":OUTP {rest[0]}")
            elif kind in {"CONF:REC", "CONF:NEXT"}:
                step = 0 if kind == "CONF:REC" else step + 1
                self.simulator.handle(f":SOUR:VOLT {self._steps[step]}")
            elif kind == "MEAS":
                values = self.simulator.handle(':READ? "defbuffer1",READ,SOUR')
                now_s = asyncio.get_running_loop().time()
                begun_s = begun_s or now_s
                self._readings.append(f"{values},{now_s - begun_s:.6f},8")
                reading = float(values.split(",")[0])
            elif kind == "DEL:CONS":
                await asyncio.sleep(float(rest[0]))
            elif kind == "BRAN:ALW":
                at = int(rest[0])
            elif kind == "BRAN:COUN":
                counts[here] += 1
                at = int(rest[1]) if counts[here] < int(rest[0]) else at
            elif kind == "BRAN:LIM:CONS":
                low, high = float(rest[1]), float(rest[2])
                met = {
                    "ABOV": reading > high,
                    "BEL": reading < low,
                    "IN": low < reading < high,
                    "OUT": not low <= reading <= high,
                }
                at = int(rest[3]) if met[rest[0]] else at


def with_partner(
    dialect: str, act: Callable[[Keithley, Any], Awaitable[Any]], **options: object
) -> Any:
    async def scenario() -> Any:
        adapter = Adapter(dialect)
        server = await asyncio.start_server(adapter.serve, "127.0.0.1", 0)
        stream = await open_tcp("127.0.0.1", server.sockets[0].getsockname()[1])
        driver = Keithley("smu", stream, {"model": dialect, **options})
        try:
            await driver.connect()
            result = await act(driver, adapter.simulator)
            assert not adapter.simulator.core.output
            return result
        finally:
            await driver.close()
            await adapter.left.wait()
            server.close()
            await server.wait_closed()

    return run(scenario())


async def measured(driver: Keithley, technique: Technique) -> tuple[list[Block], Ending]:
    blocks = []
    async with driver.run(technique, LIMITS) as running:
        async for block in running:
            blocks.append(block)  # noqa: PERF401
    assert running.ending is not None
    return blocks, running.ending


def column(blocks: list[Block], name: str) -> list[float]:
    return [value for block in blocks for value in block.columns[name]]


@pytest.mark.parametrize("dialect", ["2450", "2400"])
def test_a_current_through_the_partners_resistor(dialect: str) -> None:
    async def act(driver: Keithley, simulator: Any) -> tuple[list[Block], Ending]:
        technique = ConstantCurrent(current_A=-1e-3, duration_s=1.0, interval_s=0.25)
        result = await measured(driver, technique)
        assert simulator.core.remote_sense
        return result

    blocks, ending = with_partner(dialect, act)
    assert ending.kind is EndingKind.COMPLETED
    assert ending.on_device is (dialect == "2450")
    assert column(blocks, "voltage_V") == pytest.approx([-1.0] * 5, rel=1e-2)
    assert column(blocks, "current_A") == pytest.approx([-1e-3] * 5, rel=1e-2)


@pytest.mark.parametrize("dialect", ["2450", "2400"])
def test_a_voltage_on_the_partners_resistor_to_a_cut_off(dialect: str) -> None:
    async def act(driver: Keithley, simulator: Any) -> tuple[list[Block], Ending]:
        taper = CutOff(quantity="current", above=False, value=6e-4, after_s=0.4)
        hold = ConstantVoltage(voltage_V=0.5, duration_s=60, interval_s=0.25, cut_offs=(taper,))
        return await measured(driver, hold)

    blocks, ending = with_partner(dialect, act)
    assert ending.kind is EndingKind.CUT_OFF
    assert column(blocks, "current_A") == pytest.approx([5e-4] * 3, rel=1e-2)
    assert column(blocks, "voltage_V") == pytest.approx([0.5] * 3, rel=1e-2)


@pytest.mark.parametrize("dialect", ["2450", "2400"])
def test_a_limit_trips(dialect: str) -> None:
    async def act(driver: Keithley, simulator: Any) -> Ending:
        # 1.9 V on 1 kohm is 1.9 mA; the partner clamps at the source's limit, just beyond.
        technique = ConstantCurrent(current_A=1.9e-3, duration_s=60, interval_s=0.25)
        tight = LIMITS.model_copy(update={"voltage_max_V": 1.5, "voltage_min_V": -1.5})
        async with driver.run(technique, tight) as running:
            async for _ in running:
                pass
        assert running.ending is not None
        return running.ending

    assert with_partner(dialect, act).kind is EndingKind.TRIPPED


@pytest.mark.parametrize("dialect", ["2450", "2400"])
def test_a_sweep_over_the_partners_resistor(dialect: str) -> None:
    async def act(driver: Keithley, simulator: Any) -> tuple[list[Block], Ending]:
        sweep = Sweep(start_V=0.0, end_V=-0.2, vertices_V=(0.4,), step_V=0.2, rate_V_per_s=1.0)
        return await measured(driver, sweep)

    blocks, ending = with_partner(dialect, act)
    assert ending.kind is EndingKind.COMPLETED
    expected = [0.0, 0.2, 0.4, 0.2, 0.0, -0.2]
    assert column(blocks, "voltage_V") == pytest.approx(expected, abs=1e-3)
    assert column(blocks, "current_A") == pytest.approx([v * 1e-3 for v in expected], abs=1e-6)


@pytest.mark.parametrize("dialect", ["2450", "2400"])
def test_a_rest_carries_no_current(dialect: str) -> None:
    async def act(driver: Keithley, simulator: Any) -> tuple[list[Block], Ending]:
        return await measured(driver, Rest(duration_s=0.5, interval_s=0.25))

    blocks, ending = with_partner(dialect, act)
    assert ending.kind is EndingKind.COMPLETED
    assert column(blocks, "current_A") == pytest.approx([0.0] * 3, abs=1e-8)


@pytest.mark.parametrize("dialect", ["2450", "2400"])
def test_leaving_early_switches_the_partner_off(dialect: str) -> None:
    async def act(driver: Keithley, simulator: Any) -> None:
        technique = ConstantCurrent(current_A=1e-3, duration_s=60, interval_s=0.25)
        async with driver.run(technique, LIMITS) as running:
            async for _ in running:
                assert simulator.core.output
                break
        assert not simulator.core.output
        assert (await driver.quiet()).confirmed

    with_partner(dialect, act)


@pytest.mark.parametrize(("dialect", "code"), [("2450", "-222"), ("2400", "-222")])
def test_what_the_partner_refuses_is_told(dialect: str, code: str) -> None:
    async def act(driver: Keithley, simulator: Any) -> None:
        technique = ConstantCurrent(current_A=5.0, duration_s=1.0)
        with pytest.raises(InstrumentError, match=re.escape(code)):
            await measured(driver, technique)

    with_partner(dialect, act, current_max=7.0)
