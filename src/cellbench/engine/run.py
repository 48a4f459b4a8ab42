"""One run from its first journal entry to its last: walk the program, and end in a safe state.

Whatever happens (the protocol's own end, a limit, an instrument that fails, a bug, Ctrl-C), the
bench is brought to a safe state and read back before the run counts as ended, and the run's file
says why it ended. On a trip the safe state does not wait for the step's own clean-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellbench.analysis.stored import geometry
from cellbench.bench import Bench
from cellbench.engine.age import now_of_computer
from cellbench.engine.causes import Judgement, RunState, is_bug, judge, root_cause
from cellbench.engine.commands import Commands
from cellbench.engine.detection import Detection
from cellbench.engine.disk import (
    LOOK_INTERVAL_S,
    SIMULATED_LOOK_INTERVAL_S,
    DiskWatch,
    StalledStore,
)
from cellbench.engine.environment import Environment
from cellbench.engine.heart import Heart
from cellbench.engine.interpreter import Interpreter
from cellbench.engine.journal import Journal
from cellbench.engine.leases import Wait
from cellbench.engine.limits import LimitWatch
from cellbench.engine.passes import Passes
from cellbench.engine.recorder import Recorder
from cellbench.engine.safe_state import make_safe, to_the_end
from cellbench.engine.sleep import SleepWatch
from cellbench.engine.status import Forecast, Status
from cellbench.engine.steering import Steering
from cellbench.engine.steps import StepRunner
from cellbench.engine.trips import Aborted, Trip
from cellbench.engine.trouble import Trouble
from cellbench.engine.verdicts import Verdicts, foresees
from cellbench.errors import CellbenchError, StoreError
from cellbench.instruments.readings import Outcome
from cellbench.instruments.wired import WiredChannel
from cellbench.protocol.plan import Plan
from cellbench.protocol.program import Program
from cellbench.store import JournalEntry, Run, RunWriter, Store
from cellbench.transport.recording import WireLog

__all__ = ["Conducting", "Conductor", "RunEnd", "RunState"]


@dataclass(frozen=True)
class RunEnd:
    """How a run ended, what became of the bench, and the exit code for it."""

    run: Run
    state: RunState
    reason: str
    outcomes: Sequence[Outcome]
    exit_code: int

    @property
    def safe(self) -> bool:
        """Whether every instrument's safe state was read back."""
        return all(outcome.confirmed for outcome in self.outcomes)


class Conducting:
    """Conducts a run on a bench: its walk, its watch, and the way to the safe state.

    Args:
        program: What is run.
        bench: Its instruments, connected.
        store: Where the run is kept.
        run: Its entry there.
        writer: Its file.
        journal: Its journal.
        first_step: Number of its next step in the file.

    Attributes:
        ending: Why it is on the way to its safe state, empty while it is not.
    """

    def __init__(
        self,
        program: Program,
        bench: Bench,
        store: Store,
        run: Run,
        writer: RunWriter,
        journal: Journal,
        *,
        first_step: int = 1,
    ) -> None:
        self.program, self.bench, self.run, self.journal = program, bench, run, journal
        self.steering = Steering()
        self.status = Status(self.steering)
        self.commands = Commands(self)
        self.ending = ""
        self._store, self.writer = store, writer
        self.journal.listeners.append(self._show)
        if isinstance(bench.channel, WiredChannel):
            bench.channel.enter = self._enter_handover
        if bench.stake is not None:
            bench.stake.waits = self._waits
            self.steering.waits_for = self._waits_for
        self._alarm: asyncio.Future[Trip | Aborted] = asyncio.get_running_loop().create_future()
        self._recorder = Recorder(writer, journal, self.status, first_step=first_step)
        self._stalled_store = StalledStore(writer, self.steering, self._recorder)
        self._disk = DiskWatch(
            writer.path,
            journal,
            self._recorder,
            self.status,
            every_s=SIMULATED_LOOK_INTERVAL_S if bench.simulated else LOOK_INTERVAL_S,
        )
        watch = LimitWatch(program.limits)
        self._trouble = Trouble(bench, journal, self.steering, self.status)
        self._environment = Environment(
            bench,
            program.card.stack_area_m2,
            watch,
            self._recorder,
            program.conditions_every_s,
            self.steering,
            self._trouble,
        )
        self._runner = StepRunner(
            bench=bench,
            environment=self._environment,
            recorder=self._recorder,
            journal=journal,
            watch=watch,
            verdicts=Verdicts(geometry(program.card), program.nodes),
            detection=Detection(
                geometry(program.card),
                program.limits,
                journal,
                self._raise_alarm,
                self.status.value,
                foreseen=foresees(program.nodes, "short"),
            ),
            status=self.status,
            alarm=self._raise_alarm,
            passes=Passes(),
            steering=self.steering,
            trouble=self._trouble,
        )

    def heard_by(self, heart: Heart) -> None:
        """Let somebody hear that this host lives, and what goes on without it."""
        self._environment.heart = self._runner.heart = heart

    async def _open(self) -> None:
        """Enter how it begins."""
        raise NotImplementedError

    async def _walk(self) -> None:
        """Do what is to be done on the bench."""
        raise NotImplementedError

    async def conduct(self) -> RunEnd:
        """Run the program to its end.

        However it ends, and however often the caller is cancelled: when this returns, the bench is
        in a safe state as far as it could be brought there, and the outcome says how far.
        """
        tasks: list[asyncio.Task[None]] = []
        cause: BaseException | None = None
        try:
            await self._open()
            await self._admitted()
            self._runner.heart.begun()
            tasks = [
                asyncio.create_task(self._walk(), name="walk"),
                asyncio.create_task(self._environment.watch(), name="watch"),
                asyncio.create_task(self._stalled_store.watch(), name="stalled store"),
                asyncio.create_task(self._disk.watch(), name="disk"),
                *self._watch_computer(),
            ]
            cause = await self._first_end(tasks)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the bench comes first)
            cause = root_cause(error)
        return await to_the_end(self._end(cause, tasks), self._say)

    async def _admitted(self) -> None:
        """Wait until the run has, for its whole length, what others use too; an alarm ends that."""
        if self.bench.stake is None:
            return
        waiting = asyncio.create_task(self.bench.stake.admitted(), name="lease")
        try:
            ends: set[asyncio.Future[Any]] = {waiting, self._alarm}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._alarm.done():
                raise self._alarm.result()
            await waiting
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    def _waits(self, wait: Wait | None) -> None:
        """Called when the run waits for what another has, and when it has got it."""
        text = "has what it waited for" if wait is None else str(wait)
        what = [] if wait is None else list(wait.what)
        self.journal.enter_soon("lease", step=self.status.step_path, text=text, waits_for=what)

    def _waits_for(self) -> str:
        wait = None if self.bench.stake is None else self.bench.stake.wait
        return "" if wait is None else str(wait)

    def _watch_computer(self) -> list[asyncio.Task[None]]:
        """Keep the computer awake: simulated time stands still while it sleeps."""
        if self.bench.simulated:
            return []
        watch = SleepWatch(self.journal, self.status)
        return [asyncio.create_task(watch.watch(), name="computer")]

    async def _first_end(self, tasks: Sequence[asyncio.Task[None]]) -> BaseException | None:
        """Wait for an alarm, a failure, or the end of the walk; None is the program's own end."""
        walk = tasks[0]
        ends: set[asyncio.Future[Any]] = {*tasks, self._alarm}
        while not walk.done():
            done, ends = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # A watch with nothing to watch ends at once, which is no reason to end the run.
            if any(each is self._alarm or each.exception() is not None for each in done):
                break
        if self._alarm.done():
            return self._alarm.result()
        failures = [task.exception() for task in tasks if task.done()]
        causes = [root_cause(failure) for failure in failures if failure is not None]
        return root_cause(BaseExceptionGroup("run", causes)) if causes else None

    async def _enter_handover(self, kind: str, *, text: str, **data: str) -> None:
        """Called when a cell that is wired to several instruments changes hands."""
        await self.journal.enter(kind, step=self.status.step_path, text=text, **data)

    def _raise_alarm(self, trip: Trip) -> None:
        """Called where a limit is found crossed, before the step cleans up after itself."""
        if not self._alarm.done():
            self._alarm.set_result(trip)

    def abort(self, why: Aborted) -> None:
        """End the run through its safe state, at once."""
        if not self._alarm.done():
            self._alarm.set_result(why)

    # --- Ending ---------------------------------------------------------------------------------

    async def _end(
        self, cause: BaseException | None, tasks: Sequence[asyncio.Task[None]]
    ) -> RunEnd:
        judgement = judge(cause)
        # Whatever was to go on without us: a run that ends takes its bench with it.
        self._runner.heart.declare({})
        self._stalled_store.run_ends()
        self.ending = judgement.reason
        self.commands.release()
        self._trouble.stop()
        if isinstance(cause, Aborted):
            self.journal.enter_soon("aborted", step=self.status.step_path, text=judgement.reason)
        elif cause is not None:
            kind = "trip" if isinstance(cause, Trip) else "failure"
            self.journal.enter_soon(kind, step=self.status.step_path, text=judgement.reason)
        self.journal.enter_soon("action", text=f"to the safe state: {judgement.target}")
        walking, watching = tasks[:1], tasks[1:]
        for task in walking:
            task.cancel()
        # The watch goes on meanwhile: a press wants to hear that its host lives.
        outcomes = await make_safe(self.bench, judgement.target)
        self._runner.heart.left([each.instrument for each in outcomes if not each.confirmed])
        for task in watching:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        end = RunEnd(self.run, judgement.state, judgement.reason, outcomes, judgement.exit_code)
        return await self._close(end, judgement, cause)

    async def _close(
        self, end: RunEnd, judgement: Judgement, cause: BaseException | None
    ) -> RunEnd:
        """Enter how it ended; a store that fails now cannot take the end of the run away.

        Returns:
            The same, its reason saying what the store has not kept.
        """
        self.writer.hurry()
        try:
            if cause is not None and is_bug(cause):
                trace = "".join(traceback.format_exception(cause))
                await self.writer.add_documents({"traceback": trace})
            for outcome in end.outcomes:
                await self.journal.enter(
                    "safe state",
                    text=f"{outcome.instrument}: {outcome.state}",
                    instrument=outcome.instrument,
                    target=judgement.target,
                    confirmed=outcome.confirmed,
                )
            await self.journal.enter(
                "run ended",
                text=f"{end.state}: {end.reason}",
                state=end.state,
                missing_samples=self._recorder.missing,
            )
            await self.writer.close()
        except StoreError as error:
            self._say(str(error))
            end = replace(end, reason=f"{end.reason}; {error}")
            with contextlib.suppress(StoreError):  # it has been said
                await self.writer.close()
        try:
            self._store.finish(end.run, end.state, end.reason)
        except CellbenchError as error:
            self._say(str(error))
        return end

    # --- Showing --------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self.status.messages.append((self.journal.now_s, text))

    def _show(self, entry: JournalEntry) -> None:
        if entry.text:
            self.status.messages.append((entry.time_s, entry.text))


class Conductor(Conducting):
    """Runs one program on one bench.

    Args:
        program: What to run.
        bench: Its instruments, connected.
        store: Where the run is kept.
        documents: Texts to keep verbatim with the run, by name.
        seed: Of the simulated bench, None with real instruments.
        campaign, replicate: What it belongs to; see `cellbench.store.Run`.
        planned: The program's plan, from which the end is foretold.
        wire: What has gone over the wire so far, and goes on; kept with the run.
        acknowledged: See `RunWriter`; for a replay.

    Raises:
        StoreError: The run cannot be kept.
    """

    def __init__(
        self,
        program: Program,
        bench: Bench,
        store: Store,
        *,
        documents: Mapping[str, str],
        seed: int | None = None,
        campaign: str = "",
        replicate: int = 0,
        planned: Plan | None = None,
        wire: WireLog | None = None,
        acknowledged: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._documents = dict(documents)
        if wire is not None:
            self._documents["wire"] = wire.header
        run = store.register(
            protocol=program.name,
            cell=program.card.cell,
            bench=bench.name,
            simulated=bench.simulated,
            seed=seed,
            place=bench.place,
            campaign=campaign,
            replicate=replicate,
        )
        if bench.ownership is not None:
            bench.ownership.tell(f"run {run.id}", store.run_path(run.id))
        try:
            writer = RunWriter(
                store.run_path(run.id),
                durable=not bench.simulated,
                wire=wire,
                acknowledged=acknowledged,
            )
        except StoreError as error:
            store.finish(run, RunState.FAILED, str(error))
            raise
        journal = Journal(writer, run.started)
        if wire is not None:
            wire.run_started()
        super().__init__(program, bench, store, run, writer, journal)
        self._interpreter = Interpreter(program, self._runner, Forecast(planned))

    async def _open(self) -> None:
        await self.writer.add_documents(self._documents)
        tie = {} if self.bench.simulated else now_of_computer()
        await self.journal.enter("run started", text=self._headline(), **tie)

    async def _walk(self) -> None:
        await self._interpreter.walk()

    def _headline(self) -> str:
        card = self.program.card
        at = f" at {self.bench.place}" if self.bench.place else ""
        return f"{self.program.name} on {card.cell}, bench {self.bench.name}{at}"
