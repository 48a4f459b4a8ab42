"""From what a user names (a protocol, a cell, a bench) to a program that can run on that bench."""

from __future__ import annotations

import json
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
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
    simulated_benches,
)
from cellbench.cell import CellCard
from cellbench.errors import InputError
from cellbench.instruments.registry import Driver
from cellbench.instruments.roles import Operator
from cellbench.protocol.loading import load_card, load_protocol, parse_settings
from cellbench.protocol.program import Program
from cellbench.protocol.source import Document, document_of, load, read_document
from cellbench.store import data_directory
from cellbench.transport import Stream

#: Packages whose versions are kept with each run: those that can change what is measured or meant.
_PACKAGES = ("numpy", "scipy", "pint", "pydantic", "pymodbus", "pyserial", "pyvisa", "pyvisa-py")


@dataclass(frozen=True)
class Session:
    """A program, and the bench that it is to run on.

    Attributes:
        simulator: The simulated bench, None with a bench file.
        beside: Directory of the bench file, where driver files are looked for.
    """

    program: Program
    card_text: str
    file: BenchFile
    bench_text: str
    simulator: SimulatedBench | None
    seed: int | None
    beside: Path | None = None

    @property
    def card(self) -> CellCard:
        """The cell card that the program was resolved with."""
        return self.program.card

    def declared(self) -> Bench:
        """The bench as its file declares it: capabilities, nothing connected."""
        return declared(self.file, simulated=self.simulator is not None, beside=self.beside)

    @asynccontextmanager
    async def bench(self, operator: Operator | None) -> AsyncIterator[Bench]:
        """Connect the instruments; ``operator`` answers prompts where the bench has nobody."""
        async with AsyncExitStack() as stack:
            if self.simulator is not None:
                await stack.enter_async_context(self.simulator)
                operator = operator or self.simulator.operator
            yield await stack.enter_async_context(
                connected(
                    self.file,
                    self._open_stream,
                    simulated=self.simulator is not None,
                    operator=operator,
                    beside=self.beside,
                )
            )

    async def _open_stream(self, name: str, entry: InstrumentEntry, driver: Driver) -> Stream:
        if entry.is_simulated:
            if self.simulator is None:
                raise InputError(f'{name}: "{entry.port}" exists on the simulated bench only')
            return self.simulator.connect(name)
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
            "simulated": bench.simulated,
        }
        return sources | {
            "protocol": self.program.sources[0].text,
            "cell": self.card_text,
            "bench": self.bench_text,
            "environment": json.dumps(surroundings, indent=2),
        }


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
        bench: A bench file, or the name of one of the simulated bench's; without one the usual
            simulated bench is used.
        sets: Parameters as ``name=value``.
        seed: Of the simulated bench.

    Raises:
        InputError: With what is wrong, where, and what would be right.
    """
    card, card_text = load_card(protocol, cell)
    program = load_protocol(protocol, card, parse_settings(sets))
    if bench is not None:
        document, beside = _bench_document(bench)
        file = _with_folders(parse_bench(load(document)), beside)
        if file.is_simulated:
            cell_name = sim_cell or _simulated_cell(program.card)
            simulator = _player(file, cell_name, fixture, seed)
            return Session(program, card_text, file, document.text, simulator, seed, beside)
        if sim_cell is not None:
            raise InputError("--sim-cell names a simulated cell, but --bench has real instruments")
        if fixture is not None:
            raise InputError("--fixture is for the simulated bench; the bench file names its own")
        return Session(program, card_text, file, document.text, None, None, beside)
    held_by = fixture or next(iter(program.fixtures), DEFAULT_FIXTURE)
    simulator = simulated_bench(sim_cell or _simulated_cell(program.card), seed, held_by)
    text = json.dumps(simulator.description(), indent=2)
    file = parse_bench(load(document_of(text, "the simulated bench")))
    return Session(program, card_text, file, text, simulator, seed)


def played_bench(bench: Path, cell: str, fixture: str | None, seed: int) -> SimulatedBench:
    """Return the simulated bench that plays a bench file, or one that ships, around a cell.

    Raises:
        InputError: The file is wrong, or not of simulated instruments.
    """
    document, beside = _bench_document(bench)
    file = _with_folders(parse_bench(load(document)), beside)
    if not file.is_simulated:
        raise InputError(f'{file.bench}: no instrument has "port: simulated", so none is played')
    return _player(file, cell, fixture, seed)


def _player(file: BenchFile, cell: str, fixture: str | None, seed: int) -> SimulatedBench:
    entries = {name: each.model_dump(by_alias=True) for name, each in file.instruments.items()}
    held_by = fixture or (file.fixture.kind if file.fixture else DEFAULT_FIXTURE)
    return simulated_bench(cell, seed, held_by, entries)


def _bench_document(bench: Path) -> tuple[Document, Path]:
    """What a bench file says, or one of those that ship, and the directory that it is of."""
    shipped = simulated_benches()
    if str(bench) in shipped and not bench.exists():
        return document_of(shipped[str(bench)], f"{bench}.yaml"), data_directory()
    if not bench.exists() and bench.suffix not in {".yaml", ".yml"}:
        raise InputError(
            f"there is no bench file {bench}, and no simulated bench of that name; there are: "
            + ", ".join(shipped)
        )
    return read_document(bench), bench.parent


def _with_folders(file: BenchFile, beside: Path) -> BenchFile:
    """Let options that name a folder of this computer be within the directory of the bench."""
    instruments = {
        name: entry.model_copy(
            update={
                key: str((beside / str(value)).absolute())
                for key, value in entry.options.items()
                if key.replace(" ", "_").endswith("_folder")
            }
        )
        for name, entry in file.instruments.items()
    }
    return file.model_copy(update={"instruments": instruments})


def _simulated_cell(card: CellCard) -> str:
    if card.simulate is None:
        raise InputError(
            f"the card of {card.cell} names no simulated cell: add simulate: NAME to it, give "
            "--sim-cell NAME, or a bench with --bench FILE"
        )
    return card.simulate
