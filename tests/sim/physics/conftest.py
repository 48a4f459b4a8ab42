"""Worlds under pressure, full cells with their courses, and what a spectrum is taken at."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench_sim.physics.cathode import Cathode
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.physics.fixture import SERVO_PRESS, Fixture
from cellbench_sim.presets import load_preset
from cellbench_sim.presets.cathode import CathodeElectrode
from cellbench_sim.world import World

PressedWorld = Callable[..., World]


@pytest.fixture
def pressed_world() -> PressedWorld:
    """A world two minutes after the press began to ramp, at 0.5 MPa/s on 10 mm."""

    def build(
        name: str, seed: int = 0, pressure_Pa: float = 5e6, fixture: Fixture = SERVO_PRESS
    ) -> World:
        world = World(load_preset(name), seed=seed, fixture=fixture)
        world.press.ramp_to(pressure_Pa * world.cell.area_m2, 40.0)
        world.advance_to(120.0)
        return world

    return build


@pytest.fixture
def frequencies_Hz() -> NDArray[np.float64]:
    return np.logspace(6, -1, 71)


class FullCell:
    """A world with a cathode, pressed, and the currents and capacities that its study speaks of."""

    def __init__(
        self,
        name: str,
        one_c_mA_per_g: float,
        fixture: Fixture = SERVO_PRESS,
        seed: int = 0,
        temperature_K: float = 298.15,
    ) -> None:
        preset = load_preset(name)
        assert isinstance(preset.working, CathodeElectrode)
        chamber = ChamberSettings(set_point_K=temperature_K)
        self.world = World(preset, seed=seed, fixture=fixture, chamber=chamber)
        self.mass_kg = preset.working.loading_kg_per_m2 * self.world.cell.area_m2
        self._one_c_A = one_c_mA_per_g * self.mass_kg
        self.press(5.0)

    def press(self, pressure_MPa: float) -> None:
        self.world.press.ramp_to(pressure_MPa * 1e6 * self.world.cell.area_m2, 100.0)
        self.world.advance_to(self.world.time_s + 120.0)

    def drive(
        self, c_rate: float, cut_off_V: float, *, step_s: float = 10.0, at_most_s: float = 1e6
    ) -> float:
        """Run a current to a terminal voltage; return mAh/g, the crossing interpolated."""
        world, current_A = self.world, c_rate * self._one_c_A
        world.apply_current(current_A)
        start_s, before_V = world.time_s, world.terminals()[0]
        elapsed_s = 0.0
        while elapsed_s < at_most_s:
            world.advance_to(world.time_s + step_s)
            elapsed_s = world.time_s - start_s
            voltage_V = world.terminals()[0]
            if (voltage_V - cut_off_V) * current_A >= 0.0:
                passed = (cut_off_V - before_V) / (voltage_V - before_V + 1e-6 * current_A)
                elapsed_s -= step_s * (1.0 - min(1.0, max(0.0, passed)))
                break
            before_V = voltage_V
        world.open_circuit()
        return abs(current_A) * elapsed_s / self.mass_kg / 3600.0

    def cycle(self, c_rate: float, low_V: float, high_V: float) -> tuple[float, float]:
        return self.drive(c_rate, high_V), self.drive(-c_rate, low_V)

    def rest(self, duration_s: float) -> None:
        self.world.open_circuit()
        self.world.advance_to(self.world.time_s + duration_s)


@pytest.fixture
def full_cell() -> type[FullCell]:
    return FullCell


@pytest.fixture
def half_charged_world() -> Callable[[str], World]:
    """A world whose cathode was charged for an hour and has rested for ten."""

    def build(name: str) -> World:
        world = World(load_preset(name), seed=0)
        world.press.ramp_to(5e6 * world.cell.area_m2, 40.0)
        world.advance_to(120.0)
        assert isinstance(world.cell.working, Cathode)
        # What the first charge loses flows one way only; a sinusoid wants that behind it.
        world.cell.working.lost_C = world.cell.working.capacity_C
        world.apply_current(0.4 * world.cell.working.capacity_C / 3600.0)
        world.advance_to(3720.0)
        world.open_circuit()
        world.advance_to(40_000.0)
        return world

    return build
