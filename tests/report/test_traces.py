"""Thinning for plots: no extreme is lost, no gap is drawn over."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellbench.instruments.readings import Flag
from cellbench.report.traces import Trace, gaps_of, pauses_of, points, thinned, time_unit

VALUES = arrays(
    np.float64, st.integers(1, 3000), elements=st.floats(-1e3, 1e3, allow_subnormal=False)
)


@given(VALUES)
def test_thinning_keeps_ends_and_extremes_in_order(value: np.ndarray) -> None:
    trace = Trace.of(np.arange(len(value), dtype=float), value)
    kept = thinned(trace, most=400)
    assert len(kept) <= 400 or len(kept) == len(value)
    assert np.all(np.diff(kept) > 0)
    assert (kept[0], kept[-1]) == (0, len(value) - 1)
    assert (value[kept].min(), value[kept].max()) == (value.min(), value.max())


@given(st.sets(st.integers(1, 1999), max_size=30))
def test_every_gap_is_drawn_as_one(at: set[int]) -> None:
    time_s = np.arange(2000, dtype=float)
    for index in at:
        time_s[index:] += 100
    _, values = points(Trace.of(time_s, np.sin(time_s)), 1.0, most=200)
    drawn = sum(value is None for value in values)
    assert bool(drawn) == bool(at)
    assert drawn <= len(at)


def test_a_value_that_is_not_there_breaks_the_line() -> None:
    trace = Trace.of(np.arange(5.0), np.array([1.0, 2.0, np.nan, 4.0, 5.0]))
    assert points(trace, 1.0)[1] == [1.0, 2.0, None, 4.0, 5.0]


def test_times_never_go_back_where_a_line_is_broken() -> None:
    times, _ = points(Trace.of(np.array([0.0, 5, 10, 100, 105]), np.ones(5)), 60.0)
    assert times == sorted(times)


def test_readings_that_are_sometimes_faster_have_no_gaps() -> None:
    time_s = np.concatenate((np.arange(0, 200, 1.0), np.arange(200, 2000, 5.0)))
    assert not pauses_of(time_s).any()


def test_sparse_rows_inside_a_step_are_no_gap_but_missing_ones_are() -> None:
    time_s = np.array([0.0, 1.0, 60.0, 600.0, 601.0])
    step = np.array([1.0, 1, 1, 2, 2])
    flags = np.array([0.0, 0, 0, 0, Flag.MISSING])
    assert gaps_of(time_s, step, flags).tolist() == [False, False, False, True, True]


def test_the_time_axis_is_in_hours_only_where_that_reads_well() -> None:
    assert time_unit(36_000.0) == ("h", 3600.0)
    assert time_unit(1_200.0) == ("min", 60.0)


def test_a_trace_of_nothing_draws_nothing() -> None:
    assert points(Trace.of(np.empty(0), np.empty(0)), 60.0) == ([], [])
