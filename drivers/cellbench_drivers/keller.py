"""Keller digital pressure transmitters: the oil pressure of a press, as the force of its piston.

Frames of the Keller bus are ``address function data crc``, the CRC being that of Modbus with its
high byte first. Function 48 wakes the transmitter, once after power-up; 73 reads a channel as a
big-endian float in bar with a status byte; 69 tells the serial number. A refusal is the function
with its top bit set, and a code. Half-duplex adapters hand each request back before its reply.

The meaning of the codes of refusals was recalled and never verified on a transmitter, as was that
of the bits of the status byte: any bit that is set makes a reading a bound and not a value. The
zero is kept by the host: function 95, which would set it in the transmitter, writes its memory.

Source: the PyPI package ``keller-protocol``.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from pymodbus.framer import FramerRTU

from cellbench.errors import CellbenchError, InstrumentError, TransportTimeout
from cellbench.instruments.capabilities import GaugeCapabilities
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.reconnect import stay_connected
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Area, Duration, Options, Pressure, parse_options, wire
from cellbench_drivers.gauges import still_reads

_WAKE, _SERIAL, _READ_FLOAT = 48, 69, 73
_REFUSED = 0x80
_NOT_AWAKE = 32
_REFUSALS = {
    1: "illegal function",
    2: "illegal parameter",
    3: "illegal value",
    _NOT_AWAKE: "not initialised since it was switched on",
}
_CHANNELS = {"CH0": 0, "P1": 1, "P2": 2}
_ANY_ADDRESS = 250
_HEAD_BYTES, _CRC_BYTES = 2, 2
_SILENCE_S, _STOP_S = 0.05, 2.0
_BAR_PA = 1e5
_RESOLUTION = 1e-4


class KellerOptions(Options):
    """Options in the bench file.

    Attributes:
        piston_area: Area on which the oil presses: force is oil pressure times this.
        pressure_max: Full scale of the transmitter.
        channel: The pressure channel of the cylinder.
        address: Bus address; 250 reaches a transmitter that is alone, whatever its own.
        echo: Whether the adapter hands requests back; without it that is found out.
        timeout: How long a reply may take.
    """

    piston_area: Area = Field(gt=0)
    pressure_max: Pressure = Field(default=400e5, gt=0)
    channel: Literal["CH0", "P1", "P2"] = "P1"
    address: int = Field(default=1, ge=1, le=250)
    echo: bool | None = None
    timeout: Duration = Field(default=0.3, gt=0, le=1.5)


class Refused(CellbenchError):
    """The transmitter refused a request; ``code`` is its own."""

    def __init__(self, function: int, code: int) -> None:
        meaning = _REFUSALS.get(code, "unknown")
        super().__init__(f"refuses function {function} with code {code}, {meaning}")
        self.code = code


class GarbledFrame(CellbenchError):
    """What came is no frame, or no reply to what was asked."""


class Keller:
    """A Keller transmitter in the oil of a press."""

    role: ClassVar[str] = "gauge"
    summary: ClassVar[str] = "Keller pressure transmitters, as force of a piston (Keller bus)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(9600)
    tcp_port: ClassVar[int | None] = None

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = parse_options(name, KellerOptions, options)
        self._stream = stream
        self._lock = asyncio.Lock()
        self._in_step = False
        self._due_s = 0.0
        self._echo = self._options.echo
        self._zero_Pa = 0.0
        self.capabilities = self._capabilities("Keller transmitter")

    async def connect(self) -> Identity:
        """Wake the transmitter, and find out which it is."""
        async with self._lock:
            with self._wire:
                made = await self._twice(_WAKE, b"", 6)
                number = await self._twice(_SERIAL, b"", 4)
                pressure_Pa, _ = await self._pressure()
        kind, group, year, week = made[:4]
        model = f"Keller {kind}.{group}"
        self.capabilities = self._capabilities(model)
        remarks = (
            f"found at {pressure_Pa / _BAR_PA:.3f} bar",
            "model and firmware never tried with this driver",
        )
        return Identity(model, str(int.from_bytes(number, "big")), f"{year}.{week}", remarks)

    async def read(self) -> GaugeReading:
        """Read the oil pressure, and give the force that it makes."""
        async with self._lock:
            with self._wire:
                pressure_Pa, status = await self._pressure()
        saturated = bool(status) or abs(pressure_Pa) >= self._options.pressure_max
        return GaugeReading(
            asyncio.get_running_loop().time(),
            (pressure_Pa - self._zero_Pa) * self._options.piston_area,
            int(Flag.SATURATED) if saturated else 0,
        )

    async def tare(self) -> None:
        """Take the pressure of this moment for zero; kept here, for an unloaded press only."""
        async with self._lock:
            with self._wire:
                pressure_Pa, status = await self._pressure()
        if status:
            raise InstrumentError(self.name, f"is not tared: its status is {status:#04x}")
        self._zero_Pa = pressure_Pa

    async def quiet(self) -> Outcome:
        """Nothing to do: a gauge drives nothing; says whether it still answers."""
        return await still_reads(self.name, self.read)

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    def _capabilities(self, model: str) -> GaugeCapabilities:
        force_max_N = self._options.pressure_max * self._options.piston_area
        return GaugeCapabilities(
            model=model,
            force_max_N=force_max_N,
            resolution_N=force_max_N * _RESOLUTION,
            interval_min_s=0.05,
        )

    async def _pressure(self) -> tuple[float, int]:
        """Return the pressure and the status byte; one that was switched off is woken first."""
        channel = bytes([_CHANNELS[self._options.channel]])
        try:
            data = await self._twice(_READ_FLOAT, channel, 5)
        except Refused as refusal:
            if refusal.code != _NOT_AWAKE:
                raise
            await self._twice(_WAKE, b"", 6)
            data = await self._twice(_READ_FLOAT, channel, 5)
        pressure_bar, status = struct.unpack(">fB", data)
        if not math.isfinite(pressure_bar):
            message = f"has no pressure on {self._options.channel} (status {status:#04x})"
            raise InstrumentError(self.name, message)
        return pressure_bar * _BAR_PA, status

    async def _twice(self, function: int, data: bytes, count: int) -> bytes:
        """Ask for something that may be asked again, when no good reply comes."""
        try:
            return await self._exchange(function, data, count)
        except (TransportTimeout, GarbledFrame):
            return await self._exchange(function, data, count)

    async def _exchange(self, function: int, data: bytes, count: int) -> bytes:
        """Send a request and return the ``count`` bytes of data that answer it."""
        loop = asyncio.get_running_loop()
        unasked = self._stream.unread > 0
        if await stay_connected(self._stream) or not self._in_step or unasked:
            # A reply that was given up may still come, as long as it might have taken.
            await self._stream.drain(max(_SILENCE_S, self._due_s - loop.time()), _STOP_S)
        self._in_step = False
        request = framed(bytes([self._options.address, function]) + data)
        self._due_s = deadline_s = loop.time() + self._options.timeout
        await self._stream.write(request)
        reply = b""
        if self._echo is not False:
            # Wherever this is not known yet the transmitter is being woken, and no reply to that
            # is shorter than its request, or begins like it.
            reply = await self._bytes(len(request), deadline_s)
        if echoed := reply == request:
            reply = b""
        elif self._echo:
            raise GarbledFrame(f"{reply.hex(' ')} came instead of the request's echo")
        reply += await self._bytes(_HEAD_BYTES - len(reply), deadline_s)
        refused = self._is_head(reply, function | _REFUSED)
        if not refused and not self._is_head(reply, function):
            raise GarbledFrame(f"garbled reply {reply.hex(' ')}")
        size = _HEAD_BYTES + (1 if refused else count) + _CRC_BYTES
        reply += await self._bytes(size - len(reply), deadline_s)
        if framed(reply[:-_CRC_BYTES]) != reply:
            raise GarbledFrame(f"garbled reply {reply.hex(' ')}")
        self._in_step, self._echo = True, echoed
        if refused:
            raise Refused(function, reply[_HEAD_BYTES])
        return reply[_HEAD_BYTES:-_CRC_BYTES]

    def _is_head(self, reply: bytes, function: int) -> bool:
        """Whether a reply to us begins so; one asked at 250 may tell its own address."""
        address = self._options.address
        return reply[1] == function and address in {reply[0], _ANY_ADDRESS}

    async def _bytes(self, count: int, deadline_s: float) -> bytes:
        if count <= 0:
            return b""
        left_s = deadline_s - asyncio.get_running_loop().time()
        return await self._stream.read_exactly(count, left_s)


def framed(content: bytes) -> bytes:
    """Return address, function and data with their CRC, its high byte first.

    pymodbus gives the CRC with its bytes in Modbus's order, which is the other one.
    """
    return content + FramerRTU.compute_CRC(content).to_bytes(2, "little")
