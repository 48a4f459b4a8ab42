"""The d.c. resistance that a study's polarisation shows and its impedance does not: fitted, not emergent."""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.state import Stateful
from cellbench_sim.presets.schema import AddedResistance


class AddedPolarisation(Stateful):
    """A resistance that comes on with current density, V = R (1 - exp(-(i/i_on)^2)) i, after a short lag.

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
        return self._resistance_at(self._lagged_A)

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

    def response(self, duration_s: float, expected_A: float) -> tuple[float, float]:
        """Return voltage and resistance (V, Ohm) that describe it after a step, as an arc does.

        `expected_A` is the current that the step is expected to carry: it settles how far the resistance
        has come on, so that the rest stays linear in the current.
        """
        if not self._full_Ohm:
            return 0.0, 0.0
        kept = math.exp(-duration_s / self._lag_s)
        lagged_A = expected_A + (self._lagged_A - expected_A) * kept
        resistance_Ohm = self._resistance_at(lagged_A)
        return resistance_Ohm * kept * self._lagged_A, resistance_Ohm * (1.0 - kept)

    def relax(self, duration_s: float, current_A: float) -> None:
        """Advance the lagged current by a step under a steady current."""
        kept = math.exp(-duration_s / self._lag_s)
        self._lagged_A = current_A + (self._lagged_A - current_A) * kept

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) about the present current, at omega in rad/s."""
        square = (self._lagged_A / self._onset_A) ** 2
        slope_Ohm = self._full_Ohm * (1.0 + (2.0 * square - 1.0) * math.exp(-square))
        return slope_Ohm / (1.0 + 1j * omega * self._lag_s)

    def _resistance_at(self, lagged_A: float) -> float:
        return self._full_Ohm * -math.expm1(-((lagged_A / self._onset_A) ** 2))
