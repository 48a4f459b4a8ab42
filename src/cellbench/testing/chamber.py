"""What a chamber has to do: take a set point and no other, go there, and show what it is."""

from __future__ import annotations

import asyncio

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import ChamberState
from cellbench.testing.checks import NonConformance, check, demand
from cellbench.testing.common import require_quiet
from cellbench.testing.subject import Session, Subject

#: Chambers round set points to a tenth; sensors differ from the air by this much.
_ROUNDED_K, _SENSOR_K = 0.06, 2.0
_CHANGE_K = 5.0
_LOOK_S = 60.0
_REACHES_S = 3 * 3600.0


@check("chamber")
async def temperature_is_reached(subject: Subject) -> None:
    """It takes a set point, shows it, goes there, and quiet keeps it."""
    async with subject.session() as session:
        able = session.driver.capabilities
        start = await _look(session)
        demand(
            abs(start.temperature_K - session.temperature_K()) <= _SENSOR_K,
            f"it shows {start.temperature_K:.2f} K, where it is {session.temperature_K():.2f} K",
        )
        target_K = start.temperature_K + _CHANGE_K
        if target_K > able.temperature_max_K:
            target_K = start.temperature_K - _CHANGE_K
        await session.driver.set_temperature(target_K)
        state = await _look(session)
        _require_set(state, target_K)
        for _ in range(round(_REACHES_S / _LOOK_S)):
            if abs(state.temperature_K - target_K) < 1.0:
                break
            await asyncio.sleep(_LOOK_S / 6)
            state = await _look(session)
        else:
            raise NonConformance(f"after {_REACHES_S:g} s it is at {state.temperature_K:.2f} K")
        await require_quiet(session)
        _require_set(await _look(session), target_K)


@check("chamber")
async def temperature_out_of_range_is_refused(subject: Subject) -> None:
    """A set point beyond its range is refused before anything is sent."""
    async with subject.session() as session:
        able, sent = session.driver.capabilities, session.line.sent
        for wrong_K in (able.temperature_max_K + 5, able.temperature_min_K - 5):
            try:
                await session.driver.set_temperature(wrong_K)
            except InstrumentError:
                demand(session.line.sent == sent, "it sends something before it refuses")
            else:
                raise NonConformance(f"it accepts a set point of {wrong_K:.1f} K")


@check("chamber")
async def connecting_keeps_the_set_point(subject: Subject) -> None:
    """A host that comes anew finds the set point that the one before it left."""
    async with subject.session() as session:
        able = session.driver.capabilities
        target_K = round(0.5 * (able.temperature_min_K + able.temperature_max_K)) + 0.15
        await session.driver.set_temperature(target_K)
        await session.driver.close()
        after = await session.new_host()
        _require_set(await after.driver.read(), target_K)
        await after.driver.close()


async def _look(session: Session) -> ChamberState:
    state: ChamberState = await session.driver.read()
    demand(not state.alarm, f"alarm: {state.alarm}")
    return state


def _require_set(state: ChamberState, target_K: float) -> None:
    off_K = abs(state.set_point_K - target_K)
    demand(off_K <= _ROUNDED_K, f"it is set to {state.set_point_K:.2f} K, not {target_K:.2f} K")
