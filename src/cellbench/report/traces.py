"""Measured series on their way into a plot: gaps kept, extremes kept, a few thousand points.

A plot is a thousand pixels wide: of each small group of neighbours it needs the first, the last,
the lowest and the highest (Jugel et al., Proc. VLDB 7 (2014) 797). No spike is lost that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.dataset import FloatArray
from cellbench.instruments.readings import Flag

#: Points per trace that a plot is given at most.
MOST_POINTS = 4000
#: A pause of so many intervals (of the longer of the usual ones) is drawn as a gap.
GAP_INTERVALS = 3.0

Points = tuple[list[float], list[float | None]]


@dataclass(frozen=True, eq=False)
class Trace:
    """One series to draw: times (s), values, and where a line must be broken before a row."""

    time_s: FloatArray
    value: FloatArray
    breaks: NDArray[np.bool_]

    @classmethod
    def of(
        cls, time_s: FloatArray, value: FloatArray, broken: NDArray[np.bool_] | None = None
    ) -> Trace:
        """A trace that breaks where it is told to, else where the readings pause."""
        finite = np.isfinite(value) & np.isfinite(time_s)
        pauses = pauses_of(time_s) if broken is None else broken
        # A value that is not there breaks the line at the next one that is.
        hidden = np.concatenate(([False], ~finite[:-1])) if len(time_s) else ~finite
        breaks = _carried(pauses | hidden, finite)
        return cls(time_s[finite], value[finite], breaks)


def thinned(trace: Trace, most: int = MOST_POINTS) -> NDArray[np.intp]:
    """Indices of the rows to draw, ascending: extremes of every group, and all ends."""
    count = len(trace.value)
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most // 4 + 1).astype(int)
    groups = [(start, trace.value[start:end]) for start, end in pairwise(edges.tolist())]
    lowest = [start + int(np.argmin(values)) for start, values in groups]
    highest = [start + int(np.argmax(values)) for start, values in groups]
    return np.unique(np.concatenate((edges[:-1], edges[1:] - 1, lowest, highest)))


def points(trace: Trace, unit_s: float, most: int = MOST_POINTS) -> Points:
    """Times in units of ``unit_s`` and values of a thinned trace; None where the line breaks."""
    rows = thinned(trace, most)
    broken = _carried_to(trace.breaks, rows)
    times: list[float] = []
    values: list[float | None] = []
    for row, is_broken in zip(rows.tolist(), broken.tolist(), strict=True):
        time = trace.time_s[row]
        if is_broken and times:
            times.append(round((times[-1] + time / unit_s) / 2, 6))
            values.append(None)
        times.append(round(float(time) / unit_s, 6))
        values.append(float(f"{trace.value[row]:.6g}"))
    return times, values


def time_unit(duration_s: float) -> tuple[str, float]:
    """The unit of the time axis, and its length in seconds."""
    return ("h", 3600.0) if duration_s > 7200 else ("min", 60.0)


def pauses_of(time_s: FloatArray) -> NDArray[np.bool_]:
    """Rows before which readings that come regularly (or now and then faster) are missing."""
    intervals = np.diff(time_s)
    if not len(intervals):
        return np.zeros(len(time_s), dtype=bool)
    usual = float(np.quantile(intervals, 0.9))
    return np.concatenate(([False], intervals > GAP_INTERVALS * usual))


def gaps_of(
    time_s: FloatArray, step: FloatArray, flags: FloatArray, pause_s: float = 5.0
) -> NDArray[np.bool_]:
    """Rows of a channel before which rows are missing, or before which it measured nothing.

    Inside a step a long interval is no gap: recording rules may well thin out a calm voltage.
    """
    missing = (flags.astype(int) & Flag.MISSING) > 0
    apart = (np.diff(time_s, prepend=time_s[:1]) > pause_s) & (np.diff(step, prepend=step[:1]) != 0)
    return np.asarray(missing | apart, dtype=bool)


def _carried(breaks: NDArray[np.bool_], kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Breaks at rows that are left out, moved to the next row that is kept."""
    return _carried_to(breaks, np.flatnonzero(kept))


def _carried_to(
    breaks: NDArray[np.bool_], rows: Sequence[int] | NDArray[np.intp]
) -> NDArray[np.bool_]:
    total = np.concatenate(([0], np.cumsum(breaks)))
    ends = np.asarray(rows, dtype=np.intp)
    return np.diff(total[ends + 1], prepend=0) > 0
