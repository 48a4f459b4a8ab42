r"""A Mark-10 ESM303 test stand with a force gauge as a small press (USB serial, 115200 8N1).

The stand moves down (``d``), up (``u``) and stops (``s``), tells its state (``p``), and passes
``/?\`` on to the gauge, which answers its reading. It knows nothing of force: **this host's loop**
moves and stops it until the gauge shows what was asked for, and goes on correcting it. So the
capabilities say that there is no loop of its own. When the host dies while the stand stands, the
screw keeps its position and the force follows the stack; when the host dies while it *moves*, it
goes on until its own limit switch or overload protection: set both, and a slow speed.

Only the meanings of those letters are certain. Options, because never verified on a stand: how
lines end, which way it presses, the sign of compression, the command that sets its speed (left
out: the speed of its panel). Whatever a stand may answer to a move is passed over.

Source: Mark-10's guide of the ESM303, as far as others quote it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import PressCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome, PressState
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, ForceRate, Options, parse_options
from cellbench_drivers.lines import Lines
from cellbench_drivers.presses import NO_FORCE_FRACTION, Ramp, bounded_rate, check_reach, held

_STOP, _STATE = "s", "p"
_MOVES = {"down": "d", "up": "u"}
_OTHER_WAY = {"down": "up", "up": "down"}
_ENDINGS = {"CR": "\r", "LF": "\n", "CR LF": "\r\n"}
_READING = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*([A-Za-z]*)")
_NEWTONS = {
    "N": 1.0,
    "kN": 1e3,
    "mN": 1e-3,
    "lbF": 4.4482216152605,
    "ozF": 0.27801385095378,
    "kgF": 9.80665,
    "gF": 9.80665e-3,
}
_HOLD_LOOK_S = 0.5

Ending = Literal["CR", "LF", "CR LF"]


class Mark10StandOptions(Options):
    """Options in the bench file.

    Attributes:
        capacity: Largest force of stand and gauge.
        force_min: Smallest force other than none that it can set.
        rate_max: Fastest ramp: the speed of the stand times the stiffness of the stack.
        band: How far the force may be from what is wanted before the stand moves.
        interval: Time between two looks of the loop.
        reach: Time that the force may be outside the band, after its ramp, before it is given up.
        presses: Which way the stand presses; not verified.
        compression: Sign that the gauge gives to a force that presses; not verified.
        speed_command: Sent before the stand moves, as its guide says it; not verified.
        commands_end: What ends a command; not verified.
        replies_end: What ends a reply; not verified.
        gauge_asks: What the gauge is asked for its reading: ``?`` or ``?C``.
        gauge_unit: Unit of a reading that comes without one.
        timeout: How long a reply may take.
    """

    capacity: Force = Field(default=1.5e3, gt=0)
    force_min: Force = Field(default=0.0, ge=0)
    rate_max: ForceRate = Field(default=50.0, gt=0)
    band: Force = Field(default=10.0, gt=0)
    interval: Duration = Field(default=0.1, gt=0)
    reach: Duration = Field(default=60.0, gt=0)
    presses: Literal["down", "up"] = "down"
    compression: Literal["positive", "negative"] = "positive"
    speed_command: str | None = None
    commands_end: Ending = "CR LF"
    replies_end: Ending = "CR LF"
    gauge_asks: Literal["?", "?C"] = "?"
    gauge_unit: Literal["N", "kN", "mN", "lbF", "ozF", "kgF", "gF"] = "N"
    timeout: Duration = Field(default=0.5, gt=0)


class Mark10Stand:
    """A motorised stand and its gauge, whose force this host keeps."""

    role: ClassVar[str] = "press"
    summary: ClassVar[str] = "Mark-10 ESM303 test stands with a force gauge (serial; host's loop)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(115200)
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, Mark10StandOptions, options)
        self._lines = Lines(
            name,
            stream,
            ends=_ENDINGS[self._options.commands_end],
            replies_end=_ENDINGS[self._options.replies_end],
            timeout_s=self._options.timeout,
        )
        self._sign = 1.0 if self._options.compression == "positive" else -1.0
        self._loop: asyncio.Task[None] | None = None
        self._direction = ""
        self._set_point_N = 0.0
        self._arrived = True
        self._fault = ""
        self.capabilities = PressCapabilities(
            model="Mark-10 ESM303",
            force_min_N=self._options.force_min,
            force_max_N=self._options.capacity,
            rate_max_N_per_s=self._options.rate_max,
            heartbeat_s=None,
            reaction=ReactionTime(
                sample_s=self._options.interval, transport_s=0.05, command_s=0.15
            ),
            own_loop=False,
        )

    # --- The press ------------------------------------------------------------------------------

    async def connect(self) -> Identity:
        """Stop the stand if it is moving, and see that its gauge reads.

        Raises:
            InstrumentError: The stand or its gauge does not answer.
        """
        remarks = ["its force is kept by this host alone: without it, by the position of its screw"]
        if (direction := await self._direction_told()) != "S":
            await self._stop()
            remarks.append(f"found moving ({direction}), and stopped")
        force_N = await self._force()
        remarks.append(f"found at {force_N / 1e3:.3f} kN")
        return Identity(self.capabilities.model, "", "", tuple(remarks))

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """Have the loop approach a force, from the first touch on at the rate, and keep it.

        The loop stops the stand above ``force_max_N``.

        Raises:
            InstrumentError: It is out of reach, or the loop has failed before.
        """
        check_reach(self.name, self.capabilities, force_N, rate_N_per_s, force_max_N)
        if self._fault:
            raise InstrumentError(self.name, f"does not move: {self._fault}")
        await self._start(force_N, rate_N_per_s, force_max_N)

    async def release(self, rate_N_per_s: float) -> None:
        """Have the loop take the force away; it ends, and the stand stands, once that is gone."""
        self._fault = ""
        await self._start(0.0, bounded_rate(self.capabilities, rate_N_per_s), float("inf"))

    async def read(self) -> PressState:
        """Look at the force."""
        if self._loop is not None and self._loop.done() and not self._loop.cancelled():
            self._loop.result()
        force_N = await self._force()
        return PressState(
            time_s=asyncio.get_running_loop().time(),
            force_N=force_N,
            set_point_N=self._set_point_N,
            moving=not self._arrived,
            at_target=self._arrived and abs(force_N - self._set_point_N) <= self._options.band,
            alarm=self._fault,
        )

    async def heartbeat(self) -> None:
        """Nothing to tell: the stand does not care whether its host lives."""

    async def quiet(self) -> Outcome:
        """End the loop, stop the stand, and see that it stands and the force stays.

        From then on the screw keeps the position, and nothing the force.
        """
        try:
            await self._end_loop()
            await self._stop()
            if (direction := await self._direction_told()) != "S":
                return Outcome(self.name, f"does not stop ({direction})", confirmed=False)
            return await held(self.name, self.capabilities, self.read, _HOLD_LOOK_S)
        except InstrumentError as error:
            return Outcome(self.name, f"force unknown: {error}", confirmed=False)

    async def close(self) -> None:
        """End the loop, which stops the stand, and give up the connection."""
        await self._end_loop()
        await self._lines.close()

    # --- The loop -------------------------------------------------------------------------------

    async def _start(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        await self._end_loop()
        now_s, found_N = asyncio.get_running_loop().time(), await self._force()
        if self._options.speed_command is not None:
            await self._tell(self._options.speed_command)
        self._set_point_N, self._arrived = force_N, False
        ramp = Ramp(now_s, found_N, force_N, rate_N_per_s)
        self._loop = asyncio.create_task(self._keep(ramp, force_max_N), name=f"loop of {self.name}")

    async def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        self._arrived = True
        if loop is not None:
            loop.cancel()
            await asyncio.wait([loop])
            if not loop.cancelled() and (error := loop.exception()) is not None:
                self._fault = f"its loop failed: {error!r}"

    async def _keep(self, ramp: Ramp, force_max_N: float) -> None:
        """Follow a ramp and keep its end; a force of none is the end of it."""
        try:
            await self._follow(ramp, force_max_N)
        except InstrumentError as error:
            self._fault = str(error)
        finally:
            self._arrived = True
            await self._stop_at_last()

    async def _follow(self, ramp: Ramp, force_max_N: float) -> None:
        band_N, loop = self._options.band, asyncio.get_running_loop()
        none_N = NO_FORCE_FRACTION * self._options.capacity
        touches = ramp.from_N >= band_N or ramp.to_N <= band_N
        due_s = ramp.end_s + self._options.reach
        while True:
            force_N, now_s = await self._force(), loop.time()
            if force_N > force_max_N:
                raise InstrumentError(self.name, f"over-force: {force_N:.0f} N, and stopped")
            if ramp.to_N == 0.0 and force_N <= none_N:
                return
            if not touches and force_N >= band_N:
                # The ramp begins where the stand touches the stack, however long that took.
                touches, ramp = True, replace(ramp, start_s=now_s, from_N=force_N)
                due_s = ramp.end_s + self._options.reach
            await self._steer((ramp.at(now_s) if touches else 2 * band_N) - force_N)
            if now_s >= ramp.end_s and abs(force_N - ramp.to_N) <= band_N:
                self._arrived, due_s = True, now_s + self._options.reach
            if now_s > due_s:
                raise InstrumentError(
                    self.name,
                    f"does not get to {ramp.to_N:.0f} N (it is at {force_N:.0f} N), and stopped",
                )
            await asyncio.sleep(self._options.interval)

    async def _steer(self, missing_N: float) -> None:
        """Move when the force is out of its band, and stop once it is through the middle of it."""
        presses = self._options.presses
        if self._direction:
            through_N = missing_N if self._direction == presses else -missing_N
            if through_N <= 0.0:
                await self._stop()
        elif abs(missing_N) > self._options.band:
            direction = presses if missing_N > 0 else _OTHER_WAY[presses]
            self._direction = direction
            await self._tell(_MOVES[direction])

    async def _stop_at_last(self) -> None:
        try:
            await self._stop()
        except InstrumentError as error:
            self._fault = self._fault or str(error)

    # --- The line -------------------------------------------------------------------------------

    async def _stop(self) -> None:
        await self._tell(_STOP)
        self._direction = ""

    async def _tell(self, command: str) -> None:
        async with self._lines.lock:
            await self._lines.tell(command)
            # Whether a stand answers this is not certain: nothing that comes now is an answer.
            self._lines.out_of_step()

    async def _direction_told(self) -> str:
        """Return U, D or S."""
        async with self._lines.lock:
            reply = await self._lines.ask(_STATE)
        if reply[:1] not in {"U", "D", "S"}:
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'answers "{reply}" instead of its state')
        return reply[:1]

    async def _force(self) -> float:
        """Ask the gauge; once more, after garbage or silence."""
        async with self._lines.lock:
            try:
                return await self._force_told()
            except InstrumentError:
                return await self._force_told()

    async def _force_told(self) -> float:
        reply = await self._lines.ask(f"/{self._options.gauge_asks}\\")
        matched = _READING.fullmatch(reply)
        newtons = None if matched is None else _newtons(matched[2] or self._options.gauge_unit)
        if matched is None or newtons is None:
            self._lines.out_of_step()
            raise InstrumentError(self.name, f'its gauge answers "{reply}" instead of a force')
        return self._sign * float(matched[1]) * newtons


def _newtons(unit: str) -> float | None:
    """What a unit is worth, however it is capitalised, with or without its F."""
    for name, newtons in _NEWTONS.items():
        if unit.lower() in {name.lower(), name.lower().removesuffix("f")}:
            return newtons
    return None
