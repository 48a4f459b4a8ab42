"""Charge transfer at an active material: Butler-Volmer, with a resistance that depends on state.

eta = (2RT/F) asinh(j / 2 j0), j0 = RT / (F R_ct) (symmetric transfer). R_ct over lithium content x
is R_half [4 x (1 - x)]^-1/2 {1 + exp((x_d - x)/w)}: it soars where the material runs out of
lithium. The double layer has its ladder of relaxation times, so that the overpotential follows a
lagged current; about any bias this is an arc of resistance d eta/d I.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.relaxation import relaxation_times
from cellbench_sim.physics.state import Stateful
from cellbench_sim.physics.tabulated import Curve
from cellbench_sim.physics.thermal import arrhenius, thermal_voltage_V
from cellbench_sim.presets.cathode import ChargeTransferParameters

_NEAREST_TO_END = 0.05
_LARGEST_EXPONENT = 12.0
_NOTICEABLE = 0.01


class ChargeTransfer(Stateful):
    """Overpotential of one cathode; currents in A, positive where it is oxidised."""

    def __init__(self, parameters: ChargeTransferParameters, area_m2: float) -> None:
        self._parameters = parameters
        self._area_m2 = area_m2
        self._areal = _resistance_curve(parameters)
        self._activation = 1.0
        self._double_thermal_V = 0.05
        self._ahead = (0.0, 1.0, 1.0)
        self.lag = Arc(relaxation_times(parameters.exponent))
        self.slope_Ohm = 1.0
        self.per_content_V = 0.0

    def refresh(self, temperature_K: float) -> None:
        """Take up the present temperature."""
        p = self._parameters
        self._double_thermal_V = 2.0 * thermal_voltage_V(temperature_K)
        self._activation = arrhenius(
            p.activation_energy_eV, temperature_K, p.reference_temperature_K
        )

    def resistance_Ohm(self, content: float, share: float) -> float:
        """Return R_ct at a content, with a share of the active material connected."""
        return self._areal(content)[0] / (self._activation * self._area_m2 * share)

    def prepare(self, duration_s: float, content: float, share: float) -> None:
        """Look at the end of a step, where the surface is about to have the given content."""
        carried_A, carries = self.lag.response(duration_s)
        self._ahead = carried_A, carries, self.resistance_Ohm(content, share)

    def overpotential(self, current_A: float) -> tuple[float, float]:
        """Return overpotential and its slope (V, Ohm) at the end of the prepared step."""
        carried_A, carries, resistance_Ohm = self._ahead
        reduced = (carried_A + carries * current_A) * resistance_Ohm / self._double_thermal_V
        slope_Ohm = resistance_Ohm / math.sqrt(1.0 + reduced * reduced)
        return self._double_thermal_V * math.asinh(reduced), slope_Ohm * carries

    def settle(self, current_A: float, content: float, share: float) -> None:
        """Take up the content and the current that a step has led to: what a spectrum sees."""
        areal, slope = self._areal(content)
        to_Ohm = 1.0 / (self._activation * self._area_m2 * share)
        reduced = current_A * areal * to_Ohm / self._double_thermal_V
        damped = 1.0 / math.sqrt(1.0 + reduced * reduced)
        self.slope_Ohm = areal * to_Ohm * damped
        self.per_content_V = current_A * slope * to_Ohm * damped
        time_s = self.slope_Ohm * self._area_m2 * self._parameters.capacitance_F_per_m2
        if abs(time_s - self.lag.time_constant_s) > _NOTICEABLE * self.lag.time_constant_s:
            self.lag.time_constant_s = time_s

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the arc (Ohm) about the present bias, at omega in rad/s."""
        return self.slope_Ohm * self.lag.impedance(omega)


def _resistance_curve(p: ChargeTransferParameters) -> Curve:
    def areal(x: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = np.clip(x, _NEAREST_TO_END, 1.0 - _NEAREST_TO_END)
        exponent = np.minimum((p.depletion_content - x) / p.depletion_width, _LARGEST_EXPONENT)
        half = p.half_resistance_Ohm_m2 / np.sqrt(4.0 * inside * (1.0 - inside))
        result: NDArray[np.float64] = half * (1.0 + np.exp(exponent))
        return result

    return Curve(areal, 0.0, 1.0, beyond=0.0)
