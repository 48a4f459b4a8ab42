"""Steps that are interrupted, stopped, swept, checked and counted, on the simulated bench."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cellbench.engine.run import RunState

pytestmark = pytest.mark.long

Runner = Callable[..., Any]

HEAD = "cellbench: 1\nname: A test\nsteps:\n"
AREA_CM2 = math.pi / 4
HOLD = """
  - hold:
      at: 0.05 V
      for: 2 h
      record: {spacing: log, at least every: 60 s}
      every: {interval: 20 min, do: [eis: {from: 1 MHz, to: 100 mHz, bias: 0.05 V}]}
"""


def entries(ran: Any, kind: str) -> list[Any]:
    return [entry for entry in ran.reader.journal if entry.kind == kind]


def ended(ran: Any, step: str) -> dict[str, Any]:
    (entry,) = [each for each in entries(ran, "step ended") if each.step == step]
    data: dict[str, Any] = entry.data
    return data


def test_a_hold_goes_on_between_spectra_at_its_bias(run: Runner) -> None:
    ran = run(HEAD + HOLD)
    assert ran.end.state is RunState.COMPLETED
    started = [each for each in entries(ran, "step started") if each.step.endswith("/eis")]
    assert [each.step for each in started] == [f"hold/every[{n}]/eis" for n in range(1, 6)]
    # The interval is from start to start.
    np.testing.assert_allclose(np.diff([each.time_s for each in started]), 1200, atol=2)
    assert ended(ran, "hold")["results"]["duration_s"] == pytest.approx(7200, abs=2)
    assert [spectrum.bias_V for spectrum in ran.reader.spectra()] == pytest.approx([0.05] * 5)
    assert ran.reader.journal[-1].data["missing_samples"] == 0


def test_the_charge_of_an_interrupted_hold_is_kept_in_one_ledger(run: Runner) -> None:
    interrupted = ended(run(HEAD + HOLD), "hold")["results"]["charge_C"]
    whole = HEAD + "  - hold: {at: 0.05 V, for: 2 h}\n"
    assert interrupted == pytest.approx(ended(run(whole), "hold")["results"]["charge_C"], rel=0.01)


@pytest.mark.parametrize(
    ("bias", "openings"), [("0.05 V", 0), ("0.04 V", 10)], ids=["at the hold's", "at another"]
)
def test_the_cell_stays_on_through_the_spectra_of_a_hold_at_its_own_voltage(
    bias: str, openings: int, run: Runner
) -> None:
    opened_s: list[float] = []

    async def watch(simulator: Any, _bench: Any, conductor: Any) -> None:
        front = simulator.potentiostat.front
        switch_off = front.switch_off

        def noted() -> None:
            if front.cell_is_on:
                opened_s.append(conductor.journal.now_s)
            switch_off()

        front.switch_off = noted

    ran = run(HEAD + HOLD.replace("bias: 0.05 V", f"bias: {bias}"), disturb=watch)
    assert ran.end.state is RunState.COMPLETED
    assert len(ran.reader.spectra()) == 5
    (end,) = [each.time_s for each in entries(ran, "step ended") if each.step == "hold"]
    assert len([time_s for time_s in opened_s if time_s < end - 1]) == openings


def test_a_current_stops_its_clock_while_it_is_interrupted(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - current: {at: 0.5 mA/cm2, until: charge >= 0.25 mAh/cm2, "
        + "every: {after: 0.1 mAh/cm2, do: [rest: 5 min, eis: {from: 1 MHz, to: 10 Hz}]}}\n"
    )
    results = ended(ran, "current")["results"]
    assert results["duration_s"] == pytest.approx(1800, abs=0.5)
    assert results["charge_C"] == pytest.approx(0.25 * 3.6 * AREA_CM2, rel=1e-3)
    assert len(ran.reader.spectra()) == 2
    (start,) = [each for each in entries(ran, "step started") if each.step == "current"]
    (end,) = [each for each in entries(ran, "step ended") if each.step == "current"]
    assert end.time_s - start.time_s > 1800 + 2 * 300


def test_the_rows_of_an_interrupted_step_are_its_own(run: Runner) -> None:
    ran = run(
        HEAD + "  - current: {at: 0.1 mA/cm2, for: 5 min, every: {after: 2 min, do: [rest: 1 min]}}"
    )
    rows = ran.reader.samples("potentiostat")
    steps = {path: step for step, (path, _) in ran.reader.steps.items()}
    driven = rows["step"] == steps["current"]
    assert np.all(rows["current_A"][driven] != 0)
    assert np.sum(driven) == 300
    assert np.all(rows["current_A"][rows["step"] == steps["current/every[2]/rest"]] == 0)
    assert np.all(np.diff(rows["charge_C"][driven]) > 0)


@pytest.mark.parametrize("duration", ["1234.5 s", "59.95 s", "3 s", "0.7 s"])
def test_the_charge_of_a_constant_current_is_exact(duration: str, run: Runner) -> None:
    ran = run(HEAD + f"  - current: {{at: 0.1 mA, for: {duration}, record: {{sample: 1 s}}}}\n")
    seconds = float(duration.removesuffix(" s"))
    assert ended(ran, "current")["results"]["charge_C"] == pytest.approx(1e-4 * seconds, rel=1e-3)


def test_a_step_that_is_stopped_warns_and_the_protocol_goes_on(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - hold: {at: 0.05 V, for: 2 h, stop if: 'any of [charge > 0.01 mAh, voltage > 1 V]'}\n"
        + "  - rest: 10 s\n"
    )
    assert ran.end.exit_code == 0
    (warning,) = entries(ran, "warning")
    assert "stopped, charge >= " in warning.text
    assert ended(ran, "hold")["results"]["charge_C"] == pytest.approx(0.036, rel=0.05)
    assert ended(ran, "rest")["ending"] == "completed"


def test_a_current_that_rises_is_told_from_one_that_is_interrupted(run: Runner) -> None:
    # Closing the cell again after a spectrum lets the double layer charge: that is no rise.
    ran = run(
        HEAD + HOLD.replace("for: 2 h", "for: 1 h\n      stop if: current rises by 5 % over 5 min")
    )
    assert entries(ran, "warning") == []


# --- Sweeps -------------------------------------------------------------------------------------


def test_a_cyclic_voltammogram_runs_through_its_vertices_without_opening_the_cell(
    run: Runner,
) -> None:
    ran = run(HEAD + '  - cv: {from: 0 V, vertices: "0.1, -0.1 V", cycles: 2, rate: 2 mV/s}\n')
    assert ran.end.state is RunState.COMPLETED
    rows = ran.reader.samples("potentiostat")
    steps = {path: step for step, (path, _) in ran.reader.steps.items()}
    voltage_V = rows["voltage_V"][rows["step"] == steps["cv"]]
    turns = voltage_V[1:-1][np.diff(voltage_V[:-1]) * np.diff(voltage_V[1:]) < 0]
    np.testing.assert_allclose(turns, [0.1, -0.1, 0.1, -0.1], atol=3e-3)
    assert abs(voltage_V[-1]) < 3e-3
    assert ran.reader.journal[-1].data["missing_samples"] == 0


def test_a_sweep_ends_at_its_cut_off_in_whichever_segment_that_is(run: Runner) -> None:
    ran = run(
        HEAD
        + '  - cv: {from: 0 V, vertices: "0.1, -0.1 V", cycles: 2, rate: 2 mV/s, '
        + "until: voltage <= -0.05 V}\n"
    )
    assert "at or below" in ended(ran, "cv")["ending"]
    assert ended(ran, "cv")["results"]["duration_s"] == pytest.approx((0.1 + 0.15) / 2e-3, rel=0.05)


def test_a_sweep_can_start_where_the_cell_rests(run: Runner) -> None:
    ran = run(HEAD + "  - sweep: {from: open circuit, to: 0.1 V, rate: 2 mV/s}\n")
    (remark,) = entries(ran, "remark")
    assert "open circuit" in remark.text
    assert ended(ran, "sweep")["results"]["duration_s"] == pytest.approx(50, abs=2)


# --- Checks, pressing, loops --------------------------------------------------------------------


def test_a_sound_cell_passes_its_check(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - press: {to: 5 MPa, ramp: 1 MPa/s}\n"
        + "  - check: {open circuit: -0.1 V to 0.1 V, contact: at most 10 kOhm, "
        + "stack pressure: 4 MPa to 6 MPa, temperature: 20 degC to 30 degC}\n"
    )
    assert ran.end.exit_code == 0
    results = ended(ran, "check")["results"]
    assert results["contact_ohm"] > 50
    assert results["stack_pressure_Pa"] == pytest.approx(5e6, rel=0.02)


def test_a_cell_that_fails_its_check_is_never_energised(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - check: {stack pressure: at least 4 MPa, open circuit: -0.1 V to 0.1 V}\n"
        + "  - current: {at: 0.1 mA, for: 1 min}\n"
    )
    assert ran.end.state is RunState.FAILED
    assert ran.end.exit_code == 1
    assert "stack pressure is" in ran.end.reason
    assert "Nothing was energised" in ran.end.reason
    assert np.all(ran.reader.samples("potentiostat")["current_A"] == 0)


def test_a_broken_wire_fails_the_check_of_the_contact(run: Runner) -> None:
    async def cut(simulator: Any, *_: Any) -> None:
        simulator.world.connected = False

    ran = run(HEAD + "  - check: {contact: at most 10 kOhm}\n", disturb=cut)
    assert ran.end.exit_code == 1
    assert "contact is" in ran.end.reason


def test_a_pressed_pellet_is_held_and_released(run: Runner) -> None:
    ran = run(
        HEAD + "  - press: {to: 10 MPa, ramp: 1 MPa/s, hold: 3 min, then: release}\n  - rest: 5 s\n"
    )
    force = ran.reader.samples("load cell")
    pressed_s = force["time_s"][force["force_N"] > 0.95 * 10e6 * AREA_CM2 * 1e-4]
    assert pressed_s[-1] - pressed_s[0] > 180
    assert ran.simulator.world.force_N() < 30
    assert ended(ran, "press")["results"]["stack_pressure_Pa"] == pytest.approx(10e6, rel=0.03)


def test_a_loop_ends_after_the_pass_that_reached_its_condition(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - repeat: 50\n    until: charge >= 0.05 mAh\n    steps:\n"
        + "      - current: {at: 1 mA, for: 1 min}\n      - rest: 10 s\n"
    )
    (loop,) = entries(ran, "loop ended")
    assert loop.step == "repeat[3]"


def test_a_loop_condition_on_the_voltage_means_what_was_reached_in_the_pass(run: Runner) -> None:
    ran = run(
        HEAD
        + '  - for each: {j: "0.05, 0.2, 0.4 mA/cm2"}\n    until: voltage >= 0.3 V\n    steps:\n'
        + "      - current: {at: $j, for: 1 min}\n      - rest: 1 min\n"
    )
    (loop,) = entries(ran, "loop ended")
    assert loop.step == "for_each[2]"


def test_conditions_are_kept_as_often_as_the_protocol_says(run: Runner) -> None:
    ran = run(HEAD.replace("steps:", "conditions: {every: 12 s}\nsteps:") + "  - rest: 10 min\n")
    for source in ("press", "load cell", "chamber"):
        times = ran.reader.samples(source)["time_s"]
        np.testing.assert_allclose(np.diff(times), 12, atol=0.1)
