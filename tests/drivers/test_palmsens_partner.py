"""The PalmSens driver against a simulator that nobody of this project wrote.

The partner knows LSV and CA of an EmStat Pico, and neither ``meas`` nor ``if``: the adapter leaves
those lines out, and answers the capability commands, which the partner does not know either.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block, EndingKind
from cellbench.instruments.techniques import ConstantVoltage, ElectricalLimits, Sweep, Technique
from cellbench.transport import Stream, pipe
from cellbench_drivers.palmsens import PalmSens
from cellbench_drivers.palmsens_models import capabilities


def _simulator() -> Any:
    """The partner's simulator; the server framework around it is not needed to run it."""
    pytest.importorskip("labmcp_palmsens")
    framework = ModuleType("labmcp")
    framework.__dict__["LineSimulator"] = object
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "labmcp", framework)
        return importlib.import_module("labmcp_palmsens.simulator")


partner = _simulator()

LIMITS = ElectricalLimits(voltage_min_V=-1.0, voltage_max_V=1.0, current_max_A=1e-3)
_CAPABILITIES = {
    b"CC\n": b"CC2F0000003FFFFF98FF00000002\n",
    b"CM\n": b"CM03FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE\n",
}


class Adapter:
    """Puts the partner on the other end of a pipe, on the time of the loop."""

    def __init__(self) -> None:
        self.stream, self._end = pipe()
        self.simulator: Any = partner.MethodScriptSimulator(speed=1.0)
        self.simulator._clock = asyncio.get_running_loop().time
        self._depth = 0

    async def serve(self) -> None:
        await asyncio.gather(self._listen(), self._talk())

    async def _listen(self) -> None:
        while True:
            line = await self._end.read_until(b"\n", 1e9)
            if line in _CAPABILITIES and self.simulator.receiving is None:
                await self._end.write(_CAPABILITIES[line])
            elif self._known(line.split()):
                await self._print(self.simulator.handle(line[:-1].decode()))

    def _known(self, words: list[bytes]) -> bool:
        command = words[0] if words else b""
        inside = self._depth > 0
        self._depth += (command == b"if") - (command == b"endif")
        return not inside and command not in {b"if", b"meas"}

    async def _talk(self) -> None:
        while True:
            await self._print(self.simulator.poll())
            await asyncio.sleep(0.01)

    async def _print(self, lines: str | list[str] | None) -> None:
        for line in [lines] if isinstance(lines, str) else lines or []:
            await self._end.write(f"{line}\n".encode())


def with_partner(act: Callable[[PalmSens, Any], Awaitable[Any]]) -> Any:
    async def scenario() -> Any:
        adapter = Adapter()
        stream: Stream = adapter.stream
        task = asyncio.create_task(adapter.serve())
        try:
            driver = PalmSens("pstat", stream, {})
            identity = await driver.connect()
            assert identity.model == "PalmSens EmStat Pico"
            assert identity.serial == "ESPSIM01"
            return await act(driver, adapter.simulator)
        finally:
            task.cancel()

    return run(scenario(), virtual=True)


async def measured(
    driver: PalmSens, technique: Technique, limits: ElectricalLimits = LIMITS
) -> tuple[list[Block], EndingKind]:
    blocks = []
    async with driver.run(technique, limits) as running:
        async for block in running:
            blocks.append(block)  # noqa: PERF401
    assert running.ending is not None
    return blocks, running.ending.kind


def test_the_partner_runs_a_sweep() -> None:
    async def act(driver: PalmSens, simulator: Any) -> tuple[list[Block], EndingKind]:
        result = await measured(
            driver, Sweep(start_V=0.0, end_V=0.4, rate_V_per_s=0.1, step_V=0.01)
        )
        assert not simulator.cell_powered
        return result

    blocks, kind = with_partner(act)
    assert kind is EndingKind.COMPLETED
    voltages = [block.columns["voltage_V"][0] for block in blocks]
    assert voltages[0] == pytest.approx(0.0)
    assert voltages[-1] == pytest.approx(0.4)
    assert max(block.columns["current_A"][0] for block in blocks) > 1e-6
    spacing = blocks[5].time_s[0] - blocks[4].time_s[0]
    assert spacing == pytest.approx(0.1, rel=1e-3)


def test_the_partner_holds_a_voltage() -> None:
    async def act(driver: PalmSens, simulator: Any) -> tuple[list[Block], EndingKind]:
        return await measured(driver, ConstantVoltage(voltage_V=0.5, duration_s=20.0))

    blocks, kind = with_partner(act)
    assert kind is EndingKind.COMPLETED
    # The first three intervals are sampled densely: 20, 45 and 20 times.
    assert len(blocks) == pytest.approx(17 + 85, abs=3)


def test_the_partner_is_aborted_and_its_cell_is_off() -> None:
    async def act(driver: PalmSens, simulator: Any) -> bool:
        async with driver.run(ConstantVoltage(voltage_V=0.5, duration_s=600.0), LIMITS) as running:
            async for _ in running:
                break
        assert (await driver.quiet()).confirmed
        return bool(simulator.cell_powered)

    assert with_partner(act) is False


def test_a_runtime_error_of_the_partner_leaves_no_cell_on() -> None:
    async def act(driver: PalmSens, simulator: Any) -> bool:
        driver._model = driver._modelled("nexus")
        driver.capabilities = capabilities(driver._model)
        limits = ElectricalLimits(voltage_min_V=-5.0, voltage_max_V=5.0, current_max_A=1e-3)
        technique = ConstantVoltage(voltage_V=3.0, duration_s=10.0)
        with pytest.raises(InstrumentError, match="potential not possible"):
            await measured(driver, technique, limits)
        return bool(simulator.cell_powered)

    assert with_partner(act) is False
