"""Eurotherm 2400 and 3200 temperature controllers, Modbus RTU.

Registers hold signed integers in units of the display's last digit, so that the number of decimals
must be known: it is an option, or read from the resolution register (12550, recalled: 0 is full
resolution, as displayed; 1 is whole degrees). Set points are written only when they change: some
models keep each one in EEPROM.

Sources: the manual of 2400 communications, and public code for furnaces and in EPICS. Never
verified on a controller: register 12550, and which models keep set points in EEPROM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from cellbench.errors import CellbenchError, InstrumentError
from cellbench.instruments.capabilities import ChamberCapabilities
from cellbench.instruments.readings import ChamberState, Flag, Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.modbus import ModbusError, ModbusMaster
from cellbench.transport.stream import Stream
from cellbench_drivers.chambers import ZERO_CELSIUS_K, check_set_point, still_holds
from cellbench_drivers.common import (
    Duration,
    Options,
    Temperature,
    TemperatureRate,
    parse_options,
    wire,
)

_PV, _SET_POINT, _RATE_LIMIT, _SUMMARY, _MANUAL, _RESOLUTION = 1, 2, 35, 75, 273, 12550
_SENSOR_BREAK = 0x20
_SATURATED = int(Flag.SATURATED)
#: Bits of the summary status; their values are recalled, their names are the manual's.
_ALARMS = {
    0x01: "alarm 1",
    0x02: "alarm 2",
    0x04: "alarm 3",
    0x08: "alarm 4",
    _SENSOR_BREAK: "sensor break",
    0x40: "loop break",
    0x80: "heater failed",
}
#: The summary of alarms is a second request on a slow line. It is left out while the temperature
#: moves as a chamber's can (a broken sensor's does not), but never for longer than this.
_SUMMARY_EVERY_S, _JUMP_K = 30.0, 2.0
_MINUTE_S = 60.0


class EurothermOptions(Options):
    """Options in the bench file.

    Attributes:
        unit: Slave address.
        decimals: Decimal places of the registers; without it the instrument is asked.
        write_function: Modbus function for writing: 6 (one register) or 16.
        temperature_min: Lowest set point of the chamber.
        temperature_max: Highest set point of the chamber.
        rate: Set-point ramp that is written when connecting; without it what is set stays.
        timeout: How long a reply may take.
    """

    unit: int = Field(default=1, ge=1, le=254)
    decimals: Literal[0, 1, 2] | None = None
    write_function: Literal[6, 16] = 16
    temperature_min: Temperature = 273.15
    temperature_max: Temperature = 373.15
    rate: TemperatureRate | None = Field(default=None, gt=0)
    timeout: Duration = Field(default=0.5, gt=0)


class Eurotherm:
    """A chamber or heater behind a Eurotherm controller."""

    role: ClassVar[str] = "chamber"
    summary: ClassVar[str] = "Eurotherm 2400 and 3200 temperature controllers (Modbus RTU)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(9600)
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = parse_options(name, EurothermOptions, options)
        self._stream = stream
        self._registers = ModbusMaster(stream, self._options.unit, "rtu", self._options.timeout)
        self._scale = 10.0 ** (self._options.decimals or 0)
        self._measured = self._summary = 0
        self._summary_due_s = 0.0
        self.capabilities = ChamberCapabilities(
            model="Eurotherm",
            temperature_min_K=self._options.temperature_min,
            temperature_max_K=self._options.temperature_max,
            rate_max_K_per_s=self._options.rate or 10.0 / _MINUTE_S,
        )

    async def connect(self) -> Identity:
        """Find out the scaling and see that the controller is in automatic mode."""
        remarks = []
        if self._options.decimals is None:
            self._scale = 10.0 ** await self._decimals()
            remarks.append(f"resolution {1 / self._scale:g} degC, from register 12550")
        await self._require_automatic()
        if self._options.rate is not None:
            await self._keep(_RATE_LIMIT, round(self._options.rate * _MINUTE_S * self._scale))
        state = await self.read()
        remarks.append(f"found at {state.temperature_K - ZERO_CELSIUS_K:.1f} degC")
        return Identity("Eurotherm", "", "", tuple(remarks))

    async def set_temperature(self, temperature_K: float) -> None:
        """Give the controller a set point, and read it back.

        Raises:
            InstrumentError: It is out of range, or the controller does not take it.
        """
        check_set_point(self.name, self.capabilities, temperature_K)
        await self._require_automatic()
        await self._keep(_SET_POINT, round((temperature_K - ZERO_CELSIUS_K) * self._scale))

    async def read(self) -> ChamberState:
        """Look at it: temperature, set point, alarms."""
        try:
            words = await self._registers.read_registers(_PV, 2)
        except CellbenchError as error:
            raise self._wire.failed(error) from error
        measured, set_point = map(_signed, words)
        time_s = self._stream.now()
        jumped = abs(measured - self._measured) > _JUMP_K * self._scale
        # The alarms: at times, while there are some, when PV has jumped.
        if self._summary or jumped or time_s >= self._summary_due_s:
            self._summary = await self._word(_SUMMARY)
            self._summary_due_s = time_s + _SUMMARY_EVERY_S
            time_s = self._stream.now()
        self._measured, summary = measured, self._summary
        temperature_K = measured / self._scale + ZERO_CELSIUS_K
        set_point_K = set_point / self._scale + ZERO_CELSIUS_K
        alarm = _alarms(summary) if summary else ""
        flags = _SATURATED if summary & _SENSOR_BREAK else 0
        return ChamberState(time_s, temperature_K, set_point_K, alarm, flags)

    async def quiet(self) -> Outcome:
        """Hold: the controller keeps its set point by itself; read that back."""
        return await still_holds(self.name, self.read)

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    async def _require_automatic(self) -> None:
        if await self._word(_MANUAL):
            message = "is in manual mode: set it to automatic, it ignores set points until then"
            raise InstrumentError(self.name, message)

    async def _decimals(self) -> int:
        try:
            return 1 if await self._word(_RESOLUTION) == 0 else 0
        except InstrumentError as error:
            if not isinstance(error.__cause__, ModbusError):
                raise
            message = "does not tell its resolution: give the option decimals"
            raise InstrumentError(self.name, message) from error

    async def _keep(self, register: int, value: int) -> None:
        """Have a register hold a value: written only if it does not already, and read back."""
        word = value & 0xFFFF
        if await self._word(register) == word:
            return
        with self._wire:
            if self._options.write_function == 6:
                await self._registers.write_register(register, word)
            else:
                await self._registers.write_registers(register, [word])
        if (found := await self._word(register)) != word:
            message = f"keeps {_signed(found)} in register {register} instead of {value}"
            raise InstrumentError(self.name, message)

    async def _word(self, register: int) -> int:
        with self._wire:
            return (await self._registers.read_registers(register, 1))[0]


def _alarms(summary: int) -> str:
    return ", ".join(text for bit, text in _ALARMS.items() if summary & bit)


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word
