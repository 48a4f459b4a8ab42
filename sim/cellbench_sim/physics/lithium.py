"""Lithium metal on the separator: voids, usable lithium, creep, contact, reduction.

Voids form where stripping outruns what pressure can close, j_c = j_v (P/P_v)^n, and heal on
plating. Usable lithium is what is stripped and what pressure squeezes out of the joint. Together
they leave the contact fraction a = [1 - (q_v/q_lim)^2] [1 - exp(-L/L_0)], through which the contact
resistance R = R_inf + R_0 ((P + P_a)/P_0)^-n / a acts. A reduced layer of thickness d grows
linearly and adds k d / a_r with a_r = 1 - (d/d_lim)^2.
"""

import math

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.arced import Arced
from cellbench_sim.physics.relaxation import relaxation_times
from cellbench_sim.physics.thermal import arrhenius
from cellbench_sim.presets.electrodes import LithiumElectrode

_NOTICEABLE = 1e-5
#: The most that the contact may change in a step, as a fraction.
_CONTACT_STEP = 0.005


class Lithium(Arced):
    """One lithium electrode; stripping is oxidation, so a positive current density strips."""

    plates = True

    def __init__(self, parameters: LithiumElectrode, area_m2: float) -> None:
        if parameters.diameter_m is not None:
            area_m2 = math.pi / 4.0 * parameters.diameter_m**2
        self.area_m2 = area_m2
        self._foil = parameters.foil
        self._interface = parameters.interface
        self.usable_C_per_m2 = self._foil.usable_C_per_m2
        self.void_C_per_m2 = 0.0
        self.plated_C_per_m2 = 0.0
        self.reduced_m = 0.0
        self.contact = 1.0
        self.reduced_contact = 1.0
        self.arc = Arc(relaxation_times(self._interface.exponent))
        self._contact_resistance_Ohm_m2 = 0.0
        self._activation = 1.0
        self._void_current_A_per_m2 = 0.0
        self._creep_current_A_per_m2 = 0.0
        self._reduction_m_per_s = 0.0
        self.unrest_per_s = 0.0
        self.refresh(self._interface.contact_pressure_Pa, self._interface.reference_temperature_K)

    @property
    def thickness_m(self) -> float:
        """Lithium and the voids in it; squeezed-out lithium is gone."""
        charge = self.usable_C_per_m2 + self.void_C_per_m2
        return charge * self._foil.thickness_m_per_C_per_m2

    @property
    def plating_contact(self) -> float:
        """Contact fraction left to plating.

        The reduced layer's patches are small against the separator, so the current spreads out
        again below them: they count only beyond a tolerance.
        """
        return min(self.contact, self._interface.reduced_layer_tolerance * self.reduced_contact)

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        foil, face = self._foil, self._interface
        relative = (pressure_Pa + face.contact_pressure_offset_Pa) / face.contact_pressure_Pa
        self._contact_resistance_Ohm_m2 = (
            face.contact_resistance_Ohm_m2 * relative**-face.contact_pressure_exponent
        )
        self._activation = arrhenius(
            face.activation_energy_eV, temperature_K, face.reference_temperature_K
        )
        self._void_current_A_per_m2 = foil.void_current_A_per_m2 * (
            (pressure_Pa / foil.void_pressure_Pa) ** foil.void_pressure_exponent
        )
        self._creep_current_A_per_m2 = foil.creep_current_A_per_m2 * (
            (pressure_Pa / foil.creep_pressure_Pa) ** foil.creep_pressure_exponent
        )
        self._reduction_m_per_s = face.reduction_rate_m_per_s * arrhenius(
            face.reduction_activation_energy_eV, temperature_K, face.reference_temperature_K
        )
        self._set_arc()

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Advance voids, inventory and reduced layer by a step under a steady current density."""
        self.arc.relax(duration_s, current_A_per_m2 * self.area_m2)
        if current_A_per_m2 > 0.0:
            self.plated_C_per_m2 = 0.0
            excess = current_A_per_m2 - self._void_current_A_per_m2
            if excess > 0.0:
                self.void_C_per_m2 += excess * duration_s
        elif current_A_per_m2 < 0.0:
            plated = -current_A_per_m2 * duration_s
            self.plated_C_per_m2 += plated
            self.void_C_per_m2 = max(0.0, self.void_C_per_m2 - self._foil.void_healing * plated)
        spent = (current_A_per_m2 + self._creep_current_A_per_m2) * duration_s
        self.usable_C_per_m2 = max(0.0, self.usable_C_per_m2 - spent)
        self.reduced_m += self._reduction_m_per_s * duration_s
        before = self.contact * self.reduced_contact
        self._set_contact()
        after = self.contact * self.reduced_contact
        self.unrest_per_s = abs(after - before) / (before * duration_s * _CONTACT_STEP)
        self._set_arc()

    def _set_contact(self) -> None:
        foil, face = self._foil, self._interface
        closed = 1.0 - (self.void_C_per_m2 / foil.void_limit_C_per_m2) ** 2
        left = 1.0 - math.exp(-self.usable_C_per_m2 / foil.exhaustion_C_per_m2)
        self.contact = max(foil.smallest_contact, closed * left)
        intact = 1.0 - (self.reduced_m / face.reduction_limit_m) ** 2
        self.reduced_contact = max(face.smallest_reduced_contact, intact)

    def _set_arc(self) -> None:
        """Pass a noticeable change on to the arc; the double layer keeps its capacitance."""
        face = self._interface
        areal = (
            face.floor_resistance_Ohm_m2 + self._contact_resistance_Ohm_m2 / self.contact
        ) / self._activation
        areal += face.reduction_resistance_Ohm_m * self.reduced_m / self.reduced_contact
        resistance_Ohm = areal / self.area_m2
        if abs(resistance_Ohm - self.arc.resistance_Ohm) > _NOTICEABLE * self.arc.resistance_Ohm:
            self.arc.resistance_Ohm = resistance_Ohm
            self.arc.time_constant_s = areal * face.capacitance_F_per_m2
