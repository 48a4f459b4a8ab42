"""Steps of the campaigns' tests: interruptions, cyclic voltammetry, checks, pressing, check-ups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.protocol.conftest import PRESS, Bench, Instrument

from cellbench.instruments.techniques import Sweep
from cellbench.protocol import Program, adapt, check, plan
from cellbench.protocol.conditions import Change, Threshold
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    CheckStep,
    EisStep,
    MarkStep,
    PressStep,
    PromptStep,
)

Steps = Callable[..., list[AnyStep]]
Load = Callable[..., Program]

HOLD = """
  - hold:
      at: 1 V
      for: 3 h
      stop if: any of [current rises by 50 % over 10 min, charge > 2 mAh]
      record: {spacing: log, at least every: 60 s}
      every: {interval: 20 min, do: [eis: {from: 1 MHz, to: 100 mHz, bias: 1 V}]}
"""


def said(program: Program, bench: Bench) -> str:
    return "\n".join(each.message for each in check(program, bench).problems)


def only(steps: list[AnyStep]) -> AnyStep:
    (step,) = steps
    return step


# --- Interruptions ------------------------------------------------------------------------------


def test_a_hold_can_be_interrupted_on_a_schedule(steps: Steps) -> None:
    step = only(steps(HOLD))
    assert isinstance(step, ChannelStep)
    assert step.every is not None
    assert (step.every.period_s, step.every.clock_runs) == (1200.0, True)
    (spectrum,) = step.every.steps
    assert isinstance(spectrum, EisStep)
    assert spectrum.path == "hold/every[{}]/eis"
    assert spectrum.technique.bias_V == 1.0
    assert isinstance(step.stop_if[0], Change)
    assert step.stop_if[1] == Threshold("charge", above=True, value=7.2)


@pytest.mark.parametrize(
    ("after", "period_s"), [("1 h", 3600.0), ("0.1 mAh/cm2", 720.0), ("0.3927 mAh", 3600.0)]
)
def test_a_current_can_be_interrupted_after_a_time_or_a_charge(
    after: str, period_s: float, steps: Steps
) -> None:
    step = only(
        steps(
            "  - current: {at: 0.5 mA/cm2, for: 5 h, "
            f"every: {{after: {after}, do: [rest: 30 min]}}}}\n"
        )
    )
    assert isinstance(step, ChannelStep)
    assert step.every is not None
    assert not step.every.clock_runs
    assert step.every.period_s == pytest.approx(period_s, rel=1e-3)


def test_a_plan_with_interruptions_is_bounded(program: Load, bench: Bench) -> None:
    (held,) = plan(program(HOLD), bench).rows
    assert held.duration_max_s is not None
    assert 3 * 3600 <= held.duration_max_s < 3 * 3600 + 120
    stopped = program(
        "  - current: {at: 0.5 mA/cm2, for: 5 h, every: {after: 1 h, do: [rest: 30 min]}}\n"
    )
    (row,) = plan(stopped, bench).rows
    assert row.duration_max_s == pytest.approx(5 * 3600 + 4 * 1800)


def test_what_interrupts_a_step_is_checked_and_fitted_to_the_bench(
    program: Load, bench: Bench
) -> None:
    beyond = HOLD.replace("bias: 1 V", "bias: 6 V")
    assert "leave the limits" in said(program(beyond), bench)
    above = HOLD.replace("bias: 1 V", "bias: 1 V, band: as available").replace("1 MHz", "7 MHz")
    assert said(program(above), bench) == ""
    assert check(program(above), bench).deviations == ("band ends at 1 MHz (asked for 7 MHz)",)
    blind = replace(bench, channel=None)
    assert "no potentiostat" in said(program(HOLD), blind)


def test_a_log_spaced_hold_is_planned_with_enough_rows(program: Load, bench: Bench) -> None:
    (row,) = plan(program("  - hold: {at: 1 V, for: 10 min, record: {spacing: log}}\n"), bench).rows
    assert row.rows is not None
    assert row.rows > 150


# --- Sweeps -------------------------------------------------------------------------------------


def test_a_cyclic_voltammogram_visits_both_vertices_in_each_cycle(steps: Steps) -> None:
    step = only(steps('  - cv: {from: 0.5 V, vertices: "2, -1 V", cycles: 2, rate: 1 mV/s}\n'))
    assert isinstance(step, ChannelStep)
    assert isinstance(step.technique, Sweep)
    assert step.technique.voltages_V == (0.5, 2.0, -1.0, 2.0, -1.0, 0.5)
    assert step.technique.duration_s == pytest.approx((1.5 + 3 + 3 + 3 + 1.5) / 1e-3)


def test_a_cyclic_voltammogram_from_open_circuit_ends_at_its_last_vertex(
    program: Load, bench: Bench, steps: Steps
) -> None:
    text = '  - cv: {vertices: "0, 2 V", cycles: 1, rate: 1 mV/s}\n'
    step = only(steps(text))
    assert isinstance(step, ChannelStep)
    assert isinstance(step.technique, Sweep)
    assert step.from_rest
    assert step.technique.voltages_V[1:] == (0.0, 2.0)
    # The farthest start that the card allows bounds the plan.
    assert plan(program(text), bench).duration_max_s == pytest.approx((5.0 + 2.0) / 1e-3)
    assert said(program(text), bench) == ""


def test_a_vertex_outside_the_limits_is_a_problem(program: Load, bench: Bench) -> None:
    text = '  - cv: {from: 0 V, vertices: "7, 0 V", rate: 1 mV/s}\n'
    assert "7 V at the terminals is outside the limits" in said(program(text), bench)


def test_a_sweep_can_start_at_the_open_circuit(steps: Steps) -> None:
    step = only(steps("  - sweep: {from: open circuit, to: 4 V, rate: 1 mV/s}\n"))
    assert isinstance(step, ChannelStep)
    assert step.from_rest


# --- Bounds -------------------------------------------------------------------------------------


def test_a_step_is_bounded_by_time_and_by_charge(steps: Steps) -> None:
    step = only(
        steps(
            "  - current: {at: 0.5 mA/cm2, until: voltage >= 1 V, at most: [10 h, 0.25 mAh/cm2]}\n"
        )
    )
    assert isinstance(step, ChannelStep)
    assert step.technique.duration_s == pytest.approx(1800)
    assert step.charge_max_C == pytest.approx(0.25 * 3.6 * 0.7854, rel=1e-4)
    assert step.capped


# --- Checks and pressing ------------------------------------------------------------------------


def test_a_check_says_what_has_to_be_true(steps: Steps) -> None:
    step = only(
        steps("  - check: {open circuit: -0.1 V to 0.1 V, stack pressure: at most 6 MPa}\n")
    )
    assert isinstance(step, CheckStep)
    assert step.voltage is not None
    assert step.pressure is not None
    assert (step.voltage.low, step.voltage.high) == (-0.1, 0.1)
    assert (step.pressure.low, step.pressure.high) == (None, 6e6)


def test_a_check_needs_instruments_that_see(program: Load, bench: Bench) -> None:
    text = "  - check: {temperature: 20 degC to 30 degC}\n"
    assert said(program(text), bench) == ""
    assert "no temperature chamber" in said(program(text), replace(bench, chamber=None))


def test_a_pellet_is_pressed_held_and_released(steps: Steps, program: Load, bench: Bench) -> None:
    text = "  - press: {to: 30 MPa, ramp: 1 MPa/s, hold: 3 min, then: release}\n"
    step = only(steps(text))
    assert isinstance(step, PressStep)
    assert (step.hold_s, step.then_release) == (180.0, True)
    (row,) = plan(program(text), bench).rows
    assert row.duration_min_s == pytest.approx(30 + 10 + 180 + 30)


def test_what_the_press_cannot_do_is_pressed_by_hand_where_that_is_allowed(
    program: Load, bench: Bench, steps: Steps
) -> None:
    text = "  - press: {to: 3 t, hold: 1 min, then: release, by hand: allowed}\n"
    asked, deviations = adapt(only(steps(text)), bench)
    assert isinstance(asked, PromptStep)
    assert "374.6 MPa" in asked.prompt
    assert "does not reach" in deviations[0]
    assert said(program(text), bench) == ""
    assert said(program(text.replace(", by hand: allowed", "")), bench) != ""


def test_nobody_presses_by_hand_on_a_simulated_bench(program: Load, bench: Bench) -> None:
    weak = replace(bench, press=Instrument(replace(PRESS, force_max_N=1000.0)), simulated=True)
    (problem,) = check(program("  - press: {to: 30 MPa, by hand: allowed}\n"), weak).problems
    assert "Press reaches 1 kN" in problem.message
    assert '--fixture "laboratory press"' in problem.cure


def test_a_press_must_hear_of_its_host_often_enough(program: Load, bench: Bench) -> None:
    slow = program(
        "name: x\ncell: LYC\nconditions: {every: 30 s}\nsteps:\n  - press: 5 MPa\n  - rest: 1 h\n"
    )
    assert "lets go when it hears nothing" in said(slow, bench)
    deaf = replace(bench, press=Instrument(replace(PRESS, heartbeat_s=None)))
    assert said(slow, deaf) == ""


# --- Loops --------------------------------------------------------------------------------------


def test_a_loop_knows_the_number_of_its_pass(steps: Steps) -> None:
    text = """
  - repeat: 7
    steps:
      - if: $cycle % 3 == 0
        steps: [{mark: check-up}]
"""
    found = steps(text)
    assert [type(step) for step in found] == [MarkStep, MarkStep]
    assert [step.path for step in found] == ["repeat[3]/if/mark", "repeat[6]/if/mark"]


def test_the_number_of_the_pass_is_of_the_innermost_loop(steps: Steps) -> None:
    text = """
  - for each: {j: "1, 2 mA"}
    steps:
      - repeat: 2
        steps: [{wait: $cycle * 1 s}]
      - wait: $cycle * 10 s
"""
    assert [getattr(step, "timeout_s", None) for step in steps(text)] == [1, 2, 10, 1, 2, 20]


def test_pressure_and_temperature_are_read_as_often_as_the_protocol_says(program: Load) -> None:
    text = "name: x\ncell: LYC\n{}steps:\n  - rest: 1 h\n"
    assert program(text.format("")).conditions_every_s == 5.0
    assert program(text.format("conditions: {every: 10 s}\n")).conditions_every_s == 10.0
