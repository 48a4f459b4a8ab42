"""From raw readings to kept samples: charge is integrated, gaps are flagged, rules choose rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from itertools import count

import numpy as np

from cellbench.engine.journal import Journal
from cellbench.engine.status import Status
from cellbench.instruments.readings import Flag
from cellbench.protocol.program import Recording
from cellbench.quantities import format_quantity
from cellbench.store import RunWriter, SampleRow

#: A row later than so many sampling intervals means that rows before it are missing.
GAP_INTERVALS = 1.5
#: A gap in the rows from this length on is entered, with the charge that may have passed in it.
UNSEEN_S = 60.0
#: Rows come early by up to this part of an interval.
_EARLY = 0.1
#: As a plain number: an operation on a member of `Flag` costs more than the rest of a row.
_FAULTS = ~int(Flag.LATE | Flag.NOT_HELD)
#: With log spacing, kept rows per decade of the step's time.
ROWS_PER_DECADE = 50
#: Of a recording that is thinned, intervals between kept rows and changes are so many times larger.
THINNED = 10


class Thinning(IntEnum):
    """How much is left out of a recording for want of space; judged is every row all the same."""

    NONE = 0  #: what the protocol says is kept
    TENTH = 1  #: one row in ten intervals, changes ten times as large, and every flagged row
    EDGES = 2  #: the first and last row of a step, and those where the flags change

    def __str__(self) -> str:
        return ("all rows", "every tenth row", "edges of steps")[self]


class Recorder:
    """Hands samples to the run's file, step by step, and counts what is missing.

    Attributes:
        thinning: How much is left out at the moment.
    """

    def __init__(
        self, writer: RunWriter, journal: Journal, status: Status, *, first_step: int = 1
    ) -> None:
        self.writer = writer
        self.journal = journal
        self.status = status
        self.missing = 0
        self.thinning = Thinning.NONE
        self._thinned: dict[str, Thinning] = {}
        self._slow: dict[str, tuple[int | None, int, int]] = {}
        self._step_ids = count(first_step)
        self.step_id = 0

    def thin(self, cause: str, thinning: Thinning, why: str) -> None:
        """Leave out so much from now on, for one of several causes; the strongest holds.

        Args:
            cause: What for; it can take back no more than its own.
            thinning: How much.
            why: For the journal, as a person reads it.
        """
        self._thinned[cause] = thinning
        before, now = self.thinning, max(self._thinned.values())
        if now is not before:
            self.thinning = now
            text = f"recording thinned: {now}" if now else "recording no longer thinned: all rows"
            self.journal.enter_soon(
                "recording thinned",
                text=f"{text} from now on ({why})",
                **{"from": str(before), "to": str(now), "cause": cause},
            )

    def enter_step(self, path: str, kind: str) -> int:
        """Give the step a number; samples refer to it until the next one."""
        self.step_id = next(self._step_ids)
        self.writer.add_step(self.step_id, path, kind)
        return self.step_id

    def unseen(self, from_s: float, to_s: float, before_A: float, after_A: float) -> None:
        """Enter a gap within a technique, whose charge is counted as if its current had gone on.

        Args:
            from_s: Time of the row before it, since the start of the run.
            to_s: Of the row after it.
            before_A: The current before.
            after_A: The current after.
        """
        passed_s = to_s - from_s
        most_C = [0.0, *(each * passed_s for each in (before_A, after_A) if each == each)]  # noqa: PLR0124
        counted_C = 0.5 * (before_A + after_A) * passed_s
        counted_C = 0.0 if math.isnan(counted_C) else counted_C
        text = f"not seen for {format_quantity(passed_s, 'time')}: no rows came"
        if counted_C:
            low, high = min(most_C) / 3.6, max(most_C) / 3.6
            text += f", in which {low:.3g} to {high:.3g} mAh have passed"
            text += f"; {counted_C / 3.6:.3g} mAh are counted"
        self.journal.enter_soon(
            "gap",
            step=self.status.step_path,
            text=text,
            from_s=from_s,
            to_s=to_s,
            charge_C=counted_C,
            charge_min_C=min(most_C),
            charge_max_C=max(most_C),
        )

    def slow(
        self,
        source: str,
        time_s: float,
        force_N: float | None,
        temperature_K: float | None,
        flags: int,
    ) -> None:
        """Keep one reading of a press, gauge or chamber, at a time since the start of the run."""
        if self.thinning and not self._is_kept(source, flags):
            return
        self.writer.add_sample(
            (time_s, source, self.step_id, None, None, None, force_N, temperature_K, flags, None)
        )

    def _is_kept(self, source: str, flags: int) -> bool:
        """Whether a slow reading is kept while the recording is thinned."""
        step_id, flags_before, left_out = self._slow.get(source, (None, 0, 0))
        kept = (
            step_id != self.step_id
            or flags != flags_before
            or (self.thinning is Thinning.TENTH and left_out >= THINNED - 1)
        )
        self._slow[source] = (self.step_id, flags, 0 if kept else left_out + 1)
        return kept


class ChannelRecording:
    """The rows of one technique on the channel.

    Args:
        recorder: Where kept rows go.
        source: The instrument's name.
        interval_s: How often the instrument was told to sample.
        rule: Which rows are kept.

    Attributes:
        source: The same; another instrument may go on after an interruption.
    """

    def __init__(self, recorder: Recorder, source: str, interval_s: float, rule: Recording) -> None:
        self._recorder = recorder
        self.source = source
        self._gap_s = GAP_INTERVALS * interval_s
        self._interval_s = interval_s
        self._rule = rule
        # A channel may sample more densely than it was told to: where a voltage is applied.
        self._every_s = math.inf if rule.every_s is None else rule.every_s
        self._every_s -= _EARLY * interval_s
        if rule == Recording() or self._every_s < interval_s:
            # All are wanted. A channel shortens its interval, by less than half, where that divides
            # the duration.
            self._every_s = interval_s / 2
        self._start_s: float | None = None
        self._begun_s: float | None = None
        self._last: SampleRow | None = None
        self._kept: SampleRow | None = None
        self._kept_pressure: float | None = None
        self._after_gap = 0
        self._before_C = 0.0
        self.charge_C = 0.0
        self.rows = 0

    def begin(self, time_s: float) -> None:
        """Take note of when the technique took hold: its charge counts from there."""
        self._begun_s = time_s

    def resume(self, charge_C: float, *, missing: bool = False) -> None:
        """Go on after an interruption, in which this charge has passed.

        Args:
            charge_C: Measured, or taken to have passed.
            missing: Whether rows are missing since the last one, which the next one then tells.
        """
        self.finish()
        self.charge_C += charge_C
        self._before_C = self.charge_C
        self._last = self._start_s = self._begun_s = None
        self._after_gap = Flag.MISSING if missing else 0

    def restore(self, row: SampleRow, start_s: float) -> None:
        """Go on after a row that is kept already, of a technique that took hold at ``start_s``."""
        self._begun_s = self._start_s = start_s
        self._last = self._kept = row
        self.charge_C = row[5] or 0.0

    def take(
        self, time_s: float, voltage_V: float, current_A: float, flags: int,
        number: int | None = None, counted_C: float | None = None,
    ) -> float:  # fmt: skip
        """Take one raw row at a time since the start of the run; return the charge so far.

        Args:
            time_s: Its time.
            voltage_V: Voltage at the terminals.
            current_A: Current.
            flags: `Flag` bits.
            number: The instrument's own number of the row, where it has one.
            counted_C: Charge since the technique took hold as the instrument counts it, nan or None
                where it does not.
        """
        if counted_C is not None and math.isnan(counted_C):
            counted_C = None
        last = self._last
        if last is None:
            self._start_s = time_s
            flags |= self._after_gap
            self._after_gap = 0
            if self._begun_s is not None and not math.isnan(current_A):
                self.charge_C += current_A * max(0.0, time_s - self._begun_s)
        else:
            elapsed_s = time_s - last[0]
            before_A = last[4] if last[4] is not None else current_A
            if not math.isnan(current_A) and not math.isnan(before_A):
                self.charge_C += 0.5 * (before_A + current_A) * elapsed_s
            if elapsed_s > self._gap_s:
                flags |= Flag.MISSING
                self._recorder.missing += round(elapsed_s / self._interval_s) - 1
                if elapsed_s >= UNSEEN_S and counted_C is None:
                    self._recorder.unseen(last[0], time_s, before_A, current_A)
        if counted_C is not None:
            self.charge_C = self._before_C + counted_C
        step_id = self._recorder.step_id
        row: SampleRow = (
            time_s, self.source, step_id, voltage_V, current_A, self.charge_C, None, None, flags,
            number,
        )  # fmt: skip
        self._last = row
        self.rows += 1
        if self._is_kept(row):
            self._keep(row)
        return self.charge_C

    def finish(self) -> None:
        """Keep the last row in any case: the edges of a step are always recorded."""
        if self._last is not None and self._last is not self._kept:
            self._keep(self._last)

    def _keep(self, row: SampleRow) -> None:
        self._kept = row
        self._recorder.writer.add_sample(row)

    def _is_kept(self, row: SampleRow) -> bool:
        kept = self._kept
        if kept is None:
            return True
        if self._recorder.thinning:
            return self._is_kept_of_thinned(row, kept)
        if row[8] & _FAULTS:
            return True
        rule = self._rule
        return (
            row[0] - kept[0] >= self._spacing_s(row[0]) - 1e-6
            or _changed(row[3], kept[3], rule.dV_V)
            or _changed(row[4], kept[4], rule.dI_A)
            or self._pressure_changed()
        )

    def _is_kept_of_thinned(self, row: SampleRow, kept: SampleRow) -> bool:
        if self._recorder.thinning is Thinning.EDGES:
            return row[8] & _FAULTS != kept[8] & _FAULTS
        rule = self._rule
        spacing_s = THINNED * max(self._spacing_s(row[0]), self._interval_s)
        return (
            bool(row[8] & _FAULTS)
            or row[0] - kept[0] >= spacing_s - _EARLY * self._interval_s
            or _changed(row[3], kept[3], rule.dV_V, THINNED)
            or _changed(row[4], kept[4], rule.dI_A, THINNED)
            or self._pressure_changed(THINNED)
        )

    def _spacing_s(self, time_s: float) -> float:
        rule = self._rule
        if rule.spacing == "linear" or self._start_s is None:
            return self._every_s
        factor: float = 10 ** (1 / ROWS_PER_DECADE) - 1
        return min(max(time_s - self._start_s, self._interval_s) * factor, rule.every_s or math.inf)

    def _pressure_changed(self, times: int = 1) -> bool:
        if self._rule.dP_Pa is None:
            return False
        pressure_Pa = self._recorder.status.value("stack_pressure_Pa")
        if not _changed(pressure_Pa, self._kept_pressure, self._rule.dP_Pa, times):
            return False
        self._kept_pressure = pressure_Pa
        return True


def _changed(value: float | None, kept: float | None, delta: float | None, times: int = 1) -> bool:
    if delta is None or value is None:
        return False
    return kept is None or abs(value - kept) >= times * delta


def blob(values: Sequence[float]) -> bytes:
    """Pack floats as the spectrum table keeps them: little-endian doubles."""
    return np.asarray(values, dtype="<f8").tobytes()
