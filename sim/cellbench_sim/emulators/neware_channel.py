"""One channel of a Neware cycler: it carries out step files by itself and keeps what it measures.

Rows are kept at step times that are multiples of the interval, at changes of voltage or current
since the row that the last such change made, at the beginning and at the end of each step.
Capacity, energy and time of a row count from the beginning of its step, as captured rows show.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from cellbench_sim.emulators.cycler import SAMPLE_S, OutputStage, Pace, Throughput
from cellbench_sim.emulators.device import CallAt
from cellbench_sim.emulators.neware_steps import Protection, Recording, Step, StepFile, StepType

#: Tests can be started in these states only.
STARTABLE = frozenset({"finish", "stop", "protect"})
_LONGEST_S, _LONGEST_AT_REST_S = 10.0, 60.0


class LogCode(IntEnum):
    """Codes of log rows as captured; which of the three of an interruption says what is assumed."""

    STARTED = 100000
    FINISHED = 100001
    INTERRUPTED = 100215
    CONTINUES = 100213
    CONTINUED = 100007


@dataclass(frozen=True, slots=True)
class Row:
    """One data row; `cycle` from 1, times in s, capacity and energy in Ah and Wh."""

    step: int
    cycle: int
    type: StepType
    step_time_s: float
    time_s: float
    voltage_V: float
    current_A: float
    capacity_Ah: float
    energy_Wh: float


@dataclass(frozen=True, slots=True)
class Layer:
    """One finished step: its first and last row, counted from 1."""

    first_row: int
    last_row: int
    start: Row
    end: Row


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Something that happened to a test, after so many rows."""

    rows: int
    code: LogCode
    time_s: float


@dataclass
class Test:
    """One test of a channel and all that was kept of it."""

    test_id: int
    barcode: str
    rows: list[Row] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class Live:
    """What a channel shows of itself at one moment."""

    status: str
    barcode: str
    cycle: int
    step: Step | None
    voltage_V: float
    current_A: float
    capacity_Ah: float
    energy_Wh: float
    test_time_s: float
    step_time_s: float


@dataclass
class _Progress:
    """How far a step has come; times in ticks of its clock unless they are the bench's.

    Attributes:
        throughput: What has flowed in the step, in bench time.
        reference_V: Voltage of the row that the last change of it made, likewise the current.
        outside_since: Since when a protection is violated.
    """

    step: Step | None = None
    origin_s: float = 0.0
    halted_at_s: float | None = None
    throughput: Throughput = field(default_factory=Throughput)
    first_row: int = 0
    next_row_at: int = 0
    recorded_at: int = -1
    reference_V: float = 0.0
    reference_A: float = 0.0
    outside_since: int | None = None


class NewareChannel:
    """Carries out step files on whatever its leads are clipped to.

    Args:
        stage: Output and converters.
        now: The bench's time.
        call_at: Sets a timer on it.

    Attributes:
        status: ``finish``, ``working``, ``pause``, ``stop`` or ``protect``.
        tests: Every test by its id, the latest last.
        alarm: Whether a protection has rung the buzzer, and nobody has cleared it.
        pause_at: Cycle and step at whose beginning the test will pause.
    """

    def __init__(self, stage: OutputStage, now: Callable[[], float], call_at: CallAt) -> None:
        self.status = "finish"
        self.tests: dict[int, Test] = {}
        self.alarm = False
        self.pause_at: tuple[int, int] | None = None
        self.stage = stage
        self._now, self._call_at = now, call_at
        self._timer: asyncio.Handle | None = None
        self._pace = Pace()
        self._file: StepFile | None = None
        self._test: Test | None = None
        self._cycle = 1
        self._passes: dict[int, int] = {}
        self._time_before_s = 0.0
        self._truth = self._reading = (0.0, 0.0)
        self._at = _Progress()

    @property
    def latest(self) -> Test | None:
        """The test that runs or that ran last."""
        return self._test

    def live(self) -> Live:
        """Return what is measured now."""
        self.stage.advance_to(self._now())
        voltage_V, current_A = self.stage.glance()
        step_time_s = self._step_time_s()
        return Live(
            self.status,
            self._test.barcode if self._test else "",
            self._cycle if self._at.step else 1,
            self._at.step,
            voltage_V,
            current_A,
            self._at.throughput.charge_Ah,
            self._at.throughput.energy_Wh,
            self._time_before_s + step_time_s if self._at.step else 0.0,
            step_time_s,
        )

    # ------------------------------------------------------------------ commands

    def start(self, file: StepFile, test_id: int, barcode: str) -> bool:
        """Begin a test of its own rows; refused unless the channel is free."""
        if self.status not in STARTABLE:
            return False
        self._test = self.tests[test_id] = Test(test_id, barcode)
        self._file, self._cycle, self._passes = file, 1, {}
        self._time_before_s, self.pause_at = 0.0, None
        self.alarm = False
        self._log(LogCode.STARTED)
        self.status = "working"
        self._enter(file.first_step)
        return True

    def stop(self) -> bool:
        """Stop at once, at open circuit; `resume` can take the test up again."""
        if self.status not in {"working", "pause"}:
            return False
        self._halt("stop")
        return True

    def resume(self) -> bool:
        """Go on with a test that was stopped, paused or protected, within the step it was in."""
        if self.status not in {"stop", "pause", "protect"} or self._at.step is None:
            return False
        self._log(LogCode.CONTINUES)
        self._log(LogCode.CONTINUED)
        self.status = "working"
        if self._at.step.type is StepType.PAUSE:
            self._enter(self._at.step.number + 1)
        else:
            self._drive()
        return True

    def goto(self, number: int) -> bool:
        """Leave the present step and go on with another one."""
        if self.status != "working" or self._file is None or not 1 <= number <= self._last_step:
            return False
        self._observe()
        self._finish_step()
        self._enter(number)
        return True

    def replace(self, file: StepFile) -> bool:
        """Go on by another step file, from the step of the same number."""
        if self.status not in {"working", "pause"} or self._at.step is None:
            return False
        if self._at.step.number > len(file.steps):
            return False
        if file.steps[self._at.step.number - 1].type is not self._at.step.type:
            return False
        if self._at.throughput.is_counting:
            self._observe()
        self._file, self._at.step = file, file.steps[self._at.step.number - 1]
        if self.status == "working":
            self._drive()
        return True

    def clear_alarm(self) -> bool:
        """Silence the buzzer; refused when it does not sound."""
        was, self.alarm = self.alarm, False
        return was

    # ------------------------------------------------------------------ steps

    @property
    def _last_step(self) -> int:
        return len(self._file.steps) if self._file else 0

    def _enter(self, number: int) -> None:
        """Begin a step, after the cycles that lead to it."""
        if self._file is None:
            return
        step = self._file.steps[number - 1]
        while step.type is StepType.CYCLE:
            step = self._file.steps[self._after_cycle(step) - 1]
        self._at = _Progress()
        if step.type is StepType.END:
            self._finish()
            return
        self._at.step, self._at.origin_s = step, self._now()
        pause = step.type is StepType.PAUSE
        if pause or self.pause_at == (self._cycle, step.number):
            self.pause_at = None
            self._halt("pause")
        else:
            self._drive()

    def _after_cycle(self, cycle: Step) -> int:
        done = self._passes.get(cycle.number, 0) + 1
        if done < cycle.passes:
            self._passes[cycle.number] = done
            self._cycle += 1
            return cycle.first_step
        self._passes[cycle.number] = 0
        return cycle.number + 1

    def _drive(self) -> None:
        """Let the present step act on the cell, from where it was halted."""
        if self._at.step is None:
            return
        self._cancel()
        if self._at.halted_at_s is not None:
            self._at.origin_s += self._now() - self._at.halted_at_s
            self._at.halted_at_s = None
        self.stage.advance_to(self._now())
        if self._at.step.demand is None:
            self.stage.open()
        else:
            self.stage.drive(self._at.step.demand)
        self._at.throughput.pause()
        self._at.outside_since = None
        self._pace.longest_s = _LONGEST_S if self._at.step.demand else _LONGEST_AT_REST_S
        self._pace.restart()
        self._look()

    def _halt(self, status: str) -> None:
        """Open the output in the middle of a step, and keep where it was."""
        self._cancel()
        if self.status == "working" and self._at.throughput.is_counting:
            self._record(self._observe())
        self.stage.advance_to(self._now())
        self.stage.open()
        if self._at.halted_at_s is None:
            self._at.halted_at_s = self._now()
        self.status = status
        self._log(LogCode.INTERRUPTED)

    def _finish(self) -> None:
        self._cancel()
        self.stage.advance_to(self._now())
        self.stage.open()
        self._time_before_s = 0.0
        self.status = "finish"
        self._log(LogCode.FINISHED)
        if self._test is not None:
            self._test.finished = True

    def _finish_step(self) -> None:
        self._cancel()
        self._record(self._reading)
        self._time_before_s += self._step_time_s()
        if self._test is not None:
            rows = self._test.rows
            first = self._at.first_row
            self._test.layers.append(Layer(first, len(rows), rows[first - 1], rows[-1]))

    # ------------------------------------------------------------------ samples

    def _look(self) -> None:
        """Take a sample, do what it asks for, and set the timer for the next one."""
        step = self._at.step
        if step is None or self._file is None:
            return
        reading = self._observe()
        if self._row_is_due(reading):
            self._record(reading)
        if self._ticks() > 0:
            if self._must_protect(step, reading):
                self.alarm = True
                self._halt("protect")
                return
            if self._has_ended(step, reading):
                self._finish_step()
                self._enter(step.number + 1)
                return
        self._set_timer(step)

    def _observe(self) -> tuple[float, float]:
        """Read the terminals, and add up what flowed since they were read last."""
        now_s = self._now()
        self.stage.advance_to(now_s)
        self._truth, reading = self.stage.sample()
        self._at.throughput.add(now_s, *self._truth)
        self._reading = reading
        return reading

    def _row_is_due(self, reading: tuple[float, float]) -> bool:
        if self._file is None:
            return False
        recording, ticks = self._file.recording, self._ticks()
        due = self._at.recorded_at < 0 or ticks >= self._at.next_row_at
        if due and math.isfinite(recording.interval_s):
            every = max(1, round(recording.interval_s / SAMPLE_S))
            self._at.next_row_at = (ticks // every + 1) * every
        elif due:
            self._at.next_row_at = 1 << 62
        if (
            self._at.recorded_at < 0
            or abs(reading[0] - self._at.reference_V) >= recording.voltage_V
        ):
            due, self._at.reference_V = True, reading[0]
        if (
            self._at.recorded_at < 0
            or abs(reading[1] - self._at.reference_A) >= recording.current_A
        ):
            due, self._at.reference_A = True, reading[1]
        return due

    def _record(self, reading: tuple[float, float]) -> None:
        ticks = self._ticks()
        if self._test is None or self._at.step is None or ticks == self._at.recorded_at:
            return
        self._at.recorded_at = ticks
        rows = self._test.rows
        rows.append(
            Row(
                self._at.step.number,
                self._cycle,
                self._at.step.type,
                ticks * SAMPLE_S,
                self._now(),
                *reading,
                self._at.throughput.charge_Ah,
                self._at.throughput.energy_Wh,
            )
        )
        self._at.first_row = self._at.first_row or len(rows)

    def _must_protect(self, step: Step, reading: tuple[float, float]) -> bool:
        values = (*reading, self._at.throughput.charge_Ah)
        broken = [limits for limits in self._protections(step) if limits.is_hit(*values)]
        if not broken:
            self._at.outside_since = None
            return False
        if self._at.outside_since is None:
            self._at.outside_since = self._ticks()
        patience_s = min(limits.delay_s for limits in broken)
        return (self._ticks() - self._at.outside_since) * SAMPLE_S >= patience_s - SAMPLE_S / 2

    def _protections(self, step: Step) -> tuple[Protection, ...]:
        whole = (self._file.protection,) if self._file else ()
        return (*whole, step.protection)

    def _has_ended(self, step: Step, reading: tuple[float, float]) -> bool:
        voltage_V, current_A = reading
        if self._ticks() >= step.duration_s / SAMPLE_S - 0.5:
            return True
        if self._at.throughput.charge_Ah >= step.capacity_Ah:
            return True
        if abs(current_A) <= step.stop_current_A:
            return True
        if step.stop_voltage_V is None:
            return False
        beyond_V = voltage_V - step.stop_voltage_V
        return beyond_V >= 0 if step.type.charges else beyond_V <= 0

    # ------------------------------------------------------------------ time

    def _set_timer(self, step: Step) -> None:
        """Look again when something is due or near, on a tick of the step's clock."""
        ticks = self._ticks()
        wait_s = self._pace.interval_s(
            self._now(), self._truth, self._near_voltages_V(step), self._near_currents_A(step)
        )
        until = min(self._at.next_row_at, step.duration_s / SAMPLE_S, ticks + wait_s / SAMPLE_S)
        current_A = abs(self._truth[1])
        if current_A > 0:
            capacities_Ah = (
                step.capacity_Ah,
                *(limits.capacity_max_Ah for limits in self._protections(step)),
            )
            left_s = (min(capacities_Ah) - self._at.throughput.charge_Ah) / current_A * 3600
            until = min(until, ticks + left_s / SAMPLE_S)
        if self._at.outside_since is not None:
            until = ticks + 1
        due = max(ticks + 1, math.ceil(until - 1e-6))
        self._timer = self._call_at(self._at.origin_s + due * SAMPLE_S, self._look)

    def _near_voltages_V(self, step: Step) -> list[float]:
        recording = self._file.recording if self._file else Recording()
        voltages_V = [
            self._at.reference_V - recording.voltage_V,
            self._at.reference_V + recording.voltage_V,
        ]
        for limits in self._protections(step):
            voltages_V += [limits.voltage_min_V, limits.voltage_max_V]
        if step.stop_voltage_V is not None:
            voltages_V.append(step.stop_voltage_V)
        if step.demand is not None:
            voltages_V.append(step.demand.voltage_V)
        return voltages_V

    def _near_currents_A(self, step: Step) -> list[float]:
        recording = self._file.recording if self._file else Recording()
        currents_A = [
            self._at.reference_A - recording.current_A,
            self._at.reference_A + recording.current_A,
            step.stop_current_A,
            -step.stop_current_A,
        ]
        for limits in self._protections(step):
            currents_A += [limits.current_min_A, limits.current_max_A]
        return currents_A

    def _step_time_s(self) -> float:
        if self._at.step is None:
            return 0.0
        until_s = self._now() if self._at.halted_at_s is None else self._at.halted_at_s
        return until_s - self._at.origin_s

    def _ticks(self) -> int:
        return round(self._step_time_s() / SAMPLE_S)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _log(self, code: LogCode) -> None:
        if self._test is not None:
            self._test.log.append(LogEntry(len(self._test.rows), code, self._now()))
