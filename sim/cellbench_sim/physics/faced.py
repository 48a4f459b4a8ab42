"""The interface that several electrodes have in common: an arc that warms, and stays in contact."""

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.electrode import Straight
from cellbench_sim.physics.relaxation import relaxation_times
from cellbench_sim.physics.state import Stateful
from cellbench_sim.physics.thermal import arrhenius
from cellbench_sim.presets.electrodes import PlainInterface


class Faced(Straight, Stateful):
    """An electrode behind such an interface; what it is made of comes with the derived class."""

    def __init__(self, parameters: PlainInterface, area_m2: float) -> None:
        self._interface = parameters
        self.area_m2 = area_m2
        self.arc = Arc(relaxation_times(parameters.exponent))
        Faced.refresh(self, 0.0, parameters.reference_temperature_K)

    @property
    def resistance_Ohm(self) -> float:
        """Resistance of the interface."""
        return self.arc.resistance_Ohm

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:  # noqa: ARG002
        """Take up the temperature; the contact keeps whatever the pressure."""
        p = self._interface
        activation = arrhenius(p.activation_energy_eV, temperature_K, p.reference_temperature_K)
        areal = p.resistance_Ohm_m2 / activation
        self.arc.resistance_Ohm = areal / self.area_m2
        self.arc.time_constant_s = areal * p.capacitance_F_per_m2

    def disturb(self) -> None:
        """Let the double layer follow a jump of the current."""
        self.arc.disturb()

    def prepare(self, duration_s: float, current_A: float) -> tuple[float, float]:  # noqa: ARG002
        """Look at the end of a step; return offset and resistance (V, Ohm) of the interface."""
        return self.arc.response(duration_s)

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Charge the double layer."""
        self.arc.relax(duration_s, current_A_per_m2 * self.area_m2)

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the arc of the interface (Ohm)."""
        return self.arc.impedance(omega)
