"""Walking the program: each step is adapted to the bench, announced, run, and entered as ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cellbench.engine.extremes import Extremes
from cellbench.engine.gap import StepLeft, can_go_on
from cellbench.engine.history import LOOP_ENDED, PASS_ENDED, History, OpenList
from cellbench.engine.look_ahead import LookAhead
from cellbench.engine.screening import screen
from cellbench.engine.status import Forecast
from cellbench.engine.steering import EndAfter
from cellbench.engine.step_list import StepListRun
from cellbench.engine.steps import StepRunner
from cellbench.engine.technique import StepEnd
from cellbench.engine.trips import Undone
from cellbench.protocol.check import adapt, problems_of
from cellbench.protocol.conditions import describe, first_met
from cellbench.protocol.errors import Problem, ProtocolError
from cellbench.protocol.lists import can_be_listed
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    CheckStep,
    EisStep,
    PassEnded,
    PressStep,
    Program,
    Step,
    TemperatureStep,
)
from cellbench.protocol.walk import Walk
from cellbench.transport.identity import new_id


class Interpreter:
    """Runs a program's steps in order, and its loops to their ends.

    Args:
        program: What to walk.
        runner: What carries out a single step.
        forecast: Which step of the plan this is, and when the plan ends.
        history: What was done of the program already.

    Attributes:
        open_since_s: Of a run that is gone on with: since when its cell is at open circuit.
        open_latest_s: The same, where the clock that tells it may be wrong; None: it is right.
    """

    def __init__(
        self,
        program: Program,
        runner: StepRunner,
        forecast: Forecast,
        history: History | None = None,
    ) -> None:
        self._program = program
        self._runner = runner
        self._forecast = forecast
        self._history = History() if history is None else history
        self._restored = history is None
        self._screened = history is not None
        self._orders: dict[type[Step], PressStep | TemperatureStep] = {}
        self.taken_up: set[str] = set()
        self.open_since_s = math.nan
        self.open_latest_s: float | None = None

    async def walk(self) -> None:
        """Walk the program to its end.

        Raises:
            Trip: A limit was crossed.
            StepFailed, InstrumentError, ProtocolError: A step cannot be carried out.
        """
        walk = Walk(self._program)
        items = LookAhead(walk)
        for item in items:
            if isinstance(item, PassEnded):
                await self._pass_ended(item, walk)
            elif self._is_done(item):
                self._skip_done(item, walk)
            elif isinstance(item, ChannelStep) and can_be_listed(item, self._runner.bench.channel):
                await self._list(item, items, walk)
            else:
                await self._step(item, walk)
            self._end_if_wanted(item)

    def _end_if_wanted(self, item: AnyStep | PassEnded) -> None:
        """End the run here, where somebody asked for that."""
        wanted = self._runner.steering.end_after
        if wanted is EndAfter.STEP or (wanted is EndAfter.CYCLE and isinstance(item, PassEnded)):
            raise Undone(f"ended by the operator after {item.path}")

    async def _pass_ended(self, item: PassEnded, walk: Walk) -> None:
        runner, journal, passes = self._runner, self._runner.journal, self._runner.passes
        decided = self._history.loop_ended(item.path)
        if decided is not None:
            passes.ended(item.path, last=item.last or decided)
            if decided and not item.last:
                walk.leave()
            return
        view = passes.view(item.path, journal.now_s, runner.status, runner.verdicts.holds)
        met = first_met(item.until, view)
        passes.ended(item.path, last=item.last or met is not None)
        if met is not None:
            # Not awaited: a list that is cut off at this moment would lose a decision.
            journal.enter_soon(LOOP_ENDED, step=item.path, text=f"loop ended: {describe(met)}")
            if not item.last:
                walk.leave()
        elif item.unmet:
            text = "loop ended after its last pass, without its condition"
            journal.enter_soon(LOOP_ENDED, step=item.path, text=text)
        elif item.until:
            journal.enter_soon(PASS_ENDED, step=item.path)

    # --- What was done before -------------------------------------------------------------------

    def _is_done(self, step: AnyStep) -> bool:
        """Whether a step has ended already, and no list is open that begins with it."""
        return not self._has_open_list(step) and self._history.end_of(step.path) is not None

    def _has_open_list(self, first: AnyStep) -> bool:
        """Whether a lost host had a list under way that begins with a step."""
        opened = self._history.open_list
        return opened is not None and opened.first == first.path

    def _skip_done(self, step: AnyStep, walk: Walk) -> None:
        """Take what a step has left from the journal."""
        entry = self._history.end_of(step.path)
        assert entry is not None  # noqa: S101 (asked before)
        if isinstance(step, ChannelStep):
            passes, results = self._runner.passes, entry.data["results"]
            passes.begin(step.path, self._history.start_s(step.path))
            extremes = Extremes.restored(entry.data.get("extremes"))
            passes.end(step.path, extremes, results.get("charge_C", 0.0))
        if isinstance(step, PressStep | TemperatureStep):
            self._orders[type(step)] = step
        if step.save_as is not None:
            walk.record(step.save_as, entry.data["results"])

    async def _restore_orders(self, step: AnyStep) -> None:
        """Before the first step that is not done: see that the standing orders are in force."""
        if self._restored:
            return
        self._restored = True
        for kind, order in self._orders.items():
            if not isinstance(step, kind):
                await self._runner.environment.restore(order)

    async def _step(self, asked: AnyStep, walk: Walk) -> None:
        runner, journal = self._runner, self._runner.journal
        step, deviations = adapt(asked, runner.bench)
        for text in deviations:
            if not self._history.deviated(asked.path, text):
                await journal.enter("deviation", step=asked.path, text=text)
        if step is None:
            return
        self._refuse_problems(step)
        await self._restore_orders(step)
        await self._screen_once(step)
        self._show(step, journal.now_s)
        left = self._left_of(step)
        if left is not None and not can_go_on(step):
            assert isinstance(step, ChannelStep)  # noqa: S101 (nothing else leaves anything)
            runner.enter_cut_off(step, left)
            left = None
        elif left is None and step.path in self._history.open_paths():
            runner.enter_interrupted(step)
        end = await runner.perform(step, left=left)
        if step.save_as is not None:
            walk.record(step.save_as, end.results)

    def _left_of(self, step: AnyStep) -> StepLeft | None:
        """What is done of a step on the channel that a lost host had under way."""
        if not isinstance(step, ChannelStep):
            return None
        self.taken_up.add(step.path)
        return self._history.left_of(step.path, self.open_since_s, self.open_latest_s)

    # --- Lists ----------------------------------------------------------------------------------

    async def _list(self, first: ChannelStep, items: LookAhead, walk: Walk) -> None:
        """Hand a step to the cycler, with all that follows and can be handed over with it."""
        runner = self._runner
        self._refuse_problems(first)
        left_out: list[tuple[str, str]] = []

        def fits(step: AnyStep) -> ChannelStep | bool:
            adapted, deviations = adapt(step, runner.bench)
            if adapted is None:
                left_out.extend((step.path, text) for text in deviations)
                return True
            listed = isinstance(adapted, ChannelStep) and can_be_listed(
                adapted, runner.bench.channel
            )
            if not isinstance(adapted, ChannelStep) or not listed or self._problems(adapted):
                return False
            return adapted

        stretch = items.stretch(first, fits)
        for path, text in left_out:
            if not self._history.deviated(path, text):
                await runner.journal.enter("deviation", step=path, text=text)
        await self._restore_orders(first)
        await self._screen_once(first)
        await self._hand_over(stretch, walk)

    async def _hand_over(self, stretch: Sequence[ChannelStep | PassEnded], walk: Walk) -> None:
        """Have the cycler run steps by itself; what is cut off of them goes on as is fitting."""
        steps = [item for item in stretch if isinstance(item, ChannelStep)]
        passes = _passes_after(stretch)
        # Of a list that is open its cycler goes on, with whatever step it is at.
        done, left = 0, None if self._has_open_list(steps[0]) else self._left_of(steps[0])

        async def ended(position: int, end: StepEnd) -> None:
            if steps[done + position].save_as is not None:
                walk.record(str(steps[done + position].save_as), end.results)
            for item in passes[done + position]:
                await self._pass_ended(item, walk)

        while done < len(steps):
            position = 0
            if left is None:
                opened = self._take_open_list(steps[done])
                test = f"cellbench-{new_id().hex[:12]}" if opened is None else opened.test
                listed = StepListRun(
                    self._runner, steps[done:], test, announce=self._show, ended=ended
                )
                if opened is None:
                    await self._runner.held(steps[done])
                    await listed.hand_over()
                else:
                    await self._skip_done_of(steps, passes, walk)
                    listed.take_up(opened.place)
                    await listed.follow(opened.attached(), unwatched=True)
                position, left = listed.left()
                skips = self._runner.steering.skip_wanted
                if skips and left is None and position < len(steps) - done:
                    # Nothing of the step has begun: it is begun singly, and skipped.
                    await ended(position, await self._runner.perform(steps[done + position]))
                    position += 1
            if left is not None:
                # What it has begun is finished singly: a list begins with whole steps.
                await ended(position, await self._runner.perform(steps[done + position], left=left))
                left, position = None, position + 1
            done += position

    def _take_open_list(self, step: AnyStep) -> OpenList | None:
        """Return the list that a lost host had under way, if it begins with a step; once."""
        if not self._has_open_list(step):
            return None
        opened, self._history.open_list = self._history.open_list, None
        # Whatever step it was at: what passed in it is in the cycler's rows, or bounded with them.
        self.taken_up.update(self._history.energised_paths())
        return opened

    async def _skip_done_of(
        self,
        steps: Sequence[ChannelStep],
        passes: Sequence[Sequence[PassEnded]],
        walk: Walk,
    ) -> None:
        """Take from the journal what was seen to end of a list that is open."""
        for step, ended_with in zip(steps, passes, strict=True):
            if self._history.end_of(step.path) is not None:
                self._skip_done(step, walk)
                for item in ended_with:
                    await self._pass_ended(item, walk)

    def _problems(self, step: AnyStep) -> list[Problem]:
        """Values that were computed from results could not be checked before the run."""
        return list(problems_of(step, self._program, self._runner.bench))

    def _refuse_problems(self, step: AnyStep) -> None:
        problems = self._problems(step)
        if problems:
            raise ProtocolError(problems)

    async def _screen_once(self, step: AnyStep) -> None:
        """Before the first step that may energise the cell: is it the cell of the card?"""
        if isinstance(step, CheckStep):
            self._screened = self._screened or step.voltage is not None
        if self._screened or not isinstance(step, ChannelStep | EisStep):
            return
        self._screened = True
        runner, program = self._runner, self._program
        limits = program.limits.electrical
        await runner.trouble.insist(
            lambda: screen(program.card, runner.bench, limits, runner.recorder, runner.journal)
        )

    def _show(self, step: AnyStep, start_s: float) -> None:
        status = self._runner.status
        status.step_path, status.step_what, status.step_started_s = step.path, step.what, start_s
        status.time_s = start_s
        technique = getattr(step, "technique", None)
        status.step_duration_s = getattr(technique, "duration_s", None)
        status.step_number, status.steps_planned = self._forecast.number(step.path)
        status.planned_end_s = self._forecast.end_s(step.path, start_s)


def _passes_after(stretch: Sequence[ChannelStep | PassEnded]) -> list[list[PassEnded]]:
    """For each step of a stretch, the passes of loops that end with it."""
    found: list[list[PassEnded]] = []
    for item in stretch:
        if isinstance(item, PassEnded):
            found[-1].append(item)
        else:
            found.append([])
    return found
