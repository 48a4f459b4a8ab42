"""One channel of a Maccor cycler: direct mode, procedures, safety limits and a watchdog.

In direct mode a host sets the output and must repeat it within the watchdog's time, or the channel
suspends. A procedure's steps need no host. Safety limits hold in both, at every sample.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cellbench_sim.emulators.cycler import SAMPLE_S, OutputStage, Pace, Throughput
from cellbench_sim.emulators.device import CallAt
from cellbench_sim.emulators.host_watch import HostWatch
from cellbench_sim.emulators.maccor_steps import (
    LIMITS,
    RF1,
    RF2,
    Mode,
    Output,
    Procedure,
    Record,
    Recording,
    Safety,
    SetOutput,
    Stat,
)

#: Time from a start to the first output (assumed), and the least time between two outputs.
_STARTING_S, _BETWEEN_OUTPUTS_S = 0.5, 0.1
_LONGEST_S = 2.0
_DOES = {Mode.CHARGE: RF1.CHARGE, Mode.DISCHARGE: RF1.DISCHARGE, Mode.REST: RF1.REST}


@dataclass
class _Progress:
    """How far a test has come; times are the bench's unless they say otherwise.

    Attributes:
        step: Number of the step, from 1; 0 without a test.
        offset_s: How long the test has stood suspended, taken off its times.
        throughput: What has flowed in the present half-cycle.
    """

    test_start_s: float = 0.0
    step_start_s: float = 0.0
    offset_s: float = 0.0
    halted_at_s: float | None = None
    step: int = 0
    throughput: Throughput = field(default_factory=Throughput)
    next_record_s: float = 0.0
    reference: tuple[float, float] = (0.0, 0.0)


class MaccorChannel:
    """Drives whatever its leads are clipped to.

    Args:
        stage: Output and converters.
        now: The bench's time.
        call_at: Sets a timer on it.
        watchdog_s: In direct mode, the longest time between two outputs; 0 for any.

    Attributes:
        stat: State.
        rf1: What it does.
        rf2: Why the last record was made.
        safety: Limits that hold while a test runs.
        test_name: Name of the test, empty without one.
        procedure_name: Name of its procedure, empty in direct mode.
        comment: What was said at its start.
        records: What was kept of the present test.
        variables: VAR1 to VAR15.
        active: The quantities that direct mode was started with; others cannot be set later.
    """

    def __init__(
        self,
        stage: OutputStage,
        now: Callable[[], float],
        call_at: CallAt,
        *,
        watchdog_s: float = 0.0,
    ) -> None:
        self.stage = stage
        self.ratings = stage.ratings
        self.stat, self.rf1, self.rf2 = Stat.AVAILABLE, RF1.AVAILABLE, RF2.NONE
        self.test_name = self.procedure_name = self.comment = ""
        self.records: list[Record] = []
        self.variables = [0.0] * 15
        self.active: frozenset[str] = frozenset()
        largest_A = self.ratings.current_max_A
        largest_W = largest_A * max(self.ratings.voltage_max_V, -self.ratings.voltage_min_V)
        self.safety = Safety(
            self.ratings.voltage_max_V, self.ratings.voltage_min_V,
            largest_A, largest_A, largest_W, largest_W,
        )  # fmt: skip
        self._now, self._call_at = now, call_at
        self._host = HostWatch(
            now,
            call_at,
            is_on=lambda: watchdog_s > 0 and self.stat is Stat.ACTIVE and not self._procedure,
            timeout_s=lambda: watchdog_s,
            missed=self.suspend,
        )
        self._procedure: Procedure = ()
        self._output = Output(Mode.REST)
        self._recording = Recording()
        self._timer: asyncio.Handle | None = None
        self._asked_s = -math.inf
        self._pace = Pace(_LONGEST_S)
        self._truth = (0.0, 0.0)
        self._at = _Progress()

    # ------------------------------------------------------------------ what it shows

    @property
    def in_use(self) -> bool:
        """Whether a test is on the channel."""
        return self.stat not in {Stat.AVAILABLE, Stat.SELECTED}

    @property
    def mode(self) -> Mode:
        """What the present output does."""
        return self._output.mode

    @property
    def step(self) -> int:
        """Number of the present step."""
        return self._at.step

    @property
    def charge_Ah(self) -> float:
        """What has flowed in the present half-cycle, as a magnitude."""
        return self._at.throughput.charge_Ah

    @property
    def energy_Wh(self) -> float:
        """Energy of the present half-cycle, as a magnitude."""
        return self._at.throughput.energy_Wh

    @property
    def test_time_s(self) -> float:
        """Time of the test, without what it stood suspended."""
        return self._clock_s() - self._at.test_start_s if self._at.step else 0.0

    @property
    def step_time_s(self) -> float:
        """Time of the present step, without what it stood suspended."""
        return self._clock_s() - self._at.step_start_s if self._at.step else 0.0

    def reading(self) -> tuple[float, float]:
        """Return voltage and current as they are measured now."""
        self.stage.advance_to(self._now())
        return self.stage.glance()

    # ------------------------------------------------------------------ commands

    def start_direct(self, output: Output, recording: Recording, active: frozenset[str]) -> None:
        """Begin direct mode; the output follows when the channel has started."""
        self.active, self._recording, self._procedure = active, recording, ()
        self._output = output
        self._start()

    def start_procedure(self, procedure: Procedure) -> None:
        """Begin a procedure."""
        self._procedure, self._recording = procedure, Recording(interval_s=1.0)
        self._output = procedure[0].output
        self._start()

    def set_output(self, output: Output) -> SetOutput:
        """Change the output of direct mode, but for what it was not started with."""
        output = output.without(*(LIMITS - self.active))
        too_fast = self._now() - self._asked_s < _BETWEEN_OUTPUTS_S - 1e-6
        self._asked_s = self._now()
        if self.stat not in {Stat.ACTIVE, Stat.STARTING}:
            return SetOutput.NOT_ACTIVE
        if self._procedure:
            return SetOutput.NO_DIRECT_MODE
        if self.stat is Stat.STARTING:
            return SetOutput.NOT_READY
        if too_fast:
            return SetOutput.TOO_FAST
        self._host.hear()
        if output != self._output:
            self._observe()
            if output.mode is not self._output.mode:
                self._next_step(output.mode)
            self._output = output
            self._drive()
        return SetOutput.OK

    def set_safety(self, safety: Safety) -> None:
        """Change the limits; a test that runs is held against them at once."""
        self.safety = safety
        if self.stat is Stat.ACTIVE:
            self._cancel_timer()
            self._look()

    def suspend(self) -> bool:
        """Open the output until `resume`."""
        if self.stat is not Stat.ACTIVE:
            return False
        self._halt(Stat.SUSPENDED, RF1.SUSPENDED, RF2.SUSPENDED)
        return True

    def resume(self) -> bool:
        """Go on where the test was suspended."""
        if self.stat is not Stat.SUSPENDED or self._at.halted_at_s is None:
            return False
        self._at.offset_s += self._now() - self._at.halted_at_s
        self._at.halted_at_s = None
        self.stat = Stat.ACTIVE
        self._host.hear()
        self._drive()
        return True

    def reset(self) -> None:
        """Abort whatever runs, and free the channel."""
        self._cancel_timer()
        self.stage.advance_to(self._now())
        self.stage.open()
        self.stat, self.rf1, self.rf2 = Stat.AVAILABLE, RF1.AVAILABLE, RF2.NONE
        self.test_name = self.procedure_name = self.comment = ""
        self._procedure, self._at = (), _Progress()

    # ------------------------------------------------------------------ a test

    def _start(self) -> None:
        now_s = self._now()
        self.stat, self.rf1, self.rf2 = Stat.STARTING, RF1.AVAILABLE, RF2.NONE
        self.records = []
        begins_s = now_s + _STARTING_S
        self._at = _Progress(test_start_s=begins_s, step_start_s=begins_s)
        self._timer = self._call_at(begins_s, self._begin)

    def _begin(self) -> None:
        self.stat = Stat.ACTIVE
        self._host.hear()
        self._at.step = 1
        self._at.next_record_s = self._recording.interval_s
        self._drive()
        self._record(RF2.START_OF_STEP)

    def _next_step(self, mode: Mode) -> None:
        """Count a new step; charge and energy are those of a half-cycle."""
        self._at.step += 1
        self._at.step_start_s = self._clock_s()
        if mode is not Mode.REST:
            throughput = self._at.throughput
            throughput.charge_Ah = throughput.energy_Wh = 0.0

    def _drive(self) -> None:
        self._cancel_timer()
        self.stage.advance_to(self._now())
        demand = self._output.demand(self.ratings)
        if demand is None:
            self.stage.open()
        else:
            scale_A = self.ratings.current_ranges_A[self._output.current_range - 1]
            self.stage.ratings = dataclasses.replace(self.ratings, current_ranges_A=(scale_A,))
            self.stage.drive(demand)
        self.rf1 = _DOES[self._output.mode]
        self._at.throughput.pause()
        self._pace.restart()
        self._observe()
        self._set_timer()

    def _look(self) -> None:
        reading = self._observe()
        broken = self.safety.broken(*reading)
        if broken is not RF2.NONE:
            self._halt(Stat.PROBLEM, RF1.PROBLEM, broken)
            return
        reason = self._due_record(reading)
        if reason is not RF2.NONE:
            self._record(reason, reading)
        if self._procedure:
            step = self._procedure[self._at.step - 1]
            end = step.end(self.step_time_s, *reading, self._at.throughput.charge_Ah)
            if end is not RF2.NONE:
                self._record(end, reading)
                self._after_step()
                return
        self._set_timer()

    def _after_step(self) -> None:
        if self._at.step >= len(self._procedure):
            self._halt(Stat.COMPLETED, RF1.COMPLETE, RF2.NORMAL_END)
            return
        self._output = self._procedure[self._at.step].output
        self._next_step(self._output.mode)
        self._drive()
        self._record(RF2.START_OF_STEP)

    def _halt(self, stat: Stat, rf1: RF1, reason: RF2) -> None:
        """Open the output and stop the test's clocks."""
        reading = self._observe()
        self._cancel_timer()
        self.stage.open()
        self._at.halted_at_s = self._now()
        self.stat, self.rf1 = stat, rf1
        self._record(reason, reading)

    # ------------------------------------------------------------------ samples and records

    def _observe(self) -> tuple[float, float]:
        """Read the terminals, and add up what flowed since they were read last."""
        now_s = self._now()
        self.stage.advance_to(now_s)
        self._truth, reading = self.stage.sample()
        self._at.throughput.add(now_s, *self._truth)
        return reading

    def _due_record(self, reading: tuple[float, float]) -> RF2:
        recording, at = self._recording, self._at
        if self.test_time_s >= at.next_record_s - 1e-6:
            at.next_record_s += recording.interval_s
            return RF2.TIME
        if abs(reading[0] - at.reference[0]) >= recording.voltage_V:
            return RF2.VOLTAGE_CHANGE
        if abs(reading[1] - at.reference[1]) >= recording.current_A:
            return RF2.CURRENT_CHANGE
        return RF2.NONE

    def _record(self, reason: RF2, reading: tuple[float, float] | None = None) -> None:
        reading = self.stage.sample()[1] if reading is None else reading
        self.rf2, self._at.reference = reason, reading
        self.records.append(Record(reason, self._at.step, self.test_time_s, *reading))

    # ------------------------------------------------------------------ time

    def _clock_s(self) -> float:
        halted_s = self._at.halted_at_s
        return (self._now() if halted_s is None else halted_s) - self._at.offset_s

    def _set_timer(self) -> None:
        recording, safety, at = self._recording, self.safety, self._at
        voltages_V = [safety.voltage_max_V, safety.voltage_min_V]
        voltages_V += [at.reference[0] - recording.voltage_V, at.reference[0] + recording.voltage_V]
        currents_A = [at.reference[1] - recording.current_A, at.reference[1] + recording.current_A]
        demand = self._output.demand(self.ratings)
        voltages_V += [] if demand is None else [demand.voltage_V]
        wait_s = at.next_record_s - self.test_time_s
        if self._procedure:
            step = self._procedure[at.step - 1]
            voltages_V += [] if step.voltage_V is None else [step.voltage_V]
            currents_A += [step.current_A, -step.current_A]
            wait_s = min(wait_s, step.duration_s - self.step_time_s)
            if self._truth[1] != 0:
                left_Ah = step.capacity_Ah - at.throughput.charge_Ah
                wait_s = min(wait_s, left_Ah / abs(self._truth[1]) * 3600)
        near_s = self._pace.interval_s(self._now(), self._truth, voltages_V, currents_A)
        wait_s = max(SAMPLE_S, min(wait_s, near_s))
        self._timer = self._call_at(self._now() + wait_s, self._look)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
