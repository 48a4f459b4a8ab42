"""The register map of a PLC that works a press: what is where, as what, in which unit.

The map belongs to the installation, so that each entry is an option of the bench file; the defaults
are cellbench's own map (holding registers, 0-based).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cellbench.quantities import QuantityError, parse_quantity
from cellbench.transport.modbus import WordOrder
from cellbench_drivers.common import Options

_FORMATS = {"u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "f32": ">f"}
#: What no press shows, in its own units: a float with its words swapped does, nearly always.
_BEYOND, _BELOW = 1e4, 1e-20


def _in_si(value: object) -> object:
    """Read what one count of a register is worth: text as ``0.1 bar``, or a plain number."""
    if not isinstance(value, str):
        return value
    try:
        return parse_quantity(value).value
    except QuantityError as error:
        raise ValueError(str(error)) from error


class Register(Options):
    """Where a number is, and what it is worth.

    Attributes:
        at: Address, 0-based, of its first holding register.
        type: How it is written.
        unit: What 1 stands for, e.g. ``1 kN`` or ``0.1 N``.
    """

    at: int = Field(ge=0, le=0xFFFF)
    type: Literal["u16", "i16", "u32", "i32", "f32"] = "f32"
    unit: Annotated[float, BeforeValidator(_in_si)] = 1.0

    @property
    def addresses(self) -> range:
        """The registers that it takes."""
        return range(self.at, self.at + struct.calcsize(_FORMATS[self.type]) // 2)

    def words(self, value: float, order: WordOrder) -> list[int]:
        """Return the registers that hold a value given in SI units.

        Raises:
            ValueError: It does not fit.
        """
        kind, raw = self.type, value / self.unit
        try:
            data = struct.pack(_FORMATS[kind], raw if kind == "f32" else round(raw))
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{raw:g} does not fit into {kind} at {self.at}") from error
        words = list(struct.unpack(f">{len(data) // 2}H", data))
        return words if order == "msw first" else words[::-1]


def _at(at: int, kind: Literal["u16", "f32"] = "f32", unit: float = 1.0) -> Register:
    return Register(at=at, type=kind, unit=unit)


class RegisterMap(Options):
    """Where the PLC keeps what. What may be missing is None (``none`` in YAML is ``null``).

    Attributes:
        status: Bits, see `StatusBits`.
        alarm_code: 0 for none.
        force: Measured.
        pressure: Of the line; only read to see that the numbers make sense.
        position: Of the ram; as pressure.
        set_point: The PLC's own, after its ramp; without it, what was asked for last.
        command: Takes effect when written, see `CommandCodes`.
        target: Force to approach.
        ramp: How fast.
        max_force: Above it the PLC trips; without it only the host watches the force.
        heartbeat: Has to change within the host timeout; without it the PLC is deaf to silence.
        host_timeout: Silence after which the PLC holds and then unloads.
    """

    status: Register = _at(0, "u16")
    alarm_code: Register | None = _at(1, "u16")
    force: Register = _at(2, unit=1e3)
    pressure: Register | None = _at(4, unit=1e5)
    position: Register | None = _at(6, unit=1e-3)
    set_point: Register | None = _at(8, unit=1e3)
    command: Register = _at(100, "u16")
    target: Register = _at(101, unit=1e3)
    ramp: Register = _at(103, unit=1e3)
    max_force: Register | None = _at(105, unit=1e3)
    heartbeat: Register | None = _at(107, "u16")
    host_timeout: Register | None = _at(108)

    @property
    def shown(self) -> dict[str, Register]:
        """What is read at each look."""
        names = ("status", "alarm_code", "force", "pressure", "position", "set_point")
        found = {name: getattr(self, name) for name in names}
        return {name: register for name, register in found.items() if register is not None}


class StatusBits(Options):
    """Bits of the status register; None for what the PLC does not tell.

    A PLC without ``enabled`` counts as ever enabled; without ``moving`` or ``at_target`` this is
    told from force and set point.
    """

    enabled: int | None = Field(default=1, ge=0, le=31)
    moving: int | None = Field(default=2, ge=0, le=31)
    at_target: int | None = Field(default=3, ge=0, le=31)
    alarm: int | None = Field(default=5, ge=0, le=31)
    emergency_stop: int | None = Field(default=6, ge=0, le=31)
    over_force: int | None = Field(default=7, ge=0, le=31)
    oil_low: int | None = Field(default=8, ge=0, le=31)
    host_lost: int | None = Field(default=9, ge=0, le=31)


class CommandCodes(Options):
    """What is written to the command register; None for what the PLC does not know."""

    stop: int = 1
    hold: int = 2
    ramp: int = 3
    unload: int = 4
    clear_alarm: int | None = 5
    enable: int | None = 6
    disable: int | None = 7


class Group:
    """Registers that are read together: which runs of addresses to ask for, what they then hold.

    Args:
        registers: By name; they may overlap.
        order: Which half of a value of 32 bits comes first.
    """

    def __init__(self, registers: Mapping[str, Register], order: WordOrder) -> None:
        addresses = {at for each in registers.values() for at in each.addresses}
        #: First address and count of each run without gaps.
        self.runs = [(at, len(held)) for at, held in runs(dict.fromkeys(addresses, 0))]
        read = [at for first, count in self.runs for at in range(first, first + count)]
        # With the bytes of each word swapped as well, a number whose low word comes first is
        # little-endian.
        endian = "<" if order == "lsw first" else ">"
        self._words = struct.Struct(f"{endian}{len(read)}H")
        self._layers = _layers(
            [(2 * read.index(each.at), name) for name, each in registers.items()],
            registers,
            endian,
        )

    def values(self, words: Sequence[int]) -> dict[str, float]:
        """Return the values, in SI units, that the words of all runs hold.

        Raises:
            ValueError: One is a float that no press shows.
        """
        data = self._words.pack(*words)
        found: dict[str, float] = {}
        for layout, fields in self._layers:
            for raw, (name, unit, is_float) in zip(layout.unpack_from(data), fields, strict=True):
                if is_float and raw and not _BELOW <= abs(raw) <= _BEYOND:
                    raise ValueError(f"shows {raw:g}")
                found[name] = raw * unit
        return found


#: A format, and name, unit, and whether it is a float, of each value that it reads.
_Layer = tuple[struct.Struct, list[tuple[str, float, bool]]]


def _layers(
    places: Sequence[tuple[int, str]], registers: Mapping[str, Register], endian: str
) -> list[_Layer]:
    """Return formats that read values at their offsets.

    One reads them all at once; values that overlap others need one more.
    """
    layout, fields, left = endian, [], []
    end = 0
    for offset, name in sorted(places):
        each = registers[name]
        if offset < end:
            left.append((offset, name))
            continue
        layout += f"{offset - end}x{_FORMATS[each.type][1:]}"
        end = offset + struct.calcsize(_FORMATS[each.type])
        fields.append((name, each.unit, each.type == "f32"))
    others = _layers(left, registers, endian) if left else []
    return [(struct.Struct(layout), fields), *others]


def runs(words: Mapping[int, int]) -> list[tuple[int, list[int]]]:
    """Group registers by address into runs without gaps: (first address, values)."""
    addresses = sorted(words)
    return [
        (run[0], [words[address] for address in run])
        for run in (
            [address for _, address in group]
            for _, group in groupby(enumerate(addresses), key=lambda pair: pair[1] - pair[0])
        )
    ]
