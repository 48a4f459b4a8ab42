"""Thinned curves: no extreme is lost, gaps stay, new rows are added, few rows come one by one."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.errors import StoreError
from cellbench.instruments.readings import Flag
from cellbench.store import RunWriter, SampleRow
from cellbench.web.buckets import drawn, plain
from cellbench.web.traces import BLOCK_ROWS, Cuts, Overview, Overviews


def row(time_s: float, voltage_V: float | None, step: int = 1, flags: int = 0) -> SampleRow:
    return (time_s, "channel", step, voltage_V, 1e-3 * time_s, None, None, None, flags, None)


def gauge(time_s: float, force_N: float) -> SampleRow:
    return (time_s, "load cell", 1, None, None, None, force_N, None, 0, None)


def kept(path: Path, rows: list[SampleRow], *, again: bool = False) -> None:
    async def main() -> None:
        writer = RunWriter(path, durable=False, again=again)
        writer.add_samples(rows)
        await writer.close()

    asyncio.run(main())


def curve(cuts: Cuts, source: str = "channel", column: str = "voltage_V") -> dict[str, Any]:
    (cut,) = (each for each in cuts.cuts if each.source == source)
    found = drawn(cut.buckets, cut.gaps, [column])
    return found | {"rows": cut.rows_in_range}


@pytest.fixture
def long_run(tmp_path: Path) -> Path:
    """Twenty thousand rows with two spikes of one row, and a gauge in between."""
    path = tmp_path / "run.sqlite"
    rows = []
    for second in range(20_000):
        spike = {7_777: 9.0, 15_001: -9.0}.get(second, 0.0)
        rows.append(row(second, math.sin(second / 3000) + spike))
        if second % 5 == 0:
            rows.append(gauge(second + 0.5, 350 + second / 1000))
    kept(path, rows)
    return path


def test_no_extreme_is_lost_and_little_is_sent(long_run: Path) -> None:
    found = curve(Overview(long_run).cut(None, None, 500))
    values = found["voltage_V"]
    assert max(values) == pytest.approx(9 + math.sin(7_777 / 3000))
    assert min(values) == pytest.approx(-9 + math.sin(15_001 / 3000))
    assert len(values) <= 2 * 500 + 4
    assert found["rows"] == 20_000
    assert found["time_s"] == sorted(found["time_s"])
    assert values[found["time_s"].index(found["time_s"][0])] == 0.0


def test_a_zoom_ends_at_single_samples(long_run: Path) -> None:
    overview = Overview(long_run)
    found = curve(overview.cut(7_700, 7_800, 750))
    assert found["time_s"][1:-1] == [float(second) for second in range(7_700, 7_801)]
    assert found["voltage_V"][found["time_s"].index(7_777.0)] > 8
    forces = curve(overview.cut(7_700, 7_800, 750), "load cell", "force_N")
    assert forces["rows"] == 20


@pytest.mark.parametrize(("from_s", "to_s"), [(-100.0, -1.0), (1e6, 2e6), (500.2, 500.3), (5, 5)])
def test_a_time_that_holds_nothing_is_drawn_by_its_neighbours(
    long_run: Path, from_s: float, to_s: float
) -> None:
    found = curve(Overview(long_run).cut(from_s, to_s, 750))
    assert len(found["time_s"]) <= 3


def test_rows_that_come_later_are_added(long_run: Path) -> None:
    overview = Overview(long_run)
    overview.cut(None, None, 500)
    for begin in (20_000, 20_010, 20_010 + BLOCK_ROWS):
        kept(long_run, [row(begin + each, 3.0 + each / 100) for each in range(10)], again=True)
        grown = overview.cut(None, None, 500)
        fresh = Overview(long_run).cut(None, None, 500)
        assert curve(grown) == curve(fresh)
        assert grown.to_s == begin + 9
        assert grown.row == fresh.row


def test_rows_that_were_fetched_late_stand_at_their_time(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    late = [row(second, 2.0) for second in range(1000)]
    kept(path, [row(second, 1.0) for second in range(1000, 2000)] + late)
    found = curve(Overview(path).cut(None, None, 100))
    assert found["time_s"] == sorted(found["time_s"])
    assert found["voltage_V"][0] == 2.0
    assert found["voltage_V"][-1] == 1.0


@pytest.mark.parametrize("count", [300, 30_000])
def test_a_line_breaks_where_rows_are_missing(tmp_path: Path, count: int) -> None:
    path = tmp_path / "run.sqlite"
    rows = [row(second, 1.0) for second in range(count)]
    rows[count // 3] = row(count // 3, 1.0, flags=Flag.MISSING)
    rows += [row(2 * count + second, 1.0, step=2) for second in range(count)]
    kept(path, rows)
    found = curve(Overview(path).cut(None, None, 200))
    breaks = [time for time, value in zip(found["time_s"], found["voltage_V"], strict=True)
              if value is None]  # fmt: skip
    assert breaks == pytest.approx([count / 3, 1.5 * count], rel=0.02)


def test_recording_that_is_thinned_within_a_step_is_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    kept(path, [row(second**2, 1.0) for second in range(100)])
    assert None not in curve(Overview(path).cut(None, None, 200))["voltage_V"]


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(st.floats(0.001, 50), min_size=1, max_size=400),
    stretches=st.integers(5, 100),
    part=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 1000),
)
def test_what_is_drawn_holds_the_extremes_of_what_there_is(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[float],
    stretches: int,
    part: tuple[float, float],
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("trace") / "run.sqlite"
    times = np.cumsum(steps)
    values = np.random.default_rng(seed).normal(size=len(times))
    kept(path, [row(float(t), float(v)) for t, v in zip(times, values, strict=True)])
    low, high = sorted(part)
    from_s, to_s = float(low * times[-1]), float(high * times[-1])
    found = curve(Overview(path).cut(from_s, to_s, stretches))
    inside = values[(times >= from_s) & (times <= to_s)]
    if len(inside):
        assert max(found["voltage_V"]) >= max(inside) - 1e-6
        assert min(found["voltage_V"]) <= min(inside) + 1e-6
    assert len(found["voltage_V"]) <= 2 * (stretches + 3)
    assert set(np.round(found["time_s"], 6)) <= set(np.round(times, 6))


def test_numbers_are_short_and_what_is_none_is_null() -> None:
    given_ = np.array([1 / 3, -2e-9 / 3, 123456789.123, 0.0, np.nan, np.inf, 1e-310, 4.2])
    assert plain(given_) == [0.3333333, -6.666667e-10, 123456800.0, 0.0, None, None, 0.0, 4.2]


def test_a_file_that_is_missing_or_damaged_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.sqlite cannot be read"):
        Overview(tmp_path / "none.sqlite").cut(None, None, 10)
    (tmp_path / "damaged.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"damaged\.sqlite cannot be read"):
        Overview(tmp_path / "damaged.sqlite").cut(None, None, 10)


def test_the_overviews_of_few_runs_are_kept(tmp_path: Path) -> None:
    overviews = Overviews()
    first = overviews.of(tmp_path / "0")
    assert overviews.of(tmp_path / "0") is first
    for number in range(100):
        overviews.of(tmp_path / str(number + 1))
    assert overviews.of(tmp_path / "0") is not first
