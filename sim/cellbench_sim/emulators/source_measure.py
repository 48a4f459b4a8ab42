"""The analogue half of an emulated source-measure unit: source, limit, output relay, converters.

A source holds its level as long as the other quantity stays within its limit, and else holds that
limit: the sink too, so that a voltage limit below the voltage of a cell discharges it. Leads of
a two-wire connection have a resistance, which shows in the voltage while a current is sourced.

Ranges, resolution, noise and accuracy of the 2450 are those of its data sheet; those of the 2460,
2461 and 2400 are of the same class and belong to no particular unit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from cellbench_sim.leads import Cell

OVERFLOW = 9.9e37
VOLTAGE, CURRENT, RESISTANCE = "VOLT", "CURR", "RES"
#: Ranges can be used this far beyond their nominal full scale.
_HEADROOM = 1.05
_SOURCE_STEPS = 40_000
_LEAD_OHM = 0.1
#: Part of the stated accuracy that is one standard deviation of a unit's error.
_SPREAD = 0.25
#: The regulation is looked after at least and at most this often (the real one is continuous).
_LOOK_MIN_S, _LOOK_MAX_S = 0.05, 10.0


@dataclass(frozen=True)
class Range:
    """One range: full scale, resolution, noise at 1 PLC, and accuracy as gain and offset."""

    full_scale: float
    resolution: float
    noise: float
    gain: float
    offset: float


_VOLTS = {
    0.02: Range(0.02, 10e-9, 1e-6, 1e-3, 150e-6),
    0.2: Range(0.2, 100e-9, 1e-6, 1.2e-4, 200e-6),
    2.0: Range(2.0, 1e-6, 10e-6, 1.2e-4, 300e-6),
    20.0: Range(20.0, 10e-6, 100e-6, 1.5e-4, 1e-3),
    200.0: Range(200.0, 100e-6, 1e-3, 1.5e-4, 10e-3),
}
_AMPERES = {
    1e-8: Range(1e-8, 10e-15, 0.5e-12, 1e-3, 50e-12),
    1e-7: Range(1e-7, 0.1e-12, 0.5e-12, 6e-4, 100e-12),
    1e-6: Range(1e-6, 1e-12, 5e-12, 2.5e-4, 300e-12),
    1e-5: Range(1e-5, 10e-12, 40e-12, 2.5e-4, 700e-12),
    1e-4: Range(1e-4, 100e-12, 400e-12, 2e-4, 6e-9),
    1e-3: Range(1e-3, 1e-9, 5e-9, 2e-4, 60e-9),
    1e-2: Range(1e-2, 10e-9, 40e-9, 2e-4, 600e-9),
    0.1: Range(0.1, 100e-9, 100e-9, 2.5e-4, 6e-6),
    1.0: Range(1.0, 1e-6, 3e-6, 3e-4, 500e-6),
}


def _scaled(entry: Range, full_scale: float) -> Range:
    part = full_scale / entry.full_scale
    return replace(
        entry,
        full_scale=full_scale,
        resolution=entry.resolution * part,
        noise=entry.noise * part,
        offset=entry.offset * part,
    )


@dataclass(frozen=True)
class Model:
    """What one model can do.

    Attributes:
        identity: Its answer to ``*IDN?``.
        power: Largest current (A) by full scale (V) of the smallest voltage range it is had in.
        voltage_limit_V: Limit of a current source after a reset.
        off_limit: Limit of the normal output-off state, as part of the present current range.
        open_interlock_V: Largest voltage while the interlock is open; None if there is none.
    """

    identity: str
    volts: tuple[Range, ...]
    amperes: tuple[Range, ...]
    power: tuple[tuple[float, float], ...]
    voltage_limit_V: float
    current_limit_A: float = 1.05e-4
    off_limit: float = 0.1
    open_interlock_V: float | None = 42.0

    @property
    def voltage_max_V(self) -> float:
        """The largest voltage that can be sourced."""
        return self.volts[-1].full_scale * _HEADROOM

    @property
    def current_max_A(self) -> float:
        """The largest current that can be sourced, in the lowest voltage range."""
        return self.power[0][1]

    def current_at_A(self, voltage_V: float) -> float:
        """Return the largest current at a voltage."""
        for full_scale, current_A in self.power:
            if abs(voltage_V) <= full_scale * _HEADROOM * (1 + 1e-9):
                return current_A
        return 0.0


_SEVEN_AMPERES = tuple(_scaled(_AMPERES[1.0], ampere) for ampere in (4.0, 5.0, 7.0))
_LARGE_VOLTS = (
    _VOLTS[0.2], _VOLTS[2.0], _scaled(_VOLTS[20.0], 7.0), _scaled(_VOLTS[20.0], 10.0),
    _VOLTS[20.0], _scaled(_VOLTS[200.0], 100.0),
)  # fmt: skip
_LARGE_AMPERES = tuple(_AMPERES.values())[2:] + _SEVEN_AMPERES
_LARGE_POWER = ((7.0, 7.35), (10.0, 5.25), (20.0, 4.2), (100.0, 1.05))
_SMALL_POWER = ((20.0, 1.05), (200.0, 0.105))

MODELS: dict[str, Model] = {
    "2450": Model(
        identity="KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c",
        volts=tuple(_VOLTS.values()),
        amperes=tuple(_AMPERES.values()),
        power=_SMALL_POWER,
        voltage_limit_V=21.0,
    ),
    "2460": Model(
        identity="KEITHLEY INSTRUMENTS,MODEL 2460,04096332,1.7.12b",
        volts=_LARGE_VOLTS,
        amperes=_LARGE_AMPERES,
        power=_LARGE_POWER,
        voltage_limit_V=7.35,
    ),
    "2461": Model(
        identity="KEITHLEY INSTRUMENTS,MODEL 2461,04096333,1.7.12b",
        volts=_LARGE_VOLTS,
        amperes=_LARGE_AMPERES,
        power=_LARGE_POWER,
        voltage_limit_V=7.35,
    ),
    "2400": Model(
        identity=(
            "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1234567,C30   Mar 17 2006 09:29:29/A02  /K/J"
        ),
        volts=tuple(_VOLTS.values())[1:],
        amperes=tuple(_AMPERES.values())[2:],
        power=_SMALL_POWER,
        voltage_limit_V=21.0,
        off_limit=0.005,
        open_interlock_V=None,
    ),
}


@dataclass
class Source:
    """Settings of one source function; ``limit`` is of the other quantity."""

    limit: float
    range: float
    level: float = 0.0
    auto_range: bool = True
    delay_s: float = 0.0
    auto_delay: bool = True
    off_state: str = "NORM"
    read_back: bool = True
    protection_V: float = math.inf


@dataclass
class Sense:
    """Settings of one measure function."""

    range: float
    auto_range: bool = True
    nplc: float = 1.0
    remote: bool = False
    autozero: bool = True
    averaging: bool = False
    average_count: int = 10
    average_control: str = "REP"


@dataclass
class _Drive:
    """What the output stage holds, and within what.

    Attributes:
        regime: ``level``, ``limit`` (the other quantity is held), or ``clamp`` (the current is
            held at what the stage can sink).
        sign: At which of its two limits it is.
    """

    function: str
    level: float
    limit: float
    clamp_A: float
    regime: str = "level"
    sign: float = 1.0

    @property
    def settings(self) -> tuple[str, float, float, float]:
        """What was asked for, whatever is held just now."""
        return self.function, self.level, self.limit, self.clamp_A

    @property
    def drives_voltage(self) -> bool:
        """Whether it is the voltage that is held just now."""
        return self.regime != "clamp" and (self.function == VOLTAGE) == (self.regime == "level")

    def demand(self) -> float:
        """Return what is held, in V or A."""
        if self.regime == "level":
            return self.level
        return self.sign * (self.limit if self.regime == "limit" else self.clamp_A)

    def change(self, voltage_V: float, current_A: float) -> bool:
        """Take note of what the terminals show; return whether something else is to be held."""
        held, other = voltage_V, current_A
        if self.function == CURRENT:
            held, other = current_A, voltage_V
        if self.regime == "level":
            exceeds = abs(other) > self.limit * (1 + 1e-9) + 1e-15
            self.regime, self.sign = ("limit" if exceeds else "level"), math.copysign(1.0, other)
            return exceeds
        if self.regime == "limit":
            if self.sign * (held - self.level) > 1e-9 * abs(self.level):
                self.regime = "level"
            elif self.function == CURRENT and abs(held) > self.clamp_A * (1 + 1e-9):
                self.regime, self.sign = "clamp", math.copysign(1.0, held)
            return self.regime != "limit"
        if self.sign * (voltage_V + self.sign * self.limit) > 0:
            self.regime, self.sign = "limit", -self.sign
            return True
        return False


class SourceMeasureUnit:
    """Source, limit, output relay and converters, with the leads on a cell.

    Args:
        cell: What the leads are clipped to.
        model: What the unit can do.
        rng: The generator of its noise.
        now: Returns the bench's time.
        on_drive: Called when the output stage begins to hold something or ceases to.

    Attributes:
        function: What is sourced, VOLT or CURR.
        measured: What is measured, VOLT, CURR or RES.
        output: Whether the output is on.
        interlock: Whether the interlock is closed.
        line_Hz: Frequency of the power line.
        sources: Settings by source function.
        senses: Settings by measure function.
    """

    def __init__(
        self,
        cell: Cell,
        model: Model,
        rng: random.Random,
        now: Callable[[], float],
        on_drive: Callable[[], None],
    ) -> None:
        self.model = model
        self.interlock = True
        self.line_Hz = 50.0
        self._cell, self._rng = cell, rng
        self._now, self._on_drive = now, on_drive
        errors = [
            (rng.gauss(0, _SPREAD * entry.gain), rng.gauss(0, _SPREAD * entry.offset))
            for entry in (*model.volts, *model.amperes)
        ]
        self._errors = dict(zip((*model.volts, *model.amperes), errors, strict=True))
        self._source_gain = {name: rng.gauss(0, _SPREAD * 2e-4) for name in (VOLTAGE, CURRENT)}
        self._drive: _Drive | None = None
        self._settled_s = 0.0
        self._was: tuple[float, float, float] | None = None
        self._set_defaults()

    def _set_defaults(self) -> None:
        self.function, self.measured, self.output = VOLTAGE, CURRENT, False
        self.sources = {
            VOLTAGE: Source(self.model.current_limit_A, self.model.volts[0].full_scale),
            CURRENT: Source(self.model.voltage_limit_V, self.model.amperes[0].full_scale),
        }
        self.senses = {
            VOLTAGE: Sense(self.model.volts[-1].full_scale),
            CURRENT: Sense(self.model.amperes[-1].full_scale),
            RESISTANCE: Sense(2e5),
        }

    # ------------------------------------------------------------------ settings

    @property
    def source(self) -> Source:
        """The settings of the function that is sourced."""
        return self.sources[self.function]

    def reset(self) -> None:
        """Switch the output off and forget all settings, the output-off state included."""
        changes = self.output or self.source.off_state != "NORM"
        self._set_defaults()
        if changes:
            self._enter_off_state()

    def choose_function(self, function: str) -> None:
        """Source something else from now on; this switches the output off."""
        if function == self.function:
            return
        changes = self.output or self.sources[function].off_state != self.source.off_state
        self.function, self.output = function, False
        if changes:
            self._enter_off_state()

    def choose_off_state(self, function: str, state: str) -> None:
        """Choose what the terminals see while the output is off: NORM, ZERO, HIMP or GUAR."""
        changes = state != self.sources[function].off_state
        self.sources[function].off_state = state
        if changes and function == self.function and not self.output:
            self._enter_off_state()

    def switch(self, on: bool) -> None:
        """Switch the output on or off."""
        if on == self.output:
            return
        self.output = on
        if on:
            self._drive = None
            self.apply()
        else:
            self._enter_off_state()

    def apply(self) -> None:
        """Let a change of level, limit or range take effect, if the output is on."""
        if not self.output:
            return
        level, limit = self.actual_level(), self._limit()
        clamp_A = _HEADROOM * self._current_range_A
        held = self._drive
        if held is None or held.settings != (self.function, level, limit, clamp_A):
            self._settled_s = self._now() + self._source_delay_s(self.source)
            self._hold(_Drive(self.function, level, limit, clamp_A))

    def _source_delay_s(self, source: Source) -> float:
        """Return how long a change settles before it is measured."""
        if not source.auto_delay:
            return source.delay_s
        # The low current ranges settle slowly.
        return 1e-3 * max(1.0, math.sqrt(1e-4 / self._current_range_A))

    def source_range(self, function: str) -> Range:
        """Return the range that a source function is in."""
        source = self.sources[function]
        wanted = abs(source.level) if source.auto_range else source.range
        return covering(self.ranges(function), wanted)

    def actual_level(self) -> float:
        """Return what is really sourced for the level that was set."""
        used, level = self.source_range(self.function), self.source.level
        step = used.full_scale / _SOURCE_STEPS
        level = round(level / step) * step * (1.0 + self._source_gain[self.function])
        if self.function == VOLTAGE:
            ceiling_V = min(self._interlocked_V, self.source.protection_V)
            level = min(max(level, -ceiling_V), ceiling_V)
        return level

    def ranges(self, function: str) -> tuple[Range, ...]:
        """Return the ranges of a quantity."""
        return self.model.volts if function == VOLTAGE else self.model.amperes

    @property
    def _current_range_A(self) -> float:
        """Full scale of the current range: of the source, or the one that the limit needs."""
        if self.function == CURRENT:
            return self.source_range(CURRENT).full_scale
        return covering(self.model.amperes, self.source.limit).full_scale

    @property
    def _interlocked_V(self) -> float:
        closed = self.interlock or self.model.open_interlock_V is None
        return math.inf if closed else self.model.open_interlock_V or 0.0

    def _limit(self) -> float:
        if self.function == VOLTAGE:
            return self.source.limit
        protection_V = self.sources[VOLTAGE].protection_V
        return min(self.source.limit, protection_V, self._interlocked_V)

    # ------------------------------------------------------------------ output stage

    @property
    def drives(self) -> bool:
        """Whether the output stage holds anything (the relay is closed)."""
        return self._drive is not None

    @property
    def limited(self) -> bool:
        """Whether the source is held back by its limit."""
        return self.output and self._drive is not None and self._drive.regime != "level"

    @property
    def protecting(self) -> bool:
        """Whether it is the overvoltage protection that holds it back."""
        if self.function == VOLTAGE:
            return self.output and abs(self.source.level) > self.source.protection_V
        return self.limited and self._limit() == self.sources[VOLTAGE].protection_V

    def _enter_off_state(self) -> None:
        state = self.source.off_state
        range_A = self._current_range_A
        if state == "HIMP":
            self._hold(None)
        elif state == "GUAR" and self.function == CURRENT:
            limit_V = self.model.off_limit * self.source_range(VOLTAGE).full_scale
            self._hold(_Drive(CURRENT, 0.0, limit_V, _HEADROOM * range_A))
        else:
            limit_A = range_A if state == "ZERO" else self.model.off_limit * range_A
            self._hold(_Drive(VOLTAGE, 0.0, limit_A, _HEADROOM * range_A))

    def _hold(self, drive: _Drive | None) -> None:
        self._cell.advance_to(self._now())
        drove, self._drive, self._was = self.drives, drive, None
        if drive is None:
            # Another instrument may hold the cell while the relay is open already.
            if drove:
                self._cell.open_circuit()
        else:
            self._command(drive)
            self.regulate()
        self._on_drive()

    def regulate(self) -> None:
        """Let the output stage do what the state of the cell makes it do now."""
        drive = self._drive
        if drive is not None:
            self._cell.advance_to(self._now())
        # One change may bring about the next; a flip-flop is left for the next look.
        for _ in range(4):
            if drive is None or not drive.change(*self.terminals()):
                return
            self._command(drive)

    def _command(self, drive: _Drive) -> None:
        apply = self._cell.apply_voltage if drive.drives_voltage else self._cell.apply_current
        apply(drive.demand())

    def next_look_s(self) -> float:
        """Return when the regulation has to be looked after next: sooner near to a limit."""
        drive = self._drive
        if drive is None:
            return math.inf
        now_s = self._now()
        voltage_V, current_A = self.terminals()
        before, self._was = self._was, (now_s, voltage_V, current_A)
        if before is None or now_s <= before[0]:
            return now_s + _LOOK_MIN_S
        moving = 1 if drive.drives_voltage else 0
        value, earlier = (voltage_V, current_A)[moving], before[1 + moving]
        per_s = abs(value - earlier) / (now_s - before[0])
        marks = [drive.level] if drive.regime == "limit" else [drive.limit, -drive.limit]
        nearest = min(abs(value - mark) for mark in marks)
        wait_s = 0.25 * nearest / per_s if per_s > 0 else math.inf
        return now_s + min(max(wait_s, _LOOK_MIN_S), _LOOK_MAX_S)

    # ------------------------------------------------------------------ measurement

    def terminals(self) -> tuple[float, float]:
        """Return voltage and current at the terminals; nothing while the relay is open."""
        drive = self._drive
        if drive is None:
            return 0.0, 0.0
        voltage_V, current_A = self._cell.terminals()
        if not (drive.drives_voltage or self.remote):
            voltage_V += current_A * _LEAD_OHM
        return voltage_V, current_A

    @property
    def remote(self) -> bool:
        """Whether the voltage is sensed by leads of its own; never while the output is off."""
        return self.output and self.senses[self.measured].remote

    def measured_by_s(self, *functions: str) -> float:
        """Return when a reading that starts now is done, once the source has settled."""
        start_s = max(self._now(), self._settled_s)
        return start_s + sum(self._measuring_s(self.senses[name]) for name in functions)

    def _measuring_s(self, sense: Sense) -> float:
        """Return how long one reading takes: its aperture, those of autozero, its average."""
        apertures = 3.0 if sense.autozero else 1.0
        count = sense.average_count if sense.averaging and sense.average_control == "REP" else 1
        return count * (apertures * sense.nplc / self.line_Hz + 4e-4)

    def read(self, function: str) -> float:
        """Convert what the terminals show now; beyond the range it is `OVERFLOW`."""
        self.regulate()
        voltage_V, current_A = self.terminals()
        if function == RESISTANCE:
            volts = self._convert(VOLTAGE, voltage_V)
            ampere = self._convert(CURRENT, current_A)
            return OVERFLOW if OVERFLOW in (volts, ampere) or ampere == 0 else volts / ampere
        return self._convert(function, voltage_V if function == VOLTAGE else current_A)

    def _convert(self, function: str, value: float) -> float:
        used = self.measure_range(function, value)
        if abs(value) > _HEADROOM * used.full_scale:
            return OVERFLOW
        sense = self.senses[function]
        gain, offset = self._errors[used]
        averages = sense.average_count if sense.averaging else 1
        noise = used.noise / math.sqrt(sense.nplc * averages)
        step = used.resolution / min(1.0, sense.nplc)
        measured = value * (1.0 + gain) + offset + self._rng.gauss(0.0, noise)
        return round(measured / step) * step

    def measure_range(self, function: str, value: float) -> Range:
        """Return the range in which a value is measured: the source's, where that is sourced."""
        sense = self.senses[function]
        if self.output and function == self.function:
            return max(
                self.source_range(function),
                covering(self.ranges(function), abs(value)),
                key=lambda entry: entry.full_scale,
            )
        return covering(self.ranges(function), abs(value) if sense.auto_range else sense.range)


def covering(ranges: tuple[Range, ...], magnitude: float) -> Range:
    """Return the smallest range that holds a magnitude, or the largest there is."""
    for entry in ranges:
        if abs(magnitude) <= _HEADROOM * entry.full_scale * (1 + 1e-9):
            return entry
    return ranges[-1]
