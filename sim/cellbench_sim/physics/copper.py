"""Copper that lithium is plated onto and stripped from, with the loss of each cycle entered.

Of what a plating leaves on the copper, the stripping that follows gets back one share; the rest is
dead. The share of each cycle is a parameter, not emergent. What leaks back and forth at open
circuit is no cycle: a plating counts once it has nucleated.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.faced import Faced
from cellbench_sim.presets.electrodes import CopperElectrode

#: The film of lithium may be overdrawn by this many times the charge that nucleates it.
_OVERDRAWN = 5.0
#: Within this many of them the end of the film is near.
_NEAR_END = 100.0


class Copper(Faced):
    """A copper electrode; its potential leaves that of lithium where the film ends."""

    curved = True
    plates = True

    def __init__(self, parameters: CopperElectrode, area_m2: float) -> None:
        super().__init__(parameters.interface, area_m2)
        self._p = parameters
        self._ahead = (0.0, 0.0)
        self.film_C_per_m2 = 0.0
        self.plated_C_per_m2 = 0.0
        self.dead_C_per_m2 = 0.0
        self.platings = 0
        self.unrest_per_s = 0.0
        self._fresh_C_per_m2 = 0.0

    @property
    def potential_V(self) -> float:
        """Open-circuit potential: that of lithium, or of bare copper."""
        return self._potential(self.film_C_per_m2)

    @property
    def thickness_m(self) -> float:
        """Lithium on the copper, live and dead."""
        charge = max(0.0, self.film_C_per_m2) + self.dead_C_per_m2
        return self._p.thickness_m_per_C_per_m2 * charge

    def prepare(self, duration_s: float, current_A: float) -> tuple[float, float]:
        """Look at the end of a step; return the linear part of the potential (V, Ohm)."""
        film = self.film_C_per_m2
        if current_A > 0.0:
            film -= self._dying_C_per_m2()
        self._ahead = film, -duration_s / self.area_m2
        return super().prepare(duration_s, current_A)

    def potential(self, current_A: float) -> tuple[float, float]:
        """Return the potential of film or copper, and its slope (V, Ohm)."""
        film, per_ampere = self._ahead
        potential_V = self._potential(film + per_ampere * current_A)
        return potential_V, -potential_V / self._p.nucleation_C_per_m2 * per_ampere

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Plate or strip; the turn to stripping shows what has died."""
        super().advance(duration_s, current_A_per_m2)
        passed = current_A_per_m2 * duration_s
        if passed > 0.0:
            self._turn_to_stripping()
            self.plated_C_per_m2 = 0.0
        else:
            self.plated_C_per_m2 -= passed
        self._fresh_C_per_m2 = max(0.0, self._fresh_C_per_m2 - passed)
        overdrawn = -_OVERDRAWN * self._p.nucleation_C_per_m2
        self.film_C_per_m2 = max(overdrawn, self.film_C_per_m2 - passed)
        self.unrest_per_s = self._unrest_per_s(abs(current_A_per_m2))

    def _unrest_per_s(self, current_A_per_m2: float) -> float:
        """No step beyond the end of the film; near it, seconds."""
        near_end = _NEAR_END * self._p.nucleation_C_per_m2
        left = abs(self.film_C_per_m2)
        if left < near_end:
            return 1.0 if current_A_per_m2 else 0.0
        return current_A_per_m2 / left

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the interface and the stock of the film (Ohm)."""
        stiffness = self.potential_V / (self._p.nucleation_C_per_m2 * self.area_m2)
        result: NDArray[np.complex128] = super().impedance(omega) + stiffness / (1j * omega)
        return result

    def _turn_to_stripping(self) -> None:
        if self._has_plated:
            dying = self._dying_C_per_m2()
            self.film_C_per_m2 -= dying
            self.dead_C_per_m2 += dying
            self._fresh_C_per_m2 = 0.0
            self.platings += 1

    @property
    def _has_plated(self) -> bool:
        """Whether lithium was plated since the last stripping, more than nucleates a film."""
        return self._fresh_C_per_m2 > self._p.nucleation_C_per_m2

    def _dying_C_per_m2(self) -> float:
        """Lithium that stripping does not get back, of what was plated since the last one."""
        if not self._has_plated:
            return 0.0
        each = self._p.efficiencies
        there = max(0.0, min(self._fresh_C_per_m2, self.film_C_per_m2))
        return there * (1.0 - each[min(self.platings, len(each) - 1)])

    def _potential(self, film_C_per_m2: float) -> float:
        ratio = max(film_C_per_m2 / self._p.nucleation_C_per_m2, -_OVERDRAWN)
        return self._p.bare_potential_V * math.exp(-ratio)
