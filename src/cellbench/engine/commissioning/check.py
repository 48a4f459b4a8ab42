"""Who answers on a bench: identities, limits, readings, and that all of it is in its safe state.

Nothing is energised. Whatever an instrument was doing is ended, as a run would end it; a test that
a cycler runs by itself goes on, because it may be one that is to be resumed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from cellbench.engine.commissioning.installation import Installation
from cellbench.engine.safe_state import CHANNEL_DEADLINE_S, QUIET_DEADLINE_S, attempt
from cellbench.errors import CellbenchError
from cellbench.instruments.readings import Identity
from cellbench.instruments.roles import (
    ByHand,
    Chamber,
    Channel,
    Cycler,
    Gauge,
    Instrument,
    Operator,
    Press,
)

_ZERO_CELSIUS_K = 273.15


@dataclass
class Checked:
    """One instrument, as it was found.

    Attributes:
        reading: What it reads at this moment, for a person.
        capabilities: What it can do, as its driver declares it now that it has asked.
        unverified: Capabilities that nobody has verified on such an instrument.
        state: The safe state, as read back.
        confirmed: Whether that was read back.
        error: Why it could not be checked; empty if it could.
    """

    name: str
    driver: str
    port: str
    role: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    remarks: tuple[str, ...] = ()
    reading: str = ""
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    unverified: tuple[str, ...] = ()
    state: str = ""
    confirmed: bool = False
    error: str = ""

    @property
    def sound(self) -> bool:
        """Whether it answered, and is in its safe state."""
        return self.confirmed and not self.error


async def check(installation: Installation, operator: Operator | None = None) -> list[Checked]:
    """Check every instrument of a bench, each independent of the others' failures.

    Raises:
        InputError: The bench file is wrong.
        InstrumentError: Another process has one of the instruments.
    """
    found = [
        Checked(name, entry.driver, entry.port, installation.driver(name).role)
        for name, entry in installation.file.instruments.items()
    ]
    connected: dict[str, tuple[Instrument, Identity]] = {}
    with installation.owned("bench check"):
        async with installation.switched_on(), AsyncExitStack() as stack:
            for each in found:
                try:
                    instrument = await installation.instrument(each.name, operator)
                    stack.push_async_callback(instrument.close)
                    connected[each.name] = instrument, await instrument.connect()
                except CellbenchError as error:
                    each.error = _without(each.name, error)
            _introduce([instrument for instrument, _ in connected.values()])
            for each in found:
                if each.name in connected:
                    await _look(each, *connected[each.name])
    return found


def _introduce(instruments: list[Instrument]) -> None:
    """Tell what a person works which gauge confirms it."""
    gauge = next((each for each in instruments if isinstance(each, Gauge)), None)
    for each in instruments:
        if isinstance(each, ByHand):
            each.gauge = gauge


async def _look(each: Checked, instrument: Instrument, identity: Identity) -> None:
    each.model, each.serial, each.firmware = identity.model, identity.serial, identity.firmware
    each.remarks = identity.remarks
    # Each role has its own kind of capabilities; a driver of one's own may have none.
    declared = getattr(instrument, "capabilities", None)
    if declared is not None:
        each.capabilities = {key: plain(value) for key, value in asdict(declared).items()}
        each.unverified = tuple(getattr(declared, "unverified", ()))
    if isinstance(instrument, Cycler) and identity.found_active:
        each.state = "a test is under way, left alone"
        return
    deadline_s = CHANNEL_DEADLINE_S if isinstance(instrument, Channel) else QUIET_DEADLINE_S
    outcome = await attempt(instrument, "quiet", instrument.quiet, deadline_s)
    each.state, each.confirmed = outcome.state, outcome.confirmed
    try:
        each.reading = await _reading(instrument)
    except CellbenchError as error:
        each.error = _without(each.name, error)


async def _reading(instrument: Instrument) -> str:
    readers: list[tuple[type, Callable[[Any], Awaitable[str]]]] = [
        (Press, _force_of_press),
        (Chamber, _temperature),
        (Gauge, _force_of_gauge),
    ]
    for role, read in readers:
        if isinstance(instrument, role) and not isinstance(instrument, ByHand):
            return await read(instrument)
    return ""


async def _force_of_press(press: Press) -> str:
    return f"{(await press.read()).force_N:.4g} N"


async def _force_of_gauge(gauge: Gauge) -> str:
    return f"{(await gauge.read()).force_N:.4g} N"


async def _temperature(chamber: Chamber) -> str:
    state = await chamber.read()
    alarm = f", alarm: {state.alarm}" if state.alarm else ""
    set_point = f", set point {state.set_point_K - _ZERO_CELSIUS_K:.1f} °C"
    measured = f"{state.temperature_K - _ZERO_CELSIUS_K:.1f} °C"
    return measured + ("" if math.isnan(state.set_point_K) else set_point) + alarm


def _without(name: str, error: CellbenchError) -> str:
    return str(error).removeprefix(f"{name}: ")


def plain(value: Any) -> Any:
    """A capability as JSON can say it."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value
