"""A Delta RMC75E motion controller with one force axis: Modbus TCP on the bench's press.

Source: RMC70 register reference and command list. Every register has 32 bits, addressed by file and
element, and is two Modbus registers from ``2 * (256 * file + element)`` on, low word first:

    8.0 status bits  8.1 error bits  8.2 last error number  8.8 actual force  8.9 its rate
    8.33 control output, V  8.35 force error  8.56 command force  20.7 controller status
    25.0 to 25.9 command and nine parameters, all REAL, write only; writing 25.0 is the command

Functions 3, 4, 6, 8, 16, 23. Which command numbers ramp and hold a force, in what arguments, that
bit 31 of the status toggles with every command, and the numbers of errors are as recalled, never
verified: the first two are settings here.

The base firmware knows no host. The user program that this controller runs in RUN mode expects its
heartbeat variable to change within each timeout while the axis is in force control; otherwise it
holds the force, and unloads when the host stays away. Error bits stay until command 4, and until
their cause is gone; each of them halts the axis with a closed valve (auto-stop).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum, IntFlag
from typing import Any, Literal, Self

from pymodbus.framer import FramerSocket

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.host_watch import HostWatch
from cellbench_sim.emulators.load_cell import LoadCell
from cellbench_sim.emulators.modbus import (
    ALL_FUNCTIONS,
    ILLEGAL_ADDRESS,
    ModbusRefusal,
    ModbusServer,
)
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

RampArgument = Literal["rate", "time"]

#: How long a lost host is waited for at constant force, and in what time full force is taken away.
_HOLD_FOR_HOST_S, _UNLOAD_S = 60.0, 25.0
_STATUS_FILE, _CONTROLLER_FILE, _COMMAND_FILE = 8, 20, 25
_COMMAND_ELEMENTS = 10
_FULL_OUTPUT_V = 10.0


class Status(IntFlag):
    """Status bits of the axis (8.0)."""

    IN_POSITION = 1 << 0
    OPEN_LOOP = 1 << 2
    FAULT_INPUT = 1 << 3
    POSITIVE_LIMIT_INPUT = 1 << 4
    STOPPED = 1 << 6
    ENABLE_OUTPUT = 1 << 8
    TARGET_DONE = 1 << 9
    DIRECT_OUTPUT = 1 << 12
    ENABLED = 1 << 13
    HALTED = 1 << 15
    FORCE_CONTROL = 1 << 16
    FORCE_LIMIT_ENABLED = 1 << 17
    AT_FORCE = 1 << 19
    FORCE_TARGET_DONE = 1 << 21
    ACKNOWLEDGE = 1 << 31


class Error(IntFlag):
    """Error bits of the axis (8.1); the over-force switch is wired to the positive limit input."""

    FAULT_INPUT = 1 << 3
    POSITIVE_LIMIT_INPUT = 1 << 4
    NO_TRANSDUCER = 1 << 6
    FORCE_NO_TRANSDUCER = 1 << 18


class Controller(IntFlag):
    """Status bits of the controller (20.7)."""

    RUN = 1 << 0
    ENABLED = 1 << 1
    FIRST_SCAN = 1 << 2
    WATCHDOG_RESET = 1 << 3


class Number(IntEnum):
    """Last error numbers (8.2): ours, the manual's list is not public."""

    NONE = 0
    UNKNOWN_COMMAND = 1
    PARAMETER = 2
    NOT_NOW = 3


class _Rejected(Exception):
    """A command is not carried out; ``number`` says why."""

    def __init__(self, number: Number) -> None:
        super().__init__(number.name)
        self.number = number


class Rmc75eEmulator(Emulator):
    """The motion controller of the bench's press.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of the force transducer's noise.
        unit: Modbus unit identifier.
        force_unit_N: What one unit of the force axis is in N.
        ramp_commands: Command numbers that ramp the force to parameter 1; parameter 2 is the
            ``rate`` in units per second, or the ``time`` of the ramp in seconds.
        hold_command: Command number that holds the present force.
        heartbeat: File and element of the user program's heartbeat variable; its timeout in s
            (REAL) follows, then whether the host is lost (0 or 1).
        heartbeat_timeout_s: The timeout at the start.
        guards_host: Whether there is a user program that acts on it.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        unit: int = 1,
        force_unit_N: float = 1.0,
        ramp_commands: Mapping[int, RampArgument] | None = None,
        hold_command: int = 19,
        heartbeat: tuple[int, int] = (56, 0),
        heartbeat_timeout_s: float = 10.0,
        guards_host: bool = True,
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._press = world.press
        self._capacity_N = world.press.max_force_N
        self._transducer = LoadCell(world, random_stream(seed, name), self._capacity_N)
        self._server = ModbusServer(self, unit, FramerSocket, functions=ALL_FUNCTIONS)
        self._unit_N = force_unit_N
        self._variable_file, self._heartbeat = heartbeat[0], 256 * heartbeat[0] + heartbeat[1]
        self._variables = {self._heartbeat + 1: _real(heartbeat_timeout_s)}
        self._parameters = [0] * _COMMAND_ELEMENTS
        self._errors, self._last_error = Error(0), Number.NONE
        self._run, self._controller_enabled = True, False
        self._axis_enabled = self._output_enabled = self._acknowledge = False
        self._halted = self._force_control = self._limit_enabled = False
        self._loop: Literal["closed", "open", "direct"] = "direct"
        self._rate_N_per_s = 0.0
        self._e_stop = self._transducer_broken = False
        self._host_lost = False
        self._host = HostWatch(
            timebase.now,
            self._call_at,
            is_on=lambda: self._force_control and self._run and guards_host,
            timeout_s=self._timeout_s,
            missed=self._lose_host,
        )
        self._commands = self._command_table(
            {18: "rate", 42: "time"} if ramp_commands is None else ramp_commands, hold_command
        )

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the controller that a bench file's options describe.

        Options: ``unit``, ``force_unit`` (what 1 is), ``ramp_command`` and ``ramp_takes`` (``force,
        rate`` or ``force, time``), ``hold_command``, ``heartbeat_register`` (``%MD56.0``) and its
        ``host_timeout``; without a register no user program watches the host.
        """
        bench, own = BenchOptions(options), dict[str, Any]()
        if "ramp_command" in bench or "ramp_takes" in bench:
            argument = bench.text("ramp_takes", "force, rate").rpartition(" ")[2]
            own["ramp_commands"] = {bench.number("ramp_command", 18): argument}
        if "heartbeat_register" in bench:
            register = bench.text("heartbeat_register", "").removeprefix("%MD")
            file, element = register.split(".")
            own["heartbeat"] = int(file), int(element)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            unit=bench.unit,
            force_unit_N=bench.quantity("force_unit", "force", 1e3),
            hold_command=bench.number("hold_command", 19),
            heartbeat_timeout_s=bench.quantity("host_timeout", "time", 60.0),
            guards_host="heartbeat_register" in bench,
            **own,
        )

    # ------------------------------------------------------------------ faults to be set

    @property
    def e_stop(self) -> bool:
        """Whether the emergency stop, wired to the fault input, is pressed."""
        return self._e_stop

    @e_stop.setter
    def e_stop(self, pressed: bool) -> None:
        self._advance()
        self._e_stop = pressed
        self._notice_faults()

    @property
    def transducer_broken(self) -> bool:
        """Whether the wire of the force transducer is broken."""
        return self._transducer_broken

    @transducer_broken.setter
    def transducer_broken(self, broken: bool) -> None:
        self._advance()
        self._transducer_broken = broken
        self._notice_faults()

    # ------------------------------------------------------------------ registers

    def read_registers(self, address: int, count: int) -> list[int]:
        """Return halves of 32-bit registers; elements of a known file that mean nothing read 0."""
        self._advance()
        self._notice_faults()
        first, last = address // 2, (address + count - 1) // 2
        words: list[int] = []
        for number in range(first, last + 1):
            value = self._register(number)
            words += [value & 0xFFFF, value >> 16]
        return words[address - 2 * first :][:count]

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Take parameters and variables; a command acts with the parameters that came with it."""
        numbers = {half // 2 for half in range(address, address + len(words))}
        if not all(self._is_writable(number) for number in numbers):
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        self._advance()
        self._notice_faults()
        for half, word in enumerate(words, address):
            number, shift = half // 2, 16 * (half % 2)
            self._put(number, self._get(number) & ~(0xFFFF << shift) | word << shift)
        if 2 * 256 * _COMMAND_FILE + 1 in range(address, address + len(words)):
            self._command()
        if self._heartbeat in numbers:
            self._hear()

    def _is_writable(self, number: int) -> bool:
        file, element = divmod(number, 256)
        if number == self._heartbeat + 2:
            return False
        in_command = file == _COMMAND_FILE and element < _COMMAND_ELEMENTS
        return in_command or file == self._variable_file

    def _register(self, number: int) -> int:
        file, element = divmod(number, 256)
        if file == _STATUS_FILE:
            return self._axis_register(element)
        if file == _CONTROLLER_FILE:
            return int(self._controller_status()) if element == 7 else 0
        if file == self._variable_file:
            return self._get(number)
        raise ModbusRefusal(ILLEGAL_ADDRESS)

    def _axis_register(self, element: int) -> int:
        if element in {0, 1, 2}:
            return int((self._status(), self._errors, self._last_error)[element])
        return _real(self._measured(element))

    def _measured(self, element: int) -> float:
        press = self._press
        if element == 8:
            return self._actual_N() / self._unit_N
        if element == 9:
            return self._rate_N_per_s / self._unit_N if press.moving else 0.0
        if element == 33:
            off = (press.setpoint_N - press.force_N) / self._capacity_N
            closed = self._loop == "closed" and self._output_enabled
            return max(-1.0, min(1.0, off)) * _FULL_OUTPUT_V if closed else 0.0
        if element == 35:
            return (press.setpoint_N - self._actual_N()) / self._unit_N
        return press.setpoint_N / self._unit_N if element == 56 else 0.0

    def _actual_N(self) -> float:
        return 0.0 if self._transducer_broken else self._transducer.reading_N()

    def _status(self) -> Status:
        press = self._press
        done = press.at_target
        bits = {
            Status.IN_POSITION: done,
            Status.OPEN_LOOP: self._loop == "open",
            Status.FAULT_INPUT: self._e_stop,
            Status.POSITIVE_LIMIT_INPUT: press.over_force,
            Status.STOPPED: not press.moving,
            Status.ENABLE_OUTPUT: self._output_enabled,
            Status.TARGET_DONE: done,
            Status.DIRECT_OUTPUT: self._loop == "direct",
            Status.ENABLED: self._axis_enabled,
            Status.HALTED: self._halted,
            Status.FORCE_CONTROL: self._force_control,
            Status.FORCE_LIMIT_ENABLED: self._limit_enabled,
            Status.AT_FORCE: self._force_control and done,
            Status.FORCE_TARGET_DONE: self._force_control and not press.moving,
            Status.ACKNOWLEDGE: self._acknowledge,
        }
        return Status(sum(bit for bit, is_set in bits.items() if is_set))

    def _controller_status(self) -> Controller:
        run = Controller.RUN if self._run else Controller(0)
        return run | (Controller.ENABLED if self._controller_enabled else Controller(0))

    def _get(self, number: int) -> int:
        if number // 256 == _COMMAND_FILE:
            return self._parameters[number % 256]
        if number == self._heartbeat + 2:
            return _real(float(self._host_lost))
        return self._variables.get(number, 0)

    def _put(self, number: int, value: int) -> None:
        if number // 256 == _COMMAND_FILE:
            self._parameters[number % 256] = value
        else:
            self._variables[number] = value

    # ------------------------------------------------------------------ commands

    def _command_table(
        self, ramps: Mapping[int, RampArgument], hold_command: int
    ) -> dict[int, Callable[[], None]]:
        table: dict[int, Callable[[], None]] = {
            0: lambda: None,
            1: lambda: self._halt("closed"),
            2: lambda: self._halt("open"),
            3: lambda: self._halt("direct"),
            4: self._clear_faults,
            5: self._hold,
            6: self._hold,
            7: self._enable_controller,
            8: self._fault_controller,
            9: self._direct_output,
            22: lambda: self._close_valve("open"),
            40: self._set_limit_mode,
            44: self._hold,
            67: self._set_enable_output,
            97: self._set_axis_enabled,
            98: lambda: self._set_run(run=True),
            99: lambda: self._set_run(run=False),
            hold_command: self._hold,
        }
        for number, argument in ramps.items():
            table[number] = lambda argument=argument: self._ramp(argument)  # type: ignore[misc]
        return table

    def _command(self) -> None:
        """Carry out what has been written to the command register; say in 8.2 if it was not."""
        self._acknowledge = not self._acknowledge
        number = _value(self._parameters[0])
        try:
            self._commands.get(int(number) if number.is_integer() else -1, _unknown)()
        except _Rejected as rejected:
            self._last_error = rejected.number

    def _parameter(self, index: int, lowest: float, highest: float) -> float:
        value = _value(self._parameters[index])
        if not lowest <= value <= highest:
            raise _Rejected(Number.PARAMETER)
        return value

    def _demand_drive(self) -> None:
        """Refuse closed-loop motion unless everything stands for it."""
        enabled = self._controller_enabled and self._axis_enabled and self._output_enabled
        if not enabled or self._errors:
            raise _Rejected(Number.NOT_NOW)

    def _ramp(self, argument: RampArgument) -> None:
        press = self._press
        target_N = self._parameter(1, 0.0, self._capacity_N / self._unit_N) * self._unit_N
        if 0.0 < target_N < press.least_force_N:
            raise _Rejected(Number.PARAMETER)
        speed = self._parameter(2, 1e-6, 1e9)
        self._demand_drive()
        if self._host_lost:
            raise _Rejected(Number.NOT_NOW)
        change_N = target_N - press.force_N
        rate_N_per_s = speed * self._unit_N if argument == "rate" else abs(change_N) / speed
        self._enter_force_control()
        self._rate_N_per_s = math.copysign(rate_N_per_s, change_N)
        press.ramp_to(target_N, max(rate_N_per_s, 1e-3))

    def _hold(self) -> None:
        self._demand_drive()
        self._enter_force_control()
        self._press.hold()

    def _enter_force_control(self) -> None:
        self._loop, self._force_control, self._halted = "closed", True, False
        self._host.begin()

    def _halt(self, loop: Literal["closed", "open", "direct"]) -> None:
        self._halted = True
        if loop == "closed" and not self._errors:
            self._press.hold()
        else:
            self._close_valve("direct" if loop == "closed" else loop)

    def _close_valve(self, loop: Literal["open", "direct"]) -> None:
        self._loop, self._force_control = loop, False
        self._press.stop()

    def _direct_output(self) -> None:
        """The valve's output by hand: this axis is set up to allow none but 0 V."""
        self._parameter(1, 0.0, 0.0)
        self._close_valve("direct")

    def _set_limit_mode(self) -> None:
        self._limit_enabled = self._parameter(1, 0.0, 3.0) > 0

    def _set_enable_output(self) -> None:
        self._output_enabled = self._parameter(1, 0.0, 1.0) > 0
        if not self._output_enabled:
            self._halt("direct")

    def _set_axis_enabled(self) -> None:
        self._axis_enabled = self._parameter(1, 0.0, 1.0) > 0
        if not self._axis_enabled:
            self._halt("direct")

    def _enable_controller(self) -> None:
        if self._errors:
            raise _Rejected(Number.NOT_NOW)
        self._controller_enabled = self._axis_enabled = self._output_enabled = True

    def _fault_controller(self) -> None:
        self._controller_enabled = self._output_enabled = False
        self._halt("direct")

    def _set_run(self, *, run: bool) -> None:
        """In PROGRAM mode no user program runs: nobody misses the host."""
        self._run = run
        self._hear()

    def _clear_faults(self) -> None:
        self._press.clear_over_force()
        self._errors, self._last_error, self._halted = Error(0), Number.NONE, False
        self._notice_faults()

    def _notice_faults(self) -> None:
        """Latch the errors whose causes stand, and halt the axis when a new one has come."""
        causes = Error(0)
        if self._e_stop:
            causes |= Error.FAULT_INPUT
        if self._press.over_force:
            causes |= Error.POSITIVE_LIMIT_INPUT
        if self._transducer_broken:
            causes |= Error.NO_TRANSDUCER | Error.FORCE_NO_TRANSDUCER
        new = causes & ~self._errors
        self._errors |= causes
        if not new:
            return
        self._halted = True
        self._force_control, self._loop = False, "direct"
        # The relief valve behind the over-force switch lets go by itself.
        if new != Error.POSITIVE_LIMIT_INPUT:
            self._press.stop()
        if Error.FAULT_INPUT in new:
            self._output_enabled = self._controller_enabled = False

    # ------------------------------------------------------------------ the user program

    def _hear(self) -> None:
        """Take note that the host lives: it has written its heartbeat."""
        self._host_lost = False
        self._host.hear()

    def _timeout_s(self) -> float:
        """The timeout variable; what is no time at all counts as a tenth of a second."""
        timeout_s = _value(self._variables[self._heartbeat + 1])
        return timeout_s if timeout_s >= 0.1 else 0.1

    def _lose_host(self) -> None:
        self._host_lost = True
        self._advance()
        self._notice_faults()
        if self._force_control:
            self._press.hold()
            self._call_at(self._timebase.now() + _HOLD_FOR_HOST_S, self._give_host_up)

    def _give_host_up(self) -> None:
        if self._host_lost and self._force_control:
            self._advance()
            self._press.unload(self._capacity_N / _UNLOAD_S)

    # ------------------------------------------------------------------ helpers

    def _receive(self, data: bytes) -> None:
        self._server.feed(data, self._send)

    def _on_attach(self) -> None:
        self._server.reset()

    def _advance(self) -> None:
        self._world.advance_to(self._timebase.now())


def _unknown() -> None:
    raise _Rejected(Number.UNKNOWN_COMMAND)


def _real(value: float) -> int:
    """Return the bits of a REAL."""
    return int.from_bytes(struct.pack(">f", value), "big")


def _value(bits: int) -> float:
    """Return what a REAL's bits say; what is not finite is a number that nothing allows."""
    (value,) = struct.unpack(">f", bits.to_bytes(4, "big"))
    return float(value) if math.isfinite(value) else -1e30
