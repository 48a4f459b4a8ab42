"""The separator: a pressed pellet of solid electrolyte, bulk and grain boundaries."""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.relaxation import relaxation_times
from cellbench_sim.physics.state import Stateful
from cellbench_sim.physics.thermal import arrhenius
from cellbench_sim.presets.schema import Electrolyte, Exposure, PelletGeometry


class Pellet(Stateful):
    """Bulk and grain boundaries, with activation energies of their own.

    The pellet remembers the highest pressure that it ever felt.
    Bulk relaxes within nanoseconds: it is an arc in frequency and a plain resistance in time.
    """

    def __init__(
        self, material: Electrolyte, geometry: PelletGeometry, exposure: Exposure | None = None
    ) -> None:
        self._material = material
        self._exposure = exposure
        self._age_s = 0.0
        self._temperature_K = material.reference_temperature_K
        self._solid_m = geometry.thickness_m * self._density(geometry.fabrication_pressure_Pa)
        self.area_m2 = math.pi / 4.0 * geometry.diameter_m**2
        self.highest_pressure_Pa = geometry.fabrication_pressure_Pa
        self.bulk_Ohm = 0.0
        self.boundary = Arc(relaxation_times(material.boundary_exponent))
        self.refresh(0.0, material.reference_temperature_K)

    @property
    def thickness_m(self) -> float:
        """Thickness at the density that the highest pressure has left."""
        return self._solid_m / self._density(self.highest_pressure_Pa)

    @property
    def cracked(self) -> bool:
        """Whether it ever felt more than its material bears."""
        return self.highest_pressure_Pa > self._material.cracking_pressure_Pa

    @property
    def electronic_conductance_S(self) -> float:
        """Conductance of the electrolyte to electrons, face to face."""
        material = self._material
        return material.electronic_conductivity_S_per_m * self.area_m2 / self.thickness_m

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        self.highest_pressure_Pa = max(self.highest_pressure_Pa, pressure_Pa)
        self._temperature_K = temperature_K
        m = self._material
        per_conductivity = self.thickness_m / (self.area_m2 * self._densification())
        per_conductivity *= self._reacted()
        bulk_S_per_m = m.bulk_conductivity_S_per_m * arrhenius(
            m.bulk_activation_energy_eV, temperature_K, m.reference_temperature_K
        )
        boundary_S_per_m = m.boundary_conductivity_S_per_m * arrhenius(
            m.boundary_activation_energy_eV, temperature_K, m.reference_temperature_K
        )
        self.bulk_Ohm = per_conductivity / bulk_S_per_m
        boundary_Ohm = per_conductivity / boundary_S_per_m
        self.boundary.resistance_Ohm = boundary_Ohm * (
            m.cracked_boundary_factor if self.cracked else 1.0
        )
        self.boundary.time_constant_s = (
            self.boundary.resistance_Ohm * m.boundary_capacitance_F_per_m2 * self.area_m2
        )

    def advance(self, duration_s: float, current_A: float) -> None:
        """Advance the boundaries by a step under a steady current, and age where exposed."""
        self.boundary.relax(duration_s, current_A)
        if self._exposure is not None:
            self._age_s += duration_s
            self.refresh(0.0, self._temperature_K)

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return bulk and boundary arcs in series (Ohm) at angular frequencies (rad/s)."""
        capacitance_F = self._material.bulk_capacitance_F_per_m2 * self.area_m2
        bulk = self.bulk_Ohm / (1.0 + 1j * omega * (self.bulk_Ohm * capacitance_F))
        return bulk + self.boundary.impedance(omega)

    def _reacted(self) -> float:
        """Resistance over that of a fresh pellet."""
        if self._exposure is None:
            return 1.0
        return float(1.0 + (self._age_s / self._exposure.time_s) ** self._exposure.exponent)

    def _density(self, pressure_Pa: float) -> float:
        m = self._material
        return 1.0 - m.loose_porosity * math.exp(-pressure_Pa / m.densification_pressure_Pa)

    def _densification(self) -> float:
        """Conductivity over that at the reference fabrication pressure."""
        m = self._material
        reference = self._density(m.reference_fabrication_pressure_Pa)
        return float((self._density(self.highest_pressure_Pa) / reference) ** m.porosity_exponent)
