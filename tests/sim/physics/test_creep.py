"""Lithium squeezed through the separator by too much pressure."""

from collections.abc import Callable

import pytest

from cellbench_sim.physics.fixture import LABORATORY_PRESS
from cellbench_sim.physics.shorts import Shunt
from cellbench_sim.world import World


def shunt_of(world: World) -> Shunt:
    assert world.cell.shunt is not None
    return world.cell.shunt


@pytest.mark.parametrize("seed", range(10))
def test_30_megapascals_short_a_lithium_cell_within_ten_minutes(
    pressed_world: Callable[..., World], seed: int
) -> None:
    world = pressed_world("LYC_PMMA", seed=seed, pressure_Pa=30e6)
    world.apply_current(1e-4)
    world.advance_to(600.0)

    assert shunt_of(world).collapse.begun
    assert abs(world.terminals()[0]) < 26 * 1e-4


@pytest.mark.parametrize("seed", range(10))
def test_an_hour_at_22_megapascals_does_not_short(
    pressed_world: Callable[..., World], seed: int
) -> None:
    world = pressed_world("LYC_PMMA", seed=seed, pressure_Pa=22e6)
    world.advance_to(3720.0)

    assert not shunt_of(world).collapse.begun


def test_the_collapse_goes_in_steps(pressed_world: Callable[..., World]) -> None:
    world = pressed_world("LYC_PMMA", pressure_Pa=22e6)
    world.press.ramp_to(30e6 * world.cell.area_m2, 40.0)
    conductances = set()
    for _ in range(1200):
        world.advance_to(world.time_s + 0.1)
        conductances.add(shunt_of(world).collapse.conductance_S)

    assert 4 <= len(conductances) <= 6
    assert 1 / 25 <= max(conductances) <= 1 / 10


def test_a_blocking_cell_bears_300_megapascals(pressed_world: Callable[..., World]) -> None:
    world = pressed_world("LYC_blocking", fixture=LABORATORY_PRESS)
    world.press.ramp_to(300e6 * world.cell.area_m2, 400.0)
    world.advance_to(600.0)

    assert world.stack_pressure_Pa() == pytest.approx(300e6, rel=0.01)
    assert world.cell.shunt is None
