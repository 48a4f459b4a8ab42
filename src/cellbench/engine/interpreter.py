"""Walking the program: each step is adapted to the bench, announced, run, and entered as ended."""

from __future__ import annotations

from collections.abc import Sequence

from cellbench.engine.look_ahead import LookAhead
from cellbench.engine.screening import screen
from cellbench.engine.status import Forecast
from cellbench.engine.step_list import StepListRun
from cellbench.engine.steps import StepRunner
from cellbench.engine.technique import StepEnd
from cellbench.protocol.check import adapt, problems_of
from cellbench.protocol.conditions import describe, first_met
from cellbench.protocol.errors import Problem, ProtocolError
from cellbench.protocol.lists import can_be_listed, ends_a_list
from cellbench.protocol.program import AnyStep, ChannelStep, CheckStep, EisStep, PassEnded, Program
from cellbench.protocol.walk import Walk
from cellbench.transport.identity import new_id


class Interpreter:
    """Runs a program's steps in order, and its loops to their ends.

    Args:
        program: What to walk.
        runner: What carries out a single step.
        forecast: Which step of the plan this is, and when the plan ends.
    """

    def __init__(self, program: Program, runner: StepRunner, forecast: Forecast) -> None:
        self._program = program
        self._runner = runner
        self._forecast = forecast
        self._screened = False

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
            elif isinstance(item, ChannelStep) and can_be_listed(item, self._runner.bench.channel):
                await self._list(item, items, walk)
            else:
                await self._step(item, walk)

    async def _pass_ended(self, item: PassEnded, walk: Walk) -> None:
        runner, journal = self._runner, self._runner.journal
        passes = runner.passes
        view = passes.view(item.path, journal.now_s, runner.status, runner.verdicts.holds)
        met = first_met(item.until, view)
        passes.ended(item.path, last=item.last or met is not None)
        if met is not None:
            text = f"loop ended: {describe(met)}"
            await journal.enter("loop ended", step=item.path, text=text)
            if not item.last:
                walk.leave()
        elif item.unmet:
            text = "loop ended after its last pass, without its condition"
            await journal.enter("loop ended", step=item.path, text=text)

    async def _step(self, asked: AnyStep, walk: Walk) -> None:
        runner, journal = self._runner, self._runner.journal
        step, deviations = adapt(asked, runner.bench)
        for text in deviations:
            await journal.enter("deviation", step=asked.path, text=text)
        if step is None:
            return
        self._refuse_problems(step)
        await self._screen_once(step)
        self._show(step, journal.now_s)
        end = await runner.perform(step)
        if step.save_as is not None:
            walk.record(step.save_as, end.results)

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
            await runner.journal.enter("deviation", step=path, text=text)
        await self._screen_once(first)
        await self._hand_over(stretch, items, walk)

    async def _hand_over(
        self, stretch: Sequence[ChannelStep | PassEnded], items: LookAhead, walk: Walk
    ) -> None:
        steps = [item for item in stretch if isinstance(item, ChannelStep)]
        passes = _passes_after(stretch)

        async def ended(position: int, end: StepEnd) -> None:
            save_as = steps[position].save_as
            if save_as is not None:
                walk.record(save_as, end.results)
            for item in passes[position]:
                await self._pass_ended(item, walk)

        listed = StepListRun(
            self._runner,
            steps,
            f"cellbench-{new_id().hex[:12]}",
            announce=self._show,
            ended=ended,
        )
        number, planned = self._forecast.number(steps[-1].path)
        await listed.hand_over(
            is_end=not ends_a_list(stretch[-1]) and items.seen() is None and not items.failed,
            steps_left=None if number is None or planned is None else planned - number,
            conditions_every_s=self._program.conditions_every_s,
        )

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
