"""Limits that hold at all times: the cell card's, which a protocol can tighten, never loosen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cellbench.cell import CardError, CellCard
from cellbench.protocol.program import Limits
from cellbench.protocol.scope import Scope, text_of
from cellbench.protocol.source import SourceNode
from cellbench.quantities import (
    Interval,
    Quantity,
    QuantityError,
    convert,
    parse_bounds,
    parse_quantity,
    refuse_bare_celsius,
)


def resolve_limits(roots: Sequence[SourceNode], scope: Scope) -> Limits:
    """Return the card's limits, tightened by those of a protocol and of what it includes.

    Raises:
        ProtocolError: A limit is not one, or leaves nothing.
    """
    limits = card_limits(scope.card)
    for root in roots:
        block = root.child("limits")
        if block is not None and isinstance(block.content, dict):
            for name, source in block.content.items():
                limits = _tightened(limits, name, source, scope)
    if limits.charge_max_C is None:
        limits = replace(limits, charge_max_C=scope.card.charge_max_usual_C)
    return limits


def card_limits(card: CellCard) -> Limits:
    """Return the limits of a card alone."""
    low_V, high_V = card.voltage_window_V
    pressure, temperature = card.limits.stack_pressure, card.limits.temperature
    return Limits(
        voltage_min_V=low_V,
        voltage_max_V=high_V,
        current_max_A=card.current_max_A,
        pressure_min_Pa=pressure.low,
        pressure_max_Pa=pressure.high,
        temperature_min_K=temperature.low,
        temperature_max_K=temperature.high,
        charge_max_C=card.charge_max_C,
        soft_short=card.limits.soft_short,
    )


def _tightened(limits: Limits, name: str, source: SourceNode, scope: Scope) -> Limits:
    try:
        return _narrower(limits, name, source, scope)
    except (QuantityError, CardError) as error:
        source.fail(str(error))


def _narrower(limits: Limits, name: str, source: SourceNode, scope: Scope) -> Limits:
    if name == "current":
        given_A = abs(scope.card.current_A(_quantity(source, scope)))
        if given_A == 0:
            source.fail("this allows no current at all")
        return replace(limits, current_max_A=min(limits.current_max_A, given_A))
    if name == "charge":
        given_C = scope.card.most_charge_C(text_of(source))
        return replace(limits, charge_max_C=_smaller(limits.charge_max_C, given_C))
    if name == "soft short":
        trips = "trip" in {limits.soft_short, text_of(source)}
        return replace(limits, soft_short="trip" if trips else "warn")
    low_name, high_name = _FIELDS[name]
    given = interval(name, source, scope)
    low = _larger(getattr(limits, low_name), given.low)
    high = _smaller(getattr(limits, high_name), given.high)
    if low is not None and high is not None and low >= high:
        source.fail(f"together with the card of {scope.card.cell} this leaves no {name} at all")
    changes: dict[str, Any] = {low_name: low, high_name: high}
    return replace(limits, **changes)


_FIELDS = {
    "voltage": ("voltage_min_V", "voltage_max_V"),
    "potential": ("voltage_min_V", "voltage_max_V"),
    "stack pressure": ("pressure_min_Pa", "pressure_max_Pa"),
    "temperature": ("temperature_min_K", "temperature_max_K"),
}


def _quantity(source: SourceNode, scope: Scope) -> Quantity:
    text = text_of(source).removeprefix("at most ")
    return scope.quantity(source.saying(text)) if "$" in text else parse_quantity(text)


_DIMENSIONS = {
    "stack pressure": "pressure",
    "temperature": "temperature",
    "contact": "resistance",
}


def interval(name: str, source: SourceNode, scope: Scope) -> Interval:
    """Return what a text like "2 V to 3 V" or "at most 6 MPa" says of a quantity, in SI units.

    Raises:
        QuantityError, CardError: It is no interval of that quantity.
        ProtocolError: A name in it has no value.
    """
    if name == "temperature":
        refuse_bare_celsius(text_of(source))
    low, high = _bounds(source, scope)
    if name in {"voltage", "potential", "open circuit"}:
        _refuse_bare(name, source)
        return Interval(
            None if low is None else scope.card.voltage_V(low),
            None if high is None else scope.card.voltage_V(high),
        )
    dimension = _DIMENSIONS[name]
    return Interval(
        None if low is None else convert(low, dimension),
        None if high is None else convert(high, dimension),
    )


def _refuse_bare(name: str, source: SourceNode) -> None:
    """A lone voltage could be meant in both directions; it would bound one."""
    text = text_of(source).strip()
    if not re.match(r"at\s+(most|least)\s", text) and not re.search(r"\s+to\s+", text):
        source.fail(
            f'"{text[:60]}" is only one end of the limits of {name}',
            f'Write both, like "-2 V to 2 V", or "at most {text[:60]}".',
        )


def _bounds(source: SourceNode, scope: Scope) -> tuple[Quantity | None, Quantity | None]:
    text = text_of(source)
    if "$" not in text:
        return parse_bounds(text)
    if match := re.match(r"\s*at\s+(most|least)\s+", text):
        value = scope.quantity(source.part(match.end(), len(text)))
        return (None, value) if match[1] == "most" else (value, None)
    if match := re.search(r"\s+to\s+", text):
        low = scope.quantity(source.part(0, match.start()))
        return low, scope.quantity(source.part(match.end(), len(text)))
    return None, scope.quantity(source)


def _larger(a: float | None, b: float | None) -> float | None:
    return max((each for each in (a, b) if each is not None), default=None)


def _smaller(a: float | None, b: float | None) -> float | None:
    return min((each for each in (a, b) if each is not None), default=None)
