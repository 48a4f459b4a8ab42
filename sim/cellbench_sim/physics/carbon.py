"""Electrolyte mixed with carbon: the electrode of voltammetry, where the electrolyte itself reacts.

A double layer takes its share of any current; the rest reduces or oxidises electrolyte. A reduction
wave runs at a rate that sets in at its onset, in proportion to what is left of a finite charge;
oxidation goes as i_ref exp((V - V_ox)/w), up to what the composite can conduct. Onsets and charges
are entered, not emergent; the shape of the waves with sweep rate emerges.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.faced import Faced
from cellbench_sim.presets.electrodes import CarbonElectrode, OxidationWave, ReductionWave

_LARGEST_EXPONENT = 60.0
_MOST_ITERATIONS = 40
_SOLVED_WITHIN = 1e-13
#: At its onset a wave runs at 2 % of its full rate: its middle lies four widths below.
_ONSET_WIDTHS = 4.0


class Carbon(Faced):
    """A composite of carbon and electrolyte; its potential is that of its double layer."""

    curved = True
    unrest_per_s = 1.0

    def __init__(self, parameters: CarbonElectrode, area_m2: float) -> None:
        super().__init__(parameters.interface, area_m2)
        self._p = parameters
        self._capacitance_F = parameters.capacitance_F_per_m2 * area_m2
        self._left_C = [wave.charge_C_per_m2 * area_m2 for wave in parameters.reductions]
        self._ahead_s = (0.0,)
        self.layer_V = parameters.rest_potential_V

    @property
    def potential_V(self) -> float:
        """Potential of the double layer."""
        return self.layer_V

    def prepare(self, duration_s: float, current_A: float) -> tuple[float, float]:
        """Look at the end of a step; return the linear part of the potential (V, Ohm)."""
        self._ahead_s = (duration_s,)
        return super().prepare(duration_s, current_A)

    def potential(self, current_A: float) -> tuple[float, float]:
        """Return the double layer's potential and its slope (V, Ohm) at the prepared end.

        C dV/dt = I - i(V), backwards in time, so that no step is too long for it.
        """
        per_ampere = self._ahead_s[0] / self._capacitance_F
        potential_V = self.layer_V
        low_V, high_V = -math.inf, math.inf
        slope = 1.0
        for _ in range(_MOST_ITERATIONS):
            reaction_A, conductance_S = self._reaction(potential_V)
            excess_V = potential_V - self.layer_V - per_ampere * (current_A - reaction_A)
            slope = 1.0 + per_ampere * conductance_S
            if excess_V > 0.0:
                high_V = potential_V
            else:
                low_V = potential_V
            change_V = -excess_V / slope
            potential_V += change_V
            if abs(change_V) < _SOLVED_WITHIN * (1.0 + abs(potential_V)):
                break
            if not low_V < potential_V < high_V:
                potential_V = 0.5 * (low_V + high_V)
        return potential_V, per_ampere / slope

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Charge the double layer and spend what is reduced."""
        self.layer_V = self.potential(current_A_per_m2 * self.area_m2)[0]
        super().advance(duration_s, current_A_per_m2)
        self._left_C = [
            left_C * math.exp(-duration_s * _speed(wave, self.layer_V)[0])
            for wave, left_C in zip(self._p.reductions, self._left_C, strict=True)
        ]

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the interface in series with the double layer and its reactions (Ohm)."""
        conductance_S = self._reaction(self.layer_V)[1]
        result: NDArray[np.complex128] = super().impedance(omega) + 1.0 / (
            conductance_S + 1j * omega * self._capacitance_F
        )
        return result

    def _reaction(self, potential_V: float) -> tuple[float, float]:
        """Return current of the reactions and its slope (A, S) at a potential."""
        current_A, conductance_S = _oxidation(self._p.oxidation, potential_V)
        current_A, conductance_S = current_A * self.area_m2, conductance_S * self.area_m2
        for wave, left_C in zip(self._p.reductions, self._left_C, strict=True):
            speed, per_volt = _speed(wave, potential_V)
            current_A -= left_C * speed
            conductance_S -= left_C * per_volt
        return current_A, conductance_S


def _logistic(exponent: float) -> tuple[float, float]:
    """Return 1 / (1 + exp(-x)) and its slope."""
    value = 1.0 / (1.0 + math.exp(-max(-_LARGEST_EXPONENT, min(_LARGEST_EXPONENT, exponent))))
    return value, value * (1.0 - value)


def _speed(wave: ReductionWave, potential_V: float) -> tuple[float, float]:
    """Return the rate of a wave and its slope (1/s, 1/s/V)."""
    below_V = wave.onset_V - potential_V - _ONSET_WIDTHS * wave.width_V
    share, slope = _logistic(below_V / wave.width_V)
    return share / wave.time_s, -slope / (wave.time_s * wave.width_V)


def _oxidation(wave: OxidationWave, potential_V: float) -> tuple[float, float]:
    """Return current density and its slope (A/m2, S/m2); i_ref where the potential is V_ox."""
    reference, limit = wave.reference_A_per_m2, wave.limit_A_per_m2
    exponent = (potential_V - wave.onset_V) / wave.width_V
    share, slope = _logistic(exponent + math.log(reference / (limit - reference)))
    return limit * share, limit * slope / wave.width_V
