"""The limits that hold at all times, watched on every raw reading."""

from __future__ import annotations

import math
from collections import deque

from cellbench.engine.trips import SafeState, Trip
from cellbench.instruments.readings import Flag
from cellbench.protocol.program import Limits

#: Unreadable or saturated rows running after which a channel counts as blind.
BLIND_ROWS = 3
#: Rows running that repeat an old value, after which it counts as none.
STALE_ROWS = 10
#: A temperature above its set point by so much, which nobody has changed for so long, and rising
#: faster than this over the last minute, is no chamber's doing.
RUNAWAY_ABOVE_K, RUNAWAY_STEADY_S, RUNAWAY_K_PER_S = 3.0, 300.0, 1 / 60
RUNAWAY_WINDOW_S = 60.0
#: As a plain number: an operation on a member of `Flag` costs more than the rest of a check.
_SATURATED, _STALE = int(Flag.SATURATED), int(Flag.STALE)
#: A set point at its limit is measured a little beyond it: the instruments' accuracy.
CURRENT_TOLERANCE = 0.02
VOLTAGE_TOLERANCE_V = 5e-3
_MPA = 1e6
_ZERO_CELSIUS_K = 273.15


class LimitWatch:
    """Raises `Trip` on the first reading past a limit; what cannot be read is not within limits.

    The lower pressure limit holds from the first settled pressure until the press is released.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pressed = False
        self._voltage_min_V = limits.voltage_min_V - VOLTAGE_TOLERANCE_V
        self._voltage_max_V = limits.voltage_max_V + VOLTAGE_TOLERANCE_V
        self._current_max_A = limits.current_max_A * (1 + CURRENT_TOLERANCE)
        self._blind_rows = self._stale_rows = 0
        self._set_point_K, self._set_since_s = math.nan, -math.inf
        self._temperatures: deque[tuple[float, float]] = deque()

    def electrical(self, voltage_V: float, current_A: float, flags: int = 0) -> None:
        """Check one row of a channel."""
        if (
            self._voltage_min_V <= voltage_V <= self._voltage_max_V
            and -self._current_max_A <= current_A <= self._current_max_A
            and not flags & (_SATURATED | _STALE)
        ):
            self._blind_rows = self._stale_rows = 0
            return
        limits = self.limits
        if abs(current_A) > self._current_max_A:
            raise Trip(
                "current",
                f"{current_A * 1e3:.4g} mA, beyond its limit of "
                f"{limits.current_max_A * 1e3:.4g} mA",
            )
        if voltage_V < self._voltage_min_V or voltage_V > self._voltage_max_V:
            raise Trip(
                "voltage",
                f"{voltage_V:.4g} V, outside its limits of {limits.voltage_min_V:g} V to "
                f"{limits.voltage_max_V:g} V",
            )
        if flags & _STALE and not flags & _SATURATED:
            self._stale()
        else:
            self._blind()

    def _stale(self) -> None:
        self._stale_rows += 1
        if self._stale_rows >= STALE_ROWS:
            raise Trip("cell", f"the instrument repeats an old reading, {STALE_ROWS} times running")

    def _blind(self) -> None:
        self._blind_rows += 1
        if self._blind_rows >= BLIND_ROWS:
            raise Trip("cell", f"out of the instrument's range for {BLIND_ROWS} readings running")

    def is_in_force(self, quantity: str) -> bool:
        """Whether a limit holds now on ``stack_pressure_Pa`` or ``temperature_K``."""
        limits = self.limits
        match quantity:
            case "stack_pressure_Pa":
                lowest_Pa = limits.pressure_min_Pa if self.pressed else None
                return limits.pressure_max_Pa is not None or lowest_Pa is not None
            case "temperature_K":
                return limits.temperature_max_K is not None or limits.temperature_min_K is not None
            case _:
                return False

    def pressure(self, pressure_Pa: float, flags: int = 0) -> None:
        """Check a stack pressure."""
        highest, lowest = self.limits.pressure_max_Pa, self.limits.pressure_min_Pa
        if flags & _SATURATED or math.isnan(pressure_Pa):
            raise Trip("stack pressure", "out of the gauge's range", SafeState.RELEASED)
        if highest is not None and pressure_Pa > highest:
            raise Trip(
                "stack pressure",
                f"{pressure_Pa / _MPA:.3g} MPa, above its limit of {highest / _MPA:.3g} MPa",
                SafeState.RELEASED,
            )
        if self.pressed and lowest is not None and pressure_Pa < lowest:
            raise Trip(
                "stack pressure",
                f"{pressure_Pa / _MPA:.3g} MPa, below its limit of {lowest / _MPA:.3g} MPa "
                "(press leaking?)",
            )

    def runaway(self, time_s: float, temperature_K: float, set_point_K: float) -> None:
        """Check that a temperature does not rise away from its set point; none is nan."""
        if set_point_K != self._set_point_K:
            self._set_point_K, self._set_since_s = set_point_K, time_s
        past = self._temperatures
        past.append((time_s, temperature_K))
        while len(past) > 1 and past[1][0] <= time_s - RUNAWAY_WINDOW_S:
            past.popleft()
        before_s, before_K = past[0]
        if (
            temperature_K < set_point_K + RUNAWAY_ABOVE_K
            or math.isnan(set_point_K)
            or time_s - self._set_since_s < RUNAWAY_STEADY_S
            or time_s - before_s < RUNAWAY_WINDOW_S
        ):
            return
        rate_K_per_s = (temperature_K - before_K) / (time_s - before_s)
        if rate_K_per_s > RUNAWAY_K_PER_S:
            raise Trip(
                "temperature",
                f"{temperature_K - _ZERO_CELSIUS_K:.1f} °C and rising by "
                f"{rate_K_per_s * 60:.2g} K/min, away from its set point of "
                f"{set_point_K - _ZERO_CELSIUS_K:.1f} °C",
            )

    def temperature(self, temperature_K: float, flags: int = 0) -> None:
        """Check a temperature."""
        highest, lowest = self.limits.temperature_max_K, self.limits.temperature_min_K
        if math.isnan(temperature_K):
            raise Trip("temperature", "cannot be read (sensor broken?)")
        if flags & _SATURATED:
            raise Trip("temperature", "out of the thermometer's range")
        if (highest is not None and temperature_K > highest) or (
            lowest is not None and temperature_K < lowest
        ):
            bounds = " to ".join(
                "-" if bound is None else f"{bound - _ZERO_CELSIUS_K:.1f} °C"
                for bound in (lowest, highest)
            )
            raise Trip(
                "temperature",
                f"{temperature_K - _ZERO_CELSIUS_K:.1f} °C, outside its limits of {bounds}",
            )
