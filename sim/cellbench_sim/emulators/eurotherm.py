"""A Eurotherm 2400 temperature controller: Modbus RTU or EI-Bisynch, on the bench's chamber.

Temperatures are in tenths of a degree Celsius, or in degrees where it is set up so. Modbus
registers: 1 process value, 2 target set point, 3 output in tenths of a per cent, 5 working set
point, 35 set point rate limit per minute, 75 summary status, 111 and 112 set point limits, 273 auto
(0) or manual (1). In manual the loop is open and the chamber follows the room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pymodbus.framer import FramerRTU

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.bisynch import BisynchServer
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.modbus import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    ModbusRefusal,
    ModbusServer,
)
from cellbench_sim.randomness import normals, random_stream
from cellbench_sim.world import World

_ZERO_CELSIUS_K = 273.15
_NOISE_K = 0.02
_UNLIMITED_K_PER_MIN = 10.0
_SENSOR_BREAK = 0x20
_PV, _TARGET, _OUTPUT, _WORKING, _RATE = 1, 2, 3, 5, 35
_STATUS, _HIGH, _LOW, _MANUAL = 75, 111, 112, 273
_MEASURED = frozenset({_PV, _OUTPUT, _WORKING, _STATUS})
#: What instruments without a decimal give in whole degrees.
_TEMPERATURES = frozenset({_PV, _TARGET, _WORKING, _RATE, 24, 25, _HIGH, _LOW})
#: Registers that hold what was written to them, with their values as delivered.
_PLAIN = {
    6: 200, 8: 300, 9: 50, 15: 0, 24: 250, 25: 250, 30: 1000, 37: 0, _HIGH: 1500, _LOW: -400,
    199: 0, 270: 0, _MANUAL: 0, 512: 0, 12550: 0,
}  # fmt: skip
_MNEMONICS = {
    "PV": _PV, "SL": _TARGET, "OP": _OUTPUT, "SP": _WORKING, "RR": _RATE, "HS": _HIGH, "LS": _LOW,
    "XP": 6, "TI": 8, "TD": 9, "HO": 30, "OR": 37, "AT": 270,
}  # fmt: skip


class EurothermEmulator(Emulator):
    """The chamber's controller.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of the sensor's noise.
        protocol: ``modbus`` or ``bisynch``.
        address: Modbus unit, or two digits (group and unit) for EI-Bisynch.
        decimals: Of temperatures in Modbus registers, 1 or 0.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        protocol: str = "modbus",
        address: int = 1,
        decimals: int = 1,
    ) -> None:
        super().__init__(name, timebase)
        if protocol not in ("modbus", "bisynch"):
            raise ValueError(f"a Eurotherm speaks modbus or bisynch, not {protocol}")
        if decimals not in (0, 1):
            raise ValueError(f"temperatures have 0 or 1 decimals, not {decimals}")
        self._in_degrees = decimals == 0
        self._shown = self._rounded if self._in_degrees else self._value
        self._world = world
        self._chamber = world.chamber
        self._normals = normals(random_stream(seed, name))
        self._server: ModbusServer | BisynchServer = (
            ModbusServer(self, address, FramerRTU)
            if protocol == "modbus"
            else BisynchServer(self, f"{address:02d}")
        )
        self._registers = dict(_PLAIN)
        set_point_K = world.chamber.set_point_K
        self._registers[_TARGET] = 250 if set_point_K is None else _tenths(set_point_K)
        self._registers[_MANUAL] = int(set_point_K is None)
        self._registers[_RATE] = round(10 * world.chamber.rate_limit_K_per_min)
        self._sensor_broken = False

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the controller a bench file describes: ``protocol``, ``address``, ``decimals``."""
        bench = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            protocol=bench.text("protocol", "modbus"),
            address=bench.unit,
            decimals=bench.number("decimals", 1),
        )

    @property
    def sensor_broken(self) -> bool:
        """Whether the sensor's wire is broken: the heater goes off, the status says so."""
        return self._sensor_broken

    @sensor_broken.setter
    def sensor_broken(self, broken: bool) -> None:
        self._advance()
        self._sensor_broken = broken
        self._control()

    # ------------------------------------------------------------------ Modbus registers

    def read_registers(self, address: int, count: int) -> list[int]:
        """Return registers; in a block, those that do not exist read 0."""
        self._advance()
        words, exists, shown = [0] * count, False, self._shown
        for at in range(count):
            value = shown(address + at)
            if value is not None:
                words[at], exists = value & 0xFFFF, True
        if not exists:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        return words

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Write registers one after the other."""
        self._advance()
        values = {
            register: _signed(word) * (10 if self._in_degrees and register in _TEMPERATURES else 1)
            for register, word in enumerate(words, address)
        }
        self._write(values)

    # ------------------------------------------------------------------ EI-Bisynch mnemonics

    def read_mnemonic(self, mnemonic: str) -> str | None:
        """Return a parameter as it is displayed, or None if there is none of this name."""
        self._advance()
        if mnemonic == "EE":
            return ">0x0"
        value = self._value(_MNEMONICS[mnemonic]) if mnemonic in _MNEMONICS else None
        return None if value is None else f"{value / 10:.1f}"

    def write_mnemonic(self, mnemonic: str, text: str) -> bool:
        """Set a parameter; return whether it was accepted."""
        try:
            word = round(10 * float(text)) & 0xFFFF if len(text) < 16 else None
            if word is None or mnemonic not in _MNEMONICS:
                return False
            self._advance()
            self._write({_MNEMONICS[mnemonic]: _signed(word)})
        except (ValueError, OverflowError, ModbusRefusal):
            return False
        return True

    # ------------------------------------------------------------------ the controller

    def _write(self, values: Mapping[int, int]) -> None:
        """Take values, temperatures in tenths: all or none."""
        for register, value in values.items():
            self._check(register, value)
        self._registers.update(values)
        self._control()

    def _rounded(self, register: int) -> int | None:
        """Return a register as it stands on a Modbus line where temperatures are in degrees."""
        value = self._value(register)
        return value if value is None or register not in _TEMPERATURES else round(value / 10)

    def _value(self, register: int) -> int | None:
        if register == _PV:
            # A broken sensor drives the input to the top of its range.
            noise_K = next(self._normals) * _NOISE_K
            measured = _tenths(self._chamber.air_temperature_K + noise_K)
            return 13720 if self._sensor_broken else measured
        if register == _OUTPUT:
            return round(1000 * self._chamber.output_fraction)
        if register == _WORKING:
            return _tenths(self._chamber.working_set_point_K)
        if register == _STATUS:
            return _SENSOR_BREAK if self._sensor_broken else 0
        return self._registers.get(register)

    def _check(self, register: int, value: int) -> None:
        if register in _MEASURED or register not in self._registers:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        lowest, highest = self._registers[_LOW], self._registers[_HIGH]
        if (
            (register == _TARGET and not lowest <= value <= highest)
            or (register == _RATE and value < 0)
            or (register == _MANUAL and value not in (0, 1))
        ):
            raise ModbusRefusal(ILLEGAL_VALUE)

    def _control(self) -> None:
        """Let the chamber follow the settings; a command only where something changes."""
        rate = self._registers[_RATE] / 10 or _UNLIMITED_K_PER_MIN
        if rate != self._chamber.rate_limit_K_per_min:
            self._chamber.rate_limit_K_per_min = rate
        open_loop = self._registers[_MANUAL] or self._sensor_broken
        wanted_K = None if open_loop else self._registers[_TARGET] / 10 + _ZERO_CELSIUS_K
        if wanted_K != self._chamber.set_point_K:
            self._chamber.set_point_K = wanted_K

    def _receive(self, data: bytes) -> None:
        self._server.feed(data, self._send)

    def _on_attach(self) -> None:
        self._server.reset()

    def _advance(self) -> None:
        self._world.advance_to(self._timebase.now())


def _tenths(temperature_K: float) -> int:
    return round(10 * (temperature_K - _ZERO_CELSIUS_K))


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word
