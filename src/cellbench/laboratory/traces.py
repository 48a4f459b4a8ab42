"""A run's curves to the eye, straight from the database, whatever the run's length.

Rows are reduced by the server: of a long run blocks of 256 or 16384 rows, which the follower has
reduced as they came, and only the newest rows one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench.errors import InputError
from cellbench.laboratory.database import Connection, Database
from cellbench.laboratory.tables import BLOCK, COARSE, DRAWN, FINE, OF_BLOCKS, OF_ROW, WIDER

_ROWS = f"SELECT source, number AS at, {OF_ROW} FROM sample WHERE run = %(run)s"  # noqa: S608 (ours)
_BLOCKS = f"SELECT source, place * size AS at, {', '.join(BLOCK)} FROM level WHERE run = %(run)s"  # noqa: S608
#: What a block is made of, by its size.
_PARTS = {
    FINE: f"{_ROWS} AND number > wide.place * {FINE} AND number <= (wide.place + 1) * {FINE}",
    COARSE: f"{_BLOCKS} AND size = {FINE} AND place >= wide.place * {WIDER} "
    f"AND place < (wide.place + 1) * {WIDER}",
}
_CHOSEN = "size = %(size)s AND place >= %(first)s AND place < %(last)s"
_IS_WIDE = "count > 1 AND to_s - from_s > %(width_s)s"
#: What is read of a run at a level, and after it: stretches of time with the lowest and the highest
#: value of each quantity. A block that spans more than a stretch is taken apart.
_TRACE = {
    size: f"SELECT source, {OF_BLOCKS} FROM ("  # noqa: S608 (our names)
    f"{_BLOCKS} AND {_CHOSEN} AND NOT ({_IS_WIDE}) "
    "UNION ALL SELECT part.* FROM ("
    f"SELECT place, source FROM level WHERE run = %(run)s AND {_CHOSEN} AND {_IS_WIDE}"
    # Without OFFSET the planner may well read all rows of the run for it.
    f") AS wide CROSS JOIN LATERAL ({parts} AND source = wide.source OFFSET 0) AS part "
    f"UNION ALL {_ROWS} AND number > %(after)s AND number <= %(end)s"
    ") AS blocks GROUP BY source, "
    "CASE WHEN %(width_s)s > 0 THEN floor(from_s / %(width_s)s) ELSE at END ORDER BY source, 3"
    for size, parts in _PARTS.items()
}
#: First and last block within a time, the last before and the first behind it; the newest rows are
#: in none yet.
_WITHIN = (
    "SELECT min(place) FILTER (WHERE within), max(place) FILTER (WHERE within), "
    "max(place) FILTER (WHERE to_s < %(from_s)s), min(place) FILTER (WHERE from_s > %(to_s)s) "
    "FROM (SELECT place, from_s, to_s, to_s >= %(from_s)s AND from_s <= %(to_s)s AS within "
    "FROM level WHERE run = %(run)s AND size = %(size)s) AS blocks"
)
_ENDS = (
    "SELECT (SELECT time_s FROM sample WHERE run = %(run)s ORDER BY number LIMIT 1), "
    "(SELECT time_s FROM sample WHERE run = %(run)s ORDER BY number DESC LIMIT 1)"
)
_BETWEEN = (
    f"SELECT source, time_s, step, flags, {', '.join(DRAWN)} FROM sample "  # noqa: S608 (ours)
    "WHERE run = %s AND number BETWEEN %s AND %s ORDER BY number"
)


@dataclass(frozen=True)
class Range:
    """Rows of a run by their numbers: those after ``after``, to ``end``."""

    after: int
    end: int

    def __len__(self) -> int:
        return self.end - self.after

    def size(self, stretches: int) -> int:
        """The size of the widest blocks of which there are enough; 1 for rows."""
        return next((each for each in (COARSE, FINE) if len(self) > stretches * each), 1)


@dataclass(frozen=True)
class CopiedRun:
    """A run as the database has it, while the connection is there.

    Attributes:
        last: Number of its newest row, 0 if there is none.
    """

    last: int
    _number: int
    _connection: Connection

    @classmethod
    @contextmanager
    def of(cls, database: Database, run: str) -> Iterator[CopiedRun]:
        """A run by its id with its bench; errors as of `trace`."""
        with database.connected() as connection:
            found = connection.execute(
                "SELECT samples, number FROM run JOIN copied_run USING (number) WHERE run.id = %s",
                (run,),
            ).fetchone()
            if found is None:
                raise InputError(f'there is no run "{run}" in {database.name}')
            last, number = found
            yield cls(max(0, last), number, connection)

    def ends_s(self) -> tuple[float, float] | None:
        """Times of its first and last row, None if there is none."""
        found = self._connection.execute(_ENDS, {"run": self._number}).fetchone()
        return None if found is None or found[0] is None else found

    def trace(
        self, from_s: float, to_s: float, stretches: int
    ) -> dict[str, dict[str, NDArray[np.float64]]]:
        """See `trace`."""
        rows = self._within(from_s, to_s)
        size = rows.size(stretches)
        first, last = (rows.after // size, rows.end // size) if size > 1 else (0, 0)
        found = self._connection.execute(
            _TRACE[max(size, FINE)],
            {
                "run": self._number,
                "size": size,
                "first": first,
                "last": last,
                "after": last * size if size > 1 else rows.after,
                "end": rows.end,
                "width_s": 0.0 if len(rows) <= 2 * stretches else (to_s - from_s) / stretches,
            },
        )
        curves = {
            source: dict(zip(BLOCK, np.array(values, dtype=np.float64).T, strict=True))
            for source, values in _by_source(found).items()
        }
        return {source: _between(curve, from_s, to_s) for source, curve in curves.items()}

    def _within(self, from_s: float, to_s: float) -> Range:
        """The rows that can be of a time, and some on either side."""
        asked = {"run": self._number, "size": FINE, "from_s": from_s, "to_s": to_s}
        found = self._connection.execute(_WITHIN, asked).fetchone()
        first, end, before, behind = found or (None,) * 4
        whole = self.last // FINE
        sides = [whole if each is None else each for each in (before, behind)]
        first = min(sides) if first is None else max(0, first - 1)
        end = max(sides) if end is None else end + 1
        return Range(first * FINE, self.last if end >= whole - 1 else (end + 1) * FINE)

    def rows(self, first: int, last: int) -> dict[str, list[tuple[float | None, ...]]]:
        """Rows by their numbers, both included: of each instrument time, step, flags, `DRAWN`."""
        return _by_source(self._connection.execute(_BETWEEN, (self._number, first, last)))


def _by_source(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[tuple[float | None, ...]]]:
    """Rows without their first column, which tells the instrument, by that."""
    found: dict[str, list[tuple[float | None, ...]]] = {}
    for source, *values in rows:
        found.setdefault(source, []).append(tuple(values))
    return found


def _between(
    curve: dict[str, NDArray[np.float64]], from_s: float, to_s: float
) -> dict[str, NDArray[np.float64]]:
    """What touches a time, and one on either side: lines run on to the edges."""
    first = int(np.searchsorted(curve["to_s"], from_s, "left"))
    last = int(np.searchsorted(curve["from_s"], to_s, "right"))
    return {name: column[max(0, first - 1) : last + 1] for name, column in curve.items()}


def trace(
    database: Database,
    run: str,
    *,
    from_s: float | None = None,
    to_s: float | None = None,
    stretches: int = 750,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Curves of a run between two times; of few rows each, of many their extremes.

    Args:
        database: With the address of a viewer's role.
        run: Its id, with its bench: ``room2.2026-11-20-001``.
        from_s: Since the start of the run; None for its first row.
        to_s: None for its last.
        stretches: Of time, of each of which there is one lowest and one highest value at most.

    Returns:
        By instrument, arrays of one length by `cellbench.laboratory.tables.BLOCK`, in order of
        time; NaN where not measured. ``count`` is the number of rows. Of each there is one on
        either side of the time.

    Raises:
        InputError: There is no such run.
        CellbenchError: The database cannot be reached.
    """
    with CopiedRun.of(database, run) as copied:
        ends_s = copied.ends_s()
        if ends_s is None:
            return {}
        begin_s, end_s = ends_s
        return copied.trace(
            begin_s if from_s is None else from_s, end_s if to_s is None else to_s, stretches
        )
