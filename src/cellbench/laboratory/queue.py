"""The queue in PostgreSQL: procrastinate's jobs, and beside each who has it and what became of it.

A job that waits is in the queue `WAITING`. A bench that takes one moves it to its own queue, under
the lock of one of its places, and fetches it from there, in one transaction: two jobs are never
under way on one place. It stays with that bench until it has ended, or somebody releases it by
hand. procrastinate's own worker is not used: it cannot choose what it can do, and it ends when the
server goes away, while a test goes on for weeks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, Literal, TypeVar

from cellbench.errors import InputError

if find_spec("procrastinate") is None:
    raise InputError('the laboratory\'s queue needs procrastinate: pip install "cellbench[server]"')

from procrastinate import exceptions
from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job as QueuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from cellbench.laboratory.database import Connection
from cellbench.laboratory.jobs import WORK_MAX_BYTES, RefusedJob, Work, parse_work

T = TypeVar("T")

WAITING = "laboratory"
_AT_ONCE = datetime.fromtimestamp(0, UTC)
_TASK = "cellbench run"
How = Literal["step", "cycle", "abort"]
Ended = Literal["done", "failed", "cancelled"]
_STATUS = {"done": Status.SUCCEEDED, "failed": Status.FAILED, "cancelled": Status.ABORTED}

_LIST = """
SELECT j.id, j.status::text, j.priority,
    j.args - 'sources' - 'card' AS facts,
    s.bench, coalesce(s.place, '') AS place, coalesce(s.run, '') AS run,
    coalesce(s.text, '') AS text, w.how, w.by AS wished_by,
    (SELECT jsonb_object_agg(r.bench, r.text) FROM job_refusal r WHERE r.job_id = j.id) AS refusals
FROM procrastinate_jobs j
LEFT JOIN job_state s ON s.job_id = j.id LEFT JOIN job_wish w ON w.job_id = j.id
WHERE j.task_name = %(task)s
"""


@dataclass(frozen=True)
class Job:
    """A job as the queue has it.

    Attributes:
        state: ``waiting``, ``taken`` (a bench has it), ``running`` (its run has an id), or how it
            ended: ``done``, ``failed``, ``cancelled``.
        facts: What it says, without the texts; nothing of it is validated.
        bench, place: Who has it, and where; empty while it waits.
        run: The run that it became.
        text: What its bench says of it.
        how: How somebody wants it ended, and
        by: who that is.
        refusals: Why benches do not take it.
    """

    id: int
    state: str
    priority: int
    facts: dict[str, Any]
    bench: str
    place: str
    run: str
    text: str
    how: How | None
    by: str
    refusals: dict[str, str]

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in {"waiting", "taken", "running"}

    def fact(self, name: str) -> str:
        """One of the facts as text, made printable; empty where there is none."""
        text = str(self.facts.get(name) or "")[:200]
        return "".join(each if each.isprintable() else "?" for each in text)

    @property
    def deadline(self) -> datetime | None:
        """When it must have begun."""
        try:
            return datetime.fromisoformat(self.fact("deadline")).astimezone(UTC)
        except ValueError:
            return None

    @property
    def is_late(self) -> bool:
        """Whether it must not begin any more."""
        return self.deadline is not None and self.deadline <= datetime.now(UTC)

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        names = ("title", "cell", "bench", "place", "replicate", "replicates", "deadline", "by")
        asked = {name: self.facts.get(name) for name in names}
        return {
            "id": self.id,
            "state": self.state,
            "priority": self.priority,
            "asked": asked,
            "bench": self.bench,
            "place": self.place,
            "run": self.run,
            "text": self.text,
            "refusals": self.refusals,
        }


class JobQueue:
    """The jobs of a laboratory, on a connection of somebody who may look at them or more.

    Every method is one transaction.

    Args:
        connection: Not in a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._manager = JobManager(_OnConnection(connection))

    # --- For people -------------------------------------------------------------------------------

    def submit(self, works: Iterable[Work], priority: int = 0) -> list[int]:
        """Add jobs to the queue, all or none; returns their numbers."""
        jobs = [
            QueuedJob(
                id=None,
                queue=WAITING,
                lock=None,
                queueing_lock=None,
                task_name=_TASK,
                priority=priority,
                task_kwargs=work.model_dump(mode="json"),
            )
            for work in works
        ]
        with self._connection.transaction():
            made = _finish(self._manager.batch_defer_jobs_async(jobs))
        return [each.id for each in made if each.id is not None]

    def jobs(self, *, ended: bool = False) -> list[Job]:
        """Return the jobs that have not ended, or all of them, as they were submitted."""
        which = "" if ended else " AND j.status IN ('todo', 'doing')"
        return self._listed(f"{which} ORDER BY j.id")

    def find(self, number: int) -> Job:
        """Return one job.

        Raises:
            InputError: There is no such job.
        """
        found = self._listed(" AND j.id = %(id)s", id=number)
        if not found:
            raise InputError(f"there is no job {number}")
        return found[0]

    def cancel(self, number: int, how: How, by: str) -> Job:
        """Cancel a job that waits, or have its bench end its run; returns what it was.

        Raises:
            InputError: There is no such job, or it has ended.
        """
        with self._connection.transaction():
            job = self._locked(number)
            if not job.is_open:
                raise InputError(f"job {number} has ended already ({job.state})")
            wish = (number, how, by)
            self._connection.execute(
                "INSERT INTO job_wish VALUES (%s, %s, %s) ON CONFLICT (job_id)"
                " DO UPDATE SET how = excluded.how, by = excluded.by",
                wish,
            )
            _finish(self._manager.cancel_job_by_id_async(number, abort=True))
        return job

    def release(self, number: int) -> Job:
        """Give a job that a bench has back to the queue, for any bench; returns what it was.

        Raises:
            InputError: There is no such job, or no bench has it.
        """
        with self._connection.transaction():
            job = self._locked(number)
            if job.state not in {"taken", "running"}:
                raise InputError(f"job {number} is with no bench: it is {job.state}")
            self._connection.execute("DELETE FROM job_state WHERE job_id = %s", (number,))
            self._connection.execute("DELETE FROM job_refusal WHERE job_id = %s", (number,))
            self._connection.execute(
                "UPDATE procrastinate_jobs SET queue_name = %s, lock = NULL WHERE id = %s",
                (WAITING, number),
            )
            _finish(self._manager.retry_job_by_id_async(number, retry_at=_AT_ONCE))
        return job

    # --- For a bench ------------------------------------------------------------------------------

    def bench_name(self) -> str:
        """The bench whose role this is.

        Raises:
            InputError: It is no bench's.
        """
        with self._connection.transaction():
            row = self._connection.execute("SELECT own_bench_name(), current_user").fetchone()
        name, role = row or (None, "")
        if name is None:
            raise InputError(
                f"the database knows {role} as no bench: cellbench database grant makes one a role"
            )
        return str(name)

    def register(self) -> int:
        """Enter this bench as one of procrastinate's workers; returns its number."""
        with self._connection.transaction():
            return _finish(self._manager.register_worker())

    def of_bench(self, bench: str) -> list[Job]:
        """Return what a bench has and what has not ended."""
        return self._listed(
            " AND j.queue_name = %(queue)s AND j.status IN ('todo', 'doing') ORDER BY j.id",
            queue=_queue_of(bench),
        )

    def waiting(self) -> list[Job]:
        """Return what waits for a bench, in the order in which it is to be taken."""
        return self._listed(
            " AND j.queue_name = %(queue)s AND j.status = 'todo' ORDER BY j.priority DESC, j.id",
            queue=WAITING,
        )

    def work(self, number: int) -> Work:
        """What a job says, validated.

        Raises:
            RefusedJob: It is none.
        """
        with self._connection.transaction():
            row = self._connection.execute(
                "SELECT CASE WHEN octet_length(args::text) <= %s THEN args::text END"
                " FROM procrastinate_jobs WHERE id = %s",
                (WORK_MAX_BYTES, number),
            ).fetchone()
        if row is None or row[0] is None:
            raise RefusedJob(f"it is gone, or longer than {WORK_MAX_BYTES:,} bytes")
        return parse_work(row[0])

    def places_used(self, bench: str, submission: str) -> set[str]:
        """Where a bench has run, or runs, jobs of a submission."""
        with self._connection.transaction():
            rows = self._connection.execute(
                "SELECT s.place FROM job_state s JOIN procrastinate_jobs j ON j.id = s.job_id"
                " WHERE s.bench = %s AND j.args->>'submission' = %s",
                (bench, submission),
            ).fetchall()
        return {row[0] for row in rows}

    def take(self, number: int, bench: str, place: str, worker: int) -> bool:
        """Take a job that waits for a place, whole or not at all; returns whether it was to be had.

        It is not where another bench was faster, or the place has another one under way.
        """
        try:
            with self._connection.transaction():
                self._take(number, bench, place, worker)
        except (_NotToBeHad, UniqueViolation):
            return False
        return True

    def _take(self, number: int, bench: str, place: str, worker: int) -> None:
        queue = _queue_of(bench)
        taken = self._connection.execute(
            "UPDATE procrastinate_jobs SET queue_name = %s, lock = %s"
            " WHERE id = %s AND status = 'todo' AND queue_name = %s",
            (queue, f"{bench}/{place}", number, WAITING),
        )
        if taken.rowcount != 1:
            raise _NotToBeHad
        self._connection.execute(
            "INSERT INTO job_state (job_id, bench, place) VALUES (%s, %s, %s)",
            (number, bench, place),
        )
        self._connection.execute("DELETE FROM job_refusal WHERE job_id = %s", (number,))
        fetched = _finish(self._manager.fetch_job([queue], worker))
        if fetched is None or fetched.id != number:
            raise _NotToBeHad

    def refuse(self, number: int, bench: str, why: str) -> None:
        """Say why a bench does not take a job that waits."""
        with self._connection.transaction():
            self._connection.execute(
                "INSERT INTO job_refusal VALUES (%s, %s, %s) ON CONFLICT (job_id, bench)"
                " DO UPDATE SET text = excluded.text",
                (number, bench, why),
            )

    def begin(self, number: int, bench: str, run: str) -> bool:
        """Enter the run that a job becomes; returns whether it may: the bench has it, without one.

        Nothing may be energised before.
        """
        with self._connection.transaction():
            self._lock(number)
            entered = self._connection.execute(
                "UPDATE job_state SET run = %s, text = '' WHERE job_id = %s AND bench = %s"
                " AND run = '' AND EXISTS (SELECT FROM procrastinate_jobs WHERE id = job_id"
                " AND status = 'doing' AND NOT abort_requested)",
                (run, number, bench),
            )
        return entered.rowcount == 1

    def forget_run(self, number: int, run: str) -> None:
        """Enter that a run never began: nothing was energised by it."""
        with self._connection.transaction():
            self._connection.execute(
                "UPDATE job_state SET run = '' WHERE job_id = %s AND run = %s", (number, run)
            )

    def say(self, number: int, text: str) -> None:
        """Enter what its bench says of a job that it has."""
        with self._connection.transaction():
            self._connection.execute(
                "UPDATE job_state SET text = %s WHERE job_id = %s", (text, number)
            )

    def finish(self, number: int, bench: str, state: Ended, text: str) -> None:
        """Enter how a job ended, and why."""
        status = _STATUS[state]
        with self._connection.transaction():
            self._connection.execute(
                "INSERT INTO job_state (job_id, bench, place, text) VALUES (%s, %s, '', %s)"
                " ON CONFLICT (job_id) DO UPDATE SET text = excluded.text",
                (number, bench, text),
            )
            _finish(self._manager.finish_job_by_id_async(number, status, delete_job=False))

    # --- Within -----------------------------------------------------------------------------------

    def _lock(self, number: int) -> None:
        self._connection.execute(
            "SELECT 1 FROM procrastinate_jobs WHERE id = %s FOR UPDATE", (number,)
        )

    def _locked(self, number: int) -> Job:
        self._lock(number)
        return self.find(number)

    def _listed(self, which: str, **values: Any) -> list[Job]:
        with (
            self._connection.transaction(),
            self._connection.cursor(row_factory=dict_row) as cursor,
        ):
            rows = cursor.execute(_LIST + which, {"task": _TASK, **values}).fetchall()
        return [_job(row) for row in rows]


class _NotToBeHad(Exception):
    """Rolls back what was done towards taking a job."""


_ENDS = {"succeeded": "done", "failed": "failed", "cancelled": "cancelled", "aborted": "cancelled"}


def _job(row: dict[str, Any]) -> Job:
    return Job(
        id=row["id"],
        state=_ENDS.get(row["status"]) or _open_state(row),
        priority=row["priority"],
        facts=row["facts"],
        bench=row["bench"] or "",
        place=row["place"],
        run=row["run"],
        text=row["text"],
        how=row["how"],
        by=row["wished_by"] or "",
        refusals=row["refusals"] or {},
    )


def _open_state(row: dict[str, Any]) -> str:
    if row["bench"] is None:
        return "waiting"
    return "running" if row["run"] else "taken"


def _queue_of(bench: str) -> str:
    return f"bench {bench}"


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run procrastinate's coroutine, which waits for nothing on our connection, to its end."""
    return asyncio.run(work)


class _OnConnection(BaseAsyncConnector):
    """Lets procrastinate work on our connection, within our transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        self._connection.execute(query.encode(), _adapted(arguments))

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        rows = await self.execute_query_all_async(query, **arguments)
        if not rows:
            raise exceptions.NoResult
        return rows[0]

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), _adapted(arguments)).fetchall()


def _adapted(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as psycopg takes them: what is JSON is marked so, at any depth."""
    return {name: _marked(value) for name, value in arguments.items()}


def _marked(value: Any) -> Any:
    match value:
        case dict():
            return Jsonb(value)
        case tuple():
            return tuple(map(_marked, value))
        case list():
            return list(map(_marked, value))
    return value
