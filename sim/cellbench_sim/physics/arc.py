"""A depressed arc, a resistance beside a constant-phase element, in time and in frequency."""

import math
from operator import mul

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.relaxation import RelaxationTimes
from cellbench_sim.physics.state import Stateful

# A pair is in its final state after this many of its time constants: exp(-36) is one ulp.
_SETTLED_AFTER = 36.0
# Once all pairs carry the current within this fraction, the arc follows as a resistance.
_SETTLED_WITHIN = 1e-6
_SETTLED_WITHIN_A = 1e-13


class Arc(Stateful):
    """A ladder of RC pairs in series; the state is the current through each pair's resistor.

    `resistance_Ohm` and `time_constant_s` may be set at any time: the currents stay, so the voltage
    follows a changing resistance at once.
    """

    def __init__(self, times: RelaxationTimes) -> None:
        self.resistance_Ohm = 1.0
        self.time_constant_s = 1.0
        self._times = times
        self._currents_A = [0.0] * len(times.ratios)
        self._settled_A: float | None = 0.0
        self._decays: list[float] = []
        self._kept_shares: list[float] = []
        self._decays_for_s = 0.0
        self._decays_at_s = 0.0

    def response(self, duration_s: float) -> tuple[float, float]:
        """Return voltage and resistance (V, Ohm) that describe the arc after a step.

        Under a steady current I the voltage at the end is `voltage + resistance * I`, exactly. A
        settled arc is a plain resistance.
        """
        if self._settled_A is not None:
            return 0.0, self.resistance_Ohm
        self._look_ahead(duration_s)
        carried_A = sum(map(mul, self._kept_shares, self._currents_A))
        return self.resistance_Ohm * carried_A, self.resistance_Ohm * (1.0 - sum(self._kept_shares))

    def relax(self, duration_s: float, current_A: float) -> None:
        """Advance the state by a step under a steady current."""
        if self._settled_A is not None:
            self._settled_A = current_A
            return
        self._look_ahead(duration_s)
        slow = [
            current_A + (pair_A - current_A) * decay
            for pair_A, decay in zip(self._currents_A, self._decays, strict=False)
        ]
        self._currents_A = slow + [current_A] * (len(self._currents_A) - len(slow))
        near_A = _SETTLED_WITHIN * abs(current_A) + _SETTLED_WITHIN_A
        if all(abs(pair_A - current_A) <= near_A for pair_A in slow):
            self._settled_A = current_A

    def disturb(self) -> None:
        """Tell the arc that the current is about to jump: its pairs matter again."""
        if self._settled_A is not None:
            self._currents_A = [self._settled_A] * len(self._times.ratios)
            self._settled_A = None

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the impedance (Ohm) at angular frequencies (rad/s, shape (n,))."""
        turned = omega[:, None] * (self.time_constant_s * self._times.ratio_array)
        parts = 1.0 / (1.0 + turned * turned)
        shares = self._times.share_array
        real, imaginary = parts @ shares, (turned * parts) @ shares
        return (self.resistance_Ohm * (real - 1j * imaginary)).astype(np.complex128, copy=False)

    def _look_ahead(self, duration_s: float) -> None:
        """Find what the slow pairs keep over a step; those left out have settled within it."""
        if duration_s == self._decays_for_s and self.time_constant_s == self._decays_at_s:
            return
        decays = []
        for ratio in self._times.ratios:
            exponent = duration_s / (self.time_constant_s * ratio)
            if exponent > _SETTLED_AFTER:
                break
            decays.append(math.exp(-exponent))
        self._decays = decays
        self._kept_shares = list(map(mul, decays, self._times.shares))
        self._decays_for_s, self._decays_at_s = duration_s, self.time_constant_s
