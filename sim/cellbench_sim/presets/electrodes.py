"""What a preset says of the other electrodes: lithium, indium, copper, carbon, steel, PyBaMM's."""

from typing import Annotated, Literal

from pydantic import Field

from cellbench_sim.presets.cathode import CathodeElectrode
from cellbench_sim.presets.fields import (
    ActivationEnergy,
    ArealCapacitance,
    ArealCharge,
    ArealResistance,
    CurrentDensity,
    Duration,
    Exponent,
    Fraction,
    Length,
    Number,
    Parameters,
    Positive,
    Potential,
    Pressure,
    Speed,
    Swelling,
    Temperature,
    Width,
    sourced,
)


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
    thickness_m_per_C_per_m2: Swelling


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
    reduction_resistance_Ohm_m: Annotated[float, sourced("Ohm m")]


class LithiumElectrode(Parameters):
    """A lithium metal electrode on the separator; it may be smaller than the pellet."""

    kind: Literal["lithium"]
    foil: LithiumFoil
    interface: LithiumInterface
    diameter_m: Length | None = None


class PlainInterface(Parameters):
    """An interface of one activation energy that keeps its contact whatever the pressure."""

    resistance_Ohm_m2: ArealResistance
    activation_energy_eV: ActivationEnergy
    reference_temperature_K: Temperature
    capacitance_F_per_m2: ArealCapacitance
    exponent: Exponent


class IndiumElectrode(Parameters):
    """An indium-lithium alloy: a plateau while two phases are there, both inventories finite.

    `indium_C_per_m2` is the charge from bare indium to InLi. The potential leaves the plateau
    where less than `depleted_ratio` of it is left, and falls to `overfull_V` beyond InLi.
    """

    kind: Literal["indium"]
    indium_C_per_m2: ArealCharge
    lithium_C_per_m2: ArealCharge
    plateau_V: Potential
    depleted_ratio: Fraction
    overfull_V: Potential
    interface: PlainInterface
    thickness_m_per_C_per_m2: Swelling


class CopperElectrode(Parameters):
    """Copper that lithium is plated on; what each cycle gives back is entered, not emergent."""

    kind: Literal["copper"]
    interface: PlainInterface
    efficiencies: tuple[Fraction, ...] = Field(min_length=1)
    bare_potential_V: Potential
    nucleation_C_per_m2: ArealCharge
    thickness_m_per_C_per_m2: Swelling


class ReductionWave(Parameters):
    """Electrolyte at carbon that is reduced below a potential, until its charge is spent."""

    onset_V: Potential
    width_V: Width
    charge_C_per_m2: ArealCharge
    time_s: Duration


class OxidationWave(Parameters):
    """i = i_ref exp((V - V_ox)/w), up to what the composite can conduct."""

    onset_V: Potential
    width_V: Width
    reference_A_per_m2: CurrentDensity
    limit_A_per_m2: CurrentDensity


class CarbonElectrode(Parameters):
    """Electrolyte mixed with carbon: a double layer, reduction waves and an oxidation wave."""

    kind: Literal["carbon"]
    interface: PlainInterface
    capacitance_F_per_m2: ArealCapacitance
    rest_potential_V: Potential
    reductions: tuple[ReductionWave, ...]
    oxidation: OxidationWave


class SteelElectrode(Parameters):
    """A blocking steel electrode: a constant-phase element with a faradaic leak beside it.

    `constant_phase_F_per_m2` stands for Q of Z = 1 / (Q A (j w)^exponent), in F s^(exponent-1) /
    m2.
    """

    kind: Literal["steel"]
    constant_phase_F_per_m2: ArealCapacitance
    exponent: Exponent
    leak_resistance_Ohm_m2: ArealResistance


class PybammElectrode(Parameters):
    """A porous cathode that PyBaMM solves; the extra `pybamm` brings it.

    `values` are laid over PyBaMM's parameter set, under its own names and in the units that these
    say. The separator and the lithium are not PyBaMM's, so its own have to be out of the way. Where
    less than about five times `end_width` is left to a lithium content of 0 or 1, the published
    potential is bent steeply away.
    """

    kind: Literal["pybamm"]
    model: Literal["SPM", "SPMe", "DFN"]
    parameter_set: str
    values: dict[str, Number]
    initial_content: Number
    end_width: Positive
    points_across: int = Field(default=20, ge=3)
    points_in_particle: int = Field(default=60, ge=5)
    swelling_m_per_C_per_m2: Swelling


ElectrodeParameters = Annotated[
    LithiumElectrode
    | SteelElectrode
    | CathodeElectrode
    | IndiumElectrode
    | CopperElectrode
    | CarbonElectrode
    | PybammElectrode,
    Field(discriminator="kind"),
]
