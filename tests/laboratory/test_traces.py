"""Curves from the database show every extreme that the rows have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("psycopg", reason="the extra [server] is not installed")

from cellbench import clock
from cellbench.errors import InputError
from cellbench.laboratory import Database, trace
from cellbench.laboratory.follower import Follower
from cellbench.laboratory.traces import CopiedRun
from cellbench.store import RunReader, Store

from .stores import add_run, entry, registered, writing

#: Rows; and of them, or of blocks of 256 of them, some are not of a whole block.
ROWS = 40_000


@contextmanager
def copied(shared: Database, room: str, directory: Path) -> Iterator[Store]:
    """A bench's store, whose runs are copied when the context ends."""
    bench = Database(shared.address_for(room, shared.grant("bench", room)))
    with Store(directory) as store, Follower(store, bench, print) as follower:
        yield store
        follower.once()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, shared: Database) -> RunReader:
    """A run that is copied."""
    with copied(shared, "room5", tmp_path_factory.mktemp("traces")) as store:
        run = add_run(store, ROWS)
    return RunReader(store.run_path(run.id))


RUN = "room5.2026-11-20-001"


@pytest.mark.parametrize("stretches", [1, 10, 700, 100_000])
@pytest.mark.parametrize("times_s", [(None, None), (0.0, 1.0), (1000.05, 3999.0), (3990.0, None)])
def test_every_extreme_is_there_and_all_rows_are_counted(
    shared: Database, reader: RunReader, stretches: int, times_s: tuple[float | None, float | None]
) -> None:
    from_s, to_s = times_s
    found = trace(shared, RUN, from_s=from_s, to_s=to_s, stretches=stretches)
    assert set(found) == {"potentiostat", "press"}
    for source, curve in found.items():
        samples = reader.samples(source)
        # Blocks that touch an end are whole: the curve runs on to the edge.
        time_s = samples["time_s"]
        inside = (time_s >= curve["from_s"].min()) & (time_s <= curve["to_s"].max())
        assert curve["from_s"].min() <= max(time_s[0], from_s or 0.0) + 1.0
        assert curve["count"].sum() == inside.sum()
        assert len(curve["count"]) <= max(2 * stretches, 20)
        assert (np.diff(curve["from_s"]) > 0).all()
        for name in ("voltage_V", "force_N"):
            assert np.nanmin(curve[f"low_{name}"]) == np.nanmin(samples[name][inside])
            assert np.nanmax(curve[f"high_{name}"]) == np.nanmax(samples[name][inside])


#: Rows of pulses in a tenth of a second, and of the day's rest after them.
PULSES, RESTS = 38_000, 2_000
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory, shared: Database) -> str:
    """A run of pulses, then a long rest."""
    with copied(shared, "room6", tmp_path_factory.mktemp("sparse")) as store:
        run = registered(store)

        async def write() -> None:
            async with writing(store, run) as writer:
                for number in range(PULSES + RESTS):
                    time_s = number / PULSES / 10 + max(0, number - PULSES) * DAY_S / RESTS
                    value = (time_s, "potentiostat", 1, time_s, None, None, None, None, 0, None)
                    writer.add_sample(value)
                await writer.add_entries([entry(0)])

        clock.run(write(), virtual=True)
        store.finish(run, "completed", "")
    return f"room6.{run.id}"


def test_what_is_sparse_is_not_drawn_in_steps(shared: Database, sparse: str) -> None:
    curve = trace(shared, sparse, stretches=50)["potentiostat"]
    assert curve["count"].sum() == PULSES + RESTS
    assert len(curve["count"]) == 50 + 1  # the last row is the next one's first
    assert (curve["to_s"] - curve["from_s"]).max() < 1.01 * DAY_S / 50


@pytest.mark.parametrize("number", [256, 38_400, 10_000, 39_000])
def test_lines_run_on_beyond_the_edges(shared: Database, sparse: str, number: int) -> None:
    times_s = trace(shared, sparse, stretches=100_000)["potentiostat"]["from_s"]
    before_s, after_s = times_s[number - 1], times_s[number]
    from_s, to_s = 0.6 * before_s + 0.4 * after_s, 0.4 * before_s + 0.6 * after_s  # no row there
    curve = trace(shared, sparse, from_s=from_s, to_s=to_s)["potentiostat"]
    assert curve["from_s"].tolist() == [before_s, after_s]


def test_a_run_without_rows_has_no_curves(shared: Database, tmp_path: Path) -> None:
    with copied(shared, "room7", tmp_path) as store:
        run = add_run(store, 0)
    assert trace(shared, f"room7.{run.id}") == {}
    with CopiedRun.of(shared, f"room7.{run.id}") as found:
        assert found.last == 0


def test_there_is_no_curve_of_a_run_that_is_not_there(shared: Database, reader: RunReader) -> None:
    with pytest.raises(InputError, match="there is no run"):
        trace(shared, "room5.2026-11-20-002")
