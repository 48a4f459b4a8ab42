"""What gauges share: they drive nothing, so that their safe state is to be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import GaugeReading, Outcome


async def still_reads(name: str, read: Callable[[], Awaitable[GaugeReading]]) -> Outcome:
    """Say whether a gauge still answers, and what."""
    try:
        reading = await read()
    except InstrumentError as error:
        return Outcome(name, f"does not read: {error}", confirmed=False)
    return Outcome(name, f"reads {reading.force_N:.1f} N", confirmed=True)
