"""The world as one thing: its time grid, its repeatability, its wiring."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbench_sim.physics.cell import Cell
from cellbench_sim.physics.chamber import ChamberSettings
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

PRESETS = {name: load_preset(name) for name in ("LYC", "LYC_PMMA", "LYC_blocking")}
MA = 1e-3
Times = list[float]
COMMAND_TIMES_S = (0.0, 31.37, 100.0, 160.05, 300.123)
END_S = 420.0


def build(seed: int = 3, preset: str = "LYC") -> World:
    return World(PRESETS[preset], seed=seed)


def command(world: World, number: int) -> None:
    """A course that presses, cycles into the irregular phase, warms and rests."""
    if number == 0:
        world.press.ramp_to(393.0, 20.0)
    elif number == 1:
        world.apply_current(0.6 * MA)
    elif number == 2:
        world.apply_voltage(-0.3)
    elif number == 3:
        world.chamber.set_point_K = 303.15
        world.apply_current(-0.7 * MA)
    else:
        world.open_circuit()


def run(looks_s: Times, seed: int = 3) -> World:
    """Follow the course, looking at the world at the given times as well."""
    world = build(seed)
    events = [(time_s, number) for number, time_s in enumerate(COMMAND_TIMES_S)]
    for time_s, number in sorted(events + [(look_s, -1) for look_s in looks_s]):
        world.advance_to(time_s)
        if number < 0:
            world.terminals()
            world.impedance(np.array([1e5, 1.0]))
        else:
            command(world, number)
    world.advance_to(END_S)
    return world


@pytest.mark.long
@settings(max_examples=25)
@given(looks_s=st.lists(st.floats(0.0, END_S), max_size=60))
def test_looking_more_often_changes_nothing(looks_s: Times) -> None:
    assert run(looks_s).snapshot() | {"time_s": END_S} == run([]).snapshot()


@pytest.mark.long
@settings(max_examples=25)
@given(cuts_s=st.lists(st.floats(100.0, 5000.0), min_size=1, max_size=20))
def test_advancing_in_pieces_equals_advancing_at_once(cuts_s: Times) -> None:
    pieces, whole = build(), build()
    for world in (pieces, whole):
        world.press.ramp_to(393.0, 20.0)
        world.advance_to(60.0)
        world.apply_current(0.6 * MA)
    for cut_s in sorted(cuts_s):
        pieces.advance_to(cut_s)
    whole.advance_to(max(cuts_s))

    assert pieces.snapshot() == whole.snapshot()
    assert pieces.terminals() == whole.terminals()


def trace(world: World, seconds: int) -> Times:
    voltages = []
    for _ in range(seconds):
        world.advance_to(world.time_s + 0.7)
        voltages.append(world.terminals()[0])
    return voltages


def test_the_same_seed_gives_the_same_cell_and_another_seed_another() -> None:
    traces = []
    for seed in (5, 5, 6):
        world = build(seed)
        world.press.ramp_to(393.0, 40.0)
        world.advance_to(60.0)
        world.apply_current(0.6 * MA)
        traces.append(trace(world, 300))

    assert traces[0] == traces[1] != traces[2]


@settings(max_examples=10)
@given(pause_s=st.floats(0.0, END_S))
def test_a_restored_world_repeats_itself(pause_s: float) -> None:
    world = run([])
    world.apply_current(0.7 * MA)
    world.advance_to(END_S + pause_s)
    press, state = world.press, world.snapshot()
    first = trace(world, 200)
    world.restore(state)

    assert world.press is press
    assert world.time_s == END_S + pause_s
    assert trace(world, 200) == first


def test_a_snapshot_is_not_touched_by_what_comes_after() -> None:
    world = run([])
    state = world.snapshot()
    world.apply_current(0.7 * MA)
    world.advance_to(END_S + 100.0)
    world.restore(state)

    assert world.snapshot() == state


def test_time_does_not_run_backwards() -> None:
    world = build()
    world.advance_to(10.0)
    with pytest.raises(ValueError, match="forward"):
        world.advance_to(9.999)


def test_an_applied_voltage_is_at_the_terminals_and_an_applied_current_flows() -> None:
    world = build()
    world.advance_to(5.0)
    world.apply_voltage(0.1)
    assert world.terminals()[0] == 0.1
    world.apply_current(0.2 * MA)
    assert world.terminals()[1] == 0.2 * MA
    world.advance_to(12.34)
    assert world.terminals()[1] == 0.2 * MA


def test_a_fresh_symmetric_cell_rests_at_zero_volts() -> None:
    world = build()
    world.advance_to(3600.0)

    assert world.terminals() == (0.0, 0.0)


@pytest.mark.parametrize("current_A", [0.01 * MA, 0.03 * MA, 0.06 * MA, -0.4 * MA])
def test_a_voltage_hold_draws_the_current_that_needs_this_voltage(current_A: float) -> None:
    by_current, by_voltage = build(preset="LYC_PMMA"), build(preset="LYC_PMMA")
    by_current.apply_current(current_A)
    by_current.advance_to(30.0)
    voltage_V, _ = by_current.terminals()
    by_voltage.apply_voltage(voltage_V)
    by_voltage.advance_to(30.0)

    assert by_voltage.terminals()[1] == pytest.approx(current_A, rel=1e-4)


def test_reversed_leads_reverse_what_the_cell_feels_and_not_what_the_instrument_sees() -> None:
    world = build()
    world.polarity = -1
    world.apply_current(0.2 * MA)
    world.advance_to(3600.0)

    assert world.terminals()[0] > 0
    assert world.terminals()[1] == 0.2 * MA
    assert world.cell.current_A == -0.2 * MA
    with pytest.raises(ValueError, match="polarity"):
        world.polarity = 0


def stepped(name: str, voltage_V: float) -> World:
    """Pressed, and a voltage applied a minute later, between two nodes of the grid."""
    world = World(load_preset(name), seed=3)
    world.press.ramp_to(5e6 * world.cell.area_m2, 100.0)
    world.advance_to(60.03)
    world.apply_voltage(voltage_V)
    return world


@pytest.mark.parametrize(
    ("name", "voltage_V"),
    [("NMC811_LYC_PMMA_Li", 4.0), ("NMC811_LYC_PMMA_Li", 3.75), ("LYC_PMMA_carbon_Li", 3.5)],
)
def test_the_current_after_a_step_of_the_voltage_carries_the_charge_that_passes(
    name: str, voltage_V: float
) -> None:
    world = stepped(name, voltage_V)
    times_s, currents_A = (
        np.concatenate([np.geomspace(1e-4, 1.0, 800), np.arange(1.05, 60, 0.05)]),
        [],
    )
    start_C = world.cell.passed_C
    for time_s in times_s:
        world.advance_to(60.03 + time_s)
        currents_A.append(world.terminals()[1])
    seen_C = currents_A[0] * times_s[0] + np.trapezoid(currents_A, times_s)
    world.open_circuit()
    assert seen_C == pytest.approx(world.cell.passed_C - start_C, rel=1e-3)


def test_looking_often_after_a_step_of_the_voltage_changes_nothing() -> None:
    watched, alone = (stepped("NMC811_LYC_PMMA_Li", 4.0) for _ in range(2))
    for time_s in np.geomspace(1e-4, 200.0, 300):
        watched.advance_to(60.03 + time_s)
        watched.terminals()
    watched.advance_to(300.0)
    alone.advance_to(300.0)
    assert watched.snapshot() == alone.snapshot()


def test_steps_of_a_minute_follow_steps_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plating and stripping at 0.5 mA/cm2: voltages, and the force, every 10 s."""

    def course() -> tuple[list[tuple[float, float]], int]:
        world, seen, steps = build(preset="LYC_PMMA"), [], 0
        advance = world.model.advance

        def counted(time_s: float, duration_s: float) -> None:
            nonlocal steps
            steps += 1
            advance(time_s, duration_s)

        world.press.ramp_to(393.0, 40.0)
        world.advance_to(600.0)
        monkeypatch.setattr(world.model, "advance", counted)
        for sign in (1, -1):
            world.apply_current(sign * 0.39 * MA)
            for _ in range(180):
                world.advance_to(world.time_s + 10.0)
                seen.append((world.terminals()[0], world.force_N()))
        return seen, steps

    coarse, few = course()
    monkeypatch.setattr(Cell, "longest_step_s", 0.0)
    fine, many = course()

    assert few < 150
    assert many > 3000
    assert np.array(coarse)[:, 0] == pytest.approx(np.array(fine)[:, 0], abs=0.1e-3, rel=0.0)
    assert np.array(coarse)[:, 1] == pytest.approx(np.array(fine)[:, 1], abs=0.5, rel=0.0)


def test_a_broken_wire_leaves_the_cell_at_rest_and_the_instrument_at_its_compliance() -> None:
    world = build()
    world.apply_current(0.2 * MA)
    world.advance_to(10.0)
    world.connected = False

    assert abs(world.terminals()[0]) > 1e6
    assert world.cell.current_A == 0.0
    assert np.abs(world.impedance(np.array([1.0, 1e3]))).min() > 1e9
    world.apply_voltage(1.0)
    assert world.terminals()[0] == 1.0
    assert world.terminals()[1] < 1e-9
    world.connected = True
    assert world.terminals()[1] > 1e-6


def test_squeezing_the_press_lowers_the_voltage_that_the_same_current_needs() -> None:
    world = build(preset="LYC_PMMA")
    world.press.ramp_to(80.0, 40.0)
    world.advance_to(60.0)
    world.apply_current(0.2 * MA)
    world.advance_to(120.0)
    loose_V, _ = world.terminals()
    world.press.ramp_to(393.0, 40.0)
    world.advance_to(180.0)

    assert world.terminals()[0] < 0.7 * loose_V


def test_a_warm_chamber_lowers_the_electrolyte_along_arrhenius() -> None:
    world = build(preset="LYC_blocking")
    cool = world.impedance(np.array([1e6]))[0].real
    world.chamber.set_point_K = 323.15
    world.advance_to(7200.0)

    assert world.impedance(np.array([1e6]))[0].real < 0.45 * cool


def test_a_bench_without_chamber_starts_at_the_temperature_of_the_room() -> None:
    world = World(PRESETS["LYC"], seed=1, chamber=ChamberSettings(set_point_K=None))

    assert world.cell_temperature_K == world.chamber.ambient_K


FULL = {name: load_preset(name) for name in ("NCM85_InLi", "NMC811_LYC_Li", "LYC_carbon_Li")}


def full_course(name: str, looks_s: Times) -> World:
    """Charge, hold, rest and discharge, looking at the given times as well."""
    world = World(FULL[name], seed=1)
    commands: tuple[tuple[float, Callable[[], None]], ...] = (
        (0.0, lambda: world.press.ramp_to(393.0, 20.0)),
        (40.0, lambda: world.apply_current(1.0 * MA)),
        (900.5, lambda: world.apply_voltage(world.terminals()[0])),
        (1500.25, world.open_circuit),
        (2400.0, lambda: world.apply_current(-0.5 * MA)),
    )
    events = [*commands, *((look_s, None) for look_s in looks_s)]
    for time_s, act in sorted(events, key=lambda event: event[0]):
        world.advance_to(time_s)
        if act is not None:
            act()
        else:
            world.terminals()
            world.impedance(np.array([1e5, 1e-2]))
    world.advance_to(3000.0)
    return world


@lru_cache
def unlooked(name: str) -> dict[str, object]:
    return full_course(name, []).snapshot()


@pytest.mark.long
@pytest.mark.parametrize("name", FULL)
@settings(max_examples=8)
@given(looks_s=st.lists(st.floats(0.0, 3000.0), max_size=40))
def test_looking_more_often_at_a_full_cell_changes_nothing(name: str, looks_s: Times) -> None:
    assert full_course(name, looks_s).snapshot() == unlooked(name)


def test_a_restored_full_cell_repeats_itself() -> None:
    world = full_course("NMC811_LYC_Li", [])
    state = world.snapshot()
    first = trace(world, 200)
    world.restore(state)

    assert trace(world, 200) == first


@pytest.mark.long
@pytest.mark.parametrize("voltage_V", [-5.0, 0.0, 2.0, 3.7, 4.3, 6.0])
@pytest.mark.parametrize("name", ["NCM85_InLi", "NMC811_LYC_PMMA_Li", "LYC_carbon_Li"])
def test_any_voltage_imposed_on_any_cell_finds_a_finite_current(
    name: str, voltage_V: float
) -> None:
    world = World(load_preset(name), seed=0)
    world.advance_to(10.0)
    world.apply_voltage(voltage_V)
    for duration_s in (0.001, 0.05, 0.5, 5.0, 500.0, 5000.0):
        world.advance_to(world.time_s + duration_s)
        shown_V, current_A = world.terminals()
        assert shown_V == voltage_V
        assert np.isfinite(current_A)
        assert abs(current_A) < 1.0
