"""From what a user names (a protocol, a cell, a bench) to a program that can run on that bench."""

from __future__ import annotations

import json
import platform
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cellbench import __version__
from cellbench.bench import (
    DEFAULT_FIXTURE,
    ROLES,
    Bench,
    BenchFile,
    InstrumentEntry,
    SimulatedBench,
    connected,
    declared,
    parse_bench,
    simulated_bench,
)
from cellbench.cell import CellCard
from cellbench.engine.operator import RecordedOperator
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.registry import Driver
from cellbench.instruments.roles import Operator
from cellbench.protocol.loading import load_card, load_protocol, parse_settings
from cellbench.protocol.program import Program
from cellbench.protocol.source import document_of, load, read_document
from cellbench.transport import Stream
from cellbench.transport.identity import WireIdentity, identified
from cellbench.transport.recording import WireLog

OpenStream = Callable[[str, InstrumentEntry, Driver], Awaitable[Stream]]

#: Packages whose versions are kept with each run: those that can change what is measured or meant.
_PACKAGES = ("numpy", "scipy", "pint", "pydantic", "pymodbus", "pyserial", "pyvisa", "pyvisa-py")
#: What the wire of a simulated bench takes for the date at which a run begins.
SIMULATED_DATE = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Session:
    """A program, and the bench that it is to run on.

    Attributes:
        simulator: The simulated bench, None with a bench file.
        beside: Directory of the bench file, where driver files are looked for.
        simulated_cell: What is on the simulated bench.
    """

    program: Program
    card_text: str
    file: BenchFile
    bench_text: str
    simulator: SimulatedBench | None
    seed: int | None
    beside: Path | None = None
    simulated_cell: str | None = None

    @property
    def card(self) -> CellCard:
        """The cell card that the program was resolved with."""
        return self.program.card

    def declared(self) -> Bench:
        """The bench as its file declares it: capabilities, nothing connected."""
        return declared(self.file, simulated=self.simulator is not None, beside=self.beside)

    @asynccontextmanager
    async def bench(
        self, operator: Operator | None, wire: WireLog | None = None
    ) -> AsyncIterator[Bench]:
        """Connect the instruments.

        Args:
            operator: Answers prompts where the bench has nobody.
            wire: Keeps what goes over the wire, to the last byte of letting go.
        """
        identity = self._identity()
        async with AsyncExitStack() as stack:
            stack.enter_context(identified(identity))
            if self.simulator is not None:
                await stack.enter_async_context(self.simulator)
                operator = operator or self.simulator.operator
            open_stream: OpenStream = self._open_stream
            if wire is not None:
                wire.note(seed=identity.seed, date=identity.started.isoformat())
                open_stream = recorded(open_stream, wire)
                operator = None if operator is None else RecordedOperator(operator, wire)
                stack.callback(wire.ended)
            yield await stack.enter_async_context(
                connected(
                    self.file,
                    open_stream,
                    simulated=self.simulator is not None,
                    operator=operator,
                    beside=self.beside,
                )
            )

    def _identity(self) -> WireIdentity:
        """Ids and dates for the wire: of the seed, or of this moment on a real bench."""
        if self.seed is None:
            return WireIdentity(secrets.randbits(32), datetime.now(UTC))
        return WireIdentity(self.seed, SIMULATED_DATE)

    async def _open_stream(self, name: str, entry: InstrumentEntry, driver: Driver) -> Stream:
        if entry.port.startswith("sim:"):
            if self.simulator is None:
                raise InputError(f'{name}: "{entry.port}" exists on the simulated bench only')
            return self.simulator.connect(entry.port.removeprefix("sim:"))
        # Serial and VISA libraries wait for the first bench that has such a port.
        from cellbench.transport.address import open_stream  # noqa: PLC0415

        return await open_stream(entry.port, driver.serial, driver.tcp_port)

    def documents(self, bench: Bench) -> dict[str, str]:
        """Return what is kept verbatim with the run, and the surroundings as JSON."""
        sources = {f"protocol/{source.name}": source.text for source in self.program.sources}
        parameters = {name: each.text for name, each in self.program.parameters.items()}
        surroundings = {
            "cellbench": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: version(name) for name in _PACKAGES},
            "roles": roles(bench),
            "instruments": {name: asdict(each) for name, each in bench.identities.items()},
            "parameters": parameters,
            "analyses": list(self.program.analyses),
            "seed": self.seed,
            "simulated_cell": self.simulated_cell,
            "simulated": bench.simulated,
        }
        return sources | {
            "protocol": self.program.sources[0].text,
            "cell": self.card_text,
            "bench": self.bench_text,
            "environment": json.dumps(surroundings, indent=2),
        }


def recorded(open_stream: OpenStream, wire: WireLog) -> OpenStream:
    """Open streams as before, and have a wire log listen in on each."""

    async def open_recorded(name: str, entry: InstrumentEntry, driver: Driver) -> Stream:
        try:
            stream = await open_stream(name, entry, driver)
        except InstrumentError as error:
            wire.refused(name, str(error))
            raise
        wire.listen(name, stream)
        return stream

    return open_recorded


def roles(bench: Bench) -> dict[str, str]:
    """Which instrument plays which role."""
    players = {role: getattr(bench, role) for role in ROLES}
    return {role: player.name for role, player in players.items() if player is not None}


def prepare(
    protocol: str,
    *,
    cell: str | None = None,
    sim_cell: str | None = None,
    fixture: str | None = None,
    bench: Path | None = None,
    sets: Sequence[str] = (),
    seed: int = 0,
) -> Session:
    """Resolve what the user named.

    Args:
        protocol: A file, or the name of a shipped protocol.
        cell: A cell card's file, or the name of a shipped card; by default the protocol's.
        sim_cell: The simulated cell; by default the one that the card names.
        fixture: What holds it on the simulated bench; by default the first that the protocol is
            meant for, or a servo press.
        bench: A bench file; without one the simulated bench is used.
        sets: Parameters as ``name=value``.
        seed: Of the simulated bench.

    Raises:
        InputError: With what is wrong, where, and what would be right.
    """
    card, card_text = load_card(protocol, cell)
    program = load_protocol(protocol, card, parse_settings(sets))
    if bench is not None:
        if sim_cell is not None:
            raise InputError("--sim-cell names a simulated cell, but --bench has real instruments")
        if fixture is not None:
            raise InputError("--fixture is for the simulated bench; the bench file names its own")
        document = read_document(bench)
        file = parse_bench(load(document))
        return Session(program, card_text, file, document.text, None, None, bench.parent)
    held_by = fixture or next(iter(program.fixtures), DEFAULT_FIXTURE)
    return on_simulated_bench(program, card_text, sim_cell, held_by, seed)


def on_simulated_bench(
    program: Program, card_text: str, sim_cell: str | None, fixture: str, seed: int
) -> Session:
    """Put a program on the simulated bench; arguments and errors as of `prepare`."""
    on_it = sim_cell or _simulated_cell(program.card)
    simulator = simulated_bench(on_it, seed, fixture)
    text = json.dumps(simulator.description(), indent=2)
    file = parse_bench(load(document_of(text, "the simulated bench")))
    return Session(program, card_text, file, text, simulator, seed, simulated_cell=on_it)


def _simulated_cell(card: CellCard) -> str:
    if card.simulate is None:
        raise InputError(
            f"the card of {card.cell} names no simulated cell: add simulate: NAME to it, give "
            "--sim-cell NAME, or a bench with --bench FILE"
        )
    return card.simulate
