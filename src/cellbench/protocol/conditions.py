"""Conditions that only the host can watch, and how they are tested against what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from cellbench.quantities import DIMENSIONS, format_quantity

#: ``time`` and ``charge`` count from the start of the step; ``charge`` and ``current`` are
#: compared by magnitude. SI units: s, V, A, C, Pa, K.
Watched: TypeAlias = Literal[
    "time", "voltage", "current", "charge", "stack pressure", "temperature"
]
VerdictName: TypeAlias = Literal["short", "irregular"]


class View(Protocol):
    """What the host sees of a running step; None where it does not know (yet)."""

    def value(self, quantity: Watched) -> float | None:
        """Latest value, signed, in SI units."""

    def reached(self, quantity: Watched, *, above: bool) -> float | None:
        """The value that a threshold is compared with: in a loop, what its pass came nearest."""

    def slope(self, quantity: Watched, window_s: float, /) -> float | None:
        """Slope over the last ``window_s`` in SI units per second; None before it is full."""

    def earlier(self, quantity: Watched, age_s: float, /) -> float | None:
        """The value ``age_s`` ago; None when the step is younger."""

    def scatter(self, quantity: Watched, /) -> float:
        """Standard deviation of single readings, as their past shows it."""

    def verdict(self, name: VerdictName) -> bool:
        """Whether the analysis that runs along has found this."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A quantity at or beyond a value."""

    quantity: Watched
    above: bool
    value: float


@dataclass(frozen=True, slots=True)
class Slope:
    """The magnitude of a slope over a window, in SI units per second."""

    quantity: Watched
    window_s: float
    above: bool
    value: float


@dataclass(frozen=True, slots=True)
class Change:
    """A quantity's magnitude rises (or falls) by a fraction over a window."""

    quantity: Watched
    window_s: float
    rises: bool
    fraction: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding of the analysis that runs along."""

    name: VerdictName


@dataclass(frozen=True, slots=True)
class Decided:
    """A comparison of results, which the walk has evaluated."""

    text: str
    value: bool


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of them."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of them at once."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Threshold | Slope | Change | Verdict | Decided | AnyOf | AllOf


#: A change counts from so many standard deviations of a reading on: two readings differ by this
#: less than once in a million pairs, and a hold of a day compares a hundred thousand.
_ABOVE_SCATTER = 7.0


def holds(condition: Condition, view: View) -> bool:
    """Whether a condition is met; what is not known is not met."""
    match condition:
        case Threshold():
            return _threshold(condition, view)
        case Slope(quantity, window_s, above, value):
            slope = view.slope(quantity, window_s)
            return slope is not None and _beyond(abs(slope), above, value)
        case Change():
            return _changed(condition, view)
        case Verdict(name):
            return view.verdict(name)
        case Decided(_, value):
            return value
        case AnyOf(conditions):
            return any(holds(each, view) for each in conditions)
        case AllOf(conditions):
            return all(holds(each, view) for each in conditions)


def first_met(conditions: Sequence[Condition], view: View) -> Condition | None:
    """The first of several conditions that is met."""
    return next((each for each in conditions if holds(each, view)), None)


def _beyond(value: float, above: bool, bound: float) -> bool:
    return value >= bound if above else value <= bound


def _threshold(condition: Threshold, view: View) -> bool:
    value = view.reached(condition.quantity, above=condition.above)
    if value is None:
        return False
    if condition.quantity in {"current", "charge"}:
        value = abs(value)
    return _beyond(value, condition.above, condition.value)


def _changed(condition: Change, view: View) -> bool:
    now = view.value(condition.quantity)
    before = view.earlier(condition.quantity, condition.window_s)
    if now is None or before is None:
        return False
    change = abs(now) - abs(before)
    if not condition.rises:
        change = -change
    # A current below what its range resolves doubles from one reading to the next.
    return change >= condition.fraction * abs(before) and change >= _ABOVE_SCATTER * view.scatter(
        condition.quantity
    )


_SIGN = {True: ">=", False: "<="}
_DIMENSIONS: dict[Watched, str] = {
    "time": "time",
    "voltage": "voltage",
    "current": "current",
    "charge": "charge",
    "stack pressure": "pressure",
    "temperature": "temperature",
}


def describe(condition: Condition) -> str:
    """A condition that was met, for the journal."""
    match condition:
        case Threshold(quantity, above, value):
            return f"{quantity} {_SIGN[above]} {format_quantity(value, _DIMENSIONS[quantity])}"
        case Slope(quantity, window_s, above, value):
            unit = DIMENSIONS[_DIMENSIONS[quantity]].si_unit
            return f"slope of {quantity} over {window_s:g} s {_SIGN[above]} {value:.3g} {unit}/s"
        case Change(quantity, window_s, rises, fraction):
            verb = "rose" if rises else "fell"
            return f"{quantity} {verb} by {fraction:.0%} over {window_s:g} s"
        case Verdict(name):
            return name
        case Decided(text):
            return text
        case AnyOf(conditions):
            return " or ".join(describe(each) for each in conditions)
        case AllOf(conditions):
            return " and ".join(describe(each) for each in conditions)
