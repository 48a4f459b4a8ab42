"""The conformance kit finds what is wrong: shipped drivers with one thing broken on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cellbench.instruments.readings import ChamberState, Outcome
from cellbench.testing import DummyCell, NonConformance, Rig, Subject, carry_out, checks_for
from cellbench.transport import Stream
from cellbench_drivers.eurotherm import Eurotherm
from cellbench_drivers.keithley import Keithley
from cellbench_sim.emulators import Emulator, Timebase
from cellbench_sim.emulators.eurotherm import EurothermEmulator
from cellbench_sim.emulators.keithley import KeithleyEmulator
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World


@asynccontextmanager
async def on_a_dummy_cell() -> AsyncIterator[Rig]:
    timebase, cell = Timebase(), DummyCell()
    timebase.start()
    world: Any = cell
    device = KeithleyEmulator.from_bench("smu", timebase, world, seed=1, options={})
    yield Rig(_plug(device), energised=lambda: cell.energised)
    timebase.stop()


@asynccontextmanager
async def in_a_chamber() -> AsyncIterator[Rig]:
    timebase = Timebase()
    timebase.start()
    world = World(load_preset("LYC"), seed=1, chamber=ChamberSettings(set_point_K=298.15))
    device = EurothermEmulator.from_bench("chamber", timebase, world, seed=1, options={})
    yield Rig(_plug(device), temperature_K=lambda: world.air_temperature_K)
    timebase.stop()


def _plug(device: Emulator) -> Any:
    async def connect() -> Stream:
        return device.connect()

    return connect


class LeavesTheCellOn(Keithley):
    async def _leave(self, run: Any, program: Any) -> None:
        del program
        run.end()


class KnowsNoFear(Keithley):
    async def quiet(self) -> Outcome:
        return Outcome(self.name, "surely off", confirmed=True)


class PromisesAPoint(Keithley):
    """Lists spectra that it cannot take."""

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        super().__init__(name, stream, options)
        techniques = self.capabilities.techniques | {"impedance"}
        self.capabilities = dataclasses.replace(self.capabilities, techniques=techniques)


class TakesAnything(Eurotherm):
    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        super().__init__(name, stream, {"temperature max": "800 degC", **options})
        self._wide = self.capabilities
        self._said = dataclasses.replace(self.capabilities, temperature_max_K=373.15)
        self.capabilities = self._said

    async def set_temperature(self, temperature_K: float) -> None:
        self.capabilities = self._wide
        try:
            await super().set_temperature(temperature_K)
        finally:
            self.capabilities = self._said


class RaisesWhatItLikes(Eurotherm):
    async def read(self) -> ChamberState:
        try:
            return await super().read()
        except Exception as error:
            raise ValueError(str(error)) from error


@pytest.mark.parametrize(
    ("driver", "check", "says"),
    [
        (LeavesTheCellOn, "safe_when_cancelled", "the cell stays on"),
        (KnowsNoFear, "quiet_is_honest_on_a_dead_line", "takes silence"),
        (PromisesAPoint, "capabilities_make_sense", "without a band"),
        (TakesAnything, "temperature_out_of_range_is_refused", "it accepts a set point"),
        (RaisesWhatItLikes, "safe_when_work_fails", "quiet raises ValueError"),
    ],
)
def test_a_broken_driver_is_found_out(driver: Any, check: str, says: str) -> None:
    rig = on_a_dummy_cell if driver.role == "channel" else in_a_chamber
    (found,) = (each for each in checks_for(driver.role) if str(each) == check)
    with pytest.raises(NonConformance, match=says):
        carry_out(found, Subject(driver, {}, rig))


@pytest.mark.long
def test_a_check_that_waits_for_ever_fails_too() -> None:
    class Sleeps(Eurotherm):
        async def quiet(self) -> Outcome:
            while True:
                await super().read()

    (found,) = (each for each in checks_for("chamber") if str(each) == "quiet_after_connecting")
    with pytest.raises(NonConformance, match="more than 400 s"):
        carry_out(found, Subject(Sleeps, {}, in_a_chamber))
