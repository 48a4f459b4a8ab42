"""One process that runs all jobs of a bench whose places share instruments: its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from cellbench.engine.called import Say
from cellbench.engine.evaluation import evaluate_as_kept, write_report
from cellbench.engine.offer import Offer
from cellbench.engine.orders import Order, beside_runs, unbegun
from cellbench.engine.owner import Owner, Prepared, RunRequest
from cellbench.engine.run import RunEnd
from cellbench.errors import CellbenchError, InputError
from cellbench.laboratory import Database
from cellbench.laboratory.jobs import Work
from cellbench.store import Run, Store

#: How often it is looked for jobs that were taken meanwhile, and on a simulated bench.
_EVERY_S, _SIMULATED_EVERY_S = 5.0, 3600.0
#: Wait before a place whose instruments cannot be had is tried again.
_RETRY_S = 60.0
#: How often that is for a run that is to be gone on with.
_TRIES = 5


class Working:
    """Runs the jobs that a bench has taken, until there is none, and goes on with runs of them.

    Args:
        offer: The bench.
        owner: It, entered.
        store: Where the runs are kept.
        database: The laboratory's.
        say: Writes a line of the log.
        again: Runs that ended with their computer, to be gone on with.
    """

    def __init__(
        self,
        offer: Offer,
        owner: Owner,
        store: Store,
        database: Database,
        say: Say,
        again: Sequence[str] = (),
    ) -> None:
        self._offer, self._owner, self._store = offer, owner, store
        self._database, self._say = database, say
        self._again = [store.find(each) for each in again]
        self._failures: list[CellbenchError] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by place

    async def work(self) -> None:
        """Do so; cancelled, all runs come to their safe state first.

        Raises:
            CellbenchError: A run could not be gone on with; all others have ended.
        """
        every_s = _SIMULATED_EVERY_S if self._offer.simulated else _EVERY_S
        for run in self._again:
            self._tasks[run.place] = asyncio.create_task(self._go_on(run))
        try:
            while True:
                for job in await beside_runs(partial(unbegun, self._database)):
                    if job.place not in self._tasks:
                        running = self._run(job.id, job.place)
                        self._tasks[job.place] = asyncio.create_task(running)
                if not self._tasks:
                    break
                await asyncio.wait(
                    self._tasks.values(), timeout=every_s, return_when=asyncio.FIRST_COMPLETED
                )
                self._tasks = {at: each for at, each in self._tasks.items() if not each.done()}
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._failures:
            raise self._failures[0]

    async def _go_on(self, run: Run) -> None:
        for left in reversed(range(_TRIES)):
            try:
                end = await self._owner.resume(run.id)
            except CellbenchError as error:
                self._say(f"run {run.id}: {error}")
                if isinstance(error, InputError) or not left:
                    self._failures.append(error)
                    return
                await asyncio.sleep(_RETRY_S)
            else:
                await asyncio.to_thread(self._report, end)
                return

    async def _run(self, number: int, place: str) -> None:
        try:
            order = await beside_runs(partial(Order, number, self._database))
            await self._carry_out(order, place)
        except CellbenchError as error:
            self._say(f"job {number}: {error}")
            await asyncio.sleep(_RETRY_S)

    async def _carry_out(self, order: Order, place: str) -> None:
        """Run a job to its end; what is wrong with it, or with the bench file, fails it for good.

        Raises:
            CellbenchError: It cannot be begun now.
        """
        try:
            prepared = await asyncio.to_thread(self._prepared, order.work, place)
            end = await self._owner.carry_out(prepared, order)
        except InputError as error:
            self._say(f"job {order.number}: {error}")
            await beside_runs(partial(order.fail, str(error)))
            return
        await asyncio.to_thread(self._report, end)

    def _prepared(self, work: Work, place: str) -> Prepared:
        program, card_text = self._offer.resolved(work, place)
        return self._owner.put(RunRequest(work.title, place, **work.kept), program, card_text)

    def _report(self, end: RunEnd) -> None:
        try:
            write_report(evaluate_as_kept(self._store, end.run))
        except OSError as error:
            self._say(f"{error.filename}: the report cannot be written: {error.strerror}")
