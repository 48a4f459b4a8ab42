"""A blocking electrode: steel on the separator, a constant-phase element in all but name."""

import math

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.arced import Arced
from cellbench_sim.physics.relaxation import relaxation_times
from cellbench_sim.presets.electrodes import SteelElectrode

_SHORTEST_TIME_S = 1e-8


class Steel(Arced):
    """The arc's own time constant is hours, so that any spectrum sees only its straight flank."""

    def __init__(self, parameters: SteelElectrode, area_m2: float) -> None:
        self.area_m2 = area_m2
        leak = parameters.leak_resistance_Ohm_m2
        alpha = parameters.exponent
        time_constant_s = (leak * parameters.constant_phase_F_per_m2) ** (1.0 / alpha)
        flank = math.log(_SHORTEST_TIME_S / time_constant_s)
        self.arc = Arc(relaxation_times(alpha, log_shortest=flank))
        self.arc.resistance_Ohm = leak / area_m2
        self.arc.time_constant_s = time_constant_s

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Nothing changes: the powder was pressed onto the steel at fabrication pressure."""
