"""A press whose PLC keeps the force by itself, on Modbus TCP.

Where the PLC keeps what is an option of the bench file, see `cellbench_drivers.plc_registers`; by
default it is cellbench's own map. Holding registers, 0-based; forces in kN as 32-bit floats whose
word order the options give:

    0 status bits   1 alarm code   2 force   4 pressure (bar)   6 position (mm)   8 set point
    100 command   101 target   103 ramp (kN/s)   105 over-force trip   107 heartbeat
    108 host timeout (s)

A command is taken on the write of its register, with the parameters written before it. When the
heartbeat register has not changed for the host timeout, the PLC holds and then unloads.

Source: cellbench's own map, as there is none that presses share. Never verified on a PLC: all of
it, each installation's registers, bits and commands included.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from cellbench.errors import CellbenchError, InstrumentError
from cellbench.instruments.capabilities import PressCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome, PressState
from cellbench.transport import SerialSettings
from cellbench.transport.messages import Decode, Message, decode
from cellbench.transport.modbus import ModbusMaster, WordOrder
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, ForceRate, Options, parse_options, wire
from cellbench_drivers.plc_registers import (
    CommandCodes,
    Group,
    Register,
    RegisterMap,
    StatusBits,
    runs,
)

_ALARMS = {
    "emergency_stop": "emergency stop",
    "over_force": "over-force",
    "oil_low": "oil low",
    "host_lost": "host was lost",
}
_KN = 1000.0
#: Heartbeats within the host timeout: some may be lost.
_BEATS = 4
_NO_FORCE_N = 1.0
_RATE_MIN_N_PER_S = 1e-3
_HOLD_TRIES, _HOLD_PAUSE_S = 10, 0.2
_HOLD_TOLERANCE = 0.02
#: How long after a command a PLC may still show what was before it.
_EFFECT_S = 1.0


class PlcPressOptions(Options):
    """Options in the bench file.

    Attributes:
        unit: Unit identifier of the PLC.
        word_order: Which half of a float comes first.
        registers: Where the PLC keeps what.
        bits: What the bits of its status mean.
        commands: What it takes for which command.
        capacity: Largest force of the press.
        force_min: Smallest force other than none that it can set.
        rate_max: Fastest ramp.
        host_timeout: Silence after which the PLC holds and then unloads.
    """

    unit: int = Field(default=1, ge=1, le=247)
    word_order: WordOrder = "lsw first"
    registers: RegisterMap = RegisterMap()
    bits: StatusBits = StatusBits()
    commands: CommandCodes = CommandCodes()
    capacity: Force = Field(default=25e3, gt=0)
    force_min: Force = Field(default=0.0, ge=0)
    rate_max: ForceRate = Field(default=5e3, gt=0)
    host_timeout: Duration = Field(default=60.0, gt=0)


class PlcPress:
    """A servo-hydraulic or pneumatic press behind a PLC."""

    role: ClassVar[str] = "press"
    summary: ClassVar[str] = "Presses behind a PLC with a register map (Modbus TCP)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = 502

    @staticmethod
    def decoder(name: str, options: Mapping[str, Any]) -> Decode:
        """Return what reads requests for a replay: a heartbeat's count only says that it beats."""
        beat = parse_options(name, PlcPressOptions, options).registers.heartbeat

        def read(data: bytes) -> Message:
            message = decode(data)
            if beat is not None and message.meaning[1:3] == ("write", float(beat.at)):
                return replace(message, meaning=message.meaning[:3], routine=True)
            return message

        return read

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = parse_options(name, PlcPressOptions, options)
        self._stream = stream
        self._master = ModbusMaster(stream, self._options.unit, "tcp")
        self._map = self._options.registers
        self._commands = self._options.commands
        self._order = self._options.word_order
        self._heartbeat = self._map.heartbeat
        self._beat_every_s = self._options.host_timeout / _BEATS
        self._shown = self._group(self._map.shown)
        told = {"status": self._map.status, "alarm_code": self._map.alarm_code}
        self._told = self._group({name: each for name, each in told.items() if each is not None})
        self._bits = {
            name: 0 if at is None else 1 << at for name, at in dict(self._options.bits).items()
        }
        alarms = {self._bits[name] for name in ("alarm", *_ALARMS)}
        self._alarm_bits = sum(alarms)
        self._moving_bit, self._at_target_bit = self._bits["moving"], self._bits["at_target"]
        self._near_N = _HOLD_TOLERANCE * self._options.capacity
        self._beat = 0
        self._beat_due_s = 0.0
        self._asked_N: float | None = None
        self._unload_due = False
        self._rises_s = -math.inf
        self.capabilities = PressCapabilities(
            model="PLC press",
            force_min_N=self._options.force_min,
            force_max_N=self._options.capacity,
            rate_max_N_per_s=self._options.rate_max,
            heartbeat_s=self._options.host_timeout if self._map.heartbeat else None,
            reaction=ReactionTime(sample_s=0.5, transport_s=0.02, command_s=0.2),
        )

    async def connect(self) -> Identity:
        """Check that the numbers make sense and set the host timeout; moves nothing."""
        if self._heartbeat is not None:
            beat = (await self._read(self._group({"beat": self._heartbeat})))["beat"]
            self._beat = int(beat) & 0xFFFF
        state = await self._look()
        if self._map.host_timeout is not None:
            await self._write((self._map.host_timeout, self._options.host_timeout))
        await self.heartbeat()
        remarks = [f"found at {state.force_N / _KN:.3f} kN"]
        if state.alarm:
            remarks.append(f"found with {state.alarm}")
        if self._map.max_force is None:
            remarks.append("has no over-force trip: only the host watches the force")
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
        self._rises_s = -math.inf
        if await self._make_ready():
            await self._do(self._commands.unload)
            return
        rate_N_per_s = min(max(rate_N_per_s, _RATE_MIN_N_PER_S), self._options.rate_max)
        await self._ramp(0.0, rate_N_per_s, self._options.capacity)
        self._unload_due = True

    async def hold(self) -> None:
        """Keep the force that is measured now."""
        self._unload_due = False
        self._asked_N = None
        await self._do(self._commands.hold)

    async def stop(self) -> None:
        """Stop the actuator where it is."""
        self._unload_due = False
        self._asked_N = None
        await self._do(self._commands.stop)

    async def clear_alarm(self) -> None:
        """Acknowledge a latched alarm whose cause is gone."""
        await self._do(self._commands.clear_alarm)

    async def read(self) -> PressState:
        """Look at the press; tell it that the host lives as often as it needs to know."""
        if self._stream.now() >= self._beat_due_s:
            await self.heartbeat()
        state = await self._look()
        if self._unload_due and state.at_target and state.set_point_N < _NO_FORCE_N:
            self._unload_due = False
            await self._do(self._commands.unload)
        return state

    async def heartbeat(self) -> None:
        """Tell the PLC that the host lives."""
        if self._heartbeat is None:
            self._beat_due_s = math.inf
            return
        self._beat = (self._beat + 1) & 0xFFFF
        self._beat_due_s = self._stream.now() + self._beat_every_s
        await self._send(self._heartbeat, self._beat)

    async def quiet(self) -> Outcome:
        """Hold the force that is measured now, and read back that it is held.

        A drive that is off holds by its closed valve, and refuses the command; one that was told
        to let go is left to it.
        """
        try:
            status, _ = await self._status()
            if self._enabled(status) and await self._has_force_to_hold():
                await self.hold()
            state = await self._settled()
        except InstrumentError as error:
            return Outcome(self.name, f"force unknown: {error}", confirmed=False)
        away_N = abs(state.set_point_N - state.force_N)
        held = not state.moving and away_N <= self._near_N
        text = f"{'holds' if held else 'does not hold'} {state.force_N / _KN:.3f} kN"
        alarm = f", {state.alarm}" if state.alarm else ""
        return Outcome(self.name, text + alarm, confirmed=held and not state.alarm)

    async def _has_force_to_hold(self) -> bool:
        """Whether it keeps a force, or has just been told to, which it may not show yet."""
        if self._stream.now() < self._rises_s + _EFFECT_S:
            return True
        return (await self._look()).set_point_N >= _NO_FORCE_N

    async def close(self) -> None:
        """Switch the drive off, so that a force stays behind the closed valve, and leave.

        A drive left on would take our silence for a lost host and unload.
        """
        # The connection may be what was lost: then there is nobody to tell.
        with contextlib.suppress(InstrumentError):
            status, _ = await self._status()
            if self._enabled(status):
                await self._do(self._commands.disable)
        await self._stream.close()

    def _group(self, registers: Mapping[str, Register]) -> Group:
        return Group(registers, self._order)

    async def _settled(self) -> PressState:
        for _ in range(_HOLD_TRIES):
            state = await self.read()
            if not state.moving:
                break
            await asyncio.sleep(_HOLD_PAUSE_S)
        return state

    async def _ramp(self, force_N: float, rate_N_per_s: float, trip_N: float) -> None:
        self._unload_due = False
        parameters = [(self._map.target, force_N), (self._map.ramp, rate_N_per_s)]
        if self._map.max_force is not None:
            parameters.append((self._map.max_force, trip_N))
        await self._write(*parameters)
        if force_N >= _NO_FORCE_N:
            self._rises_s = self._stream.now()
        await self._do(self._commands.ramp)
        self._asked_N = force_N

    async def _make_ready(self) -> str:
        """Enable the press and return the alarm that keeps it from moving, or nothing."""
        status, code = await self._status()
        if self._bit(status, "host_lost"):
            # No reason to refuse the host that is back; other alarms are for a person to clear.
            await self.heartbeat()
            await self.clear_alarm()
            status, code = await self._status()
        alarm = self._alarm(status, code)
        if not alarm and not self._enabled(status):
            await self._do(self._commands.enable)
        return alarm

    async def _status(self) -> tuple[int, int]:
        found = await self._read(self._told)
        return int(found["status"]), int(found.get("alarm_code", 0))

    async def _look(self) -> PressState:
        found = await self._read(self._shown)
        status, force_N = int(found["status"]), found["force"]
        set_point_N = found.get("set_point", force_N if self._asked_N is None else self._asked_N)
        near = abs(set_point_N - force_N) <= self._near_N
        moving = bool(status & self._moving_bit) if self._moving_bit else not near
        at_target = bool(status & self._at_target_bit) if self._at_target_bit else near
        alarm = self._alarm(status, int(found.get("alarm_code", 0)))
        return PressState(self._stream.now(), force_N, set_point_N, moving, at_target, alarm)

    def _bit(self, status: int, name: str) -> bool:
        return bool(status & self._bits[name])

    def _enabled(self, status: int) -> bool:
        return not self._bits["enabled"] or self._bit(status, "enabled")

    def _alarm(self, status: int, code: int) -> str:
        if not (code or status & self._alarm_bits):
            return ""
        names = [text for name, text in _ALARMS.items() if self._bit(status, name)] or ["alarm"]
        return ", ".join(names) + (f" (code {code})" if code else "")

    async def _read(self, group: Group) -> dict[str, float]:
        words: list[int] = []
        try:
            for at, count in group.runs:
                words += await self._master.read_registers(at, count)
        except CellbenchError as error:
            raise self._wire.failed(error) from error
        try:
            return group.values(words)
        except ValueError as error:
            message = f'{error}: is the word order "{self._order}" right?'
            raise InstrumentError(self.name, message) from error

    async def _write(self, *parameters: tuple[Register, float]) -> None:
        """Write parameters and see that they arrived."""
        for at, words in self._words(*parameters):
            with self._wire:
                await self._master.write_registers(at, words)
                found = await self._master.read_registers(at, len(words))
            if found != words:
                raise InstrumentError(self.name, f"keeps {found} at {at} instead of {words}")

    async def _do(self, command: int | None) -> None:
        if command is None:
            return  # the PLC needs no such command
        await self._send(self._map.command, command)

    async def _send(self, register: Register, value: float) -> None:
        words = self._words_of(register, value)
        try:
            await self._master.write_registers(register.at, words)
        except CellbenchError as error:
            raise self._wire.failed(error) from error

    def _words(self, *parameters: tuple[Register, float]) -> list[tuple[int, list[int]]]:
        words: dict[int, int] = {}
        for register, value in parameters:
            words.update(enumerate(self._words_of(register, value), register.at))
        return runs(words)

    def _words_of(self, register: Register, value: float) -> list[int]:
        try:
            return register.words(value, self._order)
        except ValueError as error:
            raise InstrumentError(self.name, str(error)) from error

    def _check(self, what: str, value: float, lowest: float, highest: float) -> None:
        if not lowest <= value <= highest:
            message = f"{what} {value:g} is outside {lowest:g} to {highest:g}"
            raise InstrumentError(self.name, message)
