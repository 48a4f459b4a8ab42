"""What a guard does: one coroutine, a process of its own in real time, a second host in simulation.

It listens, and does nothing else while the engine lives. Silence counts only as far as this process
itself was running: a computer that slept, or was busy, is no reason to end anybody.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cellbench.engine.guard.handover import LOOK_S
from cellbench.engine.guard.ledger import Kind, Ledger
from cellbench.engine.guard.messages import Messages, Over, Step
from cellbench.engine.reach import Reachable, ReachableBench, ReachablePress
from cellbench.engine.safe_state import (
    CHANNEL_DEADLINE_S,
    CURRENT_OFF_DEADLINE_S,
    QUIET_DEADLINE_S,
    UNLOADED_FRACTION,
    attempt,
)
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Outcome, PressState
from cellbench.instruments.roles import Chamber, Channel, Cycler, Gauge
from cellbench.instruments.techniques import ElectricalLimits, Rest
from cellbench.quantities import format_quantity

_TICK_S = 0.5
#: Between two attempts at an instrument: at first, and at most.
_PAUSE_S, _PAUSE_MAX_S = 1.0, 30.0
#: How long an instrument is tried of which an engine that has ended knew nothing.
ONCE_S = 60.0
#: So long after its declared bound a step that was left alone is over for sure.
_MARGIN_S = 60.0
#: How long the voltage is looked at when the cell is at open circuit.
_LOOK_AT_CELL_S = 2.0
_LOOK_DEADLINE_S = 30.0
#: A press that expects a heartbeat is looked at so often within its time, and at least so often.
_FEEDS = 4.0
_FEED_MAX_S = 5.0


class Engine(Protocol):
    """The process that is watched."""

    def end(self) -> Awaitable[str]:
        """End it for good, if it is still there; returns what became of it."""


@dataclass(frozen=True)
class Reaction:
    """When a guard acts.

    Attributes:
        silence_s: Silence of the engine that counts as its loss; None: only its end does.
        limits: Electrical limits of the cell, for looking at its voltage; None: it is not looked
            at.
    """

    silence_s: float | None = 10.0
    limits: ElectricalLimits | None = None


def nobody() -> None:
    """Nobody asks a guard to let go."""


async def guard(
    messages: Messages,
    engine: Engine,
    bench: ReachableBench,
    ledger: Ledger,
    reaction: Reaction,
    asked: Callable[[], str | None] = nobody,
) -> None:
    """Listen to an engine to its end, and should it be lost bring its bench to quiet.

    Where the engine ended in order, and could not read back an instrument's safe state, that is
    tried once more.

    Args:
        messages: What the engine says.
        engine: The engine, to be ended first: two never talk to one instrument.
        bench: The bench, none of it reached: nothing is opened while the engine lives.
        ledger: Where it is entered.
        reaction: When.
        asked: Tells who asks for the bench, which is then given up.
    """
    listening = _Listening(messages, reaction.silence_s)
    lost = await listening.until_lost()
    if isinstance(lost, Over) and not lost.unknown:
        ledger.enter(Kind.OVER, "the engine has left the bench in its own order")
        return
    unknown = lost.unknown if isinstance(lost, Over) else ()
    ledger.enter(
        Kind.NOTICED,
        f"its run ended, and left {', '.join(unknown)} unknown" if unknown else str(lost),
        step=listening.step.path,
        channels=[each.name for each in bench.channels()],
    )
    quieting = _Quieting(bench, ledger, listening.bounds(), reaction.limits)
    if unknown:
        ledger.enter(Kind.ENDED, await quieting.once(unknown))
        return
    ledger.enter(Kind.ENGINE, await engine.end())
    ledger.enter(Kind.ENDED, await quieting.run(asked))


class _Listening:
    """What is known of the engine from what it says.

    Attributes:
        step: What it said of the step under way.
    """

    def __init__(self, messages: Messages, silence_s: float | None) -> None:
        self.step = Step("")
        self._messages = messages
        self._silence_s = math.inf if silence_s is None else silence_s
        self._told_s = _now_s()

    async def until_lost(self) -> str | Over:
        """Return how the engine was lost, or with what it came to its own end."""
        silent_s, last_s = 0.0, _now_s()
        while True:
            try:
                async with asyncio.timeout(_TICK_S):
                    message = await self._messages.next()
            except TimeoutError:
                silent_s += min(_now_s() - last_s, 2 * _TICK_S)
                last_s = _now_s()
                if silent_s >= self._silence_s:
                    return f"no sign of life for {silent_s:g} s"
                continue
            silent_s, last_s = 0.0, _now_s()
            match message:
                case None:
                    return "its process is gone, without a word"
                case Over():
                    return message
                case Step():
                    self.step, self._told_s = message, last_s
                case _:
                    pass  # a beat says nothing more than that it came

    def bounds(self) -> dict[str, float]:
        """Loop time at which each channel that goes on by itself has ended, at the latest."""
        return {name: self._told_s + s for name, s in self.step.continues.items()}


class _Quieting:
    """Brings a bench to quiet and keeps it there, each instrument independently of the others.

    Args:
        bench: Its instruments.
        ledger: Where it is entered.
        bounds: Channels to be left alone, and until which loop time.
        limits: See `Reaction`.
    """

    def __init__(
        self,
        bench: ReachableBench,
        ledger: Ledger,
        bounds: Mapping[str, float],
        limits: ElectricalLimits | None,
    ) -> None:
        self._bench, self._ledger = bench, ledger
        self._bounds, self._limits = bounds, limits
        self._started_s = _now_s()
        self._last: dict[str, Outcome] = {}
        self._is_quiet = False
        self._tried = {each.name: asyncio.Event() for each in bench.all()}
        self._done = {each.name: asyncio.Event() for each in bench.all()}

    async def run(self, asked: Callable[[], str | None]) -> str:
        """Return when nothing is left to be done, or somebody asks for the bench; says which."""
        work = [
            asyncio.create_task(self._keep(each), name=f"guard of {each.name}")
            for each in self._bench.all()
        ]
        try:
            while not all(task.done() for task in work):
                if (who := asked()) is not None:
                    return f"the bench was given to {who}"
                await asyncio.wait(work, timeout=LOOK_S, return_when=asyncio.ALL_COMPLETED)
            return "nothing is left to be done"
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await self._bench.give_up()

    async def once(self, names: Sequence[str]) -> str:
        """Try once to bring some instruments to quiet; says what came of it."""
        tried = [each for each in self._bench.all() if each.name in names and not each.by_hand]
        try:
            outcomes = await asyncio.gather(
                *(attempt(each, "quiet", each.quiet, ONCE_S) for each in tried)
            )
        finally:
            await self._bench.give_up()
        for instrument, outcome in zip(tried, outcomes, strict=True):
            self._enter(instrument, outcome)
        left = [each.instrument for each in outcomes if not each.confirmed]
        return f"still unknown: {', '.join(left)}" if left else "all of it is known by now"

    async def _keep(self, instrument: Reachable) -> None:
        """Bring one instrument to quiet, and keep it there as long as it needs somebody."""
        await self._wait_for_turn(instrument)
        while True:
            await self._quieten(instrument)
            try:
                await self._look(instrument)
                if not isinstance(instrument, ReachablePress):
                    return
                await self._feed(instrument)
            except Exception as error:  # noqa: BLE001 (a driver's bug must not end the keeping)
                self._ledger.enter(
                    Kind.TROUBLE, f"{instrument.name}: {error}", instrument=instrument.name
                )
                await instrument.hang_up()
                if not isinstance(instrument, ReachablePress):
                    # A look that failed may have left the cell in another state.
                    await self._quieten(instrument)
                    return
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _wait_for_turn(self, instrument: Reachable) -> None:
        """A channel may be left alone; contacts are opened last, and not under a channel's test."""
        if instrument is self._bench.switch:
            for channel in self._bench.channels():
                if channel.name in self._bounds:
                    await self._done[channel.name].wait()
            tries = [self._tried[each.name].wait() for each in self._bench.channels()]
            waiting = asyncio.gather(*tries)
            try:
                await asyncio.wait_for(waiting, CURRENT_OFF_DEADLINE_S)
            except TimeoutError:
                return
        elif instrument.name in self._bounds:
            left_s = max(0.0, self._bounds[instrument.name] - _now_s())
            text = (
                f"{instrument.name} goes on by itself, as its step declares, for "
                f"{format_quantity(left_s, 'time')} at most: left alone"
            )
            self._ledger.enter(Kind.LEFT_ALONE, text, instrument=instrument.name, at_most_s=left_s)
            await asyncio.sleep(left_s + _MARGIN_S)

    # --- To quiet -------------------------------------------------------------------------------

    async def _quieten(self, instrument: Reachable) -> None:
        """Try until its quiet state is read back; a press by hand, which nobody reads, once."""
        deadline_s = CHANNEL_DEADLINE_S if instrument.role == "channel" else QUIET_DEADLINE_S
        pause_s = _PAUSE_S
        while True:
            outcome = await attempt(instrument, "quiet", instrument.quiet, deadline_s)
            self._enter(instrument, outcome)
            self._tried[instrument.name].set()
            if outcome.confirmed or instrument.by_hand:
                break
            await instrument.hang_up()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        self._done[instrument.name].set()

    def _enter(self, instrument: Reachable, outcome: Outcome) -> None:
        """Enter an outcome where it is news."""
        if self._last.get(instrument.name) == outcome:
            return
        self._last[instrument.name] = outcome
        confirmed = "confirmed" if outcome.confirmed else "NOT CONFIRMED"
        self._ledger.enter(
            Kind.OUTCOME,
            f"{instrument.name}: {outcome.state}: {confirmed}",
            instrument=instrument.name,
            state=outcome.state,
            confirmed=outcome.confirmed,
            after_s=round(_now_s() - self._started_s, 3),
        )
        names = [each.name for each in self._bench.all() if not each.by_hand]
        quiet = all(name in self._last and self._last[name].confirmed for name in names)
        if quiet and not self._is_quiet:
            self._ledger.enter(
                Kind.QUIET,
                "the bench is quiet",
                after_s=round(_now_s() - self._started_s, 3),
            )
        self._is_quiet = quiet

    # --- Afterwards -----------------------------------------------------------------------------

    async def _look(self, reached: Reachable) -> None:
        """Enter what it reads now; raises CellbenchError, TimeoutError where it tells nothing."""
        if reached.by_hand:
            return
        instrument = await reached.reach()
        async with asyncio.timeout(_LOOK_DEADLINE_S):
            match instrument:
                case Cycler():
                    pass  # a rest would be its newest test, in the place of the one to go on with
                case Channel() if self._limits is not None and len(self._bench.channels()) == 1:
                    voltage_V = await _voltage(instrument, self._limits)
                    self._read(reached, voltage_V=voltage_V)
                case Gauge():
                    self._read(reached, force_N=(await instrument.read()).force_N)
                case Chamber():
                    self._read(reached, temperature_K=(await instrument.read()).temperature_K)
                case _:
                    pass  # a press is read while it is kept, a switch has nothing to tell

    def _read(self, reached: Reachable, **values: float) -> None:
        told = ", ".join(f"{name} {value:.5g}" for name, value in values.items())
        self._ledger.enter(
            Kind.READING, f"{reached.name}: {told}", instrument=reached.name, values=values
        )

    async def _feed(self, reached: ReachablePress) -> None:
        """Look at a press, which tells it that somebody lives, for as long as it wants to hear it.

        Returns where it needs nobody: it expects no heartbeat, or there is no force on the stack.
        """
        if reached.by_hand:
            return
        able = reached.capabilities
        shown: str | None = None
        while True:
            async with asyncio.timeout(QUIET_DEADLINE_S):
                state = await reached.read()
            if state.alarm != shown:
                shown = state.alarm
                self._enter_press(reached, state)
            no_force = state.force_N <= UNLOADED_FRACTION * able.force_max_N
            if able.heartbeat_s is None or no_force:
                return
            await asyncio.sleep(min(able.heartbeat_s / _FEEDS, _FEED_MAX_S))

    def _enter_press(self, reached: ReachablePress, state: PressState) -> None:
        self._read(reached, force_N=state.force_N)
        if state.alarm:
            self._ledger.enter(
                Kind.TROUBLE, f"{reached.name}: {state.alarm}", instrument=reached.name
            )


async def _voltage(channel: Channel, limits: ElectricalLimits) -> float:
    """The voltage of the open cell, looked at for a moment.

    Raises:
        InstrumentError: The instrument told none.
    """
    voltage_V = math.nan
    async with channel.run(Rest(duration_s=_LOOK_AT_CELL_S), limits) as running:
        async for block in running:
            voltages: Sequence[float] = block.columns["voltage_V"]
            voltage_V = voltages[-1]
    if math.isnan(voltage_V):
        raise InstrumentError(channel.name, "told no voltage of the open cell")
    return voltage_V


def _now_s() -> float:
    return asyncio.get_running_loop().time()
