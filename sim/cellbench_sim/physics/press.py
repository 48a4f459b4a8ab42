"""The press: a hydraulic ram with its on-board force loop; locked, it answers to the stack."""

import math
from collections.abc import Callable
from typing import Literal

from cellbench_sim.physics.commanded import Commanded
from cellbench_sim.physics.fixture import Fixture

# The closed loop is of second order: it lags a ramp by 0.4 s of it and overshoots at its end.
_LOOP_PER_S = 3.0
_LOOP_DAMPING = 0.6
_ARRIVED_N = 0.2
_ARRIVED_FRACTION = 1e-4
#: A trip takes the largest force away within this time.
_RELEASE_S = 2.5

Mode = Literal["free", "ramping", "holding", "locked"]


class Press(Commanded):
    """Force in N, rates in N/s. Commands act at the current time of the world.

    `holding` has the on-board loop keep the force within its deadband; `locked` is a closed valve
    (or a screw): the force leaks away and follows the thickness of the stack; `free` is a lifted
    ram.
    """

    def __init__(self, fixture: Fixture, settle: Callable[[], None]) -> None:
        super().__init__(settle)
        self._fixture = fixture
        self._mode: Mode = "free"
        self._target_N = 0.0
        self._rate_N_per_s = 0.0
        self._speed_N_per_s = 0.0
        self._thickness_m = 0.0
        self._max_force_N = fixture.max_force_N
        self.force_N = 0.0
        self.setpoint_N = 0.0
        self.over_force = False

    def ramp_to(self, force_N: float, rate_N_per_s: float) -> None:
        """Ramp the force and keep it.

        Raises:
            ValueError: if the force is negative or the rate not positive.
        """
        if force_N < 0.0 or rate_N_per_s <= 0.0:
            raise ValueError(f"cannot ramp to {force_N} N at {rate_N_per_s} N/s")
        self._settle()
        self._start_ramp(force_N, rate_N_per_s)

    def hold(self) -> None:
        """Keep the force as it is now."""
        self._settle()
        self._rest_at(self.force_N)

    def unload(self, rate_N_per_s: float) -> None:
        """Ramp to zero and lift off."""
        self.ramp_to(0.0, rate_N_per_s)

    def stop(self) -> None:
        """Close the valve: no motion and no loop, only what leaks."""
        self._settle()
        self._rest_at(self.force_N)
        self._mode = "locked" if self.force_N > 0.0 else "free"

    def clear_over_force(self) -> None:
        """Release the latch of the over-force trip."""
        self._settle()
        self.over_force = False

    @property
    def least_force_N(self) -> float:
        """Smallest force other than none that the drive can set."""
        return self._fixture.least_force_N

    @property
    def max_force_N(self) -> float:
        """Force above which the press trips: it latches `over_force` and releases."""
        return self._max_force_N

    @max_force_N.setter
    def max_force_N(self, force_N: float) -> None:
        self._settle()
        self._max_force_N = force_N

    @property
    def moving(self) -> bool:
        """Whether a ramp is under way or has not settled."""
        return self._mode == "ramping"

    @property
    def at_target(self) -> bool:
        """Whether the ramp is over and the force within the deadband of its target."""
        off_N = abs(self.force_N - self._target_N)
        return not self.moving and off_N <= self._fixture.deadband_N

    @property
    def pressure_bar(self) -> float:
        """Line pressure behind the ram."""
        return self.force_N / self._fixture.ram_area_m2 / 1e5

    @property
    def position_m(self) -> float:
        """Advance of the ram since it first touched a fresh stack."""
        return self.force_N / self._fixture.stiffness_N_per_m - self._thickness_m

    def advance(self, duration_s: float, stack_growth_m: float, temperature_K: float) -> None:
        """Advance by a step; `stack_growth_m` is the cell's thickness over that of a fresh one."""
        expansion_m = self._fixture.thermal_expansion_m_per_K * temperature_K
        grown_m = stack_growth_m + expansion_m - self._thickness_m
        self._thickness_m += grown_m
        if self._mode == "ramping":
            self._follow_ramp(duration_s)
        elif self._mode != "free":
            kept = 1.0 - self._fixture.leak_per_s * duration_s
            force_N = self.force_N * kept + self._fixture.stiffness_N_per_m * grown_m
            self.force_N = max(0.0, force_N)
            if self._mode == "holding":
                self._pump()
        if self.force_N > self._max_force_N and not self.over_force:
            self.over_force = True
            self._start_ramp(0.0, self._fixture.max_force_N / _RELEASE_S)

    def _start_ramp(self, force_N: float, rate_N_per_s: float) -> None:
        self._target_N, self._rate_N_per_s = force_N, rate_N_per_s
        self.setpoint_N = self.force_N
        self._speed_N_per_s = 0.0
        self._mode = "ramping"

    def _rest_at(self, force_N: float) -> None:
        self._target_N = self.setpoint_N = force_N
        self._speed_N_per_s = 0.0
        if force_N <= 0.0:
            self._mode = "free"
        else:
            self._mode = "holding" if self._fixture.servo else "locked"

    def _follow_ramp(self, duration_s: float) -> None:
        change = math.copysign(
            min(self._rate_N_per_s * duration_s, abs(self._target_N - self.setpoint_N)),
            self._target_N - self.setpoint_N,
        )
        self.setpoint_N += change
        pull = _LOOP_PER_S**2 * (self.setpoint_N - self.force_N)
        damping = 1.0 + 2.0 * _LOOP_DAMPING * _LOOP_PER_S * duration_s
        self._speed_N_per_s = (self._speed_N_per_s + pull * duration_s) / damping
        self.force_N = max(0.0, self.force_N + self._speed_N_per_s * duration_s)
        if self.setpoint_N == self._target_N and self._arrived():
            self._rest_at(self._target_N)
            self.force_N = self._target_N

    def _arrived(self) -> bool:
        near_N = _ARRIVED_N + _ARRIVED_FRACTION * self._target_N
        at_rest = abs(self._speed_N_per_s) < near_N
        return abs(self.force_N - self._target_N) < near_N and at_rest

    def _pump(self) -> None:
        fixture = self._fixture
        error_N = self.setpoint_N - self.force_N
        if abs(error_N) > fixture.deadband_N:
            self.force_N += math.copysign(fixture.stroke_N, error_N)
