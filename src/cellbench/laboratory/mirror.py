"""The runs of all benches as a store: a local one, which is filled from the database when asked.

Whatever reads a store reads this one: the list of runs is brought up to date whenever it is looked
at, and the file of a run when its place is asked for, row by row as the bench wrote it.
"""

from __future__ import annotations

import math
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psycopg
from sqlalchemy import delete, insert
from sqlmodel import col

from cellbench.errors import CellbenchError
from cellbench.laboratory.copying import last_number
from cellbench.laboratory.database import Connection, Database
from cellbench.laboratory.tables import FOLLOWED, Followed
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
        self._fetched: dict[str, datetime] = {}
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
        path = super().run_path(run_id)
        with self._lock:
            self._refresh()
            number, seen = self._known.get(run_id, (0, _EVER))
            if self._fetched.get(run_id, _EVER) != seen:
                with self._reading() as connection:
                    _fetch(connection, number, path)
                self._fetched[run_id] = seen
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


def _fetch(connection: Connection, number: int, path: Path) -> None:
    """Add to a run's file what it does not have yet; it is there only once it is whole."""
    if path.exists():
        _fill(connection, number, path)
        return
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    engine = open_engine(draft, durable=False)
    make_tables(engine, wire=False)
    engine.dispose()
    _fill(connection, number, draft)
    draft.replace(path)


def _fill(connection: Connection, number: int, path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        for table in FOLLOWED:
            file.executemany(_insertion(table), _rows(connection, file, table, number))
        documents = connection.execute("SELECT name, text FROM document WHERE run = %s", (number,))
        file.executemany(
            "INSERT OR REPLACE INTO document (name, text) VALUES (?, ?)",
            [tuple(map(_local, row)) for row in documents],
        )


def _insertion(table: Followed) -> str:
    marks = ", ".join("?" * len(table.types))
    return (
        f"INSERT INTO {table.local} ({table.local_number}, {table.columns}) "  # noqa: S608 (ours)
        f"VALUES ({marks})"
    )


def _rows(
    connection: Connection, file: sqlite3.Connection, table: Followed, number: int
) -> Iterator[tuple[Any, ...]]:
    """Rows that a run's file does not have yet, as it has them."""
    query = (
        f"COPY (SELECT {table.number}, {table.columns} FROM {table.name} "  # noqa: S608 (ours)
        f"WHERE run = %s AND {table.number} > %s ORDER BY {table.number}) "
        "TO STDOUT (FORMAT BINARY)"
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(query, (number, last_number(file, table))) as copy,
    ):
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
