"""The cell card: what the technician believes about a cell, and what follows from it.

A protocol speaks of mA/cm2, C-rates, stack pressures and potentials against lithium; instruments
know amperes, newtons and volts at their terminals. The card turns the first into the second, and
refuses what it cannot settle. Positive current is oxidation at the working electrode.
"""

from __future__ import annotations

import math
import re
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cellbench.cell.fields import (
    Area,
    Charge,
    CurrentLimit,
    Length,
    Loading,
    Potential,
    PotentialInterval,
    Pressure,
    PressureInterval,
    SpecificRate,
    TemperatureInterval,
)
from cellbench.errors import InputError
from cellbench.quantities import (
    DIMENSIONS,
    LITHIUM,
    TERMINALS,
    Exponents,
    Interval,
    Quantity,
    convert,
    describe,
    format_quantity,
    parse_quantity,
)

#: Potentials of usual counter electrodes against Li+/Li. In/InLi: the two-phase plateau at 25 degC
#: (Santhosha et al., Batteries & Supercaps 2019, 2, 524).
COUNTER_POTENTIALS_V = {"Li": 0.0, "In/InLi": 0.62}
#: What a cell is charged with at most, over its nominal capacity, where nothing else is said: a
#: first charge that is lost by a third, and then all of it again, is below.
CHARGE_OF_NOMINAL = 1.5
_SHARE = re.compile(r"(?P<number>[\d.]+)\s*(?P<percent>%)?\s*of\s+(the\s+)?nominal\s+capacity")
#: What a sign of a soft short comes to.
OnSoftShort: TypeAlias = Literal["warn", "trip"]


class CardError(InputError):
    """The card cannot settle what is asked of it; the message gives the reason."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True
    )


class _Electrode(_Part):
    diameter_m: Length | None = Field(None, alias="diameter")
    area_given_m2: Area | None = Field(None, alias="area")

    @model_validator(mode="after")
    def _one_size(self) -> _Electrode:
        if self.diameter_m is not None and self.area_given_m2 is not None:
            raise ValueError("give either the diameter or the area, not both")
        return self

    @property
    def area_m2(self) -> float | None:
        """Its area, as given or from the diameter."""
        return self.area_given_m2 or disc_area_m2(self.diameter_m)


class Working(_Electrode):
    """The working electrode; ``active`` and ``loading`` are of the active material alone.

    ``particle_radius_m`` is that of its particles: a diffusion coefficient goes with its square.
    """

    material: str | None = None
    active: str | None = None
    loading_kg_per_m2: Loading | None = Field(None, alias="loading")
    one_c_A_per_kg: SpecificRate | None = Field(None, alias="1C")
    particle_radius_m: Length | None = Field(None, alias="particle radius")

    @model_validator(mode="after")
    def _named_and_sized(self) -> Working:
        if (self.material is None) == (self.active is None):
            raise ValueError('name the working electrode: either "material" or "active"')
        if self.area_m2 is None:
            raise ValueError('the working electrode needs a "diameter" or an "area"')
        return self


class Counter(_Electrode):
    """The counter electrode and its potential against Li+/Li."""

    material: str
    potential_given_V: Potential | None = Field(None, alias="potential")

    @property
    def potential_V(self) -> float | None:
        """Its potential against Li+/Li, None where it has none (a blocking electrode)."""
        if self.potential_given_V is not None:
            return self.potential_given_V
        return COUNTER_POTENTIALS_V.get(self.material)


class Electrolyte(_Part):
    """The separator pellet. ``fabrication_pressure_Pa`` is what it was pressed with."""

    name: str | None = None
    thickness_m: Length = Field(alias="thickness")
    diameter_m: Length = Field(alias="diameter")
    fabrication_pressure_Pa: Pressure | None = Field(None, alias="fabrication pressure")


class Stack(_Part):
    """The area that the stack pressure refers to, where it is not the electrolyte's."""

    diameter_m: Length = Field(alias="diameter")


class CardLimits(_Part):
    """What the cell must never see. Give ``voltage`` (at the terminals) or ``potential``.

    ``charge`` is a text, since it may refer to the nominal capacity: see `CellCard.most_charge_C`.
    """

    voltage: PotentialInterval | None = None
    potential: PotentialInterval | None = None
    current: CurrentLimit
    stack_pressure: PressureInterval = Field(Interval(None, None), alias="stack pressure")
    temperature: TemperatureInterval = Interval(None, None)
    charge: str | None = Field(
        None, description='A charge like "5 mAh" or "at most 1.3 of nominal capacity"'
    )
    soft_short: OnSoftShort = Field(
        "warn", alias="soft short", description="What a sign of a soft short comes to"
    )

    @model_validator(mode="after")
    def _one_window(self) -> CardLimits:
        window = self.voltage or self.potential
        if window is None or (self.voltage and self.potential):
            raise ValueError('limits need either a "voltage" or a "potential" interval')
        if None in window:
            raise ValueError('the window needs both ends, like "-2 V to 2 V"')
        return self


class CellCard(_Part):
    """One cell, as the technician declares it. All attributes are in SI units."""

    cell: str
    layout: str = Field(description="From working to counter electrode: Li | LYC | Li")
    kind_given: Literal["symmetric", "blocking", "half", "full"] | None = Field(None, alias="kind")
    working: Working
    counter: Counter
    electrolyte: Electrolyte
    stack: Stack | None = None
    limits: CardLimits
    die_m: Length | None = Field(None, alias="die", description="Inner diameter of the die")
    nominal_capacity_given_C: Charge | None = Field(None, alias="nominal capacity")
    charge_current: Literal["positive", "negative"] = Field("positive", alias="charge current")
    simulate: str | None = Field(None, description="Preset of the simulated bench")

    # --- Geometry -------------------------------------------------------------------------------

    @property
    def kind(self) -> Literal["symmetric", "blocking", "half", "full"]:
        """As given, else from the electrodes."""
        if self.kind_given is not None:
            return self.kind_given
        if self.counter.potential_V is None:
            return "blocking"
        if self.working.material == self.counter.material:
            return "symmetric"
        return "full" if self.working.active else "half"

    @property
    def area_m2(self) -> float:
        """Area of the working electrode: current densities refer to it."""
        area = self.working.area_m2
        if area is None:
            raise CardError(f"the card of {self.cell} gives the working electrode no area")
        return area

    @property
    def electrolyte_area_m2(self) -> float:
        """Area of the pellet: conductivities refer to it."""
        return math.pi / 4 * self.electrolyte.diameter_m**2

    @property
    def stack_area_m2(self) -> float:
        """Area that stack pressures refer to: of ``stack``, else of the electrolyte."""
        diameter = self.stack.diameter_m if self.stack else self.electrolyte.diameter_m
        return math.pi / 4 * diameter**2

    @property
    def active_mass_kg(self) -> float | None:
        """Mass of active material, None where the card gives no loading."""
        loading = self.working.loading_kg_per_m2
        return None if loading is None else loading * self.area_m2

    # --- Charge and current ---------------------------------------------------------------------

    @property
    def knows_charge(self) -> bool:
        """Whether "charge" has a direction: by the electrodes, or since the card gives one."""
        return self.kind in {"half", "full"} or "charge_current" in self.model_fields_set

    @property
    def one_c_A(self) -> float:
        """The current of 1C.

        Raises:
            CardError: The card does not settle it.
        """
        if self.nominal_capacity_given_C is not None:
            return self.nominal_capacity_given_C / 3600
        rate, mass = self.working.one_c_A_per_kg, self.active_mass_kg
        if rate is not None and mass is not None:
            return rate * mass
        if self.kind in {"symmetric", "blocking"}:
            raise CardError(
                f"{self.cell} ({self.layout}) is a {self.kind} cell without a capacity that a "
                'C-rate could refer to: give a current like "0.5 mA/cm2"'
            )
        raise CardError(
            f"the card of {self.cell} does not say what 1C is: it needs working loading and 1C "
            '("1C: 180 mA/g"), or a nominal capacity'
        )

    @property
    def nominal_capacity_C(self) -> float:
        """What the cell holds at one hour's rate. Raises CardError like `one_c_A`."""
        try:
            return self.one_c_A * 3600
        except CardError as error:
            raise CardError(
                f"the card of {self.cell} gives no capacity that a fraction could refer to: write "
                'a charge like "0.5 mAh/cm2", or add "nominal capacity" to the card'
            ) from error

    @property
    def charge_max_C(self) -> float | None:
        """The limit of charge that the card sets. Raises like `most_charge_C`."""
        given = self.limits.charge
        return None if given is None else self.most_charge_C(given)

    @property
    def charge_max_usual_C(self) -> float | None:
        """The limit of charge where nobody sets one; None for a cell that has no capacity."""
        if self.kind in {"symmetric", "blocking"}:
            return None
        try:
            return CHARGE_OF_NOMINAL * self.nominal_capacity_C
        except CardError:
            return None

    def most_charge_C(self, text: str) -> float:
        """Coulombs of a limit like ``at most 1.3 of nominal capacity``, ``5 mAh``, ``3 mAh/cm2``.

        Raises:
            CardError: The card does not settle it, or it allows no charge.
            QuantityError: It is no charge.
        """
        text = text.strip().removeprefix("at most ").strip()
        share = _SHARE.fullmatch(text)
        if share is None:
            charge_C = abs(self.charge_C(parse_quantity(text)))
        else:
            percent = 0.01 if share["percent"] else 1.0
            charge_C = float(share["number"]) * percent * self.nominal_capacity_C
        if charge_C <= 0:
            raise CardError(f'the limit "{text}" allows no charge at all')
        return charge_C

    def current_A(self, quantity: Quantity) -> float:
        """Amperes of a current, a current density, a C-rate or a specific current.

        Raises:
            CardError: The card does not settle it.
            QuantityError: It is of another dimension.
        """
        convert(quantity, "current density", "current", "C-rate", "specific current")
        return quantity.value * self._per(quantity.exponents, "current")

    def charge_C(self, quantity: Quantity) -> float:
        """Coulombs of a charge, an areal or a specific capacity. Raises like `current_A`."""
        convert(quantity, "areal capacity", "charge", "specific capacity")
        return quantity.value * self._per(quantity.exponents, "charge")

    def _per(self, exponents: Exponents, absolute: str) -> float:
        if exponents == DIMENSIONS[absolute].exponents:
            return 1.0
        if exponents in {
            DIMENSIONS["current density"].exponents,
            DIMENSIONS["areal capacity"].exponents,
        }:
            return self.area_m2
        if exponents == DIMENSIONS["C-rate"].exponents:
            return self.one_c_A
        if self.active_mass_kg is None:
            raise CardError(f"the card of {self.cell} gives no loading of active material")
        return self.active_mass_kg

    # --- Voltage --------------------------------------------------------------------------------

    def voltage_V(self, quantity: Quantity) -> float:
        """Volts at the terminals of a potential or a plain voltage.

        Raises:
            CardError: The reference is missing where it matters, or the card does not know it.
            QuantityError: It is no voltage.
        """
        value = convert(quantity, "voltage")
        counter_V = self.counter.potential_V
        if quantity.reference == TERMINALS:
            return value
        if quantity.reference == LITHIUM:
            return value - self._known_counter_V(quantity)
        if counter_V and self.kind != "symmetric":
            raise self._no_reference(quantity, counter_V)
        return value

    def _known_counter_V(self, quantity: Quantity) -> float:
        if self.counter.potential_V is None:
            raise CardError(
                f'"{describe(quantity)}": the counter electrode of {self.cell}, '
                f"{self.counter.material}, has no potential on the card; write "
                f'"{quantity.value:g} V at the terminals", or add counter potential to the card'
            )
        return self.counter.potential_V

    def _no_reference(self, quantity: Quantity, counter_V: float) -> CardError:
        written = describe(quantity)
        return CardError(
            f'"{written}" has no reference. The counter electrode of {self.cell} is '
            f"{self.counter.material} ({counter_V:g} V vs Li+/Li): this could be {written} at the "
            f"terminals, or {quantity.value - counter_V:.4g} V. Write "
            f'"{written} vs Li+/Li" or "{written} at the terminals".'
        )

    @property
    def voltage_window_V(self) -> tuple[float, float]:
        """The limits at the terminals. Raises like `voltage_V`."""
        low, high = self.limits.voltage or self.limits.potential or (None, None)
        if low is None or high is None:
            raise CardError(f"the card of {self.cell} has no voltage window")
        return self.voltage_V(low), self.voltage_V(high)

    @property
    def current_max_A(self) -> float:
        """The limit of the current's magnitude. Raises like `current_A`."""
        return abs(self.current_A(self.limits.current))

    # --- Force ----------------------------------------------------------------------------------

    def force_N(self, pressure_Pa: float) -> float:
        """Force on the stack that gives a stack pressure."""
        return pressure_Pa * self.stack_area_m2

    def pressure_Pa(self, force_N: float) -> float:
        """Stack pressure that a force gives."""
        return force_N / self.stack_area_m2

    def check_window(self) -> None:
        """Settle the voltage window once. Raises like `voltage_V`."""
        low, high = self.voltage_window_V
        if low >= high:
            raise CardError(f"the voltage window of {self.cell} is empty")

    def check_current(self) -> None:
        """Settle the current limit once. Raises like `current_A`."""
        if self.current_max_A == 0:
            raise CardError(f"the card of {self.cell} allows no current at all")

    def check_charge(self) -> None:
        """Settle the limit of charge once. Raises like `most_charge_C`."""
        if self.limits.charge is not None:
            self.most_charge_C(self.limits.charge)

    def describe_area(self) -> str:
        """One line that names both areas, for reports."""
        current = format_quantity(self.area_m2, "area")
        stack = format_quantity(self.stack_area_m2, "area")
        return f"current on {current} (working electrode), stack pressure on {stack}"


def disc_area_m2(diameter_m: float | None) -> float | None:
    """Area of a disc."""
    return None if diameter_m is None else math.pi / 4 * diameter_m**2
