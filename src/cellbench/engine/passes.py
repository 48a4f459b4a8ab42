"""What happened in the passes of the loops under way, for the conditions that end a loop.

In a loop's ``until``, voltage and current mean what was reached in the pass, at any moment of it;
time and charge count from the start of the loop; pressure and temperature are those of the end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cellbench.engine.extremes import Extremes
from cellbench.engine.status import STATUS_NAMES, Status
from cellbench.protocol.conditions import VerdictName, Watched

_PASS = re.compile(r"\[\d+\](?=/|$)")


@dataclass
class _Loop:
    start_s: float
    charge_C: float = 0.0
    extremes: Extremes = field(default_factory=Extremes)


class Passes:
    """The loops under way; each is forgotten when it ends."""

    def __init__(self) -> None:
        self._loops: dict[str, _Loop] = {}

    def begin(self, path: str, time_s: float) -> None:
        """Take note of the start of a step: the loops around it run now."""
        for loop in _loops(path):
            self._loops.setdefault(loop, _Loop(time_s))

    def end(self, path: str, extremes: Extremes | None, charge_C: float) -> None:
        """Take note of a step's end."""
        for name in _loops(path):
            loop = self._loops[name]
            loop.charge_C += charge_C
            if extremes is not None:
                loop.extremes.take(extremes)

    def view(
        self, path: str, now_s: float, status: Status, verdict: Callable[[VerdictName], bool]
    ) -> PassView:
        """Return what a pass that has ended looks like."""
        loop = self._loops.get(_loop_of(path)) or _Loop(now_s)
        return PassView(loop, now_s, status, verdict)

    def ended(self, path: str, *, last: bool) -> None:
        """Begin the next pass, or forget the loop."""
        name = _loop_of(path)
        if last:
            self._loops.pop(name, None)
        elif name in self._loops:
            self._loops[name].extremes = Extremes()


class PassView:
    """The pass of a loop, for `cellbench.protocol.conditions.holds`."""

    def __init__(
        self, loop: _Loop, now_s: float, status: Status, verdict: Callable[[VerdictName], bool]
    ) -> None:
        self._loop = loop
        self._now_s = now_s
        self._status = status
        self.verdict = verdict

    def value(self, quantity: Watched) -> float | None:
        """The value at the end of the pass."""
        match quantity:
            case "time":
                return self._now_s - self._loop.start_s
            case "charge":
                return self._loop.charge_C
            case "voltage" | "current":
                return self._status.value("voltage_V" if quantity == "voltage" else "current_A")
        return self._status.value(STATUS_NAMES[quantity])

    def reached(self, quantity: Watched, *, above: bool) -> float | None:
        """The value that came nearest to a threshold in the pass."""
        seen = self._loop.extremes
        match quantity:
            case "voltage":
                value = seen.voltage_max_V if above else seen.voltage_min_V
            case "current":
                value = seen.current_max_A if above else seen.current_min_A
            case _:
                return self.value(quantity)
        return value if math.isfinite(value) else None

    def slope(self, _quantity: Watched, _window_s: float) -> float | None:
        """Unknown: a loop's past is not kept."""
        return None

    def earlier(self, _quantity: Watched, _age_s: float) -> float | None:
        """Unknown: a loop's past is not kept."""
        return None

    def scatter(self, _quantity: Watched) -> float:
        """None is seen in a past that is not kept."""
        return 0.0


def _loops(path: str) -> list[str]:
    """Names of the loops around a step, e.g. ``repeat[3]/for_each`` of ``.../for_each[2]/eis``."""
    return [path[: match.start()] for match in _PASS.finditer(path)]


def _loop_of(path: str) -> str:
    """Name of the loop of a pass."""
    return path.rpartition("[")[0]
