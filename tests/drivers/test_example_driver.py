"""The worked example of docs/drivers.md: found by its file, and put through the conformance kit."""

from __future__ import annotations

import random
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cellbench.bench import BenchFile, InstrumentEntry, declared
from cellbench.instruments.registry import driver_names, load_driver
from cellbench.testing import Check, Rig, Subject, carry_out, checks_for, failures, results
from cellbench.transport import Stream
from cellbench_sim.emulators import Timebase
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

DOCS = Path(__file__).parents[2] / "docs"
F4T = load_driver("watlow_f4t.py:WatlowF4T", beside=DOCS)
_ZERO_CELSIUS_K = 273.15


class F4TEmulator(LineEmulator):
    """The five messages of an F4T that the driver knows, in degrees Celsius."""

    def __init__(self, name: str, timebase: Timebase, world: World) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._noise = random.Random(name)  # noqa: S311 (noise)

    def _line(self, text: str) -> None:
        self._world.advance_to(self._timebase.now())
        chamber = self._world.chamber
        header, _, value = text.partition(" ")
        answers = {
            "*IDN?": "Watlow Electric,F4T,1234,04.05.0007",
            ":UNIT:TEMPERATURE?": "C",
            ":SOURCE:CLOOP1:PVALUE?": f"{self._celsius(chamber.air_temperature_K):.2f}",
            ":SOURCE:CLOOP1:SPOINT?": f"{(chamber.set_point_K or 0.0) - _ZERO_CELSIUS_K:.1f}",
            ":SOURCE:CLOOP1:ERROR?": "NONE",
        }
        if header == ":SOURCE:CLOOP1:SPOINT":
            chamber.set_point_K = float(value) + _ZERO_CELSIUS_K
        elif text in answers:
            self._send(f"{answers[text]}\n".encode())

    def _celsius(self, temperature_K: float) -> float:
        return temperature_K - _ZERO_CELSIUS_K + self._noise.gauss(0.0, 0.02)


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    timebase = Timebase()
    timebase.start()
    world = World(load_preset("LYC"), seed=1, chamber=ChamberSettings(set_point_K=298.15))
    device = F4TEmulator("chamber", timebase, world)

    async def connect() -> Stream:
        return device.connect()

    def temperature_K() -> float:
        world.advance_to(timebase.now())
        return world.air_temperature_K

    yield Rig(connect, temperature_K=temperature_K)
    timebase.stop()


SUBJECT = Subject(F4T, {"temperature max": "150 degC"}, rig, name="chamber")


@pytest.mark.long
@pytest.mark.parametrize("check", checks_for("chamber"), ids=str)
def test_the_example_conforms(check: Check) -> None:
    carry_out(check, SUBJECT)


@pytest.mark.long
def test_all_checks_are_carried_out_without_pytest_too() -> None:
    assert failures(SUBJECT) == []
    assert [str(each)[:2] for each in results(SUBJECT)] == ["ok"] * len(checks_for("chamber"))


def test_the_example_is_short() -> None:
    assert len((DOCS / "watlow_f4t.py").read_text("utf-8").splitlines()) < 150


def test_a_bench_file_names_it_by_its_file() -> None:
    entry = InstrumentEntry(driver="watlow_f4t.py:WatlowF4T", port="192.0.2.20")
    bench = declared(
        BenchFile(bench="oven", instruments={"oven": entry}), simulated=False, beside=DOCS
    )
    assert bench.chamber is not None
    assert bench.chamber.capabilities.model == "Watlow F4T"


def test_the_page_of_drivers_says_what_they_say_of_themselves() -> None:
    """`python docs/make_drivers.py` writes it anew."""
    made = runpy.run_path(str(DOCS / "make_drivers.py"))
    assert (DOCS / "drivers.md").read_text(encoding="utf-8") == made["page"]()


@pytest.mark.parametrize("name", driver_names())
def test_every_driver_says_what_it_is_made_from_and_what_nobody_has_verified(name: str) -> None:
    driver: Any = load_driver(name)
    told = (sys.modules[driver.__module__].__doc__ or "").lower()
    if driver.serial is None and "no wire" in told:
        return  # a person works it
    assert "source" in told
    assert any(word in told for word in ("verified", "tried", "recalled"))
