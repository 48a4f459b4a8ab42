"""Lists of steps that a cycler runs by itself: what is handed over, and what is entered of it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from cellbench.engine.requests import Reply, Skip, Who
from cellbench.engine.run import Conductor
from cellbench.engine.steering import PAUSE
from cellbench.engine.step_list import HANDED, how_it_ended
from cellbench.instruments.readings import EndingKind
from cellbench.instruments.techniques import ConstantCurrent, CutOff, Repeat, Rest, StepList
from cellbench.protocol.lists import step_list
from cellbench.protocol.program import ChannelStep
from cellbench.protocol.source import SourceNode, document_of
from cellbench.store import JournalEntry
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators.neware import NewareEmulator
from cellbench_sim.emulators.neware_channel import NewareChannel

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from tests.engine.conftest import Ran, Runner

BENCH, CELL = "neware", "NMC811_LYC_PMMA_Li"
HEAD = """
cellbench: 1
name: Listed
cell: NMC811_LYC_PMMA_Li
steps:
  - press: {to: 5 MPa, ramp: 0.5 MPa/s, settle: {within: 0.3 MPa, for: 5 s}}
"""
CYCLES = """
  - repeat: 3
    name: cycle
    steps:
      - charge:
          at: 2C
          until: potential >= 4 V vs Li+/Li
          at most: 1 h
          record: {every: 20 s, sample: 2 s}
      - hold: {at: 4.0 V vs Li+/Li, until: current <= 1C, at most: 10 min}
      - rest: 1 min
      - discharge: {at: 2C, until: potential <= 3.0 V vs Li+/Li, at most: 0.2 of nominal capacity}
"""


def handed(ran: Ran) -> list[JournalEntry]:
    return [entry for entry in ran.reader.journal if entry.kind == HANDED]


def ends(ran: Ran) -> dict[str, JournalEntry]:
    return {entry.step: entry for entry in ran.reader.journal if entry.kind == "step ended"}


def stored_rows(ran: Ran) -> list[tuple[int, float, str]]:
    with closing(sqlite3.connect(ran.reader.path)) as connection:
        return connection.execute(
            "SELECT row, time_s, path FROM sample JOIN step ON step.id = sample.step "
            "WHERE row IS NOT NULL ORDER BY sample.rowid"
        ).fetchall()


@pytest.fixture
def cycled(run: Runner) -> Ran:
    return run(HEAD + CYCLES, cell=CELL, bench=BENCH)


def test_a_loop_is_one_list_that_repeats_on_the_cycler(cycled: Ran) -> None:
    (entry,) = handed(cycled)
    steps = StepList.model_validate(entry.data["steps"])
    (loop,) = steps.steps
    assert isinstance(loop, Repeat)
    assert (loop.times, len(loop.steps)) == (3, 4)
    assert len(list(steps.expanded)) == len(entry.data["items"]) == 12
    assert "cycler runs by itself: 12 steps, cycle[1]/charge to cycle[3]/discharge" in entry.text


def test_inner_steps_are_entered_in_their_order_by_the_paths_of_single_ones(cycled: Ran) -> None:
    assert cycled.end.state == "completed"
    names = ("charge", "hold", "rest", "discharge")
    expected = [f"cycle[{cycle}]/{name}" for cycle in (1, 2, 3) for name in names]
    for kind in ("step started", "step ended"):
        paths = [entry.step for entry in cycled.reader.journal if entry.kind == kind]
        assert [path for path in paths if path.startswith("cycle")] == expected


def test_a_step_is_told_to_have_ended_on_what_the_cycler_ended_it_on(cycled: Ran) -> None:
    found = ends(cycled)
    assert found["cycle[1]/charge"].data["ending"] == "voltage >= 4 V"
    assert found["cycle[1]/hold"].data["ending"] in {
        "current <= 845.1 uA",
        "its cap was reached before its condition",
    }
    assert found["cycle[1]/rest"].data["ending"] == "completed"
    assert found["cycle[1]/discharge"].data["ending"] == "its cap was reached before its condition"
    assert found["cycle[1]/rest"].data["results"]["duration_s"] == pytest.approx(60, abs=0.2)


def test_times_of_a_step_are_those_of_its_rows(cycled: Ran) -> None:
    starts = {e.step: e.data for e in cycled.reader.journal if e.kind == "step started"}
    for path, end in ends(cycled).items():
        if path.startswith("cycle"):
            times = [time_s for _, time_s, of in stored_rows(cycled) if of == path]
            assert starts[path]["began_s"] == pytest.approx(times[0], abs=0.2)
            assert end.data["ended_s"] == pytest.approx(times[-1], abs=1e-6)
            assert end.time_s >= times[-1]


def test_charge_is_that_of_the_cyclers_own_ledger(cycled: Ran) -> None:
    cycler = cycled.simulator.instruments["cycler"]
    assert isinstance(cycler, NewareEmulator)
    tests = [test for channel in cycler.channels.values() for test in channel.tests.values()]
    layers = tests[-1].layers
    found = [e for path, e in ends(cycled).items() if path.startswith("cycle")]
    assert len(layers) == len(found) == 12
    for layer, entry in zip(layers, found, strict=True):
        ours_C = abs(entry.data["results"]["charge_C"])
        assert ours_C == pytest.approx(layer.end.capacity_Ah * 3600, rel=1e-9, abs=1e-12)


def test_rows_are_kept_by_the_rule_of_their_step_with_the_cyclers_number(cycled: Ran) -> None:
    rows = stored_rows(cycled)
    numbers = [number for number, _, _ in rows]
    assert numbers == sorted(set(numbers))
    charge_s = [time_s for _, time_s, path in rows if path == "cycle[2]/charge"]
    gaps = [b - a for a, b in pairwise(charge_s)]
    assert all(gap == pytest.approx(20, abs=2) for gap in gaps[:-1])
    holds_s = [time_s for _, time_s, path in rows if path == "cycle[2]/hold"]
    assert holds_s[10] - holds_s[9] == pytest.approx(1, abs=0.2)


def test_a_saved_result_ends_its_list_and_is_known_to_what_follows(run: Runner) -> None:
    protocol = (
        HEAD
        + """
  - charge: {as: first, at: 2C, for: 2 min}
  - discharge: {at: 2C, for: 0.5 * $first.charge}
  - rest: 30 s
"""
    )
    ran = run(protocol, cell=CELL, bench=BENCH)
    assert ran.end.state == "completed", ran.end.reason
    assert [len(entry.data["items"]) for entry in handed(ran)] == [1, 2]
    charges = {path: abs(e.data["results"].get("charge_C", 0)) for path, e in ends(ran).items()}
    assert charges["discharge"] == pytest.approx(0.5 * charges["charge"], rel=1e-2)


@pytest.mark.parametrize(
    "step",
    [
        "rest: {for: 20 s, stop if: temperature >= 50 degC}",
        "rest: {until: potential <= 2.4 V vs Li+/Li, at most: 20 s}",
        "rest: {for: 20 s, when interrupted: quiet}",
        "hold: {at: 3.0 V vs Li+/Li, for: 20 s, at most: 1 mAh}",
    ],
)
def test_what_needs_the_computer_is_run_singly(run: Runner, step: str) -> None:
    ran = run(f"{HEAD}  - rest: 10 s\n  - {step}\n  - rest: 11 s\n", cell=CELL, bench=BENCH)
    assert ran.end.state == "completed", ran.end.reason
    assert [len(entry.data["items"]) for entry in handed(ran)] == [1, 1]


def test_a_loop_that_is_tested_is_handed_over_pass_by_pass(run: Runner) -> None:
    protocol = (
        HEAD
        + """
  - repeat: 5
    until: charge > 0.1 mAh
    steps:
      - charge: {at: 2C, for: 2 min}
      - rest: 10 s
"""
    )
    ran = run(protocol, cell=CELL, bench=BENCH)
    assert ran.end.state == "completed", ran.end.reason
    assert [len(entry.data["items"]) for entry in handed(ran)] == [2, 2]
    assert "loop ended: charge >=" in ran.texts()


def test_a_potentiostat_is_handed_no_list(run: Runner) -> None:
    ran = run(f"{HEAD}  - rest: 10 s\n  - rest: 11 s\n", cell=CELL)
    assert not handed(ran)


def test_passes_that_differ_are_not_folded_into_one() -> None:
    listed = step_list([
        _step("rates[1]/repeat[1]/rest", 1), _step("rates[1]/repeat[2]/rest", 1),
        _step("rates[2]/repeat[1]/rest", 2), _step("rates[2]/repeat[2]/rest", 2), _step("end", 3),
    ])  # fmt: skip
    assert [each.duration_s for each in listed.expanded] == [1, 1, 2, 2, 3]
    first, second, last = listed.steps
    assert isinstance(first, Repeat)
    assert isinstance(second, Repeat)
    assert (first.steps, second.steps) != (second.steps, first.steps)
    assert last == Rest(duration_s=3)


def test_a_step_that_ended_before_its_time_without_a_cut_off_was_ended_by_somebody() -> None:
    ending = how_it_ended(_step("rest", 100), {"voltage_V": 3, "current_A": 0, "duration_s": 50})
    assert ending.kind is EndingKind.ABORTED


def test_a_last_row_short_of_the_crossing_still_tells_the_cut_off() -> None:
    cut_offs = (CutOff(quantity="voltage", above=True, value=4.0),)
    technique = ConstantCurrent(current_A=1e-3, duration_s=100, cut_offs=cut_offs)
    step = _step("charge", 1, technique)
    ending = how_it_ended(step, {"voltage_V": 3.99, "current_A": 1e-3, "duration_s": 50})
    assert (ending.kind, ending.detail) == (EndingKind.CUT_OFF, "voltage >= 4 V")


def _step(path: str, duration_s: float, technique: ConstantCurrent | None = None) -> ChannelStep:
    nowhere = SourceNode(None, document_of("", "a test"), 0, 0, 1)
    return ChannelStep(
        path=path,
        verb="rest",
        what="rest",
        source=nowhere,
        bindings={},
        technique=technique or Rest(duration_s=duration_s),
    )


# --- Skipping, and what ends a step that nobody meant to end -----------------------------------

LISTED = HEAD + "  - rest: 57 s\n  - current: {at: 0.5 mA, for: 60 s}\n  - rest: 90 s\n"
WHO = Who(user="jk", host="glovebox-pc")


def test_a_skip_before_the_list_has_begun_is_refused_and_skips_nothing(run: Runner) -> None:
    replies: list[Reply] = []

    async def skip(_: object, __: object, conductor: Conductor) -> None:
        while not any("runs by itself" in text for _, text in conductor.status.messages):
            await asyncio.sleep(0.1)
        replies.append(await conductor.commands.obey(Skip(), WHO))

    ran = run(LISTED, cell=CELL, bench=BENCH, disturb=skip)
    assert [(each.accepted, each.text) for each in replies] == [
        (False, "it is between two steps: nothing is skipped")
    ]
    assert ran.end.state == "completed"
    assert not any("skipped" in entry.data["ending"] for entry in ends(ran).values())


def test_a_skip_that_comes_too_late_hits_no_other_step(run: Runner) -> None:
    replies: list[str] = []

    async def skip(_: object, __: object, conductor: Conductor) -> None:
        status = conductor.status
        while status.step_path != "rest":
            await asyncio.sleep(0.1)
        await asyncio.sleep(status.step_started_s + 58.0 - conductor.journal.now_s)
        replies.append((await conductor.commands.obey(Skip(), WHO)).text)

    ran = run(LISTED, cell=CELL, bench=BENCH, disturb=skip)
    assert replies == ["skips rest"]
    assert ran.end.state == "completed"
    assert {path: entry.data["ending"] for path, entry in ends(ran).items()} == {
        "press": "completed", "rest": "completed", "current": "completed", "rest_2": "completed",
    }  # fmt: skip
    assert "rest is not skipped: it had ended by itself" in ran.texts()


def test_a_step_of_a_list_is_skipped_and_the_next_one_begins(run: Runner) -> None:
    replies: list[str] = []

    async def skip(_: object, __: object, conductor: Conductor) -> None:
        while conductor.status.step_path != "current":
            await asyncio.sleep(0.1)
        await asyncio.sleep(15.0)
        replies.append((await conductor.commands.obey(Skip(), WHO)).text)

    ran = run(LISTED, cell=CELL, bench=BENCH, disturb=skip)
    assert replies == ["skips current"]
    assert {path: entry.data["ending"] for path, entry in ends(ran).items()} == {
        "press": "completed", "rest": "completed", "current": "skipped by the operator",
        "rest_2": "completed",
    }  # fmt: skip


@pytest.mark.parametrize("interrupted", ["", ", when interrupted: quiet"])
def test_what_somebody_stops_at_the_cycler_waits_for_a_person(
    run: Runner, interrupted: str
) -> None:
    still: list[float] = []

    async def stop(simulator: SimulatedBench, _: object, conductor: Conductor) -> None:
        cycler = simulator.instruments["cycler"]
        assert isinstance(cycler, NewareEmulator)
        working: list[NewareChannel] = []
        while not working or conductor.status.step_path != "current":
            await asyncio.sleep(1.0)
            working = [each for each in cycler.channels.values() if each.status == "working"]
        await asyncio.sleep(20.0)
        working[0].stop()
        while PAUSE not in conductor.steering.holds:
            await asyncio.sleep(1.0)
        for _ in range(2):
            await asyncio.sleep(1800.0)
            still.append(simulator.world.cell.passed_C)
        conductor.steering.let_go(PAUSE)

    steps = HEAD + "  - current: {at: 0.5 mA, for: 10 min" + interrupted + "}\n  - rest: 1 min\n"
    ran = run(steps, cell=CELL, bench=BENCH, disturb=stop)
    assert (
        "held: cycler: stopped at the cycler; cellbench continue lets the run go on" in ran.texts()
    )
    assert still[0] == pytest.approx(still[1], abs=1e-6)
    assert ran.end.state == "completed"
    assert ends(ran)["current"].data["ending"] == "completed"
    passed_C = ran.simulator.world.cell.passed_C
    assert 0.5e-3 * 570 < passed_C < 0.5e-3 * 600
