"""Whether the copies of a store's runs are equal to the runs, row by row."""

from __future__ import annotations

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
    try:
        with run_file(store.run_path(run.id)) as file:
            if copied.end != end_of(run):
                return f'its end is "{copied.end[0]}" in the copy, "{run.state}" here'
            if file is None:
                return None
            local = dict(file.execute("SELECT name, text FROM document"))
            kept = {to_database(name): to_database(text) for name, text in local.items()}
            query = "SELECT name, text FROM document WHERE run = %s"
            if dict(connection.execute(query, (copied.number,)).fetchall()) != kept:
                return "other documents"
            for table in FOLLOWED:
                after = -1
                while rows := rows_after(file, table, after, _ROWS_AT_ONCE):
                    there = _rows(connection, table, copied.number, after)
                    for here, other in zip_longest(rows, there):
                        if here != other:
                            return f"{table.name} {(here or other)[0]} is another one"
                    after = rows[-1][0]
                if _rows(connection, table, copied.number, after):
                    return f"more rows of {table.name} than here"
    except CellbenchError as error:
        return str(error)
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
