"""One step on the channel from its first row to its last, through all that interrupts it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cellbench.analysis.dataset import INTERRUPTED
from cellbench.engine.extremes import Extremes
from cellbench.engine.gap import BEGAN, Gap, StepLeft, can_go_on
from cellbench.engine.recorder import ChannelRecording
from cellbench.engine.screening import open_circuit_V
from cellbench.engine.trips import StepFailed, Trip
from cellbench.engine.view import StepView
from cellbench.errors import InstrumentError, StoppedThere
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag
from cellbench.instruments.roles import Channel, Running
from cellbench.instruments.techniques import ConstantCurrent, ConstantVoltage, Rest, Sweep
from cellbench.instruments.wired import handover_s, serving
from cellbench.protocol.check_channel import ends_by_itself
from cellbench.protocol.conditions import describe, first_met
from cellbench.protocol.program import AnyStep, ChannelStep, EisStep, Every
from cellbench.store import SampleRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellbench.engine.steps import StepRunner

CAPPED = "its cap was reached before its condition"
SKIPPED = "skipped by the operator"
_BY_OTHERS = "somebody or something else ended the step"
#: After an interruption a current first relaxes: slopes and changes are not judged for so long,
#: or for a quarter of the time between two interruptions.
SETTLING_S = 300.0
#: Instruments keep time to this fraction of a sample.
_SLIVER = 0.1
#: A row of a time so far ahead of the computer's was not understood: clocks drift by less, and a
#: technique whose first reply came late is put too late by that.
AHEAD_S = 60.0


@dataclass(frozen=True)
class StepEnd:
    """How a step ended, what later expressions may use of it, and loops around it."""

    ending: str
    results: Mapping[str, float] = field(default_factory=dict)
    extremes: Extremes | None = None


class SpectrumUnderWay:
    """A spectrum that the instrument takes within a technique: blocks up to its last point.

    Attributes:
        after: What came in place of points that are missing, if any are.
    """

    def __init__(self, first: Block, running: Running) -> None:
        self.after: Block | None = None
        self._first: Block | None = first
        self._running = running

    async def blocks(self, points: int) -> AsyncIterator[Block]:
        """Yield the blocks of a spectrum of so many points."""
        block = self._first
        while block is not None:
            yield block
            points -= len(block.time_s)
            block = await anext(aiter(self._running), None) if points > 0 else None
            if block is not None and "frequency_Hz" not in block.columns:
                self.after, block = block, None


#: Carries out an interrupting step as any other, with its journal entries.
Perform = Callable[[AnyStep, SpectrumUnderWay | None, StepLeft | None], Awaitable[StepEnd]]


class Technique:
    """Carries out a `ChannelStep`: one technique on the instrument, or several in a row."""

    def __init__(self, runner: StepRunner, step: ChannelStep, perform: Perform) -> None:
        self._runner = runner
        self._step = step
        self._perform = perform
        self._step_id = runner.recorder.step_id
        self._rows = TechniqueRows(runner, step)
        self._spectra = _spectra_within(step, runner.bench.channel)
        self._spectrum: AnyStep | None = None
        self._interruptions = 0
        self._ended_within: frozenset[str] = frozenset()
        self._cut_off_within = self._turns = False
        self._left_within: dict[str, StepLeft] = {}
        self._ending: Ending | None = None

    def take_up(self, left: StepLeft) -> None:
        """Go on with a step that was cut off."""
        self._interruptions, self._ended_within = left.interruptions, left.ended_within
        every = self._step.every
        within = numbered(every, self._interruptions) if every and self._interruptions else []
        self._cut_off_within = any(each.path not in left.ended_within for each in within)
        self._left_within = dict(left.within)
        self._runner.recorder.step_id = self._step_id = left.step_id
        self._rows.take_up(left)

    async def run(self) -> StepEnd:
        """Run it to its end; raises like `StepRunner.run`."""
        step, rows = self._step, self._rows
        if step.from_rest:
            step = self._step = await self._at_rest(step)
        while True:
            # Before its time is taken: other instruments may have had the cell meanwhile.
            await self._runner.taken(step)
            if self._cut_off_within:
                self._cut_off_within = False
                self._interruptions -= 1
                await self._interrupt()
                rows.elapsed_s = self._elapsed_s()
            duration_s, last = self._next_segment()
            if duration_s > _SLIVER * step.technique.interval_s:
                if await self._segment(duration_s):
                    if (end := await self._cut_off()) is not None:
                        return end
                    continue
            elif self._ending is None:
                self._ending = Ending(EndingKind.COMPLETED)  # its time was over when it was lost
            if last or rows.met or not _ran_its_time(self._ending):
                break
            await self._interrupt()
        rows.recording.finish()
        return StepEnd(await self._told(), rows.results(), rows.extremes)

    async def _cut_off(self) -> StepEnd | None:
        """After a segment that was cut off: the step's end, or None where it goes on."""
        runner, step, rows = self._runner, self._step, self._rows
        rows.cut_off(runner.journal.now_s)
        if self._spectrum is not None:
            runner.enter_interrupted(self._spectrum)
            self._spectrum, self._cut_off_within = None, True
            runner.recorder.step_id = self._step_id
        if runner.steering.skip_wanted:
            return StepEnd(SKIPPED, rows.results(), rows.extremes)
        if not can_go_on(step):
            return StepEnd(INTERRUPTED, rows.results())
        rows.go_on(await runner.held(step))
        return None

    async def _at_rest(self, step: ChannelStep) -> ChannelStep:
        """Return a sweep that starts where the cell rests."""
        runner, sweep = self._runner, step.technique
        assert isinstance(sweep, Sweep)  # noqa: S101 (nothing else starts from rest)
        limits = runner.watch.limits
        start_V = await runner.trouble.insist(
            lambda: open_circuit_V(runner.bench, limits.electrical, runner.recorder, runner.journal)
        )
        if start_V is None:
            return step  # it is to be skipped
        if not limits.voltage_min_V <= start_V <= limits.voltage_max_V:
            raise StepFailed(f"the cell rests at {start_V:.4g} V, outside the limits")
        text = f"sweep starts at the open circuit, {start_V:.4g} V"
        await runner.journal.enter("remark", step=step.path, text=text, start_V=start_V)
        return replace(step, technique=sweep.model_copy(update={"start_V": start_V}))

    async def _segment(self, duration_s: float) -> bool:
        """Run the technique up to the next interruption, or to its end; whether it was cut off."""
        runner = self._runner
        try:
            async with runner.steering.interruptible() as interruption:
                await self._run_segment(duration_s)
        except InstrumentError as error:
            await runner.trouble.overcome(error, anew=not can_go_on(self._step))
            return True
        turned, self._turns = self._turns, False
        return interruption.happened or turned

    async def _run_segment(self, duration_s: float) -> None:
        runner, rows, technique = self._runner, self._rows, self._step.technique
        channel = runner.bench.channel
        assert channel is not None  # noqa: S101 (checked before the run)
        if isinstance(technique, ConstantCurrent):
            duration_s = min(duration_s, runner.detection.longest_s(technique.current_A))
        if not isinstance(technique, Sweep):
            update = (self._spectra or {}) | {"duration_s": duration_s}
            technique = technique.model_copy(update=update)
        rows.recording.source = serving(channel, technique).name
        rows.segment_begins(technique.duration_s)
        now, goes_on = asyncio.get_running_loop().time, can_go_on(self._step)
        with self._continuing(serving(channel, technique), technique.duration_s):
            async with channel.run(technique, runner.watch.limits.electrical) as running:
                async for each in running:
                    within = "frequency_Hz" in each.columns
                    block = await self._after_spectrum(each, running) if within else each
                    if block is None:
                        continue
                    _require_past(rows.recording.source, block, now())
                    if rows.take(block, running.started_s):
                        break
                    if goes_on and rows.turn():
                        self._turns = True
                        return
                    if runner.recorder.writer.backlogged:
                        await runner.recorder.writer.flush()
                else:
                    require_own_end(running.ending, rows.recording.source)
        self._ending = running.ending

    def _continuing(self, channel: Channel, at_most_s: float) -> AbstractContextManager[None]:
        """While the context lasts, the step goes on without its host, where it declares that."""
        step = self._step
        if step.when_interrupted != "continue" or not ends_by_itself(step, channel.capabilities):
            return nullcontext()
        return self._runner.heart.continuing(channel.name, at_most_s)

    async def _after_spectrum(self, first: Block, running: Running) -> Block | None:
        """Carry out a spectrum that comes among the rows; what came in place of its last points."""
        under_way = SpectrumUnderWay(first, running)
        await self._interrupt(under_way)
        return under_way.after

    def _next_segment(self) -> tuple[float, bool]:
        """Return the time to the next interruption or the end, and whether it is the end."""
        every, duration_s = self._step.every, self._step.technique.duration_s
        if every is None or self._spectra is not None:
            return duration_s - self._rows.elapsed_s, True
        elapsed_s = self._elapsed_s()
        sliver_s = _SLIVER * self._step.technique.interval_s
        due_s = (math.floor((elapsed_s + sliver_s) / every.period_s) + 1) * every.period_s
        last = due_s >= duration_s - sliver_s
        return (duration_s if last else due_s) - elapsed_s, last

    def _elapsed_s(self) -> float:
        """Time of the step: of its clock, which runs on or stops while it is interrupted."""
        every = self._step.every
        if every is not None and every.clock_runs:
            return self._runner.journal.now_s - self._rows.start_s
        return self._rows.elapsed_s

    async def _interrupt(self, under_way: SpectrumUnderWay | None = None) -> None:
        """Carry out the interrupting steps; keep account of the charge that passes meanwhile.

        Args:
            under_way: The one interrupting step, where the instrument has begun it by itself.
        """
        every, rows, recorder = self._step.every, self._rows, self._runner.recorder
        channel = self._runner.bench.channel
        assert every is not None  # noqa: S101 (it is why we are here)
        assert channel is not None  # noqa: S101 (it runs the step)
        step_id = recorder.step_id
        self._interruptions += 1
        rows.recording.finish()  # before rows of what interrupts it
        charge_C = unseen_s = 0.0
        for each in numbered(every, self._interruptions):
            begun_s = self._runner.journal.now_s if under_way is None else rows.last_s
            begun_s -= handover_s(channel)  # the cell rests while it changes hands
            if each.path in self._ended_within:
                continue
            self._spectrum = None if under_way is None else each
            end = await self._perform(each, under_way, self._left_of(each))
            self._spectrum = None
            charge_C += end.results.get("charge_C", 0.0)
            if _is_biased(each):
                unseen_s += self._runner.journal.now_s - handover_s(channel) - begun_s
        if under_way is None:
            # That it goes on is on the disk before it does: what passes from then on is its own.
            await self._runner.journal.durable()
        recorder.step_id = step_id
        rows.resume(charge_C, unseen_s, min(SETTLING_S, every.period_s / 4))

    def _left_of(self, step: AnyStep) -> StepLeft | None:
        """What a lost host has left of an interrupting step that goes on where it was."""
        left = self._left_within.pop(step.path, None)
        if left is None or can_go_on(step):
            return left
        assert isinstance(step, ChannelStep)  # noqa: S101 (nothing else leaves anything)
        self._runner.enter_cut_off(step, left)
        return None

    async def _told(self) -> str:
        """How it ended, and that a voltage was not held which it was all about."""
        return self._rows.with_unheld(await self._how())

    async def _how(self) -> str:
        """How it ended, with a warning where that was not how it was meant to."""
        step, rows, journal = self._step, self._rows, self._runner.journal
        if rows.stopped:
            text = f"{step.what}: stopped, {rows.met}"
            await journal.enter("warning", step=step.path, text=text)
        if rows.met:
            return rows.met
        if step.capped and _ran_its_time(self._ending):
            text = f"{step.what}: {CAPPED}"
            await journal.enter("warning", step=step.path, text=text)
            return CAPPED
        return told(self._ending)


def numbered(every: Every, interruption: int) -> list[AnyStep]:
    """Return the steps of one interruption, with its number in their paths."""
    return [replace(each, path=each.path.format(interruption)) for each in every.steps]


class TechniqueRows:
    """Every raw row of one step: limits, charge, conditions, recording, live values."""

    def __init__(self, runner: StepRunner, step: ChannelStep) -> None:
        channel = runner.bench.channel
        assert channel is not None  # noqa: S101 (checked before the run)
        instrument = serving(channel, step.technique)
        self.recording = ChannelRecording(
            runner.recorder,
            instrument.name,
            step.technique.interval_s,
            step.record,
        )
        self._step_id = runner.recorder.step_id
        self.met = ""
        self.stopped = False
        self.elapsed_s = 0.0
        self.start_s = runner.journal.now_s
        self.extremes = Extremes()
        self._runner = runner
        self._step = step
        self._conditions = (*step.until, *step.stop_if)
        self._view = StepView(self._conditions, runner.status, runner.verdicts.holds)
        self._watch = runner.detection.step(
            step, lambda: self.recording.source, instrument.capabilities
        )
        self._held = self._watch.held
        self._bounds = runner.gap_bounds(step)
        self._charge_max_C = math.inf if step.charge_max_C is None else step.charge_max_C
        self._zero_s = self.start_s
        self._begun = False
        self._segment_s, self._segment_end_s = self.start_s, math.inf
        self._after = 0
        self._last: tuple[float, float, float] = (0.0, math.nan, math.nan)

    @property
    def last_s(self) -> float:
        """Time of the latest row."""
        return self._last[0]

    def resume(self, charge_C: float, unseen_s: float, settling_s: float) -> None:
        """Go on after an interruption.

        Args:
            charge_C: What interrupting steps have counted.
            unseen_s: Time in which the current went on without being measured.
            settling_s: How long slopes and changes are not judged.
        """
        self._watch.counted(charge_C)
        last_A = self._last[2]
        if not math.isnan(last_A):
            charge_C += last_A * unseen_s
        self.recording.resume(charge_C)
        self._begun = False
        self._view.blind_until(self.elapsed_s + settling_s)

    def restore(self, row: SampleRow, start_s: float) -> None:
        """Go on after a row that is kept already, of a step that began at ``start_s``."""
        self.recording.restore(row, start_s)
        self._watch.counted(self.recording.charge_C)
        self.begin(start_s)
        self.elapsed_s = row[0] - start_s
        self._last = (row[0], _number(row[3]), _number(row[4]))

    # --- Cut off, and going on ------------------------------------------------------------------

    def segment_begins(self, duration_s: float) -> None:
        """Take note that the technique is about to take hold of the cell, for so long at most."""
        self._segment_s, self._segment_end_s = self._now_s, self._now_s + duration_s
        if self.elapsed_s and not self._clock_runs:
            self._zero_s = self._segment_s - self.elapsed_s

    def cut_off(self, open_s: float) -> None:
        """Take account of what passed unseen since the last row.

        Args:
            open_s: When the cell was known to be at open circuit.
        """
        from_s = max(self._segment_s, self._last[0]) if self._begun else self._segment_s
        left_s = self._segment_end_s - from_s
        self._unseen(Gap.of(self._step, from_s, open_s, self._last[2], self._bounds, left_s))

    def _unseen(self, gap: Gap) -> None:
        gap.enter(self._runner.journal, self._step.path)
        self._watch.unseen(gap.charge_C)
        self.recording.resume(gap.charge_C, missing=True)
        self.elapsed_s += gap.passed_s
        self._begun = False

    def go_on(self, away_s: float) -> None:
        """Go on after so long a time at open circuit."""
        every = self._step.every
        settling_s = SETTLING_S if every is None else min(SETTLING_S, every.period_s / 4)
        if isinstance(self._step.technique, Rest):
            self.elapsed_s += away_s  # it rested all the same
        elif self._clock_runs:
            self.start_s += away_s
            self._zero_s += away_s
        self._view.blind_until(self.elapsed_s + settling_s)

    def left(self, to_s: float) -> StepLeft:
        """What is done of it, when it is cut off and the cell at open circuit since then."""
        self.recording.finish()
        last_s, _, last_A = self._last if self._begun else (self.start_s, math.nan, math.nan)
        return StepLeft(
            step_id=self._step_id,
            elapsed_s=self.elapsed_s,
            charge_C=self.recording.charge_C,
            last_s=last_s,
            last_A=last_A,
            interruptions=0,
            to_s=to_s,
            extremes=self.extremes,
        )

    def take_up(self, left: StepLeft) -> None:
        """Go on with a step that was cut off."""
        self._step_id = left.step_id
        self.recording.charge_C = left.charge_C
        self._watch.counted(left.charge_C)
        self.elapsed_s = left.elapsed_s
        self.extremes.take(left.extremes)
        self._last = (left.last_s, math.nan, left.last_A)
        self._unseen(left.gap(self._step, self._bounds))
        self.start_s = self._zero_s = self._now_s - self.elapsed_s
        self.go_on(0.0)

    @property
    def _now_s(self) -> float:
        return self._runner.journal.now_s

    @property
    def _clock_runs(self) -> bool:
        every = self._step.every
        return every is not None and every.clock_runs

    def take(self, block: Block, started_s: float) -> bool:
        """Take a block; whether the host ends the step now.

        Args:
            block: Rows of this step alone.
            started_s: Loop time at which the technique took hold of the cell, nan if nobody knows.
        """
        since_start = self._runner.journal.since_start
        voltages = block.columns["voltage_V"]
        currents = block.columns.get("current_A")
        if not self._begun:
            self.begin(since_start(started_s))
            # From when its own time counts: a host that comes after this one needs to know.
            zero_s = round(self._zero_s, 9)
            self._runner.journal.enter_soon(BEGAN, step=self._step.path, zero_s=zero_s)
        numbers, counts = block.columns.get("row"), block.columns.get("charge_C")
        for index, loop_time_s in enumerate(block.time_s):
            current_A = 0.0 if currents is None else currents[index]
            counted_C = None if counts is None else counts[index]
            flags = block.flags[index] | self._after
            number = None if numbers is None else int(numbers[index])
            time_s = since_start(loop_time_s)
            if self._row(time_s, voltages[index], current_A, flags, number, counted_C):
                # What came with the crossing is kept, and said to lie after it.
                self._after = Flag.AFTER_CROSSING
        return bool(self._after)

    def begin(self, time_s: float) -> None:
        """Take note of when the technique took hold of the cell, nan if nobody knows."""
        self._begun = True
        if not math.isnan(time_s):
            self.recording.begin(time_s)
            if not self._clock_runs:
                self._zero_s = time_s - self.elapsed_s

    def _row(
        self, time_s: float, voltage_V: float, current_A: float, flags: int, number: int | None,
        counted_C: float | None,
    ) -> bool:  # fmt: skip
        runner = self._runner
        if self._held is not None:
            flags = self._held.flags(time_s, voltage_V, current_A, flags)
        charge_C = self.recording.take(time_s, voltage_V, current_A, flags, number, counted_C)
        runner.status.electrical(time_s, voltage_V, current_A)
        runner.verdicts.row(time_s, voltage_V, current_A)
        self._last = (time_s, voltage_V, current_A)
        self.elapsed_s = time_s - self._zero_s
        self.extremes.row(voltage_V, abs(current_A))
        runner.guard(voltage_V, current_A, flags)
        self._watch.row(time_s, voltage_V, current_A, charge_C)
        return True if self._after else self._ends(voltage_V, current_A, charge_C)

    def _ends(self, voltage_V: float, current_A: float, charge_C: float) -> bool:
        step = self._step
        if abs(charge_C) >= self._charge_max_C:
            self.met = f"charge {abs(charge_C) / 3.6:.4g} mAh"
            return True
        if not self._conditions:
            return False
        view = self._view
        view.update(self.elapsed_s, voltage_V=voltage_V, current_A=current_A, charge_C=charge_C)
        condition = first_met(step.until, view)
        if condition is None:
            condition = first_met(step.stop_if, view)
            self.stopped = condition is not None
        self.met = "" if condition is None else describe(condition)
        return bool(self.met)

    def turn(self) -> bool:
        """Whether a voltage is to be held from the other side from now on."""
        if self._held is None or not self._held.turn():
            return False
        text = "from now on the voltage is held from the other side"
        self._runner.journal.enter_soon("remark", step=self._step.path, text=text)
        return True

    def with_unheld(self, ending: str) -> str:
        """An ending, and that the voltage was not held by then."""
        unheld = "" if self._held is None else self._held.unheld
        return f"{ending}; {unheld}" if unheld else ending

    def results(self) -> dict[str, float]:
        """What later expressions can use."""
        _, voltage_V, current_A = self._last
        return {
            "voltage_V": voltage_V,
            "current_A": current_A,
            "charge_C": self.recording.charge_C,
            "duration_s": max(0.0, self.elapsed_s),
        }


def _require_past(source: str, block: Block, now_s: float) -> None:
    """Let no row count whose time has not come: its charge would be anything.

    Raises:
        InstrumentError: There is one.
    """
    ahead_s = max(block.time_s, default=0.0) - now_s
    if ahead_s > AHEAD_S:
        raise InstrumentError(source, f"tells a row of a time that lies {ahead_s:.0f} s ahead")


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _spectra_within(step: ChannelStep, channel: Channel | None) -> dict[str, object] | None:
    """What a hold is to be told of the spectra that interrupt it, if the instrument can take them.

    None where it has to leave the hold for them, which opens the cell for a moment.
    """
    hold, every = step.technique, step.every
    if channel is None or every is None:
        return None
    instrument = serving(channel, hold)
    if not instrument.capabilities.spectra_in_hold:
        return None
    match every.steps:
        case (EisStep(technique=spectra),) if every.clock_runs and not spectra.galvanostatic:
            at_its_bias = isinstance(hold, ConstantVoltage) and spectra.bias_V == hold.voltage_V
            if at_its_bias and serving(channel, spectra) is instrument:
                return {"spectra": spectra, "spectra_every_s": every.period_s}
    return None


def _is_biased(step: AnyStep) -> bool:
    """Whether a direct current goes on through a step that does not count it."""
    return isinstance(step, EisStep) and (
        step.technique.bias_V is not None or step.technique.bias_A != 0
    )


def _ran_its_time(ending: Ending | None) -> bool:
    return ending is not None and ending.kind is EndingKind.COMPLETED


def told(ending: Ending | None) -> str:
    """How the instrument ended a technique.

    Raises:
        Trip: It saw a limit crossed first.
        StepFailed: It did not end as it was told to.
    """
    if ending is None:
        raise StepFailed("the instrument did not say how the step ended")
    if ending.kind is EndingKind.TRIPPED:
        raise Trip("cell", f"the instrument switched off: {ending.detail}")
    if ending.kind in {EndingKind.ABORTED, EndingKind.STOPPED}:
        raise StepFailed(f"{_BY_OTHERS}: {ending.detail or 'aborted'}")
    return ending.detail or ending.kind.value


def require_own_end(ending: Ending | None, instrument: str) -> None:
    """See that an instrument has not broken off what it was told to do.

    Raises:
        StoppedThere: Somebody has stopped it there.
        InstrumentError: It has: what is to be done about that, its policy says.
    """
    if ending is not None and ending.kind is EndingKind.STOPPED:
        raise StoppedThere(instrument, ending.detail)
    if ending is not None and ending.kind is EndingKind.ABORTED:
        raise InstrumentError(instrument, f"{_BY_OTHERS}: {ending.detail or 'aborted'}")
