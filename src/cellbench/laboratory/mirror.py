"""The runs of all benches as a store: a local one, which is filled from the database when asked.

Whatever reads a store reads this one: the list of runs is brought up to date whenever it is looked
at, and the file of a run when its place is asked for, row by row as the bench wrote it. Samples,
which take long of a long run, are fetched by themselves.
"""

from __future__ import annotations

import math
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import psycopg
from sqlalchemy import delete, insert
from sqlmodel import col

from cellbench.errors import CellbenchError
from cellbench.laboratory.copying import last_number
from cellbench.laboratory.database import Connection, Database
from cellbench.laboratory.tables import FOLLOWED, SAMPLES, Followed
from cellbench.laboratory.texts import from_database
from cellbench.store import Run, Store
from cellbench.store.runfile import make_tables, open_engine

#: What was asked for so lately is not asked for again.
_FRESH_S = 1.0
_NAMES = tuple(Run.model_fields)
#: What is committed late may bear an earlier time than what was seen already.
_CHANGED = (
    f"SELECT number, seen, {', '.join(_NAMES)} FROM run "  # noqa: S608 (our names)
    "WHERE seen >= %s::timestamptz - interval '1 minute'"
)
_EVER = datetime(1970, 1, 2, tzinfo=UTC)
#: Rows that are added to a run's file in one transaction, which keeps others from writing to it.
_ROWS_AT_ONCE = 50_000


@dataclass
class _Fetched:
    """What a run's file has: all that the database had when it heard of the run, and samples.

    Attributes:
        number: The run's, in the database.
        samples: Number of the last sample that belongs to it, fetched when it is needed.
        whole: Whether it was.
    """

    number: int
    seen: datetime
    samples: int
    whole: bool = False


class Mirror(Store):
    """A store of the runs of all benches; a run's id has its bench before it: room2.2026-11-20-001.

    Args:
        database: With the address of a viewer's role.
        directory: Where what is looked at is kept; it may be deleted at any time. None: nowhere,
            once this is closed.

    Raises:
        InputError: The directory cannot be used as a store.
    """

    def __init__(self, database: Database, directory: Path | None = None) -> None:
        self._passing: tempfile.TemporaryDirectory[str] | None = None
        if directory is None:
            self._passing = tempfile.TemporaryDirectory(prefix="cellbench-")
            directory = Path(self._passing.name)
        super().__init__(directory)
        self._database = database
        self._connection: Connection | None = None
        self._lock = threading.RLock()
        self._known: dict[str, tuple[int, datetime]] = {}  # number, and when there was news
        self._fetched: dict[str, _Fetched] = {}
        # One for each run: whoever waits for the samples of a long one keeps nobody else waiting.
        self._fetching_samples: dict[str, threading.Lock] = {}
        self._seen = _EVER
        self._looked_s = -math.inf

    def close(self) -> None:
        """Give up the connection, and what was kept only meanwhile."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            super().close()
            if self._passing is not None:
                self._passing.cleanup()

    def runs(self, limit: int | None = None) -> Sequence[Run]:
        """See `Store`; errors as of `run_path`."""
        self._refresh()
        return super().runs(limit)

    def recent(self, since: datetime) -> Sequence[Run]:
        """See `Store`; errors as of `run_path`."""
        self._refresh()
        return super().recent(since)

    def search(self, text: str = "", **options: Any) -> Sequence[Run]:
        """See `Store`; errors as of `run_path`."""
        self._refresh()
        return super().search(text, **options)

    def find(self, run_id: str) -> Run:
        """See `Store`; errors as of `run_path`."""
        self._refresh()
        return super().find(run_id)

    def run_path(self, run_id: str) -> Path:
        """Where a run's file is, with all that the database has of it.

        Raises:
            CellbenchError: The database cannot be reached.
        """
        path = self.without_samples(run_id)
        fetched = self._fetched[run_id]
        if fetched.whole:
            return path
        with self._fetching_samples.setdefault(run_id, threading.Lock()):
            if not fetched.whole:
                with self._database.connected() as connection:
                    _add(connection, fetched.number, SAMPLES, path, fetched.samples)
                fetched.whole = True
        return path

    def without_samples(self, run_id: str) -> Path:
        """See `Store`; errors as of `run_path`."""
        path = super().run_path(run_id)
        with self._lock:
            self._refresh()
            number, seen = self._known.get(run_id, (0, _EVER))
            fetched = self._fetched.get(run_id)
            if fetched is None or fetched.seen != seen:
                with self._reading() as connection:
                    samples = _fetch(connection, number, path)
                self._fetched[run_id] = _Fetched(number, seen, samples)
        return path

    def elsewhere(self, run_id: str) -> str:
        """See `Store`."""
        with self._lock:
            _, seen = self._known.get(run_id, (0, _EVER))
        return f"heard of last at {seen:%Y-%m-%d %H:%M:%S} UTC"

    def believed(self, run: Run) -> Run:
        """The run: the database says how it ended, and its file need not be fetched for that."""
        return run

    def _save(self, run: Run, *, new: bool = False) -> NoReturn:  # noqa: ARG002 (nothing is)
        """Runs are written by their benches."""
        raise CellbenchError("the laboratory's runs are only looked at here")

    def _refresh(self) -> None:
        """Bring the list of runs up to date."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._looked_s < _FRESH_S:
                return
            with self._reading() as connection:
                rows = connection.execute(_CHANGED, (self._seen,)).fetchall()
            runs = [dict(zip(_NAMES, map(_local, row[2:]), strict=True)) for row in rows]
            if self._seen == _EVER:
                self._forget({run["id"]: run["started"] for run in runs})
            found = {run["id"]: row[:2] for run, row in zip(runs, rows, strict=True)}
            if new := [run for run in runs if self._known.get(run["id"]) != found[run["id"]]]:
                with self._engine.begin() as catalogue:
                    catalogue.execute(insert(Run).prefix_with("OR REPLACE"), new)
            self._known |= found
            self._seen = max((row[1] for row in rows), default=self._seen)
            self._looked_s = now_s

    def _forget(self, there: dict[str, datetime]) -> None:
        """Delete what is kept of runs that the database does not have (any more)."""
        for run in super().runs():
            if there.get(run.id) != run.started.replace(tzinfo=UTC):
                super().run_path(run.id).unlink(missing_ok=True)
                with self._engine.begin() as catalogue:
                    catalogue.execute(delete(Run).where(col(Run.id) == run.id))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """The connection, in a transaction that sees the database as it is at one moment."""
        try:
            if self._connection is None:
                self._connection = self._database.connect()
                self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                self._connection.read_only = True
            with self._connection.transaction():
                yield self._connection
        except psycopg.Error as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            raise CellbenchError(f"{self._database.name}: {str(error).strip()}") from error


def _local(value: Any) -> Any:
    return from_database(value) if isinstance(value, str) else value


# --- A run's file ---------------------------------------------------------------------------------


def _fetch(connection: Connection, number: int, path: Path) -> int:
    """Add to a run's file what it does not have yet, but samples; it is there only once whole.

    Returns:
        Number of the last sample.
    """
    if path.exists():
        return _fill(connection, number, path)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    engine = open_engine(draft, durable=False)
    make_tables(engine, wire=False)
    engine.dispose()
    samples = _fill(connection, number, draft)
    draft.replace(path)
    return samples


def _fill(connection: Connection, number: int, path: Path) -> int:
    for table in FOLLOWED:
        if table is not SAMPLES:
            _add(connection, number, table, path)
    documents = connection.execute("SELECT name, text FROM document WHERE run = %s", (number,))
    with closing(sqlite3.connect(path)) as file, file:
        file.executemany(
            "INSERT OR REPLACE INTO document (name, text) VALUES (?, ?)",
            [tuple(map(_local, row)) for row in documents],
        )
    found = connection.execute("SELECT samples FROM copied_run WHERE number = %s", (number,))
    return next((samples for (samples,) in found), 0)


def _add(
    connection: Connection, number: int, table: Followed, path: Path, last: int | None = None
) -> None:
    """Add to a run's file the rows of a table that it does not have, to a last one."""
    with closing(sqlite3.connect(path)) as file:
        rows = _rows(connection, number, table, last_number(file, table), last)
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            with file:
                file.executemany(_insertion(table), some)


def _insertion(table: Followed) -> str:
    marks = ", ".join("?" * len(table.types))
    # Another process may fetch the same; rows never change.
    return (
        f"INSERT OR IGNORE INTO {table.local} ({table.local_number}, {table.columns}) "  # noqa: S608 (ours)
        f"VALUES ({marks})"
    )


def _rows(
    connection: Connection, number: int, table: Followed, after: int, last: int | None
) -> Iterator[tuple[Any, ...]]:
    """Rows of a run by their numbers, as its file has them."""
    query = (
        f"COPY (SELECT {table.number}, {table.columns} FROM {table.name} "  # noqa: S608 (ours)
        f"WHERE run = %s AND {table.number} > %s "
        f"AND ({table.number} <= %s OR %s) ORDER BY {table.number}) TO STDOUT (FORMAT BINARY)"
    )
    values = (number, after, last or 0, last is None)
    with connection.cursor() as cursor, cursor.copy(query, values) as copy:
        copy.set_types(table.types)
        for row in copy.rows():
            yield _as_written(table, row)


def _as_written(table: Followed, row: tuple[Any, ...]) -> tuple[Any, ...]:
    if not table.times and all(row[at] is None or "␀" not in row[at] for at in table.texts):
        return row
    values = list(row)
    for at in table.texts:
        values[at] = _local(row[at])
    for at in table.times:
        values[at] = f"{row[at]:%Y-%m-%d %H:%M:%S.%f}"
    return tuple(values)
