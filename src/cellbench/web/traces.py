"""Curves of a run, thinned to what is asked for: from buckets kept in memory, or from its rows.

Of each block of rows in the run's file the buckets are kept, one per source; SQLite makes them,
some threads at a time (of a compacted run numpy), and new rows are added as they come. Where a
bucket is wider than what is asked for, its block is taken apart, into buckets of fewer rows and at
last into rows: of such blocks there are never more than stretches to be drawn.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cellbench.errors import StoreError
from cellbench.store.samples import Samples, SqlSamples, samples_in
from cellbench.web.buckets import (
    COLUMNS,
    FROM_S,
    TO_S,
    WIDTH,
    Buckets,
    FloatArray,
    of_blocks,
    of_rows,
)

#: Rows of the file that share buckets, and rows whose buckets are made in one go.
BLOCK_ROWS = 64
_PIECE_ROWS = 256 * BLOCK_ROWS
#: Runs of which buckets are kept: a few megabytes for each million rows.
_KEPT_RUNS = 24
#: Bytes of SQLite's index that hold the number of commits.
_INDEX_HEAD = 48
#: Threads hinder each other a good deal; a few pieces one makes as fast alone.
_THREADS, _WORTH_THREADS = min(4, os.cpu_count() or 1), 8

_NOTHING = of_rows([])

#: First and last row of a stretch of the file.
Span = tuple[int, int]

_EXTREMES = ", ".join(f"{each}({name})" for each in ("min", "max") for name in COLUMNS)
_BUCKETS = (
    "SELECT source, (rowid - 1) / ? AS place, count(*), min(time_s), max(time_s), "  # noqa: S608
    f"min(step), max(step), max(flags & 8), {_EXTREMES} "
    "FROM sample WHERE rowid BETWEEN ? AND ? GROUP BY place, source"
)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can only read.

    Raises:
        StoreError: The file is missing or damaged.
    """
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{path.name} cannot be read: {error}") from error


def commits_of(path: Path) -> bytes | None:
    """What changes with each commit to a run's file; None where nobody writes to it.

    The head of SQLite's index of the write-ahead log (sqlite.org/walformat.html), which costs
    nothing to look at.
    """
    try:
        with path.with_name(f"{path.name}-shm").open("rb") as index:
            return index.read(_INDEX_HEAD)
    except OSError:
        return None


def rows_between(
    samples: Samples, first: int, last: int, size: int = BLOCK_ROWS
) -> dict[str, Buckets]:
    """The rows of each source by their numbers in the file, both included, as buckets of one.

    Their places are those of blocks of ``size`` rows.
    """
    columns = samples.between(first, last)
    places = (np.arange(first, first + len(columns["step"])) - 1) // size
    rows = np.column_stack([columns[name] for name in ("time_s", "step", "flags", *COLUMNS)])
    return {
        str(name): of_rows(rows[of], places[of].astype(np.float64))
        for name in np.unique(columns["source"])
        for of in (columns["source"] == name,)
    }


@dataclass(frozen=True, eq=False)
class Cut:
    """What is drawn of one source."""

    source: str
    buckets: Buckets
    gaps: np.ndarray[Any, np.dtype[np.bool_]]
    rows_in_range: int

    @classmethod
    def of(cls, source: str, inside: Buckets, width_s: float, from_s: float, to_s: float) -> Cut:
        """Buckets between two times, as fewer ones of a width; 0 s leaves them as they are."""
        merged, gaps = inside.merged(width_s)
        table = inside.table
        within = (table[:, TO_S] >= from_s) & (table[:, FROM_S] <= to_s)
        return cls(source, merged, gaps, Buckets(table[within]).rows)


@dataclass(frozen=True, eq=False)
class Cuts:
    """The curves of all sources between two times, and the newest row that they know of."""

    cuts: Sequence[Cut]
    row: int
    from_s: float
    to_s: float


class Curves(Protocol):
    """Where the curves of one run come from.

    Attributes:
        look_s: How often it may be asked for what is new, s.
    """

    look_s: float

    def commits(self) -> bytes | None:
        """What changes when there may be news, None where that cannot be told."""

    def cut(self, from_s: float | None, to_s: float | None, stretches: int) -> Cuts:
        """The curves of all sources between two times, at most so many stretches of each.

        Args:
            from_s: Since the start of the run; None for its start.
            to_s: None for the newest row.
            stretches: Stretches of time with one low and one high value.
        """

    def newest(self) -> int:
        """Number of the newest row, 0 if there is none."""

    def after(self, row: int, until: int) -> tuple[dict[str, Buckets], int]:
        """The rows of each source after a row, none after another; and the last of them."""


@dataclass
class Overview:
    """The buckets of one run's file: `Curves`.

    Attributes:
        blocks: How many blocks of rows there are buckets of.
    """

    #: What a viewer of live curves waits for besides the commit.
    look_s = 0.05

    path: Path
    blocks: int = 0
    _sources: dict[str, Buckets] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cut(self, from_s: float | None, to_s: float | None, stretches: int) -> Cuts:
        """See `Curves`."""
        with reading(self.path) as connection, samples_in(connection, self.path) as samples:
            last, blocks, sources = self._update(samples)
            loose = rows_between(samples, blocks * BLOCK_ROWS + 1, last)
            names = sorted(sources | loose)
            whole = {
                name: (sources.get(name, _NOTHING), loose.get(name, _NOTHING)) for name in names
            }
            from_s, to_s = _ends(whole.values(), from_s, to_s)
            kept = {name: buckets.between(from_s, to_s) for name, (buckets, _) in whole.items()}
            # What is few enough is drawn row by row.
            width_s = {
                name: 0.0 if each.rows <= 2 * stretches else (to_s - from_s) / stretches
                for name, each in kept.items()
            }
            fine = self._no_wider(samples, kept, width_s, BLOCK_ROWS)
        cuts = []
        for name in names:
            inside = fine[name].joined(whole[name][1]).between(from_s, to_s)
            cuts.append(Cut.of(name, inside, width_s[name], from_s, to_s))
        return Cuts(cuts, last, from_s, to_s)

    def commits(self) -> bytes | None:
        """See `Curves`."""
        return commits_of(self.path)

    def newest(self) -> int:
        """See `Curves`."""
        with reading(self.path) as connection, samples_in(connection, self.path) as samples:
            return samples.last_row

    def after(self, row: int, until: int) -> tuple[dict[str, Buckets], int]:
        """See `Curves`."""
        with reading(self.path) as connection, samples_in(connection, self.path) as samples:
            last = min(samples.last_row, until)
            return (rows_between(samples, row + 1, last) if last > row else {}), max(row, last)

    def _no_wider(
        self, samples: Samples, coarse: dict[str, Buckets], width_s: dict[str, float], size: int
    ) -> dict[str, Buckets]:
        """Buckets of ``size`` rows, those taken apart that span more time than is asked for."""
        wide = {name: each.wider(width_s[name]) for name, each in coarse.items()}
        places = _without_holes({place for each in wide.values() for place in each})
        if not places:
            return coarse
        usual = np.median([ratio for each in wide.values() for ratio in each.values()])
        finer = size
        while finer > 1 and finer * usual > size:
            finer //= 2
        spans = [(low * size + 1, (high + 1) * size) for low, high in _runs(places)]
        opened = self._no_wider(samples, self._made(samples, spans, finer), width_s, finer)
        return {
            name: each.without(places).joined(opened.get(name, _NOTHING))
            for name, each in coarse.items()
        }

    def _update(self, samples: Samples) -> tuple[int, int, dict[str, Buckets]]:
        """Make buckets of the blocks that have become whole.

        Returns:
            The newest row's number; how many blocks there are buckets of, and these, by source.
        """
        with self._lock:
            last = samples.last_row
            whole = last // BLOCK_ROWS
            if whole > self.blocks:
                span = (self.blocks * BLOCK_ROWS + 1, whole * BLOCK_ROWS)
                for source, made in self._made(samples, [span], BLOCK_ROWS).items():
                    known = self._sources.get(source, _NOTHING)
                    self._sources[source] = known.joined(made)
                self.blocks = whole
            return last, self.blocks, dict(self._sources)

    def _made(self, samples: Samples, spans: Sequence[Span], size: int) -> dict[str, Buckets]:
        """Buckets of ``size`` rows of some spans of rows, by source."""
        pieces = [
            (start, min(last, start + _PIECE_ROWS - 1))
            for first, last in spans
            for start in range(first, last + 1, _PIECE_ROWS)
        ]
        if len(pieces) < _WORTH_THREADS or not isinstance(samples, SqlSamples):
            return _by_source(_piece(samples, *each, size) for each in pieces)
        share = math.ceil(len(pieces) / _THREADS)
        shares = [pieces[first : first + share] for first in range(0, len(pieces), share)]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="buckets") as threads:
            made = threads.map(lambda each: _pieces_of(self.path, each, size), shares)
            return _by_source(chain.from_iterable(made))


class Overviews:
    """The overviews of the runs that were looked at lately."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, Overview] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, path: Path) -> Overview:
        """The overview of a run's file."""
        with self._lock:
            found = self._kept.pop(path, None) or Overview(path)
            self._kept[path] = found
            while len(self._kept) > _KEPT_RUNS:
                self._kept.popitem(last=False)
            return found


def _pieces_of(path: Path, spans: Sequence[Span], size: int) -> list[dict[str, FloatArray]]:
    with reading(path) as connection, samples_in(connection, path) as samples:
        return [_piece(samples, *each, size) for each in spans]


def _piece(samples: Samples, first: int, last: int, size: int) -> dict[str, FloatArray]:
    """The buckets of a span of rows, by source."""
    if size == 1 or not isinstance(samples, SqlSamples):
        rows_of = rows_between(samples, first, last, size)
        return {source: of_blocks(each).table for source, each in rows_of.items()}
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in samples.connection.execute(_BUCKETS, (size, first, last)):
        found.setdefault(row[0], []).append(row[1:])
    return {
        source: np.array(rows, dtype=np.float64).reshape(-1, WIDTH)
        for source, rows in found.items()
    }


def _by_source(pieces: Iterable[dict[str, FloatArray]]) -> dict[str, Buckets]:
    found: dict[str, list[FloatArray]] = {}
    for piece in pieces:
        for source, table in piece.items():
            found.setdefault(source, []).append(table)
    return {source: Buckets(np.concatenate(tables)) for source, tables in found.items()}


def _ends(
    parts: Iterable[tuple[Buckets, Buckets]], from_s: float | None, to_s: float | None
) -> tuple[float, float]:
    tables = [each.table for pair in parts for each in pair if len(each)]
    newest_s = max((float(table[:, TO_S].max()) for table in tables), default=0.0)
    first_s = 0.0 if from_s is None else from_s
    return first_s, max(first_s, newest_s if to_s is None else to_s)


def _without_holes(places: set[int]) -> list[int]:
    """In order, with those between two neighbours but one: a query more costs what they do."""
    return sorted(places | {place + 1 for place in places if place + 2 in places})


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each stretch of neighbouring numbers."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        yield members[0], members[-1]
