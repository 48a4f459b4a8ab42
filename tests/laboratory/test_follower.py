"""Copies are equal to the runs, row by row, whatever happened on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellbench.laboratory import Database
from cellbench.laboratory.checking import differences
from cellbench.laboratory.follower import Follower
from cellbench.store import Store

from .postgresql import PostgreSQL
from .stores import HOSTILE, add_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "here") as store:
        yield store


@pytest.fixture
def bench(database: Database) -> Database:
    """The database as a bench knows it."""
    return Database(database.address_for("room2", database.grant("bench", "room2")))


def copy(store: Store, database: Database) -> list[str]:
    """Copy what there is; what was said."""
    said: list[str] = []
    with Follower(store, database, said.append) as follower:
        follower.once()
    return said


def count(database: Database, table: str) -> int:
    with database.connected() as connection:
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(rows)


def test_a_copy_is_equal_to_its_run_and_made_once(store: Store, bench: Database) -> None:
    add_run(store, 45_000)
    add_run(store, 0)
    assert copy(store, bench) == []
    assert list(differences(store, bench)) == []
    assert copy(store, bench) == []
    assert count(bench, "sample") == 45_000
    assert list(differences(store, bench)) == []


def test_hostile_names_and_notes_change_nothing(store: Store, bench: Database) -> None:
    add_run(store, texts=HOSTILE)
    copy(store, bench)
    assert list(differences(store, bench)) == []
    assert count(bench, "sample") == 700
