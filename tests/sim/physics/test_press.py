"""The press and its fixtures: ramps, the on-board loop, what a locked ram feels."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from cellbench_sim.physics.fixture import SCREW_JIG, SERVO_PRESS, SPRING, Fixture
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

FORCE_N = 393.0


@pytest.fixture
def world() -> World:
    return World(load_preset("LYC_PMMA"), seed=0)


def test_a_ramp_arrives_with_a_small_overshoot(world: World) -> None:
    world.press.ramp_to(FORCE_N, 40.0)
    assert world.press.moving
    highest_N = 0.0
    for tick in range(1, 300):
        world.advance_to(tick / 10)
        highest_N = max(highest_N, world.force_N())

    assert world.press.at_target
    assert not world.press.moving
    assert FORCE_N < highest_N < 1.02 * FORCE_N
    assert world.stack_pressure_Pa() == pytest.approx(5.0e6, rel=2e-3)


def test_the_set_point_ramps_at_the_rate_asked_for(world: World) -> None:
    world.press.ramp_to(FORCE_N, 10.0)
    world.advance_to(20.0)

    assert world.press.setpoint_N == pytest.approx(200.0)
    assert 180.0 < world.force_N() < 200.0


def test_hold_keeps_the_force_of_the_moment(world: World) -> None:
    world.press.ramp_to(FORCE_N, 10.0)
    world.advance_to(20.0)
    held_N = world.force_N()
    world.press.hold()
    world.advance_to(3600.0)

    assert world.press.setpoint_N == held_N
    assert world.force_N() == pytest.approx(held_N, abs=SERVO_PRESS.deadband_N + 0.5)


def test_the_servo_leaks_within_its_deadband_and_pumps(world: World) -> None:
    world.press.ramp_to(FORCE_N, 40.0)
    forces = []
    for hour in range(1, 48):
        world.advance_to(hour * 3600.0)
        forces.append(world.force_N())

    assert min(forces) > FORCE_N - SERVO_PRESS.deadband_N - 0.5
    assert max(forces) - min(forces) > 0.5 * SERVO_PRESS.deadband_N
    assert any(later > earlier + 3.0 for earlier, later in pairwise(forces))


def test_a_stopped_press_leaks_without_end(world: World) -> None:
    world.press.ramp_to(FORCE_N, 40.0)
    world.advance_to(60.0)
    world.press.stop()
    world.advance_to(60.0 + 48 * 3600.0)

    assert world.force_N() == pytest.approx(0.786 * FORCE_N, rel=0.02)


def test_unloading_lifts_off(world: World) -> None:
    world.press.ramp_to(FORCE_N, 40.0)
    world.advance_to(60.0)
    world.press.unload(40.0)
    world.advance_to(120.0)

    assert world.force_N() == 0.0
    assert not world.press.moving


def test_too_much_force_trips_latches_and_releases(world: World) -> None:
    world.press.max_force_N = 300.0
    world.press.ramp_to(FORCE_N, 40.0)
    world.advance_to(60.0)

    assert world.press.over_force
    assert world.force_N() == 0.0
    world.press.clear_over_force()
    assert not world.press.over_force


@pytest.mark.parametrize(("force_N", "rate_N_per_s"), [(-1.0, 10.0), (10.0, 0.0)])
def test_an_impossible_ramp_is_refused(world: World, force_N: float, rate_N_per_s: float) -> None:
    with pytest.raises(ValueError, match="cannot ramp"):
        world.press.ramp_to(force_N, rate_N_per_s)


def pressure_change_MPa(world: World, temperature_K: float) -> float:
    before_Pa = world.stack_pressure_Pa()
    world.chamber.set_point_K = temperature_K
    world.advance_to(world.time_s + 7200.0)
    return (world.stack_pressure_Pa() - before_Pa) / 1e6


def test_a_screw_jig_answers_to_warmth_and_a_spring_hardly(
    pressed_world: Callable[..., World],
) -> None:
    jig = pressure_change_MPa(pressed_world("LYC_PMMA", fixture=SCREW_JIG), 318.15)
    spring = pressure_change_MPa(pressed_world("LYC_PMMA", fixture=SPRING), 318.15)

    assert jig == pytest.approx(20 * 0.2e-6 * 10e6 / 78.54, rel=0.05)
    assert abs(spring) < 0.01


@pytest.mark.parametrize("fixture", [SERVO_PRESS, SCREW_JIG])
def test_creep_takes_the_pressure_of_a_constant_gap_and_the_servo_keeps_it(
    pressed_world: Callable[..., World], fixture: Fixture
) -> None:
    world = pressed_world("LYC_PMMA", pressure_Pa=18e6, fixture=fixture)
    world.advance_to(world.time_s + 4 * 3600.0)

    kept = world.stack_pressure_Pa() / 18e6
    assert kept == pytest.approx(1.0, abs=0.01) if fixture.servo else kept < 0.97


def test_voids_raise_the_pressure_of_a_constant_gap(pressed_world: Callable[..., World]) -> None:
    world = pressed_world("LYC_PMMA", pressure_Pa=2e6, fixture=SCREW_JIG)
    before_Pa = world.stack_pressure_Pa()
    world.apply_current(1e-3 * world.cell.area_m2 * 1e4)
    world.advance_to(world.time_s + 3600.0)

    assert world.stack_pressure_Pa() - before_Pa > 0.1e6


def test_line_pressure_and_position_follow_the_force(world: World) -> None:
    world.press.ramp_to(FORCE_N, 40.0)
    world.advance_to(60.0)

    assert world.press.pressure_bar == pytest.approx(3.93, rel=0.01)
    assert world.press.position_m == pytest.approx(39.3e-6, rel=0.01)
