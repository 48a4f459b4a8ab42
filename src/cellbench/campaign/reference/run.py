"""Running what the rows ask for: each distinct run once, one per core, on the simulated bench."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellbench.analysis.replicates import statistics
from cellbench.campaign.reference.table import Row
from cellbench.engine.evaluation import evaluate
from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.errors import CellbenchError
from cellbench.store import Store
from cellbench.system import deaf_to_ctrl_c


@dataclass(frozen=True, order=True)
class Job:
    """A run, whatever number of rows it serves."""

    protocol: str
    cell: str
    sets: tuple[str, ...]
    fixture: str = ""


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


def jobs_of(row: Row) -> tuple[Job, ...]:
    """The runs that a row needs: one per cell."""
    sets = tuple(f"{key}={text}" for key, text in row.set.items())
    cells = (row.cell, *row.replicates)
    return tuple(Job(row.protocol, cell, sets, row.fixture or "") for cell in cells)


def outcome_of(row: Row, found: Mapping[Job, Outcome]) -> Outcome:
    """What a row's run gave, or its runs together; a replicate without a result has failed."""
    given = [found[job] for job in jobs_of(row)]
    if len(given) == 1 or row.analysis is None:
        return given[0]
    together = statistics([_result(each, row.analysis) for each in given])
    ended = {"state": "completed", "reason": f"{len(given)} replicates"}
    return Outcome({row.analysis: together, "run": ended}, {})


def _result(outcome: Outcome, analysis: str) -> Mapping[str, Any] | None:
    completed = outcome.document.get("run", {}).get("state") == "completed"
    return outcome.document.get(analysis) if completed else None


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

    A run that fails, or takes its process with it, is an outcome with its failure. Whatever ends
    this early (Ctrl-C) ends the runs under way with it: on a simulated bench nothing is left on.
    """
    wanted: dict[Job, set[str]] = {}
    for row in rows:
        needed = () if row.analysis is None else (row.analysis,)
        for job in jobs_of(row):
            wanted.setdefault(job, set()).update(needed)
    found: dict[Job, Outcome] = {}
    with _workers(len(wanted)) as pool:
        waiting: dict[Future[Outcome], Job] = {}
        for number, (job, names) in enumerate(wanted.items(), start=1):
            kept = None if store is None else store / f"{number:03d}-{job.protocol}-{job.cell}"
            waiting[pool.submit(run_job, job, tuple(sorted(names)), kept)] = job
        for future in as_completed(waiting):
            found[waiting[future]] = _outcome(future)
            finished(waiting[future])
    return found


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """As many processes as there are cores, or jobs if fewer; none outlives the context.

    Their temporary files are under one directory of ours, which goes when they have gone.
    """
    count = max(1, min(jobs, _cores()))
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        ProcessPoolExecutor(count, context, _prepare_worker, (directory,)) as pool,
    ):
        others = multiprocessing.active_children()
        try:
            _start(pool, count)
            yield pool
        except BaseException:
            # Before the pool goes, and with it what a process that is only starting looks for.
            for worker in set(multiprocessing.active_children()).difference(others):
                worker.terminate()
                worker.join()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(pool: ProcessPoolExecutor, count: int) -> None:
    """Start the processes (each job does one), where possible deaf to Ctrl-C from the outset."""
    with deaf_to_ctrl_c() as deaf:
        for _ in range(count if deaf else 0):
            pool.submit(os.getpid)


def _cores() -> int:
    """How many processes run at a time here (Python 3.13 knows what this process may use)."""
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return count or 1


def _prepare_worker(directory: str) -> None:
    """Leave Ctrl-C to the process that asked, and temporary files in its directory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = directory


def _outcome(future: Future[Outcome]) -> Outcome:
    error = future.exception()
    if error is None:
        return future.result()
    return Outcome({}, {}, f"{type(error).__name__}: {error}")


def run_job(job: Job, analyses: tuple[str, ...], store: Path | None = None) -> Outcome:
    """Do one run in this process, with these analyses besides the protocol's own."""
    try:
        session = prepare(job.protocol, cell=job.cell, sets=job.sets, fixture=job.fixture or None)
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
