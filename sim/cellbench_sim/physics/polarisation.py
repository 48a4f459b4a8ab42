"""The d.c. resistance that polarisation shows and impedance does not: fitted, not emergent."""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.state import Stateful
from cellbench_sim.presets.schema import AddedResistance


class AddedPolarisation(Stateful):
    """A resistance that comes on with current: V = R (1 - exp(-(i/i_on)^2)) i, after a lag.

    At zero current its slope is zero: spectra at open circuit do not see it, as in the study.
    """

    def __init__(self, parameters: AddedResistance | None, area_m2: float) -> None:
        self._parameters = parameters
        self._area_m2 = area_m2
        self._lag_s = parameters.lag_s if parameters else 1.0
        self._onset_A = parameters.onset_A_per_m2 * area_m2 if parameters else 1.0
        self._full_Ohm = 0.0
        self._lagged_A = 0.0

    @property
    def resistance_Ohm(self) -> float:
        """Resistance at the present (lagged) current."""
        return self._full_Ohm * -math.expm1(-((self._lagged_A / self._onset_A) ** 2))

    def refresh(self, pressure_Pa: float) -> None:
        """Take up the present stack pressure."""
        p = self._parameters
        if p is None:
            return
        relative = max(pressure_Pa, 0.1 * p.knee_Pa) / p.knee_Pa
        if relative >= 1.0:
            areal = p.base_Ohm_m2 + p.rise_Ohm_m2 * (relative - 1.0) ** p.rise_exponent
        else:
            areal = p.base_Ohm_m2 * relative**-p.fall_exponent
        self._full_Ohm = areal / self._area_m2

    def drop(self, duration_s: float, current_A: float) -> tuple[float, float]:
        """Return voltage and its slope (V, Ohm) after a step under a steady current.

        The slope is that against the current; it is nowhere negative.
        """
        if not self._full_Ohm:
            return 0.0, 0.0
        kept = math.exp(-duration_s / self._lag_s)
        lagged_A = current_A + (self._lagged_A - current_A) * kept
        square = (lagged_A / self._onset_A) ** 2
        gone = math.exp(-square)
        slope_Ohm = self._full_Ohm * (1.0 + (2.0 * square - 1.0) * gone)
        return self._full_Ohm * (1.0 - gone) * lagged_A, slope_Ohm * (1.0 - kept)

    def relax(self, duration_s: float, current_A: float) -> None:
        """Advance the lagged current by a step under a steady current."""
        kept = math.exp(-duration_s / self._lag_s)
        self._lagged_A = current_A + (self._lagged_A - current_A) * kept

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) about the present current, at omega in rad/s."""
        slope_Ohm = self.drop(math.inf, self._lagged_A)[1]
        return (slope_Ohm / (1.0 + 1j * omega * self._lag_s)).astype(np.complex128, copy=False)
