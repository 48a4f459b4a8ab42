"""Curves from the database show every extreme that the rows have."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("psycopg", reason="the extra [server] is not installed")

from cellbench.errors import InputError
from cellbench.laboratory import Database, trace
from cellbench.laboratory.follower import Follower
from cellbench.store import RunReader, Store

from .stores import add_run

#: Rows; and of them, or of blocks of 256 of them, some are not of a whole block.
ROWS = 40_000


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, shared: Database) -> RunReader:
    """A run that is copied."""
    bench = Database(shared.address_for("room5", shared.grant("bench", "room5")))
    with (
        Store(tmp_path_factory.mktemp("traces")) as store,
        Follower(store, bench, print) as follower,
    ):
        run = add_run(store, ROWS)
        follower.once()
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


def test_there_is_no_curve_of_a_run_that_is_not_there(shared: Database, reader: RunReader) -> None:
    with pytest.raises(InputError, match="there is no run"):
        trace(shared, "room5.2026-11-20-002")
