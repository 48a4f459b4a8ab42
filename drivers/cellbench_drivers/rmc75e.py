"""A press on a Delta RMC75E motion controller, Modbus TCP: the controller's own loop keeps force.

Each of the controller's registers ``%MDfile.element`` is 32 bits, two holding registers from
2 (256 file + element), the least significant word first. Axis 0 has its state in file 8: status
bits (8.0), error bits (8.1), actual force (8.8), command (8.56). A command is ten floats, written
in one go at file 25: its number, and up to nine parameters. Source: Delta's RMC70 manuals and the
RMCTools web help.

Never verified on a controller, and therefore options: the numbers of the commands for force
(``ramp command`` 18, ``hold command`` 19, ``enter command``), what they take (``ramp takes``), and
how bit 31 of the status acknowledges a command (``acknowledge``). Verified by the manual are the
status bits 0 to 25 and the error bits 0 to 7 and 18. Try them with an empty press.

The controller has no watchdog on its host, and takes no limit of force with a command. A user
program may provide both, as variables: ``heartbeat register`` (has to change within the
``host timeout``, else the program holds and then unloads) and ``limit register`` (it trips above).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import PressCapabilities, ReactionTime
from cellbench.instruments.readings import Identity, Outcome, PressState
from cellbench.transport import SerialSettings
from cellbench.transport.modbus import ModbusMaster, WordOrder, float_from, float_registers
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, ForceRate, Options, parse_options, wire
from cellbench_drivers.presses import NO_FORCE_FRACTION, bounded_rate, check_reach, held

_STATUS_FILE, _COMMAND_FILE, _COMMAND_SIZE = 8, 25, 10
_FORCE_ELEMENT, _SET_POINT_ELEMENT = 8, 56
_CONTROLLER_FILE, _CONTROLLER_ELEMENT = 20, 7
_RUN, _WATCHDOG_RESET = 1 << 0, 1 << 3

_FAULT_INPUT, _ENABLED, _EXTERNAL_HALT, _HALTED = 1 << 3, 1 << 13, 1 << 14, 1 << 15
_FORCE_CONTROL, _AT_FORCE, _RAMP_DONE = 1 << 16, 1 << 19, 1 << 21
_ACKNOWLEDGE = 1 << 31
#: Status bits that are never set: with the words swapped, some of them are.
_UNUSED = 0x7C000000
_EMERGENCY_STOP = "fault input (emergency stop)"
_ERRORS = {
    0: "following error",
    2: "output saturated",
    3: _EMERGENCY_STOP,
    4: "positive limit input",
    5: "negative limit input",
    6: "no transducer",
    7: "transducer overflow",
    18: "no pressure/force transducer",
}
_DIRECT_OUTPUT_HALT, _CLEAR_FAULTS, _ENABLE_CONTROLLER, _FAULT_CONTROLLER = 3, 4, 7, 8

_BEYOND, _BELOW = 1e7, 1e-20
_BEATS, _BEAT_VALUES = 4, 10_000
_EFFECT_S, _EFFECT_LOOK_S, _HOLD_LOOK_S = 1.0, 0.05, 0.5
_REACTION = ReactionTime(sample_s=0.5, transport_s=0.02, command_s=0.1)


def _register_address(value: object) -> object:
    """Read ``%MD8.8`` as the address of its first holding register."""
    matched = re.fullmatch(r"%MD(\d{1,3})\.(\d{1,3})", str(value))
    if matched is None or int(matched[1]) > 127 or int(matched[2]) > 255:
        raise ValueError(f'"{value}" is no register: write file and element, as "%MD56.10"')
    return 2 * (256 * int(matched[1]) + int(matched[2]))


RegisterAddress = Annotated[int, BeforeValidator(_register_address)]


class Rmc75eOptions(Options):
    """Options in the bench file.

    Attributes:
        unit: Unit identifier.
        axis: Which axis works the press.
        word_order: Which half of a register comes first.
        force_unit: What 1 is in the units of the axis.
        capacity: Largest force of the press.
        force_min: Smallest force other than none that it can set.
        rate_max: Fastest ramp.
        force_register: Where the actual force is, by default ``%MD8.8`` (of axis 0).
        set_point_register: Where the command is, by default ``%MD8.56`` (of axis 0).
        ramp_command: Ramps the force; not verified.
        ramp_takes: Its parameters; not verified.
        hold_command: Holds the force of this moment and enters force control; not verified.
        enter_command: Enters force control instead, with the parameters of a ramp; not verified.
        acknowledge: What bit 31 of the status does on a command; not verified.
        tolerated_errors: Names of error bits that are no alarm, e.g. ``output saturated``.
        heartbeat_register: Variable of the user program that has to change.
        host_timeout: Silence after which that program holds and then unloads.
        limit_register: Variable of the user program that holds the force at which it trips.
    """

    unit: int = Field(default=1, ge=0, le=255)
    axis: int = Field(default=0, ge=0, le=1)
    word_order: WordOrder = "lsw first"
    force_unit: Force = Field(default=1e3, gt=0)
    capacity: Force = Field(default=25e3, gt=0)
    force_min: Force = Field(default=0.0, ge=0)
    rate_max: ForceRate = Field(default=5e3, gt=0)
    force_register: RegisterAddress | None = None
    set_point_register: RegisterAddress | None = None
    ramp_command: int = 18
    ramp_takes: Literal["force, rate", "force, time"] = "force, rate"
    hold_command: int = 19
    enter_command: int | None = None
    acknowledge: Literal["ignored", "toggles", "set"] = "ignored"
    tolerated_errors: tuple[str, ...] = ()
    heartbeat_register: RegisterAddress | None = None
    host_timeout: Duration = Field(default=60.0, gt=0)
    limit_register: RegisterAddress | None = None


class _Axis(NamedTuple):
    """Status and error bits."""

    status: int
    errors: int


class Rmc75e:
    """A hydraulic press on one axis of an RMC75E."""

    role: ClassVar[str] = "press"
    summary: ClassVar[str] = "Presses on a Delta RMC75E motion controller (Modbus TCP)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = 502

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = parse_options(name, Rmc75eOptions, options)
        self._stream = stream
        self._master = ModbusMaster(stream, self._options.unit, "tcp")
        base = 512 * (_STATUS_FILE + self._options.axis)
        self._status_at = base
        self._force_at = self._options.force_register or base + 2 * _FORCE_ELEMENT
        self._set_point_at = self._options.set_point_register or base + 2 * _SET_POINT_ELEMENT
        self._command_at = 2 * (256 * _COMMAND_FILE + _COMMAND_SIZE * self._options.axis)
        self._beat = 0
        self._beat_due_s = 0.0
        #: Whether this host has given an order, so that a halt is somebody else's doing.
        self._ordered = False
        self._released = False
        watched = self._options.heartbeat_register is not None
        self.capabilities = PressCapabilities(
            model="Delta RMC75E",
            force_min_N=self._options.force_min,
            force_max_N=self._options.capacity,
            rate_max_N_per_s=self._options.rate_max,
            heartbeat_s=self._options.host_timeout if watched else None,
            reaction=_REACTION,
        )

    # --- The press ------------------------------------------------------------------------------

    async def connect(self) -> Identity:
        """Check that the numbers make sense; moves nothing.

        Raises:
            InstrumentError: They do not, or the controller is not in RUN mode.
        """
        state = await self._look()
        controller = await self._bits(2 * (256 * _CONTROLLER_FILE + _CONTROLLER_ELEMENT))
        if not controller & _RUN:
            raise InstrumentError(self.name, "the controller is in PROGRAM mode; it has to be RUN")
        await self.heartbeat()
        remarks = [
            f"found at {state.force_N / 1e3:.3f} kN",
            "its commands for force were never verified on a controller",
        ]
        if controller & _WATCHDOG_RESET:
            remarks.append("its last start was a watchdog's")
        if state.alarm:
            remarks.append(f"found with {state.alarm}")
        if self._options.limit_register is None:
            remarks.append("has no over-force trip: only the host watches the force")
        return Identity(self.capabilities.model, "", "", tuple(remarks))

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """Approach a force and keep it; a user program with a limit register trips above the limit.

        Raises:
            InstrumentError: It is out of reach, or the axis has a fault.
        """
        check_reach(self.name, self.capabilities, force_N, rate_N_per_s, force_max_N)
        if alarm := self._faults(await self._axis()):
            raise InstrumentError(self.name, f"does not move: {alarm}")
        trip_N = min(force_max_N, self._options.capacity)
        await self._ramp(force_N, rate_N_per_s, trip_N)
        self._released = False

    async def release(self, rate_N_per_s: float) -> None:
        """Ramp the force to zero; faults that were latched are cleared for it.

        Raises:
            InstrumentError: A fault stays, so that the force stays behind the closed valve.
        """
        if self._faults(await self._axis()):
            await self.clear_faults()
        if alarm := self._faults(await self._axis()):
            raise InstrumentError(self.name, f"cannot let go: {alarm}; the valve stays closed")
        rate_N_per_s = bounded_rate(self.capabilities, rate_N_per_s)
        await self._ramp(0.0, rate_N_per_s, self._options.capacity)
        self._released = True

    async def read(self) -> PressState:
        """Look at the press; tell it that the host lives as often as it needs to know."""
        if asyncio.get_running_loop().time() >= self._beat_due_s:
            await self.heartbeat()
        return await self._look()

    async def heartbeat(self) -> None:
        """Change the variable that a user program watches, where there is one."""
        register = self._options.heartbeat_register
        if register is None:
            self._beat_due_s = math.inf
            return
        self._beat = self._beat % _BEAT_VALUES + 1
        due_s = asyncio.get_running_loop().time() + self._options.host_timeout / _BEATS
        self._beat_due_s = due_s
        await self._write(register, float(self._beat))

    async def quiet(self) -> Outcome:
        """Hold the force of this moment, and see that it stays.

        An axis that is off or has a fault holds by its closed valve; one that was told to let go,
        or that has no force to keep, is left as it is.
        """
        try:
            axis = await self._axis()
            force_N = (await self._look()).force_N
            idle = not axis.status & _FORCE_CONTROL and force_N <= self._none_N
            if axis.status & _ENABLED and not self._faults(axis) and not (self._released or idle):
                await self._hold()
            return await held(self.name, self.capabilities, self.read, _HOLD_LOOK_S)
        except InstrumentError as error:
            return Outcome(self.name, f"force unknown: {error}", confirmed=False)

    async def stop(self) -> None:
        """Close the valve (direct-output halt): the force stays behind it, with no loop."""
        self._ordered = False
        await self._command(_DIRECT_OUTPUT_HALT)

    async def emergency_stop(self) -> None:
        """Fault the controller: its outputs go off. A person enables it again."""
        await self._command(_FAULT_CONTROLLER)

    async def clear_faults(self) -> None:
        """Clear latched error bits whose cause is gone."""
        await self._command(_CLEAR_FAULTS)

    async def close(self) -> None:
        """Leave the axis in its force loop; where a program watches the host, close the valve.

        Such a program would take our silence for a lost host, and unload.
        """
        if self._options.heartbeat_register is not None and not self._released:
            # The connection may be what was lost: then there is nobody to tell.
            with contextlib.suppress(InstrumentError):
                await self.stop()
        await self._stream.close()

    # --- Orders ---------------------------------------------------------------------------------

    async def _ramp(self, force_N: float, rate_N_per_s: float, trip_N: float) -> None:
        if self._options.limit_register is not None:
            await self._write(self._options.limit_register, trip_N / self._options.force_unit)
        axis = await self._enabled()
        entering = not axis.status & _FORCE_CONTROL
        enter = self._options.enter_command
        if entering and enter is None:
            await self._hold()
        parameters = await self._ramp_parameters(force_N, rate_N_per_s)
        command = enter if entering and enter is not None else self._options.ramp_command
        await self._command(command, *parameters)
        await self._expect(_FORCE_CONTROL, f"does not control force after command {command}")
        self._ordered = True

    async def _ramp_parameters(self, force_N: float, rate_N_per_s: float) -> tuple[float, float]:
        force, rate = (value / self._options.force_unit for value in (force_N, rate_N_per_s))
        if self._options.ramp_takes == "force, rate":
            return force, rate
        return force, abs(force_N - (await self._look()).force_N) / rate_N_per_s

    async def _hold(self) -> None:
        command = self._options.hold_command
        await self._command(command)
        await self._expect(_FORCE_CONTROL, f"does not control force after command {command}")
        self._ordered = True

    async def _enabled(self) -> _Axis:
        axis = await self._axis()
        if axis.status & _ENABLED:
            return axis
        await self._command(_ENABLE_CONTROLLER)
        return await self._expect(_ENABLED, "cannot be enabled")

    async def _command(self, number: int, *parameters: float) -> None:
        """Write a command with its parameters, and wait for what acknowledges it."""
        how = self._options.acknowledge
        before = 0 if how == "ignored" else (await self._axis()).status & _ACKNOWLEDGE
        values = [float(number), *parameters]
        values += [0.0] * (_COMMAND_SIZE - len(values))
        words = [word for value in values for word in self._words(value)]
        with self._wire:
            await self._master.write_registers(self._command_at, words)
        if how == "ignored":
            return
        wanted = before ^ _ACKNOWLEDGE if how == "toggles" else _ACKNOWLEDGE
        await self._expect(_ACKNOWLEDGE, f"does not acknowledge command {number}", wanted)

    async def _expect(self, mask: int, otherwise: str, wanted: int | None = None) -> _Axis:
        """Wait until the status bits of ``mask`` are ``wanted``, by default all set."""
        deadline_s = asyncio.get_running_loop().time() + _EFFECT_S
        while True:
            axis = await self._axis()
            if axis.status & mask == (mask if wanted is None else wanted):
                return axis
            if asyncio.get_running_loop().time() >= deadline_s:
                faults = self._faults(axis)
                message = f"{otherwise}: {faults}" if faults else otherwise
                raise InstrumentError(self.name, message)
            await asyncio.sleep(_EFFECT_LOOK_S)

    # --- What it shows --------------------------------------------------------------------------

    async def _look(self) -> PressState:
        axis = await self._axis()
        force, set_point = await self._float(self._force_at), await self._float(self._set_point_at)
        controlled = bool(axis.status & _FORCE_CONTROL)
        return PressState(
            time_s=asyncio.get_running_loop().time(),
            force_N=force * self._options.force_unit,
            set_point_N=set_point * self._options.force_unit,
            moving=controlled and not axis.status & _RAMP_DONE,
            at_target=controlled and bool(axis.status & _AT_FORCE),
            alarm=self._alarm(axis),
        )

    def _alarm(self, axis: _Axis) -> str:
        """What stops the press; a halt counts once this host has given an order."""
        faults = self._faults(axis)
        if not axis.status & _HALTED or not self._ordered:
            return faults
        return f"halted: {faults}" if faults else "halted"

    def _faults(self, axis: _Axis) -> str:
        bits = [bit for bit in range(32) if axis.errors >> bit & 1]
        names = [_ERRORS.get(bit, f"error bit {bit}") for bit in bits]
        names = [name for name in names if name not in self._options.tolerated_errors]
        if axis.status & _FAULT_INPUT:
            names.append(_EMERGENCY_STOP)
        if axis.status & _EXTERNAL_HALT:
            names.append("external halt")
        return ", ".join(dict.fromkeys(names))

    @property
    def _none_N(self) -> float:
        return NO_FORCE_FRACTION * self._options.capacity

    async def _axis(self) -> _Axis:
        with self._wire:
            words = await self._master.read_registers(self._status_at, 4)
        axis = _Axis(self._whole(words[:2]), self._whole(words[2:]))
        if axis.status & _UNUSED:
            message = f'has a status of {axis.status:08X}: is the word order "{self._order}" right?'
            raise InstrumentError(self.name, message)
        return axis

    async def _bits(self, at: int) -> int:
        with self._wire:
            return self._whole(await self._master.read_registers(at, 2))

    async def _float(self, at: int) -> float:
        with self._wire:
            value = float_from(await self._master.read_registers(at, 2), self._order)
        if not (value == 0 or _BELOW <= abs(value) <= _BEYOND):
            message = f'shows {value:g}: is the word order "{self._order}" right?'
            raise InstrumentError(self.name, message)
        return value

    async def _write(self, at: int, value: float) -> None:
        """Write a variable of the user program and see that it arrived."""
        words = self._words(value)
        with self._wire:
            await self._master.write_registers(at, words)
            found = await self._master.read_registers(at, 2)
        if found != words:
            raise InstrumentError(self.name, f"keeps {found} at {at} instead of {words}")

    @property
    def _order(self) -> WordOrder:
        return self._options.word_order

    def _words(self, value: float) -> list[int]:
        return float_registers(value, self._order)

    def _whole(self, words: list[int]) -> int:
        low, high = words if self._order == "lsw first" else reversed(words)
        return high << 16 | low
