"""What a Keithley source-measure unit is to do for a technique, whatever its dialect.

The unit controls one quantity and measures the other. The measured one is what its trigger model
can compare; the controlled one is read back beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from cellbench.instruments.readings import Ending, EndingKind
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench.quantities import format_quantity

Quantity: TypeAlias = Literal["voltage", "current"]

#: The source's own limit lies this much beyond the cell's: only then is a limit seen as crossed,
#: and not merely kept at. It also has to lie above the cell's voltage, or the unit draws current.
_VOLTAGE_HEADROOM, _VOLTAGE_HEADROOM_V = 1.005, 0.02
_CURRENT_HEADROOM = 1.03
#: A set point right at a limit is measured a little beyond it, and is no trip.
_VOLTAGE_ACCURACY_V, _CURRENT_ACCURACY = 5e-3, 1.02
#: The smallest limits of a source that all models know.
_LIMIT_MIN_V, _LIMIT_MIN_A = 0.2, 1e-6
#: Readings arrive with seven digits; the instrument compares all of its own.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Watch:
    """A crossing that ends a technique: ``value`` outside (or inside) ``low`` to ``high``.

    Attributes:
        quantity: What is compared, as it stands.
        inside: Whether it is met between the two values, and not beyond them.
        after_s: It counts from here on.
        kind: What it means when it is met.
        text: The crossing in words.
    """

    quantity: Quantity
    low: float
    high: float
    inside: bool
    after_s: float
    kind: EndingKind
    text: str

    def met_by(self, value: float) -> bool:
        """Whether a value meets it."""
        return (self.low < value < self.high) is self.inside and not math.isnan(value)

    def nearly_met_by(self, value: float) -> bool:
        """Whether it may have been met by what was printed as this value."""
        slack = _ROUNDING * abs(value)
        return any(self.met_by(value + shift) for shift in (-slack, 0.0, slack))

    def ending(self, *, on_device: bool) -> Ending:
        """How a technique ended that met it."""
        return Ending(self.kind, self.text, on_device)


@dataclass(frozen=True, slots=True)
class Program:
    """A technique in the terms of the instrument.

    Attributes:
        controls: The quantity that the source controls.
        levels: What it controls it to: one value, or the steps of a staircase.
        limit: The source's limit on the measured quantity.
        rows: Readings in all.
        interval_s: Time from one to the next.
        first_s: Time of the first one.
        watches: What ends it, cut-offs before limits.
    """

    controls: Quantity
    levels: tuple[float, ...]
    limit: float
    rows: int
    interval_s: float
    first_s: float
    watches: tuple[Watch, ...]

    @property
    def measures(self) -> Quantity:
        """The quantity that is measured, and that the trigger model can compare."""
        return "voltage" if self.controls == "current" else "current"

    @property
    def line_cycles(self) -> float:
        """Integration time of a reading, in cycles of the mains, that suits the interval."""
        if self.interval_s >= 0.25:
            return 1.0
        return 0.1 if self.interval_s >= 0.05 else 0.01

    def first_row(self, watch: Watch) -> int:
        """The first row for which a watch counts."""
        return max(0, math.ceil((watch.after_s - self.first_s) / self.interval_s - 1e-9))

    def active(self, row: int) -> Iterator[Watch]:
        """The watches that count for a row."""
        return (watch for watch in self.watches if row >= self.first_row(watch))


@dataclass(frozen=True, slots=True)
class Reach:
    """What a unit can do at most, and how long a staircase it can hold."""

    voltage_max_V: float
    current_max_A: float
    steps_max: int


def program_for(technique: Technique, limits: ElectricalLimits, reach: Reach) -> Program:
    """Put a technique into the instrument's terms.

    Raises:
        ValueError: The instrument cannot do it.
    """
    match technique:
        case Rest():
            return _steady(technique, "current", 0.0, limits, reach)
        case ConstantCurrent(current_A=current_A):
            _require(current_A, reach.current_max_A, "A")
            return _steady(technique, "current", current_A, limits, reach)
        case ConstantVoltage(spectra=Impedance()) | Impedance():
            raise ValueError("a source-measure unit measures no impedance")
        case ConstantVoltage(voltage_V=voltage_V):
            _require(voltage_V, reach.voltage_max_V, "V")
            return _steady(technique, "voltage", voltage_V, limits, reach)
        case Sweep():
            return _staircase(technique, limits, reach)


def staircase(sweep: Sweep, steps_max: int) -> tuple[float, ...]:
    """Return the voltages of a sweep, in larger steps where the instrument cannot hold so many."""
    span_V = sum(abs(b - a) for a, b in pairwise(sweep.voltages_V))
    corners = len(sweep.voltages_V)
    step_V = max(sweep.step_V, span_V / max(1, steps_max - corners))
    voltages_V = [sweep.start_V]
    for begin_V, end_V in pairwise(sweep.voltages_V):
        count = math.ceil(abs(end_V - begin_V) / step_V - 1e-9)
        voltages_V += [begin_V + (end_V - begin_V) * at / count for at in range(1, count + 1)]
    return tuple(voltages_V)


def _steady(
    technique: Rest | ConstantCurrent | ConstantVoltage,
    controls: Quantity,
    level: float,
    limits: ElectricalLimits,
    reach: Reach,
) -> Program:
    intervals = max(1, math.ceil(technique.duration_s / technique.interval_s - 1e-6))
    return Program(
        controls=controls,
        levels=(level,),
        limit=_source_limit(controls, limits, reach),
        rows=intervals + 1,
        interval_s=technique.duration_s / intervals,
        first_s=0.0,
        watches=_watches(technique.cut_offs, controls, limits),
    )


def _staircase(sweep: Sweep, limits: ElectricalLimits, reach: Reach) -> Program:
    for voltage_V in sweep.voltages_V:
        _require(voltage_V, reach.voltage_max_V, "V")
    levels = staircase(sweep, reach.steps_max)
    interval_s = sweep.duration_s / max(1, len(levels) - 1) or sweep.interval_s
    return Program(
        controls="voltage",
        levels=levels,
        limit=_source_limit("voltage", limits, reach),
        rows=len(levels),
        interval_s=interval_s,
        first_s=interval_s,
        watches=_watches(sweep.cut_offs, "voltage", limits),
    )


def _require(value: float, most: float, unit: str) -> None:
    if abs(value) > most * (1 + 1e-9):
        raise ValueError(f"{value:g} {unit} is outside {-most:g} {unit} to {most:g} {unit}")


def _source_limit(controls: Quantity, limits: ElectricalLimits, reach: Reach) -> float:
    if controls == "current":
        window_V = max(abs(limits.voltage_min_V), abs(limits.voltage_max_V))
        limit_V = window_V * _VOLTAGE_HEADROOM + _VOLTAGE_HEADROOM_V
        return min(max(limit_V, _LIMIT_MIN_V), reach.voltage_max_V)
    limit_A = limits.current_max_A * _CURRENT_HEADROOM
    return min(max(limit_A, _LIMIT_MIN_A), reach.current_max_A)


def _watches(
    cut_offs: tuple[CutOff, ...], controls: Quantity, limits: ElectricalLimits
) -> tuple[Watch, ...]:
    # Cut-offs first: a charge to exactly the limit then ends as it was meant to.
    return (*(_cut_off(each) for each in cut_offs), _limit(controls, limits))


def _cut_off(cut_off: CutOff) -> Watch:
    low, high = -math.inf, math.inf
    inside = True
    if cut_off.quantity == "current":
        low, high, inside = -cut_off.value, cut_off.value, not cut_off.above
    elif cut_off.above:
        low = cut_off.value
    else:
        high = cut_off.value
    side = "above" if cut_off.above else "below"
    text = f"{cut_off.quantity} {side} {format_quantity(cut_off.value, cut_off.quantity)}"
    kind = EndingKind.CUT_OFF
    return Watch(cut_off.quantity, low, high, inside, cut_off.after_s, kind, text)


def _limit(controls: Quantity, limits: ElectricalLimits) -> Watch:
    """The cell's limits of the measured quantity; the other one is what the source keeps to."""
    kind = EndingKind.TRIPPED
    if controls == "current":
        low_V, high_V = limits.voltage_min_V, limits.voltage_max_V
        text = f"voltage outside {low_V:g} V to {high_V:g} V"
        slack_V = _VOLTAGE_ACCURACY_V
        return Watch("voltage", low_V - slack_V, high_V + slack_V, False, 0.0, kind, text)
    most_A = limits.current_max_A * _CURRENT_ACCURACY
    text = f"current above {format_quantity(limits.current_max_A, 'current')}"
    return Watch("current", -most_A, most_A, False, 0.0, kind, text)
