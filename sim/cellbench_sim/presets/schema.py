"""What a preset may say: the hidden parameters of a simulated cell, in SI, each with its source.

In a file every number is `{value: 0.57 mA/cm2, source: assumed}`; validation keeps the number in SI
and insists on the source. A preset is the truth about a simulated cell; no cell card is ever read
here.
"""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cellbench.quantities import PLAIN, QuantityError, parse_quantity, unit_of


def _sourced(unit: str) -> BeforeValidator:
    """Accept `{value, source}` and keep the value in the SI `unit`."""
    return BeforeValidator(_sourced_reader(unit))


def _sourced_reader(unit: str) -> Callable[[object], float]:
    def read(raw: object) -> float:
        if isinstance(raw, float):
            return raw
        if not isinstance(raw, dict) or raw.keys() != {"value", "source"}:
            raise ValueError("write {value: ..., source: ...}; the source may be 'assumed'")
        if not isinstance(raw["source"], str) or not raw["source"].strip():
            raise ValueError("the source is empty; say 'assumed' where there is none")
        return _in_si(str(raw["value"]), unit)

    return read


def _in_si(text: str, unit: str) -> float:
    if unit == "eV":
        return _in_electronvolts(text)
    try:
        quantity = parse_quantity(text)
    except QuantityError as error:
        raise ValueError(str(error)) from error
    if quantity.exponents != (unit_of(unit)[1] if unit else PLAIN):
        raise ValueError(f"{text!r} cannot be given in {unit or 'a plain number'}")
    return quantity.value


def _in_electronvolts(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?) eV", text)
    if match is None:
        raise ValueError(f"{text!r} is not an activation energy in eV")
    return float(match[1])


Number = Annotated[float, _sourced("")]
Length = Annotated[float, _sourced("m"), Field(gt=0)]
Pressure = Annotated[float, _sourced("Pa"), Field(ge=0)]
Temperature = Annotated[float, _sourced("K"), Field(gt=0)]
Conductivity = Annotated[float, _sourced("S/m"), Field(ge=0)]
ActivationEnergy = Annotated[float, _sourced("eV"), Field(ge=0)]
CurrentDensity = Annotated[float, _sourced("A/m2"), Field(ge=0)]
ArealCharge = Annotated[float, _sourced("A s/m2"), Field(ge=0)]
ArealResistance = Annotated[float, _sourced("Ohm m2"), Field(ge=0)]
ArealConductance = Annotated[float, _sourced("S/m2"), Field(ge=0)]
ArealCapacitance = Annotated[float, _sourced("F/m2"), Field(gt=0)]
Resistance = Annotated[float, _sourced("Ohm"), Field(gt=0)]
Duration = Annotated[float, _sourced("s"), Field(gt=0)]
Speed = Annotated[float, _sourced("m/s"), Field(ge=0)]
Exponent = Annotated[float, _sourced(""), Field(gt=0, le=1)]


class Parameters(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class LithiumFoil(Parameters):
    """Lithium metal: voids on stripping, usable lithium, creep out of the joint."""

    usable_C_per_m2: ArealCharge
    exhaustion_C_per_m2: ArealCharge
    void_limit_C_per_m2: ArealCharge
    void_healing: Number
    smallest_contact: Number
    void_current_A_per_m2: CurrentDensity
    void_pressure_Pa: Pressure
    void_pressure_exponent: Number
    creep_current_A_per_m2: CurrentDensity
    creep_pressure_Pa: Pressure
    creep_pressure_exponent: Number
    thickness_m_per_C_per_m2: Annotated[float, _sourced("m3/coulomb")]


class LithiumInterface(Parameters):
    """Lithium against one electrolyte: contact resistance, double layer, reduction."""

    floor_resistance_Ohm_m2: ArealResistance
    contact_resistance_Ohm_m2: ArealResistance
    contact_pressure_Pa: Pressure
    contact_pressure_offset_Pa: Pressure
    contact_pressure_exponent: Number
    activation_energy_eV: ActivationEnergy
    reference_temperature_K: Temperature
    capacitance_F_per_m2: ArealCapacitance
    exponent: Exponent
    reduction_rate_m_per_s: Speed
    reduction_activation_energy_eV: ActivationEnergy
    reduction_limit_m: Length
    smallest_reduced_contact: Number
    reduced_layer_tolerance: Number
    reduction_resistance_Ohm_m: Annotated[float, _sourced("Ohm m")]


class LithiumElectrode(Parameters):
    """A lithium metal electrode on the separator."""

    kind: Literal["lithium"]
    foil: LithiumFoil
    interface: LithiumInterface


class SteelElectrode(Parameters):
    """A blocking steel electrode: a constant-phase element with a faradaic leak beside it.

    `constant_phase_F_per_m2` stands for Q of Z = 1 / (Q A (j w)^exponent), in F s^(exponent-1) /
    m2.
    """

    kind: Literal["steel"]
    constant_phase_F_per_m2: ArealCapacitance
    exponent: Exponent
    leak_resistance_Ohm_m2: ArealResistance


Electrode = Annotated[LithiumElectrode | SteelElectrode, Field(discriminator="kind")]


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
    threshold.
    """

    critical_current_A_per_m2: CurrentDensity
    reference_temperature_K: Temperature
    activation_energy_eV: ActivationEnergy
    reference_pressure_Pa: Pressure
    least_pressure_Pa: Pressure
    pressure_exponent: Number
    critical_areal_capacity_C_per_m2: ArealCharge
    shunt_growth_S_per_m2_s: Annotated[float, _sourced("S/m2/s")]
    collapse_damage_from_s: Duration
    collapse_damage_to_s: Duration


class CreepShort(Parameters):
    """Lithium squeezed through the separator: its hazard is exp((P - P_c)/width) / mean time."""

    critical_pressure_Pa: Pressure
    width_Pa: Pressure
    mean_time_at_critical_s: Duration


class Shorts(Parameters):
    """Everything that ends in a short; only lithium metal cells have it."""

    leakage_S_per_m2: ArealConductance
    short_resistance_from_Ohm: Resistance
    short_resistance_to_Ohm: Resistance
    dendrites: Dendrites
    creep: CreepShort


class CellPreset(Parameters):
    """One simulated cell: working electrode, separator, counter electrode, and how it fails."""

    name: str
    description: str
    electrolyte: Electrolyte
    pellet: PelletGeometry
    working: Electrode
    counter: Electrode
    added_resistance: AddedResistance | None = None
    shorts: Shorts | None = None
