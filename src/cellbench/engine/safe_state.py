"""The way to the safe state: outside the run's cancel scope, with deadlines, read back.

*Quiet*: the cell at open circuit, the press holding its measured force, the chamber holding.
*Released*: quiet, and then the force ramped to zero. Each instrument is independent of the others'
failures; what could not be read back is reported as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from cellbench.bench import Bench
from cellbench.engine.environment import UNLOADED_FRACTION
from cellbench.engine.trips import SafeState
from cellbench.errors import CellbenchError
from cellbench.instruments.readings import Outcome
from cellbench.instruments.roles import Instrument, Press

#: Deadline of each instrument on its way to quiet.
QUIET_DEADLINE_S = 15.0
#: A press waits this long at most for the cell's confirmed zero current before it moves.
CURRENT_OFF_DEADLINE_S = 5.0
#: Time to take a force away, and the ramp that is used for it (full force in ...).
RELEASE_DEADLINE_S = 180.0
RELEASE_RAMP_S = 60.0


async def make_safe(
    bench: Bench, target: SafeState, report: Callable[[str], None]
) -> Sequence[Outcome]:
    """Bring a bench to a safe state, whatever happens to the task that asked for it.

    Args:
        bench: Whose instruments to act on.
        target: Quiet, or released.
        report: Told when someone asks again while it is under way.

    Returns:
        One outcome per instrument; never raises for an instrument's failure.
    """
    work = asyncio.ensure_future(_make_safe(bench, target))
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                raise
            report("already on the way to the safe state, please wait")
    return work.result()


async def _make_safe(bench: Bench, target: SafeState) -> list[Outcome]:
    channel, press = bench.channel, bench.press
    quiets = {
        instrument.name: asyncio.create_task(
            _attempt(instrument, "quiet", instrument.quiet, QUIET_DEADLINE_S)
        )
        for instrument in bench.instruments()
    }
    release: asyncio.Task[Outcome] | None = None
    if press is not None and target is SafeState.RELEASED:
        waits_for = [quiets[press.name]] if channel is None else [quiets[channel.name]]
        await asyncio.wait(waits_for, timeout=CURRENT_OFF_DEADLINE_S)
        release = asyncio.create_task(
            _attempt(press, "released", lambda: _release(press), RELEASE_DEADLINE_S)
        )
    outcomes = [await task for task in quiets.values()]
    return outcomes if release is None else [*outcomes, await release]


async def _attempt(
    instrument: Instrument, state: str, action: Callable[[], Awaitable[Outcome]], deadline_s: float
) -> Outcome:
    try:
        async with asyncio.timeout(deadline_s):
            return await action()
    except TimeoutError:
        return Outcome(instrument.name, f"{state}: unknown, no answer in {deadline_s:g} s", False)
    except (CellbenchError, OSError) as error:
        return Outcome(instrument.name, f"{state}: unknown ({error})", False)


async def _release(press: Press) -> Outcome:
    full_N = press.capabilities.force_max_N
    await press.release(full_N / RELEASE_RAMP_S)
    while (state := await press.read()).force_N > UNLOADED_FRACTION * full_N:
        await asyncio.sleep(1.0)
    return Outcome(press.name, f"released, {max(state.force_N, 0.0):.0f} N", True)
