"""What a press has to do: reach a force and no more, keep it, let it go, and notice its host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import PressState
from cellbench.testing.checks import NonConformance, NotApplicable, check, demand
from cellbench.testing.common import SAME_FORCE, require_quiet
from cellbench.testing.subject import Session, Subject

_LOOK_S = 1.0
#: No ramp of a check takes longer.
_REACHES_S = 1800.0
#: How long a press on its own is watched.
_ALONE_S = 300.0
#: A force below this part of the capacity is none.
_NONE = 0.02


@check("press")
async def force_is_reached_and_kept(subject: Subject) -> None:
    """It reaches a force at about the rate asked for, keeps it, and takes it away again."""
    async with subject.session() as session:
        force_N, rate = _force_N(session), _rate(session)
        started_s = asyncio.get_running_loop().time()
        await session.driver.ramp_to(force_N, rate, _most_N(session))
        state = await _arrived(session, force_N)
        took_s = asyncio.get_running_loop().time() - started_s
        demand(took_s >= 0.5 * force_N / rate, f"it is there after {took_s:.3g} s: too fast")
        _require_near(session, state.force_N, session.force_N(), "it shows")
        _require_near(session, session.force_N(), force_N, "it keeps")
        await _require_kept(session, _ALONE_S / 5, force_N)
        await session.driver.ramp_to(force_N / 2, rate, _most_N(session))
        await _arrived(session, force_N / 2)
        await session.driver.release(rate)
        await _until(session, lambda state: state.force_N <= _none_N(session), "zero force")
        demand(session.force_N() <= _none_N(session), f"released at {session.force_N():.4g} N")


@check("press")
async def press_out_of_reach_is_refused(subject: Subject) -> None:
    """A force or rate beyond its reach is refused before anything is sent."""
    async with subject.session() as session:
        able, force_N, rate = session.driver.capabilities, _force_N(session), _rate(session)
        most_N = able.force_max_N
        wrong = [
            (1.5 * most_N, rate, 2 * most_N),
            (-force_N, rate, most_N),
            (force_N, 10 * able.rate_max_N_per_s, most_N),
            (force_N, rate, force_N / 2),
        ]
        if able.force_min_N > 0:
            wrong.append((able.force_min_N / 2, rate, most_N))
        sent = session.line.sent
        for each in wrong:
            try:
                await session.driver.ramp_to(*each)
            except InstrumentError:
                demand(session.line.sent == sent, f"it sends something before it refuses {each}")
            else:
                raise NonConformance(f"it accepts force, rate and limit of {each}")


@check("press")
async def quiet_holds_in_the_middle(subject: Subject) -> None:
    """Quiet in the middle of a ramp stays there, under the force of that moment."""
    async with subject.session() as session:
        force_N = _force_N(session)
        rate = min(_rate(session), force_N / _RAMP_S)
        ramp = asyncio.ensure_future(session.driver.ramp_to(force_N, rate, _most_N(session)))
        while not ramp.done() and session.force_N() < force_N / 2:
            await asyncio.sleep(_LOOK_S)
        while session.force_N() < force_N / 2:
            await session.driver.read()
            await asyncio.sleep(_LOOK_S)
        await asyncio.gather(_cancelled(ramp))
        at_N = session.force_N()
        await require_quiet(session)
        rise_N = SAME_FORCE * session.driver.capabilities.force_max_N + 5 * _LOOK_S * rate
        demand(
            abs(session.force_N() - at_N) <= rise_N,
            f"quiet at {at_N:.4g} N, held at {session.force_N():.4g} N",
        )
        await session.driver.release(_rate(session))
        await _until(session, lambda state: state.force_N <= _none_N(session), "zero force")


async def _cancelled(ramp: asyncio.Future[None]) -> None:
    ramp.cancel()
    await asyncio.wait([ramp])


@check("press")
async def press_without_its_host(subject: Subject) -> None:
    """Without its host it keeps its force, or lets go within what it says of its heartbeat."""
    async with subject.session() as session:
        able, force_N = session.driver.capabilities, _force_N(session)
        if not able.own_loop:
            raise NotApplicable("it has no loop of its own, and says so")
        await session.driver.ramp_to(force_N, _rate(session), _most_N(session))
        await _arrived(session, force_N)
        if able.heartbeat_s is not None:
            await _require_kept(session, 2 * able.heartbeat_s, force_N)
        session.line.silent = True
        await asyncio.sleep(_ALONE_S if able.heartbeat_s is None else able.heartbeat_s / 2)
        _require_near(session, session.force_N(), force_N, "alone, it keeps")
        if able.heartbeat_s is not None:
            await asyncio.sleep(able.heartbeat_s + _REACHES_S)
            demand(
                session.force_N() <= _none_N(session),
                f"its host is dead, and it keeps {session.force_N():.4g} N",
            )
        session.line.heal()
        state = await session.driver.read()
        _require_near(session, state.force_N, session.force_N(), "after that, it shows")


_RAMP_S = 60.0


def _force_N(session: Session) -> float:
    able = session.driver.capabilities
    return float(max(2 * able.force_min_N, session.amounts.force_fraction * able.force_max_N))


def _rate(session: Session) -> float:
    return float(session.driver.capabilities.rate_max_N_per_s) / 2


def _most_N(session: Session) -> float:
    return float(session.driver.capabilities.force_max_N)


def _none_N(session: Session) -> float:
    return _NONE * _most_N(session)


def _require_near(session: Session, found_N: float, true_N: float, what: str) -> None:
    off_N = abs(found_N - true_N)
    demand(off_N <= SAME_FORCE * _most_N(session), f"{what} {found_N:.4g} N, not {true_N:.4g} N")


async def _arrived(session: Session, force_N: float) -> PressState:
    return await _until(session, lambda state: state.at_target, f"{force_N:.4g} N")


async def _until(session: Session, reached: Callable[[PressState], bool], what: str) -> PressState:
    """Look at the press until something is true of it."""
    now = asyncio.get_running_loop().time
    deadline_s = now() + _REACHES_S
    while now() < deadline_s:
        state: PressState = await session.driver.read()
        demand(not state.alarm, f"on the way to {what}: alarm {state.alarm}")
        if reached(state):
            return state
        await asyncio.sleep(_LOOK_S)
    raise NonConformance(
        f"{what} is not reached in {_REACHES_S:g} s, only {session.force_N():.4g} N"
    )


async def _require_kept(session: Session, for_s: float, force_N: float) -> None:
    """Look at it for a while, as often as a host does."""
    now = asyncio.get_running_loop().time
    end_s = now() + for_s
    while now() < end_s:
        await session.driver.read()
        _require_near(session, session.force_N(), force_N, "it keeps")
        await asyncio.sleep(_LOOK_S)
