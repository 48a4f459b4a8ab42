"""The reference campaigns: their table, and the command that runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from cellbench.analysis import available
from cellbench.campaign.reference.judging import agrees, judge
from cellbench.campaign.reference.run import Job, Outcome, jobs_of, outcome_of, outcomes, run_job
from cellbench.campaign.reference.table import Bound, Row, chosen, load_table
from cellbench.campaign.reference.values import look_up, measured
from cellbench.cli.app import app
from cellbench.engine.session import prepare
from cellbench.errors import InputError
from cellbench.library import card_names, protocol_names

pytestmark = pytest.mark.long


def _row(**other: object) -> Row:
    plain = {
        "name": "a_row",
        "study": "a study",
        "what": "a test",
        "published": 2.0,
        "protocol": "pellet_conductivity",
        "cell": "LYC_blocking",
        "result": "conductivity.conductivity_mS_cm",
        "kind": "input recovered",
    }
    return Row.model_validate(plain | other)


@pytest.mark.parametrize("row", load_table(), ids=lambda row: row.name)
def test_every_row_names_a_protocol_a_cell_and_an_analysis_that_exist(row: Row) -> None:
    assert row.protocol in protocol_names()
    assert {row.cell, *row.replicates} <= set(card_names())
    assert row.analysis is None or row.analysis in available()


def test_every_run_of_the_table_resolves() -> None:
    for job in {job for row in load_table() for job in jobs_of(row)}:
        prepare(job.protocol, cell=job.cell, sets=job.sets)


def test_no_name_stands_twice_in_the_table() -> None:
    names = [row.name for row in load_table()]
    assert len(names) == len(set(names))


def test_long_rows_run_only_on_demand_or_by_name() -> None:
    long = {row.name for row in load_table() if row.long}
    assert long
    assert not long & {row.name for row in chosen([], with_long=False)}
    assert long <= {row.name for row in chosen([], with_long=True)}
    assert {row.name for row in chosen(sorted(long), with_long=False)} == long


def test_an_unknown_row_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="conductivity_LYC"):
        chosen(["conductivity_LYX"], with_long=False)


def test_a_statement_in_words_has_to_say_what_it_means() -> None:
    with pytest.raises(ValidationError, match="expect"):
        _row(published="falls monotonically")


def test_one_row_runs_through_the_command(tmp_path: Path) -> None:
    page = tmp_path / "reference.html"
    call = ["campaign", "reference", "--only", "conductivity_LYC", "--json", "--report", str(page)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row == {
        "name": "conductivity_LYC",
        "published": 0.349,
        "obtained": pytest.approx(0.349, rel=0.02),
        "unit": "mS/cm",
        "tolerance": 0.1,
        "passed": True,
        "kind": "input recovered",
    }
    assert "0.349 mS/cm" in page.read_text(encoding="utf-8")


def test_a_run_that_is_refused_is_a_failed_row() -> None:
    row = _row(set={"temperature": "900 degC"})
    judged = judge(row, outcome_of(row, outcomes([row])))
    assert not judged.passed
    assert judged.obtained is None
    assert "900" in judged.obtained_text()
    assert judged.answer()["obtained"] is None


def test_a_run_that_a_limit_stopped_has_no_result() -> None:
    outcome = Outcome({"run": {"state": "stopped", "reason": "voltage: 9 V"}}, {})
    judged = judge(_row(), outcome)
    assert (judged.passed, judged.reason) == (False, "stopped: voltage: 9 V")


def test_a_replicate_that_did_not_end_counts_as_failed() -> None:
    row = _row(
        replicates=("LYC", "LYC_PMMA"),
        result="conductivity.quantities[quantity=conductivity_mS_cm].mean",
    )
    ended = {"state": "completed", "reason": "every step has ended"}
    sound = [
        Outcome({"conductivity": {"conductivity_mS_cm": value}, "run": ended}, {})
        for value in (1.9, 2.1)
    ]
    stopped = Outcome({"run": {"state": "stopped", "reason": "voltage: 9 V"}}, {})
    found = dict(zip(jobs_of(row), (*sound, stopped), strict=True))
    judged = judge(row, outcome_of(row, found))
    assert judged.passed
    assert judged.obtained == 2.0
    failures = row.model_copy(update={"result": "conductivity.failure_rate_percent"})
    assert judge(failures, outcome_of(failures, found)).obtained == pytest.approx(33.3, abs=0.1)


def test_a_row_can_ask_how_a_run_ended() -> None:
    row = _row(published="it shorts", expect={"contains": "short"}, result="run.reason")
    outcome = Outcome({"run": {"state": "stopped", "reason": "cell: short circuit"}}, {})
    assert judge(row, outcome).passed


def test_the_thick_cell_cycles_warm_though_no_result_of_it_is_published() -> None:
    sets = ("rate=C/2", "cycles=2", "lower=3.0 V vs Li+/Li", "temperature=50 degC",
            "stack_pressure=20 MPa", "sample=30 s", "every=30 s")  # fmt: skip
    outcome = run_job(Job("long_cycling", "LCO_InLi_27", sets), ())
    assert outcome.document["run"]["state"] == "completed"
    first, last = outcome.document["capacity"]["rows"]
    assert last["discharge_mAh_g"] == pytest.approx(first["discharge_mAh_g"], rel=0.02)
    assert last["ended_charge"] == "voltage at or above 3.68 V"


def test_a_run_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    outcome = run_job(Job("pellet_conductivity", "LYC_blocking", ()), (), tmp_path / "kept")
    assert outcome.document["run"]["state"] == "completed"
    assert any((tmp_path / "kept").iterdir())


@pytest.mark.parametrize(
    ("obtained", "passed"), [(2.1, True), (2.3, False), (None, False), (True, False)]
)
def test_a_number_agrees_within_a_fraction_of_it(obtained: float | None, passed: bool) -> None:
    assert agrees(obtained, 2.0, 0.1) is passed


@pytest.mark.parametrize(("obtained", "passed"), [(1.0, True), (0.99, False), (3.1, False)])
def test_a_bound_has_no_tolerance(obtained: float, passed: bool) -> None:
    bound = Bound.model_validate({"at least": 1.0, "at most": 3.0})
    assert agrees(obtained, bound, 0.5) is passed


def test_paths_lead_through_keys_indices_ranges_and_selections() -> None:
    document = {"table": {"rows": [{"rate": 0.1, "q": 5.0}, {"rate": 0.5, "q": 4.0}]}}
    assert look_up(document, "table.rows[-1].q") == 4.0
    assert look_up(document, "table.rows[:].q") == [5.0, 4.0]
    assert look_up(document, "table.rows[rate=0.5].q") == 4.0
    with pytest.raises(LookupError, match="rate=2"):
        look_up(document, "table.rows[rate=2].q")
    with pytest.raises(LookupError, match="nothing_here"):
        look_up(document, "table.nothing_here")


def test_a_list_becomes_one_number_only_if_all_of_it_is_known() -> None:
    assert measured([3.0, 1.0, 2.0], "place of the smallest") == 0.5
    assert measured([3.0, 1.0, 6.0], "last over first") == 2.0
    assert measured([8.0, 4.0, 6.0], "largest of next over previous") == 1.5
    with pytest.raises(LookupError, match="2 of 3"):
        measured([3.0, None, 6.0], "last over first")
