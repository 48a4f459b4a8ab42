"""Campaigns on a bench of many places: what is shared is waited for, who shorts ends alone."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from tests.campaign.processes import answer, begin_and_kill, call
from tests.campaign.rooms import room, write
from tests.serving import served

from cellbench.campaign.loading import load_campaign
from cellbench.campaign.planning import CampaignPlan, plan_campaign
from cellbench.campaign.standing import not_begun
from cellbench.engine.evaluation import evaluate_as_kept
from cellbench.errors import InputError
from cellbench.store import RunReader, Store


def planned(path: Path) -> CampaignPlan:
    campaign = load_campaign(path)
    return plan_campaign(campaign, not_begun(campaign.outline))


def test_a_place_that_the_bench_does_not_have_is_told_at_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, room(3), cells=["A1", "B9"])
    with pytest.raises(InputError, match=r'line 7: there is no place "B9".*: A1, A2, A3'):
        load_campaign(path)


def test_who_shares_a_press_waits_for_it_and_nobody_else_does(tmp_path: Path) -> None:
    plan = planned(write(tmp_path, room(4, in_press=2)))
    fresh = {each.cell: each for each in plan.turns if each.protocol == "Fresh"}
    assert fresh["A4"].waits_s["press"] == pytest.approx(fresh["A3"].ends_s)
    assert "press" not in fresh["A1"].waits_s
    # Four spectra of one potentiostat: they are taken one after the other.
    waited = [each for each in plan.turns if "eis, mux" in each.waits_s]
    assert {each.cell for each in waited} >= {"A2"}
    assert {each.protocol for each in waited} <= {"Fresh", "Aged"}


def test_who_came_first_has_the_press_first_and_nobody_starves(tmp_path: Path) -> None:
    plan = planned(write(tmp_path, room(3)))
    stress = sorted((each.ends_s, each.cell) for each in plan.turns if each.protocol == "Stress")
    assert [cell for _, cell in stress] == ["A1", "A2", "A3"]
    fresh_s = max(each.ends_s for each in plan.turns if each.protocol == "Fresh")
    assert all(ends_s > fresh_s for ends_s, _ in stress)


def test_a_protocol_begins_when_the_one_before_has_ended_everywhere(tmp_path: Path) -> None:
    plan = planned(write(tmp_path, room(4, in_press=2), order="by protocol"))
    begins: dict[str, float] = {}
    ends: dict[str, float] = {}
    for each in plan.turns:
        begins[each.protocol] = min(begins.get(each.protocol, each.begins_s), each.begins_s)
        ends[each.protocol] = max(ends.get(each.protocol, 0.0), each.ends_s)
    assert begins["Stress"] >= ends["Fresh"]
    assert begins["Aged"] >= ends["Stress"]


def check_report(path: Path, store: Path, cells: int, weak: tuple[str, ...]) -> None:
    """The report says what the runs say: who shorted, and the others' mean and spread."""
    found = answer("report", str(path), "--store", str(store))
    groups = {each["protocol"]: each for each in found["groups"]}
    assert (found["cells"], found["failed"]) == (cells, len(weak))
    assert {each["cell"] for each in found["ended_early"]} == set(weak)
    assert all("short circuit" in each["why"] for each in found["ended_early"])
    assert {each["cell"] for each in groups["Aged"]["left"]} == set(weak)
    stress = groups["Stress"]["record"]
    assert {each["place"] for each in stress["cells"] if each["failed"]} == set(weak)
    assert stress["failure_rate_percent"] == pytest.approx(100 * len(weak) / cells, abs=0.1)
    for protocol, sound in (("Fresh", cells), ("Aged", cells - len(weak))):
        (row,) = rows(groups[protocol], "R_electrolyte_ohm")
        values = resistances(store, protocol)
        assert row["n"] == len(values) == sound
        assert row["mean"] == pytest.approx(statistics.mean(values), rel=1e-5)
        assert row["standard_deviation"] == pytest.approx(statistics.stdev(values), rel=1e-3)


def rows(group: dict[str, Any], quantity: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = group["record"]["analyses"]["interface_resistance"]
    return [row for row in found if row["quantity"] == quantity]


def resistances(store: Path, protocol: str) -> list[float]:
    """What each completed run of a protocol gives by itself."""
    with Store(store, make=False) as opened:
        runs = map(opened.believed, opened.search(protocol=protocol, limit=None))
        completed = [run for run in runs if run.state == "completed"]
        results = [evaluate_as_kept(opened, run).results for run in completed]
    return [float(each["interface_resistance"]["R_electrolyte_ohm"]) for each in results]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_of_six_cells_short_and_the_host_is_killed(
    tmp_path: Path, store_directory: Path
) -> None:
    weak = ("A2", "A4")
    path = write(tmp_path, room(6, weak))
    begin_and_kill(path, store_directory, at_run=8)
    before = answer("status", str(path))["counts"]
    assert before["completed"] >= 2
    code, said = call("run", str(path))
    assert code == 1, said
    found = answer("status", "Who survives stress")
    assert found["over"]
    assert found["counts"]["completed"] == 6 + 4 + 4
    assert len({each["run"] for each in found["runs"] if each["run"]}) == 6 + 6 + 4
    check_report(path, store_directory, 6, weak)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twelve_cells_on_a_bench_that_outlives_its_host(
    tmp_path: Path, store_directory: Path
) -> None:
    """In real time: what was under way is gone on with, in the same cells."""
    weak = ("A3", "A8")
    played = room(12, weak, in_press=2)
    write(tmp_path, played)
    with served("--bench", str(tmp_path / "room.yaml")) as bench:
        real = played | {"instruments": bench["bench"]["instruments"]}
        for each in real["cells"].values():
            del each["simulate"]
        path = write(tmp_path, real)
        begin_and_kill(path, store_directory, at_run=14, reached="current")
        lost = [each["run"] for each in answer("status", str(path))["runs"]
                if each["state"] == "lost"]  # fmt: skip
        assert len(lost) > 6
        code, said = call("run", str(path))
    assert code == 1, said
    assert said.count("goes on") == len(lost)
    found = answer("status", str(path))
    assert len([each for each in found["runs"] if each["run"]]) == 12 + 12 + 10
    assert len(list((store_directory / "runs").glob("*.sqlite"))) == 12 + 12 + 10
    for run in lost:
        kinds = [
            each.kind for each in RunReader(store_directory / "runs" / f"{run}.sqlite").journal
        ]
        assert (kinds.count("run started"), kinds.count("run ended")) == (1, 1)
        assert "resumed" in kinds
    check_report(path, store_directory, 12, weak)
