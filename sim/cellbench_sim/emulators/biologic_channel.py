"""One channel of a BioLogic potentiostat: runs its techniques by itself and keeps their rows.

A technique is a generator that says when it wants to be resumed; a timer does so. Limits are
compared with readings every millisecond while they are near (the real firmware does so at each time
base). Rows wait in the channel's memory until somebody fetches them; those for which there is
no room are lost, and counted.
"""

from __future__ import annotations

import asyncio
import math
import random
import struct
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cellbench_sim.emulators.analog import GALVANOSTAT, OVERLOAD, FrontEnd, Reading
from cellbench_sim.emulators.biologic_abi import BUFFER_WORDS
from cellbench_sim.emulators.biologic_parameters import Family
from cellbench_sim.emulators.biologic_techniques import (
    E_RANGES_V,
    I_RANGE_AUTO,
    I_RANGES_A,
    KEEP,
    Exit,
    Limits,
    Recording,
    Spectrum,
    Step,
    Steps,
    Technique,
    Voltammetry,
)
from cellbench_sim.emulators.cycler import Pace
from cellbench_sim.emulators.device import CallAt

#: What a technique says: when to resume it, and at last what follows it.
Course = Generator[float, None, Exit]

STOP, RUN = 0, 1
POTENTIOSTAT = 2
_WORD_BYTES = 4
#: Two instants of the bench closer than this are one.
_INSTANT_S = 1e-7
#: The staircase that stands for a ramp; the shortest time that a point of a spectrum takes.
_STAIR_V, _SHORTEST_POINT_S = 2e-3, 0.05
#: Longest time without a look, in which nothing is foreseen to happen; shortest one.
_LONGEST_S, _SHORTEST_S = 10.0, 1e-3


@dataclass
class Rows:
    """Rows of one technique and process, in the order in which they were recorded."""

    technique_index: int
    technique: Technique
    process: int
    columns: int
    start_s: float
    words: array[int] = field(default_factory=lambda: array("I"))

    def take(self) -> array[int]:
        """Remove and return as many of the first rows as one call can return."""
        count = BUFFER_WORDS // self.columns * self.columns
        taken, self.words = self.words[:count], self.words[count:]
        return taken


class Memory:
    """What was recorded and not fetched yet.

    Args:
        size_bytes: How much there is room for.

    Attributes:
        lost: Rows for which there was no room since they were last counted.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.lost = 0
        self._blocks: deque[Rows] = deque()
        self._words = 0

    @property
    def filled_bytes(self) -> int:
        """How much is filled."""
        return self._words * _WORD_BYTES

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._words = self.lost = 0

    def keep(self, like: Rows, words: Sequence[int]) -> None:
        """Record one row of a technique and process."""
        if self.filled_bytes + len(words) * _WORD_BYTES > self.size_bytes:
            self.lost += 1
            return
        last = self._blocks[-1] if self._blocks else None
        if last is None or (last.technique_index, last.process) != (
            like.technique_index, like.process
        ):  # fmt: skip
            last = like
            self._blocks.append(last)
        last.words.extend(words)
        self._words += len(words)

    def fetch(self) -> tuple[Rows, array[int]] | None:
        """Remove the oldest rows that one call can return; None where there is none."""
        if not self._blocks:
            return None
        block = self._blocks[0]
        words = block.take()
        self._words -= len(words)
        if not block.words:
            self._blocks.popleft()
        return block, words


def single(value: float) -> int:
    """Return the bits of a number in single precision."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


class BiologicChannel:
    """Drives whatever its leads are clipped to.

    Args:
        front: Output stage and converters.
        rng: The generator of their noise.
        limits: What the channel can do.
        memory_bytes: Size of its memory.
        advance: Lets the cell live until now.
        now: The bench's time.
        call_at: Sets a timer on it.

    Attributes:
        techniques: What was loaded, in order.
        complete: Whether the last of them was loaded too.
        state: `STOP` or `RUN`.
        index: Which technique runs, or ran last.
        frequency_Hz: Of the excitation, 0 without one.
        memory: What was recorded.
    """

    def __init__(
        self,
        front: FrontEnd,
        rng: random.Random,
        limits: Limits,
        memory_bytes: int,
        advance: Callable[[], None],
        now: Callable[[], float],
        call_at: CallAt,
    ) -> None:
        self.limits = limits
        self.techniques: list[Technique] = []
        self.complete = False
        self.state = STOP
        self.index = 0
        self.frequency_Hz = 0.0
        self.memory = Memory(memory_bytes)
        self._front, self._rng = front, rng
        self._advance, self._now, self._call_at = advance, now, call_at
        self._timer: asyncio.Handle | None = None
        self._course: Iterator[float] | None = None
        self._channel_start_s = self._start_s = 0.0
        self._ended_s = 0.0
        self._initial = (0.0, 0.0)
        self._pace = Pace(_LONGEST_S, _SHORTEST_S)

    # ------------------------------------------------------------------ what is asked of it

    @property
    def running(self) -> bool:
        """Whether it runs its techniques."""
        return self.state == RUN

    @property
    def drives(self) -> bool:
        """Whether it holds anything on the cell."""
        return self._front.cell_is_on

    @property
    def elapsed_s(self) -> float:
        """Time since the start of the first technique, until the end of the last."""
        until_s = self._now() if self.running else self._ended_s
        return until_s - self._channel_start_s

    @property
    def timebase_s(self) -> float:
        """Time base of the technique that runs, or ran last."""
        if not self.techniques:
            return 0.0
        return self.techniques[self.index].hardware.timebase_s

    def load(self, technique: Technique, *, first: bool, last: bool) -> None:
        """Add a technique, the first one in place of what was there."""
        if first:
            self.techniques, self.index = [], 0
        self.techniques.append(technique)
        self.complete = last

    def start(self) -> None:
        """Run what was loaded; what an earlier run recorded is forgotten."""
        self.memory.clear()
        self.state = RUN
        self._channel_start_s = self._now()
        self._course = self._run()
        self._resume()

    def stop(self) -> None:
        """Leave the cell alone, whatever was going on; what was recorded stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._course = None
        if self.running:
            self._advance()
            self._rest()
            self._finish()

    def update(self, index: int, technique: Technique) -> None:
        """Let a technique go on with other parameters; if it runs, at once."""
        self.techniques[index] = technique
        if self.running and index == self.index and self._timer is not None:
            self._timer.cancel()
            self._resume()

    def glance(self) -> tuple[Reading, Reading]:
        """Return a reading for a display, which leaves the noise of what is recorded alone."""
        self._advance()
        state = self._rng.getstate()
        try:
            return self._sample()
        finally:
            self._rng.setstate(state)

    # ------------------------------------------------------------------ the course of a run

    def _resume(self) -> None:
        self._timer = None
        if self._course is None:
            return
        self._advance()
        wake_s = next(self._course, None)
        if wake_s is not None:
            self._timer = self._call_at(max(wake_s, self._now()), self._resume)

    def _run(self) -> Iterator[float]:
        for index in range(len(self.techniques)):
            self._begin(index)
            follows = yield from self._course_of(index)
            if follows is Exit.STOP:
                break
        self._course = None
        self._rest()
        self._finish()

    def _finish(self) -> None:
        self.state, self.frequency_Hz = STOP, 0.0
        self._ended_s = self._now()

    def _begin(self, index: int) -> None:
        self.index = index
        self._start_s = self._now()
        self._initial = self._front.regulate()
        if not self.drives:
            self._initial = self._initial[0], 0.0
        hardware = self.techniques[index].hardware
        if hardware.i_range == I_RANGE_AUTO:
            scales = [I_RANGES_A[self.limits.smallest_range], I_RANGES_A[self.limits.largest_range]]
            self._front.currents.auto(*scales)
        elif hardware.i_range != KEEP:
            self._front.currents.fix(I_RANGES_A[hardware.i_range])
        if hardware.e_range in E_RANGES_V:
            self._front.potentials.fix(E_RANGES_V[hardware.e_range])
        else:
            self._front.potentials.auto(min(E_RANGES_V.values()), max(E_RANGES_V.values()))

    def _course_of(self, index: int) -> Course:
        technique = self.techniques[index]
        match technique:
            case Steps():
                return self._steps(index)
            case Voltammetry():
                return self._voltammetry(index, technique)
            case Spectrum():
                return self._spectrum(index, technique)
        raise TypeError(f"no course for {technique}")

    def _stepped(self, index: int) -> Steps:
        technique = self.techniques[index]
        if not isinstance(technique, Steps):
            raise TypeError(f"{technique.name} has no steps")
        return technique

    def _steps(self, index: int) -> Course:
        cycle = 0
        # Asked for anew each time: a host may change parameters meanwhile.
        while cycle <= self._stepped(index).repeats:
            for number in range(len(self._stepped(index).steps)):
                follows = yield from self._step(index, number, cycle)
                if follows is not Exit.NEXT_STEP:
                    return follows
            cycle += 1
        return Exit.NEXT_TECHNIQUE

    def _step(self, index: int, number: int, cycle: int) -> Course:
        def now_asked() -> tuple[Step, Recording]:
            technique = self._stepped(index)
            return technique.steps[number], technique.recording

        def row(voltage_V: float, current_A: float) -> None:
            self._keep_step(index, voltage_V, current_A, cycle)

        return self._period(index, now_asked, row)

    def _period(
        self,
        index: int,
        asked: Callable[[], tuple[Step, Recording]],
        keep: Callable[[float, float], None],
    ) -> Course:
        """Hold one set point for its time, or until its tests hold."""
        began_s, held = self._now(), None
        record = _Recorder()
        while True:
            step, recording = asked()
            if step != held:
                self._hold(index, step)
                held = step
                self._pace.restart()
            voltage, current = self._sample()
            time_s, reading = self._now(), (voltage.value, current.value)
            ended = time_s >= began_s + step.duration_s - _INSTANT_S
            tripped = step.ends(*reading)
            if record.due(time_s, reading, recording) or ended or tripped:
                keep(*reading)
                record.done(time_s, reading)
            if tripped or ended:
                return step.exit if tripped else Exit.NEXT_STEP
            yield min(
                began_s + step.duration_s,
                record.next_s(recording),
                time_s + self._look_s(step, record, recording),
            )

    def _look_s(self, step: Step, record: _Recorder, recording: Recording) -> float:
        """Return the time until the cell has to be looked at."""
        voltages_V = [self.limits.voltage_max_V, -self.limits.voltage_max_V]
        currents_A: list[float] = []
        for test in step.tests:
            (currents_A if test.of_current else voltages_V).append(test.value)
        if recording.change > 0:
            reference = record.reference[1 if recording.of_current else 0]
            marks = [reference - recording.change, reference + recording.change]
            (currents_A if recording.of_current else voltages_V).extend(marks)
        return self._pace.interval_s(self._now(), self._front.regulate(), voltages_V, currents_A)

    def _voltammetry(self, index: int, technique: Voltammetry) -> Course:
        vertices_V = [
            vertex + (self._initial[0] if relative else 0.0)
            for vertex, relative in zip(technique.vertices_V, technique.vs_initial, strict=True)
        ]
        position_V = vertices_V[0]
        for cycle in range(technique.repeats + 1):
            for vertex in (1, 2, 3):
                rate = technique.rates_V_per_s[vertex]
                yield from self._ramp(
                    index, technique, (position_V, vertices_V[vertex]), rate, cycle
                )
                position_V = vertices_V[vertex]
        rate = technique.rates_V_per_s[4]
        yield from self._ramp(
            index, technique, (position_V, vertices_V[4]), rate, technique.repeats
        )
        return Exit.NEXT_TECHNIQUE

    def _ramp(
        self,
        index: int,
        technique: Voltammetry,
        ends_V: tuple[float, float],
        rate_V_per_s: float,
        cycle: int,
    ) -> Iterator[float]:
        from_V, to_V = ends_V
        count = math.ceil(abs(to_V - from_V) / technique.record_V - 1e-4)
        stairs = max(2, math.ceil(technique.record_V / _STAIR_V))
        begin_s, duration_s = self._now(), abs(to_V - from_V) / rate_V_per_s
        for record in range(count):
            readings: list[tuple[float, float, float]] = []
            for stair in range(1, stairs + 1):
                part = (record + stair / stairs) / count
                # The stair lies at the middle of what it stands for.
                self._drive(False, from_V + (part - 0.5 / stairs / count) * (to_V - from_V))
                yield begin_s + part * duration_s
                voltage, current = self._sample()
                readings.append((stair / stairs, voltage.value, current.value))
            control_V = from_V + (record + 1) / count * (to_V - from_V)
            self._keep_ramp(index, control_V, _measured(readings, technique), cycle)

    def _spectrum(self, index: int, technique: Spectrum) -> Course:
        def keep(voltage_V: float, current_A: float) -> None:
            words = [*self._time(index), single(voltage_V), single(current_A)]
            self._keep(index, 0, words)

        yield from self._period(index, lambda: (technique.bias, technique.recording), keep)
        periods = technique.waiting_periods + technique.averages
        for frequency_Hz in technique.frequencies_Hz:
            self.frequency_Hz = frequency_Hz
            ends_s = self._now() + max(_SHORTEST_POINT_S, periods / frequency_Hz)
            while self._now() < ends_s - _INSTANT_S:
                yield min(ends_s, self._now() + _LONGEST_S)
                self._front.regulate()
            self._keep_point(index, technique, frequency_Hz)
        self.frequency_Hz = 0.0
        return Exit.NEXT_TECHNIQUE

    # ------------------------------------------------------------------ output and readings

    def _hold(self, index: int, step: Step) -> None:
        if step.level is None:
            self._rest()
            return
        of_current = self.techniques[index].controls_current
        initial = self._initial[1 if of_current else 0]
        self._drive(of_current, step.level + (initial if step.vs_initial else 0.0))

    def _drive(self, of_current: bool, level: float) -> None:
        """Hold a set point, or as much of it as there is."""
        front = self._front
        mode = GALVANOSTAT if of_current else POTENTIOSTAT
        if front.mode != mode:
            front.set_mode(mode)
        if of_current:
            largest = min(front.profile.current_max_A, front.currents.largest_chosen)
            front.set_current(min(max(level, -largest), largest))
        else:
            largest = self.limits.voltage_max_V
            front.set_potential(min(max(level, -largest), largest))
        if not front.cell_is_on:
            front.switch_on()

    def _rest(self) -> None:
        """Let go of the cell, which is another's if this channel does not hold it."""
        if self.drives:
            self._front.switch_off()

    def _sample(self) -> tuple[Reading, Reading]:
        voltage, current = self._front.sample()
        if not self.drives:
            # Whatever flows then does so in the leads of another instrument.
            current = replace(current, value=0.0)
        return voltage, current

    # ------------------------------------------------------------------ rows

    def _time(self, index: int) -> tuple[int, int]:
        timebase_s = self.techniques[index].hardware.timebase_s
        ticks = round((self._now() - self._start_s) / timebase_s)
        return ticks >> 32, ticks & 0xFFFFFFFF

    def _keep_step(self, index: int, voltage_V: float, current_A: float, cycle: int) -> None:
        words = [*self._time(index), single(voltage_V)]
        if self.techniques[index].name != "ocv":
            words += [single(current_A), cycle]
        elif self.limits.family is Family.VMP3:
            # Two electrodes: the counter electrode is the reference.
            words.append(single(0.0))
        self._keep(index, 0, words)

    def _keep_ramp(
        self, index: int, control_V: float, reading: tuple[float, float], cycle: int
    ) -> None:
        voltage_V, current_A = reading
        words = [*self._time(index), single(current_A), single(voltage_V), cycle]
        if self.limits.family is Family.VMP3:
            words.insert(2, single(control_V))
        self._keep(index, 0, words)

    def _keep_point(self, index: int, technique: Spectrum, frequency_Hz: float) -> None:
        voltage, current = self._sample()
        points = [
            self._front.impedance(frequency_Hz, technique.amplitude)[0]
            for _ in range(technique.averages)
        ]
        impedance_ohm = sum(points) / len(points)
        size = abs(impedance_ohm)
        amplitude_V = technique.amplitude * (size if technique.controls_current else 1.0)
        amplitude_A = amplitude_V / size if size > 0 else math.inf
        phase_rad = math.atan2(impedance_ohm.imag, impedance_ohm.real)
        floats = [frequency_Hz, amplitude_V, amplitude_A, phase_rad, voltage.value, current.value]
        words = [single(value) for value in floats]
        # Of the counter electrode, which is the reference here, there is nothing to see.
        words += [0, single(0.0), single(amplitude_A), single(0.0), single(0.0), 0, 0]
        words.append(single(self._now() - self._start_s))
        if self.limits.family is Family.VMP3:
            words.append(single(float(current.range_index)))
        self._keep(index, 1, words)

    def _keep(self, index: int, process: int, words: Sequence[int]) -> None:
        # The first technique starts with the channel: its start is no number then.
        start_s = self._start_s - self._channel_start_s if index else math.nan
        technique = self.techniques[index]
        self.memory.keep(Rows(index, technique, process, len(words), start_s), words)


def overloaded(reading: Reading) -> bool:
    """Whether a reading is beyond its range, or its quantity held at a limit."""
    return reading.status == OVERLOAD


def _measured(
    readings: Sequence[tuple[float, float, float]], technique: Voltammetry
) -> tuple[float, float]:
    """Return voltage at the end of a step of a ramp, and the current of its measured part."""
    begin, end = technique.window
    inside = [current_A for part, _, current_A in readings if begin < part <= end + 1e-9]
    currents_A = inside or [readings[-1][2]]
    current_A = sum(currents_A) / len(currents_A) if technique.averages else currents_A[-1]
    return readings[-1][1], current_A


class _Recorder:
    """When the last row was kept, and with which reading."""

    def __init__(self) -> None:
        self.reference = (0.0, 0.0)
        self._last_s: float | None = None

    def due(self, time_s: float, reading: tuple[float, float], recording: Recording) -> bool:
        """Whether a row is due: the first one, after a time, after a change."""
        if self._last_s is None:
            return True
        if time_s >= self.next_s(recording) - _INSTANT_S:
            return True
        quantity = 1 if recording.of_current else 0
        moved = abs(reading[quantity] - self.reference[quantity])
        return 0 < recording.change <= moved

    def done(self, time_s: float, reading: tuple[float, float]) -> None:
        """Take note of a row that was kept."""
        self._last_s, self.reference = time_s, reading

    def next_s(self, recording: Recording) -> float:
        """Return when a row is due for its time."""
        if recording.every_s <= 0 or self._last_s is None:
            return math.inf
        return self._last_s + recording.every_s
