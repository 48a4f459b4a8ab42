"""The chamber: air that follows its set point with a lag, or wanders with the room."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from cellbench_sim.physics.commanded import Commanded
from cellbench_sim.randomness import random_stream

_LOOP_PER_S = 1.0 / 60.0
_LOOP_DAMPING = 0.75
_STEADY_K = 1e-3
_STEADY_K_PER_S = 1e-5
_DAY_S = 86_400.0
_AIR_CONDITIONING_S = 5_400.0
_FULL_OUTPUT_K = 60.0
_FULL_OUTPUT_K_PER_S = 0.1


@dataclass(frozen=True)
class ChamberSettings:
    """Where a chamber starts and how it answers; assumed, but for the room's 19 +- 6 C."""

    set_point_K: float | None = 298.15
    rate_limit_K_per_min: float = 3.0
    ambient_mean_K: float = 292.15
    daily_swing_K: float = 5.0
    fast_swing_K: float = 1.0
    air_lag_s: float = 1800.0
    stack_lag_s: float = 300.0


class Chamber(Commanded):
    """Air and stack temperature (K). A set point of None lets the air follow the room."""

    def __init__(self, settings: ChamberSettings, seed: int, settle: Callable[[], None]) -> None:
        super().__init__(settle)
        self._settings = settings
        stream = random_stream(seed, "room temperature")
        self._daily_phase = stream.uniform(0.0, 2.0 * math.pi)
        self._fast_phase = stream.uniform(0.0, 2.0 * math.pi)
        self._set_point_K = settings.set_point_K
        self._rate_limit_K_per_min = settings.rate_limit_K_per_min
        self._time_s = 0.0
        start_K = self.ambient_K if settings.set_point_K is None else settings.set_point_K
        self.air_temperature_K = start_K
        self.stack_temperature_K = start_K
        self.working_set_point_K = start_K
        self._speed_K_per_s = 0.0

    @property
    def ambient_K(self) -> float:
        """Temperature of the room, which wanders with the day and with its air conditioning."""
        s, time_s = self._settings, self._time_s
        daily = s.daily_swing_K * math.sin(2.0 * math.pi * time_s / _DAY_S + self._daily_phase)
        fast = s.fast_swing_K * math.sin(
            2.0 * math.pi * time_s / _AIR_CONDITIONING_S + self._fast_phase
        )
        return s.ambient_mean_K + daily + fast

    @property
    def set_point_K(self) -> float | None:
        """Air temperature asked for; None for the room's own."""
        return self._set_point_K

    @set_point_K.setter
    def set_point_K(self, temperature_K: float | None) -> None:
        self._settle()
        self._set_point_K = temperature_K
        self.working_set_point_K = self.air_temperature_K

    @property
    def rate_limit_K_per_min(self) -> float:
        """How fast the working set point may move."""
        return self._rate_limit_K_per_min

    @rate_limit_K_per_min.setter
    def rate_limit_K_per_min(self, rate_K_per_min: float) -> None:
        self._settle()
        self._rate_limit_K_per_min = rate_K_per_min

    @property
    def output_fraction(self) -> float:
        """Heater output from 0 to 1, negative for cooling."""
        if self._set_point_K is None:
            return 0.0
        steady = (self.air_temperature_K - self.ambient_K) / _FULL_OUTPUT_K
        return max(-1.0, min(1.0, steady + self._speed_K_per_s / _FULL_OUTPUT_K_PER_S))

    @property
    def changing(self) -> bool:
        """Whether a set point is still being approached, by the air or by the stack."""
        return self._set_point_K is not None and not (
            self.stack_temperature_K == self.air_temperature_K == self._set_point_K
        )

    def advance(self, time_s: float, duration_s: float) -> None:
        """Advance air and stack by a step that ends at `time_s`."""
        self._time_s = time_s
        if self._set_point_K is None:
            self.air_temperature_K += (self.ambient_K - self.air_temperature_K) * -math.expm1(
                -duration_s / self._settings.air_lag_s
            )
        elif not self.changing:
            return
        else:
            self._approach(self._set_point_K, duration_s)
        self._warm_stack(duration_s)

    def _approach(self, set_point_K: float, duration_s: float) -> None:
        allowed_K = self._rate_limit_K_per_min / 60.0 * duration_s
        missing_K = set_point_K - self.working_set_point_K
        self.working_set_point_K += max(-allowed_K, min(allowed_K, missing_K))
        pull = _LOOP_PER_S**2 * (self.working_set_point_K - self.air_temperature_K)
        damping = 1.0 + 2.0 * _LOOP_DAMPING * _LOOP_PER_S * duration_s
        self._speed_K_per_s = (self._speed_K_per_s + pull * duration_s) / damping
        self.air_temperature_K += self._speed_K_per_s * duration_s
        near = abs(set_point_K - self.air_temperature_K) < _STEADY_K
        if near and abs(self._speed_K_per_s) < _STEADY_K_PER_S:
            self.air_temperature_K = self.working_set_point_K = set_point_K
            self._speed_K_per_s = 0.0

    def _warm_stack(self, duration_s: float) -> None:
        lead_K = self.air_temperature_K - self.stack_temperature_K
        self.stack_temperature_K += lead_K * -math.expm1(-duration_s / self._settings.stack_lag_s)
        if self._set_point_K is not None and abs(lead_K) < _STEADY_K:
            self.stack_temperature_K = self.air_temperature_K
