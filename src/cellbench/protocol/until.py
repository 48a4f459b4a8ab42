"""Conditions as they are written, to conditions in SI units at the terminals.

    voltage >= 1 V          |current| <= 0.05 mA/cm2     charge > 0.2 of nominal capacity
    stack pressure < 4 MPa  slope of stack pressure over 5 min < 0.01 MPa/min
    current rises by 50 % over 10 min                    short          irregular
    any of [a, b]           all of [a, b]                $first.R_low > 100 Ohm

``current`` and ``charge`` are compared by magnitude, with or without bars.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import cast

from cellbench.protocol.conditions import (
    AllOf,
    AnyOf,
    Change,
    Condition,
    Decided,
    Slope,
    Threshold,
    Verdict,
    VerdictName,
    Watched,
)
from cellbench.protocol.scope import Scope, text_of
from cellbench.protocol.source import SourceNode

_QUANTITIES: dict[str, Watched] = {
    "time": "time",
    "voltage": "voltage",
    "potential": "voltage",
    "current": "current",
    "charge": "charge",
    "stack pressure": "stack pressure",
    "pressure": "stack pressure",
    "temperature": "temperature",
}
_VERDICTS = ("short", "irregular")
_ABOVE = {">", ">=", "≥"}
_SLOPE_DIMENSIONS: dict[Watched, str] = {
    "voltage": "voltage rate",
    "current": "rate of current",
    "stack pressure": "rate of pressure",
    "temperature": "rate of temperature",
}
_COMPOUND = re.compile(r"\s*(any|all)\s+of\s*\[(.*)\]\s*$", re.DOTALL)
_SLOPE = re.compile(r"\s*slope\s+of\s+(.+?)\s+over\s+(.+?)\s*(>=|<=|[<>≥≤])\s*(.+)$")
_CHANGE = re.compile(r"\s*(.+?)\s+(rises|falls)\s+by\s+(.+?)\s+over\s+(.+)$")
_THRESHOLD = re.compile(r"\s*([A-Za-z|() ]+?)\s*(>=|<=|[<>≥≤])\s*(.+)$")
_MAX_DEPTH = 5


def sources_of(source: SourceNode | None) -> tuple[SourceNode, ...]:
    """Return the conditions under ``until``: a list of them, or one."""
    if source is None:
        return ()
    return source.content if isinstance(source.content, tuple) else (source,)


def resolve(sources: Sequence[SourceNode], scope: Scope) -> tuple[Condition, ...]:
    """Resolve conditions, any of which counts.

    Raises:
        ProtocolError: One cannot be read.
        ResultMissing: One uses a result that does not exist yet.
    """
    found: list[Condition] = []
    for source in sources:
        condition = _condition(source, scope, 0)
        any_of = condition.conditions if isinstance(condition, AnyOf) else (condition,)
        for each in any_of:
            _refuse_met_at_once(each, source)
        found.extend(any_of)
    return tuple(found)


def _refuse_met_at_once(condition: Condition, source: SourceNode) -> None:
    match condition:
        case Threshold(("time" | "charge") as quantity, above=False):
            source.fail(
                f"{quantity} counts from zero, so that this is true at once",
                'To compare what two steps passed, save them ("as: now"), and in the "until" of '
                'their loop write, for instance, "$now.charge < 0.8 * $first.charge".',
            )


def resolve_for_passes(sources: Sequence[SourceNode], scope: Scope) -> tuple[Condition, ...]:
    """Resolve the conditions of a loop, which are tested after each pass. Raises like `resolve`."""
    found: list[Condition] = []
    for source in sources:
        found.extend(resolve((source,), scope))
        if any(_judges_a_change(each) for each in found):
            source.fail(
                "a loop is tested after each pass, and keeps no past to judge a change by",
                'Put the condition into the "until" of a step, or compare results saved by "as".',
            )
    return tuple(found)


def _judges_a_change(condition: Condition) -> bool:
    match condition:
        case Slope() | Change():
            return True
        case AnyOf(conditions) | AllOf(conditions):
            return any(_judges_a_change(each) for each in conditions)
    return False


def _condition(source: SourceNode, scope: Scope, depth: int) -> Condition:
    text = text_of(source)
    if depth > _MAX_DEPTH:
        source.fail(f"conditions are nested at most {_MAX_DEPTH} deep")
    if text.strip() in _VERDICTS:
        return Verdict(cast("VerdictName", text.strip()))
    if match := _COMPOUND.match(text):
        return _compound(match, source, scope, depth)
    if "$" in re.split(r"[<>=≥≤]", text)[0]:
        return _decided(source, scope)
    if match := _SLOPE.match(text):
        return _slope(match, source, scope)
    if match := _CHANGE.match(text):
        return _change(match, source, scope)
    if match := _THRESHOLD.match(text):
        return _threshold(match, source, scope)
    return _unreadable(source, text)


def _compound(match: re.Match[str], source: SourceNode, scope: Scope, depth: int) -> Condition:
    parts = _split(match[2])
    start = match.start(2)
    conditions = []
    for begin, end in parts:
        part = source.part(start + begin, start + end)
        if not part.content:
            source.fail(f'"{match[1]} of" has an empty condition')
        conditions.append(_condition(part, scope, depth + 1))
    return (AnyOf if match[1] == "any" else AllOf)(tuple(conditions))


def _split(text: str) -> list[tuple[int, int]]:
    """Places of the parts between commas that are in no brackets."""
    places, depth, begin = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "[(") - (character in "])")
        if character == "," and depth == 0:
            places.append((begin, position))
            begin = position + 1
    return [*places, (begin, len(text))]


def _decided(source: SourceNode, scope: Scope) -> Condition:
    value = scope.value(source)
    if not isinstance(value, bool):
        source.fail(f'"{text_of(source)}" is no comparison')
    return Decided(text_of(source), value)


def _slope(match: re.Match[str], source: SourceNode, scope: Scope) -> Condition:
    quantity = _watched(match[1], source)
    if quantity not in _SLOPE_DIMENSIONS:
        source.fail(f'a slope of "{match[1]}" is not watched')
    window_s = scope.positive_si(source.part(*match.span(2)), "time")
    value = scope.si(source.part(*match.span(4)), _SLOPE_DIMENSIONS[quantity])
    return Slope(quantity, window_s, match[3] in _ABOVE, abs(value))


def _change(match: re.Match[str], source: SourceNode, scope: Scope) -> Condition:
    fraction = scope.positive_si(source.part(*match.span(3)), "fraction")
    window_s = scope.positive_si(source.part(*match.span(4)), "time")
    return Change(_watched(match[1], source), window_s, match[2] == "rises", fraction)


def _threshold(match: re.Match[str], source: SourceNode, scope: Scope) -> Condition:
    quantity = _watched(match[1], source)
    value = _value(quantity, source.part(*match.span(3)), scope)
    return Threshold(quantity, match[2] in _ABOVE, value)


def _value(quantity: Watched, source: SourceNode, scope: Scope) -> float:
    match quantity:
        case "voltage":
            return scope.voltage_V(source)
        case "current":
            return abs(scope.current_A(source))
        case "charge":
            return abs(scope.charge_C(source))
        case "time":
            return scope.positive_si(source, "time")
        case "stack pressure":
            return scope.si(source, "pressure")
        case "temperature":
            return scope.si(source, "temperature")


def _watched(written: str, source: SourceNode) -> Watched:
    name = " ".join(re.sub(r"^(?:abs)?[|(]|[|)]$", "", written.strip()).split())
    if name in _QUANTITIES:
        return _QUANTITIES[name]
    close = difflib.get_close_matches(name, _QUANTITIES, 1, 0.5)
    hint = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(_QUANTITIES)}"
    return source.fail(f'"{name[:60]}" is not a quantity that is watched; {hint}')


def _unreadable(source: SourceNode, text: str) -> Condition:
    close = difflib.get_close_matches(text.strip(), _VERDICTS, 1, 0.6)
    hint = f'Did you mean "{close[0]}"? ' if close else ""
    return source.fail(
        f'"{text[:80]}" is not a condition',
        f'{hint}Conditions look like "voltage >= 1 V", "charge > 2 mAh", "time >= 30 min", '
        '"slope of stack pressure over 5 min < 0.01 MPa/min", "irregular", "short", '
        '"any of [a, b]".',
    )
