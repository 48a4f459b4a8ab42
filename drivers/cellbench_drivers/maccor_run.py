"""A technique on a Maccor channel: direct mode, which the host reads, feeds and ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from cellbench.clock import sleep_until
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag
from cellbench.instruments.techniques import ConstantCurrent, ConstantVoltage, Rest
from cellbench_drivers.channels import TechniqueRun, crossing
from cellbench_drivers.maccor_net import (
    ACTIVE,
    STATES,
    MacNet,
    Output,
    Reading,
    Refusal,
)

#: The output may not be set again sooner.
SPACING_S = 0.1
#: How long a channel may take from the start of direct mode until it is active.
_BEGIN_S, _BEGIN_POLL_S = 15.0, 0.2
#: States on the way to being active.
_ON_THE_WAY = {0, 1, 8, 12, 14}
#: Refused repetitions of the output in a row after which the technique is given up.
_REFUSED_MAX = 10
_TOO_FAST, _NOT_READY = "too fast", "not ready"
#: The tester's clock may be told in whole seconds; a value older than this is an old value.
_STALE_S = 2.0
#: An answer that takes longer than this tells of an earlier time than that of its arrival.
_LATE_S = 0.5
#: The loop's clock is this coarse at most.
_TICK_S = 1e-6
_CHARGE, _DISCHARGE = {1, 8, 19}, {2, 9, 20}
#: Reasons (RF2) by which the tester itself switches off.
_SAFETY = {
    189: "safety capacity",
    190: "safety voltage",
    191: "safety overcharge",
    196: "overcharge safety",
    197: "voltage safety",
    198: "slave error",
    252: "current control error",
    253: "absolute voltage safety",
    254: "lost current control",
    255: "buffer full",
}

Direct = ConstantCurrent | ConstantVoltage


class MaccorRun(TechniqueRun):
    """Blocks of one row; ``ending`` is there once they are exhausted.

    The watchdog of direct mode is fed while rows are asked for: when nobody asks any more, the
    tester suspends the channel.

    Args:
        net: The connection.
        channel: The channel, from 0.
        technique: What is done.
        output: What direct mode puts out, None where the channel stays at rest.
        beat_s: The output is repeated so often.
        stop: Brings the channel to rest and reads that back.

    Attributes:
        ending: How it ended, None while it runs.
        open_circuit_V: Voltage before it.
        started_s: Loop time at which it began, nan until its first row.
    """

    def __init__(
        self,
        net: MacNet,
        channel: int,
        technique: Rest | Direct,
        output: Output | None,
        *,
        beat_s: float,
        stop: Callable[[], Awaitable[str]],
    ) -> None:
        super().__init__()
        self._net = net
        self._channel = channel
        self._technique = technique
        self._output = output
        self._beat_s = beat_s
        self._stop = stop
        self._sent_s = self._asked_s = self._now()
        self._next_beat_s = math.inf
        self._refused = 0
        self._rows = 0
        self._tester_s = math.nan
        self._ticked_s = math.nan

    async def _advance(self) -> Block:
        """Wait for the next row."""
        reading = await self._first() if self._rows == 0 else await self._following()
        time_s = self._now()
        flags = self._staleness(reading.test_time_s, time_s)
        if time_s - self._asked_s > _LATE_S:
            flags |= int(Flag.LATE)
        self._rows += 1
        ending = self._ending(reading, time_s - self.started_s)
        if ending is not None:
            if self._output is not None:
                await self._stop()
            self.ending = ending
        columns = {
            "voltage_V": (reading.voltage_V,),
            "current_A": (self._current_A(reading),),
        }
        return Block((time_s,), columns, (flags,))

    def begin(self) -> None:
        """Take note that direct mode was started."""
        self._next_beat_s = self._now() + self._beat_s

    async def _first(self) -> Reading:
        """Wait until the channel is active; where it stays at rest, that is at once."""
        reading = await self._read()
        self.started_s = self._now()
        if self._output is None:
            return reading
        deadline_s = self._now() + _BEGIN_S
        while reading.state in _ON_THE_WAY and self._now() < deadline_s:
            await asyncio.sleep(_BEGIN_POLL_S)
            reading = await self._read()
        if reading.state in _ON_THE_WAY:
            raise InstrumentError(
                self._net.name,
                f'took the start, and is still "{name_of(reading.state)}" {_BEGIN_S:g} s later',
            )
        # An answer that came late would make the technique longer.
        late = self._now() - self._asked_s > _LATE_S
        seen_s = self._asked_s if late else self._now()
        self.started_s = max(self._sent_s, seen_s - reading.test_time_s)
        return reading

    async def _read(self) -> Reading:
        self._asked_s = self._now()
        return await self._net.read(self._channel)

    async def _following(self) -> Reading:
        """Wait for the next row's time, or the end; meanwhile feed the watchdog."""
        technique = self._technique
        due_s = self.started_s + self._rows_due() * technique.interval_s
        due_s = min(due_s, self.started_s + technique.duration_s)
        while self._next_beat_s <= due_s:
            await sleep_until(self._next_beat_s)
            await self._beat()
        await sleep_until(due_s)
        return await self._read()

    def _rows_due(self) -> int:
        """Number of the interval that ends next."""
        elapsed_s = self._now() - self.started_s
        return math.floor(elapsed_s / self._technique.interval_s + 1e-6) + 1

    async def _beat(self) -> None:
        """Repeat the output: it tells the tester that the host lives."""
        assert self._output is not None  # noqa: S101 (what is at rest has no beats)
        try:
            await self._net.set_direct(self._channel, self._output)
        except Refusal as refusal:
            self._refused += 1
            if self._refused > _REFUSED_MAX or not _passes(refusal.code):
                state = (await self._net.read(self._channel)).state
                if state == ACTIVE:
                    raise
                self._next_beat_s = math.inf  # it has ended by itself, as the next row tells
                return
            self._next_beat_s = self._now() + 2 * SPACING_S
            return
        self._refused = 0
        self._next_beat_s = self._now() + self._beat_s

    def _staleness(self, tester_s: float, time_s: float) -> int:
        """Flag a row whose test time stands still; a channel at rest has none."""
        if self._output is None or tester_s != self._tester_s:
            self._tester_s, self._ticked_s = tester_s, time_s
        return int(Flag.STALE) if time_s - self._ticked_s > _STALE_S else 0

    def _current_A(self, reading: Reading) -> float:
        if self._output is None:
            # No step is active: the channel is at open circuit, by construction.
            return 0.0
        if reading.mode in _CHARGE:
            return abs(reading.current_A)
        return -abs(reading.current_A) if reading.mode in _DISCHARGE else reading.current_A

    def _ending(self, reading: Reading, elapsed_s: float) -> Ending | None:
        if (self._output is not None) != (reading.state == ACTIVE):
            return self._ended_there(reading)
        for cut_off in self._technique.cut_offs:
            value = reading.voltage_V
            if cut_off.quantity == "current":
                value = abs(self._current_A(reading))
            crossed = value >= cut_off.value if cut_off.above else value <= cut_off.value
            if crossed and elapsed_s >= cut_off.after_s:
                return Ending(EndingKind.CUT_OFF, crossing(cut_off), on_device=False)
        if elapsed_s >= self._technique.duration_s - _TICK_S:
            return Ending(EndingKind.COMPLETED, on_device=False)
        return None

    def _ended_there(self, reading: Reading) -> Ending:
        """The ending that the tester's state means, or the rest's that somebody disturbs."""
        safety = _SAFETY.get(reading.reason)
        if self._output is not None and safety is not None:
            return Ending(EndingKind.TRIPPED, f"{safety} (RF2 {reading.reason})")
        state = f'the channel is "{name_of(reading.state)}" (RF2 {reading.reason})'
        return Ending(EndingKind.ABORTED, state)


def name_of(state: int) -> str:
    """Return the name of a channel's state."""
    return STATES[state] if 0 <= state < len(STATES) else f"state {state}"


def _passes(code: object) -> bool:
    """Whether a refusal of 6,8 passes by itself: sent too fast, or direct mode not ready yet."""
    text = str(code).lower()
    return text in {"3", "5"} or _TOO_FAST in text or _NOT_READY in text
