"""What emulated cyclers share: an output stage between limits, its readings, and when to look.

A cycler's stage holds a voltage as long as the current that this takes lies between two limits, and
else drives the limit: constant current, constant voltage and the passage between the two are one
regulator. It regulates at its samples, 0.1 s apart at the closest; while nothing is about to happen
it is looked at more seldom, which the slow change of a cell makes equivalent.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.leads import Cell

#: The sampling interval of the converters: also the shortest time between two looks.
SAMPLE_S = 0.1
#: Relative slack of the regulator's comparisons, so that rounding does not make it switch.
_SLACK = 1e-6
#: A limit that follows the voltage (power, resistance) is set anew when it moved by this much.
_FOLLOW = 1e-3
_SWITCHES = 4
#: Gain error of a unit as one standard deviation (assumed; data sheets promise 0.02 % of range).
_GAIN_ERROR = 5e-5


@dataclass(frozen=True)
class Ratings:
    """What one channel of a cycler can do; ranges and noise are those of common 5 V lab channels.

    Attributes:
        current_ranges_A: Full scales, the smallest first; the last one is the largest current.
        voltage_noise_V: Standard deviation of one reading.
        current_noise: Standard deviation of one reading, as a fraction of the range in use.
        resolution: One step of the converters, as a fraction of the range in use.
    """

    voltage_min_V: float = -5.0
    voltage_max_V: float = 5.0
    current_ranges_A: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1)
    voltage_noise_V: float = 20e-6
    current_noise: float = 5e-6
    resolution: float = 1e-6

    @property
    def current_max_A(self) -> float:
        """The largest current in either direction."""
        return self.current_ranges_A[-1]

    def covers_current(self, current_A: float) -> bool:
        """Whether a current can be driven."""
        return abs(current_A) <= self.current_max_A * (1 + _SLACK)

    def covers_voltage(self, voltage_V: float) -> bool:
        """Whether a voltage can be held."""
        return self.voltage_min_V - _SLACK <= voltage_V <= self.voltage_max_V + _SLACK


@dataclass(frozen=True)
class Demand:
    """What the stage is to do: hold a voltage with a current between two limits.

    Attributes:
        voltage_V: What is held; for constant current the far end of what may be reached.
        lowest_A: The least current, negative while discharging.
        highest_A: The largest one.
        power_W: Limit of the power in either direction.
        resistance_ohm: Load that limits the current; 0 for none.
    """

    voltage_V: float
    lowest_A: float
    highest_A: float
    power_W: float = math.inf
    resistance_ohm: float = 0.0

    @classmethod
    def charge(cls, current_A: float, voltage_V: float) -> Demand:
        """Charge with at most a current up to a voltage, which is then held."""
        return cls(voltage_V, 0.0, current_A)

    @classmethod
    def discharge(cls, current_A: float, voltage_V: float) -> Demand:
        """Discharge with at most a current, given as its magnitude, down to a voltage."""
        return cls(voltage_V, -current_A, 0.0)

    def limits_at(self, voltage_V: float) -> tuple[float, float]:
        """Return the lowest and highest current at the present voltage."""
        magnitude = abs(voltage_V)
        most_A = self.power_W / magnitude if magnitude > 0 else math.inf
        if self.resistance_ohm > 0:
            most_A = min(most_A, magnitude / self.resistance_ohm)
        return max(self.lowest_A, -most_A), min(self.highest_A, most_A)


class Control(Enum):
    """What the stage regulates at present."""

    OPEN = "open"
    VOLTAGE = "voltage"
    LOWEST = "lowest current"
    HIGHEST = "highest current"


class OutputStage:
    """Output and converters of one channel.

    Args:
        cell: What its leads are clipped to.
        ratings: What the channel can do.
        rng: The generator of its noise.
    """

    def __init__(self, cell: Cell, ratings: Ratings, rng: random.Random) -> None:
        self.ratings = ratings
        self.control = Control.OPEN
        self._cell = cell
        self._rng = rng
        self._display_rng = random.Random(rng.getrandbits(64))  # noqa: S311 (noise)
        self._gain = 1.0 + rng.gauss(0.0, _GAIN_ERROR)
        self._demand: Demand | None = None
        self._driven_A = 0.0

    def advance_to(self, time_s: float) -> None:
        """Let the cell live until ``time_s``."""
        self._cell.advance_to(time_s)

    def drive(self, demand: Demand) -> None:
        """Take up a demand, first with its current limit where it has one to charge or discharge.

        A demand for constant current that begins by holding its far voltage would hit the cell with
        a surge before the regulator's first sample.
        """
        self._demand = demand
        low_A, high_A = demand.limits_at(self._cell.terminals()[0])
        if low_A < 0 < high_A:
            self._take(Control.VOLTAGE, 0.0)
        elif high_A > 0:
            self._take(Control.HIGHEST, high_A)
        else:
            self._take(Control.LOWEST, low_A)
        self.regulate()

    def open(self) -> None:
        """Open the output; a stage that is open already leaves the cell to others."""
        if self.control is not Control.OPEN:
            self._cell.open_circuit()
        self.control, self._demand = Control.OPEN, None

    def regulate(self) -> tuple[float, float]:
        """Return voltage and current at the terminals, after changing over where needed."""
        voltage_V, current_A = self._cell.terminals()
        if self._demand is None:
            return voltage_V, 0.0
        for _ in range(_SWITCHES):
            control, limit_A = self._wanted(self._demand, voltage_V, current_A)
            if control is self.control and self._is_driven(limit_A):
                break
            self._take(control, limit_A)
            voltage_V, current_A = self._cell.terminals()
        return voltage_V, current_A

    def sample(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return voltage and current (V, A) as they are, and as the converters read them."""
        terminals = self.regulate()
        return terminals, self._read(*terminals, self._rng)

    def glance(self) -> tuple[float, float]:
        """Return a reading for a display, which leaves regulator and noise of the test alone."""
        return self._read(*self._cell.terminals(), self._display_rng)

    def _wanted(self, demand: Demand, voltage_V: float, current_A: float) -> tuple[Control, float]:
        low_A, high_A = demand.limits_at(voltage_V)
        slack_A = _SLACK * max(high_A, -low_A)
        slack_V = _SLACK * self.ratings.voltage_max_V
        match self.control:
            case Control.HIGHEST if voltage_V <= demand.voltage_V + slack_V:
                return Control.HIGHEST, high_A
            case Control.LOWEST if voltage_V >= demand.voltage_V - slack_V:
                return Control.LOWEST, low_A
            case Control.VOLTAGE if current_A > high_A + slack_A:
                return Control.HIGHEST, high_A
            case Control.VOLTAGE if current_A < low_A - slack_A:
                return Control.LOWEST, low_A
        return Control.VOLTAGE, 0.0

    def _is_driven(self, limit_A: float) -> bool:
        return self.control is Control.VOLTAGE or (
            abs(limit_A - self._driven_A) <= _FOLLOW * abs(self._driven_A)
        )

    def _take(self, control: Control, limit_A: float) -> None:
        self.control, self._driven_A = control, limit_A
        if control is Control.VOLTAGE and self._demand is not None:
            self._cell.apply_voltage(self._demand.voltage_V)
        else:
            self._cell.apply_current(limit_A)

    def _read(self, voltage_V: float, current_A: float, rng: random.Random) -> tuple[float, float]:
        ratings = self.ratings
        window_V = max(ratings.voltage_max_V, -ratings.voltage_min_V)
        read_V = voltage_V * self._gain + rng.gauss(0.0, ratings.voltage_noise_V)
        read_V = _quantised(read_V, ratings.resolution * window_V)
        if self.control is Control.OPEN:
            return read_V, 0.0
        scale_A = self._range_A(max(abs(current_A), abs(self._driven_A)))
        read_A = current_A * self._gain + rng.gauss(0.0, ratings.current_noise * scale_A)
        return read_V, _quantised(read_A, ratings.resolution * scale_A)

    def _range_A(self, needed_A: float) -> float:
        scales_A = self.ratings.current_ranges_A
        return next((scale for scale in scales_A if needed_A <= scale * (1 + _SLACK)), scales_A[-1])


def _quantised(value: float, step: float) -> float:
    return round(value / step) * step


@dataclass
class Throughput:
    """Adds up charge and energy, as magnitudes, along straight lines from sample to sample.

    Attributes:
        charge_Ah: What has flowed.
        energy_Wh: The energy of it.
    """

    charge_Ah: float = 0.0
    energy_Wh: float = 0.0
    _last: tuple[float, float, float] | None = field(default=None, init=False)

    @property
    def is_counting(self) -> bool:
        """Whether there is a sample from which the next line goes."""
        return self._last is not None

    def pause(self) -> None:
        """Begin anew at the next sample: what flows until then does not count."""
        self._last = None

    def add(self, now_s: float, voltage_V: float, current_A: float) -> None:
        """Take a sample in."""
        magnitude_A, magnitude_W = abs(current_A), abs(voltage_V * current_A)
        if self._last is not None:
            before_s, before_A, before_W = self._last
            hours = (now_s - before_s) / 3600
            self.charge_Ah += 0.5 * (before_A + magnitude_A) * hours
            self.energy_Wh += 0.5 * (before_W + magnitude_W) * hours
        self._last = (now_s, magnitude_A, magnitude_W)


@dataclass
class Pace:
    """When to look next: at every sample while something is near, else more and more seldom.

    Attributes:
        longest_s: The longest time without a look, in which nothing is foreseen to happen.
        shortest_s: The shortest time between two looks.
    """

    longest_s: float = 10.0
    shortest_s: float = SAMPLE_S
    _interval_s: float = field(default=0.0, init=False)
    _last: tuple[float, float, float] | None = field(default=None, init=False)

    def restart(self) -> None:
        """Begin to look closely, because something has just changed."""
        self._interval_s, self._last = 0.0, None

    def interval_s(
        self,
        now_s: float,
        terminals: tuple[float, float],
        voltages_V: Iterable[float],
        currents_A: Iterable[float],
    ) -> float:
        """Return the time to the next look.

        Args:
            now_s: The present time.
            terminals: Voltage and current now.
            voltages_V: Voltages at which something will happen.
            currents_A: Currents at which something will happen.
        """
        voltage_V, current_A = terminals
        longest_s = min(self.longest_s, max(self.shortest_s, 2 * self._interval_s))
        if self._last is not None and now_s > self._last[0]:
            elapsed_s = now_s - self._last[0]
            rise_V_per_s = (voltage_V - self._last[1]) / elapsed_s
            rise_A_per_s = (current_A - self._last[2]) / elapsed_s
            for threshold in voltages_V:
                longest_s = min(longest_s, _half_way_s(threshold - voltage_V, rise_V_per_s))
            for threshold in currents_A:
                longest_s = min(longest_s, _half_way_s(threshold - current_A, rise_A_per_s))
        self._last = (now_s, voltage_V, current_A)
        self._interval_s = max(self.shortest_s, longest_s)
        return self._interval_s


def _half_way_s(distance: float, rise_per_s: float) -> float:
    """Time until half of a distance is gone; the slope may steepen on the way."""
    toward = distance * rise_per_s > 0
    return 0.5 * distance / rise_per_s if toward else math.inf


class EmptyHolder:
    """A channel's leads with nothing between them but a stray resistance."""

    resistance_ohm = 1e12

    def __init__(self) -> None:
        self._voltage_V = self._current_A = 0.0

    def advance_to(self, time_s: float) -> None:
        """Nothing ages here."""

    def open_circuit(self) -> None:
        """Leave the terminals open."""
        self._voltage_V = self._current_A = 0.0

    def apply_current(self, current_A: float) -> None:
        """Drive a current: the voltage runs away."""
        self._voltage_V, self._current_A = current_A * self.resistance_ohm, current_A

    def apply_voltage(self, voltage_V: float) -> None:
        """Hold a voltage."""
        self._voltage_V, self._current_A = voltage_V, voltage_V / self.resistance_ohm

    def terminals(self) -> tuple[float, float]:
        """Return voltage in V and current in A."""
        return self._voltage_V, self._current_A

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the stray resistance at each frequency."""
        return np.full(frequency_Hz.shape, self.resistance_ohm, dtype=np.complex128)
