"""What a preset says of a cathode: its material, how it ages, what its surroundings add."""

from typing import Annotated, Literal

from cellbench_sim.physics.open_circuit import ActiveName
from cellbench_sim.presets.fields import (
    ActivationEnergy,
    ArealCapacitance,
    ArealResistance,
    Duration,
    Exponent,
    Fraction,
    Length,
    Loading,
    Number,
    Parameters,
    Positive,
    Potential,
    Pressure,
    Resistivity,
    SpecificCharge,
    Swelling,
    Temperature,
    Width,
    sourced,
)

Diffusivity = Annotated[float, sourced("m2/s")]
ChargePerVolume = Annotated[float, sourced("A s/m3")]


class ChargeTransferParameters(Parameters):
    """Butler-Volmer kinetics; areas are those of the electrode's face."""

    half_resistance_Ohm_m2: ArealResistance
    depletion_content: Number
    depletion_width: Positive
    activation_energy_eV: ActivationEnergy
    reference_temperature_K: Temperature
    capacitance_F_per_m2: ArealCapacitance
    exponent: Exponent


class ActiveMaterial(Parameters):
    """An intercalation material: its curve by name, diffusion, kinetics, breathing.

    `specific_capacity_C_per_kg` is that of all its lithium; `diffusion_time_s` is R^2/D.
    """

    open_circuit_potential: ActiveName
    specific_capacity_C_per_kg: SpecificCharge
    initial_content: Number
    diffusion_time_s: Duration
    diffusion_activation_energy_eV: ActivationEnergy
    charge_transfer: ChargeTransferParameters
    swelling_m_per_C_per_m2: Swelling


class SeriesResistance(Parameters):
    """Ions through the composite, and contacts: ohmic.

    The excess falls with stack pressure P as 1 / (1 + (P/P_half)^steepness).
    """

    resistance_Ohm_m2: ArealResistance
    activation_energy_eV: ActivationEnergy
    reference_temperature_K: Temperature
    excess_Ohm_m2: ArealResistance
    excess_pressure_Pa: Pressure
    excess_steepness: Number


class Interphase(Parameters):
    """Electrolyte oxidised at the cathode, a layer of thickness d that passivates.

    dd/dt = k0 [exp((V - V_ox)/w) - 1]_+ / d; it adds rho d in series with the arc, and takes
    `charge_A_s_per_m3` per volume of layer (on the face of the electrode) as leakage.
    """

    rate_m2_per_s: Diffusivity
    onset_V: Potential
    width_V: Width
    activation_energy_eV: ActivationEnergy
    reference_temperature_K: Temperature
    initial_m: Length
    resistivity_Ohm_m: Resistivity
    charge_A_s_per_m3: ChargePerVolume
    capacitance_F_per_m2: ArealCapacitance
    exponent: Exponent


class ContactLoss(Parameters):
    """Active material that loses touch, per cycle; more so above a potential on charge.

    Per cycle the fraction lost is `per_cycle (1 + (V_max - V_high)/width)`; of it `healing_share`
    comes back when a discharge ends below a potential, or under a stack pressure, that heals.
    """

    per_cycle: Number
    high_potential_V: Potential
    high_width_V: Width
    healing_share: Fraction
    healing_potential_V: Potential
    healing_pressure_Pa: Pressure


class BreakIn(Parameters):
    """Contact that improves with the time spent under current, up to the full active fraction."""

    first_fraction: Fraction
    time_s: Duration


class FirstCharge(Parameters):
    """What the first charge loses for good, and the layer that this leaves behind."""

    loss_C_per_kg: SpecificCharge
    share: Fraction
    film_Ohm_m2: ArealResistance


class Induction(Parameters):
    """Reaction of electrolyte and cathode that sets in a while after assembly, under no current."""

    time_s: Duration
    growth_Ohm_m2: ArealResistance
    growth_time_s: Duration
    exponent: Exponent


class CathodeElectrode(Parameters):
    """A composite of active material and electrolyte, pressed onto the separator."""

    kind: Literal["cathode"]
    active: ActiveMaterial
    loading_kg_per_m2: Loading
    active_fraction: Fraction
    series: SeriesResistance
    interphase: Interphase
    contact_loss: ContactLoss
    break_in: BreakIn | None = None
    first_charge: FirstCharge | None = None
    induction: Induction | None = None
