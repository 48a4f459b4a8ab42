"""A depressed arc (resistance beside a constant-phase element), the same in time and in frequency."""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.relaxation import RelaxationTimes
from cellbench_sim.physics.state import Stateful

# A pair is in its final state after this many of its time constants: exp(-36) is one ulp.
_SETTLED_AFTER = 36.0
# An arc whose pairs all carry the current within this fraction follows slow changes as a resistance.
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
        self._decays_for_s = 0.0
        self._decays_at_s = 0.0

    def response(self, duration_s: float) -> tuple[float, float]:
        """Return voltage and resistance (V, Ohm) that describe the arc after a step.

        Under a steady current I the voltage at the end is `voltage + resistance * I`, exactly. A settled
        arc is a plain resistance.
        """
        if self._settled_A is not None:
            return 0.0, self.resistance_Ohm
        kept = 0.0
        carried_A = 0.0
        for share, decay, current_A in zip(
            self._times.shares, self._decays_over(duration_s), self._currents_A, strict=False
        ):
            kept += share * decay
            carried_A += share * decay * current_A
        return self.resistance_Ohm * carried_A, self.resistance_Ohm * (1.0 - kept)

    def relax(self, duration_s: float, current_A: float) -> None:
        """Advance the state by a step under a steady current."""
        if self._settled_A is not None:
            self._settled_A = current_A
            return
        decays = self._decays_over(duration_s)
        currents = self._currents_A
        away = 0.0
        for pair, decay in enumerate(decays):
            difference = (currents[pair] - current_A) * decay
            currents[pair] = current_A + difference
            away = max(away, abs(difference))
        currents[len(decays) :] = [current_A] * (len(currents) - len(decays))
        if away <= _SETTLED_WITHIN * abs(current_A) + _SETTLED_WITHIN_A:
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
        result: NDArray[np.complex128] = self.resistance_Ohm * (
            parts @ shares - 1j * ((turned * parts) @ shares)
        )
        return result

    def _decays_over(self, duration_s: float) -> list[float]:
        """Decay factors of the slow pairs; those left out have settled within the step."""
        if duration_s == self._decays_for_s and self.time_constant_s == self._decays_at_s:
            return self._decays
        decays = []
        for ratio in self._times.ratios:
            exponent = duration_s / (self.time_constant_s * ratio)
            if exponent > _SETTLED_AFTER:
                break
            decays.append(math.exp(-exponent))
        self._decays, self._decays_for_s = decays, duration_s
        self._decays_at_s = self.time_constant_s
        return decays
