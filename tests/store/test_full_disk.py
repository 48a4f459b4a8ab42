"""A disk that takes nothing for a while: all waits in order, and nothing is written twice."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cellbench.clock import run
from cellbench.errors import StoreError
from cellbench.store import JournalEntry, RunReader, RunWriter, SampleRow
from cellbench.store.trouble import may_pass

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX stand for a disk")

START = datetime(2026, 11, 20, tzinfo=UTC)


def entry(seq: int) -> JournalEntry:
    return JournalEntry(seq=seq, time_s=float(seq), utc=START, kind="remark", text="x" * 100)


def rows(first: int, count: int) -> list[SampleRow]:
    return [
        (float(index), "potentiostat", 1, 0.1, 1e-3, 0.0, None, None, 0, None)
        for index in range(first, first + count)
    ]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can become longer than it is."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.long
@pytest.mark.parametrize("virtual", [False, True])
def test_what_comes_while_the_disk_is_full_is_kept_in_order_and_once(
    tmp_path: Path, virtual: bool
) -> None:
    path = tmp_path / "run.sqlite"
    told: list[str | None] = []

    async def main() -> None:
        writer = RunWriter(path, durable=not virtual)
        writer.stall_listeners.append(told.append)
        writer.add_samples(rows(0, 10))
        await writer.add_entries([entry(0)])
        with full_disk():
            waiting = [asyncio.create_task(writer.add_entries([entry(seq)])) for seq in (1, 2)]
            writer.add_samples(rows(10, 2000))
            while writer.stall is None:
                await asyncio.to_thread(time.sleep, 0.05)
            writer.add_step(7, "rest", "rest")
            writer.add_entries_soon([entry(3)])
            await asyncio.to_thread(time.sleep, 1.0)
            assert not any(task.done() for task in waiting)
            assert writer.rows_waiting >= 2000
        await asyncio.gather(*waiting)
        writer.add_samples(rows(2010, 5))
        await writer.add_entries([entry(4)])
        assert writer.stall is None
        await writer.close()

    run(main(), virtual=virtual)
    reader = RunReader(path)
    assert reader.samples("potentiostat")["time_s"].tolist() == [
        float(each) for each in range(2015)
    ]
    assert [each.seq for each in reader.journal] == [0, 1, 2, 3, 4]
    assert reader.steps == {7: ("rest", "rest")}
    assert told[0] is not None
    assert told[-1] is None


def test_a_run_that_ends_on_a_full_disk_waits_a_little_and_says_what_is_lost(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        writer = RunWriter(tmp_path / "run.sqlite", durable=False)
        await writer.add_entries([entry(0)])
        with full_disk():
            writer.add_samples(rows(0, 500))
            writer.add_entries_soon([entry(1)])
            writer.hurry(0.8)
            started = time.monotonic()
            with pytest.raises(StoreError, match="lost are 500 rows of samples, 1 journal entries"):
                await writer.close()
            assert 0.5 < time.monotonic() - started < 5.0

    run(main())


def test_the_memory_for_rows_that_wait_is_bounded_and_what_is_lost_is_counted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.sqlite"

    async def main() -> None:
        writer = RunWriter(path, durable=False, rows_kept=100)
        with full_disk():
            writer.add_samples(rows(0, 60))
            while writer.stall is None:
                await asyncio.sleep(0.05)
            writer.add_samples(rows(60, 60))
            writer.add_samples(rows(120, 30))
            assert writer.rows_lost == 50
        with pytest.raises(StoreError, match="lost are 50 rows"):
            await writer.close()

    run(main())
    assert RunReader(path).samples("potentiostat")["time_s"].size == 100


def test_a_lock_of_another_program_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"

    async def main() -> None:
        writer = RunWriter(path, durable=False)
        await writer.add_entries([entry(0)])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(writer.add_entries([entry(1)]))
            while writer.stall is None:
                await asyncio.sleep(0.1)
            assert "locked" in writer.stall
            other.execute("ROLLBACK")
            await waiting
        await writer.close()

    run(main())
    assert len(RunReader(path).journal) == 2


def test_a_file_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"

    async def main() -> None:
        writer = RunWriter(path, durable=False)
        await writer.add_entries([entry(0)])
        path.unlink()
        with pytest.raises(StoreError, match="moved, deleted or replaced"):
            await writer.add_entries([entry(1)])
        with pytest.raises(StoreError):
            await writer.close()

    run(main())


def test_damage_and_bugs_do_not_pass() -> None:
    for code, passes in (
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_IOERR_CORRUPTFS, False),
        (sqlite3.SQLITE_NOTADB, False),
    ):
        error = sqlite3.OperationalError("said by SQLite")
        error.sqlite_errorcode = code
        assert may_pass(error) is passes
    assert not may_pass(ValueError("a bug"))
