"""The chamber: approach, overshoot, the lag of the stack, and the room without it."""

import pytest

from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World


def world_with(settings: ChamberSettings | None = None, seed: int = 0) -> World:
    return World(load_preset("LYC_blocking"), seed=seed, chamber=settings)


def test_a_chamber_starts_at_25_degrees_and_holds() -> None:
    world = world_with()
    world.advance_to(86_400.0)

    assert world.air_temperature_K == world.cell_temperature_K == 298.15


def test_the_air_overshoots_a_little_and_the_stack_lags() -> None:
    world = world_with()
    world.chamber.set_point_K = 318.15
    air, stack = [], []
    for minute in range(1, 91):
        world.advance_to(minute * 60.0)
        air.append(world.air_temperature_K)
        stack.append(world.cell_temperature_K)

    assert 318.15 < max(air) < 318.65
    assert all(below <= above + 0.6 for below, above in zip(stack, air, strict=True))
    assert stack[5] < air[5] - 3
    assert stack[-1] == pytest.approx(318.15, abs=0.01)
    assert not world.chamber.changing


def test_the_rate_limit_is_kept() -> None:
    world = world_with()
    world.chamber.rate_limit_K_per_min = 1.0
    world.chamber.set_point_K = 318.15
    world.advance_to(600.0)

    assert world.air_temperature_K == pytest.approx(308.15, abs=2.0)
    assert world.chamber.output_fraction > 0


def test_without_a_set_point_the_air_wanders_with_the_room() -> None:
    world = world_with(ChamberSettings(set_point_K=None))
    seen = []
    for hour in range(1, 49):
        world.advance_to(hour * 3600.0)
        seen.append(world.air_temperature_K)

    assert 286.0 < min(seen) < 290.0
    assert 294.0 < max(seen) < 298.3


def test_rooms_of_different_seeds_differ_and_of_equal_seeds_do_not() -> None:
    temperatures = [
        world_with(ChamberSettings(set_point_K=None), seed).air_temperature_K for seed in (1, 1, 2)
    ]

    assert temperatures[0] == temperatures[1] != temperatures[2]


def test_releasing_the_set_point_lets_the_air_drift_to_the_room() -> None:
    world = world_with()
    world.chamber.set_point_K = None
    world.advance_to(6 * 3600.0)

    assert world.air_temperature_K == pytest.approx(world.chamber.ambient_K, abs=1.5)
    assert world.chamber.output_fraction == 0.0
