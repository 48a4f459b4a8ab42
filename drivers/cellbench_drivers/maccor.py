"""Maccor cyclers through MacNet (JSON over TCP, port 57570), in direct mode.

A technique is one output of direct mode, which the host reads and ends; the tester keeps current
and voltage within the limits, and its safety limits switch off beyond them. It does not end the
technique by itself: without a host it is the watchdog ``MacNetDirectModeWD`` (in System.ini,
Misc_Options) that suspends the channel. Lists are not offered: they would have to be procedures,
whose files only the binary MacNet transfers, in a format that is not public.

Never verified on hardware: whether test names must be new in direct mode, the sign of currents (it
is taken from the mode where that says charge or discharge), and how results are worded in JSON.
Rest is a channel that nothing was started on: the JSON form of direct mode's own rest has failed.

Source: the PyPI package ``pymacnet``, and Maccor's help on MacNet that comes with it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChannelCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Running
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    ElectricalLimits,
    Rest,
    Technique,
)
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.channels import holds_by_charging, opening_cell
from cellbench_drivers.common import Current, Duration, Options, Voltage, parse_options, to_the_end
from cellbench_drivers.maccor_net import (
    AVAILABLE,
    COMPLETED,
    RESET,
    SUSPENDED,
    MacNet,
    Output,
    Reading,
    Refusal,
)
from cellbench_drivers.maccor_run import SPACING_S, Direct, MaccorRun, name_of
from cellbench_drivers.reach import check_technique

#: States in which a channel is at rest and can be started, and those in which it is at rest.
_FREE = {AVAILABLE, COMPLETED, RESET}
_AT_REST = {*_FREE, SUSPENDED}
_STOP_S, _STOP_POLL_S, _STOP_AGAIN_S = 10.0, 0.2, 2.0
#: Limits are programmed as wide as the host watches them: a hold at a limit is no trip.
_VOLTAGE_TOLERANCE_V = 5e-3
_CURRENT_TOLERANCE = 0.02
#: The output is repeated so many times within the watchdog's time, or without one every 5 s.
_BEATS = 3
_BEAT_S = 5.0
_RANGES = 4
_HEADROOM = 1.02
_RESOLUTION = 1e-4
_INTERVAL_MIN_S = 0.1
_NAME_MAX = 25


class MaccorOptions(Options):
    """Options in the bench file.

    Attributes:
        channel: The channel as MacTest32 numbers it, from 1.
        watchdog: What ``MacNetDirectModeWD`` in System.ini says, which MacNet cannot tell. Without
            it no step may go on without a host.
        current_ranges: The four current ranges, smallest first, for a system that tells none.
        current_max: Largest current, for planning before the channel has told its own.
        voltage_min: Lowest voltage, likewise.
        voltage_max: Highest voltage, likewise.
        test_name: What names of tests begin with.
        timeout: How long a reply may take.
    """

    channel: int = Field(ge=1)
    watchdog: Duration | None = Field(default=None, ge=1)
    current_ranges: tuple[Current, ...] = ()
    current_max: Current = Field(default=5.0, gt=0)
    voltage_min: Voltage = 0.0
    voltage_max: Voltage = Field(default=5.0, gt=0)
    test_name: str = Field(default="cellbench", pattern=r"^[A-Za-z0-9_]{1,16}$")
    timeout: Duration = Field(default=5.0, gt=0)


class Maccor:
    """One channel of a Maccor system."""

    role: ClassVar[str] = "channel"
    summary: ClassVar[str] = "Maccor cyclers (MacNet, JSON over TCP, direct mode)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = 57570

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, MaccorOptions, options)
        self._net = MacNet(name, stream, self._options.timeout)
        self._channel = self._options.channel - 1
        self._ranges: tuple[float, ...] = self._options.current_ranges
        self._tests = 0
        self._asks_names = True
        window = (self._options.voltage_min, self._options.voltage_max)
        self.capabilities = self._able("Maccor", window, self._options.current_max)

    async def connect(self) -> Identity:
        """Identify the system, and end what an earlier host left active on the channel."""
        versions = await self._net.ask(1, 1)
        system = await self._net.ask(1, 2)
        if int(self._net.number(system, "SystemType")) != 0:
            raise InstrumentError(
                self.name, f"is of system type {system['SystemType']}; direct mode needs type 0"
            )
        channels = int(self._net.number(system, "TestChannels"))
        if self._channel >= channels:
            raise InstrumentError(
                self.name, f"has {channels} channels, the bench says {self._options.channel}"
            )
        remarks = await self._take_ranges()
        taken_over = await self._take_over()
        remarks += taken_over
        if not self._net.echoes_ids:
            remarks.append("replies do not carry the id of their request")
        version = ".".join(
            str(versions.get(f"MacTest32EXEversion{part}", "?"))
            for part in ("Major", "Minor", "Build")
        )
        serial = f"{system.get('SystemID', '')}, channel {self._options.channel}"
        return Identity("Maccor", serial, f"MacTest32 {version}", tuple(remarks), bool(taken_over))

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """Run a technique in direct mode; a rest leaves the channel alone."""
        if not isinstance(technique, Rest | ConstantCurrent | ConstantVoltage):
            raise InstrumentError(self.name, f"cannot do {technique.technique}")
        return self._running(technique, limits)

    async def quiet(self) -> Outcome:
        """Bring the channel to rest; says honestly when that could not be confirmed."""
        try:
            state = (await self._net.read(self._channel)).state
            text = name_of(state) if state in _AT_REST else await self._stop()
        except InstrumentError as error:
            return Outcome(self.name, f"cell state unknown: {error}", confirmed=False)
        return Outcome(self.name, f"open circuit ({text})", confirmed=True)

    async def close(self) -> None:
        """Give up the connection."""
        await self._net.close()

    @asynccontextmanager
    async def _running(
        self, technique: Rest | Direct, limits: ElectricalLimits
    ) -> AsyncIterator[Running]:
        check_technique(self.name, self.capabilities, technique)
        before = await self._free()
        output = self._output(technique, limits, before.voltage_V)
        test = "" if output is None else await self._prepared(limits)
        beat_s = _BEAT_S if self._options.watchdog is None else self._options.watchdog / _BEATS
        run = MaccorRun(self._net, self._channel, technique, output, beat_s=beat_s, stop=self._stop)
        run.open_circuit_V = before.voltage_V
        try:
            if output is not None:
                await self._net.start_direct(self._channel, test, output, technique.interval_s)
                run.begin()
            yield run
        finally:
            await to_the_end(self._leave(run, output))

    async def _prepared(self, limits: ElectricalLimits) -> str:
        """Set the safety limits, and return the name of the next test."""
        able = self.capabilities
        most_A = min(limits.current_max_A, able.current_max_A) * (1 + _CURRENT_TOLERANCE)
        lowest_V = max(limits.voltage_min_V - _VOLTAGE_TOLERANCE_V, able.voltage_min_V)
        highest_V = min(limits.voltage_max_V + _VOLTAGE_TOLERANCE_V, able.voltage_max_V)
        most_V = max(abs(lowest_V), abs(highest_V))
        await self._net.set_safety(
            self._channel,
            VSafeMax=highest_V,
            VSafeMin=lowest_V,
            ISafeChg=most_A,
            ISafeDis=most_A,
            PBatSafeChg=most_V * most_A,
            PBatSafeDis=most_V * most_A,
        )
        return await self._next_test()

    def _output(
        self, technique: Rest | Direct, limits: ElectricalLimits, open_circuit_V: float
    ) -> Output | None:
        """What direct mode is to put out, None for a rest."""
        able = self.capabilities
        most_A = min(limits.current_max_A, able.current_max_A)
        match technique:
            case ConstantCurrent(current_A=current_A) if current_A != 0:
                charges = current_A > 0
                bound_V = (
                    min(limits.voltage_max_V, able.voltage_max_V)
                    if charges
                    else max(limits.voltage_min_V, able.voltage_min_V)
                )
                magnitude_A = abs(current_A)
                if magnitude_A > most_A:
                    raise InstrumentError(self.name, f"cannot do {current_A:g} A within its limits")
                current_range = self._range_for(magnitude_A)
                return Output("C" if charges else "D", magnitude_A, bound_V, current_range)
            case ConstantVoltage(voltage_V=voltage_V, current_range_A=expected_A) as hold:
                current_range = self._range_for(min(most_A, expected_A or most_A))
                mode = "C" if holds_by_charging(hold, open_circuit_V) else "D"
                bound_A = min(most_A, self._ranges[current_range - 1])
                return Output(mode, bound_A, voltage_V, current_range)
        return None

    def _range_for(self, current_A: float) -> int:
        """Number of the smallest range that holds a current, from 1."""
        for number, top_A in enumerate(self._ranges, start=1):
            if current_A * _HEADROOM <= top_A:
                return number
        return self._ranges.index(max(self._ranges)) + 1

    async def _leave(self, run: MaccorRun, output: Output | None) -> None:
        """See that the channel is at rest after a technique, however it ended."""
        if output is not None and not run.ended_by_itself:
            with opening_cell(self.name):
                await self._stop()
        run.end()

    async def _stop(self) -> str:
        """Reset the channel, and return the state that confirms it."""
        now = asyncio.get_running_loop().time
        deadline_s, again_s = now() + _STOP_S, now() + _STOP_AGAIN_S
        refused = await self._reset()
        while (state := (await self._net.read(self._channel)).state) not in _FREE:
            if now() >= deadline_s:
                raise InstrumentError(
                    self.name,
                    f'was reset, and is still "{name_of(state)}" {_STOP_S:g} s later{refused}',
                )
            if now() >= again_s:
                again_s = now() + _STOP_AGAIN_S
                refused = await self._reset()
            await asyncio.sleep(_STOP_POLL_S)
        return name_of(state)

    async def _reset(self) -> str:
        """Ask for a reset, and return what it says where it refuses: its state then decides."""
        try:
            await self._net.reset(self._channel)
        except Refusal as refusal:
            return f" ({refusal})"
        return ""

    async def _free(self) -> Reading:
        """Return what the channel shows at rest, ready to be started.

        Raises:
            InstrumentError: Something runs there, or waits to go on.
        """
        reading = await self._net.read(self._channel)
        if reading.state not in _FREE:
            raise InstrumentError(
                self.name,
                f'the channel is "{name_of(reading.state)}": end what is on it, at the tester',
            )
        if reading.state == COMPLETED:
            await self._stop()
        return reading

    async def _take_over(self) -> list[str]:
        """End a test of ours that an earlier host left; one of somebody else is refused."""
        reading = await self._net.read(self._channel)
        if reading.state in _FREE:
            return []
        test, procedure = await self._net.names(self._channel)
        state = name_of(reading.state)
        if not test.startswith(self._options.test_name):
            raise InstrumentError(
                self.name,
                f'the channel is "{state}" with the test "{test}" ({procedure}), which is none of '
                "ours: end it at the tester first",
            )
        await self._stop()
        return [f'the test "{test}" was {state}: reset']

    async def _take_ranges(self) -> list[str]:
        """Find out what the channel can do; a system that does not tell leaves it to the bench."""
        options = self._options
        window = (options.voltage_min, options.voltage_max)
        remarks = []
        try:
            limits = await self._net.ask(3, 1, Chan=self._channel)
        except Refusal:
            self._ranges = options.current_ranges or _only_highest(options.current_max)
            remarks.append("the channel does not tell its ranges: the bench file's are used")
        else:
            number = self._net.number
            self._ranges = tuple(number(limits, f"IR{n}Chg") for n in range(1, _RANGES + 1))
            window = (number(limits, "Vmin"), number(limits, "Vmax"))
        self.capabilities = self._able("Maccor", window, max(self._ranges))
        return remarks

    async def _next_test(self) -> str:
        """A name that no test has: the first free number, found by doubling and halving."""
        low, high = self._tests, self._tests + 1
        while await self._exists(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if await self._exists(middle):
                low = middle
            else:
                high = middle
        self._tests = high
        return self._test(high)

    async def _exists(self, number: int) -> bool:
        if not self._asks_names:
            return False
        try:
            return await self._net.test_exists(self._test(number))
        except Refusal:
            self._asks_names = False
            return False

    def _test(self, number: int) -> str:
        return f"{self._options.test_name}_{self._options.channel}_{number}"[:_NAME_MAX]

    def _able(
        self, model: str, window_V: tuple[float, float], current_max_A: float
    ) -> ChannelCapabilities:
        smallest_A = min((top_A for top_A in self._ranges if top_A > 0), default=current_max_A)
        watchdog_s = self._options.watchdog
        return ChannelCapabilities(
            model=model,
            voltage_min_V=window_V[0],
            voltage_max_V=window_V[1],
            current_max_A=current_max_A,
            current_min_A=smallest_A * _RESOLUTION,
            interval_min_s=_INTERVAL_MIN_S,
            techniques=frozenset({"rest", "constant current", "constant voltage"}),
            impedance=None,
            on_device=frozenset(),
            bounded_without_host=watchdog_s is not None,
            silent_s=math.inf if watchdog_s is None else watchdog_s + _INTERVAL_MIN_S,
            reaction=ReactionTime(_INTERVAL_MIN_S, 0.1, _STOP_POLL_S + SPACING_S),
            voltage_noise_V=window_V[1] * _RESOLUTION,
            holds_both_ways=False,
            unverified=(
                "MacNetDirectModeWD in System.ini: MacNet cannot tell it",
                "smallest current and noise: from the data sheet of the unit",
            ),
        )


def _only_highest(current_max_A: float) -> tuple[float, ...]:
    """Ranges of which only the highest is known: it has the highest number."""
    return (*(0.0,) * (_RANGES - 1), current_max_A)
