"""A servo-hydraulic Instron frame of the 8800 family as a press, in stress control.

Lines of ASCII that end in carriage return and line feed: ``Q`` asks and is answered by one line,
``C`` and ``P`` command and are not answered. What is written goes between ``P909,1`` (computer
control) with ``C904,0`` (watchdog) and ``P909,0``; without these the hydraulics trip. Outside
computer control a command is refused with a line of text. Setpoints in quick succession crash the
front panel: orders and looks are a second apart. Source: the EPICS support of such a rig at ISIS.

Raw values of the stress channel times its scale (``Q308,2``) are newtons; what area the frame was
told to divide by does not matter here. Which sign compression has was never verified on a frame:
option ``compression``. No limit of force is programmed into the frame: set the frame's own.

The frame keeps its force without the host, and does not let go when the host falls silent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from cellbench.clock import sleep_until
from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import PressCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome, PressState
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, ForceRate, Options, parse_options
from cellbench_drivers.lines import Lines
from cellbench_drivers.presses import NO_FORCE_FRACTION, bounded_rate, check_reach, held

_STRESS = 2
_CHANNELS = {1: "position", 2: "stress", 3: "strain"}
_STOPPED, _RAMPING, _HOLDING = 0, 1, 2
_ABSOLUTE_RAMP = 3
_REFUSAL = "Not in the correct control mode"
_PANEL, _COMPUTER = 0, 1

#: Codes in bits 9 to 12 of the status; 0 and 15 are good.
_CODES = {
    1: "travel limit",
    2: "amplifier hot",
    3: "emergency stop",
    6: "emergency stop",
    7: "oil hot",
    8: "oil low",
    9: "motor hot",
    10: "oil pressure high",
    11: "oil pressure low",
    12: "manifold blocked",
    13: "oil getting low",
    14: "manifold pressure low",
}
_GOOD = {0, 15}
_ACTUATOR_OFF = 1 << 3
_OFF = "actuator off"

_STEP_MIN_S = 1.0
_KEPT = 1e-4
_AT_TARGET_FRACTION = 0.005


class InstronOptions(Options):
    """Options in the bench file.

    Attributes:
        capacity: Largest force of the press.
        force_min: Smallest force other than none that it can set.
        rate_max: Fastest ramp.
        compression: Sign that the frame gives to a force that presses; not verified.
        interval: Time between two orders, and between two looks.
        timeout: How long a reply may take.
    """

    capacity: Force = Field(default=25e3, gt=0)
    force_min: Force = Field(default=0.0, ge=0)
    rate_max: ForceRate = Field(default=1e3, gt=0)
    compression: Literal["positive", "negative"] = "positive"
    interval: Duration = Field(default=1.0, ge=1.0)
    timeout: Duration = Field(default=2.5, gt=0)


class Instron:
    """An Instron 8800 frame that presses on its stress channel."""

    role: ClassVar[str] = "press"
    summary: ClassVar[str] = "Instron 8800 servo-hydraulic frames in stress control (GPIB, TCP)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, InstronOptions, options)
        self._lines = Lines(
            name, stream, ends="\r\n", replies_end="\r\n", timeout_s=self._options.timeout
        )
        self._sign = 1.0 if self._options.compression == "positive" else -1.0
        self._newtons = math.nan
        self._free_s = -math.inf
        self._refreshes = True
        self.capabilities = PressCapabilities(
            model="Instron 8800",
            force_min_N=self._options.force_min,
            force_max_N=self._options.capacity,
            rate_max_N_per_s=self._options.rate_max,
            heartbeat_s=None,
            reaction=ReactionTime(
                sample_s=self._options.interval,
                transport_s=0.1,
                command_s=self._options.interval + 0.1,
            ),
        )

    async def connect(self) -> Identity:
        """Read what the frame is doing; moves nothing, and takes no control.

        Raises:
            InstrumentError: It does not answer as such a frame does.
        """
        async with self._lines.lock:
            mode = await self._whole("Q909")
            await self._learn_scale()
            channel = await self._whole("Q300")
        state = await self.read()
        remarks = [
            f"found at {state.force_N / 1e3:.3f} kN, in {_CHANNELS.get(channel, 'no')} control",
            f"compression was taken to be {self._options.compression}, which was never verified",
            "has no over-force trip of this run: only the host watches the force",
        ]
        if mode == _COMPUTER:
            remarks.append("found under control of a computer: only one may talk to it")
        if state.alarm:
            remarks.append(f"found with {state.alarm}")
        return Identity(self.capabilities.model, "", "", tuple(remarks))

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """Approach a force by an absolute ramp in stress control, and keep it.

        ``force_max_N`` is checked against the force that is asked for; the frame is not told it.

        Raises:
            InstrumentError: It is out of reach, or the frame is not fit to move.
        """
        check_reach(self.name, self.capabilities, force_N, rate_N_per_s, force_max_N)
        state = await self.read()
        if state.alarm:
            raise InstrumentError(self.name, f"does not move: {state.alarm}")
        await self._ramp(state, force_N, rate_N_per_s)

    async def release(self, rate_N_per_s: float) -> None:
        """Ramp the force to zero, whatever the frame complains of, as long as it can move.

        Raises:
            InstrumentError: Its actuator is off: the force is what it is, until a person acts.
        """
        state = await self.read()
        if _OFF in state.alarm:
            raise InstrumentError(self.name, f"cannot let go: {state.alarm}")
        await self._ramp(state, 0.0, bounded_rate(self.capabilities, rate_N_per_s))

    async def read(self) -> PressState:
        """Look at the frame, at most once in an interval; refreshes its watchdog too."""
        async with self._lines.lock, self._turn():
            return await self._look()

    async def heartbeat(self) -> None:
        """Refresh the watchdog, as the field's own software does beside its polling."""
        async with self._lines.lock:
            await self._refresh()

    async def quiet(self) -> Outcome:
        """Hold a ramp that is under way, and see that the force stays.

        A frame that is not in stress control keeps its position and not its force, and says so.
        """
        try:
            async with self._lines.lock:
                await self._hold_a_ramp()
                channel = await self._whole("Q300")
            outcome = await held(self.name, self.capabilities, self.read, 0.0)
            force_N = (await self.read()).force_N
        except InstrumentError as error:
            return Outcome(self.name, f"force unknown: {error}", confirmed=False)
        if channel == _STRESS or force_N <= NO_FORCE_FRACTION * self._options.capacity:
            return outcome
        kept = f"{outcome.state}, but in {_CHANNELS.get(channel, 'no')} control"
        return Outcome(self.name, kept, confirmed=False)

    async def panic_stop(self) -> None:
        """Take the hydraulic pressure away, now; ``C23,1`` by a person brings it back."""
        async with self._lines.lock:
            await self._order("C23,0")

    async def close(self) -> None:
        """Give up the connection; the frame keeps what it keeps, under its front panel."""
        await self._lines.close()

    # --- Orders ---------------------------------------------------------------------------------

    async def _ramp(self, state: PressState, force_N: float, rate_N_per_s: float) -> None:
        duration_s = max(abs(force_N - state.force_N) / rate_N_per_s, _STEP_MIN_S)
        async with self._lines.lock:
            await self._hold_a_ramp()
            if await self._whole("Q300") != _STRESS:
                await self._order(f"C300,{_STRESS}")
            if await self._whole(f"Q2,{_STRESS}") != _ABSOLUTE_RAMP:
                await self._order(f"C2,{_STRESS},{_ABSOLUTE_RAMP}")
            raw = self._sign * force_N / self._newtons
            full = self._options.capacity / self._newtons
            await self._keep(4, raw, full)
            await self._keep(86, duration_s, duration_s)
            # Nothing moves unless all of it is as it should be.
            if (channel := await self._whole("Q300")) != _STRESS:
                raise InstrumentError(self.name, f"stays in {_CHANNELS.get(channel, 'no')} control")
            if (kind := await self._whole(f"Q2,{_STRESS}")) != _ABSOLUTE_RAMP:
                raise InstrumentError(self.name, f"keeps waveform {kind}, not an absolute ramp")
            if await self._whole("Q1") != _STOPPED:
                await self._order("C1,0")
            await self._order("C1,1")

    async def _hold_a_ramp(self) -> None:
        if await self._whole("Q1") not in {_STOPPED, _HOLDING}:
            await self._order("C1,2")

    async def _keep(self, number: int, value: float, full: float) -> None:
        """Set a value of the stress channel, and see that the frame keeps it."""
        await self._order(f"C{number},{_STRESS},{value:.9f}")
        found = await self._number(f"Q{number},{_STRESS}")
        if abs(found - value) > _KEPT * abs(full):
            message = f"keeps {found:g} instead of {value:g} (C{number},{_STRESS})"
            raise InstrumentError(self.name, message)

    async def _order(self, command: str) -> None:
        """Write one command in the mandatory sequence, an interval after whatever came before."""
        async with self._turn():
            try:
                await self._lines.tell("P909,1")
                await self._lines.tell("C904,0")
                await self._lines.tell(command)
            finally:
                await self._lines.tell("P909,0")
            reply = await self._lines.ask("Q909")
        if _REFUSAL in reply:
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'refuses "{command}": {reply}')
        if self._as_number("Q909", reply) != _PANEL:
            raise InstrumentError(self.name, "stays under control of the computer")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Keep an interval between orders and looks."""
        await sleep_until(self._free_s)
        try:
            yield
        finally:
            self._free_s = asyncio.get_running_loop().time() + self._options.interval

    async def _refresh(self) -> None:
        if self._refreshes:
            await self._lines.tell("C904,0")

    # --- What it shows --------------------------------------------------------------------------

    async def _look(self) -> PressState:
        await self._refresh()
        movement = await self._whole("Q1")
        status = await self._whole("Q22")
        if math.isnan(self._newtons):
            await self._learn_scale()
        force_N = self._sign * await self._number(f"Q134,{_STRESS},0") * self._newtons
        set_point_N = self._sign * await self._number(f"Q4,{_STRESS}") * self._newtons
        moving = movement not in {_STOPPED, _HOLDING}
        off_N = abs(force_N - set_point_N)
        return PressState(
            time_s=asyncio.get_running_loop().time(),
            force_N=force_N,
            set_point_N=set_point_N,
            moving=moving,
            at_target=not moving and off_N <= _AT_TARGET_FRACTION * self._options.capacity,
            alarm=_alarm(status),
        )

    async def _learn_scale(self) -> None:
        newtons = await self._number(f"Q308,{_STRESS}")
        if not newtons > 0:
            raise InstrumentError(self.name, f"tells a scale of {newtons:g} for its stress channel")
        self._newtons = newtons

    async def _whole(self, query: str) -> int:
        return int(await self._number(query))

    async def _number(self, query: str) -> float:
        reply = await self._lines.ask(query)
        if _REFUSAL in reply:
            # The watchdog's refresh was refused by a frame under its front panel, where it needs
            # none; the answer to the question is still to come, and is asked for again.
            self._refreshes = False
            self._lines.out_of_step()
            reply = await self._lines.ask(query)
        return self._as_number(query, reply)

    def _as_number(self, query: str, reply: str) -> float:
        try:
            value = float(reply)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'answers "{reply}" to {query} instead of a number')
        return value


def _alarm(status: int) -> str:
    code = status >> 9 & 0xF
    names = [] if code in _GOOD else [_CODES.get(code, f"status code {code}")]
    if status & _ACTUATOR_OFF:
        names.append(_OFF)
    return ", ".join(names)
