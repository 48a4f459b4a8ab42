"""Load-cell transmitters on Modbus: a few profiles, and a register map of one's own.

=================  =========================================================================
``laumas_tlb4``    net weight in holding registers 40010-40011, a 32-bit integer, high word
                   first, in the instrument's divisions; 40006 takes commands (7 tares), 40001
                   and 40002 are firmware and type
``seneca_z_sg``    net weight in 40064-40065, a 32-bit float, high word first; 40001 and 40002
                   are identity and firmware; 2400 baud unless it was set otherwise
``custom``         what the options say: ``weight register``, ``weight type``, ``word order``
=================  =========================================================================

An option that is given stands over its profile. Registers are written 1-based, as makers print them
(40010 is the tenth holding register). Laumas: that integers are signed, what a division is worth
(``scale``, ``force_unit``) and the code of the tare command were never verified on an instrument.

Makers differ in which word comes first: a number that makes no sense, or a force far beyond the
load cell, is an error that says what the other order would give. A zero reads the same in both:
look at a known load once. Tare is a single command where the instrument has one, given when it is
asked for and never again by itself, and nothing is ever saved: the memory behind it wears out.

Sources: the manuals of the Laumas TLB4 and of the Seneca Z-SG.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.capabilities import GaugeCapabilities
from cellbench.instruments.readings import Flag, GaugeReading, Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.modbus import Framing, ModbusMaster, WordOrder
from cellbench.transport.reconnect import stay_connected
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Force, Options, parse_options, wire
from cellbench_drivers.gauges import still_reads

Type = Literal["float32", "int32", "uint32", "int16", "uint16"]
ForceUnit = Literal["N", "kN", "g", "kg", "t", "lb"]

_FORMATS: dict[Type, str] = {
    "float32": ">f",
    "int32": ">i",
    "uint32": ">I",
    "int16": ">h",
    "uint16": ">H",
}
_STANDARD_GRAVITY = 9.80665
_NEWTONS: dict[ForceUnit, float] = {
    "N": 1.0,
    "kN": 1e3,
    "g": _STANDARD_GRAVITY / 1000,
    "kg": _STANDARD_GRAVITY,
    "t": _STANDARD_GRAVITY * 1000,
    "lb": 4.4482216152605,
}
_HOLDING = 40001
#: A force that is that far beyond the load cell, or a float that is that small, is no force.
_BEYOND, _BELOW_N = 5.0, 1e-20
#: The high word of every small number, positive or negative.
_SIGN_WORDS = (0x0000, 0xFFFF)
#: What counts as zero after a tare, and how long that may take.
_ZERO_FRACTION, _TARE_TRIES, _TARE_PAUSE_S = 0.005, 10, 0.3
_RESOLUTION = 1e-4


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one maker's registers; registers 1-based, as 4xxxx.

    Attributes:
        model: What it is called.
        register: The first register of the net weight.
        type: How the weight is written.
        word_order: Which word of it comes first.
        identity: The first two registers, as what they are.
        command: The register that takes commands.
        tare: The command that tares.
    """

    model: str
    register: int | None
    type: Type | None
    word_order: WordOrder | None
    identity: tuple[str, str] | None = None
    command: int | None = None
    tare: int | None = None


PROFILES = {
    "laumas_tlb4": Profile(
        "Laumas TLB4", 40010, "int32", "msw first", ("firmware", "type"), command=40006, tare=7
    ),
    "seneca_z_sg": Profile("Seneca Z-SG", 40064, "float32", "msw first", ("identity", "firmware")),
    "custom": Profile("load-cell transmitter", None, None, None),
}


class LoadCellTransmitterOptions(Options):
    """Options in the bench file.

    Attributes:
        profile: A key of `PROFILES`.
        framing: ``rtu`` on a serial line or through a transparent converter, else ``tcp``.
        unit: Slave address, or unit identifier.
        weight_register: First register of the net weight, 1-based as 4xxxx.
        weight_type: How the weight is written there.
        word_order: Which word of 32 bits comes first.
        scale: What one count (or 1.0) is worth, in ``force_unit``.
        force_unit: Unit of the weight; kilograms, tonnes and pounds are forces.
        compression: Sign of readings under compression.
        tare_command: Command that tares; 0 for a zero that is kept by the host.
        command_register: The register that takes it.
        status_register: A register whose ``fault_bits`` make a reading a bound and not a value.
        fault_bits: Those bits.
        capacity: Largest force of the load cell.
        timeout: How long a reply may take.
    """

    profile: Literal["laumas_tlb4", "seneca_z_sg", "custom"]
    framing: Framing = "rtu"
    unit: int = Field(default=1, ge=1, le=247)
    weight_register: int | None = Field(default=None, ge=_HOLDING, le=_HOLDING + 0xFFFF)
    weight_type: Type | None = None
    word_order: WordOrder | None = None
    scale: float = Field(default=1.0, gt=0)
    force_unit: ForceUnit = "kg"
    compression: Literal["positive", "negative"] = "positive"
    tare_command: int | None = Field(default=None, ge=0, le=0xFFFF)
    command_register: int | None = Field(default=None, ge=_HOLDING, le=_HOLDING + 0xFFFF)
    status_register: int | None = Field(default=None, ge=_HOLDING, le=_HOLDING + 0xFFFF)
    fault_bits: int = Field(default=0xFFFF, ge=0, le=0xFFFF)
    capacity: Force = Field(default=22.2e3, gt=0)
    timeout: Duration = Field(default=0.5, gt=0)


class LoadCellTransmitter:
    """A load cell on a transmitter with Modbus registers."""

    role: ClassVar[str] = "gauge"
    summary: ClassVar[str] = "Load-cell transmitters: Laumas TLB4, Seneca Z-SG, others (Modbus)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(9600)
    tcp_port: ClassVar[int | None] = 502

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        self._wire = wire(name)
        self._options = given = parse_options(name, LoadCellTransmitterOptions, options)
        self._profile = profile = PROFILES[given.profile]
        register, kind = (
            given.weight_register or profile.register,
            given.weight_type or profile.type,
        )
        order = given.word_order or profile.word_order
        if register is None or kind is None or order is None:
            message = (
                f"{name}: the profile custom needs weight register, weight type and word order"
            )
            raise InputError(message)
        self._register, self._type, self._order = register, kind, order
        self._command = given.command_register or profile.command
        self._tare_command = profile.tare if given.tare_command is None else given.tare_command
        if self._tare_command and self._command is None:
            raise InputError(f"{name}: a tare command needs the option command register")
        sign = 1.0 if given.compression == "positive" else -1.0
        self._newtons = sign * given.scale * _NEWTONS[given.force_unit]
        self._zero_N = 0.0
        self._stream = stream
        self._modbus = ModbusMaster(stream, given.unit, given.framing, given.timeout)
        self._lock = asyncio.Lock()
        self.capabilities = GaugeCapabilities(
            model=profile.model,
            force_max_N=given.capacity,
            resolution_N=max(given.capacity * _RESOLUTION, self._count_N()),
            interval_min_s=0.1,
        )

    async def connect(self) -> Identity:
        """See that the weight makes sense in this word order; writes nothing."""
        remarks = []
        async with self._lock:
            if self._profile.identity is not None:
                numbers = await self._words(_HOLDING, 2)
                told = zip(self._profile.identity, numbers, strict=True)
                remarks.append(", ".join(f"{what} {number}" for what, number in told))
            words = await self._weight()
        self._see_order(words)
        force_N = self._force_from(words)
        remarks.append(f"found at {force_N:.1f} N")
        if force_N == 0 and self._two_words():
            remarks.append(f"zero reads the same in either word order: {self._order} is not proven")
        remarks.append("never tried on an instrument of this maker")
        return Identity(self.capabilities.model, "", "", tuple(remarks))

    async def read(self) -> GaugeReading:
        """Read the force."""
        async with self._lock:
            force_N = await self._force_N()
            fault = await self._fault()
        saturated = bool(fault) or abs(force_N) >= self._options.capacity
        time_s = asyncio.get_running_loop().time()
        return GaugeReading(time_s, force_N - self._zero_N, int(Flag.SATURATED) if saturated else 0)

    async def tare(self) -> None:
        """Take the force of this moment for zero: by the instrument's command, else by the host.

        Raises:
            InstrumentError: The instrument was told, and does not read zero then.
        """
        async with self._lock:
            if not self._tare_command or self._command is None:
                self._zero_N = await self._force_N()
                return
            with self._wire:
                await stay_connected(self._stream)
                await self._modbus.write_registers(self._command - _HOLDING, [self._tare_command])
            await self._see_zero()

    async def quiet(self) -> Outcome:
        """Nothing to do: a gauge drives nothing; says whether it still answers."""
        return await still_reads(self.name, self.read)

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    async def _see_zero(self) -> None:
        allowed_N = max(self._options.capacity * _ZERO_FRACTION, self._count_N())
        for _ in range(_TARE_TRIES):
            await asyncio.sleep(_TARE_PAUSE_S)
            force_N = await self._force_N()
            if abs(force_N) <= allowed_N:
                return
        message = (
            f"reads {force_N:.1f} N after it was told to tare with command {self._tare_command}; "
            "the option tare command 0 has the host keep the zero"
        )
        raise InstrumentError(self.name, message)

    async def _fault(self) -> int:
        if self._options.status_register is None:
            return 0
        (status,) = await self._words(self._options.status_register, 1)
        return status & self._options.fault_bits

    async def _force_N(self) -> float:
        """Return the force as the instrument has it, if it makes sense."""
        return self._force_from(await self._weight())

    async def _weight(self) -> list[int]:
        return await self._words(self._register, 2 if self._two_words() else 1)

    def _see_order(self, words: list[int]) -> None:
        """Refuse a whole number of 65 536 counts: a small number with its words swapped is one."""
        if not self._two_words() or self._type == "float32":
            return
        high, low = words if self._order == "msw first" else words[::-1]
        if low in _SIGN_WORDS and high not in _SIGN_WORDS:
            message = (
                f'shows {high:#06x} {low:#06x} in the word order "{self._order}": are its words '
                "the other way round?"
            )
            raise InstrumentError(self.name, message)

    def _force_from(self, words: list[int]) -> float:
        force_N = self._value(words, self._order) * self._newtons
        if self._plausible(force_N):
            return force_N
        message = f"shows {force_N:g} N with a load cell of {self._options.capacity:g} N"
        if self._two_words():
            other: WordOrder = "msw first" if self._order == "lsw first" else "lsw first"
            other_N = self._value(words, other) * self._newtons
            message += f' in the word order "{self._order}"; "{other}" would be {other_N:g} N'
        raise InstrumentError(self.name, message)

    def _value(self, words: list[int], order: WordOrder) -> float:
        ordered = words if order == "msw first" else words[::-1]
        data = struct.pack(f">{len(ordered)}H", *ordered)
        return float(struct.unpack(_FORMATS[self._type], data)[0])

    def _plausible(self, force_N: float) -> bool:
        tiny = 0 < abs(force_N) < _BELOW_N
        return (
            math.isfinite(force_N) and abs(force_N) <= _BEYOND * self._options.capacity and not tiny
        )

    def _two_words(self) -> bool:
        return "32" in self._type

    def _count_N(self) -> float:
        return 0.0 if self._type == "float32" else abs(self._newtons)

    async def _words(self, register: int, count: int) -> list[int]:
        with self._wire:
            await stay_connected(self._stream)
            return await self._modbus.read_registers(register - _HOLDING, count)
