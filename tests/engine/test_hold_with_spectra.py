"""A hold and the spectra in it as one program: driver and emulated potentiostat, on a cell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.instruments.readings import Block, Ending, EndingKind
from cellbench.instruments.techniques import (
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Impedance,
)
from cellbench_drivers.palmsens import PalmSens
from cellbench_sim.bench import SimulatedBench

LIMITS = ElectricalLimits(voltage_min_V=-1.0, voltage_max_V=1.0, current_max_A=1e-2)
HOLD = ConstantVoltage(
    voltage_V=0.05,
    duration_s=3000.0,
    interval_s=30.0,
    spectra=Impedance(frequency_max_Hz=1e5, frequency_min_Hz=1.0, amplitude_V=0.01, bias_V=0.05),
    spectra_every_s=1000.0,
)

Scenario = Callable[[SimulatedBench, PalmSens], Awaitable[Any]]


def on_the_bench(scenario: Scenario) -> Any:
    async def main() -> Any:
        async with SimulatedBench("LYC_PMMA", seed=1) as bench:
            driver = PalmSens("potentiostat", bench.connect("potentiostat"), {"f_max": "1 MHz"})
            await driver.connect()
            return await scenario(bench, driver)

    return run(main(), virtual=True)


async def measured(driver: PalmSens, hold: ConstantVoltage) -> tuple[list[Block], Ending | None]:
    async with driver.run(hold, LIMITS) as running:
        blocks = [block async for block in running]
    return blocks, running.ending


def test_spectra_come_on_their_schedule_and_the_hold_is_measured_up_to_them() -> None:
    async def scenario(_bench: SimulatedBench, driver: PalmSens) -> Any:
        return await measured(driver, HOLD)

    blocks, ending = on_the_bench(scenario)
    assert ending is not None
    assert ending.kind is EndingKind.COMPLETED
    assert not any(flag for block in blocks for flag in block.flags)
    spectra = [block.time_s[0] for block in blocks if "frequency_Hz" in block.columns]
    assert HOLD.spectra is not None
    assert len(spectra) == 2 * len(HOLD.spectra.frequencies_Hz)
    rows = [block.time_s[0] for block in blocks if "current_A" in block.columns]
    start_s = rows[0] - 30.0 / 200
    for number in (1, 2):
        begun_s = min(each for each in spectra if each > start_s + 1000 * number)
        assert begun_s == pytest.approx(start_s + 1000 * number, abs=0.2)
        assert max(each for each in rows if each < begun_s) == pytest.approx(begun_s, abs=0.2)
    assert rows[-1] == pytest.approx(start_s + 3000, abs=0.1)


def test_it_ends_by_itself_when_its_host_is_lost() -> None:
    async def scenario(bench: SimulatedBench, driver: PalmSens) -> tuple[bool, float, bool]:
        running = driver.run(HOLD, LIMITS)
        blocks = aiter(await running.__aenter__())
        await anext(blocks)
        bench.potentiostat.hang_up()
        await asyncio.sleep(1500.0)  # the first spectrum has passed, with nobody to listen
        held_V = bench.world.terminals()[0]
        on = bench.potentiostat.front.cell_is_on
        await asyncio.sleep(1500.0)
        return on, held_V, bench.potentiostat.front.cell_is_on

    on, held_V, still_on = on_the_bench(scenario)
    assert on
    assert held_V == pytest.approx(0.05, abs=1e-3)
    assert not still_on


def test_a_cut_off_ends_the_whole_hold() -> None:
    never_so_much = CutOff(quantity="current", above=False, value=1.0, after_s=1500.0)

    async def scenario(bench: SimulatedBench, driver: PalmSens) -> Any:
        blocks, ending = await measured(
            driver, HOLD.model_copy(update={"cut_offs": (never_so_much,)})
        )
        return blocks, ending, bench.potentiostat.front.cell_is_on

    blocks, ending, on = on_the_bench(scenario)
    assert ending is not None
    assert ending.kind is EndingKind.CUT_OFF
    assert blocks[-1].time_s[0] - blocks[0].time_s[0] == pytest.approx(1500.0, abs=60.0)
    assert not on


def test_spectra_that_take_longer_than_their_interval_are_left_out_not_made_up_for() -> None:
    slow = HOLD.model_copy(
        update={
            "spectra_every_s": 10.0,
            "duration_s": 300.0,
            "interval_s": 1.0,
            "spectra": Impedance(
                frequency_max_Hz=1e3, frequency_min_Hz=0.1, amplitude_V=0.01, bias_V=0.05
            ),
        }
    )

    async def scenario(_bench: SimulatedBench, driver: PalmSens) -> Any:
        return await measured(driver, slow)

    blocks, ending = on_the_bench(scenario)
    assert ending is not None
    assert ending.kind is EndingKind.COMPLETED
    assert blocks[-1].time_s[0] - blocks[0].time_s[0] < 300.0 + 120.0
