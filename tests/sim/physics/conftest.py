"""Worlds under pressure, and what a spectrum is taken at."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench_sim.physics.fixture import SERVO_PRESS, Fixture
from cellbench_sim.presets import load_preset
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
