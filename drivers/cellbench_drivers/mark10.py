r"""Mark-10 force gauges, alone or behind the ESM303 test stand: ``?`` asks for the reading.

The reading may come with its unit (``12.3 N``); where it does not, the option ``unit`` says it.
Through a stand, commands of the gauge are wrapped as ``/?\``.

Never verified on a gauge, and options therefore: what ends a request and a reply, and which sign
compression has. The zero is kept by the host, as no command that sets it is certain.

Source: Mark-10's guides, as far as others quote them.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import GaugeCapabilities
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, Options, parse_options
from cellbench_drivers.gauges import still_reads
from cellbench_drivers.lines import Lines

Ending = Literal["CR", "LF", "CR LF"]
Unit = Literal["mN", "N", "kN", "gF", "kgF", "ozF", "lbF", "klbF"]

_ENDINGS: dict[Ending, str] = {"CR": "\r", "LF": "\n", "CR LF": "\r\n"}
_POUND_N, _KILOGRAM_N = 4.4482216152605, 9.80665
_NEWTONS = {
    "mn": 1e-3,
    "n": 1.0,
    "kn": 1e3,
    "gf": _KILOGRAM_N / 1000,
    "kgf": _KILOGRAM_N,
    "ozf": _POUND_N / 16,
    "lbf": _POUND_N,
    "klbf": _POUND_N * 1000,
}
_READING = re.compile(r"([+-]?\s*\d*\.?\d+)\s*([A-Za-z]*)")
_RESOLUTION = 2e-4


class Mark10Options(Options):
    """Options in the bench file.

    Attributes:
        capacity: Largest force of the gauge.
        unit: Unit of readings that come without one.
        compression: Sign of readings under compression.
        request_ends: What ends a request.
        reply_ends: What ends a reply.
        through_stand: Whether the gauge is behind a test stand.
        timeout: How long a reply may take.
    """

    capacity: Force = Field(default=1.5e3, gt=0)
    unit: Unit | None = None
    compression: Literal["positive", "negative"] = "positive"
    request_ends: Ending = "CR LF"
    reply_ends: Ending = "CR LF"
    through_stand: bool = False
    timeout: Duration = Field(default=0.5, gt=0)


class Mark10:
    """A Mark-10 force gauge in line with the stack."""

    role: ClassVar[str] = "gauge"
    usb: ClassVar[tuple[str, ...]] = ("0483:A1AD",)
    summary: ClassVar[str] = "Mark-10 force gauges, alone or behind an ESM303 stand (serial)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(115200)
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = parse_options(name, Mark10Options, options)
        self._lines = Lines(
            name,
            stream,
            ends=_ENDINGS[self._options.request_ends],
            replies_end=_ENDINGS[self._options.reply_ends],
            timeout_s=self._options.timeout,
        )
        self._request = "/?\\" if self._options.through_stand else "?"
        self._sign = 1.0 if self._options.compression == "positive" else -1.0
        self._zero_N = 0.0
        self.capabilities = GaugeCapabilities(
            model="Mark-10 gauge",
            force_max_N=self._options.capacity,
            resolution_N=self._options.capacity * _RESOLUTION,
            interval_min_s=0.02,
        )

    async def connect(self) -> Identity:
        """See that it tells a force in a unit; it does not say who it is."""
        force_N = await self._force_N()
        remarks = (f"found at {force_N:.1f} N", "never tried on a gauge of this maker")
        return Identity(self.capabilities.model, "", "", remarks)

    async def read(self) -> GaugeReading:
        """Read the force; after garbage or silence it is asked once more."""
        try:
            force_N = await self._force_N()
        except InstrumentError:
            force_N = await self._force_N()
        saturated = abs(force_N) >= self._options.capacity
        time_s = asyncio.get_running_loop().time()
        return GaugeReading(time_s, force_N - self._zero_N, int(Flag.SATURATED) if saturated else 0)

    async def tare(self) -> None:
        """Take the force of this moment for zero; kept here, for an unloaded gauge only."""
        self._zero_N = await self._force_N()

    async def quiet(self) -> Outcome:
        """Nothing to do: a gauge drives nothing; says whether it still answers."""
        return await still_reads(self.name, self.read)

    async def close(self) -> None:
        """Give up the connection."""
        await self._lines.close()

    async def _force_N(self) -> float:
        """Return the force as the gauge has it, compression positive."""
        async with self._lines.lock:
            answer = await self._lines.ask(self._request)
            try:
                return self._in_newtons(answer)
            except InstrumentError:
                self._lines.out_of_step()
                raise

    def _in_newtons(self, answer: str) -> float:
        matched = _READING.fullmatch(answer)
        value = float(matched[1].replace(" ", "")) if matched else math.nan
        if matched is None or not math.isfinite(value):
            raise InstrumentError(self.name, f'answers "{answer}" instead of a force')
        unit = matched[2] or self._options.unit
        if unit is None:
            message = f'answers "{answer}", without a unit: give the option unit'
            raise InstrumentError(self.name, message)
        if (newtons := _NEWTONS.get(unit.lower())) is None:
            known = ", ".join(get_args(Unit))
            raise InstrumentError(self.name, f'measures in "{unit}", which is none of {known}')
        return self._sign * value * newtons
