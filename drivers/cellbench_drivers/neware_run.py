"""A test under way on a Neware channel: its rows, each fetched once, and how it ended.

Rows tell the step of the file that they are of and the time within it (``testtime`` starts again
with each step: so do captured rows, 25 days into their test). From their order follows
where in the list of techniques they are, and the time since the test began. A look at the channel
every 5 s tells whether it still works; the rows that are then there are downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from cellbench.clock import sleep_until
from cellbench.errors import InstrumentError, OtherTest
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag
from cellbench.instruments.techniques import ConstantVoltage, CutOff, ElectricalLimits
from cellbench_drivers.channels import TechniqueRun, crossing
from cellbench_drivers.neware_bts import IDLE, Address, Bts, FinishedStep, Live, Row
from cellbench_drivers.neware_steps import Program, Step, device_cut_offs

#: The client has new data no more often than this.
REFRESH_S = 5.0
#: How long a channel may take to begin a test that it said to begin.
_BEGIN_S = 60.0
#: How long the last rows of a test may take to arrive after its end.
_LAST_ROWS_S = 120.0
#: Times within steps are told to 0.1 s.
_RESOLUTION_S = 0.15


class Progress:
    """Where in the list of techniques the latest row is, and the time since the test began.

    Args:
        numbers: Number of the file's step for each technique, in the order in which they run.
    """

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.position = -1
        self._numbers = numbers
        self._began_ms = 0
        self._last_ms = -1
        self._within = False

    def pass_over(self, step: FinishedStep) -> None:
        """Take note of a step whose rows are known already; cycle steps have none."""
        if step.step in self._numbers:
            self._advance(step.step)
            self._began_ms += step.duration_ms
            self._within = False

    def take(self, row: Row) -> float:
        """Take note of the next row and return its time in s since the test began.

        Raises:
            ValueError: It is of a step that does not come here.
        """
        same = self._within and self._numbers[self.position] == row.step
        if not same or row.step_ms < self._last_ms:
            if self._within:
                self._began_ms += self._last_ms
            self._advance(row.step)
            self._within = True
        self._last_ms = row.step_ms
        return (self._began_ms + row.step_ms) / 1e3

    def _advance(self, step: int) -> None:
        """Go on to the next technique that is this step; those between had no rows."""
        try:
            self.position = self._numbers.index(step, self.position + 1)
        except ValueError as error:
            raise ValueError(
                f"a row of step {step} follows technique {self.position + 1} of "
                f"{len(self._numbers)}: the channel runs something else"
            ) from error


class NewareRun(TechniqueRun):
    """Blocks of one test, up to 1000 rows each; ``ending`` is there once they are exhausted.

    Args:
        bts: The connection.
        at: The channel.
        program: What the channel was given.
        barcode: By what the test is known.
        limits: What was programmed, None where another process did.
        as_list: Whether blocks have the columns of a list, ``step`` and ``row``.
        stop: Stops the channel and reads that back.

    Attributes:
        ending: How it ended, None while it runs.
        open_circuit_V: Voltage before it, nan where it was not measured.
        started_s: Loop time at which it began, nan until that is known.
    """

    def __init__(
        self,
        bts: Bts,
        at: Address,
        program: Program,
        barcode: str,
        limits: ElectricalLimits | None,
        *,
        as_list: bool,
        stop: Callable[[], Awaitable[str]],
    ) -> None:
        super().__init__()
        self._bts = bts
        self._at = at
        self._program = program
        self._barcode = barcode
        self._limits = limits
        self._as_list = as_list
        self._stop = stop
        self._progress = Progress(program.numbers)
        self._test: int | None = None
        self._test_before = 0
        self._deadline_s = math.inf
        self._looked_s = -math.inf
        self._next = 1
        self._yield_from = 1
        self._there = 0
        self._late_to = 0
        self._idle: Live | None = None
        self._announced = 0
        self._announced_before = -1
        self._last: tuple[float, float, float] | None = None
        self._crossed: Ending | None = None

    async def _advance(self) -> Block | None:
        """Do what comes next: stop what has crossed, fetch rows that are there, or look again."""
        if self._crossed is not None:
            await self._stop()
            self.ending = self._crossed
        elif self._next <= self._there:
            return await self._fetch()
        elif self._idle is not None and await self._complete():
            self.ending = self._ended(self._idle.status)
        else:
            await self._look()
        return None

    def begin(self, live: Live, test_before: int) -> None:
        """Take note that the channel has taken the program.

        Args:
            live: What it was doing before.
            test_before: Number of the test that it did before.
        """
        self.open_circuit_V = live.voltage_V
        self.started_s = self._looked_s = self._now()
        self._test_before = test_before
        self._deadline_s = self._now() + _BEGIN_S

    async def join(self, after_row: int) -> None:
        """Go on with a test that is under way or over, from the row that follows ``after_row``.

        Raises:
            OtherTest: The channel's latest test is another one, and nothing runs there.
            InstrumentError: It runs another one.
        """
        live = await self._bts.live(self._at)
        if live.barcode != self._barcode:
            # It may just have been started: what the client tells is some seconds old.
            await sleep_until(self._now() + 2 * REFRESH_S)
            live = await self._bts.live(self._at)
        self._looked_s = self._now()
        if live.barcode != self._barcode and live.status in IDLE:
            raise OtherTest(self._bts.name, f'does not have the test "{self._barcode}"')
        self._check_barcode(live)
        self._test, self._there = await self._bts.last_test(self._at)
        self._announced = self._there
        steps = await self._bts.finished_steps(self._at)
        for step in steps:
            if step.first_row == self._next and step.last_row <= after_row:
                self._pass_over(step)
        self._yield_from = after_row + 1
        if live.status not in IDLE:
            self.started_s = self._now() - live.total_s
            return
        # Nobody tells when it ended; now is the latest that it can have been.
        self.started_s = self._now() - await self._length_s(steps)
        self._late_to = self._there

    async def _length_s(self, steps: list[FinishedStep]) -> float:
        """How long a test took that is over, a step included that was broken off."""
        length_ms = sum(step.duration_ms for step in steps)
        if self._there > (steps[-1].last_row if steps else 0):
            length_ms += max(row.step_ms for row in await self._bts.rows(self._at, self._there))
        return length_ms / 1e3

    async def _look(self) -> None:
        """See what the channel is doing, and which rows are there."""
        await sleep_until(self._looked_s + REFRESH_S)
        live = await self._bts.live(self._at)
        test, rows = await self._bts.last_test(self._at)
        self._looked_s = self._now()
        if self._test is None and not self._begun(live, test, rows):
            return
        self._check_barcode(live)
        if test != self._test:
            raise InstrumentError(
                self._bts.name, f'runs test {test} instead of {self._test}, "{self._barcode}"'
            )
        self._announced_before = -1 if self._idle is None else self._announced
        self._announced = self._there = rows
        if live.status not in IDLE:
            self._idle = None
        elif self._idle is None:
            self._idle = live
            self._deadline_s = self._looked_s + _LAST_ROWS_S

    def _begun(self, live: Live, test: int, rows: int) -> bool:
        """Whether the test has begun; what the client tells of a channel can be some seconds old.

        Raises:
            InstrumentError: It should have begun by now.
        """
        ours = test != self._test_before and live.barcode == self._barcode
        if not ours or (live.status in IDLE and not rows):
            if self._now() < self._deadline_s:
                return False
            raise InstrumentError(
                self._bts.name,
                f'said that it starts "{self._barcode}", but is at "{live.status}" of '
                f'"{live.barcode}" {_BEGIN_S:g} s later',
            )
        self._test = test
        delay_s = self._now() - live.total_s - self.started_s
        if live.status not in IDLE and delay_s > 2 * REFRESH_S:
            self.started_s += delay_s
        return True

    def _check_barcode(self, live: Live) -> None:
        if live.barcode != self._barcode:
            raise InstrumentError(
                self._bts.name, f'has the test "{live.barcode}", not "{self._barcode}"'
            )

    async def _complete(self) -> bool:
        """Whether all rows of a test that is over have been fetched.

        Raises:
            InstrumentError: The last ones have not arrived in time.
        """
        last = await self._bts.last_row_of_log(self._at)
        settled = last is not None or self._announced == self._announced_before
        # Without an end in the log: complete when a second look finds nothing new.
        last = self._announced if last is None else last
        if settled and self._next > last:
            return True
        if self._now() >= self._deadline_s:
            raise InstrumentError(
                self._bts.name,
                f'rows {self._next} to {last} of "{self._barcode}" have not arrived',
            )
        return False

    async def _fetch(self) -> Block | None:
        """Download what comes next; None where that is nothing new."""
        first = self._next
        kept: list[Row] = []
        times: list[float] = []
        flags: list[int] = []
        positions: list[float] = []
        for row in await self._bts.rows(self._at, first):
            if row.number < self._next:
                continue
            missing = row.number > self._next
            if missing and kept:
                break  # asked for again, now as the first of a reply
            time_s = self._take(row)
            if row.number < self._yield_from:
                continue
            times.append(self.started_s + time_s)
            flags.append(self._flags(row, missing))
            positions.append(float(self._progress.position))
            kept.append(row)
        if self._next == first:
            # Announced, and not there yet.
            self._there = first - 1
        return self._block(kept, times, flags, positions) if kept else None

    def _take(self, row: Row) -> float:
        """Take note of a row and return its time since the test began."""
        try:
            time_s = self._progress.take(row)
        except ValueError as error:
            raise InstrumentError(self._bts.name, str(error)) from error
        self._next = row.number + 1
        self._last = (row.step_ms / 1e3, row.voltage_V, row.current_A)
        return time_s

    def _flags(self, row: Row, missing: bool) -> int:
        flags = Flag(0)
        if missing:
            flags |= Flag.MISSING
        if row.number <= self._late_to:
            flags |= Flag.LATE
        if self._crossed is not None:
            flags |= Flag.AFTER_CROSSING
        crossed = self._crossed_by(row)
        self._crossed = self._crossed or crossed
        return int(flags)

    def _crossed_by(self, row: Row) -> Ending | None:
        """The ending by a cut-off that the cycler does not watch itself."""
        elapsed_s = row.step_ms / 1e3
        for cut_off in self._program.host_cut_offs:
            if elapsed_s >= cut_off.after_s and _is_crossed(cut_off, row.voltage_V, row.current_A):
                return Ending(EndingKind.CUT_OFF, crossing(cut_off), on_device=False)
        return None

    def _block(
        self, rows: list[Row], times: list[float], flags: list[int], positions: list[float]
    ) -> Block:
        columns = {
            "voltage_V": [row.voltage_V for row in rows],
            "current_A": [row.current_A for row in rows],
            "charge_C": [row.charge_C for row in rows],
        }
        if self._as_list:
            columns |= {"step": positions, "row": [float(row.number) for row in rows]}
        return Block(times, columns, flags)

    def _pass_over(self, step: FinishedStep) -> None:
        try:
            self._progress.pass_over(step)
        except ValueError as error:
            raise InstrumentError(self._bts.name, str(error)) from error
        self._next = step.last_row + 1

    def _ended(self, status: str) -> Ending:
        if status == "protect":
            return Ending(EndingKind.TRIPPED, f"protection{self._limits_text()}")
        if status == "stop":
            return Ending(EndingKind.STOPPED, "stopped at the cycler")
        if self._last is None and self._yield_from == 1:
            return Ending(EndingKind.ABORTED, "it finished without a row")
        return self._finished_list() if self._as_list else self._finished_one()

    def _finished_list(self) -> Ending:
        """The ending of a list whose program says that it is through: complete only if it is."""
        techniques = self._program.techniques
        left = techniques[self._progress.position + 1 :]
        # What is left can only be steps that ended as they began, without a row.
        if any(not device_cut_offs(technique) for technique in left):
            place = f"technique {self._progress.position + 1} of {len(techniques)}"
            return Ending(EndingKind.ABORTED, f"it finished after {place}")
        return Ending(EndingKind.COMPLETED)

    def _finished_one(self) -> Ending:
        elapsed_s, voltage_V, current_A = self._last or (0.0, math.nan, math.nan)
        technique = self._program.techniques[0]
        cut_offs = device_cut_offs(technique)
        crossed = [c for c in cut_offs if _is_crossed(c, voltage_V, current_A)]
        if crossed:
            return Ending(EndingKind.CUT_OFF, crossing(crossed[0]))
        if elapsed_s >= technique.duration_s - _RESOLUTION_S:
            return Ending(EndingKind.COMPLETED)
        if cut_offs:
            # Nothing else in the file ends it early.
            return Ending(EndingKind.CUT_OFF, crossing(_nearest(technique, cut_offs)))
        return Ending(
            EndingKind.ABORTED, f"it finished after {elapsed_s:g} s of {technique.duration_s:g} s"
        )

    def _limits_text(self) -> str:
        if self._limits is None:
            return ""
        limits = self._limits
        voltages = f"{limits.voltage_min_V:g} V to {limits.voltage_max_V:g} V"
        return f": limits are {voltages}, {limits.current_max_A:g} A"


def _nearest(technique: Step, cut_offs: tuple[CutOff, ...]) -> CutOff:
    """The cut-off that comes first on the way of a technique."""
    falls = isinstance(technique, ConstantVoltage) or not cut_offs[0].above
    return (max if falls else min)(cut_offs, key=lambda cut_off: cut_off.value)


def _is_crossed(cut_off: CutOff, voltage_V: float, current_A: float) -> bool:
    value = voltage_V if cut_off.quantity == "voltage" else abs(current_A)
    return value >= cut_off.value if cut_off.above else value <= cut_off.value
