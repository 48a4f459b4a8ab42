"""Runs that a job has ordered: it hears of its run before anything is energised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import psycopg

from cellbench.engine.causes import RunState
from cellbench.engine.lost import NEVER_BEGAN
from cellbench.engine.run import Conductor
from cellbench.errors import CellbenchError
from cellbench.laboratory import Database
from cellbench.laboratory.jobs import Work
from cellbench.laboratory.queue import Job, JobQueue
from cellbench.store import Store

T = TypeVar("T")

#: Apart from the loop's own threads, which runs need: a database that hangs would have them all.
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="laboratory")


async def beside_runs(work: Callable[[], T]) -> T:
    """Talk to the database in a thread that no run waits for."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


@contextmanager
def queue_in(database: Database) -> Iterator[JobQueue]:
    """The queue of a laboratory, errors in plain words.

    Raises:
        CellbenchError: The database cannot be reached, or refuses.
    """
    with database.connected() as connection:
        connection.autocommit = True  # each of its methods is a transaction
        yield JobQueue(connection)


class Order:
    """A job that this bench has taken.

    Args:
        number: Of the job.
        database: The laboratory's, in the bench's own role.

    Attributes:
        work: What it says.

    Raises:
        CellbenchError: It is no job, or the database cannot be reached.
    """

    def __init__(self, number: int, database: Database) -> None:
        self.number, self._database = number, database
        with queue_in(database) as queue:
            self._bench = queue.bench_name()
            self.work: Work = queue.work(number)

    @property
    def documents(self) -> dict[str, str]:
        """What is kept with its run, by name."""
        said = self.work.model_dump_json(exclude={"sources", "card"}, indent=2)
        return {"job": said}

    async def begins(self, conductor: Conductor, store: Store) -> None:
        """Enter its run in the queue, or let that not begin.

        Raises:
            CellbenchError: It is not to begin: the job is another's by now, or was cancelled, or
                the database cannot be reached.
        """
        try:
            await beside_runs(partial(self._enter, conductor.run.id))
        except BaseException:
            await conductor.writer.close()
            store.finish(conductor.run, RunState.FAILED, NEVER_BEGAN)
            raise

    def _enter(self, run: str) -> None:
        with queue_in(self._database) as queue:
            if not queue.begin(self.number, self._bench, run):
                raise CellbenchError(f"job {self.number} is not to be begun here any more")

    def tell(self, text: str) -> None:
        """Say something of it in the queue."""
        with queue_in(self._database) as queue:
            queue.say(self.number, text)

    def fail(self, text: str) -> None:
        """Enter that it cannot be run."""
        with queue_in(self._database) as queue:
            queue.finish(self.number, self._bench, "failed", text)


def unbegun(database: Database) -> list[Job]:
    """The jobs that this bench has taken and has to begin; none while the server is away."""
    try:
        with queue_in(database) as queue:
            found = queue.of_bench(queue.bench_name())
    except (CellbenchError, psycopg.Error):
        return []
    return [job for job in found if job.state == "taken" and job.how is None and not job.is_late]
