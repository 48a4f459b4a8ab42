"""The interface that several electrodes have in common: an arc that warms, and stays in contact."""

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.arced import Arced
from cellbench_sim.physics.relaxation import relaxation_times
from cellbench_sim.physics.thermal import arrhenius
from cellbench_sim.presets.electrodes import PlainInterface


class Faced(Arced):
    """An electrode behind such an interface; what it is made of comes with the derived class."""

    def __init__(self, parameters: PlainInterface, area_m2: float) -> None:
        self._interface = parameters
        self.area_m2 = area_m2
        self.arc = Arc(relaxation_times(parameters.exponent))
        Faced.refresh(self, 0.0, parameters.reference_temperature_K)

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:  # noqa: ARG002
        """Take up the temperature; the contact keeps whatever the pressure."""
        p = self._interface
        activation = arrhenius(p.activation_energy_eV, temperature_K, p.reference_temperature_K)
        areal = p.resistance_Ohm_m2 / activation
        self.arc.resistance_Ohm = areal / self.area_m2
        self.arc.time_constant_s = areal * p.capacitance_F_per_m2
