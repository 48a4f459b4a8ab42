"""Walking the program: each step is adapted to the bench, announced, run, and entered as ended."""

from __future__ import annotations

from cellbench.engine.screening import screen
from cellbench.engine.status import Forecast
from cellbench.engine.steps import StepRunner
from cellbench.protocol.check import adapt, problems_of
from cellbench.protocol.conditions import describe, first_met
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.program import AnyStep, ChannelStep, CheckStep, EisStep, PassEnded, Program
from cellbench.protocol.walk import Walk


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
        for item in walk:
            if isinstance(item, PassEnded):
                await self._pass_ended(item, walk)
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
        # Values that were computed from results could not be checked before the run.
        problems = list(problems_of(step, self._program, runner.bench))
        if problems:
            raise ProtocolError(problems)
        await self._screen_once(step)
        self._show(step, journal.now_s)
        end = await runner.perform(step)
        if step.save_as is not None:
            walk.record(step.save_as, end.results)

    async def _screen_once(self, step: AnyStep) -> None:
        """Before the first step that may energise the cell: is it the cell of the card?"""
        if isinstance(step, CheckStep):
            self._screened = self._screened or step.voltage is not None
        if self._screened or not isinstance(step, ChannelStep | EisStep):
            return
        self._screened = True
        runner, program = self._runner, self._program
        limits = program.limits.electrical
        await screen(program.card, runner.bench, limits, runner.recorder, runner.journal)

    def _show(self, step: AnyStep, start_s: float) -> None:
        status = self._runner.status
        status.step_path, status.step_what, status.step_started_s = step.path, step.what, start_s
        status.time_s = start_s
        technique = getattr(step, "technique", None)
        status.step_duration_s = getattr(technique, "duration_s", None)
        status.step_number, status.steps_planned = self._forecast.number(step.path)
        status.planned_end_s = self._forecast.end_s(step.path, start_s)
