"""Rules on how long what is kept: said first, done when asked for, and never of a run under way."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.store.typed import called
from typer.testing import CliRunner

from cellbench.cli.app import app
from cellbench.errors import InputError, StoreError
from cellbench.store import RunReader, Store
from cellbench.store.compact import drop_wire, has_wire
from cellbench.store.retain import CONFIGURATION, Due, due, read_rules

pytest.importorskip("pyarrow", reason='compaction needs the extra "data"')

RULES = """
retain:
  - {runs: simulated, compact after: 7 d, drop wire log after: 30 d}
  - {compact after: 90 d}
"""
NOW = datetime.now(UTC)


def rules(directory: Path, text: str = RULES) -> Path:
    path = directory / CONFIGURATION
    path.write_text(text, encoding="utf-8")
    return path


def ended(store: Store, end: str, days_ago: float) -> None:
    run = store.find(end)
    store.finish(run, run.state, run.reason, NOW - timedelta(days=days_ago))


def told(found: list[Due]) -> list[tuple[str, str]]:
    return [(each.run.id[-3:], each.what) for each in found]


def test_what_is_due_is_said_and_done_only_when_asked_for(store: Store, directory: Path) -> None:
    rules(directory)
    ended(store, "001", 31)
    ended(store, "002", 8)
    path = store.run_path(store.find("001").id)
    before = RunReader(path).samples("potentiostat")["voltage_V"].tobytes()
    code, output = called("retain")
    assert code == 0
    day = store.find("001").id[:-4]
    steps = ("001: drop wire log", "001: compact", "002: compact")
    assert output.splitlines()[:-1] == [f"{day}-{each}" for each in steps]
    assert output.endswith("Nothing was done: --apply does it.\n")
    assert has_wire(path)
    assert not RunReader(path).archived
    code, output = called("retain", "--apply", "--json")
    assert [each["what"] for each in json.loads(output)["due"]] == [
        "drop wire log", "compact", "compact"
    ]  # fmt: skip
    assert not has_wire(path)
    assert RunReader(path).samples("potentiostat")["voltage_V"].tobytes() == before
    assert called("retain")[1] == "Nothing is due.\n"
    assert called("check")[0] == 0


def test_the_first_rule_that_fits_a_run_holds(store: Store, directory: Path) -> None:
    path = rules(
        directory,
        "retain:\n  - {cell: another, compact after: 1 d}\n"
        "  - {protocol: Two cycles, drop wire log after: 10 d}\n  - {compact after: 0 s}\n",
    )
    found = read_rules(path)
    in_days = [told(list(due(store, found, NOW + timedelta(days=days)))) for days in (1, 11)]
    assert in_days == [[], [("001", "drop wire log")]]
    assert not list(due(store, read_rules(rules(directory, RULES.replace("simulated", "imported"))),
                        NOW + timedelta(days=80)))  # fmt: skip


def test_nothing_of_a_run_that_is_not_finished(store: Store, directory: Path) -> None:
    found = read_rules(rules(directory, "retain: [{compact after: 0 s}]"))
    run = store.find("001")
    store.reopen(run)
    assert told(list(due(store, found, NOW + timedelta(days=1)))) == [("002", "compact")]


def test_a_wire_log_that_was_dropped_is_told_to_whoever_wants_it(store: Store) -> None:
    run = store.find("001")
    drop_wire(store, run)
    reader = RunReader(store.run_path(run.id))
    assert reader.wire_header is not None
    with pytest.raises(StoreError, match=r"its wire log was dropped on .* by the rules"):
        reader.wire()
    done = CliRunner().invoke(app, ["replay", "001"])
    assert done.exit_code == 1
    assert "was dropped on" in done.output


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("retain: [{runs: simulated}]", 'neither "compact after" nor'),
        ("retain: [{drop samples after: 1 d}]", "drop samples after"),
        ("retain: [{compact after: 30}]", "30"),
        ("retain: [{compact after: 3 V}]", "3 V"),
        ("retain: []", "retain"),
        ("keep: all", "keep"),
    ],
)
def test_rules_that_are_wrong_are_refused(directory: Path, text: str, why: str) -> None:
    rules(directory, text)
    code, output = called("retain", "--apply")
    assert code == 2
    assert CONFIGURATION in output
    assert why in output


def test_a_store_without_rules_says_so(directory: Path) -> None:
    with pytest.raises(InputError, match="has no rules"):
        read_rules(directory / CONFIGURATION)
    assert called("compact")[1].startswith("name one run")
    assert called("compact", "--older-than", "long")[0] == 2
    assert "Nobody is here to be asked" in called("compact", "--older-than", "0 s")[1]
