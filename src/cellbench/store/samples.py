"""The samples of a run, in its file or in the Parquet file beside it: read alike.

Rows are numbered from 1 in the order of their arrival, by SQLite as by their place in the Parquet
file. Everything that reads samples reads them here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import closing, contextmanager
from itertools import compress
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cellbench.store.archive import Archived, archived
from cellbench.store.parquet import ParquetFile
from cellbench.store.tables import SAMPLE_COLUMNS, SampleRow

FloatArray = NDArray[np.float64]
#: Columns of one length, by name: "source" is text, all else numbers, NaN where not measured.
Columns = dict[str, NDArray[Any]]

NUMBERS = tuple(name for name in SAMPLE_COLUMNS if name != "source")
#: Rows that are read in one go.
ROWS_AT_ONCE = 10_000
_ALL = ", ".join(SAMPLE_COLUMNS)


class Samples(Protocol):
    """The samples of a run, while they are open."""

    @property
    def last_row(self) -> int:
        """Number of the newest row, 0 if there is none."""

    def measured(self) -> dict[str, Set[str]]:
        """The instruments that they came from, and the columns in which each has any number."""

    def columns(self, sources: Sequence[str], names: Sequence[str]) -> dict[str, FloatArray]:
        """Numbers of some instruments, in order of arrival; NaN in columns that are not named."""

    def blocks(self, sources: Sequence[str], *, by_time: bool) -> Iterator[Columns]:
        """The rows of some instruments (of all, if none is named), block by block."""

    def between(self, first: int, last: int) -> Columns:
        """The rows of all instruments by their numbers, both included."""

    def of_step(self, step: int, sources: Sequence[str]) -> list[SampleRow]:
        """The rows of one step and some instruments, in order of arrival."""

    def of_highest_number(self, first_step: int) -> SampleRow | None:
        """The row of the highest number in the step list that begins with a step."""

    def spark(self, column: str, points: int) -> list[float]:
        """A few values of a column, evenly over the rows."""


@contextmanager
def samples_of(path: Path) -> Iterator[Samples]:
    """The samples of the run of a file, as they are at one moment."""
    with closing(sqlite3.connect(path)) as connection, samples_in(connection, path) as samples:
        yield samples


@contextmanager
def samples_in(connection: sqlite3.Connection, path: Path) -> Iterator[Samples]:
    """The same over a connection to the file that is open already."""
    # In one transaction: a run that is compacted meanwhile is still read from one place.
    connection.execute("BEGIN")
    try:
        kept = archived(connection).get("sample")
        if kept is None:
            yield SqlSamples(connection)
        else:
            with ParquetSamples.opened(path, kept) as samples:
                yield samples
    finally:
        connection.rollback()


def as_columns(rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Rows in the order of `SAMPLE_COLUMNS`, as columns."""
    values = zip(*rows, strict=True) if rows else ((),) * len(SAMPLE_COLUMNS)
    columns: dict[str, Any] = dict(zip(SAMPLE_COLUMNS, values, strict=True))
    source = np.array(columns.pop("source"), dtype=str)
    return {name: np.array(each, float) for name, each in columns.items()} | {"source": source}


def _among(sources: Sequence[str]) -> str:
    return f"source IN ({', '.join('?' * len(sources))})"


def _complete(columns: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """All columns of numbers: those that were read, and the others, of the same length, all NaN."""
    rows = len(next(iter(columns.values()), ()))
    return dict.fromkeys(NUMBERS, np.full(rows, np.nan)) | columns


class SqlSamples:
    """Samples in the run's own file; see `Samples`.

    Attributes:
        connection: To that file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @property
    def last_row(self) -> int:
        """See `Samples`."""
        ((row,),) = self._rows("SELECT max(rowid) FROM sample")
        return row or 0

    def measured(self) -> dict[str, Set[str]]:
        """See `Samples`."""
        are_there = ", ".join(f"{name} IS NOT NULL" for name in NUMBERS)
        found: dict[str, set[str]] = {}
        for source, *there in self._rows(f"SELECT DISTINCT source, {are_there} FROM sample"):  # noqa: S608
            found.setdefault(source, set()).update(compress(NUMBERS, there))
        return dict(found)

    def columns(self, sources: Sequence[str], names: Sequence[str]) -> dict[str, FloatArray]:
        """See `Samples`."""
        if not names:
            return _complete({})
        wanted = f"WHERE {_among(sources)} ORDER BY rowid"
        query = f"SELECT {', '.join(names)} FROM sample {wanted}"  # noqa: S608 (our names)
        # As Python's objects, all rows of a long run would take ten times the memory.
        pieces = [np.array(each, dtype=np.float64).T for each in self._pieces(query, sources)]
        table = np.concatenate([np.empty((len(names), 0)), *pieces], axis=1)
        return _complete(dict(zip(names, table, strict=True)))

    def blocks(self, sources: Sequence[str], *, by_time: bool) -> Iterator[Columns]:
        """See `Samples`."""
        wanted = f"WHERE {_among(sources)}" if sources else ""
        order = "time_s, rowid" if by_time else "rowid"
        query = f"SELECT {_ALL} FROM sample {wanted} ORDER BY {order}"  # noqa: S608 (our names)
        return map(as_columns, self._pieces(query, sources))

    def between(self, first: int, last: int) -> Columns:
        """See `Samples`."""
        query = f"SELECT {_ALL} FROM sample WHERE rowid BETWEEN ? AND ? ORDER BY rowid"  # noqa: S608
        return as_columns(self._rows(query, (first, last)))

    def of_step(self, step: int, sources: Sequence[str]) -> list[SampleRow]:
        """See `Samples`."""
        wanted = f"step = ? AND {_among(sources)} ORDER BY rowid"
        query = f"SELECT {_ALL} FROM sample WHERE {wanted}"  # noqa: S608 (our names)
        return cast("list[SampleRow]", self._rows(query, (step, *sources)))

    def of_highest_number(self, first_step: int) -> SampleRow | None:
        """See `Samples`."""
        rows = self._rows(
            f"SELECT {_ALL} FROM sample "  # noqa: S608 (constant names)
            "WHERE row IS NOT NULL AND step >= ? ORDER BY row DESC LIMIT 1",
            (first_step,),
        )
        return cast("SampleRow", rows[0]) if rows else None

    def spark(self, column: str, points: int) -> list[float]:
        """See `Samples`; little of it is read."""
        query = (
            f"SELECT {column} FROM sample "  # noqa: S608 (a column of ours)
            f"WHERE rowid BETWEEN ? AND ? AND {column} IS NOT NULL LIMIT 1"
        )
        rows = [self._rows(query, piece) for piece in _stretches(self.last_row, points)]
        return [row[0] for found in rows for row in found]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, values).fetchall()

    def _pieces(self, query: str, values: Sequence[Any]) -> Iterator[list[tuple[Any, ...]]]:
        rows = self.connection.execute(query, values)
        return iter(lambda: rows.fetchmany(ROWS_AT_ONCE), [])


def _stretches(last: int, points: int) -> Iterator[tuple[int, int]]:
    """First and last row of each of so many stretches."""
    edges = np.linspace(1, last + 1, points + 1).astype(int)
    return zip(edges[:-1].tolist(), (edges[1:] - 1).tolist(), strict=True)


class ParquetSamples:
    """Samples of a compacted run; see `Samples`."""

    def __init__(self, file: ParquetFile) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def opened(cls, path: Path, kept: Archived) -> Iterator[ParquetSamples]:
        """Those of the run of a file.

        Raises:
            StoreError: The Parquet file is missing or damaged.
            InputError: pyarrow is not installed.
        """
        with ParquetFile(kept.beside(path)) as file:
            yield cls(file)

    @property
    def last_row(self) -> int:
        """See `Samples`."""
        return self._file.count

    def measured(self) -> dict[str, Set[str]]:
        """See `Samples`; all columns, as none takes long to read here."""
        found = (self._file.group(index, ("source",))["source"] for index in self._file.groups)
        return dict.fromkeys(
            (name for each in found for name in _in_order(each)), frozenset(NUMBERS)
        )

    def columns(self, sources: Sequence[str], names: Sequence[str]) -> dict[str, FloatArray]:
        """See `Samples`."""
        pieces: dict[str, list[FloatArray]] = {name: [] for name in names}
        for block in self._chosen(sources):
            for name in names:
                pieces[name].append(block[name])
        return _complete(
            {name: np.concatenate([np.empty(0), *each]) for name, each in pieces.items()}
        )

    def blocks(self, sources: Sequence[str], *, by_time: bool) -> Iterator[Columns]:
        """See `Samples`."""
        if by_time:
            return self._by_time(sources)
        return (piece for block in self._chosen(sources) for piece in _pieces(block))

    def _by_time(self, sources: Sequence[str]) -> Iterator[Columns]:
        """In order of time: rows stand near their place, but those that were fetched later."""
        times = [self._file.group(index, ("time_s",))["time_s"] for index in self._file.groups]
        order = np.argsort(np.concatenate([np.empty(0), *times]), kind="stable")
        for start in range(0, len(order), ROWS_AT_ONCE):
            rows = order[start : start + ROWS_AT_ONCE]
            first = int(rows.min())
            block = self.between(first + 1, int(rows.max()) + 1)
            chosen = rows[_chosen(block["source"][rows - first], sources)] - first
            if len(chosen):
                yield {name: column[chosen] for name, column in block.items()}

    def between(self, first: int, last: int) -> Columns:
        """See `Samples`."""
        parts = list(self._file.between(first - 1, last, SAMPLE_COLUMNS))
        if not parts:
            return as_columns([])
        return {name: np.concatenate([part[name] for part in parts]) for name in SAMPLE_COLUMNS}

    def of_step(self, step: int, sources: Sequence[str]) -> list[SampleRow]:
        """See `Samples`."""
        rows = (cast("SampleRow", row) for piece in self._file.rows() for row in piece)
        return [row for row in rows if row[2] == step and row[1] in sources]

    def of_highest_number(self, first_step: int) -> SampleRow | None:
        """See `Samples`."""
        rows = (cast("SampleRow", row) for piece in self._file.rows() for row in piece)
        numbered = (row for row in rows if row[9] is not None and row[2] >= first_step)
        return max(numbered, key=lambda row: row[9] or 0, default=None)

    def spark(self, column: str, points: int) -> list[float]:
        """See `Samples`."""
        pieces = [self._file.group(index, (column,))[column] for index in self._file.groups]
        values = np.concatenate([np.empty(0), *pieces])
        parts = (values[first - 1 : last] for first, last in _stretches(len(values), points))
        measured = (part[~np.isnan(part)] for part in parts)
        return [float(part[0]) for part in measured if len(part)]

    def _chosen(self, sources: Sequence[str]) -> Iterator[Columns]:
        """The rows of some instruments, a row group at a time."""
        for index in self._file.groups:
            group = self._file.group(index, SAMPLE_COLUMNS)
            rows = _chosen(group["source"], sources)
            if rows.any():
                yield {name: column[rows] for name, column in group.items()}


def _chosen(source: NDArray[Any], sources: Sequence[str]) -> NDArray[np.bool_]:
    return np.isin(source, list(sources)) if sources else np.ones(len(source), dtype=bool)


def _in_order(source: NDArray[Any]) -> list[str]:
    """Each name once, in the order of the first row of each."""
    names, first = np.unique(source, return_index=True)
    return [str(name) for name in names[np.argsort(first)]]


def _pieces(block: Columns) -> Iterator[Columns]:
    for start in range(0, len(block["source"]), ROWS_AT_ONCE):
        yield {name: column[start : start + ROWS_AT_ONCE] for name, column in block.items()}
