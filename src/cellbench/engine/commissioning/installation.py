"""A bench file without a protocol: its instruments one by one, each opened by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cellbench.bench import (
    LIBRARY,
    NO_PORT,
    BenchFile,
    InstrumentEntry,
    SimulatedBench,
    parse_bench,
    simulated_bench,
)
from cellbench.engine.named_bench import read_bench
from cellbench.engine.places import Places
from cellbench.engine.session import (
    identity_of,
    open_instrument,
    owned,
)
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.registry import Driver, load_driver
from cellbench.instruments.roles import ByHand, Instrument, Operator
from cellbench.protocol.source import document_of, load
from cellbench.transport import Stream, pipe
from cellbench.transport.identity import identified
from cellbench.transport.ownership import Ownership
from cellbench.wiring import DEFAULT_FIXTURE, Wiring

#: What is on the simulated bench where nothing is said: it behaves much like a resistor.
SIMULATED_CELL = "LYC_PMMA"


@dataclass(frozen=True)
class Installation:
    """A bench as its file says, and the simulated bench that plays it, if one does."""

    file: BenchFile
    simulator: SimulatedBench | None = None
    seed: int | None = None
    beside: Path | None = None

    def entry(self, name: str) -> InstrumentEntry:
        """Return the entry of an instrument.

        Raises:
            InputError: The bench has no such instrument.
        """
        if name not in self.file.instruments:
            known = ", ".join(self.file.instruments)
            raise InputError(f'{self.file.bench} has no instrument "{name}"; it has: {known}')
        return self.file.instruments[name]

    def driver(self, name: str) -> Driver:
        """Return the driver class of an instrument. Raises as `entry` and `load_driver`."""
        return load_driver(self.entry(name).driver, self.beside)

    def has_wire(self, name: str) -> bool:
        """Whether there are bytes to and from an instrument: no person, no vendor's library."""
        return self.entry(name).port not in {NO_PORT, LIBRARY}

    def require_wire(self, name: str) -> None:
        """Raise InputError where there are no bytes to and from an instrument."""
        if not self.has_wire(name):
            port = self.entry(name).port
            raise InputError(f'{name}: its port is "{port}", there is no line to talk on')

    def channels(self) -> list[str]:
        """Names of the instruments that can drive a cell."""
        return [name for name in self.file.instruments if self.driver(name).role == "channel"]

    def owned(self, purpose: str, only: str | None = None) -> Ownership:
        """Take its instruments, or ``only`` one, into possession.

        Raises:
            InstrumentError: Another process has one of them.
        """
        return owned(self.file, purpose, only=only, beside=self.beside)

    @asynccontextmanager
    async def switched_on(self) -> AsyncIterator[None]:
        """Give the wire its ids and dates, and switch the simulated bench on, if there is one."""
        with identified(identity_of(self.seed)):
            if self.simulator is None:
                yield
                return
            async with self.simulator:
                yield

    async def stream(self, name: str) -> Stream:
        """Connect to an instrument.

        Raises:
            InstrumentError: It cannot be reached.
            InputError: Nothing can be connected to at its port.
        """
        entry = self.entry(name)
        self.require_wire(name)
        try:
            return await open_instrument(name, entry, self.driver(name), self.simulator)
        except InstrumentError as error:  # it knows the address, and we the instrument
            raise InstrumentError(name, str(error)) from error

    async def instrument(self, name: str, operator: Operator | None = None) -> Instrument:
        """Build the driver of an instrument on a new connection; it is not connected yet.

        Raises:
            InstrumentError: It cannot be reached.
            InputError: Its options are wrong.
        """
        entry, driver = self.entry(name), self.driver(name)
        stream = await self.stream(name) if self.has_wire(name) else pipe()[0]
        try:
            built = driver(name, stream, entry.options)
        except BaseException:
            await stream.close()
            raise
        if isinstance(built, ByHand):
            built.operator = cast("Operator", self.answering(operator))  # without one it says so
        return built

    def answering(self, person: Operator | None) -> Operator | None:
        """Who answers prompts: the person, the simulated bench's operator, or nobody."""
        if self.simulator is None:
            return person
        return self.simulator.attended(person) if person else self.simulator.operator

    def wiring_of(self, name: str) -> tuple[str, Wiring] | None:
        """The cell that an instrument shares with another, and how; None if it has its own."""
        for cell, wiring in self.file.wiring.items():
            if name in {wiring.cycling, wiring.impedance}:
                return cell, wiring
        return None


def install(
    bench: Path | None,
    *,
    sim_cell: str | None = None,
    fixture: str | None = None,
    seed: int = 0,
) -> Installation:
    """Read a bench file, without connecting to anything.

    Args:
        bench: A bench file, or the name of a simulated bench; None for the usual one.
        sim_cell: The simulated cell.
        fixture: What holds it on the simulated bench.
        seed: Of the simulated bench.

    Raises:
        InputError: It is no bench file, or there is no such cell or fixture.
    """
    cell = sim_cell or SIMULATED_CELL
    if bench is None:
        simulator = simulated_bench(cell, seed, fixture or DEFAULT_FIXTURE)
        text = json.dumps(simulator.description(), indent=2)
        return Installation(
            parse_bench(load(document_of(text, "the simulated bench"))), simulator, seed
        )
    named = read_bench(bench)
    file, beside = named.file, named.beside
    if not file.is_simulated:
        if sim_cell is not None or fixture is not None:
            raise InputError(
                f"{file.bench} has real instruments: --sim-cell and --fixture are for others"
            )
        return Installation(file, beside=beside)
    if file.cells:
        places = Places(named, seed=seed, sim_cell=cell)
        return Installation(file, places.played, seed, beside)
    entries = {
        name: entry.model_dump(by_alias=True, exclude_none=True)
        for name, entry in file.instruments.items()
    }
    held_by = fixture or (file.fixture.kind if file.fixture else DEFAULT_FIXTURE)
    wiring = {cell: each.model_dump() for cell, each in file.wiring.items()}
    simulator = simulated_bench(cell, seed, held_by, entries, wiring)
    return Installation(file, simulator, seed, beside)
