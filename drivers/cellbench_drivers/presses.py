"""What presses share: what is within their reach, and seeing that a force stays as it is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import PressCapabilities
from cellbench.instruments.readings import Outcome, PressState

#: A force that changes by less than this fraction of full scale between two looks is held.
HELD_FRACTION = 0.02
#: A force below this fraction of full scale is none.
NO_FORCE_FRACTION = 0.002
_LOOKS = 8


def check_reach(
    name: str, able: PressCapabilities, force_N: float, rate_N_per_s: float, force_max_N: float
) -> None:
    """Raise InstrumentError for a force or a rate that the press must not be asked for."""
    lowest_N = able.force_min_N if force_N else 0.0
    _check(name, "force", force_N, lowest_N, min(force_max_N, able.force_max_N))
    _check(name, "rate", rate_N_per_s, 0.0, able.rate_max_N_per_s)
    if rate_N_per_s == 0.0:
        raise InstrumentError(name, "rate 0 gets nowhere")


def bounded_rate(able: PressCapabilities, rate_N_per_s: float) -> float:
    """Return the rate at which a force is taken away: it must go, so that no rate is refused."""
    slowest = able.force_max_N / 3600.0
    return min(max(rate_N_per_s, slowest), able.rate_max_N_per_s)


async def held(
    name: str, able: PressCapabilities, look: Callable[[], Awaitable[PressState]], pause_s: float
) -> Outcome:
    """Look at a press until it stands still under a force that stays; tell what became of it."""
    before = await look()
    for _ in range(_LOOKS):
        await asyncio.sleep(pause_s)
        state = await look()
        drift_N = abs(state.force_N - before.force_N)
        if not state.moving and drift_N <= HELD_FRACTION * able.force_max_N:
            break
        before = state
    else:
        return Outcome(name, f"does not hold {_kilonewtons(state)}", confirmed=False)
    alarm = f", {state.alarm}" if state.alarm else ""
    return Outcome(name, f"holds {_kilonewtons(state)}{alarm}", confirmed=not state.alarm)


def _kilonewtons(state: PressState) -> str:
    return f"{state.force_N / 1e3:.3f} kN"


def _check(name: str, what: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        message = f"{what} {value:g} is outside {lowest:g} to {highest:g}"
        raise InstrumentError(name, message)


@dataclass(frozen=True, slots=True)
class Ramp:
    """A force that changes evenly from one to another, for a press whose host keeps it."""

    start_s: float
    from_N: float
    to_N: float
    rate_N_per_s: float

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.start_s + abs(self.to_N - self.from_N) / self.rate_N_per_s

    def at(self, time_s: float) -> float:
        """Return the force that is wanted at a time."""
        if time_s >= self.end_s:
            return self.to_N
        change_N = self.rate_N_per_s * max(0.0, time_s - self.start_s)
        return self.from_N + math.copysign(change_N, self.to_N - self.from_N)
