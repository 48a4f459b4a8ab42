"""The analogue half of an emulated potentiostat: control, compliance, ranges, noise, accuracy.

It holds a set point on the cell's terminals, within what its output stage can deliver, and reads
them through ranges of finite resolution. Noise and accuracy come from a generator of its own and
never touch the cell.
"""

from __future__ import annotations

import cmath
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from cellbench_sim.emulators.profiles import Profile, Range
from cellbench_sim.emulators.refusal import Refusal
from cellbench_sim.leads import Cell

GALVANOSTAT = 6
OK, OVERLOAD, UNDERLOAD = 0, 2, 4
#: A range can be read this far beyond its nominal full scale; below the other it is too coarse.
_HEADROOM, _COARSE = 1.25, 0.01
#: Gain error of an instrument, one standard deviation, and scatter of one impedance point.
_GAIN_ERROR, _POINT_SCATTER = 5e-4, 7e-4
#: Lag of the impedance channel at the end of its band, in rad; averaging over a point's periods.
_PHASE_LAG, _EIS_AVERAGING = math.radians(0.3), 0.1


@dataclass(slots=True)
class Reading:
    """A measured value, its status and the range that measured it.

    Attributes:
        metadata: The tokens that follow the value in a package.
    """

    value: float
    status: int
    range_index: int
    metadata: str


@lru_cache
def _metadata(status: int, range_index: int) -> str:
    return f",1{status:X},2{range_index:02X}"


@dataclass(frozen=True)
class Scale:
    """A range as its converter has it.

    Attributes:
        index: The one that metadata show.
        full_scale: Nominal; what lies within ``lowest`` and ``highest`` can be read.
        step: The resolution.
        noise: Standard deviation of one reading.
    """

    index: int
    full_scale: float
    lowest: float
    highest: float
    step: float
    noise: float

    def overloaded(self, value: float) -> bool:
        """Whether a value lies beyond what can be read."""
        return value > self.highest or value < self.lowest

    def converted(self, value: float) -> float:
        """Return what the converter makes of a value."""
        if value > self.highest:
            value = self.highest
        elif value < self.lowest:
            value = self.lowest
        return round(value / self.step) * self.step


class Ranges:
    """The ranges of one quantity: one fixed, or a window in which the instrument chooses."""

    def __init__(self, ranges: Sequence[Scale]) -> None:
        self._all = sorted(ranges, key=lambda entry: entry.full_scale)
        self._full_scales = [entry.full_scale for entry in self._all]
        self.reset()

    def reset(self) -> None:
        """Fix the largest range."""
        self._low = self._high = len(self._all) - 1

    def fix(self, expected: float) -> None:
        """Use the smallest range that covers ``expected``, or the largest one."""
        self._low = self._high = self._covering(expected)

    def auto(self, smallest: float, largest: float) -> None:
        """Choose for each reading among the ranges that cover ``smallest`` to ``largest``."""
        self._low, self._high = self._covering(smallest), self._covering(largest)

    def choose(self, magnitude: float) -> Scale:
        """Return the range in which ``magnitude`` would be read."""
        index = bisect_left(self._full_scales, magnitude, self._low, self._high)
        return self._all[index]

    def is_coarse(self, used: Scale, magnitude: float) -> bool:
        """Whether a range was fixed and a smaller one would have read ``magnitude`` better."""
        fixed = self._low == self._high > 0
        return fixed and magnitude < _COARSE * used.full_scale

    @property
    def largest_chosen(self) -> float:
        """Full scale of the largest range that may be used now."""
        return self._full_scales[self._high]

    def _covering(self, magnitude: float) -> int:
        # A decimal literal may land one ulp above the range that it names.
        at = bisect_left(self._full_scales, abs(magnitude) * (1 - 1e-9))
        return min(at, len(self._all) - 1)


class FrontEnd:
    """Output stage and converters of one potentiostat.

    Args:
        cell: What its leads are clipped to.
        profile: What the instrument can do.
        normals: Standard normal numbers for its noise.
    """

    def __init__(self, cell: Cell, profile: Profile, normals: Iterator[float]) -> None:
        self.profile = profile
        self._cell = cell
        self._normals = normals
        self._gain_error = 1.0 + next(normals) * _GAIN_ERROR
        self.currents, self.potentials = Ranges(_currents(profile)), Ranges(_potentials(profile))
        self.cell_is_on = False
        self._enter_mode(0)
        self.reset()

    def reset(self) -> None:
        """Forget all settings, as at the start of a script; the cell's switch stays as it is."""
        self._lowest_V, self._highest_V = self.profile.potential_min_V, self.profile.potential_max_V
        self.currents.reset()
        self.potentials.reset()
        if not self.cell_is_on:
            self._enter_mode(0)
            self._set_point, self._limited = 0.0, False

    def _enter_mode(self, mode: int) -> None:
        #: Which mode it is in, and whether current is controlled in it.
        self.mode = mode
        self.galvanostat = mode == GALVANOSTAT

    def set_mode(self, mode: int) -> None:
        """Change what is controlled; this opens the cell.

        Raises:
            Refusal: The instrument has no such mode.
        """
        if mode not in self.profile.modes:
            raise Refusal(0x0021)
        self.switch_off()
        self._enter_mode(mode)
        self._set_point = 0.0
        self._lowest_V, self._highest_V = self.profile.potential_min_V, self.profile.potential_max_V

    def limit_potential(self, lowest_V: float, highest_V: float) -> None:
        """Refuse set points outside the two from now on."""
        self.check_potential(lowest_V)
        self.check_potential(highest_V)
        self._lowest_V, self._highest_V = lowest_V, highest_V

    def check_potential(self, potential_V: float) -> None:
        """Raise Refusal unless ``potential_V`` can be applied."""
        slack = 1e-9
        if not self._lowest_V - slack <= potential_V <= self._highest_V + slack:
            raise Refusal(0x000F)

    def check_current(self, current_A: float) -> None:
        """Raise Refusal unless ``current_A`` can be applied in the present range."""
        largest = min(self.profile.current_max_A, self.currents.largest_chosen * _HEADROOM)
        if not abs(current_A) <= largest * (1 + 1e-9):
            raise Refusal(0x4205)

    def set_potential(self, potential_V: float) -> None:
        """Set what a potentiostat holds."""
        self.check_potential(potential_V)
        self._set(potential_V)

    def set_current(self, current_A: float) -> None:
        """Set what a galvanostat drives."""
        self.check_current(current_A)
        self._set(current_A)

    def switch_on(self) -> None:
        """Close the cell's switch at the present set point."""
        self.cell_is_on = True
        self._drive()

    def switch_off(self) -> None:
        """Open the cell's switch."""
        self.cell_is_on = self._limited = False
        self._cell.open_circuit()

    def regulate(self) -> tuple[float, float]:
        """Return what the terminals show once the output stage has done what it can."""
        voltage_V, current_A = self._cell.terminals()
        if not self.cell_is_on or not self._must_change(voltage_V, current_A):
            return voltage_V, current_A
        if self._limited:
            self._drive()
        else:
            self._limit(voltage_V, current_A)
        return self._cell.terminals()

    def sample(self) -> tuple[Reading, Reading]:
        """Read voltage and current at the terminals."""
        voltage_V, current_A = self.regulate()
        return self._read_voltage(voltage_V), self._read_current(current_A)

    def impedance(self, frequency_Hz: float, amplitude: float) -> tuple[complex, Reading, Reading]:
        """Measure one impedance point, in ohm, at the present d.c. state.

        Args:
            frequency_Hz: Frequency of the excitation.
            amplitude: Its amplitude in V, or in A for a galvanostat.

        Returns:
            The impedance, and the readings whose metadata belong to it (voltage, current).
        """
        voltage_V, current_A = self.regulate()
        ideal = complex(self._cell.impedance(np.array([frequency_Hz]))[0])
        swing_V, swing_A = self._swing(amplitude, abs(ideal))
        voltage = self._read_voltage(abs(voltage_V) + swing_V)
        current = self._read_current(abs(current_A) + swing_A)
        if not (cmath.isfinite(ideal) and swing_V > 0 and swing_A > 0):
            return complex(math.nan, math.nan), voltage, current
        if self.galvanostat:
            noise = self.profile.potential_noise_V / swing_V
        else:
            used = self.currents.choose(abs(current_A) + swing_A)
            noise = used.noise / swing_A
        scatter = min(1.0, math.hypot(_POINT_SCATTER, _EIS_AVERAGING * noise))
        lag = -_PHASE_LAG * frequency_Hz / self.profile.frequency_max_Hz
        error = complex(next(self._normals) * scatter, next(self._normals) * scatter)
        measured = ideal * self._gain_error * cmath.exp(1j * lag) * (1.0 + error)
        return measured, voltage, current

    def _swing(self, amplitude: float, modulus_ohm: float) -> tuple[float, float]:
        """Return the amplitudes of voltage and current, in V and A."""
        if self.galvanostat:
            return amplitude * modulus_ohm, amplitude
        return amplitude, amplitude / modulus_ohm if modulus_ohm > 0 else 0.0

    def _set(self, set_point: float) -> None:
        self._set_point = set_point
        if self.cell_is_on:
            self._drive()

    def _drive(self) -> None:
        self._limited = False
        if self.galvanostat:
            self._cell.apply_current(self._set_point)
        else:
            self._cell.apply_voltage(self._set_point)

    def _must_change(self, voltage_V: float, current_A: float) -> bool:
        """Whether the output stage has to enter or to leave its limit."""
        if self.galvanostat:
            if self._limited:
                return abs(current_A) > abs(self._set_point)
            window = self.profile
            return voltage_V > window.potential_max_V or voltage_V < window.potential_min_V
        if self._limited:
            return (voltage_V - self._set_point) * current_A > 0
        return abs(current_A) > self.profile.current_max_A

    def _limit(self, voltage_V: float, current_A: float) -> None:
        self._limited = True
        if self.galvanostat:
            window = self.profile
            end_V = window.potential_max_V if voltage_V >= 0 else window.potential_min_V
            self._cell.apply_voltage(end_V)
        else:
            self._cell.apply_current(math.copysign(self.profile.current_max_A, current_A))

    def _read_voltage(self, voltage_V: float) -> Reading:
        used = self.potentials.choose(abs(voltage_V))
        status = OVERLOAD if self._limited or used.overloaded(voltage_V) else OK
        measured = used.converted(voltage_V + next(self._normals) * used.noise)
        return Reading(measured, status, used.index, _metadata(status, used.index))

    def _read_current(self, current_A: float) -> Reading:
        magnitude = abs(current_A)
        used = self.currents.choose(abs(self._set_point) if self.galvanostat else magnitude)
        measured = used.converted(current_A + next(self._normals) * used.noise)
        status, index = OK, used.index
        if self._limited or used.overloaded(current_A):
            status = OVERLOAD
        if self.galvanostat:
            index += self.profile.galvanostat_offset
        elif status == OK and self.currents.is_coarse(used, magnitude):
            status = UNDERLOAD
        return Reading(measured, status, index, _metadata(status, index))


def _scale(entry: Range, profile: Profile, noise: float) -> Scale:
    end = _HEADROOM * entry.full_scale
    step = 2 * _HEADROOM / 2**profile.converter_bits * entry.full_scale
    return Scale(entry.index, entry.full_scale, -end, end, step, noise)


def _currents(profile: Profile) -> list[Scale]:
    return [
        _scale(entry, profile, profile.current_noise * entry.full_scale)
        for entry in profile.current_ranges
    ]


def _potentials(profile: Profile) -> list[Scale]:
    """Return the ranges of the voltage; the largest covers the window of the output stage."""
    largest = max(entry.full_scale for entry in profile.potential_ranges)
    lowest_V, highest_V = profile.potential_min_V, profile.potential_max_V
    step_V = (highest_V - lowest_V) / 2**profile.converter_bits
    scales = [
        _scale(entry, profile, max(0.1, entry.full_scale / largest) * profile.potential_noise_V)
        for entry in profile.potential_ranges
    ]
    return [
        replace(scale, lowest=lowest_V, highest=highest_V, step=step_V)
        if scale.full_scale == largest
        else scale
        for scale in scales
    ]
