"""Several steps that a cycler runs by itself: handed over as one action, entered as they are seen.

The rows of a list tell the position of their step and their own number. Each step that comes into
sight is announced, its rows go the way of all rows, and its end is entered with its results, as if
it had been run singly; journal entries of a step carry its times by the instrument's rows
(``began_s``, ``ended_s``), for they are entered when the computer sees them. Nothing of that waits
for the disk: a hold that comes meanwhile finds no step that has begun or ended by half.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from cellbench.engine.gap import StepLeft
from cellbench.engine.technique import CAPPED, StepEnd, TechniqueRows, require_own_end, told
from cellbench.engine.trips import StepFailed
from cellbench.errors import InstrumentError, OtherTest
from cellbench.instruments.readings import Block, Ending, EndingKind
from cellbench.instruments.roles import Cycler, Running
from cellbench.instruments.techniques import CutOff
from cellbench.protocol.conditions import Threshold, describe
from cellbench.protocol.lists import step_list
from cellbench.protocol.program import ChannelStep
from cellbench.quantities import format_quantity
from cellbench.store import SampleRow

if TYPE_CHECKING:
    from cellbench.engine.steps import StepRunner

#: Kinds of journal entries: handed over, seen to have begun, over.
HANDED, BEGUN, OVER = "step list", "step list begun", "step list ended"


@dataclass(frozen=True)
class Place:
    """Where a list was when its host was lost, by what the run's file holds.

    Attributes:
        position: Of the last step that was announced; -1 for none.
        ended: Whether its end was entered.
        step_id: Its number in the file.
        began_s: When it began.
        list_began_s: When the list began, nan if nobody has seen it.
        handed_s: When it was handed over.
        last: The last row of the list that was kept, None for none.
    """

    position: int
    ended: bool
    step_id: int
    began_s: float
    list_began_s: float
    handed_s: float
    last: SampleRow | None

    @property
    def has_begun(self) -> bool:
        """Whether anybody has seen it begin."""
        return not math.isnan(self.list_began_s)

    @property
    def after_row(self) -> int:
        """Number of the last row that was kept."""
        return 0 if self.last is None else self.last[9] or 0


class StepListRun:
    """One list of steps under way, from its first row to its last.

    Args:
        runner: What steps are carried out with.
        steps: The steps, in the order in which they run.
        test: What the instrument knows the list by.
        announce: Called with each step that has begun, and when.
        ended: Awaited with the position of each step that has ended, and how it ended.
    """

    def __init__(
        self,
        runner: StepRunner,
        steps: Sequence[ChannelStep],
        test: str,
        *,
        announce: Callable[[ChannelStep, float], None],
        ended: Callable[[int, StepEnd], Awaitable[None]],
    ) -> None:
        self._runner = runner
        self._steps = [runner.detection.bounded(step) for step in steps]
        self._test = test
        self._announce = announce
        self._ended = ended
        self._position = -1
        self._rows: TechniqueRows | None = None
        self._began_s = self._boundary_s = math.nan
        self._list_began_s = self._shift_s = math.nan
        self._number = 0
        self._open_s = self._handed_s = math.nan

    async def hand_over(self) -> None:
        """Hand the list to the cycler and follow it to its end.

        A hold or a failure of the cycler cuts it off, and `left` says what remains.

        Raises:
            Trip: A limit was crossed.
            StepFailed: The list did not run to its end as it should.
            InstrumentError: The cycler failed it.
        """
        runner, steps = self._runner, step_list(self._steps)
        channel = runner.bench.channel
        assert isinstance(channel, Cycler)  # noqa: S101 (only such a channel is handed lists)
        await runner.journal.enter(
            HANDED,
            step=self._steps[0].path,
            text=self._headline(channel.name),
            test=self._test,
            steps=steps.model_dump(mode="json", exclude_none=True),
            items=[step.path for step in self._steps],
        )
        limits = runner.watch.limits.electrical
        await self.follow(channel.run_list(steps, limits, self._test))

    async def follow(
        self, begun: AbstractAsyncContextManager[Running], *, unwatched: bool = False
    ) -> None:
        """Follow a list to its end, or until it is cut off; raises like `hand_over`.

        Args:
            begun: What began it on the cycler, or attached to it.
            unwatched: Whether nobody has watched it: what ended it early has cut it off.
        """
        runner = self._runner
        cut_off = False
        try:
            with self._continuing():
                async with runner.steering.interruptible() as interruption, begun as running:
                    await self._rows_of_list(running)
                    cut_off = unwatched and _was_cut_off(running.ending)
                    if not cut_off:
                        require_own_end(running.ending, self._name)
                        await self._to_its_end(running.ending)
        except InstrumentError as error:
            await runner.trouble.overcome(error)
            cut_off = await self._went_on()
        else:
            if interruption.happened:
                cut_off = await self._went_on()
        if cut_off:
            await self.over()
        runner.steering.under_way = ""

    async def _went_on(self) -> bool:
        """Fetch what the cycler did of a list that was cut off, until it came to open circuit.

        It may have gone on for a while, and begun further steps. Returns whether any of it is left.
        """
        runner = self._runner
        cycler = runner.bench.channel
        assert isinstance(cycler, Cycler)  # noqa: S101 (it ran the list)
        self._open_s, self._shift_s = runner.journal.now_s, math.nan
        while True:
            attached = cycler.attach(step_list(self._steps), self._test, self._number)
            try:
                async with attached as running:
                    await self._rows_of_list(running)
            except OtherTest:
                if self._number and not self._is_within_step():
                    raise
                return True  # it never began, or was lost in the middle of a step
            except InstrumentError as error:
                await runner.trouble.overcome(error, anew=True)
                continue
            if _was_cut_off(running.ending):
                return True
            await self._to_its_end(running.ending)
            return False

    @property
    def _name(self) -> str:
        channel = self._runner.bench.channel
        assert channel is not None  # noqa: S101 (it runs the list)
        return channel.name

    def _is_within_step(self) -> bool:
        """Whether the cell was open before the step under way can have been over."""
        rows = self._rows
        if rows is None:
            return False
        left_s = self._steps[self._position].technique.duration_s - rows.elapsed_s
        return self._open_s - rows.last_s <= left_s

    def _continuing(self) -> AbstractContextManager[None]:
        """While the context lasts, the list goes on without its host, if the device bounds it."""
        heart, channel = self._runner.heart, self._runner.bench.channel
        assert channel is not None  # noqa: S101 (only such a bench runs lists)
        if not channel.capabilities.bounded_without_host:
            return nullcontext()
        at_most_s = sum(step.technique.duration_s for step in self._steps)
        return heart.continuing(channel.name, at_most_s)

    async def over(self) -> None:
        """Enter that the cycler runs no more of the list; on disk before it is given another."""
        await self._runner.journal.enter(
            OVER, step=self._steps[0].path, test=self._test, rows=self._number
        )

    def left(self) -> tuple[int, StepLeft | None]:
        """Of a list that was cut off: position of the step to go on with, and what is done of it.

        After the end of the list the position is that behind the last step.
        """
        if self._rows is None:
            return self._position + 1, None
        now_s = self._runner.journal.now_s
        return self._position, self._rows.left(now_s if math.isnan(self._open_s) else self._open_s)

    def take_up(self, place: Place) -> None:
        """Go on where the run's file ends."""
        self._position, self._list_began_s = place.position, place.list_began_s
        self._boundary_s, self._handed_s = place.began_s, place.handed_s
        self._number = place.after_row
        last = place.last
        if last is not None:
            self._boundary_s = max(last[0], self._boundary_s)
        if place.ended or place.position < 0:
            return
        self._runner.recorder.step_id = place.step_id
        self._began_s = place.began_s
        self._runner.passes.begin(self._steps[place.position].path, place.began_s)
        self._skippable(self._steps[place.position].path)
        self._rows = self._rows_of(self._steps[place.position])
        if last is not None and last[2] == place.step_id:
            self._rows.restore(last, place.began_s)
        self._announce(self._steps[place.position], place.began_s)

    async def _rows_of_list(self, running: Running) -> None:
        writer = self._runner.recorder.writer
        async for block in running:
            self._tie(running)
            for position, part in _by_position(block):
                await self._take(position, part)
            if writer.backlogged:
                await writer.flush()

    async def _to_its_end(self, ending: Ending | None) -> None:
        told(ending)
        await self._end_step()
        await self._pass_over(len(self._steps))
        await self.over()

    def _tie(self, running: Running) -> None:
        """Tie the instrument's times to the run's, once: by when the list began."""
        if not math.isnan(self._shift_s):
            return
        journal = self._runner.journal
        seen_s = journal.since_start(running.started_s)
        if math.isnan(self._list_began_s):
            # Of one that nobody saw begin, the cycler tells that only to some seconds.
            began_s = self._list_began_s = seen_s if math.isnan(self._handed_s) else self._handed_s
            journal.enter_soon(
                BEGUN, step=self._steps[0].path, test=self._test, began_s=round(began_s, 9)
            )
        self._shift_s = self._list_began_s - seen_s
        if math.isnan(self._boundary_s):
            self._boundary_s = self._list_began_s

    async def _take(self, position: int, block: Block) -> None:
        if position < self._position or position >= len(self._steps):
            raise StepFailed(f"the cycler tells rows of step {position + 1} of its list")
        if position > self._position:
            await self._end_step()
            await self._pass_over(position)
            self._begin_step()
        if self._rows is None:
            raise StepFailed(f"the cycler tells more rows of {self._steps[position].path}")
        times = [time_s + self._shift_s for time_s in block.time_s]
        self._rows.take(replace(block, time_s=times), self._runner.journal.loop_time(self._began_s))
        self._number = int(block.columns["row"][-1])

    def _skippable(self, path: str) -> None:
        """Take note of the step under way; to skip one that ended before is too late by now."""
        steering = self._runner.steering
        late, steering.under_way = steering.under_way, path
        if not path and late and steering.skipped == late:
            steering.skipped = ""
            text = f"{late} is not skipped: it had ended by itself"
            self._runner.journal.enter_soon("remark", step=late, text=text)

    # --- Steps ----------------------------------------------------------------------------------

    def _rows_of(self, step: ChannelStep) -> TechniqueRows:
        """What becomes of a step's rows; the instrument ends it by time where a charge is bound."""
        return TechniqueRows(self._runner, replace(step, charge_max_C=None))

    def _begin_step(self) -> None:
        """Announce the next step, which began when the one before it ended."""
        self._position += 1
        step, runner = self._steps[self._position], self._runner
        self._began_s = self._boundary_s
        runner.enter_start_soon(
            step, began_s=round(self._began_s, 9), test=self._test, position=self._position
        )
        runner.passes.begin(step.path, self._began_s)
        self._skippable(step.path)
        self._rows = self._rows_of(step)
        self._announce(step, self._began_s)

    async def _end_step(self) -> None:
        """Enter the end of the step under way, if one is."""
        rows, self._rows = self._rows, None
        if rows is None:
            return
        rows.recording.finish()
        step = self._steps[self._position]
        self._boundary_s = max(rows.last_s, self._began_s)
        results = rows.results()
        end = StepEnd(rows.with_unheld(self._how(step, results)), results, rows.extremes)
        self._runner.passes.end(step.path, rows.extremes, results["charge_C"])
        await self._enter_end(step, end)

    async def _pass_over(self, position: int) -> None:
        """Enter steps that ended as they began, so that no row tells of them."""
        while self._position + 1 < position:
            self._begin_step()
            step = self._steps[self._position]
            self._rows = None
            if not step.technique.cut_offs:
                raise StepFailed(f"the cycler passed over {step.path}")
            self._runner.passes.end(step.path, None, 0.0)
            cut_off = _told(step.technique.cut_offs[0])
            await self._enter_end(step, StepEnd(f"{cut_off} as it began"))

    async def _enter_end(self, step: ChannelStep, end: StepEnd) -> None:
        self._skippable("")
        times = (self._began_s, self._boundary_s)
        self._runner.enter_end(step, end, times, ended_s=round(self._boundary_s, 9))
        await self._ended(self._position, end)

    def _how(self, step: ChannelStep, results: dict[str, float]) -> str:
        ending = how_it_ended(step, results)
        if step.capped and ending.kind is EndingKind.COMPLETED:
            text = f"{step.what}: {CAPPED}"
            self._runner.journal.enter_soon("warning", step=step.path, text=text)
            return CAPPED
        return told(ending)

    def _headline(self, name: str) -> str:
        first, last = self._steps[0].path, self._steps[-1].path
        longest_s = sum(step.technique.duration_s for step in self._steps)
        count = len(self._steps)
        which = first if count == 1 else f"{count} steps, {first} to {last}"
        return f"{name} runs by itself: {which}, at most {format_quantity(longest_s, 'time')}"


def _was_cut_off(ending: Ending | None) -> bool:
    return ending is not None and ending.kind in {EndingKind.ABORTED, EndingKind.STOPPED}


def how_it_ended(step: ChannelStep, results: dict[str, float]) -> Ending:
    """What ended a step that the cycler has left, by its last row."""
    technique = step.technique
    crossed = [each for each in technique.cut_offs if _is_crossed(each, results)]
    if crossed:
        return Ending(EndingKind.CUT_OFF, _told(crossed[0]))
    if results["duration_s"] >= technique.duration_s - technique.interval_s:
        return Ending(EndingKind.COMPLETED)
    if technique.cut_offs:
        # Nothing else ends it early: its last row lies a little before the crossing.
        return Ending(EndingKind.CUT_OFF, _told(_nearest(technique.cut_offs, results)))
    detail = f"after {results['duration_s']:g} s of {technique.duration_s:g} s"
    return Ending(EndingKind.ABORTED, detail)


def _is_crossed(cut_off: CutOff, results: dict[str, float]) -> bool:
    value = _value(cut_off, results)
    return value >= cut_off.value if cut_off.above else value <= cut_off.value


def _nearest(cut_offs: Sequence[CutOff], results: dict[str, float]) -> CutOff:
    return min(cut_offs, key=lambda each: abs(_value(each, results) - each.value))


def _value(cut_off: CutOff, results: dict[str, float]) -> float:
    value = results["voltage_V" if cut_off.quantity == "voltage" else "current_A"]
    return value if cut_off.quantity == "voltage" else abs(value)


def _told(cut_off: CutOff) -> str:
    return describe(Threshold(cut_off.quantity, cut_off.above, cut_off.value))


def _by_position(block: Block) -> Iterator[tuple[int, Block]]:
    """Yield the rows of each step in a block, in their order, with its position."""
    positions = block.columns["step"]
    for position, group in groupby(range(len(positions)), key=lambda index: positions[index]):
        indices = list(group)
        rows = slice(indices[0], indices[-1] + 1)
        columns = {name: values[rows] for name, values in block.columns.items()}
        yield int(position), Block(block.time_s[rows], columns, block.flags[rows])
