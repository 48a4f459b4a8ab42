"""What every driver has to do: say who it is, energise nothing, be quiet, go away."""

from __future__ import annotations

import asyncio
import math
from dataclasses import fields
from typing import Any

from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.capabilities import (
    ChamberCapabilities,
    ChannelCapabilities,
    GaugeCapabilities,
    PressCapabilities,
    SwitchCapabilities,
)
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Chamber, Channel, Gauge, Press, Switch
from cellbench.testing.checks import NonConformance, NotApplicable, check, demand
from cellbench.testing.subject import Session, Subject
from cellbench.transport import SerialSettings, pipe

_ROLES: dict[str, tuple[Any, type[Any]]] = {
    "channel": (Channel, ChannelCapabilities),
    "press": (Press, PressCapabilities),
    "gauge": (Gauge, GaugeCapabilities),
    "chamber": (Chamber, ChamberCapabilities),
    "switch": (Switch, SwitchCapabilities),
}
#: A force that changes by less than this part of the press's capacity is the same.
SAME_FORCE = 0.02
_LOOKS_S = 10.0
_STEADY_LOOKS = 5


@check()
async def class_says_what_it_is(subject: Subject) -> None:
    """The class says its role, its instruments, its port, and plays that role."""
    driver = subject.driver
    demand(driver.role in _ROLES, f'role "{driver.role}" is none of {", ".join(_ROLES)}')
    demand(driver.summary.strip(), "there is no summary of the instruments that it speaks to")
    demand(driver.serial is None or isinstance(driver.serial, SerialSettings), "serial: settings?")
    demand(driver.tcp_port is None or 0 < driver.tcp_port < 65536, "tcp_port is no port")
    built = driver(subject.name, pipe()[0], subject.options)
    demand(built.name == subject.name, f"it is called {built.name}, not {subject.name}")
    role, capabilities = _ROLES[driver.role]
    demand(isinstance(built, role), f"it lacks methods of a {driver.role}")
    found: Any = built
    demand(
        isinstance(found.capabilities, capabilities),
        "it has no capabilities before it is connected: nothing can be planned with it",
    )


@check()
async def unknown_option_is_refused(subject: Subject) -> None:
    """An option that it does not know is an InputError that names it."""
    try:
        subject.driver(subject.name, pipe()[0], {**subject.options, "colour of paint": "red"})
    except InputError as error:
        demand("colour" in str(error), f"the error does not name the option: {error}")
    else:
        raise NonConformance('the option "colour of paint" is taken')


@check()
async def capabilities_make_sense(subject: Subject) -> None:
    """Capabilities are finite numbers in order, before and after it is connected.

    Only a watchdog that there is not may take for ever.
    """
    async with subject.session(connected=False) as session:
        _require_sense(session.driver.capabilities)
        await session.driver.connect()
        _require_sense(session.driver.capabilities)


def _require_sense(able: Any) -> None:
    demand(able.model, "the model has no name")
    numbers = {each.name: getattr(able, each.name) for each in fields(able)}
    for name, value in numbers.items():
        if isinstance(value, float):
            never = name == "silent_s" and value == math.inf
            demand(never or math.isfinite(value), f"{name} is {value}")
        if name.endswith("_max_N") or name.startswith(("rate_max", "interval_min", "current_m")):
            demand(value > 0, f"{name} is {value}")
        if "_min_" in name and (other := name.replace("_min_", "_max_")) in numbers:
            demand(value < numbers[other], f"{name} is not below {other}")
    if isinstance(able, ChannelCapabilities):
        _require_honest_channel(able)
    if isinstance(able, SwitchCapabilities):
        demand(able.positions, "it has no positions")


def _require_honest_channel(able: ChannelCapabilities) -> None:
    known = {"rest", "constant current", "constant voltage", "sweep", "impedance"}
    demand(able.techniques <= known, f"unknown techniques: {set(able.techniques - known)}")
    demand(
        ("impedance" in able.techniques) == (able.impedance is not None),
        "spectra are listed without a band, or a band without spectra",
    )
    known = {"duration", "voltage", "current"}
    demand(able.on_device <= known, f"on_device: unknown {set(able.on_device - known)}")
    demand(able.reaction.total_s > 0, "it reacts in no time at all")
    if "duration" in able.on_device:
        demand(able.bounded_without_host, "it ends by itself, and is not bounded without a host")


@check()
async def it_says_who_answered(subject: Subject) -> None:
    """Connecting says which instrument answered; twice says the same."""
    async with subject.session(connected=False) as session:
        first = await session.driver.connect()
        demand(isinstance(first, Identity) and first.model, "connect does not say the model")
        again = await session.driver.connect()
        demand(
            (again.model, again.serial) == (first.model, first.serial),
            f"it is {first.model} {first.serial}, and then {again.model} {again.serial}",
        )


@check()
async def connecting_changes_nothing(subject: Subject) -> None:
    """Connecting energises nothing, and leaves force, set point and contacts as they are."""
    async with subject.session(connected=False) as session:
        before, seen = _truth(session), []
        session.line.on_exchange = lambda: seen.append(_truth(session))
        await session.driver.connect()
        seen.append(_truth(session))
        for state in seen:
            demand(_same(before, state), f"connecting takes it from {before} to {state}")


def _truth(session: Session) -> bool | float | frozenset[str]:
    match session.subject.role:
        case "channel":
            return session.energised()
        case "press" | "gauge":
            return session.force_N() / float(session.driver.capabilities.force_max_N)
        case "switch":
            return session.closed()
        case _:
            return session.temperature_K() / 1e3


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return bool(abs(one - other) < SAME_FORCE)
    return bool(one == other)


@check()
async def quiet_after_connecting(subject: Subject) -> None:
    """After connecting, quiet is confirmed, twice in a row."""
    async with subject.session() as session:
        for _ in range(2):
            await require_quiet(session)


@check()
async def quiet_is_honest_on_a_dead_line(subject: Subject) -> None:
    """On a line that is silent or gone, quiet says in time that it does not know."""
    if subject.role == "gauge":
        raise NotApplicable("a gauge is always quiet")
    async with subject.session() as session:
        require_wire(session)
        session.line.silent = True
        outcome = await _quiet(session)
        demand(not outcome.confirmed, f'it takes silence for "{outcome.state}"')
        session.line.heal()
        await require_quiet(session)
        await session.line.close()
        outcome = await _quiet(session)
        demand(not outcome.confirmed, f'without a connection it confirms "{outcome.state}"')


@check()
async def closing_is_final(subject: Subject) -> None:
    """Closing can be repeated; afterwards connecting is an InstrumentError."""
    async with subject.session() as session:
        require_wire(session)
        await session.driver.close()
        await session.driver.close()
        try:
            await session.driver.connect()
        except InstrumentError:
            return
        raise NonConformance("it connects on a connection that it gave up")


def require_wire(session: Session) -> None:
    """Leave out a check that needs bytes that go to the instrument."""
    if session.line.sent == 0:
        raise NotApplicable("no byte goes to it: a person works it, or a library")


async def _quiet(session: Session) -> Outcome:
    try:
        async with asyncio.timeout(QUIET_S):
            outcome: Outcome = await session.driver.quiet()
    except TimeoutError as error:
        raise NonConformance(f"quiet takes more than {QUIET_S:g} s") from error
    except Exception as error:
        raise NonConformance(f"quiet raises {error!r}, instead of saying unknown") from error
    demand(outcome.instrument == session.subject.name, "the outcome is another instrument's")
    demand(outcome.state, "the outcome does not say the state")
    return outcome


async def require_quiet(session: Session) -> None:
    """Bring it to its quiet state, which has to be confirmed, and true."""
    await require_confirmed(session)
    await require_safe(session)


async def require_confirmed(session: Session) -> None:
    """Bring it to its quiet state, which has to be confirmed."""
    outcome = await _quiet(session)
    demand(outcome.confirmed, f'quiet is not confirmed: "{outcome.state}"')


async def require_honest_quiet(session: Session) -> None:
    """Ask for its quiet state on whatever line there is: what it confirms has to be true."""
    if (await _quiet(session)).confirmed:
        await require_safe(session)


async def require_safe(session: Session) -> None:
    """Look at the truth: the cell is off, the press holds its force, every contact is open."""
    match session.subject.role:
        case "channel":
            demand(not session.energised(), "the cell is energised, after quiet was confirmed")
        case "switch":
            demand(not session.closed(), f"closed after quiet: {sorted(session.closed())}")
        case "press":
            await _require_held(session)


async def _require_held(session: Session) -> None:
    first_N = session.force_N()
    capacity_N = session.driver.capabilities.force_max_N
    for _ in range(_STEADY_LOOKS):
        await asyncio.sleep(_LOOKS_S / _STEADY_LOOKS)
        if not session.line.silent and not session.line.lost:
            await session.driver.read()
        force_N = session.force_N()
        demand(
            abs(force_N - first_N) <= SAME_FORCE * capacity_N,
            f"after quiet the force goes from {first_N:.4g} N to {force_N:.4g} N",
        )


#: The way to the quiet state has a deadline, as an engine has that waits for it.
QUIET_S = 400.0
