"""Over the database everything is read as from the bench's own store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("psycopg", reason="the extra [server] is not installed")
from psycopg import sql
from tests.web.client import PASSWORD, serving, site_of
from typer.testing import CliRunner

import cellbench
from cellbench import clock
from cellbench.cli.app import app
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.errors import CellbenchError
from cellbench.laboratory import Database, Mirror
from cellbench.laboratory.follower import Follower
from cellbench.laboratory.tables import FOLLOWED
from cellbench.store import Run, Store
from cellbench.web.site import Site
from cellbench.web.users import Users

from .stores import HOSTILE, add_run, entry, registered, rows, writing

PROTOCOL = """
cellbench: 1
name: Two cycles
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - eis: {from: 1 MHz, to: 10 Hz, points: 5 per decade, amplitude: 10 mV}
  - current: {at: 0.1 mA/cm2, for: 2 min, record: {every: 1 s}}
  - current: {at: -0.1 mA/cm2, for: 2 min, record: {every: 1 s}}
analyses: [interface_resistance]
"""


@pytest.fixture
def bench(database: Database) -> Database:
    return Database(database.address_for("room4", database.grant("bench", "room4")))


@pytest.fixture
def viewer(database: Database) -> str:
    """The address of a viewer."""
    return database.address_for("vera", database.grant("viewer", "vera"))


def copy(store: Store, bench: Database) -> None:
    with Follower(store, bench, print) as follower:
        follower.once()


def facts(run: Run) -> dict[str, object]:
    return run.model_dump(exclude={"id"})


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a run's file, as they are on disk."""
    queries = {
        table.local: f"SELECT {table.local_number}, {table.columns} FROM {table.local}"  # noqa: S608
        for table in FOLLOWED
    } | {"document": "SELECT name, text FROM document ORDER BY name"}
    with closing(sqlite3.connect(path)) as file:
        return {name: file.execute(query).fetchall() for name, query in queries.items()}


def test_a_fetched_run_is_the_run_bit_for_bit(store: Store, bench: Database, viewer: str) -> None:
    runs = [add_run(store, 3_000, texts=HOSTILE), add_run(store, 0)]
    copy(store, bench)
    with Mirror(Database(viewer)) as mirror:
        for run in runs:
            path = mirror.run_path(f"room4.{run.id}")
            assert content(path) == content(store.run_path(run.id))
            expected = run.model_dump(exclude={"id", "started", "ended"})
            assert (
                mirror.find(f"room4.{run.id}").model_dump(exclude={"id", "started", "ended"})
                == expected
            )


@pytest.fixture
def run(store: Store, bench: Database) -> Run:
    """A run on the simulated bench, which is copied."""
    file = store.directory / "two.yaml"
    file.write_text(PROTOCOL, encoding="utf-8")
    end = conduct(prepare(str(file), seed=1), store)
    copy(store, bench)
    return end.run


@pytest.mark.long
def test_everything_of_a_run_is_as_in_its_own_store(
    store: Store, run: Run, viewer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cellbench.open(store.directory) as here, cellbench.open(viewer) as there:
        mine, theirs = here.run(), there.run()
        assert theirs.id == f"room4.{run.id}"
        assert [each.id for each in there.runs("two cyc", state="completed")] == [theirs.id]
        assert (mine.started, mine.ended) == (theirs.started, theirs.ended)
        for name, column in mine.samples().items():
            np.testing.assert_array_equal(column, theirs.samples()[name])
        assert mine.journal == theirs.journal
        cycles = mine.cycles
        assert theirs.cycles == cycles
        assert mine.analyse("interface_resistance") == theirs.analyse("interface_resistance")

    monkeypatch.setenv("CELLBENCH_DATABASE", viewer)
    assert f"{theirs.id} " in typed("runs", "--all-benches")
    shown = typed("show", "last", "--store", str(store.directory))
    assert typed("show", "last", "--all-benches").replace("room4.", "") == shown

    database = Database(viewer)
    directory = database.kept_in(tmp_path)
    asked = ("traces", "traces?from_s=20&to_s=90&points=30", "journal")
    shared = site_of(directory, open_store=partial(Mirror, database))
    *of_all, worked_out = pages(shared, *asked, "cycles")
    assert of_all == pages(site_of(store.directory), *asked)
    assert worked_out["cycles"] == cycles


def typed(*arguments: str) -> str:
    return CliRunner().invoke(app, arguments).output


def pages(site: Site, *asked: str) -> list[Any]:
    """What a site answers of its newest run."""
    Users(site.store.directory).add_password("vera", "viewer", PASSWORD)
    with serving(site) as browser:
        assert browser.sign_in("vera").status == 200
        assert [each["state"] for each in browser.json("/api/runs")["runs"]] == ["completed"]
        return [browser.json(f"/api/runs/last/{each}") for each in asked]


def test_a_run_under_way_grows(
    store: Store, bench: Database, viewer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cellbench.laboratory.mirror._FRESH_S", 0.0)
    run = registered(store)

    async def main(mirror: Mirror) -> list[int]:
        found = []
        async with writing(store, run) as writer:
            for seq in range(3):
                writer.add_samples(rows(100))
                await writer.add_entries([entry(seq)])
                copy(store, bench)
                found.append(len(content(mirror.run_path(f"room4.{run.id}"))["sample"]))
        return found

    with Mirror(Database(viewer)) as mirror:
        assert clock.run(main(mirror), virtual=True) == [100, 200, 300]
        assert mirror.find("last").state == "running"
        store.finish(run, "stopped", "by hand")
        copy(store, bench)
        assert mirror.find("last").reason == "by hand"


def test_other_benches_runs_are_only_looked_at(store: Store, bench: Database, viewer: str) -> None:
    add_run(store)
    copy(store, bench)
    with Mirror(Database(viewer)) as mirror:
        run = mirror.find("last")
        for write in (registered, lambda kept: kept.enter(run), lambda kept: kept.reopen(run)):
            with pytest.raises(CellbenchError, match="only looked at"):
                write(mirror)
        assert mirror.find("last").state == "completed"


def test_of_a_database_that_was_made_anew_nothing_old_is_shown(
    store: Store, bench: Database, database: Database, viewer: str, tmp_path: Path
) -> None:
    old, kept = add_run(store), add_run(store)
    copy(store, bench)
    with Mirror(Database(viewer), tmp_path / "kept") as mirror:
        path = mirror.run_path(f"room4.{old.id}")
    with database.connected() as connection:
        for table in ("journal", "document", "step", "spectrum"):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        connection.execute("DELETE FROM copied_run WHERE id = %s", (old.id,))
    with Mirror(Database(viewer), tmp_path / "kept") as mirror:
        assert [run.id for run in mirror.runs()] == [f"room4.{kept.id}"]
    assert not path.exists()
