"""A technique under way on a BioLogic channel: its memory, emptied into blocks, and how it ended.

The channel keeps its rows until they are fetched, and they are fetched until it says that it has
none left. It does not say why it stopped: that follows from the last row, its time, and what the
device was told to watch.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cellbench.clock import sleep_until
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag
from cellbench_drivers.biologic_abi import PAUSED, RUNNING, STOPPED, CurrentValues
from cellbench_drivers.biologic_data import SpectrumRow, TimeRow
from cellbench_drivers.biologic_program import RATE_ROWS, Program, Watch
from cellbench_drivers.channels import TechniqueRun

#: Rows are looked for once in an interval, within these bounds.
LOOK_MIN_S, LOOK_MAX_S = 0.1, 5.0
#: A channel may take so long from its start until it runs.
_BEGIN_S = 5.0
#: The device has this long to act upon a crossing before the host does.
_OBEYS_S = 2.0
#: Rows that are no further apart are of the same instant.
_SEAM_INTERVALS = 1e-3
#: With a last row no more than this part of an interval before its time, it had its time.
_SURELY_OVER = 0.5
#: A gap of more intervals than this between two rows has swallowed at least one.
_GAP_INTERVALS = 1.5
#: A program that goes on beyond its time by more than this is not the one that was meant.
_BEYOND, _BEYOND_S = 1.02, 60.0
#: Looks at a channel that has stopped, and does not hand over what it says that it has.
_STUCK_LOOKS = 20
#: The rate of a sweep is not wrong by more than this, unless its unit is.
_RATE_WRONG = 20.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as they were fetched.

    Attributes:
        technique: Position of their technique in the chain.
        start_s: When that began, as the device tells: nan or 0 where it does not.
        rows: In time or of a spectrum; a bias without a spectrum yet is none.
        skipped: How many rows the device had to leave out.
        fetched: Whether anything came.
        values: What the channel was doing then.
    """

    technique: int
    start_s: float
    rows: list[TimeRow] | list[SpectrumRow]
    skipped: int
    fetched: bool
    values: CurrentValues


class BiologicRun(TechniqueRun):
    """Blocks of as many rows as there are; ``ending`` is there once they are exhausted.

    Args:
        name: The instrument, for errors.
        program: What the channel does.
        open_circuit_V: Voltage before it.
        fetch: Takes the next rows out of the channel's memory.
        stop: Stops the channel and reads that back.

    Attributes:
        ending: How it ended, None while it runs.
        open_circuit_V: Voltage before the cell was closed.
        started_s: Loop time at which it took hold of the cell, nan until its first row.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        open_circuit_V: float,
        *,
        fetch: Callable[[], Awaitable[Batch]],
        stop: Callable[[], Awaitable[object]],
    ) -> None:
        super().__init__()
        self.open_circuit_V = open_circuit_V
        self._name = name
        self._program = program
        self._fetch = fetch
        self._stop = stop
        self._zero_s = self._look_s = self._heard_s = self._now()
        self._main_s = program.starts_s(program.main)
        self._ran = False
        self._stuck = 0
        self._count = 0
        self._last = self._before = TimeRow(0.0, math.nan, math.nan)
        self._first: TimeRow | None = None
        self._crossed: tuple[Watch, float] | None = None
        self._decided: Ending | None = None

    def begin(self) -> None:
        """Take note that the channel was started."""
        self._zero_s = self._heard_s = self._now()
        self._look_s = self._zero_s + self._look_every_s

    @property
    def _look_every_s(self) -> float:
        return min(max(self._program.interval_s, LOOK_MIN_S), LOOK_MAX_S)

    async def _advance(self) -> Block | None:
        """Look at the channel when it is time; rows that it had, None where it had none."""
        await sleep_until(self._look_s)
        if self.ending is not None:  # while this waited
            return None
        batch = await self._fetch()
        if self.ending is not None:
            return None
        self._ran = self._ran or batch.fetched or batch.values.State == RUNNING
        if batch.fetched:
            self._heard_s = self._now()
        block = self._block(batch) if batch.rows else None
        await self._judge(batch)
        values = batch.values
        more = batch.fetched and (values.State != RUNNING or values.MemFilled > 0)
        at_once = more or self._decided is not None
        self._look_s = self._now() + (0.0 if at_once else self._look_every_s)
        return block

    # --- Rows -----------------------------------------------------------------------------------

    def _block(self, batch: Batch) -> Block | None:
        start_s = self._program.starts_s(batch.technique)
        if batch.start_s > 0:  # a NaN compares false
            start_s = batch.start_s
        if batch.technique < self._program.main:
            self.open_circuit_V = _voltage(batch.rows[-1], self.open_circuit_V)
            return None
        if math.isnan(self.started_s):
            self._main_s = start_s
            self.started_s = self._zero_s + start_s
        block = self._time_block if not self._program.points else self._spectrum_block
        return block(batch, start_s)

    def _time_block(self, batch: Batch, start_s: float) -> Block | None:
        times, voltages, currents, flags = [], [], [], []
        for row in batch.rows:
            assert isinstance(row, TimeRow)  # noqa: S101 (what else has no points)
            elapsed = TimeRow(start_s - self._main_s + row.time_s, row.voltage_V, row.current_A)
            if self._is_seam(elapsed):
                continue
            flags.append(self._flags(elapsed))
            times.append(self._zero_s + start_s + row.time_s)
            voltages.append(row.voltage_V)
            currents.append(row.current_A)
            self._note(elapsed)
        if not times:
            return None
        self._flag_batch(flags, batch)
        return Block(times, {"voltage_V": voltages, "current_A": currents}, flags)

    def _is_seam(self, row: TimeRow) -> bool:
        """Whether it is the last row again: a chained technique begins where one ends."""
        apart_s = abs(row.time_s - self._last.time_s)
        return self._count > 0 and apart_s <= _SEAM_INTERVALS * self._program.interval_s

    def _spectrum_block(self, batch: Batch, start_s: float) -> Block | None:
        rows = [row for row in batch.rows if isinstance(row, SpectrumRow)]
        if not rows:
            return None
        zero_s, now_s = self._zero_s + start_s, self._now()
        # Where a spectrum's time counts from, guides differ: never later than now.
        told = [now_s if math.isnan(row.time_s) else zero_s + row.time_s for row in rows]
        columns = {
            "frequency_Hz": [row.frequency_Hz for row in rows],
            "impedance_real_ohm": [row.impedance_ohm.real for row in rows],
            "impedance_imag_ohm": [row.impedance_ohm.imag for row in rows],
        }
        flags = [Flag.UNDERRANGE if math.isnan(row.impedance_ohm.real) else 0 for row in rows]
        self._count += len(rows)
        self._flag_batch(flags, batch)
        return Block([min(now_s, each_s) for each_s in told], columns, flags)

    def _flags(self, row: TimeRow) -> int:
        flags = Flag.AFTER_CROSSING if self._crossed is not None else Flag(0)
        gap_s = row.time_s - self._last.time_s
        even = not self._program.is_sweep
        if self._count and even and gap_s > _GAP_INTERVALS * self._program.interval_s:
            flags |= Flag.MISSING
        return int(flags)

    def _flag_batch(self, flags: list[int], batch: Batch) -> None:
        """Flag what a whole batch tells: rows left out before it, and an overload now."""
        if batch.skipped:
            flags[0] |= Flag.MISSING
        values = batch.values
        if values.Saturation or values.Eoverflow or values.Ioverflow:
            flags[-1] |= Flag.SATURATED

    def _note(self, row: TimeRow) -> None:
        self._count += 1
        self._before, self._last = (self._last if self._count > 1 else row), row
        self._first = self._first or row
        if self._count == RATE_ROWS and self._program.rate_V_per_s:
            self._check_rate(self._first, row)
        if self._crossed is None:
            met = (watch for watch in self._program.watches if watch.met_by(*_plain(row)))
            if (watch := next(met, None)) is not None:
                self._crossed = (watch, self._now())

    def _check_rate(self, first: TimeRow, row: TimeRow) -> None:
        """See that a sweep goes as fast as it should: the unit of its rate may be another one."""
        asked = self._program.rate_V_per_s
        if row.time_s <= first.time_s:
            return
        rate = abs(row.voltage_V - first.voltage_V) / (row.time_s - first.time_s)
        if not asked / _RATE_WRONG < rate < asked * _RATE_WRONG:
            raise InstrumentError(
                self._name,
                f"sweeps at {rate:.3g} V/s instead of {asked:.3g} V/s: is the option "
                '"scan rate unit" that of its library?',
            )

    # --- Ends -----------------------------------------------------------------------------------

    async def _judge(self, batch: Batch) -> None:
        """See whether it has ended, or has to be ended."""
        state = batch.values.State
        decided = self._decision(state)
        if decided is not None and self._decided is None:
            await self._stop()
            # What it still has in its memory is fetched all the same.
            self._decided = decided
        elif state == STOPPED and not batch.fetched:
            self._stopped(batch.values)
        elif state == RUNNING:
            self._check_alive()

    def _decision(self, state: int) -> Ending | None:
        """How the host ends it now, None if it does not."""
        if state == PAUSED:
            return Ending(EndingKind.STOPPED, "the channel was paused")
        if self._crossed is None or state != RUNNING:
            return None
        watch, seen_s = self._crossed
        obeys_s = _OBEYS_S + self._look_every_s if watch.on_device else 0.0
        return watch.ending(on_device=False) if self._now() - seen_s >= obeys_s else None

    def _stopped(self, values: CurrentValues) -> None:
        """Take note of a channel that has stopped, once it has handed over all its rows.

        Raises:
            InstrumentError: It never began, or keeps rows to itself.
        """
        if not self._ran:
            if self._now() - self._zero_s > _BEGIN_S:
                raise InstrumentError(self._name, "took the start, and does not run")
            return
        if values.MemFilled > 0:
            self._stuck += 1
            if self._stuck > _STUCK_LOOKS:
                raise InstrumentError(
                    self._name, f"has {values.MemFilled} bytes of rows, and does not give them"
                )
            return
        self.ending = self._told(values)

    def _told(self, values: CurrentValues) -> Ending:
        program = self._program
        if self._decided is not None:
            return self._decided
        if values.OptErr:
            return Ending(EndingKind.ABORTED, f"hardware option error {values.OptErr}")
        if program.points:
            if self._count >= program.points:
                return Ending(EndingKind.COMPLETED)
            progress = f"{self._count} of {program.points} points"
            return Ending(EndingKind.ABORTED, f"the instrument ended after {progress}")
        if self._crossed is not None:
            watch = self._crossed[0]
            return watch.ending(on_device=watch.on_device)
        elapsed_s, count = self._last.time_s, self._count
        left_s = program.duration_s - elapsed_s
        if count and left_s <= _SURELY_OVER * program.interval_s:
            return Ending(EndingKind.COMPLETED)
        if (nearest := self._nearest_watch()) is not None:
            return nearest.ending(on_device=True)
        if count and left_s <= program.tolerance_s:
            return Ending(EndingKind.COMPLETED)
        progress = f"{elapsed_s:.6g} s of {program.duration_s:.6g} s"
        return Ending(EndingKind.ABORTED, f"the instrument ended after {progress}, saying nothing")

    def _nearest_watch(self) -> Watch | None:
        """The innermost of what the device may have seen crossed since the last row."""
        if not self._count:
            return None
        last, before = ((row.voltage_V, row.current_A) for row in (self._last, self._before))
        now_s = self._last.time_s + self._program.interval_s
        near = [
            watch
            for watch in self._program.watches
            if watch.on_device and watch.nearly_met_by(now_s, last, before)
        ]
        return max(near, key=lambda watch: watch.beyond_by(*last), default=None)

    def _check_alive(self) -> None:
        program, now_s = self._program, self._now()
        silent_s = now_s - self._heard_s
        if silent_s > program.patience_s + program.starts_s(program.main):
            hint = ': is the option "scan rate unit" right?' if program.is_sweep else ""
            raise InstrumentError(
                self._name,
                f"runs, but has had no row for {silent_s:.4g} s ({self._count} so far){hint}",
            )
        whole_s = program.starts_s(program.main) + program.duration_s
        if not program.points and now_s - self._zero_s > _BEYOND * whole_s + _BEYOND_S:
            raise InstrumentError(self._name, f"still runs, beyond its {program.duration_s:.6g} s")


def _plain(row: TimeRow) -> tuple[float, float, float]:
    return row.time_s, row.voltage_V, row.current_A


def _voltage(row: TimeRow | SpectrumRow, otherwise_V: float) -> float:
    return row.voltage_V if isinstance(row, TimeRow) else otherwise_V
