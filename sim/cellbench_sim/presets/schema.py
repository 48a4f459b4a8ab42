"""What a preset may say: the hidden parameters of a simulated cell.

A preset is the truth about a simulated cell; no cell card is ever read here.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from cellbench_sim.presets.electrodes import ElectrodeParameters
from cellbench_sim.presets.fields import (
    ActivationEnergy,
    ArealCapacitance,
    ArealCharge,
    ArealConductance,
    ArealResistance,
    Conductivity,
    CurrentDensity,
    Duration,
    Exponent,
    Fraction,
    Length,
    Number,
    Parameters,
    Pressure,
    Resistance,
    Temperature,
    sourced,
)


class Electrolyte(Parameters):
    """A solid electrolyte; conductivities are those of a pellet at the reference state.

    The reference state is the reference temperature and fabrication pressure. Porosity falls with
    fabrication pressure as p0 exp(-P/P_d), conductivity goes with (1 - porosity)^m.
    """

    bulk_conductivity_S_per_m: Conductivity
    bulk_activation_energy_eV: ActivationEnergy
    bulk_capacitance_F_per_m2: ArealCapacitance
    boundary_conductivity_S_per_m: Conductivity
    boundary_activation_energy_eV: ActivationEnergy
    boundary_capacitance_F_per_m2: ArealCapacitance
    boundary_exponent: Exponent
    electronic_conductivity_S_per_m: Conductivity
    reference_temperature_K: Temperature
    reference_fabrication_pressure_Pa: Pressure
    loose_porosity: Number
    densification_pressure_Pa: Annotated[Pressure, Field(gt=0)]
    porosity_exponent: Number
    cracking_pressure_Pa: Pressure
    cracked_boundary_factor: Number


class PelletGeometry(Parameters):
    """The pressed separator: its size after fabrication and the pressure that made it."""

    diameter_m: Length
    thickness_m: Length
    fabrication_pressure_Pa: Pressure


class Exposure(Parameters):
    """A reaction that goes on from assembly: resistance times 1 + (t/time)^exponent."""

    time_s: Duration
    exponent: Number


class Layer(Parameters):
    """A second separator, between the first and the counter electrode."""

    electrolyte: Electrolyte
    pellet: PelletGeometry


class AddedResistance(Parameters):
    """The d.c. resistance that a study's polarisation shows beyond its impedance.

    Fitted to the study as it stands, not emergent. From the knee upwards in stack pressure P it is
    base + rise (P/knee - 1)^rise_exponent, below it base (knee/P)^fall_exponent. It comes on with
    current density, around `onset`, so that a spectrum at open circuit does not see it.
    """

    base_Ohm_m2: ArealResistance
    rise_Ohm_m2: ArealResistance
    rise_exponent: Number
    fall_exponent: Number
    knee_Pa: Pressure
    onset_A_per_m2: CurrentDensity
    lag_s: Duration


class Dendrites(Parameters):
    """When plating goes wrong: critical current density, areal capacity, and the way to the short.

    Damage is the integral of (stress - 1)^2 over time, stress being local over critical current
    density (or plated over critical areal capacity); the cell collapses where it passes one drawn
    threshold. `flicker` scales the sagging of the voltage before that: 0 where the path to the
    short stays a steady leak, as in full cells.
    """

    critical_current_A_per_m2: CurrentDensity
    reference_temperature_K: Temperature
    activation_energy_eV: ActivationEnergy
    reference_pressure_Pa: Pressure
    least_pressure_Pa: Pressure
    pressure_exponent: Number
    critical_areal_capacity_C_per_m2: ArealCharge
    shunt_growth_S_per_m2_s: Annotated[float, sourced("S/m2/s")]
    flicker: Fraction
    collapse_damage_from_s: Duration
    collapse_damage_to_s: Duration


class CreepShort(Parameters):
    """Lithium squeezed through the separator: its hazard is exp((P - P_c)/width) / mean time."""

    critical_pressure_Pa: Pressure
    width_Pa: Pressure
    mean_time_at_critical_s: Duration


class Shorts(Parameters):
    """Everything that ends in a short; only lithium metal cells have it.

    The leak opens in proportion to what is plated, and is there in full once
    `leakage_opens_C_per_m2` was plated without a break: 0 for a leak from assembly on.
    """

    leakage_S_per_m2: ArealConductance
    leakage_opens_C_per_m2: ArealCharge
    short_resistance_from_Ohm: Resistance
    short_resistance_to_Ohm: Resistance
    dendrites: Dendrites
    creep: CreepShort


class CellPreset(Parameters):
    """One simulated cell: working electrode, separator, counter electrode, and how it fails.

    `emergent` and `by_construction` say, of what a test of this cell returns, which part the model
    brings forth and which is entered from the study that it is compared with.
    """

    name: str
    description: str
    emergent: tuple[str, ...]
    by_construction: tuple[str, ...]
    electrolyte: Electrolyte
    pellet: PelletGeometry
    counter_layer: Layer | None = None
    exposure: Exposure | None = None
    working: ElectrodeParameters
    counter: ElectrodeParameters
    added_resistance: AddedResistance | None = None
    shorts: Shorts | None = None

    @model_validator(mode="after")
    def _pybamm_has_what_it_supports(self) -> Self:
        """Refuse what the model with PyBaMM's cathode would silently leave out."""
        if self.counter.kind == "pybamm":
            raise ValueError("PyBaMM's cathode is a working electrode")
        beside = self.counter.kind != "lithium" or self.shorts or self.added_resistance
        if self.working.kind == "pybamm" and beside:
            raise ValueError("PyBaMM's cathode stands against lithium, without shorts or additions")
        return self
