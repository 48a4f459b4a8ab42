"""A host that is killed between the registration of its run and the run's first entry."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cellbench.engine.lost import lost_runs
from cellbench.engine.resume import session_of
from cellbench.errors import InputError, StoreError
from cellbench.store import Run, RunReader, RunWriter, Store, never_began


def registered(store: Store) -> tuple[Run, Path]:
    run = store.register(protocol="ccd", cell="A", bench="glovebox 2", simulated=False, seed=None)
    return run, store.run_path(run.id)


@pytest.fixture
def store(store_directory: Path) -> Iterator[Store]:
    with Store(store_directory) as opened:
        yield opened


async def make(path: Path, made: str) -> None:
    """Leave a file behind as a kill leaves it."""
    if made == "empty":
        await asyncio.to_thread(path.touch)
    elif made == "half made":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE journalentry (seq INTEGER PRIMARY KEY)")
    else:
        RunWriter(path, durable=False).sever()


@pytest.mark.parametrize("made", ["empty", "half made", "made"])
async def test_there_is_nothing_to_go_on_with(store: Store, made: str) -> None:
    run, path = registered(store)
    await make(path, made)
    assert never_began(path)
    with pytest.raises(InputError, match="lost before it began: nothing was energised"):
        session_of(store, run)
    # Nor does it keep the service from others.
    assert lost_runs(store.directory) == []
    assert store.find("last").state == "failed"
    assert "before it began" in store.find("last").reason


async def test_texts_that_were_not_kept_are_told_as_such(store: Store) -> None:
    _, path = registered(store)
    await make(path, "made")
    with pytest.raises(StoreError, match="has no cell: the run was lost before it began"):
        RunReader(path).documents["cell"]


def test_a_file_of_another_kind_is_no_run_that_never_began(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.write_text("no database at all, but long enough to be read as one" * 20)
    assert not never_began(other)
