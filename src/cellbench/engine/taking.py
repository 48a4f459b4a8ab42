"""A bench takes jobs from the laboratory's queue, and sees each through to its end.

What counts is kept in two places: who has a job and which run it became, in the queue; what became
of the run, in the bench's own store. Each look compares the two and does what follows, so that
nothing needs to be remembered when this process, its runs' processes or the server are lost. A job
is begun by a process of its own, which enters its run in the queue before anything is energised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import psycopg

from cellbench.engine.called import Say, called
from cellbench.engine.causes import BY_SIGNAL, RunState
from cellbench.engine.control_client import ask
from cellbench.engine.control_file import ControlFile, read
from cellbench.engine.control_file import place as control_place
from cellbench.engine.lost import NEVER_BEGAN
from cellbench.engine.offer import Offer
from cellbench.engine.requests import Abort, Person, Stop
from cellbench.engine.service import Policy, notes_of
from cellbench.errors import CellbenchError, InputError
from cellbench.laboratory import Database
from cellbench.laboratory.jobs import RefusedJob, Work
from cellbench.laboratory.queue import Job, JobQueue
from cellbench.report.wording import as_utc
from cellbench.store import Run, Store

#: The longest wait between two attempts to begin a job.
_RETRY_MOST_S = 600.0
#: A simulated run whose process takes no commands after so long is gone, and its bench with it.
_SIMULATED_GONE_S = 60.0
#: Stands for the number of a job where one process works on all of them.
_OWNER = 0
_BENCH_GONE = "its process was lost, and its simulated bench with it"
#: Runs of a place that are looked at for one that tells whether its cell is alive.
_RUNS_LOOKED_AT = 50
#: How often a run that was ended with its computer is taken up, before it is left to people.
_RESUMES = 3


@dataclass(frozen=True)
class Errand:
    """A process to be started: to begin a job, to go on with its run, or to work on all of them.

    Attributes:
        about: The place; the run; the runs to be gone on with, in one process that works on all.
    """

    job: int
    verb: Literal["begin", "resume", "work"]
    about: str = ""


@dataclass
class _Attempts:
    """How often something was tried for a job, and when it may be again (the loop's time)."""

    count: int = 0
    again_s: float = 0.0


@dataclass(frozen=True)
class _Suspicion:
    """A run that a limit or a failure ended, and when."""

    run: Run
    ended: datetime

    def why_not(self, job: Job, work: Work, place: str) -> str:
        """Why a job does not follow it there; empty where somebody who could know has sent it."""
        named = work.place == place if place else bool(work.bench)
        if named and job.submitted > self.ended:
            return ""
        how = f"--cell {place}" if place else "--bench"
        return (
            f"{place or 'its cell'}: run {self.run.id} {self.run.state} ({self.run.reason}): look "
            f"at the cell; this job waits for one sent there since ({how}) that goes well"
        )


class Taking:
    """Takes jobs for one bench, until it is cancelled.

    Args:
        offer: What the bench can do.
        database: The laboratory's, in the bench's own role; processes that begin jobs know it by
            their environment.
        store: Where its runs are kept.
        policy: How cellbench is called, and how often it is looked.
        say: Writes a line of the log.
        cell: As for `Offer`, for the processes that begin jobs.
    """

    def __init__(
        self,
        offer: Offer,
        database: Database,
        store: Path,
        policy: Policy,
        say: Say,
        cell: str | None = None,
    ) -> None:
        self._offer, self._database, self._store, self._policy = offer, database, store, policy
        self._cell, self._say = cell, say
        self._bench, self._worker = "", 0
        self._away = False
        self._errands: dict[int, asyncio.Task[None]] = {}
        self._attempts: dict[int, _Attempts] = {}
        self._steered: set[tuple[int, int, str]] = set()
        self._works: dict[int, Work] = {}
        self._said: dict[int, str] = {}

    async def serve(self, *, once: bool = False) -> None:
        """Take and tend; with ``once`` until the bench has none and there is none for it."""
        async with asyncio.TaskGroup() as group:
            while True:
                errands, idle = await asyncio.to_thread(self._look)
                for each in errands:
                    self._run(each, group)
                if once and idle and not self._alive():
                    return
                await asyncio.sleep(self._policy.jobs_every_s)

    # --- Processes --------------------------------------------------------------------------------

    def _run(self, errand: Errand, group: asyncio.TaskGroup) -> None:
        now_s = asyncio.get_running_loop().time()
        attempts = self._attempts.setdefault(errand.job, _Attempts())
        if errand.job in self._alive() or attempts.again_s > now_s:
            return
        wait_s = min(self._policy.retry_s * 2**attempts.count, _RETRY_MOST_S)
        attempts.count, attempts.again_s = attempts.count + 1, now_s + wait_s
        self._errands[errand.job] = group.create_task(self._call(errand))

    def _alive(self) -> set[int]:
        return {job for job, task in self._errands.items() if not task.done()}

    async def _call(self, errand: Errand) -> None:
        say = self._of_job(errand.job)
        again = errand.about if errand.verb != "begin" else ""
        say(f"goes on with run {again}" if again else "begins")
        words = [*self._policy.command, *self._words(errand), "--store", str(self._store)]
        log = self._store / "runs" / f"job {errand.job or 'all'}.service.log"
        code = await called(words, log, say)
        say(f"its process has ended (exit code {code})")
        if code == 0:
            self._attempts.pop(errand.job, None)

    def _words(self, errand: Errand) -> list[str]:
        bench = ["--bench", str(self._offer.path)]
        match errand.verb:
            case "resume":
                return ["resume", errand.about, "--json"]
            case "work":
                again = [word for run in errand.about.split() for word in ("--resume", run)]
                return ["jobs", "work", *bench, *again]
        cell = [] if self._cell is None else ["--cell", self._cell]
        place = ["--place", errand.about]
        return ["jobs", "begin", str(errand.job), *bench, *place, *cell, "--json"]

    def _of_job(self, number: int) -> Say:
        whose = f"job {number}" if number else "the owner of the bench"
        return lambda text: self._say(f"{whose}: {text}")

    # --- One look, in a thread --------------------------------------------------------------------

    def _look(self) -> tuple[list[Errand], bool]:
        """Look at the queue; returns what is to be started, and whether nothing is under way."""
        try:
            with self._database.connect() as connection:
                self._hear(away=False)
                connection.autocommit = True
                return self._looked(JobQueue(connection))
        except (psycopg.Error, CellbenchError) as error:
            self._hear(away=True, text=" ".join(str(error).split()) or type(error).__name__)
            return [], False

    def _hear(self, *, away: bool, text: str = "is back") -> None:
        """Say once that the database is away, or is back."""
        if away != self._away:
            self._say(f"{self._database.name}: {text}")
            if away:
                self._say("what runs here goes on, and nothing new is begun")
        self._away = away

    def _looked(self, queue: JobQueue) -> tuple[list[Errand], bool]:
        if not self._bench:
            self._bench, self._worker = queue.bench_name(), queue.register()
            self._say(f"takes jobs as {self._bench} from {self._database.name}")
        with Store(self._store) as store:
            for job in queue.of_bench(self._bench):
                try:
                    self._compare(queue, store, job)
                except CellbenchError as error:  # of its run alone
                    self._tell(queue, job, str(error))
            self._take(queue, store)
            mine = queue.of_bench(self._bench)
            errands = [each for job in mine if (each := self._errand(store, job)) is not None]
        return self._of_one_owner(errands) if self._offer.has_owner else errands, not mine

    @staticmethod
    def _of_one_owner(errands: Sequence[Errand]) -> list[Errand]:
        """Errands on a bench whose places share instruments are one process's."""
        again = [each.about for each in errands if each.verb == "resume"]
        return [Errand(_OWNER, "work", " ".join(again))] if errands else []

    def _errand(self, store: Store, job: Job) -> Errand | None:
        """What is to be started for a job, if anything is."""
        if job.how is not None:
            return None
        if not job.run:
            return Errand(job.id, "begin", job.place) if job.place in self._offer.places else None
        run = _run_of(store, job)
        if run is not None and self._is_to_be_resumed(run, job):
            return Errand(job.id, "resume", run.id)
        return None

    def _is_to_be_resumed(self, run: Run, job: Job) -> bool:
        """Whether its computer was shut down in good order; the service tends what was lost."""
        whose = _OWNER if self._offer.has_owner else job.id
        tried = self._attempts.get(whose, _Attempts()).count
        return (
            run.state == RunState.INTERRUPTED
            and run.reason.startswith(BY_SIGNAL)  # nobody has ended it who meant it
            and job.how is None
            and not run.simulated
            and self._policy.resume == "safe"
            and tried <= _RESUMES
        )

    def _compare(self, queue: JobQueue, store: Store, job: Job) -> None:
        """Bring what the queue says of a job in line with what became of it here."""
        if not job.run:
            self._compare_unbegun(queue, job)
            return
        run = _run_of(store, job)
        if run is None:
            self._tell(queue, job, f"its run {job.run} is not in {store.directory}")
        elif run.state == "running":
            self._compare_running(queue, store, job, run)
        elif run.state == RunState.FAILED and run.reason == NEVER_BEGAN:
            queue.forget_run(job.id, job.run)
        elif job.id not in self._alive() and not self._is_to_be_resumed(run, job):
            self._finish(queue, job, run)

    def _compare_unbegun(self, queue: JobQueue, job: Job) -> None:
        # A process that is about to begin it finds that it must not any more.
        if job.how is not None:
            queue.finish(job.id, self._bench, "cancelled", "before it began")
        elif job.is_late:
            queue.finish(job.id, self._bench, "failed", _TOO_LATE)
        elif job.place not in self._offer.places:
            self._tell(queue, job, f"there is no place {job.place} any more: {_release(job)}")

    def _compare_running(self, queue: JobQueue, store: Store, job: Job, run: Run) -> None:
        control = read(control_place(store.run_path(run.id)))
        if control is not None and control.is_alive:
            if job.how is not None:
                self._steer(job, control)
        elif run.simulated:
            age = datetime.now(UTC) - run.started.replace(tzinfo=UTC)
            gone = age > timedelta(seconds=_SIMULATED_GONE_S)
            if gone and self._alive().isdisjoint({job.id, _OWNER}):
                store.finish(run, RunState.FAILED, _BENCH_GONE)
                self._finish(queue, job, run)
        elif (note := notes_of(store.directory).get(run.id)) is not None:
            if job.how is not None:
                queue.finish(job.id, self._bench, "cancelled", note)
            else:
                text = f"{note}; cellbench resume {run.id} goes on with it, or {_release(job)}"
                self._tell(queue, job, text)

    def _steer(self, job: Job, control: ControlFile) -> None:
        """Ask a run to end as somebody has chosen, once."""
        how = job.how or "abort"
        asked = (job.id, control.pid, how)
        if asked in self._steered:
            return
        command = Abort(reason="its job was cancelled") if how == "abort" else Stop(after=how)
        user, _, host = job.by.partition(" at ")
        by = Person(user=user[:100] or "somebody", host=host[:100] or "a computer", via="queue")
        try:
            reply = ask(control, command, by=by)
        except CellbenchError as error:
            self._of_job(job.id)(str(error))
            return
        self._of_job(job.id)(f"{job.by} wants it ended: {reply.text}")
        if reply.accepted:
            self._steered.add(asked)

    def _finish(self, queue: JobQueue, job: Job, run: Run) -> None:
        ended: Literal["done", "failed", "cancelled"] = (
            "done" if run.state == RunState.COMPLETED else "failed"
        )
        if job.how is not None and run.state == RunState.INTERRUPTED:
            ended = "cancelled"
        queue.finish(job.id, self._bench, ended, f"{run.state}: {run.reason}")
        self._of_job(job.id)(f"{ended}: run {run.id} {run.state}: {run.reason}")
        self._attempts.pop(job.id, None)

    def _tell(self, queue: JobQueue, job: Job, text: str) -> None:
        if text != job.text:
            queue.say(job.id, text)
            self._of_job(job.id)(text)

    # --- Taking -----------------------------------------------------------------------------------

    def _take(self, queue: JobQueue, store: Store) -> None:
        """Take what waits, in its order, for places that are free."""
        free = self._free(queue, store)
        waiting = queue.waiting() if free else []
        left = {job.id for job in waiting}
        self._works = {number: work for number, work in self._works.items() if number in left}
        suspect = self._suspect(queue, store, free) if waiting else {}
        for job in waiting:
            if not free:
                return
            if job.fact("bench") in {"", self._bench}:
                self._consider(queue, job, free, suspect)

    def _consider(
        self, queue: JobQueue, job: Job, free: list[str], suspect: Mapping[str, _Suspicion]
    ) -> None:
        if job.is_late:
            queue.finish(job.id, self._bench, "failed", _TOO_LATE)
            return
        try:
            if job.id not in self._works:
                self._works[job.id] = queue.work(job.id)
        except RefusedJob as error:
            queue.finish(job.id, self._bench, "failed", f"what was submitted is no job: {error}")
            return
        work = self._works[job.id]
        why = self._offer.why_not(work)
        if self._offer.has_lasting_cells and not work.place:
            for name in queue.places_used(self._bench, work.submission) & set(why):
                why[name] = why[name] or f"{name or 'its cell'} has had another of its replicates"
        for name, suspicion in suspect.items():
            why[name] = why[name] or suspicion.why_not(job, work, name)
        for name in free:
            if not why[name]:
                if queue.take(job.id, self._bench, name, self._worker):
                    self._of_job(job.id)(f"taken: {work.title} on {work.cell}")
                    free.remove(name)
                return
        if all(why.values()):
            self._refuse(queue, job, why)

    def _refuse(self, queue: JobQueue, job: Job, why: dict[str, str]) -> None:
        reasons = dict.fromkeys(why.values())
        text = "; ".join(reasons)[:1000]
        if self._said.get(job.id) != text:
            self._said[job.id] = text
            queue.refuse(job.id, self._bench, text)

    def _suspect(
        self, queue: JobQueue, store: Store, names: Sequence[str]
    ) -> dict[str, _Suspicion]:
        """Places whose cell may be dead: a limit, or a failure, ended the last run that tells."""
        if not self._offer.has_lasting_cells:
            return {}
        found = {}
        for name in names:
            runs = store.search(bench=self._offer.file.bench, place=name, limit=_RUNS_LOOKED_AT)
            last = next(filter(_tells, runs), None)
            if last is not None and last.state != RunState.COMPLETED:
                # By the server's clock, if it can be: a job's beginning is told by that.
                ended = queue.ended(self._bench, last.id) or as_utc(last.ended or last.started)
                found[name] = _Suspicion(last, ended)
        return found

    def _free(self, queue: JobQueue, store: Store) -> list[str]:
        """The places that can take a job now."""
        mine = queue.of_bench(self._bench)
        busy = {job.place for job in mine}
        instruments = {
            name
            for each in busy & set(self._offer.places)
            for name in self._offer.place(each).file.instruments
        }
        own, owned = {job.run for job in mine}, self._offer.has_owner
        open_runs = store.search(bench=self._offer.file.bench, state="running", limit=None)
        lost = {run.place for run in open_runs if not run.simulated and run.id not in own}
        return [
            name
            for name, place in self._offer.places.items()
            if name not in busy
            and lost.isdisjoint({name, ""})
            and (owned or instruments.isdisjoint(place.file.instruments))
            and self._offer.is_vacant(name, owned=owned and _OWNER in self._alive())
        ]


_TOO_LATE = "its deadline had passed before it could begin: it was not begun"


def _tells(run: Run) -> bool:
    """Whether a run tells if its cell is alive: not one that never began, or somebody ended."""
    ended = run.state in {RunState.COMPLETED, RunState.STOPPED, RunState.FAILED}
    return ended and run.reason not in {NEVER_BEGAN, _BENCH_GONE}


def _release(job: Job) -> str:
    return f"cellbench jobs release {job.id} gives it back"


def _run_of(store: Store, job: Job) -> Run | None:
    try:
        found = store.find(job.run)
    except InputError:
        return None
    return found if found.id == job.run else None
