"""What chambers share: set points within their range, which they keep by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChamberCapabilities
from cellbench.instruments.readings import ChamberState, Outcome

ZERO_CELSIUS_K = 273.15


def check_set_point(name: str, able: ChamberCapabilities, temperature_K: float) -> None:
    """Raise InstrumentError for a temperature that the chamber must not be asked for."""
    lowest_K, highest_K = able.temperature_min_K, able.temperature_max_K
    if not lowest_K <= temperature_K <= highest_K:
        message = f"{temperature_K:g} K is outside {lowest_K:g} K to {highest_K:g} K"
        raise InstrumentError(name, message)


async def still_holds(name: str, read: Callable[[], Awaitable[ChamberState]]) -> Outcome:
    """Say which set point a chamber keeps by itself, as it is read back."""
    try:
        state = await read()
    except InstrumentError as error:
        return Outcome(name, f"temperature unknown: {error}", confirmed=False)
    celsius = state.set_point_K - ZERO_CELSIUS_K
    alarm = f", {state.alarm}" if state.alarm else ""
    return Outcome(name, f"holds {celsius:.1f} degC{alarm}", confirmed=not alarm)
