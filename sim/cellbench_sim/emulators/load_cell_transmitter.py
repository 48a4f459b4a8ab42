"""Transmitters behind a strain gauge in the line of force: Laumas TLB4 and Seneca Z-SG, Modbus.

``tlb4`` (functions 3 and 16, at most 32 registers in one reading; register 40001 is address 0):

    40001 firmware  40002 type  40006 command (7 tare, 8 zero, 99 save)  40007 status
    40008 gross  40010 net  40012 peak  40014 unit and division  40017 on: set points

Weights are signed whole numbers of the last decimal that the division has, high word first. Tare
and zero live in RAM until they are saved; the EEPROM stands 100 000 saves.

``z-sg`` (functions 3, 6 and 16): 40001 type, 40002 firmware, 40003 unit, 40004 address, 40064 net
weight as a float, high word first, 40078 status. What is written goes to a flash that stands 10 000
writes, and acts after a restart; the tare is a button.

A memory beyond what it stands takes nothing any more. As recalled, never verified: the TLB4's
command numbers, the codes of its unit and division; the bits of either status.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pymodbus.framer import FramerRTU, FramerSocket

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.load_cell import LoadCell
from cellbench_sim.emulators.modbus import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    ModbusRefusal,
    ModbusServer,
    RegisterBank,
)
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

Framing = Literal["rtu", "tcp"]

_UNITS_N = {"N": 1.0, "kN": 1e3, "g": 9.80665e-3, "kg": 9.80665, "t": 9806.65, "lb": 4.4482216}
#: What a bench file calls the profiles.
_PROFILES = {"laumas_tlb4": "tlb4", "seneca_z_sg": "z-sg"}
_OVERLOAD = 1.1


class Transducer:
    """The strain gauge and its amplifier, whichever transmitter is behind them.

    Attributes:
        broken: Whether its wire is broken.
    """

    def __init__(self, world: World, rng: random.Random, capacity_N: float) -> None:
        # The bridge itself reads beyond its nominal range.
        self._cell = LoadCell(world, rng, 2 * capacity_N, noise=1e-4, zero=5e-4, drift_per_K=1e-5)
        self.capacity_N = capacity_N
        self.broken = False

    def force_N(self) -> float:
        """Return the force, nothing finite without a cell."""
        return math.nan if self.broken else self._cell.reading_N()


class Tlb4:
    """The registers of a Laumas TLB4.

    Args:
        transducer: What it amplifies.
        division: Smallest step of its weights, in their unit.
        unit_N: That unit.
    """

    functions: ClassVar[frozenset[int]] = frozenset({3, 16})
    read_max: ClassVar[int] = 32
    _ENDURANCE: ClassVar[int] = 100_000
    _END, _COMMAND, _SETPOINTS = 100, 5, range(16, 32)
    _TARE, _ZERO, _SAVE = 7, 8, 99
    _NEWTON = 4
    _DIVISIONS = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)

    def __init__(self, transducer: Transducer, division: float, unit_N: float = 1.0) -> None:
        if division not in self._DIVISIONS:
            raise ValueError(f"a TLB4 divides by one of {self._DIVISIONS}, not {division}")
        self._division, self._unit_N = division, unit_N
        self._transducer = transducer
        self._counts = 10 ** max(0, math.ceil(-math.log10(division)))
        self._zero_N = self._tare_N = 0.0
        self._setpoints = [0] * len(self._SETPOINTS)
        self._saved = (0.0, list(self._setpoints))
        self._peak_N = -math.inf
        self.writes = 0

    def restart(self) -> None:
        """Lose what was not saved."""
        self._zero_N, setpoints = self._saved
        self._setpoints = list(setpoints)
        self._tare_N, self._peak_N = 0.0, -math.inf

    def read_registers(self, address: int, count: int) -> list[int]:
        """Return registers; in the map, those that mean nothing read 0."""
        if address + count > self._END:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        gross_N = self._transducer.force_N() - self._zero_N
        self._peak_N = max(self._peak_N, gross_N)
        words = [0] * self._END
        words[0:2] = 114, 4
        words[6] = self._status(gross_N)
        for at, force_N in (7, gross_N), (9, gross_N - self._tare_N), (11, self._peak_N):
            words[at : at + 2] = self._weight(force_N)
        words[13] = self._NEWTON << 8 | self._DIVISIONS.index(self._division)
        words[self._SETPOINTS.start : self._SETPOINTS.stop] = self._setpoints
        return words[address : address + count]

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Carry out a command, or take set points."""
        if address == self._COMMAND and len(words) == 1:
            self._command(words[0])
            return
        first = address - self._SETPOINTS.start
        if first < 0 or first + len(words) > len(self._setpoints):
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        self._setpoints[first : first + len(words)] = words

    def _command(self, number: int) -> None:
        if number == self._TARE:
            self._tare_N = self._finite_N() - self._zero_N
        elif number == self._ZERO:
            self._zero_N, self._tare_N = self._finite_N(), 0.0
        elif number == self._SAVE:
            self.writes += 1
            if self.writes <= self._ENDURANCE:
                self._saved = (self._zero_N, list(self._setpoints))
        else:
            raise ModbusRefusal(ILLEGAL_VALUE)

    def _finite_N(self) -> float:
        force_N = self._transducer.force_N()
        if not math.isfinite(force_N):
            raise ModbusRefusal(ILLEGAL_VALUE)
        return force_N

    def _status(self, gross_N: float) -> int:
        net_N = gross_N - self._tare_N
        bits = {
            0: self._transducer.broken,
            3: gross_N > _OVERLOAD * self._transducer.capacity_N,
            7: gross_N < 0,
            8: net_N < 0,
            11: True,
            12: abs(gross_N) < self._division * self._unit_N / 4,
        }
        return sum(is_set << bit for bit, is_set in bits.items())

    def _weight(self, force_N: float) -> tuple[int, int]:
        value = 0
        if math.isfinite(force_N):
            steps = round(force_N / self._unit_N / self._division)
            value = round(steps * self._division * self._counts)
        high, low = struct.unpack(">2H", struct.pack(">i", value))
        return high, low


class Zsg:
    """The registers of a Seneca Z-SG.

    Args:
        transducer: What it amplifies.
        address: Its address on the line, which register 40004 tells.
        unit_N: What one unit of its weight is.
    """

    functions: ClassVar[frozenset[int]] = frozenset({3, 6, 16})
    read_max: ClassVar[int] = 125
    _ENDURANCE: ClassVar[int] = 10_000
    _END, _NET, _STATUS = 100, 63, 77
    _CELL_FAULT, _OVER_RANGE, _STABLE = 1 << 0, 1 << 1, 1 << 2

    def __init__(self, transducer: Transducer, address: int, unit_N: float) -> None:
        self._transducer = transducer
        self._unit_N = unit_N
        self._tare_N = 0.0
        self._flash = {2: 0, 3: address}
        self.writes = 0

    def push_tare_button(self) -> None:
        """Make the present force the zero."""
        self._tare_N = self._transducer.force_N()

    @property
    def address(self) -> int:
        """The address that holds after a restart."""
        return self._flash[3]

    def restart(self) -> None:
        """Lose the tare."""
        self._tare_N = 0.0

    def read_registers(self, address: int, count: int) -> list[int]:
        """Return registers; in the map, those that mean nothing read 0."""
        if address + count > self._END:
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        force_N = self._transducer.force_N()
        words = [0] * self._END
        words[0:2] = 3, 100
        for at, word in self._flash.items():
            words[at] = word
        net = struct.pack(">f", (force_N - self._tare_N) / self._unit_N)
        words[self._NET : self._NET + 2] = struct.unpack(">2H", net)
        words[self._STATUS] = self._status(force_N)
        return words[address : address + count]

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Take unit and address into the flash."""
        if any(at not in self._flash for at in range(address, address + len(words))):
            raise ModbusRefusal(ILLEGAL_ADDRESS)
        if any(at == 3 and not 1 <= word <= 247 for at, word in enumerate(words, address)):
            raise ModbusRefusal(ILLEGAL_VALUE)
        self.writes += len(words)
        if self.writes <= self._ENDURANCE:
            self._flash.update(enumerate(words, address))

    def _status(self, force_N: float) -> int:
        if self._transducer.broken:
            return self._CELL_FAULT
        over = force_N > _OVERLOAD * self._transducer.capacity_N
        return self._STABLE | (self._OVER_RANGE if over else 0)


class LoadCellTransmitterEmulator(Emulator):
    """A transmitter on the bench's load cell.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of the cell's noise and zero.
        profile: ``tlb4`` or ``z-sg``.
        address: Modbus address.
        framing: ``rtu`` on a serial line, ``tcp`` for its Ethernet sister.
        capacity_N: Nominal range of the cell; by default what the press can do.
        division: Smallest step of a TLB4's weights, in their unit.
        engineering_unit: What a weight counts, a key of `_UNITS_N`.

    Attributes:
        registers: The transmitter itself.
        transducer: The cell behind it.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        profile: str = "tlb4",
        address: int = 1,
        framing: Framing = "rtu",
        capacity_N: float | None = None,
        division: float = 0.5,
        engineering_unit: str = "N",
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._address, self._framing = address, framing
        rng = random_stream(seed, name)
        self.transducer = Transducer(world, rng, capacity_N or world.press.max_force_N)
        if profile == "tlb4":
            self.registers: Tlb4 | Zsg = Tlb4(self.transducer, division, _UNITS_N[engineering_unit])
        elif profile == "z-sg":
            self.registers = Zsg(self.transducer, address, _UNITS_N[engineering_unit])
        else:
            raise ValueError(f"a transmitter is tlb4 or z-sg, not {profile}")
        self._server = self._listen()

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the transmitter that a bench file's options describe.

        Options: ``profile`` (laumas_tlb4, seneca_z_sg), ``unit``, ``framing``, ``capacity``,
        ``force_unit``, and ``scale``: what a TLB4's division is worth in it.
        """
        bench = BenchOptions(options)
        force_unit = bench.text("force_unit", "kg")
        scale = float(bench.text("scale", "1"))
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            profile=_PROFILES[bench.text("profile", "laumas_tlb4")],
            address=bench.unit,
            framing="tcp" if bench.text("framing", "rtu") == "tcp" else "rtu",
            capacity_N=bench.quantity("capacity", "force", 0.0) or None,
            division=scale,
            engineering_unit=force_unit,
        )

    @property
    def memory_writes(self) -> int:
        """How often the EEPROM or flash was written."""
        return self.registers.writes

    def power_cycle(self) -> None:
        """Take the supply away and give it back."""
        self.registers.restart()
        if isinstance(self.registers, Zsg):
            self._address = self.registers.address
        self._server = self._listen()

    def _listen(self) -> ModbusServer:
        bank: RegisterBank = self.registers
        framer = FramerRTU if self._framing == "rtu" else FramerSocket
        functions, read_max = self.registers.functions, self.registers.read_max
        return ModbusServer(bank, self._address, framer, functions=functions, read_max=read_max)

    def _receive(self, data: bytes) -> None:
        self._world.advance_to(self._timebase.now())
        self._server.feed(data, self._send)

    def _on_attach(self) -> None:
        self._server.reset()
