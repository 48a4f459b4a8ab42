"""A Keller digital pressure transmitter on the press's oil line: the Keller bus on RS-485.

Source: the public keller-protocol package and its golden frames. A frame is address, function, data
and a CRC-16 of Modbus's polynomial, high byte first. Functions:

    30 read a coefficient  31 write one  48 initialise: class, group, year, week, buffer, status
    66 new address  69 serial number  73 channel as a float  74 channel as an integer
    95 set (0) or reset (1) the zero of P1

Channels are 0 and 1 the pressure (bar; Pa as an integer), 4 the temperature of the sensor (degC;
hundredths of it). Until function 48 has come after power-up every other one is refused. Address 250
reaches any device. As recalled, never verified: the exceptions 1 (function), 2 (parameter), 3
(value), 32 (not initialised), the bits of the status byte, the integers' units.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, Self

from pymodbus.framer import FramerRTU

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

_ANY_ADDRESS = 250
_FRAME_MIN, _FRAME_MAX = 4, 12
#: Silence after which what has arrived is no part of the frame that comes next.
_GAP_S = 0.02
_EXCEPTION_BIT = 0x80
_FUNCTION, _PARAMETER, _VALUE, _NOT_INITIALISED = 1, 2, 3, 32
_FIRMWARE = bytes([5, 20, 20, 30, 5, 1])
_PRESSURE_CHANNELS, _TEMPERATURE = (0, 1), 4
_OFFSET, _GAIN, _LOWEST, _HIGHEST = 64, 65, 80, 81
_PRESSURE_ERROR = 1 << 1
_ATMOSPHERE_BAR = 1.01325
#: Fractions of the range (of the data sheets' size): zero and temperature drift of the sensor; it
#: reads this far beyond its range.
_ZERO, _DRIFT_PER_K, _HEADROOM = 2e-4, 1e-5, 1.1
_REFERENCE_K, _ZERO_CELSIUS_K = 298.15, 273.15


class _Refusal(Exception):
    """A request is answered with an exception of this code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class KellerEmulator(Emulator):
    """The transmitter behind the ram.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of its noise and zero.
        address: Its address on the bus, 1 to 249.
        range_bar: Full scale.
        piston_area_m2: Area on which the oil presses; by default that of the fixture's ram.
        absolute: Whether it measures against vacuum.
        noise: Standard deviation of one reading, as a fraction of the range.
        serial_number: What function 69 answers.
        echo: Whether the half-duplex converter of the bus sends every request back first.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        address: int = 1,
        range_bar: float = 400.0,
        piston_area_m2: float | None = None,
        absolute: bool = False,
        noise: float = 2e-5,
        serial_number: int = 123456,
        echo: bool = False,
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._rng = random_stream(seed, name)
        self._address, self._echo = address, echo
        self._range_bar, self._noise_bar = range_bar, noise * range_bar
        self._zero_bar = self._rng.gauss(0.0, _ZERO * range_bar) if noise else 0.0
        self._piston_area_m2 = piston_area_m2
        self._atmosphere_bar = _ATMOSPHERE_BAR if absolute else 0.0
        self._serial_number = serial_number
        self._coefficients = {_OFFSET: 0.0, _GAIN: 1.0, _LOWEST: 0.0, _HIGHEST: range_bar}
        self._initialised = False
        self._received = bytearray()
        self._received_s = -1.0
        self.sensor_broken = False
        self._functions: dict[int, Callable[[bytes], bytes]] = {
            30: self._read_coefficient,
            31: self._write_coefficient,
            66: self._set_address,
            69: self._tell_serial_number,
            73: lambda data: self._read(data, struct.Struct(">f"), (1.0, 1.0)),
            74: lambda data: self._read(data, struct.Struct(">i"), (1e5, 1e2)),
            95: self._set_zero,
        }

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the transmitter that a bench file's options describe.

        Options: ``address``, ``pressure_max`` (400 bar), ``piston_area`` (10 cm2), ``echo``.
        """
        bench = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            address=bench.unit,
            range_bar=bench.quantity("pressure_max", "pressure", 400e5) / 1e5,
            piston_area_m2=bench.quantity("piston_area", "area", 0.0) or None,
            echo=bench.flag("echo"),
        )

    def power_cycle(self) -> None:
        """Take the supply away and give it back: it wants to be initialised again."""
        self._initialised = False
        self._received.clear()

    # ------------------------------------------------------------------ frames

    def _receive(self, data: bytes) -> None:
        if self._echo:
            self._send(data)
        now_s = self._timebase.now()
        if now_s - self._received_s > _GAP_S:
            self._received.clear()
        self._received_s = now_s
        for byte in data:
            self._received.append(byte)
            self._check_frame()

    def _on_attach(self) -> None:
        self._received.clear()

    def _check_frame(self) -> None:
        """Answer once the bytes so far are a frame; what is too long for one is dropped."""
        frame = bytes(self._received)
        if len(frame) >= _FRAME_MIN and check_sum(frame[:-2]) == frame[-2:]:
            self._received.clear()
            if frame[0] in {self._address, _ANY_ADDRESS}:
                reply = frame[:1] + self._answer(frame[1], frame[2:-2])
                self._send(reply + check_sum(reply))
        elif len(frame) >= _FRAME_MAX:
            self._received.clear()

    def _answer(self, function: int, data: bytes) -> bytes:
        self._world.advance_to(self._timebase.now())
        if function == 48 and not data:
            self._initialised = True
            return bytes([function]) + _FIRMWARE
        try:
            return bytes([function]) + self._call(function, data)
        except _Refusal as refusal:
            return bytes([function | _EXCEPTION_BIT, refusal.code])

    def _call(self, function: int, data: bytes) -> bytes:
        if not self._initialised:
            raise _Refusal(_NOT_INITIALISED)
        if function not in self._functions:
            raise _Refusal(_FUNCTION)
        return self._functions[function](data)

    # ------------------------------------------------------------------ functions

    def _read_coefficient(self, data: bytes) -> bytes:
        if len(data) != 1 or data[0] not in self._coefficients:
            raise _Refusal(_PARAMETER)
        return struct.pack(">f", self._coefficients[data[0]])

    def _write_coefficient(self, data: bytes) -> bytes:
        if len(data) != 5 or data[0] not in {_OFFSET, _GAIN}:
            raise _Refusal(_PARAMETER)
        self._coefficients[data[0]] = _finite(data[1:])
        return b"\0"

    def _set_address(self, data: bytes) -> bytes:
        """Take a new address, 0 for none; answer with the one that holds from now on."""
        if len(data) != 1:
            raise _Refusal(_PARAMETER)
        if data[0] >= _ANY_ADDRESS:
            raise _Refusal(_VALUE)
        self._address = data[0] or self._address
        return bytes([self._address])

    def _tell_serial_number(self, data: bytes) -> bytes:
        if data:
            raise _Refusal(_PARAMETER)
        return struct.pack(">I", self._serial_number)

    def _read(self, data: bytes, kind: struct.Struct, per_unit: tuple[float, float]) -> bytes:
        """Answer with pressure or temperature, in so many ``per_unit`` bar and degC, and status."""
        if len(data) != 1:
            raise _Refusal(_PARAMETER)
        if data[0] in _PRESSURE_CHANNELS:
            value, unit = self._pressure_bar(), per_unit[0]
        elif data[0] == _TEMPERATURE:
            value, unit = self._world.air_temperature_K - _ZERO_CELSIUS_K, per_unit[1]
        else:
            raise _Refusal(_PARAMETER)
        bad = data[0] in _PRESSURE_CHANNELS and not math.isfinite(value)
        status = bytes([_PRESSURE_ERROR if bad else 0])
        if kind.format == ">f":
            return kind.pack(value * unit) + status
        return kind.pack(0x7FFFFFFF if bad else round(value * unit)) + status

    def _set_zero(self, data: bytes) -> bytes:
        """Command 0 makes the present pressure 0, or the value that follows; 1 takes it back."""
        if len(data) not in {1, 5} or data[0] not in {0, 1}:
            raise _Refusal(_PARAMETER)
        wanted_bar = _finite(data[1:]) if len(data) == 5 else 0.0
        self._coefficients[_OFFSET] = 0.0
        if data[0] == 0:
            self._coefficients[_OFFSET] = wanted_bar - self._pressure_bar()
        return b"\0"

    def _pressure_bar(self) -> float:
        """Return the pressure as it is measured; nothing where the sensor cannot tell."""
        if self.sensor_broken:
            return math.nan
        press = self._world.press
        pressure_bar = press.pressure_bar
        if self._piston_area_m2 is not None:
            pressure_bar = press.force_N / self._piston_area_m2 / 1e5
        warm_K = self._world.air_temperature_K - _REFERENCE_K
        drift_bar = _DRIFT_PER_K * self._range_bar * warm_K if self._noise_bar else 0.0
        pressure_bar += self._atmosphere_bar + self._zero_bar + drift_bar
        pressure_bar += self._rng.gauss(0.0, self._noise_bar)
        if pressure_bar > _HEADROOM * self._range_bar:
            return math.inf
        return self._coefficients[_GAIN] * pressure_bar + self._coefficients[_OFFSET]


def check_sum(data: bytes) -> bytes:
    """Return the CRC-16 of Modbus's polynomial with its high byte first."""
    # pymodbus gives the number whose high byte a Modbus line sends first, which is its low byte.
    return FramerRTU.compute_CRC(data).to_bytes(2, "little")


def _finite(data: bytes) -> float:
    (value,) = struct.unpack(">f", data)
    if not math.isfinite(value):
        raise _Refusal(_VALUE)
    return float(value)
