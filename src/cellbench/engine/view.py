"""What a running step looks like to its conditions: latest values, and the past they need."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from cellbench.engine.status import STATUS_NAMES, Status
from cellbench.protocol.conditions import (
    AllOf,
    AnyOf,
    Change,
    Condition,
    Slope,
    VerdictName,
    Watched,
)

#: Slopes and changes are judged on at most so many values of their window.
_POINTS_PER_WINDOW = 120


class StepView:
    """The host's view of one step, for `cellbench.protocol.conditions.holds`.

    Args:
        conditions: Those that will be asked; they say what past has to be kept.
        status: Where pressure and temperature come from.
        verdict: Whether the analysis that runs along has found something.
    """

    def __init__(
        self,
        conditions: Iterable[Condition],
        status: Status,
        verdict: Callable[[VerdictName], bool],
    ) -> None:
        self._windows: dict[Watched, float] = {}
        for condition in conditions:
            for quantity, window_s in _windows(condition):
                self._windows[quantity] = max(window_s, self._windows.get(quantity, 0.0))
        self._past: dict[Watched, deque[tuple[float, float]]] = {
            quantity: deque() for quantity in self._windows
        }
        self._noted_s: dict[Watched, float] = {}
        self._blind_until_s = 0.0
        self._status = status
        self._own: dict[Watched, float] = {}
        self.verdict = verdict

    def update(
        self, elapsed_s: float, *, voltage_V: float | None = None,
        current_A: float | None = None, charge_C: float | None = None,
    ) -> None:  # fmt: skip
        """Take in the newest row (or, for a step without a channel, the time alone)."""
        own = self._own
        own["time"] = elapsed_s
        if voltage_V is not None and current_A is not None and charge_C is not None:
            own["voltage"], own["current"], own["charge"] = voltage_V, current_A, charge_C
        if elapsed_s >= self._blind_until_s:
            for quantity in self._past:
                self._note(quantity, elapsed_s)

    def _note(self, quantity: Watched, elapsed_s: float) -> None:
        """Keep a value for the past, as often as its window needs."""
        past, window_s = self._past[quantity], self._windows[quantity]
        value = self.value(quantity)
        if value is not None and elapsed_s >= self._noted_s.get(quantity, -1.0):
            past.append((elapsed_s, value))
            self._noted_s[quantity] = elapsed_s + window_s / _POINTS_PER_WINDOW
        while len(past) > 1 and past[1][0] <= elapsed_s - window_s:
            past.popleft()

    def blind_until(self, elapsed_s: float) -> None:
        """Judge no slope and no change before this time: an interruption disturbed them."""
        self._blind_until_s = elapsed_s

    def value(self, quantity: Watched) -> float | None:
        """Latest value in SI units."""
        if quantity in STATUS_NAMES:
            return self._status.value(STATUS_NAMES[quantity])
        return self._own.get(quantity)

    def reached(self, quantity: Watched, *, above: bool) -> float | None:  # noqa: ARG002
        """The value that a threshold is compared with: the latest."""
        return self.value(quantity)

    def earlier(self, quantity: Watched, age_s: float) -> float | None:
        """The value ``age_s`` ago, None when the step is younger."""
        if self._own["time"] < self._blind_until_s:
            return None
        past = self._past[quantity]
        since = self._own["time"] - age_s
        before = [value for time_s, value in past if time_s <= since]
        return before[-1] if before else None

    def scatter(self, quantity: Watched) -> float:
        """Standard deviation of a reading, from how neighbours in the window differ."""
        values = [value for _, value in self._past[quantity]]
        if len(values) < 2:
            return 0.0
        differences = [after - before for before, after in pairwise(values)]
        return math.sqrt(sum(each * each for each in differences) / (2 * len(differences)))

    def slope(self, quantity: Watched, window_s: float) -> float | None:
        """Least-squares slope over the last ``window_s``, None before the window is full."""
        if self._own["time"] < self._blind_until_s:
            return None
        since = self._own["time"] - window_s
        past = self._past[quantity]
        if not past or past[0][0] > since:
            return None
        return _slope([row for row in past if row[0] >= since])


def _windows(condition: Condition) -> Iterator[tuple[Watched, float]]:
    match condition:
        case Slope(quantity, window_s) | Change(quantity, window_s):
            yield quantity, window_s
        case AnyOf(conditions) | AllOf(conditions):
            for each in conditions:
                yield from _windows(each)
        case _:
            return


def _slope(rows: list[tuple[float, float]]) -> float | None:
    count = len(rows)
    if count < 2:
        return None
    mean_t = sum(t for t, _ in rows) / count
    mean_v = sum(v for _, v in rows) / count
    spread = sum((t - mean_t) ** 2 for t, _ in rows)
    return sum((t - mean_t) * (v - mean_v) for t, v in rows) / spread if spread > 0 else None
