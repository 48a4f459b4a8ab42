"""Whether the copies of a store's runs are equal to the runs, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from cellbench.errors import CellbenchError
from cellbench.laboratory.copying import Copied, copied_runs, end_of, rows_after, run_file
from cellbench.laboratory.database import Connection, Database
from cellbench.laboratory.tables import FOLLOWED, Followed
from cellbench.laboratory.texts import to_database
from cellbench.store import Run, Store

_ROWS_AT_ONCE = 20_000


def differences(store: Store, database: Database) -> Iterator[tuple[str, str]]:
    """Where copies are not equal to their runs, by the run's id; of each run the first place.

    Raises:
        CellbenchError: The database cannot be reached.
    """
    with database.connected() as connection:
        copied = copied_runs(connection)
        for run in reversed(store.runs()):
            difference = _difference(connection, store, run, copied.get(run.id))
            if difference is not None:
                yield run.id, difference


def _difference(
    connection: Connection, store: Store, run: Run, copied: Copied | None
) -> str | None:
    if copied is None:
        return "it is not copied"
    if copied.end != end_of(run):
        return f'its state is "{copied.end[0]}" in the copy, "{run.state}" here'
    try:
        with run_file(store.run_path(run.id)) as file:
            return None if file is None else _other_rows(connection, file, copied.number)
    except (CellbenchError, sqlite3.Error) as error:
        return str(error)


def _other_rows(connection: Connection, file: sqlite3.Connection, run: int) -> str | None:
    query = "SELECT name, text FROM document"
    here = {to_database(name): to_database(text) for name, text in file.execute(query)}
    if dict(connection.execute(f"{query} WHERE run = %s", (run,)).fetchall()) != here:
        return "other documents"
    found = (_other_row(connection, file, table, run) for table in FOLLOWED)
    return next((each for each in found if each is not None), None)


def _other_row(
    connection: Connection, file: sqlite3.Connection, table: Followed, run: int
) -> str | None:
    after: int | None = -1
    while after is not None:
        rows = rows_after(file, table, after, _ROWS_AT_ONCE)
        for here, there in zip_longest(rows, _rows(connection, table, run, after)):
            if here != there:
                return f"{table.name} {(here or there)[0]} is another one"
        after = rows[-1][0] if rows else None
    return None


def _rows(connection: Connection, table: Followed, run: int, after: int) -> list[tuple[Any, ...]]:
    return (
        connection.cursor(binary=True)
        .execute(
            f"SELECT {table.number}, {table.columns} FROM {table.name} "  # noqa: S608 (our names)
            f"WHERE run = %s AND {table.number} > %s ORDER BY {table.number} LIMIT {_ROWS_AT_ONCE}",
            (run, after),
        )
        .fetchall()
    )
