"""An indium-lithium counter electrode: a plateau, and a finite stock of both metals.

y = Li/In. Between depletion and InLi two phases hold the potential at 0.62 V; below ~1 at% Li it
rises steeply, beyond InLi (50 at%) it falls towards the next plateau.
"""

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.faced import Faced
from cellbench_sim.physics.tabulated import Curve
from cellbench_sim.presets.electrodes import IndiumElectrode

_LEAST_RATIO, _LARGEST_RATIO = -0.01, 1.2
_DEPLETION_WIDTH_PER_RATIO = 0.3
_DEPLETION_V = 0.5
_OVERFULL_AT, _OVERFULL_WIDTH = 1.02, 0.006
_BEYOND_V = -400.0


class Indium(Faced):
    """One indium-lithium electrode; delithiation is oxidation."""

    curved = True

    def __init__(self, parameters: IndiumElectrode, area_m2: float) -> None:
        self._p = p = parameters
        super().__init__(p.interface, area_m2)
        self._capacity_C = p.indium_C_per_m2 * area_m2
        self._curve = _alloy_curve(p)
        self._ahead = (0.0, 0.0)
        self.lithium_C = p.lithium_C_per_m2 * area_m2

    @property
    def ratio(self) -> float:
        """Lithium per indium."""
        return self.lithium_C / self._capacity_C

    @property
    def potential_V(self) -> float:
        """Open-circuit potential."""
        return self._curve(self.ratio)[0]

    @property
    def thickness_m(self) -> float:
        """Thickness of the alloy over that of bare indium."""
        return self._p.thickness_m_per_C_per_m2 * self.lithium_C / self.area_m2

    def prepare(self, duration_s: float, current_A: float) -> tuple[float, float]:
        """Look at the end of a step; return offset and resistance (V, Ohm) of the interface."""
        self._ahead = self.ratio, -duration_s / self._capacity_C
        return super().prepare(duration_s, current_A)

    def potential(self, current_A: float) -> tuple[float, float]:
        """Return the alloy's potential and its slope (V, Ohm) at the prepared end."""
        ratio, per_ampere = self._ahead
        potential_V, per_ratio_V = self._curve(ratio + per_ampere * current_A)
        return potential_V, per_ratio_V * per_ampere

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Take lithium out of the alloy, or put it in."""
        super().advance(duration_s, current_A_per_m2)
        self.lithium_C -= current_A_per_m2 * self.area_m2 * duration_s

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the interface and what the alloy's stock adds to it (Ohm)."""
        per_charge = -self._curve(self.ratio)[1] / self._capacity_C
        result: NDArray[np.complex128] = super().impedance(omega) + per_charge / (1j * omega)
        return result


def _alloy_curve(p: IndiumElectrode) -> Curve:
    width = _DEPLETION_WIDTH_PER_RATIO * p.depleted_ratio

    def potential(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
        depleted = _DEPLETION_V * np.exp(-ratio / width)
        overfull = 0.5 * (1.0 + np.tanh((ratio - _OVERFULL_AT) / (2.0 * _OVERFULL_WIDTH)))
        result: NDArray[np.float64] = (
            p.plateau_V + depleted - (p.plateau_V - p.overfull_V) * overfull
        )
        return result

    return Curve(potential, _LEAST_RATIO, _LARGEST_RATIO, _BEYOND_V)
