"""One run's way into the database: what of it is new, by tables, committed with how far it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from cellbench.errors import InputError
from cellbench.laboratory.database import Connection
from cellbench.laboratory.tables import FOLLOWED, SAMPLES, Followed, reduced
from cellbench.laboratory.texts import to_database
from cellbench.store import Run, RunReader, never_began
from cellbench.store.compact import as_tables

#: Rows of one table that are copied in one transaction.
_ROWS_AT_ONCE = 20_000

_CURSORS = tuple(table.cursor for table in FOLLOWED)
_SHOWN_CURSORS = ", ".join(_CURSORS)
#: Columns of a run that may change after it was entered.
_CHANGING = ("state", "reason", "ended")
_LASTING = tuple(name for name in Run.model_fields if name not in {*_CHANGING, "id"})


@dataclass
class Copied:
    """How far a run is copied.

    Attributes:
        number: Of the run in the database.
        end: State, reason and time of the end, as they are copied.
        cursors: Number of the last row that is copied, by `Followed.cursor`.
        documents: Those that this process has copied.
    """

    number: int
    end: tuple[Any, ...]
    cursors: dict[str, int]
    documents: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int, *columns: Any) -> Copied:
        """As a row of the database says: number, the columns of the end, the cursors."""
        end, cursors = columns[: len(_CHANGING)], columns[len(_CHANGING) :]
        return cls(number, end, dict(zip(_CURSORS, cursors, strict=True)))


def copied_runs(connection: Connection) -> dict[str, Copied]:
    """How far each run of this bench is copied, by the run's id.

    Raises:
        InputError: We have come with the role of no bench.
    """
    found = connection.execute("SELECT own_bench()").fetchone()
    if found is None or found[0] is None:
        raise InputError(
            f'"{connection.info.user}" is the role of no bench: '
            "cellbench database grant bench NAME makes one"
        )
    rows = connection.execute(
        f"SELECT id, number, state, reason, ended, {_SHOWN_CURSORS} "  # noqa: S608 (our names)
        "FROM copied_run WHERE bench_number = own_bench()"
    )
    return {run_id: Copied.of(*columns) for run_id, *columns in rows}


def end_of(run: Run) -> tuple[Any, ...]:
    """State, reason and time of the end, as the database has them."""
    return tuple(_value(getattr(run, name)) for name in _CHANGING)


def is_copied(run: Run, file: sqlite3.Connection | None, copied: Copied) -> bool:
    """Whether nothing in a run is new; its documents come with an entry of the journal."""
    news = file is not None and any(
        last_number(file, table) != copied.cursors[table.cursor] for table in FOLLOWED
    )
    return copied.end == end_of(run) and not news


def copy_some(
    connection: Connection, run: Run, file: sqlite3.Connection | None, known: Copied | None
) -> tuple[Copied, bool]:
    """Copy some of what is new in a run, in the transaction that is open.

    Returns:
        How far it is copied then, and whether that is all.

    Raises:
        InputError: It cannot be what was copied before.
    """
    copied = _entered(connection, run)
    copied.documents = {} if known is None else known.documents
    whole = file is None or _copy_rows(connection, file, copied)
    if whole:
        if file is not None:
            _copy_documents(connection, file, copied)
        copied.end = end_of(run)
    _keep(connection, copied)
    return copied, whole


_ENTER = sql.SQL(
    "INSERT INTO copied_run (bench_number, id, state, reason, {names}) "
    "VALUES (own_bench(), %s, 'running', '', {values}) "
    # The row is ours until we commit: a second follower waits here, and then finds all done.
    "ON CONFLICT (bench_number, id) DO UPDATE SET seen = now() "
    "WHERE copied_run.started = excluded.started "
    "RETURNING number, state, reason, ended, {cursors}"
).format(
    names=sql.SQL(", ").join(map(sql.Identifier, _LASTING)),
    values=sql.SQL(", ").join([sql.Placeholder()] * len(_LASTING)),
    cursors=sql.SQL(", ").join(map(sql.Identifier, _CURSORS)),
)
_KEEP = sql.SQL("UPDATE copied_run SET seen = clock_timestamp(), {} WHERE number = %s").format(
    sql.SQL(", ").join(
        sql.SQL("{} = %s").format(sql.Identifier(name)) for name in (*_CHANGING, *_CURSORS)
    )
)


def _entered(connection: Connection, run: Run) -> Copied:
    """How far a run is copied; entered if it is new, and ours until the transaction ends."""
    values = [_value(getattr(run, name)) for name in _LASTING]
    row = connection.execute(_ENTER, (to_database(run.id), *values)).fetchone()
    if row is None:
        raise InputError(
            "another run of this id is there already, of another store: each store needs a role "
            "of its own"
        )
    return Copied.of(*row)


def _keep(connection: Connection, copied: Copied) -> None:
    cursors = [copied.cursors[name] for name in _CURSORS]
    connection.execute(_KEEP, (*copied.end, *cursors, copied.number))


def _value(value: Any) -> Any:
    """A value of the catalogue, which keeps UTC without saying so."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return to_database(value) if isinstance(value, str) else value


# --- Rows -----------------------------------------------------------------------------------------


@contextmanager
def run_file(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A run's file to be read, as it is at one moment; None for one that was lost at its start.

    Raises:
        StoreError: It is missing, or of another version.
    """
    if path.is_file() and never_began(path):
        yield None
        return
    RunReader(path)  # refuses what is no run's file of ours
    # Its writer tidies up when it closes it, as the last one who has it open: we do not keep it.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        file.isolation_level = None
        as_tables(file, path)
        file.execute("BEGIN")
        yield file


def _copy_rows(connection: Connection, file: sqlite3.Connection, copied: Copied) -> bool:
    """Copy some rows of each table; whether these are all there are."""
    whole = True
    for table in FOLLOWED:
        after = copied.cursors[table.cursor]
        if last_number(file, table) < after:
            raise InputError(
                f"fewer rows ({table.local}) are in its file than were copied of it: the file was "
                "replaced by an older one"
            )
        rows = rows_after(file, table, after, _ROWS_AT_ONCE)
        if rows:
            copied.cursors[table.cursor] = rows[-1][0]
            _insert(connection, table, copied.number, rows)
        if table is SAMPLES:
            for statement in reduced(after, copied.cursors[table.cursor]):
                connection.execute(statement, (copied.number,))
        whole = whole and len(rows) < _ROWS_AT_ONCE
    return whole


def last_number(file: sqlite3.Connection, table: Followed) -> int:
    """Number of the last row in a run's file, -1 where there is none."""
    query = f"SELECT max({table.local_number}) FROM {table.local}"  # noqa: S608 (our names)
    ((last,),) = file.execute(query).fetchall()
    return -1 if last is None else int(last)


def rows_after(
    file: sqlite3.Connection, table: Followed, after: int, at_most: int
) -> list[tuple[Any, ...]]:
    """Rows of a run's file after a number, in order, as the database keeps them."""
    number = table.local_number
    rows: list[tuple[Any, ...]] = file.execute(
        f"SELECT {number}, {table.columns} FROM {table.local} "  # noqa: S608 (our names)
        f"WHERE {number} > ? ORDER BY {number} LIMIT ?",
        (after, at_most),
    ).fetchall()
    for at in table.times:
        rows = [(*row[:at], _time(row[at]), *row[at + 1 :]) for row in rows]
    for at in table.texts:
        if any(
            text is not None and to_database(text) != text for text in {row[at] for row in rows}
        ):
            rows = [(*row[:at], _text(row[at]), *row[at + 1 :]) for row in rows]
    return rows


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _text(text: str | None) -> str | None:
    return None if text is None else to_database(text)


def stage(connection: Connection) -> None:
    """Make the tables that rows pass through: for COPY itself, policies of rights do not hold."""
    for table in FOLLOWED:
        connection.execute(
            f"CREATE TEMPORARY TABLE {table.staged} ON COMMIT DELETE ROWS AS "  # noqa: S608 (ours)
            f"SELECT {table.number}, {table.columns} FROM {table.name} WITH NO DATA"
        )


def _insert(
    connection: Connection, table: Followed, run: int, rows: Sequence[tuple[Any, ...]]
) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table.staged} FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(table.types)
        for row in rows:
            copy.write_row(row)
    names = f"{table.number}, {table.columns}"
    connection.execute(
        f"INSERT INTO {table.name} (run, {names}) "  # noqa: S608 (our names)
        f"SELECT %s, {names} FROM {table.staged}",
        (run,),
    )


_DOCUMENT = (
    "INSERT INTO document (run, name, text) VALUES (%s, %s, %s) "
    "ON CONFLICT (run, name) DO UPDATE SET text = excluded.text"
)


def _copy_documents(connection: Connection, file: sqlite3.Connection, copied: Copied) -> None:
    """Copy the documents that are new, or others than before."""
    documents = dict(file.execute("SELECT name, text FROM document"))
    new = documents.items() - copied.documents.items()
    if new:
        values = [(copied.number, to_database(name), to_database(text)) for name, text in new]
        connection.cursor().executemany(_DOCUMENT, values)
        copied.documents = documents
