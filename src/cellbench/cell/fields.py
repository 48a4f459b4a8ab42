"""Fields of a cell card: texts with units in the file, SI values in the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from cellbench.quantities import (
    LITHIUM,
    Interval,
    Quantity,
    convert,
    parse,
    parse_bounds,
    parse_interval,
    parse_quantity,
)

_TEXT = {"type": ["string", "number"]}


def _si(*dimensions: str) -> Callable[[Any], float]:
    def to_si(value: Any) -> float:
        return value if isinstance(value, float) else parse(str(value), *dimensions)

    return to_si


def _positive_si(*dimensions: str) -> Callable[[Any], float]:
    def to_si(value: Any) -> float:
        result = _si(*dimensions)(value)
        if result <= 0:
            raise ValueError(f"{value} is not above zero")
        return result

    return to_si


def _potential(value: Any) -> float:
    if isinstance(value, float):
        return value
    quantity = parse_quantity(str(value))
    volts = convert(quantity, "voltage")
    if quantity.reference != LITHIUM:
        raise ValueError(f'{value} has no reference: write "{volts:g} V vs Li+/Li"')
    return volts


def _interval(*dimensions: str) -> Callable[[Any], Interval]:
    return lambda value: (
        value if isinstance(value, Interval) else parse_interval(str(value), *dimensions)
    )


def _potentials(value: Any) -> tuple[Quantity | None, Quantity | None]:
    if isinstance(value, tuple):
        return value
    low, high = parse_bounds(str(value))
    for each in (low, high):
        if each is not None:
            convert(each, "voltage")
    return low, high


def _quantity(value: Any) -> Quantity:
    return value if isinstance(value, Quantity) else parse_quantity(str(value))


def _described(text: str) -> WithJsonSchema:
    return WithJsonSchema({**_TEXT, "description": text})


Length: TypeAlias = Annotated[
    float, BeforeValidator(_positive_si("length")), _described('A length like "10 mm"')
]
Area: TypeAlias = Annotated[
    float, BeforeValidator(_positive_si("area")), _described('An area like "0.785 cm2"')
]
Pressure: TypeAlias = Annotated[
    float, BeforeValidator(_positive_si("pressure")), _described('A pressure like "300 MPa"')
]
Loading: TypeAlias = Annotated[
    float,
    BeforeValidator(_positive_si("loading")),
    _described('Active material per area like "6.2 mg/cm2"'),
]
SpecificRate: TypeAlias = Annotated[
    float,
    BeforeValidator(_positive_si("specific current")),
    _described('What 1C is, like "180 mA/g"'),
]
Charge: TypeAlias = Annotated[
    float, BeforeValidator(_positive_si("charge")), _described('A charge like "2 mAh"')
]
Potential: TypeAlias = Annotated[
    float, BeforeValidator(_potential), _described('A potential like "0.62 V vs Li+/Li"')
]
PotentialInterval: TypeAlias = Annotated[
    tuple[Quantity | None, Quantity | None],
    BeforeValidator(_potentials),
    _described('An interval like "-2 V to 2 V" or "2.5 V to 4.9 V vs Li+/Li"'),
]
PressureInterval: TypeAlias = Annotated[
    Interval,
    BeforeValidator(_interval("pressure")),
    _described('An interval like "at most 35 MPa"'),
]
TemperatureInterval: TypeAlias = Annotated[
    Interval,
    BeforeValidator(_interval("temperature")),
    _described('An interval like "10 degC to 60 degC"'),
]
CurrentLimit: TypeAlias = Annotated[
    Quantity,
    BeforeValidator(_quantity),
    _described('A magnitude like "10 mA/cm2", "5 mA" or "3C"'),
]
