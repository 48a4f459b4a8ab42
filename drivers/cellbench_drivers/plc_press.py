"""A press whose PLC keeps the force by itself, on Modbus TCP with cellbench's register map.

Holding registers, 0-based; forces in kN as 32-bit floats whose word order the options give:

    0 status bits   1 alarm code   2 force   4 pressure (bar)   6 position (mm)   8 set point
    100 command   101 target   103 ramp (kN/s)   105 over-force trip   107 heartbeat
    108 host timeout (s)

A command is taken on the write of register 100, with the parameters written before it. When the
heartbeat register has not changed for the host timeout, the PLC holds and then unloads.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any, ClassVar

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import PressCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome, PressState
from cellbench.transport import SerialSettings
from cellbench.transport.messages import Message, decode
from cellbench.transport.modbus import ModbusMaster, WordOrder, float_from, float_registers
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, ForceRate, Options, parse_options, wire

_STATUS, _STATUS_COUNT = 0, 10
_COMMAND, _PARAMETERS, _HEARTBEAT, _HOST_TIMEOUT = 100, 101, 107, 108
_ENABLED, _MOVING, _AT_TARGET, _ALARM, _HOST_LOST = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 9
_ALARMS = {
    1 << 6: "emergency stop",
    1 << 7: "over-force",
    1 << 8: "oil low",
    _HOST_LOST: "host was lost",
}
_KN = 1000.0
#: What no press shows, in its own units: a float with its words swapped does, nearly always.
_BEYOND, _BELOW = 1e4, 1e-20
#: Heartbeats within the host timeout: some may be lost.
_BEATS = 4
_NO_FORCE_N = 1.0
_RATE_MIN_N_PER_S = 1e-3
_HOLD_TRIES, _HOLD_PAUSE_S = 10, 0.2
_HOLD_TOLERANCE = 0.02


class _Do(IntEnum):
    STOP = 1
    HOLD = 2
    RAMP = 3
    UNLOAD = 4
    CLEAR_ALARM = 5
    ENABLE = 6
    DISABLE = 7


class PlcPressOptions(Options):
    """Options in the bench file.

    Attributes:
        unit: Unit identifier of the PLC.
        word_order: Which half of a float comes first.
        capacity: Largest force of the press.
        force_min: Smallest force other than none that it can set.
        rate_max: Fastest ramp.
        host_timeout: Silence after which the PLC holds and then unloads.
    """

    unit: int = Field(default=1, ge=1, le=247)
    word_order: WordOrder = "lsw first"
    capacity: Force = Field(default=25e3, gt=0)
    force_min: Force = Field(default=0.0, ge=0)
    rate_max: ForceRate = Field(default=5e3, gt=0)
    host_timeout: Duration = Field(default=60.0, gt=0)


class PlcPress:
    """A servo-hydraulic or pneumatic press behind a PLC."""

    role: ClassVar[str] = "press"
    summary: ClassVar[str] = "Presses behind a PLC with cellbench's register map (Modbus TCP)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = 502

    @staticmethod
    def decode(data: bytes) -> Message:
        """Read a request for a replay: the heartbeat's count says nothing but that it beats."""
        message = decode(data)
        if message.meaning[1:3] == ("write", float(_HEARTBEAT)):
            return replace(message, meaning=message.meaning[:3], routine=True)
        return message

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = parse_options(name, PlcPressOptions, options)
        self._stream = stream
        self._registers = ModbusMaster(stream, self._options.unit, "tcp")
        self._beat = 0
        self._beat_due_s = 0.0
        self._unload_due = False
        self.capabilities = PressCapabilities(
            model="PLC press",
            force_min_N=self._options.force_min,
            force_max_N=self._options.capacity,
            rate_max_N_per_s=self._options.rate_max,
            heartbeat_s=self._options.host_timeout,
            reaction=ReactionTime(sample_s=0.5, transport_s=0.02, command_s=0.2),
        )

    async def connect(self) -> Identity:
        """Check that the numbers make sense and set the host timeout; moves nothing."""
        with self._wire:
            measured = await self._registers.read_registers(_STATUS, _STATUS_COUNT)
            self._beat = (await self._registers.read_registers(_HEARTBEAT, 1))[0]
        for at in (2, 4, 6, 8):
            self._plausible(measured[at : at + 2])
        state = await self._look()
        await self._write(_HOST_TIMEOUT, self._floats(self._options.host_timeout))
        await self.heartbeat()
        remarks = [f"found at {state.force_N / _KN:.3f} kN"]
        if state.alarm:
            remarks.append(f"found with {state.alarm}")
        return Identity(self.capabilities.model, "", "", tuple(remarks))

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """Approach a force and keep it; the PLC trips above ``force_max_N``.

        Raises:
            InstrumentError: It is out of reach, or the press has an alarm.
        """
        trip_N = min(force_max_N, self._options.capacity)
        self._check("force", force_N, self._options.force_min if force_N else 0.0, trip_N)
        self._check("rate", rate_N_per_s, _RATE_MIN_N_PER_S, self._options.rate_max)
        if alarm := await self._make_ready():
            raise InstrumentError(self.name, f"does not move: {alarm}")
        await self._ramp(force_N, rate_N_per_s, trip_N)

    async def release(self, rate_N_per_s: float) -> None:
        """Ramp the force to zero; a later `read` that finds it there opens the valve.

        A press whose alarm cannot be cleared is unloaded at once: it must not stay under force.
        """
        if await self._make_ready():
            await self._do(_Do.UNLOAD)
            return
        rate_N_per_s = min(max(rate_N_per_s, _RATE_MIN_N_PER_S), self._options.rate_max)
        await self._ramp(0.0, rate_N_per_s, self._options.capacity)
        self._unload_due = True

    async def hold(self) -> None:
        """Keep the force that is measured now."""
        self._unload_due = False
        await self._do(_Do.HOLD)

    async def stop(self) -> None:
        """Stop the actuator where it is."""
        self._unload_due = False
        await self._do(_Do.STOP)

    async def clear_alarm(self) -> None:
        """Acknowledge a latched alarm whose cause is gone."""
        await self._do(_Do.CLEAR_ALARM)

    async def read(self) -> PressState:
        """Look at the press; tell it that the host lives as often as it needs to know."""
        if asyncio.get_running_loop().time() >= self._beat_due_s:
            await self.heartbeat()
        state = await self._look()
        if self._unload_due and state.at_target and state.set_point_N < _NO_FORCE_N:
            self._unload_due = False
            await self._do(_Do.UNLOAD)
        return state

    async def heartbeat(self) -> None:
        """Tell the PLC that the host lives."""
        self._beat = (self._beat + 1) & 0xFFFF
        due_s = asyncio.get_running_loop().time() + self._options.host_timeout / _BEATS
        self._beat_due_s = due_s
        with self._wire:
            await self._registers.write_registers(_HEARTBEAT, [self._beat])

    async def quiet(self) -> Outcome:
        """Hold the force that is measured now, and read back that it is held.

        A drive that is off holds by its closed valve, and refuses the command; one that was told
        to let go is left to it.
        """
        try:
            status, _ = await self._status()
            if status & _ENABLED and (await self._look()).set_point_N >= _NO_FORCE_N:
                await self.hold()
            state = await self._settled()
        except InstrumentError as error:
            return Outcome(self.name, f"force unknown: {error}", confirmed=False)
        away_N = abs(state.set_point_N - state.force_N)
        held = not state.moving and away_N <= _HOLD_TOLERANCE * self._options.capacity
        text = f"{'holds' if held else 'does not hold'} {state.force_N / _KN:.3f} kN"
        alarm = f", {state.alarm}" if state.alarm else ""
        return Outcome(self.name, text + alarm, confirmed=held and not state.alarm)

    async def close(self) -> None:
        """Switch the drive off, so that a force stays behind the closed valve, and leave.

        A drive left on would take our silence for a lost host and unload.
        """
        # The connection may be what was lost: then there is nobody to tell.
        with contextlib.suppress(InstrumentError):
            status, _ = await self._status()
            if status & _ENABLED:
                await self._do(_Do.DISABLE)
        await self._stream.close()

    async def _settled(self) -> PressState:
        for _ in range(_HOLD_TRIES):
            state = await self.read()
            if not state.moving:
                break
            await asyncio.sleep(_HOLD_PAUSE_S)
        return state

    async def _ramp(self, force_N: float, rate_N_per_s: float, trip_N: float) -> None:
        self._unload_due = False
        parameters = self._floats(force_N / _KN, rate_N_per_s / _KN, trip_N / _KN)
        await self._write(_PARAMETERS, parameters)
        await self._do(_Do.RAMP)

    async def _make_ready(self) -> str:
        """Enable the press and return the alarm that keeps it from moving, or nothing."""
        status, code = await self._status()
        if status & _HOST_LOST:
            # No reason to refuse the host that is back; other alarms are for a person to clear.
            await self.heartbeat()
            await self.clear_alarm()
            status, code = await self._status()
        alarm = _alarm(status, code)
        if not alarm and not status & _ENABLED:
            await self._do(_Do.ENABLE)
        return alarm

    async def _status(self) -> tuple[int, int]:
        with self._wire:
            status, code = await self._registers.read_registers(_STATUS, 2)
        return status, code

    async def _look(self) -> PressState:
        with self._wire:
            registers = await self._registers.read_registers(_STATUS, _STATUS_COUNT)
        force_kN, set_point_kN = (self._plausible(registers[at : at + 2]) for at in (2, 8))
        status = registers[0]
        return PressState(
            time_s=asyncio.get_running_loop().time(),
            force_N=force_kN * _KN,
            set_point_N=set_point_kN * _KN,
            moving=bool(status & _MOVING),
            at_target=bool(status & _AT_TARGET),
            alarm=_alarm(status, registers[1]),
        )

    def _plausible(self, registers: list[int]) -> float:
        value = float_from(registers, self._options.word_order)
        if not math.isfinite(value) or abs(value) > _BEYOND or 0 < abs(value) < _BELOW:
            message = f'shows {value:g}: is the word order "{self._options.word_order}" right?'
            raise InstrumentError(self.name, message)
        return value

    async def _write(self, address: int, values: list[int]) -> None:
        """Write parameters and see that they arrived."""
        with self._wire:
            await self._registers.write_registers(address, values)
            found = await self._registers.read_registers(address, len(values))
        if found != values:
            raise InstrumentError(self.name, f"keeps {found} at {address} instead of {values}")

    async def _do(self, command: _Do) -> None:
        with self._wire:
            await self._registers.write_registers(_COMMAND, [command])

    def _floats(self, *values: float) -> list[int]:
        order = self._options.word_order
        return [word for value in values for word in float_registers(value, order)]

    def _check(self, what: str, value: float, lowest: float, highest: float) -> None:
        if not lowest <= value <= highest:
            message = f"{what} {value:g} is outside {lowest:g} to {highest:g}"
            raise InstrumentError(self.name, message)


def _alarm(status: int, code: int) -> str:
    names = [text for bit, text in _ALARMS.items() if status & bit]
    if not names and (code or status & _ALARM):
        names = ["alarm"]
    return ", ".join(names) + (f" (code {code})" if code else "")
