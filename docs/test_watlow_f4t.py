"""The driver of watlow_f4t.py, put through the conformance kit against an emulator."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from watlow_f4t import WatlowF4T

from cellbench.testing import Check, Rig, Subject, carry_out, checks_for
from cellbench.transport import Stream
from cellbench_sim.emulators import Timebase
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

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
    """A chamber of the simulated bench: how to connect to it, and its true temperature."""
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


SUBJECT = Subject(WatlowF4T, {"temperature max": "150 degC"}, rig, name="chamber")


@pytest.mark.parametrize("check", checks_for("chamber"), ids=str)
def test_it_conforms(check: Check) -> None:
    carry_out(check, SUBJECT)
