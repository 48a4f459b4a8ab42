"""Running what the rows ask for: each distinct run once, two at a time, on the simulated bench."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellbench.campaign.table import Row
from cellbench.engine.evaluation import evaluate
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.errors import CellbenchError
from cellbench.store import Store

WORKERS = 2


@dataclass(frozen=True, order=True)
class Job:
    """A run, whatever number of rows it serves."""

    protocol: str
    cell: str
    sets: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        document: The analyses' results by name, and under "run" its state and reason.
        failures: Why an analysis could not be done, by its name.
        failure: Why there is no result at all.
    """

    document: dict[str, Any]
    failures: dict[str, str]
    failure: str | None = None


def job_of(row: Row) -> Job:
    """The run that a row needs."""
    return Job(row.protocol, row.cell, tuple(f"{key}={text}" for key, text in row.set.items()))


def outcomes(
    rows: Iterable[Row],
    store: Path | None = None,
    finished: Callable[[Job], None] = lambda _job: None,
) -> dict[Job, Outcome]:
    """Run what the rows need.

    Args:
        rows: The rows.
        store: Directory under which each run's store is kept; by default none is.
        finished: Told of every run that has ended.

    A run that fails, or takes its process with it, is an outcome with its failure.
    """
    wanted: dict[Job, set[str]] = {}
    for row in rows:
        analyses = wanted.setdefault(job_of(row), set())
        if row.analysis is not None:
            analyses.add(row.analysis)
    context = multiprocessing.get_context("spawn")
    found: dict[Job, Outcome] = {}
    with ProcessPoolExecutor(min(WORKERS, len(wanted) or 1), context) as pool:
        waiting: dict[Future[Outcome], Job] = {}
        for number, (job, names) in enumerate(wanted.items(), start=1):
            kept = None if store is None else store / f"{number:03d}-{job.protocol}-{job.cell}"
            waiting[pool.submit(run_job, job, tuple(sorted(names)), kept)] = job
        for future in as_completed(waiting):
            found[waiting[future]] = _outcome(future)
            finished(waiting[future])
    return found


def _outcome(future: Future[Outcome]) -> Outcome:
    error = future.exception()
    if error is None:
        return future.result()
    return Outcome({}, {}, f"{type(error).__name__}: {error}")


def run_job(job: Job, analyses: tuple[str, ...], store: Path | None = None) -> Outcome:
    """Do one run in this process, with these analyses besides the protocol's own."""
    try:
        session = prepare(job.protocol, cell=job.cell, sets=job.sets)
        with _store(store) as opened:
            end = conduct(session, opened)
            names = dict.fromkeys([*session.program.analyses, *analyses])
            evaluation = evaluate(opened, end.run, session.card, list(names))
    except CellbenchError as error:
        return Outcome({}, {}, str(error))
    ended = {"state": str(end.state), "reason": end.reason}
    return Outcome({**evaluation.results, "run": ended}, dict(evaluation.failures))


@contextmanager
def _store(place: Path | None) -> Iterator[Store]:
    if place is not None:
        with Store(place) as opened:
            yield opened
        return
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        Store(Path(directory)) as opened,
    ):
        yield opened
