"""A technique under way on a Keithley source-measure unit: its readings as blocks, and its ending.

`TriggerModelRun` follows a 2450, which runs alone and keeps its readings until they are fetched.
`SteppedRun` carries a 2400 from one reading to the next.
"""

from __future__ import annotations

import asyncio
import math
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag
from cellbench_drivers.channels import TechniqueRun
from cellbench_drivers.keithley_2400 import COMPLIANCE, OVERFLOW, level_command
from cellbench_drivers.keithley_2450 import ACTIVE, BUFFER, STATES
from cellbench_drivers.keithley_program import Program, Quantity, Watch
from cellbench_drivers.scpi import Scpi

#: A reading as large as this is an overflow.
_OVERFLOW = 9e37
_QUESTIONABLE = 1
#: Readings are looked for this long after they have been taken, and again while there is none.
_LATE_S, _LOOK_MIN_S, _LOOK_MAX_S = 0.02, 0.05, 30.0
_LOOKS_PER_INTERVAL = 5
#: Readings that are fetched at once.
_BLOCK_ROWS = 250
_ELEMENTS = ("READ", "SOUR", "REL", "STAT")
#: So many intervals are looked at to learn how long one really takes.
_SPACINGS_MAX = 100
#: A gap of more intervals than this between two rows has swallowed at least one.
_GAP_INTERVALS = 1.5
#: Without a new reading for so long, after the interval, the trigger model may have stopped. Its
#: state is renewed every 0.1 s only.
_SILENCE_S = 0.5
#: Without a reading for so long the trigger model is stuck.
_SILENT_INTERVALS, _SILENT_S = 3.0, 10.0
#: The trigger model has this long to act upon a crossing before the host does.
_OBEYS_S = 2.0

SwitchOff = Callable[[], Awaitable[None]]


class KeithleyRun(TechniqueRun):
    """Blocks of one technique; ``ending`` is there once they are exhausted.

    Attributes:
        ending: How it ended, None while it runs.
        open_circuit_V: Always nan: with the output off the terminals are disconnected.
        started_s: Loop time at which the output was switched on.
    """

    def __init__(self, name: str, scpi: Scpi, program: Program, switch_off: SwitchOff) -> None:
        super().__init__()
        self._name = name
        self._scpi = scpi
        self._program = program
        self._switch_off = switch_off
        self._rows = 0

    @abstractmethod
    async def start(self) -> None:
        """Switch the output on."""

    async def _end_by_host(self, ending: Ending) -> None:
        """Switch off now: what was crossed is not the device's to end."""
        await self._switch_off()
        self.ending = self.ending or ending

    def _met(self, row: int, values: dict[Quantity, float]) -> Watch | None:
        """What a row meets first; an overflow, as of an open lead, meets limits only."""
        for each in self._program.active(row):
            value = values[each.quantity]
            if each.met_by(value) and (each.kind is EndingKind.TRIPPED or abs(value) < _OVERFLOW):
                return each
        return None


class TriggerModelRun(KeithleyRun):
    """Follows a trigger model.

    Args:
        name: The instrument, for errors.
        scpi: Its line.
        program: What it does.
        switch_off: Opens the cell, read back.
        delay_s: The pause that was programmed between two readings.
    """

    def __init__(
        self, name: str, scpi: Scpi, program: Program, switch_off: SwitchOff, delay_s: float
    ) -> None:
        super().__init__(name, scpi, program, switch_off)
        self._delay_s = delay_s
        #: From the moment at which a reading is due until it can be fetched.
        self._late_s = _LATE_S + max(0.0, program.interval_s - delay_s)
        self._spacings_s: list[float] = []
        self._zero_s = self._first_rel_s = math.nan
        self._last_s = self._heard_s = 0.0
        self._last: dict[Quantity, float] = {}
        self._crossed: tuple[Watch, float] | None = None
        self._idle = False
        self._look_s = 0.0

    @property
    def spent_s(self) -> float:
        """What an interval took beyond the programmed pause; nan until there were two readings."""
        return median(self._spacings_s) - self._delay_s if self._spacings_s else math.nan

    async def start(self) -> None:
        """Start the trigger model."""
        async with self._scpi.lock:
            await self._scpi.tell(":INIT")
        self.started_s = self._zero_s = self._now()
        self._look_s = self._zero_s + self._program.first_s + self._late_s

    async def _advance(self) -> Block | None:
        await asyncio.sleep(max(0.0, self._look_s - self._now()))
        async with self._scpi.lock:
            if self.ending is not None:  # while this waited
                return None
            stored = int(await self._scpi.number(f':TRAC:ACT? "{BUFFER}"'))
            if stored < self._rows:
                message = f"holds {stored} readings, after {self._rows} were fetched"
                raise InstrumentError(self._name, f"somebody cleared its buffer: it {message}")
            values = await self._fetch(min(stored, self._rows + _BLOCK_ROWS))
        block = self._block(values) if values else None
        if block is None and self._idle:
            self.ending = self.ending or self._told()
        elif self._crossed is not None or self._overdue(stored):
            await self._see_whether_it_stopped()
        self._look_again(stored)
        return block

    async def _fetch(self, last: int) -> list[float]:
        """Return elements of the readings after the ones that are known."""
        count = last - self._rows
        if not count:
            return []
        elements = ",".join(_ELEMENTS)
        query = f':TRAC:DATA? {self._rows + 1},{last},"{BUFFER}",{elements}'
        return await self._scpi.numbers(query, count * len(_ELEMENTS))

    def _block(self, values: Sequence[float]) -> Block:
        program = self._program
        self._heard_s = self._now()
        columns: dict[Quantity, list[float]] = {"voltage": [], "current": []}
        times_s, flags = [], []
        width = len(_ELEMENTS)
        for at in range(0, len(values), width):
            reading, source, rel_s, status = values[at : at + width]
            times_s.append(self._time_s(rel_s))
            flags.append(self._flags(times_s[-1], reading, int(status)))
            self._last = {program.measures: reading, program.controls: source}
            self._note_crossing()
            self._rows += 1
            for quantity, column in columns.items():
                value = self._last[quantity]
                column.append(math.nan if abs(value) > _OVERFLOW else value)
        named = {"voltage_V": columns["voltage"], "current_A": columns["current"]}
        return Block(times_s, named, flags)

    def _time_s(self, rel_s: float) -> float:
        if not self._rows:
            self._first_rel_s = rel_s
        return self._zero_s + self._program.first_s + rel_s - self._first_rel_s

    def _flags(self, time_s: float, reading: float, status: int) -> int:
        flags = 0
        if self._crossed is not None:
            flags |= Flag.AFTER_CROSSING
        if abs(reading) > _OVERFLOW or status & _QUESTIONABLE:
            flags |= Flag.SATURATED
        if self._rows and time_s - self._last_s > _GAP_INTERVALS * self._program.interval_s:
            flags |= Flag.LATE
        if self._rows and len(self._spacings_s) < _SPACINGS_MAX:
            self._spacings_s.append(time_s - self._last_s)
        self._last_s = time_s
        return flags

    def _note_crossing(self) -> None:
        if self._crossed is None and (watch := self._met(self._rows, self._last)) is not None:
            self._crossed = (watch, self._now())

    @property
    def _silent_s(self) -> float:
        """Time since readings came, by the host's clock: the other one may go slower."""
        return self._now() - max(self._heard_s, self._zero_s + self._program.first_s)

    def _overdue(self, stored: int) -> bool:
        complete = self._rows >= self._program.rows and stored == self._rows
        return complete or self._silent_s > _GAP_INTERVALS * self._program.interval_s + _SILENCE_S

    async def _see_whether_it_stopped(self) -> None:
        async with self._scpi.lock:
            state = await self._scpi.word(":TRIG:STAT?", STATES)
            complaints = await self._scpi.complaints() if state == "FAILED" else []
        if complaints:
            raise InstrumentError(self._name, f"its trigger model failed: {'; '.join(complaints)}")
        self._idle = state not in ACTIVE
        if self._idle:
            return
        if self._crossed is None:
            if self._silent_s > _SILENT_INTERVALS * self._program.interval_s + _SILENT_S:
                message = f"is {state}, but takes no readings ({self._rows} so far)"
                raise InstrumentError(self._name, message)
            return
        watch, seen_s = self._crossed
        watched = watch.quantity == self._program.measures
        if not watched or self._now() - seen_s > _OBEYS_S:
            await self._end_by_host(watch.ending(on_device=False))

    def _told(self) -> Ending:
        """The ending of a trigger model that has stopped: what its last reading tells."""
        if self._crossed is not None:
            return self._crossed[0].ending(on_device=True)
        if self._rows >= self._program.rows:
            return Ending(EndingKind.COMPLETED)
        for watch in self._program.active(self._rows - 1) if self._rows else ():
            if watch.nearly_met_by(self._last[watch.quantity]):
                return watch.ending(on_device=True)
        progress = f"{self._rows} of {self._program.rows} readings"
        return Ending(EndingKind.ABORTED, f"the trigger model ended after {progress}")

    def _look_again(self, stored: int) -> None:
        now_s = self._now()
        if stored > self._rows or self._idle:
            self._look_s = now_s
            return
        if self._crossed is not None or self._rows >= self._program.rows:
            self._look_s = now_s + _LOOK_MIN_S
            return
        interval_s = self._program.interval_s
        # The instrument's clock, but not one that goes faster than the host's for days.
        due_s = min(self._last_s + self._late_s, self._heard_s) + interval_s
        again_s = now_s + max(_LOOK_MIN_S, interval_s / _LOOKS_PER_INTERVAL)
        self._look_s = min(max(due_s, again_s), now_s + _LOOK_MAX_S)


class SteppedRun(KeithleyRun):
    """Takes one reading after the other, and ends the technique itself."""

    async def start(self) -> None:
        """Switch the output on."""
        async with self._scpi.lock:
            await self._scpi.tell(":OUTP ON")
        self.started_s = self._now()

    async def _advance(self) -> Block | None:
        program = self._program
        due_s = self.started_s + program.first_s + self._rows * program.interval_s
        await asyncio.sleep(max(0.0, due_s - self._now()))
        async with self._scpi.lock:
            if self.ending is not None:  # while this waited
                return None
            voltage_V, current_A, status = await self._scpi.numbers(":READ?", 3)
        time_s = self._now()
        late = time_s - due_s > _GAP_INTERVALS * program.interval_s
        overflow = int(status) & OVERFLOW or max(abs(voltage_V), abs(current_A)) > _OVERFLOW
        flags = (Flag.LATE if late else 0) | (Flag.SATURATED if overflow else 0)
        values: dict[Quantity, float] = {"voltage": voltage_V, "current": current_A}
        ending = self._ends(values, int(status))
        self._rows += 1
        if ending is not None:
            await self._end_by_host(ending)
        elif len(program.levels) > 1:
            async with self._scpi.lock:
                await self._scpi.tell(level_command(program, program.levels[self._rows]))
        return Block((time_s,), _columns(voltage_V, current_A), (int(flags),))

    def _ends(self, values: dict[Quantity, float], status: int) -> Ending | None:
        if (watch := self._met(self._rows, values)) is not None:
            return watch.ending(on_device=False)
        if status & COMPLIANCE:
            limit, measures = self._program.limit, self._program.measures
            detail = f"the source is in compliance, {measures} {limit:.4g}"
            return Ending(EndingKind.TRIPPED, detail, on_device=False)
        if self._rows + 1 >= self._program.rows:
            return Ending(EndingKind.COMPLETED, on_device=False)
        return None


def _columns(voltage_V: float, current_A: float) -> dict[str, tuple[float, ...]]:
    values = (voltage_V, current_A)
    voltage, current = (math.nan if abs(each) > _OVERFLOW else each for each in values)
    return {"voltage_V": (voltage,), "current_A": (current,)}
