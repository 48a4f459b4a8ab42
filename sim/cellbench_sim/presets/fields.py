"""Numbers of a preset: in SI, each with its source.

In a file every number is `{value: 0.57 mA/cm2, source: assumed}`; validation keeps the number in SI
and insists on the source.
"""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cellbench.quantities import PLAIN, QuantityError, parse_quantity, unit_of


def sourced(unit: str) -> BeforeValidator:
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


Number = Annotated[float, sourced("")]
Length = Annotated[float, sourced("m"), Field(gt=0)]
Pressure = Annotated[float, sourced("Pa"), Field(ge=0)]
Temperature = Annotated[float, sourced("K"), Field(gt=0)]
Conductivity = Annotated[float, sourced("S/m"), Field(ge=0)]
ActivationEnergy = Annotated[float, sourced("eV"), Field(ge=0)]
CurrentDensity = Annotated[float, sourced("A/m2"), Field(ge=0)]
ArealCharge = Annotated[float, sourced("A s/m2"), Field(ge=0)]
ArealResistance = Annotated[float, sourced("Ohm m2"), Field(ge=0)]
ArealConductance = Annotated[float, sourced("S/m2"), Field(ge=0)]
ArealCapacitance = Annotated[float, sourced("F/m2"), Field(gt=0)]
Resistance = Annotated[float, sourced("Ohm"), Field(gt=0)]
Duration = Annotated[float, sourced("s"), Field(gt=0)]
Speed = Annotated[float, sourced("m/s"), Field(ge=0)]
Exponent = Annotated[float, sourced(""), Field(gt=0, le=1)]
Fraction = Annotated[float, sourced(""), Field(ge=0, le=1)]
Positive = Annotated[float, sourced(""), Field(gt=0)]
Potential = Annotated[float, sourced("V")]
Width = Annotated[float, sourced("V"), Field(gt=0)]
Loading = Annotated[float, sourced("kg/m2"), Field(gt=0)]
SpecificCharge = Annotated[float, sourced("A s/kg"), Field(ge=0)]
Swelling = Annotated[float, sourced("m3/coulomb")]
Resistivity = Annotated[float, sourced("Ohm m"), Field(ge=0)]


class Parameters(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
