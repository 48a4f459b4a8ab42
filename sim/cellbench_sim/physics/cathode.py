"""A composite cathode: particles that take up lithium, and all that lies in the ions' way.

The potential at the end of a step is U(x_surface) + eta + R I. What is oxidised beside the active
material (electrolyte, and what the first charge loses) takes its share of the current.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.charge_transfer import ChargeTransfer
from cellbench_sim.physics.contact import ActiveContact
from cellbench_sim.physics.diffusion import Particle
from cellbench_sim.physics.electrode import Straight
from cellbench_sim.physics.interphase import OxidationLayer
from cellbench_sim.physics.open_circuit import open_circuit_curve
from cellbench_sim.physics.relaxation import relaxation_times
from cellbench_sim.physics.state import Stateful
from cellbench_sim.physics.thermal import arrhenius
from cellbench_sim.presets.cathode import CathodeElectrode

_NOTICEABLE = 1e-4
#: The most that the mean content may change in a step.
_CONTENT_STEP = 0.01


class Cathode(Straight, Stateful):
    """One cathode; delithiation is oxidation, so a positive current charges it."""

    curved = True

    def __init__(self, parameters: CathodeElectrode, area_m2: float) -> None:
        self._p = p = parameters
        self.area_m2 = area_m2
        self._all_C = p.active.specific_capacity_C_per_kg * p.loading_kg_per_m2 * area_m2
        self._curve = open_circuit_curve(p.active.open_circuit_potential)
        self.particle = Particle(p.active.diffusion_time_s, p.active.initial_content)
        self.transfer = ChargeTransfer(p.active.charge_transfer, area_m2)
        self.layer = OxidationLayer(p.interphase)
        self.contact = ActiveContact(p.contact_loss, p.break_in, p.active_fraction)
        self.film = Arc(relaxation_times(p.interphase.exponent))
        self.charge_C = 0.0
        self.lost_C = 0.0
        self._age_s = 0.0
        self._current_A = 0.0
        self.series_Ohm = 0.0
        self.unrest_per_s = 0.0
        self._ahead = (0.0, 0.0, 0.0)
        self.refresh(p.series.excess_pressure_Pa, p.series.reference_temperature_K)

    @property
    def capacity_C(self) -> float:
        """All lithium of the active material that is connected."""
        return self._all_C * self.contact.fraction

    @property
    def potential_V(self) -> float:
        """Open-circuit potential at the surface of the particles."""
        return self._curve(self.particle.surface)[0]

    @property
    def thickness_m(self) -> float:
        """Breathing of the active material, positive where charging makes it thicker."""
        return self._p.active.swelling_m_per_C_per_m2 * self.charge_C / self.area_m2

    @property
    def resistance_Ohm(self) -> float:
        """Series resistance, layer and charge transfer."""
        return self.series_Ohm + self.film.resistance_Ohm + self.transfer.slope_Ohm

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        active, series = self._p.active, self._p.series
        diffusion = arrhenius(
            active.diffusion_activation_energy_eV,
            temperature_K,
            active.charge_transfer.reference_temperature_K,
        )
        self.particle.diffusion_time_s = active.diffusion_time_s / diffusion
        self.transfer.refresh(temperature_K)
        self.layer.refresh(temperature_K)
        self.contact.refresh(pressure_Pa)
        conduction = arrhenius(
            series.activation_energy_eV, temperature_K, series.reference_temperature_K
        )
        loose = (pressure_Pa / series.excess_pressure_Pa) ** series.excess_steepness
        areal = series.resistance_Ohm_m2 / conduction + series.excess_Ohm_m2 / (1.0 + loose)
        self.series_Ohm = areal / self.area_m2
        self._settle()

    def disturb(self) -> None:
        """Let layer and double layer follow a jump of the current."""
        self.film.disturb()
        self.transfer.lag.disturb()

    def prepare(self, duration_s: float, current_A: float) -> tuple[float, float]:
        """Look at the end of a step; return the linear part of the potential (V, Ohm)."""
        beside_A = self._beside_A(current_A)
        content, seconds = self.particle.response(duration_s)
        per_ampere = -seconds / self.capacity_C
        self._ahead = content - per_ampere * beside_A, per_ampere, beside_A
        self.transfer.prepare(
            duration_s, self._ahead[0] + per_ampere * current_A, self.contact.relative
        )
        voltage_V, resistance_Ohm = self.film.response(duration_s)
        return voltage_V, resistance_Ohm + self.series_Ohm

    def potential(self, current_A: float) -> tuple[float, float]:
        """Return open-circuit potential plus overpotential, and the slope (V, Ohm)."""
        content, per_ampere, _ = self._ahead
        potential_V, per_content_V = self._curve(content + per_ampere * current_A)
        overpotential_V, slope_Ohm = self.transfer.overpotential(current_A)
        return potential_V + overpotential_V, per_content_V * per_ampere + slope_Ohm

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Advance by the step that was prepared, under a steady current density."""
        current_A = current_A_per_m2 * self.area_m2
        potential_V = self.potential(current_A)[0]
        beside_A = self._ahead[2]
        rate_per_s = -(current_A - beside_A) / self.capacity_C
        self.film.relax(duration_s, current_A)
        self.particle.relax(duration_s, rate_per_s)
        self.transfer.lag.relax(duration_s, current_A)
        self._current_A = current_A
        self.charge_C += (current_A - beside_A) * duration_s
        self.lost_C += self._first_loss_A(current_A) * duration_s
        self._age_s += duration_s
        self.layer.advance(duration_s, potential_V)
        self.contact.advance(duration_s, rate_per_s, potential_V)
        self.unrest_per_s = abs(rate_per_s) / _CONTENT_STEP
        self._settle()

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return series resistance, layer, charge transfer and diffusion (Ohm)."""
        per_content_V = self._curve(self.particle.surface)[1] + self.transfer.per_content_V
        diffusion = -per_content_V / self.capacity_C * self.particle.transfer(omega)
        arcs = self.film.impedance(omega) + self.transfer.impedance(omega)
        result: NDArray[np.complex128] = self.series_Ohm + arcs + diffusion
        return result

    def _beside_A(self, current_A: float) -> float:
        """Current that oxidises something else than the active material."""
        return self.layer.leakage_A_per_m2 * self.area_m2 + self._first_loss_A(current_A)

    def _first_loss_A(self, current_A: float) -> float:
        first = self._p.first_charge
        if first is None or current_A <= 0.0 or self.lost_C >= self._first_loss_C:
            return 0.0
        return first.share * current_A

    @property
    def _first_loss_C(self) -> float:
        first = self._p.first_charge
        mass_kg = self._p.loading_kg_per_m2 * self.area_m2
        return first.loss_C_per_kg * mass_kg if first else 0.0

    def _settle(self) -> None:
        surface = self.particle.surface
        self.transfer.settle(self._current_A, surface, self.contact.relative)
        self._set_film()

    def _set_film(self) -> None:
        """Pass a noticeable change of the layers on to their arc."""
        areal = self.layer.resistance_Ohm_m2 + self._first_film_Ohm_m2() + self._induced_Ohm_m2()
        resistance_Ohm = areal / self.area_m2
        if abs(resistance_Ohm - self.film.resistance_Ohm) > _NOTICEABLE * self.film.resistance_Ohm:
            self.film.resistance_Ohm = resistance_Ohm
            self.film.time_constant_s = areal * self._p.interphase.capacitance_F_per_m2

    def _first_film_Ohm_m2(self) -> float:
        first = self._p.first_charge
        if first is None or not self._first_loss_C:
            return 0.0
        return first.film_Ohm_m2 * min(1.0, self.lost_C / self._first_loss_C)

    def _induced_Ohm_m2(self) -> float:
        induction = self._p.induction
        if induction is None or self._age_s <= induction.time_s:
            return 0.0
        grown = (self._age_s - induction.time_s) / induction.growth_time_s
        return induction.growth_Ohm_m2 * math.pow(grown, induction.exponent)
