"""Temperature chambers behind a Watlow F4T controller: SCPI on TCP port 5025.

Loop 1 is the temperature. ``:SOURCE:CLOOP1:PVALUE?`` asks for it, ``:SPOINT?`` for its set point,
``:SPOINT 60.0`` gives one, ``:ERROR?`` is answered ERROR for a broken sensor, else NONE;
``:UNIT:TEMPERATURE?`` is answered C or F. Source: TestEquity's manual of its F4T chambers, for
firmware 04:05 and later. Never tried on a chamber: whether commands are answered (what comes is
passed over), and what ``*IDN?`` says beyond the maker's name.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChamberCapabilities
from cellbench.instruments.readings import ChamberState, Identity, Outcome
from cellbench.transport import SerialSettings, Stream
from cellbench_drivers.common import (
    Duration,
    Options,
    Temperature,
    TemperatureRate,
    parse_options,
)
from cellbench_drivers.lines import Lines

_ZERO_CELSIUS_K = 273.15
#: The controller keeps its set point to a tenth of a degree.
_ROUNDED_K = 0.06


class WatlowF4TOptions(Options):
    """Options in the bench file.

    Attributes:
        temperature_min: Lowest set point of the chamber.
        temperature_max: Highest set point of the chamber.
        rate_max: How fast it warms at most, for planning.
        timeout: How long a reply may take.
    """

    temperature_min: Temperature = 253.15
    temperature_max: Temperature = 373.15
    rate_max: TemperatureRate = Field(default=3.0 / 60.0, gt=0)
    timeout: Duration = Field(default=1.0, gt=0)


class WatlowF4T:
    """A chamber behind a Watlow F4T."""

    role: ClassVar[str] = "chamber"
    summary: ClassVar[str] = "Temperature chambers behind a Watlow F4T (SCPI)"
    serial: ClassVar[SerialSettings | None] = None
    tcp_port: ClassVar[int | None] = 5025

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        own = parse_options(name, WatlowF4TOptions, options)
        self._lines = Lines(name, stream, replies_end="\n", timeout_s=own.timeout)
        self.capabilities = ChamberCapabilities(
            model="Watlow F4T",
            temperature_min_K=own.temperature_min,
            temperature_max_K=own.temperature_max,
            rate_max_K_per_s=own.rate_max,
        )

    async def connect(self) -> Identity:
        """See that it is an F4T that speaks of degrees Celsius; changes nothing."""
        identity = await self._ask("*IDN?")
        if "WATLOW" not in identity.upper():
            raise InstrumentError(self.name, f'is no Watlow: answers "{identity}" to *IDN?')
        if (unit := await self._ask(":UNIT:TEMPERATURE?")) != "C":
            message = f'speaks of degrees "{unit}": send :UNIT:TEMPERATURE C, or set it there'
            raise InstrumentError(self.name, message)
        state = await self.read()
        fields = [*identity.split(","), "", "", ""]
        found = f"found at {state.temperature_K - _ZERO_CELSIUS_K:.1f} degC"
        return Identity("Watlow F4T", fields[2].strip(), fields[3].strip(), (found,))

    async def set_temperature(self, temperature_K: float) -> None:
        """Give it a set point, and read it back.

        Raises:
            InstrumentError: It is out of range, or the controller does not take it.
        """
        able = self.capabilities
        if not able.temperature_min_K <= temperature_K <= able.temperature_max_K:
            bounds = f"{able.temperature_min_K:g} K to {able.temperature_max_K:g} K"
            raise InstrumentError(self.name, f"{temperature_K:g} K is outside {bounds}")
        async with self._lines.lock:
            celsius = temperature_K - _ZERO_CELSIUS_K
            await self._lines.tell(f":SOURCE:CLOOP1:SPOINT {celsius:.1f}")
            self._lines.out_of_step()  # what it may answer is passed over
        kept_K = await self._kelvin(":SOURCE:CLOOP1:SPOINT?")
        if abs(kept_K - temperature_K) > _ROUNDED_K:
            raise InstrumentError(self.name, f"keeps {kept_K:.2f} K instead of {temperature_K:g} K")

    async def read(self) -> ChamberState:
        """Look at it."""
        temperature_K = await self._kelvin(":SOURCE:CLOOP1:PVALUE?")
        set_point_K = await self._kelvin(":SOURCE:CLOOP1:SPOINT?")
        error = await self._ask(":SOURCE:CLOOP1:ERROR?")
        alarm = "" if error == "NONE" else f"sensor: {error}"
        return ChamberState(asyncio.get_running_loop().time(), temperature_K, set_point_K, alarm)

    async def quiet(self) -> Outcome:
        """Hold: the controller keeps its set point by itself; read that back."""
        try:
            state = await self.read()
        except InstrumentError as error:
            return Outcome(self.name, f"temperature unknown: {error}", confirmed=False)
        text = f"holds {state.set_point_K - _ZERO_CELSIUS_K:.1f} degC"
        return Outcome(self.name, f"{text} {state.alarm}".strip(), confirmed=not state.alarm)

    async def close(self) -> None:
        """Give up the connection; the chamber goes on."""
        await self._lines.close()

    async def _ask(self, query: str) -> str:
        """Ask, and once more after silence: a query may be repeated, a command may not."""
        async with self._lines.lock:
            try:
                return await self._lines.ask(query)
            except InstrumentError:
                return await self._lines.ask(query)

    async def _kelvin(self, query: str) -> float:
        answer = await self._ask(query)
        try:
            celsius = float(answer)
        except ValueError:
            celsius = math.nan
        if not math.isfinite(celsius):
            raise InstrumentError(self.name, f'answers "{answer}" to {query}')
        return celsius + _ZERO_CELSIUS_K
