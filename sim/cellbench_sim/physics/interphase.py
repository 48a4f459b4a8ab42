"""Electrolyte oxidised at the cathode: a layer that grows, resists, and takes charge to do so.

dd/dt = k0 [exp((V - V_ox)/w) - 1]_+ Arr(T) / d. Above its onset the layer passivates, so that it
grows with the root of time; below it nothing happens at all.
"""

import math

from cellbench_sim.physics.state import Stateful
from cellbench_sim.physics.thermal import arrhenius
from cellbench_sim.presets.cathode import Interphase

_LARGEST_EXPONENT = 30.0


class OxidationLayer(Stateful):
    """Thickness of the layer on one cathode, and what follows from it per area of its face."""

    def __init__(self, parameters: Interphase) -> None:
        self._parameters = parameters
        self._activation = 1.0
        self.thickness_m = parameters.initial_m
        self.leakage_A_per_m2 = 0.0

    @property
    def resistance_Ohm_m2(self) -> float:
        """Resistance that the layer adds."""
        return self._parameters.resistivity_Ohm_m * self.thickness_m

    def refresh(self, temperature_K: float) -> None:
        """Take up the present temperature."""
        p = self._parameters
        self._activation = arrhenius(
            p.activation_energy_eV, temperature_K, p.reference_temperature_K
        )

    def advance(self, duration_s: float, potential_V: float) -> None:
        """Grow for a step at a steady potential: exact for d^2, which grows evenly."""
        p = self._parameters
        drive = (potential_V - p.onset_V) / p.width_V
        if drive <= 0.0:
            self.leakage_A_per_m2 = 0.0
            return
        rate = p.rate_m2_per_s * self._activation * math.expm1(min(drive, _LARGEST_EXPONENT))
        grown_m = math.sqrt(self.thickness_m**2 + 2.0 * rate * duration_s)
        self.leakage_A_per_m2 = p.charge_A_s_per_m3 * rate / grown_m
        self.thickness_m = grown_m
