"""The way to the safe state: outside the run's cancel scope, with deadlines, read back.

*Quiet*: the cell at open circuit, the press holding its measured force, the chamber holding.
*Released*: quiet, and then the force ramped to zero. Each instrument is independent of the others'
failures; what could not be read back is reported as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from cellbench.engine.trips import SafeState
from cellbench.instruments.capabilities import PressCapabilities
from cellbench.instruments.readings import Outcome, PressState

#: Deadline of each instrument on its way to quiet. A potentiostat may have to finish a period of
#: its lowest frequency first.
QUIET_DEADLINE_S = 15.0
CHANNEL_DEADLINE_S = 240.0
#: How often an instrument is asked for it within that time.
QUIET_TRIES = 3
#: A press waits this long at most for the cell's confirmed zero current before it moves, a switch
#: before it opens.
CURRENT_OFF_DEADLINE_S = 5.0
#: Time to take a force away, and the ramp that is used for it (full force in ...).
RELEASE_DEADLINE_S = 180.0
RELEASE_RAMP_S = 60.0
LOOK_INTERVAL_S = 1.0
#: A force below this fraction of the press's full scale counts as none.
UNLOADED_FRACTION = 0.002

T = TypeVar("T")


class Quieted(Protocol):
    """What is brought to quiet: an instrument, or one that has to be reached first."""

    @property
    def name(self) -> str:
        """As the bench file calls it."""

    async def quiet(self) -> Outcome:
        """Bring it to its quiet state and read that back."""


class Unloaded(Quieted, Protocol):
    """A press, as far as taking its force away goes; see `cellbench.instruments.roles.Press`."""

    @property
    def capabilities(self) -> PressCapabilities:
        """What it can do."""

    async def release(self, rate_N_per_s: float) -> None:
        """Ramp the force to zero and stay there."""

    async def read(self) -> PressState:
        """Look at it."""


class MadeSafe(Protocol):
    """A bench, as far as its safe state goes; see `cellbench.bench.Bench`."""

    @property
    def press(self) -> Unloaded | None:
        """What presses the stack."""

    @property
    def switch(self) -> Quieted | None:
        """What the cell is connected through."""

    def channels(self) -> Sequence[Quieted]:
        """All that can energise the cell."""

    def instruments(self) -> Sequence[Quieted]:
        """All instruments but the switch, the channels first."""


async def make_safe(
    bench: MadeSafe, target: SafeState, told: Callable[[Outcome], None] | None = None
) -> Sequence[Outcome]:
    """Bring a bench to a safe state.

    Args:
        bench: The bench.
        target: Which safe state.
        told: Called with each outcome when it is known.

    Returns:
        One outcome per instrument and action; never raises for an instrument's failure.
    """
    channels, press, switch = bench.channels(), bench.press, bench.switch
    quiets = {
        instrument.name: asyncio.create_task(
            attempt(
                instrument,
                "quiet",
                partial(_quiet, instrument),
                CHANNEL_DEADLINE_S if instrument in channels else QUIET_DEADLINE_S,
            )
        )
        for instrument in bench.instruments()
    }
    currents_off = [quiets[each.name] for each in channels]
    if switch is not None:
        quiets[switch.name] = asyncio.create_task(_opened(switch, currents_off))
    release: asyncio.Task[Outcome] | None = None
    if press is not None and target is SafeState.RELEASED:
        # The press's own quiet first: two orders to one machine must not cross.
        before = [*currents_off, quiets[press.name]]
        await asyncio.wait(before, timeout=CURRENT_OFF_DEADLINE_S)
        release = asyncio.create_task(
            attempt(press, "released", lambda: _release(press), RELEASE_DEADLINE_S)
        )
    if told is not None:
        for task in [*quiets.values(), *([] if release is None else [release])]:
            task.add_done_callback(lambda task: told(task.result()))
    outcomes = [await task for task in quiets.values()]
    return outcomes if release is None else [*outcomes, await release]


async def to_the_end(work: Coroutine[Any, Any, T], say: Callable[[str], None]) -> T:
    """Await ``work`` to its end, however often the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            say("already on the way to the safe state, please wait")
    return task.result()


async def attempt(
    instrument: Quieted,
    state: str,
    action: Callable[[], Awaitable[Outcome]],
    deadline_s: float,
) -> Outcome:
    """Act within a deadline; a failure is an outcome that is unknown, and no exception."""
    try:
        async with asyncio.timeout(deadline_s):
            return await action()
    except TimeoutError:
        return Outcome(instrument.name, f"{state}: unknown, no answer in {deadline_s:g} s", False)
    except Exception as error:  # noqa: BLE001 (one instrument's bug is not the others' danger)
        return Outcome(instrument.name, f"{state}: unknown ({error})", False)


async def _quiet(instrument: Quieted) -> Outcome:
    """Ask for its quiet state, again where it was not confirmed: one reply may have been lost."""
    outcome = await instrument.quiet()
    for _ in range(QUIET_TRIES - 1):
        if outcome.confirmed:
            break
        outcome = await instrument.quiet()
    return outcome


async def _opened(switch: Quieted, currents_off: Sequence[asyncio.Task[Outcome]]) -> Outcome:
    """Open the contacts last; a channel that does not answer cannot keep the cell."""
    await asyncio.wait(currents_off, timeout=CURRENT_OFF_DEADLINE_S)
    return await attempt(switch, "open", switch.quiet, QUIET_DEADLINE_S)


async def _release(press: Unloaded) -> Outcome:
    await press.release(press.capabilities.force_max_N / RELEASE_RAMP_S)
    state = await unloaded(press)
    return Outcome(press.name, f"released, {max(state.force_N, 0.0):.0f} N", True)


async def unloaded(press: Unloaded) -> PressState:
    """Wait until a press that was told to release has let go, and stands still."""
    limit_N = UNLOADED_FRACTION * press.capabilities.force_max_N
    while (state := await press.read()).force_N > limit_N or state.moving:
        await asyncio.sleep(LOOK_INTERVAL_S)
    return state
