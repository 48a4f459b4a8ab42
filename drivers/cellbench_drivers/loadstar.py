"""Loadstar DI-100 and DI-1000U load-cell digitisers: one line of ASCII asked, one line answered.

Requests end in a carriage return, replies in a line feed. An empty request is answered ``A`` and
ends a stream of readings. Values come in the unit that the digitiser is set to; its pounds and
kilograms are forces.

Source: the PyPI package ``loadstar-sensors-interface``. Never verified on a digitiser: its
resolution, and how long a tare takes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from cellbench.errors import CellbenchError, InstrumentError
from cellbench.instruments.capabilities import GaugeCapabilities
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.reconnect import stay_connected
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, Options, parse_options, wire
from cellbench_drivers.gauges import still_reads

_NEWTONS = {"lb": 4.4482216152605, "kg": 9.80665, "n": 1.0}
_SILENCE_S = 0.1
_STOP_S = 2.0
_TARE_S = 3.0
_RESOLUTION = 1e-4


class LoadstarOptions(Options):
    """Options in the bench file.

    Attributes:
        capacity: Largest force, for planning before the load cell has told its own.
        timeout: How long a reply may take.
    """

    capacity: Force = Field(default=22.2e3, gt=0)
    timeout: Duration = Field(default=1.0, gt=0)


class Loadstar:
    """A load cell on a Loadstar digitiser."""

    role: ClassVar[str] = "gauge"
    usb: ClassVar[tuple[str, ...]] = ("DI-100",)
    summary: ClassVar[str] = "Loadstar DI-100 and DI-1000U load-cell digitisers (serial)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(230400)
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = parse_options(name, LoadstarOptions, options)
        self._stream = stream
        self._lock = asyncio.Lock()
        self._timeout_s = self._options.timeout
        self._in_step = True
        self._newtons = math.nan
        self.capabilities = _capabilities("Loadstar DI-1000U", self._options.capacity)

    async def connect(self) -> Identity:
        """End a stream of readings, and find out model, unit and capacity."""
        async with self._lock:
            await self._resynchronise()
            model, serial = await self._ask("model"), await self._ask("id")
            self._newtons = self._in_newtons(await self._ask("unit"))
            capacity = self._number(await self._ask("lc"))
        if not capacity > 0:
            raise InstrumentError(self.name, f"tells a load capacity of {capacity:g}")
        self.capabilities = _capabilities(f"Loadstar {model}", capacity * self._newtons)
        return Identity(f"Loadstar {model}", serial, "")

    async def read(self) -> GaugeReading:
        """Read the force; after garbage or silence the line is cleared and it is asked again."""
        # Without the frames of "async with": it is asked all the time.
        await self._lock.acquire()
        try:
            if self._out_of_step():
                await self._resynchronise()
            try:
                value = self._number(await self._ask("w"))
            except InstrumentError:
                await self._resynchronise()
                value = self._number(await self._ask("w"))
        finally:
            self._lock.release()
        force_N = value * self._newtons
        saturated = abs(force_N) >= self.capabilities.force_max_N
        time_s = self._stream.now()
        return GaugeReading(time_s, force_N, int(Flag.SATURATED) if saturated else 0)

    async def tare(self) -> None:
        """Make the force of this moment the zero; for an unloaded cell only."""
        async with self._lock:
            if self._out_of_step():
                await self._resynchronise()
            answer = await self._ask("tare", _TARE_S)
        if answer not in {"Tared", "A"}:
            raise InstrumentError(self.name, f'answers "{answer}" to tare')

    async def quiet(self) -> Outcome:
        """Nothing to do: a gauge drives nothing; says whether it still answers."""
        return await still_reads(self.name, self.read)

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    def _out_of_step(self) -> bool:
        # What has come unasked is a late answer, or one that came twice.
        return self._stream.lost or not self._in_step or self._stream.unread > 0

    async def _resynchronise(self) -> None:
        """End whatever the digitiser is sending, and see that it is ready."""
        with self._wire:
            await stay_connected(self._stream)
            await self._stream.write(b"\r")
            try:
                await asyncio.wait_for(self._stream.drain(_SILENCE_S), _STOP_S)
            except TimeoutError as error:
                raise InstrumentError(self.name, "does not stop sending") from error
        answer = await self._ask("")
        if answer != "A":
            raise InstrumentError(self.name, f'answers "{answer}" instead of "A"')

    async def _ask(self, request: str, timeout_s: float | None = None) -> str:
        self._in_step = False
        try:
            await self._stream.write(f"{request}\r".encode("ascii"))
            line = await self._stream.read_until(b"\n", timeout_s or self._timeout_s)
        except CellbenchError as error:
            raise self._wire.failed(error) from error
        self._in_step = True
        answer = line.decode("ascii", "replace").strip()
        if answer == "E":
            raise InstrumentError(self.name, f'refuses "{request}"')
        return answer

    def _number(self, answer: str) -> float:
        try:
            value = float(answer)
        except ValueError as error:
            raise InstrumentError(self.name, f'answers "{answer}" instead of a number') from error
        if not math.isfinite(value):
            raise InstrumentError(self.name, f'answers "{answer}" instead of a number')
        return value

    def _in_newtons(self, unit: str) -> float:
        newtons = _NEWTONS.get(unit.lower())
        if newtons is None:
            raise InstrumentError(self.name, f'measures in "{unit}", not in LB, Kg or N')
        return newtons


def _capabilities(model: str, force_max_N: float) -> GaugeCapabilities:
    return GaugeCapabilities(
        model=model,
        force_max_N=force_max_N,
        resolution_N=force_max_N * _RESOLUTION,
        interval_min_s=0.02,
    )
