"""One run from its first journal entry to its last: walk the program, and end in a safe state.

Whatever happens (the protocol's own end, a limit, an instrument that fails, a bug, Ctrl-C), the
bench is brought to a safe state and read back before the run counts as ended, and the run's file
says why it ended.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cellbench.analysis.stored import geometry
from cellbench.bench import Bench
from cellbench.engine.environment import Environment
from cellbench.engine.journal import Journal
from cellbench.engine.limits import LimitWatch
from cellbench.engine.passes import Passes
from cellbench.engine.recorder import Recorder
from cellbench.engine.safe_state import make_safe
from cellbench.engine.screening import screen
from cellbench.engine.status import Forecast, Status
from cellbench.engine.steps import StepRunner
from cellbench.engine.trips import SafeState, StepFailed, Trip
from cellbench.engine.verdicts import Verdicts
from cellbench.errors import InputError, InstrumentError, StoreError
from cellbench.instruments.readings import Outcome
from cellbench.protocol.check import adapt
from cellbench.protocol.conditions import describe, first_met
from cellbench.protocol.plan import Plan
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    CheckStep,
    EisStep,
    PassEnded,
    Program,
)
from cellbench.protocol.walk import Walk
from cellbench.store import Run, RunWriter, Store


class RunState(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"  #: the protocol came to an end that it foresees
    STOPPED = "stopped"  #: a safety limit ended it
    FAILED = "failed"  #: a step, an instrument, the store or cellbench itself failed
    INTERRUPTED = "interrupted"  #: somebody ended it


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


class Conductor:
    """Runs one program on one bench.

    Args:
        program: What to run.
        bench: Its instruments, connected.
        store: Where the run is kept.
        documents: Texts to keep verbatim with the run, by name.
        seed: Of the simulated bench, None with real instruments.
        planned: The program's plan, from which the end is foretold.
    """

    def __init__(
        self,
        program: Program,
        bench: Bench,
        store: Store,
        *,
        documents: Mapping[str, str],
        seed: int | None = None,
        planned: Plan | None = None,
    ) -> None:
        self.program = program
        self.bench = bench
        self.status = Status()
        self._screened = False
        self._forecast = Forecast(planned)
        self._store = store
        self._documents = documents
        self.run = store.register(
            protocol=program.name,
            cell=program.card.cell,
            bench=bench.name,
            simulated=bench.simulated,
            seed=seed,
        )
        self._writer = RunWriter(store.run_path(self.run.id), durable=not bench.simulated)
        self.journal = Journal(self._writer, self.run.started)
        self.journal.listeners.append(self._show)

    async def conduct(self) -> RunEnd:
        """Run the program to its end; raises nothing that the bench could be left energised by."""
        cause: BaseException | None = None
        try:
            await self._writer.add_documents(self._documents)
            await self.journal.enter("run started", text=self._headline())
            await self._walk_watched()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the bench comes first)
            cause = _deepest(error)
        state, reason, target, exit_code = _judge(cause)
        if cause is not None:
            self.status.messages.append((self.journal.now_s, f"{state}: {reason}"))
        outcomes = await make_safe(
            self.bench,
            target,
            lambda text: self.status.messages.append((self.journal.now_s, text)),
        )
        end = RunEnd(self.run, state, reason, outcomes, exit_code)
        await self._close(end, target, cause)
        return end

    # --- Walking --------------------------------------------------------------------------------

    async def _walk_watched(self) -> None:
        """Walk the program while the environment is watched; whichever fails first ends both."""
        program, bench = self.program, self.bench
        watch = LimitWatch(program.limits)
        recorder = Recorder(self._writer, self.journal, self.status)
        self._recorder = recorder
        environment = Environment(
            bench, program.card.stack_area_m2, watch, recorder, program.conditions_every_s
        )
        self._passes = Passes()
        self._verdicts = Verdicts(geometry(program.card), program.nodes)
        runner = StepRunner(
            bench,
            environment,
            recorder,
            self.journal,
            watch,
            self._verdicts,
            self.status,
            self._passes,
        )
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(environment.watch())
            await self._walk(runner)
            watching.cancel()

    async def _walk(self, runner: StepRunner) -> None:
        walk = Walk(self.program)
        for item in walk:
            if isinstance(item, PassEnded):
                await self._pass_ended(item, walk)
            else:
                await self._step(item, walk, runner)

    async def _pass_ended(self, item: PassEnded, walk: Walk) -> None:
        passes, verdicts = self._passes, self._verdicts
        view = passes.view(item.path, self.journal.now_s, self.status, verdicts.holds)
        met = first_met(item.until, view)
        passes.ended(item.path, last=item.last or met is not None)
        if met is not None:
            await self.journal.enter(
                "loop ended", step=item.path, text=f"loop ended: {describe(met)}"
            )
            if not item.last:
                walk.leave()
        elif item.unmet:
            text = "loop ended by its bound, without its condition"
            await self.journal.enter("warning", step=item.path, text=text)

    async def _step(self, step: AnyStep, walk: Walk, runner: StepRunner) -> None:
        adapted, deviations = adapt(step, self.bench)
        for text in deviations:
            await self.journal.enter("deviation", step=step.path, text=text)
        if adapted is None:
            return
        start_s = self.journal.now_s
        if isinstance(adapted, CheckStep):
            self._screened = self._screened or adapted.voltage is not None
        elif not self._screened and isinstance(adapted, ChannelStep | EisStep):
            self._screened = True
            await screen(
                self.program.card, self.bench, self.program.limits.electrical, self._recorder,
                self.journal,
            )  # fmt: skip
            start_s = self.journal.now_s
        self._show_step(adapted, start_s)
        end = await runner.perform(adapted)
        if adapted.save_as is not None:
            walk.record(adapted.save_as, end.results)

    # --- Ending ---------------------------------------------------------------------------------

    async def _close(self, end: RunEnd, target: SafeState, cause: BaseException | None) -> None:
        """Enter how it ended; a store that fails now cannot take the end of the run away."""
        try:
            if isinstance(cause, Exception) and _is_bug(cause):
                trace = "".join(traceback.format_exception(cause))
                await self._writer.add_documents({"traceback": trace})
            if end.state is RunState.STOPPED:
                await self.journal.enter("trip", step=self.status.step_path, text=end.reason)
            for outcome in end.outcomes:
                await self.journal.enter(
                    "safe state",
                    text=f"{outcome.instrument}: {outcome.state}",
                    target=target,
                    confirmed=outcome.confirmed,
                )
            await self.journal.enter(
                "run ended",
                text=f"{end.state}: {end.reason}",
                state=end.state,
                missing_samples=self._missing,
            )
            await self._writer.close()
        except StoreError as error:
            self.status.messages.append((self.journal.now_s, str(error)))
        self._store.finish(end.run, end.state, end.reason)

    @property
    def _missing(self) -> int:
        recorder = getattr(self, "_recorder", None)
        return 0 if recorder is None else recorder.missing

    # --- Showing --------------------------------------------------------------------------------

    def _headline(self) -> str:
        card = self.program.card
        return f"{self.program.name} on {card.cell}, bench {self.bench.name}"

    def _show_step(self, step: AnyStep, start_s: float) -> None:
        status = self.status
        status.step_path, status.step_what, status.step_started_s = step.path, step.what, start_s
        status.time_s = start_s
        technique = getattr(step, "technique", None)
        status.step_duration_s = getattr(technique, "duration_s", None)
        status.step_number, status.steps_planned = self._forecast.number(step.path)
        status.planned_end_s = self._forecast.end_s(step.path, start_s)

    def _show(self, entry: object) -> None:
        text = getattr(entry, "text", "")
        if text:
            self.status.messages.append((getattr(entry, "time_s", 0.0), text))


def _deepest(error: BaseException) -> BaseException:
    """What ended the run, out of a task group's bundle: trips before what they dragged along."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_deepest(each) for each in error.exceptions]
    order = (Trip, StoreError, InstrumentError, StepFailed, Exception, asyncio.CancelledError)
    return min(
        causes,
        key=lambda cause: next(
            (rank for rank, kind in enumerate(order) if isinstance(cause, kind)), len(order)
        ),
    )


def _is_bug(cause: Exception) -> bool:
    return not isinstance(cause, Trip | StepFailed | InstrumentError | StoreError | InputError)


def _judge(cause: BaseException | None) -> tuple[RunState, str, SafeState, int]:
    """State, reason, safe state and exit code for what ended a run."""
    match cause:
        case None:
            return RunState.COMPLETED, "every step has ended", SafeState.QUIET, 0
        case Trip():
            return RunState.STOPPED, str(cause), cause.target, 1
        case StepFailed() | StoreError() | InputError():
            return RunState.FAILED, str(cause), SafeState.QUIET, 1
        case InstrumentError():
            return RunState.FAILED, str(cause), SafeState.QUIET, 3
        case asyncio.CancelledError() | KeyboardInterrupt():
            return RunState.INTERRUPTED, "ended by the operator", SafeState.QUIET, 130
        case _:
            reason = f"internal error: {type(cause).__name__}: {cause}"
            return RunState.FAILED, reason, SafeState.QUIET, 1
