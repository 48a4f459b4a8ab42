"""Copies are equal to the runs, row by row, whatever happened on the way."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.faults.processes import wait_for

pytest.importorskip("psycopg", reason="the extra [server] is not installed")

from cellbench import clock
from cellbench.laboratory import Database, copying
from cellbench.laboratory.checking import differences
from cellbench.laboratory.follower import Follower
from cellbench.store import RunWriter, Store
from cellbench.store.compact import as_tables, compact

from .postgresql import PostgreSQL
from .stores import HOSTILE, START, add_run, entry, registered, rows, writing

LATER = START + timedelta(seconds=1)


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


def samples(database: Database) -> int:
    with database.connected() as connection:
        ((rows,),) = connection.execute("SELECT count(*) FROM sample").fetchall()
    return int(rows)


def test_a_copy_is_equal_to_its_run_and_made_once(store: Store, bench: Database) -> None:
    add_run(store, 45_000)
    add_run(store, 0)
    assert copy(store, bench) == []
    assert list(differences(store, bench)) == []
    assert copy(store, bench) == []
    assert samples(bench) == 45_000
    assert list(differences(store, bench)) == []


def test_the_files_beside_a_compacted_run_are_read_once(
    store: Store, bench: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add_run(store, 21_000)

    async def end() -> None:
        writer = RunWriter(store.run_path(run.id), durable=False, again=True)
        await writer.add_entries([entry(1, kind="run ended")])
        await writer.close()

    clock.run(end(), virtual=True)
    compact(store, run)
    loaded: list[Path] = []

    def counted(file: sqlite3.Connection, path: Path) -> None:
        loaded.append(path)
        as_tables(file, path)

    monkeypatch.setattr(copying, "as_tables", counted)
    copy(store, bench)
    assert loaded == [store.run_path(run.id)]
    assert samples(bench) == 21_000
    assert list(differences(store, bench)) == []


def test_hostile_names_and_notes_change_nothing(store: Store, bench: Database) -> None:
    add_run(store, texts=HOSTILE)
    copy(store, bench)
    assert list(differences(store, bench)) == []
    assert samples(bench) == 700


def test_a_difference_is_found(store: Store, database: Database, bench: Database) -> None:
    run = add_run(store)
    copy(store, bench)
    with database.connected() as connection:
        connection.execute("UPDATE sample SET voltage_V = 1.5 WHERE number = 300")
    assert list(differences(store, bench)) == [(run.id, "sample 300 is another one")]


def test_a_run_under_way_is_followed_to_its_end(store: Store, bench: Database) -> None:
    run = registered(store)

    async def main(follower: Follower) -> list[int]:
        found = []
        async with writing(store, run) as writer:
            for seq, row in enumerate(rows(300)):
                writer.add_sample(row)
                if seq % 100 == 50:
                    await writer.add_entries([entry(seq)])
                    follower.once()
                    found.append(samples(bench))
        store.finish(run, "completed", "")
        follower.once()
        return [*found, samples(bench)]

    with Follower(store, bench, print) as follower:
        assert clock.run(main(follower), virtual=True) == [51, 151, 251, 300]
    assert list(differences(store, bench)) == []


def test_a_run_that_is_taken_up_again_is_followed_on(store: Store, bench: Database) -> None:
    run = add_run(store)
    copy(store, bench)
    store.reopen(run)

    async def go_on() -> None:
        writer = RunWriter(store.run_path(run.id), durable=False, again=True)
        writer.add_samples(rows(50))
        await writer.add_documents({"protocol": "name: y"})
        await writer.add_entries([entry(10)])
        await writer.close()

    clock.run(go_on(), virtual=True)
    copy(store, bench)
    store.finish(run, "stopped", "by hand")
    copy(store, bench)
    assert list(differences(store, bench)) == []


def test_a_run_whose_file_is_gone_or_older_is_said_and_others_are_copied(
    store: Store, bench: Database
) -> None:
    gone, older, whole = add_run(store), add_run(store), add_run(store)
    store.run_path(gone.id).unlink()
    copy(store, bench)
    store.reopen(older)
    with closing(sqlite3.connect(store.run_path(older.id))) as file, file:
        file.execute("DELETE FROM sample WHERE rowid > 600")
    said = copy(store, bench)
    assert sorted(line.partition(":")[0] for line in said) == [
        f"run {gone.id} is not copied",
        f"run {older.id} is not copied",
    ]
    assert any("replaced by an older one" in line for line in said)
    assert whole.id not in dict(differences(store, bench))


def test_two_stores_of_one_bench_do_not_mix(store: Store, bench: Database, tmp_path: Path) -> None:
    add_run(store)
    copy(store, bench)
    with Store(tmp_path / "there") as other:
        add_run(other, began=LATER)
        said = copy(other, bench)
    assert "each store needs a role of its own" in said[0]
    assert list(differences(store, bench)) == []


def test_two_followers_at_once_copy_nothing_twice(store: Store, bench: Database) -> None:
    for _ in range(5):
        add_run(store, 5_000)
    both = [threading.Thread(target=copy, args=(store, bench)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert samples(bench) == 25_000
    assert list(differences(store, bench)) == []


@contextmanager
def following(store: Store, bench: Database, said: list[str]) -> Iterator[threading.Event]:
    """Have a store followed meanwhile; it is left in good order at the end."""
    leave = threading.Event()
    with Follower(store, bench, said.append) as follower:
        thread = threading.Thread(target=follower.follow, args=(leave,))
        thread.start()
        try:
            yield leave
        finally:
            leave.set()
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.long
def test_a_server_killed_again_and_again_loses_and_doubles_nothing(
    store: Store, database: Database, bench: Database, server: PostgreSQL
) -> None:
    said: list[str] = []
    number = itertools.count()
    run = registered(store)

    async def main() -> None:
        async with writing(store, run) as writer:
            for _ in range(2):
                before = samples(database)
                writer.add_samples(rows(30_000, seed=next(number)))
                await writer.add_entries([entry(next(number))])
                # In the middle: some of these rows are there, others are not.
                wait_for(lambda: samples(database) > before, "nothing is copied")  # noqa: B023
                server.kill()
                writer.add_samples(rows(500))
                await writer.add_entries([entry(next(number))])
                wait_for(lambda: said and "is away" in said[-1], "nobody misses the server")
                server.start()
        store.finish(run, "completed", "")

    with following(store, bench, said):
        clock.run(main(), virtual=True)
        wait_for(lambda: samples(database) == 2 * 30_500, "not all is copied")
    assert list(differences(store, bench)) == []
    assert "is away" in said[0]
    assert said[-1].endswith("is back, and all is copied")


def test_a_server_that_freezes_is_waited_for(
    store: Store, bench: Database, server: PostgreSQL
) -> None:
    said: list[str] = []
    with following(store, bench, said):
        add_run(store)
        wait_for(lambda: samples(bench) == 700, "the first run is not copied")
        server.freeze()
        try:
            add_run(store)
            time.sleep(1.5)
        finally:
            server.thaw()
    assert list(differences(store, bench)) == []


@pytest.mark.long
def test_a_server_that_is_away_at_the_end_is_left_and_caught_up_with_later(
    store: Store, bench: Database, server: PostgreSQL
) -> None:
    add_run(store)
    server.stop()
    said: list[str] = []
    with Follower(store, bench, said.append) as follower:
        leave = threading.Event()
        leave.set()
        assert not follower.follow(leave)
    assert len(said) == 1
    assert "not all is copied" in said[0]
    server.start()
    assert copy(store, bench) == []
    assert list(differences(store, bench)) == []
