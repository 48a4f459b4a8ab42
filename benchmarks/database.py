"""Many runs in PostgreSQL: copying them, finding one, drawing one to the eye.

A server of its own. Copying stands beside COPY alone of the same rows, ready as bytes, into a table
with the same columns and primary key, in transactions of the same size.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from cellbench.laboratory import Database, Mirror, trace
from cellbench.laboratory.checking import differences
from cellbench.laboratory.follower import Follower
from cellbench.store import JournalEntry, RunWriter, SampleRow, Store

sys.path.append(str(Path(__file__).parents[1]))
from tests.laboratory.postgresql import PostgreSQL

_BENCH = "room1"
_START = datetime(2026, 1, 1, tzinfo=UTC)
_PROTOCOLS = ("ccd", "rate_test", "formation", "long_cycling", "gitt")
_ASKED = 50
_PLAIN = """
CREATE TABLE plain (LIKE cellbench.sample);
ALTER TABLE plain ADD PRIMARY KEY (run, number);
"""


def database(*, quick: bool) -> list[dict[str, Any]]:
    runs, rows = (20, 10_000) if quick else (1_000, 10_000)
    try:
        server = PostgreSQL()
    except pytest.skip.Exception as reason:
        return [{"not measured": str(reason)}]
    with _started(server), tempfile.TemporaryDirectory() as directory:
        keeper = Database(server.url("laboratory"))
        keeper.create()
        keeper.upgrade()
        bench = Database(keeper.address_for(_BENCH, keeper.grant("bench", _BENCH)))
        viewer = Database(keeper.address_for("vera", keeper.grant("viewer", "vera")))
        with Store(Path(directory) / "store") as store:
            _fill(store, runs, rows)
            copied_s = _timed(lambda: _copy(store, bench))
            plain_s = _plain(server, rows) * runs
            assert not quick or not list(differences(store, bench))
            with keeper.connected() as connection:
                connection.execute("ANALYZE")
            ids = [f"{_BENCH}.{run.id}" for run in store.runs()]
        return [
            {
                "samples": runs * rows,
                "runs": runs,
                "copied per s": round(runs * rows / copied_s),
                "of plain COPY": round(plain_s / copied_s, 2),
            },
            _drawn(viewer, ids),
            *_looked_up(viewer, ids),
        ]


@contextmanager
def _started(server: PostgreSQL) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        server.remove()


def _timed(work: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _copy(store: Store, bench: Database) -> None:
    with Follower(store, bench, print) as follower:
        follower.once()


# --- Runs -----------------------------------------------------------------------------------------


def _fill(store: Store, runs: int, rows: int) -> None:
    """Enter runs whose rows are one of a few, so that making them is quick."""
    files = [Path(store.directory / f"kind{seed}.sqlite") for seed in range(5)]
    for seed, file in enumerate(files):
        asyncio.run(_write(file, list(_rows(rows, seed))))
    for number in range(runs):
        run = store.register(
            protocol=_PROTOCOLS[number % len(_PROTOCOLS)],
            cell=f"NCM85-{number:04d}",
            bench="cycler room",
            simulated=True,
            seed=number,
            began=_START + timedelta(hours=number),
        )
        shutil.copy(files[number % len(files)], store.run_path(run.id))
        store.finish(run, "completed", "all steps done")


async def _write(file: Path, rows: list[SampleRow]) -> None:
    writer = RunWriter(file, durable=False)
    await writer.add_documents({"protocol": "name: x", "cell": "cell: x"})
    writer.add_step(1, "charge", "current")
    writer.add_samples(rows)
    entry = JournalEntry(seq=0, time_s=0.0, utc=_START, kind="run started", text="begins")
    await writer.add_entries([entry])
    await writer.close()


def _rows(count: int, seed: int) -> Iterator[SampleRow]:
    noise = np.random.default_rng(seed).normal(0, 1e-4, (count, 2)).tolist()
    for index, (volts, amperes) in enumerate(noise):
        time_s = index * 0.1
        yield (time_s, "n1", 1, 3.7 + volts, 1e-3 + amperes, time_s * 1e-3, None, None, 0, index)


def _plain(server: PostgreSQL, rows: int) -> float:
    """Seconds for the rows of one run by COPY alone."""
    lines = [(number, *row) for number, row in enumerate(_rows(rows, 0))]
    fields = (["\\N" if each is None else str(each) for each in line] for line in lines)
    content = "".join("\t".join(each) + "\n" for each in fields).encode()
    names = "number, time_s, source, step, voltage_V, current_A, charge_C, force_N, temperature_K, "
    with closing(psycopg.connect(server.url("laboratory"))) as connection:
        connection.execute(_PLAIN)

        def once(number: int) -> None:
            connection.execute(f"ALTER TABLE plain ALTER run SET DEFAULT {number}")
            with (
                connection.cursor() as cursor,
                cursor.copy(f"COPY plain ({names} flags, row) FROM STDIN") as copy,
            ):
                copy.write(content)
            connection.commit()

        return statistics.median(_timed(partial(once, number)) for number in range(20))


# --- Looking --------------------------------------------------------------------------------------


def _drawn(viewer: Database, ids: list[str]) -> dict[str, Any]:
    """From asking for a run's curves to having them, a new connection each time."""
    drawn = [partial(trace, viewer, run) for run in ids[:: max(1, len(ids) // _ASKED)]]
    return {"trace to the eye": ""} | _shown(list(map(_timed, drawn)))


def _looked_up(viewer: Database, ids: list[str]) -> Iterator[dict[str, Any]]:
    numbers = range(0, len(ids), max(1, len(ids) // _ASKED))
    with Mirror(viewer) as mirror:
        yield {"list of all runs, the first time": "", "ms": round(1e3 * _timed(mirror.runs))}
        searches = [partial(_found, mirror, f"NCM85-{number:04d}") for number in numbers]
        yield {"search": ""} | _shown(list(map(_timed, searches)))
        fetched = [partial(mirror.run_path, ids[number]) for number in numbers]
        yield {"a whole run fetched": ""} | _shown(list(map(_timed, fetched)))


def _found(mirror: Mirror, text: str) -> None:
    mirror._looked_s = -math.inf  # noqa: SLF001 (each search asks the database)
    (_run,) = mirror.search(text)


def _shown(took_s: list[float]) -> dict[str, float]:
    return {
        "median ms": round(1e3 * statistics.median(took_s), 1),
        "worst ms": round(1e3 * max(took_s), 1),
    }
