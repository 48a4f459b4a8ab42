"""The limits that hold at all times, watched on every raw reading."""

from __future__ import annotations

import math

from cellbench.engine.trips import SafeState, Trip
from cellbench.protocol.program import Limits

#: Unreadable rows running after which a channel counts as blind.
BLIND_ROWS = 3
_MPA = 1e6
_ZERO_CELSIUS_K = 273.15


class LimitWatch:
    """Raises `Trip` on the first reading past a limit.

    The lower pressure limit holds from the first settled pressure until the press is released.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pressed = False
        self._blind_rows = 0

    def electrical(self, voltage_V: float, current_A: float) -> None:
        """Check one row of a channel."""
        limits = self.limits
        if (
            limits.voltage_min_V <= voltage_V <= limits.voltage_max_V
            and -limits.current_max_A <= current_A <= limits.current_max_A
        ):
            self._blind_rows = 0
            return
        if math.isnan(voltage_V) or math.isnan(current_A):
            self._blind()
        elif abs(current_A) > limits.current_max_A:
            raise Trip(
                "current",
                f"{current_A * 1e3:.4g} mA, beyond its limit of "
                f"{limits.current_max_A * 1e3:.4g} mA",
            )
        else:
            raise Trip(
                "voltage",
                f"{voltage_V:.4g} V, outside its limits of {limits.voltage_min_V:g} V to "
                f"{limits.voltage_max_V:g} V",
            )

    def _blind(self) -> None:
        self._blind_rows += 1
        if self._blind_rows >= BLIND_ROWS:
            raise Trip("voltage", f"out of the instrument's range for {BLIND_ROWS} readings")

    def pressure(self, pressure_Pa: float) -> None:
        """Check a stack pressure."""
        highest, lowest = self.limits.pressure_max_Pa, self.limits.pressure_min_Pa
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

    def temperature(self, temperature_K: float) -> None:
        """Check a temperature."""
        highest, lowest = self.limits.temperature_max_K, self.limits.temperature_min_K
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
