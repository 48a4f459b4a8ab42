"""A hydraulic press behind a PLC: Modbus TCP, the project's own register map.

Registers (0-based, functions 3, 6 and 16; floats are two registers, low word first):

    0 status word   1 alarm code   2 force kN   4 pressure bar   6 position mm   8 set point kN
    100 command   101 target kN   103 ramp kN/s   105 largest force kN
    107 heartbeat   108 timeout s

Other addresses and another word order can be set; what the registers do stays the same.

A command acts when it is written, with the parameters written before it; a target that the drive
cannot set, above its capacity or too small for its valves, is refused as a value. Once enabled, the
host must change the heartbeat within each timeout: otherwise the PLC holds the force, and unloads
when the host stays away.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag
from functools import lru_cache
from itertools import compress
from typing import Any, Literal, Self

from pymodbus.framer import FramerSocket

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.host_watch import HostWatch
from cellbench_sim.emulators.modbus import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    ModbusRefusal,
    ModbusServer,
)
from cellbench_sim.randomness import normals, random_stream
from cellbench_sim.world import World

#: How long a lost host is waited for at constant force, and in what time full force is taken away.
_HOLD_FOR_HOST_S = 60.0
_UNLOAD_S = 25.0
#: Noise of the on-board load cell and its resolution, as fractions of full scale (assumed).
_NOISE, _RESOLUTION = 2e-4, 1e-4
_TIMEOUT_S = (0.5, 3600.0)
#: What is shown: status, alarm and four floats, as words in the order in which they stand.
_VALUES, _WORDS = struct.Struct("<2H4f"), struct.Struct("<10H")
_READ_ONLY_REGISTERS = 10
_SHOWN = tuple(range(_READ_ONLY_REGISTERS))
WordOrder = Literal["lsw first", "msw first"]

_COMMAND, _TARGET, _RAMP, _MAX_FORCE, _HEARTBEAT, _TIMEOUT, _END = 100, 101, 103, 105, 107, 108, 110

#: Registers by the names of the project's map: where each stands there, and how many words it has.
_NAMES = {
    "status_word": (0, 1), "alarm_code": (1, 1), "force_kN": (2, 2), "pressure_bar": (4, 2),
    "position_mm": (6, 2), "force_setpoint_kN": (8, 2), "command": (_COMMAND, 1),
    "target_kN": (_TARGET, 2), "ramp_kN_per_s": (_RAMP, 2), "max_force_kN": (_MAX_FORCE, 2),
    "host_heartbeat": (_HEARTBEAT, 1), "host_timeout_s": (_TIMEOUT, 2),
}  # fmt: skip


class Status(IntFlag):
    """Bits of the status word."""

    READY = 1 << 0
    ENABLED = 1 << 1
    MOVING = 1 << 2
    AT_TARGET = 1 << 3
    FORCE_CONTROL = 1 << 4
    ALARM = 1 << 5
    E_STOP = 1 << 6
    OVER_FORCE = 1 << 7
    OIL_LOW = 1 << 8
    HOST_LOST = 1 << 9


_STATUS_BITS = [int(bit) for bit in Status]


class Alarm(IntEnum):
    """Alarm codes, the most serious first."""

    NONE = 0
    E_STOP = 1
    OVER_FORCE = 2
    OIL_LOW = 3
    HOST_LOST = 4
    COMMAND_REFUSED = 5


#: Looked up once: before Python 3.12 a member of an enumeration costs as much as a call.
_NO_ALARM = Alarm.NONE


class Command(IntEnum):
    """Values of the command register."""

    NONE = 0
    STOP = 1
    HOLD = 2
    RAMP_TO_FORCE = 3
    UNLOAD = 4
    CLEAR_ALARM = 5
    ENABLE = 6
    DISABLE = 7


class PlcPressEmulator(Emulator):
    """The PLC of the bench's press.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of the load cell's noise.
        unit: Modbus unit identifier.
        registers: Addresses of another installation, by the names of the project's map; what it
            does not name stands where it stands there.
        word_order: Which half of a float comes first.

    Raises:
        ValueError: Two registers have one address, or there is none of a name.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        unit: int = 1,
        registers: Mapping[str, int] | None = None,
        word_order: WordOrder = "lsw first",
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._press = world.press
        self._normals = normals(random_stream(seed, name))
        self._server = ModbusServer(self, unit, FramerSocket)
        self._capacity_N = world.press.max_force_N
        self._noise_N, self._step_N = _NOISE * self._capacity_N, _RESOLUTION * self._capacity_N
        self._own = _own_addresses(registers or {}, word_order)
        # A host asks for the same few blocks again and again.
        self._translated = lru_cache(self._translate)
        self._words = [0] * (_END - _COMMAND)
        self._put(_RAMP, 0.1)
        self._put(_MAX_FORCE, self._capacity_N / 1e3)
        self._put(_TIMEOUT, 10.0)
        self._enabled = self._e_stop = self._oil_low = False
        self._host_lost = self._refused = False
        self._host = HostWatch(
            timebase.now,
            self._call_at,
            is_on=lambda: self._enabled,
            timeout_s=lambda: self._get(_TIMEOUT),
            missed=self._lose_host,
        )

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the PLC that a bench file's options describe.

        Options: ``unit``, ``word order`` (lsw first, msw first), ``registers``: addresses by the
        names of the project's map (``{force_kN: 40, command: 200}``).
        """
        bench = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            unit=bench.unit,
            registers={key: int(value) for key, value in bench.mapping("registers").items()},
            word_order="msw first" if "msw" in bench.text("word_order", "") else "lsw first",
        )

    # ------------------------------------------------------------------ faults to be set

    @property
    def e_stop(self) -> bool:
        """Whether somebody has pressed the emergency stop: the valve closes, the drive is off."""
        return self._e_stop

    @e_stop.setter
    def e_stop(self, pressed: bool) -> None:
        self._advance()
        self._e_stop = pressed
        if pressed:
            self._switch_off_drive()

    @property
    def oil_low(self) -> bool:
        """Whether the pump has lost its oil: the valve closes, the drive is off."""
        return self._oil_low

    @oil_low.setter
    def oil_low(self, low: bool) -> None:
        self._advance()
        self._oil_low = low
        if low:
            self._switch_off_drive()

    # ------------------------------------------------------------------ registers

    def read_registers(self, address: int, count: int) -> Sequence[int]:
        """Return registers of the map; a block with a gap in it cannot be read."""
        own = self._translated(address, count)
        if own == _SHOWN:
            return self._measured()
        measured = self._measured() if min(own) < _READ_ONLY_REGISTERS else ()
        return [
            measured[at] if at < _READ_ONLY_REGISTERS else self._words[at - _COMMAND] for at in own
        ]

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Take parameters, and carry out a command once they are in place."""
        own = self._translated(address, len(words))
        if own == (_HEARTBEAT,):
            self._take_heartbeat(words[0])
            return
        if min(own) < _READ_ONLY_REGISTERS:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        before, self._words = self._words, list(self._words)
        for at, word in zip(own, words, strict=True):
            self._words[at - _COMMAND] = word
        if not self._is_valid():
            self._words = before
            raise ModbusRefusal(ILLEGAL_VALUE)
        self._advance()
        self._take_parameters(before)
        command, self._words[0] = Command(self._words[0]), Command.NONE
        if command is not Command.NONE:
            self._carry_out(command)

    def _translate(self, address: int, count: int) -> tuple[int, ...]:
        """Return where registers on the wire stand in the project's map."""
        own = tuple(self._own.get(each, -1) for each in range(address, address + count))
        if min(own) < 0:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        return own

    def _take_heartbeat(self, word: int) -> None:
        at = _HEARTBEAT - _COMMAND
        if self._words[at] != word:
            self._words[at] = word
            self._heard()

    def _is_valid(self) -> bool:
        shortest_s, longest_s = _TIMEOUT_S
        return (
            self._words[0] in list(Command)
            and self._can_set(1e3 * self._get(_TARGET))
            and 0.0 < self._get(_RAMP) < math.inf
            and 0.0 < self._get(_MAX_FORCE) <= self._capacity_N / 1e3
            and shortest_s <= self._get(_TIMEOUT) <= longest_s
            and (self._words[0] != Command.RAMP_TO_FORCE
                 or self._get(_TARGET) <= self._get(_MAX_FORCE))
        )  # fmt: skip

    def _can_set(self, force_N: float) -> bool:
        return force_N == 0.0 or self._press.least_force_N <= force_N <= self._capacity_N

    def _take_parameters(self, before: list[int]) -> None:
        heartbeat, largest = (
            _HEARTBEAT - _COMMAND,
            slice(_MAX_FORCE - _COMMAND, _HEARTBEAT - _COMMAND),
        )
        if self._words[largest] != before[largest]:
            self._press.max_force_N = 1e3 * self._get(_MAX_FORCE)
        if self._words[heartbeat] != before[heartbeat]:
            self._heard()

    def _measured(self) -> Sequence[int]:
        self._advance()
        press, alarm = self._press, self._alarm()
        force_N = press.force_N + next(self._normals) * self._noise_N
        force_kN = round(force_N / self._step_N) * self._step_N / 1e3
        values = _VALUES.pack(
            self._status(alarm),
            alarm,
            force_kN,
            press.pressure_bar,
            1e3 * press.position_m,
            press.setpoint_N / 1e3,
        )
        return _WORDS.unpack(values)

    def _status(self, alarm: Alarm) -> int:
        press = self._press
        ready = alarm is _NO_ALARM
        is_set = (
            ready,
            self._enabled,
            press.moving,
            press.at_target,
            self._enabled and press.setpoint_N > 0,
            not ready,
            self._e_stop,
            press.over_force,
            self._oil_low,
            self._host_lost,
        )
        return _word(is_set)

    def _alarm(self) -> Alarm:
        if self._e_stop:
            return Alarm.E_STOP
        if self._press.over_force:
            return Alarm.OVER_FORCE
        if self._oil_low:
            return Alarm.OIL_LOW
        if self._host_lost:
            return Alarm.HOST_LOST
        return Alarm.COMMAND_REFUSED if self._refused else _NO_ALARM

    # ------------------------------------------------------------------ commands

    def _carry_out(self, command: Command) -> None:
        press = self._press
        if command is Command.CLEAR_ALARM:
            self._refused = False
            press.clear_over_force()
        elif command is Command.DISABLE:
            self._switch_off_drive()
        elif command is Command.STOP:
            press.stop()
        elif self._e_stop or self._oil_low or (press.over_force and command is not Command.UNLOAD):
            self._refused = True
        elif command is Command.ENABLE:
            self._enabled = True
            self._heard()
        elif not self._enabled:
            self._refused = True
        elif command is Command.HOLD:
            press.hold()
        elif command is Command.UNLOAD:
            press.unload(1e3 * self._get(_RAMP))
        else:
            self._ramp()

    def _ramp(self) -> None:
        if self._host_lost:
            self._refused = True
        else:
            self._press.ramp_to(1e3 * self._get(_TARGET), 1e3 * self._get(_RAMP))

    def _switch_off_drive(self) -> None:
        self._press.stop()
        self._enabled = False

    # ------------------------------------------------------------------ the heartbeat

    def _heard(self) -> None:
        self._host_lost = False
        self._host.hear()

    def _lose_host(self) -> None:
        self._host_lost = True
        self._advance()
        self._press.hold()
        self._call_at(self._timebase.now() + _HOLD_FOR_HOST_S, self._give_host_up)

    def _give_host_up(self) -> None:
        if self._host_lost and self._enabled:
            self._advance()
            self._press.unload(self._capacity_N / _UNLOAD_S)

    # ------------------------------------------------------------------ helpers

    def _receive(self, data: bytes) -> None:
        self._server.feed(data, self._send)

    def _on_attach(self) -> None:
        self._server.reset()

    def _advance(self) -> None:
        self._world.advance_to(self._timebase.now())

    def _get(self, register: int) -> float:
        low, high = self._words[register - _COMMAND : register - _COMMAND + 2]
        (value,) = struct.unpack("<f", struct.pack("<2H", low, high))
        return float(value)

    def _put(self, register: int, value: float) -> None:
        at = register - _COMMAND
        self._words[at : at + 2] = struct.unpack("<2H", struct.pack("<f", value))


@lru_cache
def _word(is_set: tuple[bool, ...]) -> int:
    return sum(compress(_STATUS_BITS, is_set))


def _own_addresses(registers: Mapping[str, int], word_order: WordOrder) -> dict[int, int]:
    """Return the project's address behind each address on the wire."""
    if unknown := set(registers) - set(_NAMES):
        raise ValueError(f"no registers are called {unknown}; there are: {', '.join(_NAMES)}")
    own: dict[int, int] = {}
    for name, (at, size) in _NAMES.items():
        there = registers.get(name, at)
        words = (
            range(at, at + size) if word_order == "lsw first" else range(at + size - 1, at - 1, -1)
        )
        for offset, word in enumerate(words):
            if there + offset in own:
                raise ValueError(f"register {there + offset} cannot be {name} and something else")
            own[there + offset] = word
    return own
