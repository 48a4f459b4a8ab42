"""Rows in buckets: of each the times of its ends, and the lowest and highest value of each column.

A curve drawn from buckets that are narrower than a pixel shows every extreme that the rows have
(Jugel et al., Proc. VLDB 7 (2014) 797). A bucket of one row is that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench.instruments.readings import Flag

FloatArray = NDArray[np.float64]

#: What is drawn of a sample; those that a source does not measure are NaN.
COLUMNS = ("voltage_V", "current_A", "force_N", "temperature_K")
#: Columns of the table, besides a lowest and a highest value for each of `COLUMNS`.
PLACE, COUNT, FROM_S, TO_S, FIRST_STEP, LAST_STEP, MISSING = range(7)
LOW = 7
HIGH = LOW + len(COLUMNS)
WIDTH = HIGH + len(COLUMNS)
#: A pause of so many usual intervals is a gap; of a channel, one of so long between two steps.
GAP_INTERVALS = 3.0
GAP_S = 5.0


@dataclass(frozen=True, eq=False)
class Buckets:
    """Buckets of one source in the order of their time; ``table`` has the shape (n, `WIDTH`).

    `PLACE` is the number of the block of rows in the file that a bucket is of.
    """

    table: FloatArray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def rows(self) -> int:
        """How many rows are in them."""
        return int(self.table[:, COUNT].sum())

    @property
    def counts(self) -> FloatArray:
        """How many rows are in each."""
        return self.table[:, COUNT]

    def measured(self, column: str) -> bool:
        """Whether there is a value of a column anywhere."""
        return bool(np.isfinite(self.table[:, LOW + COLUMNS.index(column)]).any())

    def scaled(self, column: str, factor: float) -> Buckets:
        """The same with one column in another unit; the factor is positive."""
        table = self.table.copy()
        table[:, [LOW + COLUMNS.index(column), HIGH + COLUMNS.index(column)]] *= factor
        return Buckets(table)

    def between(self, from_s: float, to_s: float) -> Buckets:
        """Those that touch a time, and one on either side: lines run on to the edges."""
        first = int(np.searchsorted(self.table[:, TO_S], from_s, "left"))
        last = int(np.searchsorted(self.table[:, FROM_S], to_s, "right"))
        return Buckets(self.table[max(0, first - 1) : last + 1])

    def joined(self, other: Buckets) -> Buckets:
        """These and others, in order."""
        table = np.concatenate((self.table, other.table))
        return Buckets(table[np.argsort(table[:, FROM_S], kind="stable")])

    def without(self, places: Sequence[int]) -> Buckets:
        """Those of other blocks."""
        return Buckets(self.table[~np.isin(self.table[:, PLACE], places)])

    def wider(self, width_s: float) -> dict[int, float]:
        """How many times as wide they are, by `PLACE`; of those wider, of more than one row."""
        span_s = self.table[:, TO_S] - self.table[:, FROM_S]
        wide = (span_s > width_s) & (self.table[:, COUNT] > 1)
        with np.errstate(divide="ignore"):
            ratios = span_s[wide] / width_s
        return dict(zip(self.table[wide, PLACE].astype(int).tolist(), ratios.tolist(), strict=True))

    def gaps(self) -> NDArray[np.bool_]:
        """Before which of them the line breaks."""
        table = self.table
        if not len(table):
            return np.zeros(0, dtype=bool)
        pause_s = table[1:, FROM_S] - table[:-1, TO_S]
        if np.isfinite(table[:, LOW]).any():  # of a channel, which may well be thinned in a step
            broken = (table[1:, MISSING] > 0) | (
                (pause_s > GAP_S) & (table[1:, FIRST_STEP] != table[:-1, LAST_STEP])
            )
        else:
            usual_s = (
                np.quantile(np.diff(table[:, FROM_S]) / table[:-1, COUNT], 0.9)
                if len(table) > 1
                else 0.0
            )
            broken = pause_s > GAP_INTERVALS * usual_s
        return np.concatenate(([False], broken))

    def merged(self, width_s: float) -> tuple[Buckets, NDArray[np.bool_]]:
        """Fewer ones, each within one of the stretches of a width; and where the line breaks."""
        gaps = self.gaps()
        if not len(self):
            return self, gaps
        stretch = np.floor(self.table[:, FROM_S] / width_s) if width_s > 0 else np.arange(len(self))
        first = np.flatnonzero(np.diff(stretch, prepend=np.nan) != 0)
        table = self.table[first].copy()
        table[:, COUNT] = np.add.reduceat(self.table[:, COUNT], first)
        table[:, TO_S] = np.maximum.reduceat(self.table[:, TO_S], first)
        table[:, LAST_STEP] = self.table[np.append(first[1:], len(self)) - 1, LAST_STEP]
        table[:, LOW:HIGH] = np.fmin.reduceat(self.table[:, LOW:HIGH], first)
        table[:, HIGH:] = np.fmax.reduceat(self.table[:, HIGH:], first)
        return Buckets(table), np.logical_or.reduceat(gaps, first)


def of_blocks(rows: Buckets) -> Buckets:
    """A bucket for the rows of each block, by their `PLACE`."""
    table = rows.table[np.argsort(rows.table[:, PLACE], kind="stable")]
    first = np.flatnonzero(np.diff(table[:, PLACE], prepend=np.nan) != 0)
    made = np.empty((len(first), WIDTH))
    made[:, PLACE] = table[first, PLACE]
    made[:, COUNT] = np.add.reduceat(table[:, COUNT], first)
    lowest, highest = np.fmin.reduceat(table, first), np.fmax.reduceat(table, first)
    low, high = [FROM_S, FIRST_STEP, *range(LOW, HIGH)], [TO_S, LAST_STEP, *range(HIGH, WIDTH)]
    made[:, low], made[:, high] = lowest[:, low], highest[:, high]
    made[:, MISSING] = highest[:, MISSING]
    return Buckets(made)


def of_rows(
    rows: Sequence[Sequence[Any]] | FloatArray, place: FloatArray | float = np.nan
) -> Buckets:
    """A bucket for each row: time, step, flags, then `COLUMNS`; None where not measured."""
    raw = np.array(rows, dtype=np.float64).reshape(-1, 3 + len(COLUMNS))
    table = np.empty((len(raw), WIDTH))
    table[:, PLACE], table[:, COUNT] = place, 1
    table[:, FROM_S] = table[:, TO_S] = raw[:, 0]
    table[:, FIRST_STEP] = table[:, LAST_STEP] = raw[:, 1]
    table[:, MISSING] = (raw[:, 2].astype(int) & Flag.MISSING) > 0
    table[:, LOW:HIGH] = table[:, HIGH:] = raw[:, 3:]
    return Buckets(table[np.argsort(table[:, FROM_S], kind="stable")])


def drawn(buckets: Buckets, gaps: NDArray[np.bool_], columns: Sequence[str]) -> dict[str, Any]:
    """The points of curves on one axis of time; None where a line breaks or nothing was measured.

    A bucket of several rows is two points: its lowest value first where the curve rises.
    """
    table = buckets.table
    single = table[:, COUNT] == 1
    shown = np.stack((gaps, np.ones_like(gaps), ~single), axis=1).ravel()
    before_s = np.concatenate((table[:1, FROM_S], table[:-1, TO_S]))
    times = np.stack(((before_s + table[:, FROM_S]) / 2, table[:, FROM_S], table[:, TO_S]), axis=1)
    points: dict[str, Any] = {"time_s": np.round(times.ravel()[shown], 6).tolist()}
    nothing = np.full(len(table), np.nan)
    for name in columns:
        index = COLUMNS.index(name)
        low, high = table[:, LOW + index], table[:, HIGH + index]
        middle = low + high
        rises = np.diff(middle, prepend=middle[:1]) >= 0
        ends = (np.where(rises, low, high), np.where(rises, high, low))
        points[name] = plain(np.stack((nothing, *ends), axis=1).ravel()[shown])
    return points


def plain(values: FloatArray) -> list[float | None]:
    """Numbers of seven significant digits for JSON, None for what is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = 6 - np.floor(np.log10(np.abs(values)))
    usable = np.isfinite(values) & np.isfinite(digits)
    rounded = np.where(np.isfinite(values), values, 0.0)
    scale = 10.0 ** np.clip(digits[usable], -300, 300)
    rounded[usable] = np.round(values[usable] * scale) / scale
    found: list[float | None] = rounded.tolist()
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        found[index] = None
    return found
