"""Whole short runs: what is recorded, how steps end, and that runs repeat exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cellbench.engine.run import RunState

Runner = Callable[..., Any]

HEAD = "cellbench: 1\nname: A test\nsteps:\n"
CURRENTS = (
    HEAD
    + """
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 10 s}}
  - rest: 30 s
  - current: {at: 0.1 mA/cm2, for: 2 min, record: {every: 1 s}}
  - current: {at: -0.1 mA/cm2, for: 2 min, record: {every: 1 s}}
  - press: release
"""
)


def samples(ran: Any, source: str) -> dict[str, np.ndarray[Any, Any]]:
    table: dict[str, np.ndarray[Any, Any]] = ran.reader.samples(source)
    return table


def test_a_run_keeps_every_sample_and_ends_in_its_safe_state(run: Runner) -> None:
    ran = run(CURRENTS)
    assert ran.end.state is RunState.COMPLETED
    assert ran.end.exit_code == 0
    assert ran.end.safe
    potentiostat = samples(ran, "potentiostat")
    current = potentiostat["current_A"]
    assert np.sum(np.isclose(current, 7.854e-5, rtol=0.01)) in range(119, 122)
    assert np.sum(np.isclose(current, -7.854e-5, rtol=0.01)) in range(119, 122)
    assert np.all(np.diff(potentiostat["time_s"]) > 0)
    assert ran.simulator.world.force_N() < 30
    assert ran.simulator.world.terminals()[1] == 0
    assert ran.reader.journal[-1].data["missing_samples"] == 0


def test_press_gauge_and_chamber_are_sampled_all_the_time(run: Runner) -> None:
    ran = run(CURRENTS)
    end_s = ran.reader.journal[-1].time_s
    for source in ("press", "load cell", "chamber"):
        times = samples(ran, source)["time_s"]
        assert np.max(np.diff(times)) <= 5.1
        assert times[-1] > end_s - 20


def test_each_step_has_its_start_and_its_end_in_the_journal(run: Runner) -> None:
    ran = run(CURRENTS)
    started = [entry.step for entry in ran.reader.journal if entry.kind == "step started"]
    ended = [entry.step for entry in ran.reader.journal if entry.kind == "step ended"]
    assert started == ended == ["press", "rest", "current", "current_2", "press_2"]


def test_what_a_step_commands_is_durable_before_it_is_sent(run: Runner) -> None:
    seen: list[int] = []

    async def note(_simulator: Any, bench: Any, conductor: Any) -> None:
        original = bench.channel.run

        def spy(technique: Any, limits: Any) -> Any:
            from cellbench.store import RunReader

            path = conductor.writer.path
            kinds = [entry.kind for entry in RunReader(path).journal]
            seen.append(kinds.count("step started"))
            return original(technique, limits)

        bench.channel.run = spy

    run(HEAD + "  - rest: 5 s\n  - rest: 5 s\n", disturb=note)
    assert seen == [0, 1, 2]  # the screening at open circuit comes before the first step


def content(ran: Any) -> tuple[Any, ...]:
    journal = [
        (each.seq, each.time_s, each.kind, each.step, each.text, each.data)
        for each in ran.reader.journal
    ]
    tables = {name: samples(ran, name) for name in ran.reader.sources()}
    return journal, {name: {k: v.tobytes() for k, v in t.items()} for name, t in tables.items()}


def test_the_same_seed_gives_identical_samples_and_journal_and_another_seed_others(
    run: Runner,
) -> None:
    first, second, other = run(CURRENTS, seed=5), run(CURRENTS, seed=5), run(CURRENTS, seed=6)
    assert content(first) == content(second)
    assert content(first)[1] != content(other)[1]


def test_looking_more_often_changes_nothing_in_the_cell(run: Runner) -> None:
    protocol = HEAD + "  - current: {at: 0.2 mA/cm2, for: 5 min}\n  - rest: 2 min\n"
    seldom = run(protocol)
    often = run(protocol.replace("steps:", "conditions: {every: 1 s}\nsteps:"))
    assert len(samples(often, "chamber")["time_s"]) > 4 * len(samples(seldom, "chamber")["time_s"])
    for name, column in samples(seldom, "potentiostat").items():
        np.testing.assert_array_equal(column, samples(often, "potentiostat")[name])


def test_a_voltage_cut_off_ends_the_step_on_the_instrument(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - current: {at: 1 mA/cm2, until: voltage >= 0.2 V, at most: 1 h}\n"
        + "  - rest: 5 s\n"
    )
    (ended, _) = [entry for entry in ran.reader.journal if entry.kind == "step ended"]
    assert ended.time_s < 60
    assert ran.end.exit_code == 0


def test_a_charge_condition_ends_the_step_on_the_host(run: Runner) -> None:
    ran = run(HEAD + "  - current: {at: 1 mA/cm2, until: charge >= 0.05 mAh/cm2, at most: 1 h}\n")
    (ended,) = [entry for entry in ran.reader.journal if entry.kind == "step ended"]
    assert ended.data["results"]["charge_C"] == pytest.approx(0.05e-3 * 3600 * 0.7854, rel=0.02)


def test_results_of_a_step_can_be_used_by_later_ones(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - current: {at: 0.5 mA/cm2, for: 20 s, as: pulse}\n"
        + "  - if: $pulse.voltage > 1 mV\n"
        + "    steps:\n      - mark: it answered\n"
        + "    else:\n      - mark: it did not\n"
    )
    marks = [entry.text for entry in ran.reader.journal if entry.kind == "mark"]
    assert marks == ["it answered"]


def test_recording_rules_thin_the_rows_but_keep_the_edges(run: Runner) -> None:
    ran = run(HEAD + "  - current: {at: 0.5 mA/cm2, for: 10 min, record: {every: 60 s}}\n")
    table = samples(ran, "potentiostat")
    times = table["time_s"][table["current_A"] > 0]
    assert 10 <= len(times) <= 13
    assert times[-1] - times[0] == pytest.approx(600, abs=2)


def test_without_a_rule_every_row_is_kept_of_an_interval_that_was_shortened_too(
    run: Runner,
) -> None:
    ran = run(HEAD + "  - current: {at: 0.5 mA/cm2, for: 2.5 s}\n")  # three rows, 0.83 s apart
    table = samples(ran, "potentiostat")
    assert np.count_nonzero(table["current_A"] > 0) == 3


def test_a_prompt_is_answered_by_the_simulated_operator(run: Runner) -> None:
    ran = run(HEAD + "  - prompt: Close the glovebox\n  - rest: 5 s\n")
    assert "Close the glovebox" in ran.texts()
    assert ran.end.exit_code == 0


def test_a_spectrum_left_out_or_clipped_is_a_deviation(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - eis: {from: 7 MHz, to: 1 kHz, points: 5 per decade, amplitude: 10 mV,"
        + " band: as available}\n"
    )
    assert [entry.kind for entry in ran.reader.journal].count("deviation") == 1
    (spectrum,) = ran.reader.spectra()
    assert spectrum.frequency_Hz[0] == pytest.approx(1e6)
    assert spectrum.stack_pressure_Pa is not None


@pytest.mark.long
def test_a_wait_lasts_as_long_as_it_says_however_odd_the_moment_it_begins(run: Runner) -> None:
    ran = run(HEAD + "  - current: {at: 0.1 mA/cm2, for: 7.3 s}\n  - wait: 2 h\n  - rest: 3 s\n")
    (wait,) = [e for e in ran.reader.journal if e.kind == "step ended" and e.step == "wait"]
    (began,) = [e for e in ran.reader.journal if e.kind == "step started" and e.step == "wait"]
    assert wait.time_s - began.time_s == pytest.approx(7200, abs=0.01)


def test_a_value_computed_from_results_is_checked_before_it_is_sent(run: Runner) -> None:
    ran = run(
        HEAD
        + "  - current: {at: 0.5 mA/cm2, for: 20 s, as: pulse}\n"
        + "  - current: {at: $pulse.current_A * 1000, for: 10 s}\n"
    )
    assert ran.end.state is RunState.FAILED
    assert "line 5" in ran.end.reason
    assert np.nanmax(samples(ran, "potentiostat")["current_A"]) < 1e-3
