"""Finished runs made small: their samples, spectra and wire log as Parquet beside the run's file.

A table leaves the file in the transaction that enters its Parquet file in it, after that was
written, flushed and read back. A process that dies on the way leaves the run as it was, or
compacted; at worst with a file beside it that nobody needs (`left_over`), or with unused space.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellbench.errors import StoreError
from cellbench.store.archive import SUFFIXES, Archived, archived, beside, enter, forget
from cellbench.store.catalogue import Store
from cellbench.store.files import PART, sha256, whole
from cellbench.store.maintenance import commit_of_finished, finished, writing
from cellbench.store.parquet import COLUMNS, Content, ParquetFile, content_of, write
from cellbench.store.samples import ROWS_AT_ONCE
from cellbench.store.tables import TABLES, Run


@dataclass(frozen=True)
class Changed:
    """What became of a run's files: their size before and after, and the rows of each table."""

    run: str
    before_B: int
    after_B: int
    rows: dict[str, int]


def size_of(path: Path) -> int:
    """How much of the disk a run takes: its file, its write-ahead log, what stands beside it."""
    log = path.with_name(f"{path.name}-wal")
    places = (path, log, *(beside(path, kind) for kind in SUFFIXES))
    return sum(place.stat().st_size for place in places if place.is_file())


def compact(store: Store, run: Run) -> Changed:
    """Move a finished run's samples, spectra and wire log to Parquet files beside it.

    Of one that is compacted already, only what an earlier process could not finish is done.

    Raises:
        InputError: It is not finished, or pyarrow is not installed.
        StoreError: It cannot be done; nothing was changed.
    """
    path = finished(store, run)
    before_B = size_of(path)
    with writing(path) as connection:
        kept = [_archive(connection, path, kind) for kind in _tables(connection)]
        for each in kept:
            connection.execute(f"DROP TABLE {each.kind}")
            enter(connection, each)
        commit_of_finished(store, run.id, connection)
    _tidy(path)
    return Changed(run.id, before_B, size_of(path), {each.kind: each.rows for each in kept})


def expand(store: Store, run: Run) -> Changed:
    """Bring the rows of a compacted run back into its file, from where it can be gone on with.

    Raises:
        InputError: It is not finished, or pyarrow is not installed.
        StoreError: A Parquet file is missing or damaged; nothing was changed.
    """
    path = finished(store, run)
    before_B, rows = size_of(path), {}
    with writing(path) as connection:
        for kept in archived(connection).values():
            if not kept.is_dropped:
                _bring_back(connection, path, kept)
                rows[kept.kind] = kept.rows
        commit_of_finished(store, run.id, connection)
    _tidy(path)
    return Changed(run.id, before_B, size_of(path), rows)


def drop_wire(store: Store, run: Run) -> Changed:
    """Give up the wire log of a finished run, for good; that it was there stays known.

    Raises:
        InputError: It is not finished.
        StoreError: It cannot be done; nothing was changed.
    """
    path = finished(store, run)
    before_B, count = size_of(path), 0
    with writing(path) as connection:
        if "wire" in _tables(connection):
            ((count,),) = connection.execute("SELECT count(*) FROM wire").fetchall()
            connection.execute("DROP TABLE wire")
        elif (kept := archived(connection).get("wire")) is not None:
            count = kept.rows
        enter(connection, Archived("wire", count, None, None, _now()))
        commit_of_finished(store, run.id, connection)
    _tidy(path)
    return Changed(run.id, before_B, size_of(path), {"wire": count})


def as_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Let SQL find all tables of a compacted run, as temporary ones of a connection to its file.

    For what copies rows by their numbers; whoever reads samples has `cellbench.store.samples`.

    Raises:
        StoreError: A Parquet file is missing or damaged.
        InputError: pyarrow is not installed.
    """
    for kept in archived(connection).values():
        if not kept.is_dropped:
            connection.execute(TABLES[kept.kind].replace("CREATE", "CREATE TEMPORARY", 1))
            _fill(connection, path, kept)


def has_wire(path: Path) -> bool:
    """Whether the wire log of a run is kept, in whichever file."""
    with closing(sqlite3.connect(path)) as connection:
        kept = archived(connection).get("wire")
        return "wire" in _tables(connection) if kept is None else not kept.is_dropped


def has_rows(path: Path) -> bool:
    """Whether there is something to compact in a run's own file."""
    with closing(sqlite3.connect(path)) as connection:
        return bool(_tables(connection))


def left_over(path: Path) -> list[Path]:
    """Files beside a run's that belong to no state of it: a process was lost while it made them."""
    with closing(sqlite3.connect(path)) as connection:
        needed = {kind for kind, each in archived(connection).items() if not each.is_dropped}
    found = [beside(path, kind) for kind in SUFFIXES if kind not in needed]
    parts = [each.with_name(f"{each.name}{PART}") for each in (beside(path, k) for k in SUFFIXES)]
    return [each for each in (*found, *parts) if each.is_file()]


def _tables(connection: sqlite3.Connection) -> list[str]:
    """The tables in a run's file that can be compacted."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return [kind for kind in SUFFIXES if kind in there]


def _archive(connection: sqlite3.Connection, path: Path, kind: str) -> Archived:
    """Write a table's Parquet file, and make sure that it says the same."""
    _require_numbered(connection, path, kind)
    target = beside(path, kind)
    about = {"cellbench run": path.stem, "cellbench table": kind}
    content = Content()
    with whole(target) as part:
        write(part, kind, content.of(_rows(connection, kind)), about)
        with ParquetFile(part) as file:
            if content_of(file.rows()) != (content.count, content.sha256):
                raise StoreError(f"{part} reads back otherwise than written: nothing was changed")
        checksum = sha256(part)
    return Archived(kind, content.count, content.sha256, checksum, _now())


def _require_numbered(connection: sqlite3.Connection, path: Path, kind: str) -> None:
    """Rows are known by their numbers, which in a Parquet file are their places."""
    if kind == "sample":
        (numbers,) = connection.execute("SELECT count(*), min(rowid), max(rowid) FROM sample")
        if numbers[0] and numbers != (numbers[2], 1, numbers[2]):
            raise StoreError(f"{path}: rows of its samples are missing, so it is left as it is")


def _rows(connection: sqlite3.Connection, kind: str) -> Iterator[Sequence[tuple[Any, ...]]]:
    names = ", ".join(COLUMNS[kind])
    rows = connection.execute(f"SELECT {names} FROM {kind} ORDER BY rowid")  # noqa: S608 (ours)
    return iter(lambda: rows.fetchmany(ROWS_AT_ONCE), [])


def _fill(connection: sqlite3.Connection, path: Path, kept: Archived) -> None:
    names = COLUMNS[kept.kind]
    marks = ", ".join("?" * len(names))
    insert = f"INSERT INTO {kept.kind} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 (ours)
    with ParquetFile(kept.beside(path)) as file:
        for piece in file.rows():
            connection.executemany(insert, piece)


def _bring_back(connection: sqlite3.Connection, path: Path, kept: Archived) -> None:
    connection.execute(TABLES[kept.kind])
    _fill(connection, path, kept)
    if content_of(_rows(connection, kept.kind)) != (kept.rows, kept.content):
        raise StoreError(f"{kept.beside(path)} is not what was written: nothing was changed")
    forget(connection, kept.kind)


def _tidy(path: Path) -> None:
    """Delete what nobody needs, and give unused space back; what cannot be done now is not due."""
    for each in left_over(path):
        with suppress(OSError):  # another program reads it: next time
            each.unlink()
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as file:
        ((unused,),) = file.execute("PRAGMA freelist_count").fetchall()
        if unused:
            file.execute("VACUUM")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
