"""What a gauge has to do: show the force as it is, and take a zero when it is asked to."""

from __future__ import annotations

import asyncio

from cellbench.instruments.readings import Flag, GaugeReading
from cellbench.testing.checks import NonConformance, check, demand
from cellbench.testing.subject import Session, Subject

_READINGS = 10
_USELESS = Flag.MISSING | Flag.STALE


@check("gauge")
async def force_is_shown(subject: Subject) -> None:
    """Readings are the force, with times in order, as fast as it claims."""
    async with subject.session() as session:
        able, last_s = session.driver.capabilities, -1.0
        for _ in range(_READINGS):
            reading = await _read(session)
            demand(
                reading.time_s > last_s, f"a reading of {reading.time_s:.6g} s after {last_s:.6g} s"
            )
            last_s = reading.time_s
            _require_near(session, reading.force_N, session.force_N())
            await asyncio.sleep(able.interval_min_s)
        age_s = asyncio.get_running_loop().time() - last_s
        demand(0 <= age_s <= 10 * able.interval_min_s + 1, f"the last reading is {age_s:.3g} s old")


@check("gauge")
async def tare_takes_the_zero(subject: Subject) -> None:
    """After a tare it shows nothing, until the force changes."""
    async with subject.session() as session:
        await session.driver.tare()
        reading = await _read(session)
        _require_near(session, reading.force_N, 0.0)


async def _read(session: Session) -> GaugeReading:
    for _ in range(_READINGS):
        reading: GaugeReading = await session.driver.read()
        if not reading.flags & _USELESS:
            return reading
        await asyncio.sleep(session.driver.capabilities.interval_min_s)
    raise NonConformance(f"none of {_READINGS} readings is fresh")


def _require_near(session: Session, found_N: float, true_N: float) -> None:
    able = session.driver.capabilities
    off_N = session.amounts.exactness * able.force_max_N / 2 + 2 * able.resolution_N
    demand(abs(found_N - true_N) <= off_N, f"it shows {found_N:.4g} N, where it is {true_N:.4g} N")
