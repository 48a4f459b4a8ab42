"""From what a user names (a protocol, a cell, a bench) to a program that can run on that bench."""

from __future__ import annotations

import json
import platform
import random
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cellbench import __version__
from cellbench.bench import (
    LIBRARY,
    NO_PORT,
    ROLES,
    Bench,
    BenchFile,
    InstrumentEntry,
    OpenStream,
    SimulatedBench,
    Stake,
    connected,
    declared,
    parse_bench,
    simulated_bench,
)
from cellbench.cell import CellCard
from cellbench.engine.guard.handover import taking_over
from cellbench.engine.named_bench import NamedBench, data_directory, read_bench, with_folders
from cellbench.engine.operator import RecordedOperator
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.registry import Driver, load_driver
from cellbench.instruments.roles import Operator
from cellbench.protocol.loading import load_card, load_protocol, parse_settings
from cellbench.protocol.program import Program
from cellbench.protocol.source import Document, document_of, load
from cellbench.transport import Stream, pipe
from cellbench.transport.identity import WireIdentity, identified
from cellbench.transport.ownership import Ownership
from cellbench.transport.recording import WireLog
from cellbench.wiring import DEFAULT_FIXTURE

if TYPE_CHECKING:
    from cellbench.engine.places import Places

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
        shared: Instruments of the bench that other runs of this process use too.
        bench_file: Of a real bench with many places, of which this is one; else None.
    """

    program: Program
    card_text: str
    file: BenchFile
    bench_text: str
    simulator: SimulatedBench | None
    seed: int | None
    beside: Path | None = None
    simulated_cell: str | None = None
    shared: frozenset[str] = frozenset()
    bench_file: Path | None = None

    @property
    def card(self) -> CellCard:
        """The cell card that the program was resolved with."""
        return self.program.card

    def declared(self) -> Bench:
        """The bench as its file declares it: capabilities, nothing connected."""
        return declared(self.file, simulated=self.simulator is not None, beside=self.beside)

    @asynccontextmanager
    async def bench(
        self,
        operator: Operator | None,
        wire: WireLog | None = None,
        *,
        take_over: str | None = None,
        stake: Stake | None = None,
    ) -> AsyncIterator[Bench]:
        """Connect the instruments.

        Args:
            operator: Answers prompts where the bench has nobody.
            wire: Keeps what goes over the wire, to the last byte of letting go.
            take_over: What for the guard that may keep the bench is to let go of it; None: a
                bench that a guard keeps cannot be had.
            stake: In the instruments that are not this run's alone: those are with whoever lends
                them, who has also switched on the simulated bench.
        """
        identity = identity_of(self.seed, self.file.place)
        mine = self.file if stake is None else self.file.without(stake.names)
        async with AsyncExitStack() as stack:
            stack.enter_context(identified(identity))
            if take_over is not None:
                where = places(mine, self.beside)
                await stack.enter_async_context(taking_over(where, take_over))
            if stake is not None:
                stack.push_async_callback(stake.leave)
            ownership = stack.enter_context(owned(mine, "a run", beside=self.beside))
            if self.simulator is not None:
                if stake is None:
                    await stack.enter_async_context(self.simulator)
                simulator = self.simulator
                operator = simulator.attended(operator, self.file.place)
            open_stream: OpenStream = self._open_stream
            if wire is not None:
                wire.note(seed=identity.seed, date=identity.started.isoformat())
                open_stream = recorded(open_stream, wire)
                operator = None if operator is None else RecordedOperator(operator, wire)
                stack.callback(wire.ended)
            bench = await stack.enter_async_context(
                connected(
                    self.file,
                    open_stream,
                    simulated=self.simulator is not None,
                    operator=operator,
                    beside=self.beside,
                    stake=stake,
                )
            )
            bench.ownership = ownership
            yield bench

    def places(self) -> dict[str, str]:
        """Where each instrument is that only one process can have, by name."""
        return places(self.file, self.beside)

    async def _open_stream(self, name: str, entry: InstrumentEntry, driver: Driver) -> Stream:
        return await open_instrument(name, entry, driver, self.simulator)

    def documents(self, bench: Bench) -> dict[str, str]:
        """Return what is kept verbatim with the run, and the surroundings as JSON."""
        sources = {f"protocol/{source.name}": source.text for source in self.program.sources}
        parameters = {name: each.text for name, each in self.program.parameters.items()}
        surroundings = {
            "cellbench": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": dict(_versions()),
            "roles": roles(bench),
            "channels": [channel.name for channel in bench.channels()],
            "instruments": {name: asdict(each) for name, each in bench.identities.items()},
            "parameters": parameters,
            "analyses": list(self.program.analyses),
            "seed": self.seed,
            "place": bench.place,
            "bench_directory": None if self.beside is None else str(self.beside.absolute()),
            "bench_file": None if self.bench_file is None else str(self.bench_file.absolute()),
            "simulated_cell": self.simulated_cell,
            "simulated": bench.simulated,
        }
        return sources | {
            "protocol": self.program.sources[0].text,
            "cell": self.card_text,
            "bench": self.bench_text,
            "environment": json.dumps(surroundings, indent=2),
        }


@cache
def _versions() -> Mapping[str, str]:
    """Versions of the packages that a run hangs on; looked up once, and not while others record."""
    return {name: version(name) for name in _PACKAGES}


def identity_of(seed: int | None, place: str = "") -> WireIdentity:
    """Ids and dates for the wire: of the seed, or of this moment on a real bench (None).

    Two places of a bench never use one id: files for a cycler are named by it.
    """
    if seed is None:
        return WireIdentity(secrets.randbits(32), datetime.now(UTC))
    if place:
        seed = random.Random(f"{seed} {place}").getrandbits(32)  # noqa: S311 (names, not secrets)
    return WireIdentity(seed, SIMULATED_DATE)


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


async def open_instrument(
    name: str, entry: InstrumentEntry, driver: Driver, simulator: SimulatedBench | None
) -> Stream:
    """Connect to one instrument of a bench file, wherever it is.

    Raises:
        InputError: Its entry cannot be carried out.
        InstrumentError: It cannot be reached.
    """
    if entry.is_simulated:
        if simulator is None:
            raise InputError(f'{name}: "{entry.port}" exists on the simulated bench only')
        return simulator.connect(name)
    if entry.port == LIBRARY:
        return pipe()[0]
    # Serial and VISA libraries wait for the first bench that has such a port.
    from cellbench.transport.address import open_stream  # noqa: PLC0415

    settings = entry.serial_settings(driver.serial)
    return await open_stream(entry.port, settings, driver.tcp_port)


def owned(
    file: BenchFile,
    purpose: str,
    *,
    only: str | None = None,
    beside: Path | None = None,
    yields: bool = False,
) -> Ownership:
    """Take the instruments of a bench file into possession; simulated ones are nobody else's.

    Args:
        file: The bench file.
        purpose: What for, told to whoever else wants one.
        only: The one instrument that is wanted, by default all of them.
        beside: Directory of the bench file.
        yields: Whether they are given up when somebody asks for them.

    Raises:
        InstrumentError: Another process has one of them.
    """
    ownership = Ownership(purpose, yields=yields)
    try:
        for name, place in places(file, beside, only=only).items():
            ownership.take(name, place)
    except BaseException:
        ownership.release()
        raise
    return ownership


def places(
    file: BenchFile, beside: Path | None = None, *, only: str | None = None
) -> dict[str, str]:
    """Where each instrument is that only one process can have, by name; arguments as of `owned`."""
    found = {}
    for name, entry in file.instruments.items():
        if not entry.is_simulated and entry.port != NO_PORT and only in {None, name}:
            driver = load_driver(entry.driver, beside)
            place = _place(entry, driver)
            found[name] = place + part_of(entry, driver, place)
    return found


def _place(entry: InstrumentEntry, driver: Driver) -> str:
    """Where an instrument is, whatever its address looks like."""
    if entry.port == LIBRARY:
        return f"library, {entry.options.get('host', '')}"
    from cellbench.transport.address import place_of  # noqa: PLC0415 - as above

    return place_of(entry.port, driver.tcp_port)


def part_of(entry: InstrumentEntry, driver: Driver, place: str) -> str:
    """Which part of what is reached at a place an instrument is, empty for all of it.

    A cycler has many channels behind one address, a gateway many units: each has its own owner. A
    serial port can be opened once only.
    """
    if place.startswith("serial"):
        return ""
    options = {key.lower(): str(value) for key, value in entry.options.items()}
    channel = f", channel {options.get('channel', '1')}" if driver.role == "channel" else ""
    return f"{channel}, unit {options.get('unit', '1')}"


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
        cell: A cell card's file, or the name of a shipped card; by default the protocol's. On a
            bench with many cells a place, ``A1``, or with a card that is not the place's
            ``A1=CARD``.
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
    named = None if bench is None else read_bench(bench)
    if named is not None and named.file.cells:
        if fixture is not None:
            raise InputError("--fixture is for a bench with one cell; places name their own")
        return _at_place(named, protocol, cell or "", sim_cell, sets, seed)
    card, card_text = load_card(protocol, cell)
    program = load_protocol(protocol, card, parse_settings(sets))
    return on_bench(program, card_text, named, sim_cell=sim_cell, fixture=fixture, seed=seed)


def on_bench(
    program: Program,
    card_text: str,
    bench: NamedBench | None,
    *,
    sim_cell: str | None = None,
    fixture: str | None = None,
    seed: int = 0,
) -> Session:
    """Put a program on a bench with one cell; other arguments, and errors, as of `prepare`."""
    if bench is not None:
        file, text = bench.file, bench.document.text
        if file.is_simulated:
            held_by = fixture or (file.fixture.kind if file.fixture else DEFAULT_FIXTURE)
            return _played(program, card_text, file, text, sim_cell, held_by, seed, bench.beside)
        if sim_cell is not None:
            raise InputError("--sim-cell names a simulated cell, but --bench has real instruments")
        if fixture is not None:
            raise InputError("--fixture is for the simulated bench; the bench file names its own")
        return Session(program, card_text, file, text, None, None, bench.beside)
    held_by = fixture or next(iter(program.fixtures), DEFAULT_FIXTURE)
    return on_simulated_bench(program, card_text, sim_cell, held_by, seed)


def place_and_card(cell: str) -> tuple[str, str | None]:
    """Read what says where a cell is, and maybe which it is: ``A1``, ``A1=cards/mine.yaml``."""
    place, _, card = cell.strip().partition("=")
    return place.strip(), card.strip() or None


def _at_place(
    bench: NamedBench,
    protocol: str,
    place: str,
    sim_cell: str | None,
    sets: Sequence[str],
    seed: int,
) -> Session:
    name, card = place_and_card(place)
    cards = {} if card is None else {name: card}
    places = _places()(bench, only=[name], seed=seed, sim_cell=sim_cell, cards=cards)
    return places.session(protocol, name, sets=sets)


def _places() -> type[Places]:
    # They make sessions, and this is where sessions are asked for.
    from cellbench.engine.places import Places  # noqa: PLC0415

    return Places


def on_simulated_bench(
    program: Program,
    card_text: str,
    sim_cell: str | None,
    fixture: str,
    seed: int,
    played: Document | None = None,
) -> Session:
    """Put a program on the simulated bench; errors as of `prepare`.

    Args:
        program: The program.
        card_text: The text of its cell card.
        sim_cell: The simulated cell; by default the one that the card names.
        fixture: What holds it.
        seed: Of everything random.
        played: A bench file to be played, if its ports are simulated; else the usual bench is.
    """
    if played is not None and (file := parse_bench(load(played))).is_simulated:
        file = with_folders(file, data_directory())
        return _played(program, card_text, file, played.text, sim_cell, fixture, seed, None)
    on_it = sim_cell or _simulated_cell(program.card)
    simulator = simulated_bench(on_it, seed, fixture)
    text = json.dumps(simulator.description(), indent=2)
    file = parse_bench(load(document_of(text, "the simulated bench")))
    return Session(program, card_text, file, text, simulator, seed, simulated_cell=on_it)


def played_bench(bench: Path, cell: str, fixture: str | None, seed: int) -> SimulatedBench:
    """Return the simulated bench that plays a bench file, or one that ships, around a cell.

    Raises:
        InputError: The file is wrong, or its instruments are not simulated ones.
    """
    named = read_bench(bench)
    file = named.file
    if not file.is_simulated:
        raise InputError(f'{file.bench}: no instrument has "port: simulated", so none is played')
    if file.cells:
        return _places()(named, seed=seed, sim_cell=cell).played
    held_by = fixture or (file.fixture.kind if file.fixture else DEFAULT_FIXTURE)
    return _player(file, cell, held_by, seed)


def _player(file: BenchFile, cell: str, fixture: str, seed: int) -> SimulatedBench:
    entries = {
        name: entry.model_dump(by_alias=True, exclude_none=True)
        for name, entry in file.instruments.items()
    }
    wiring = {name: each.model_dump() for name, each in file.wiring.items()}
    return simulated_bench(cell, seed, fixture, entries, wiring)


def _played(
    program: Program,
    card_text: str,
    file: BenchFile,
    bench_text: str,
    sim_cell: str | None,
    fixture: str,
    seed: int,
    beside: Path | None,
) -> Session:
    """Put a program on a bench file that the simulated bench plays."""
    on_it = sim_cell or _simulated_cell(program.card)
    simulator = _player(file, on_it, fixture, seed)
    return Session(program, card_text, file, bench_text, simulator, seed, beside, on_it)


def _simulated_cell(card: CellCard) -> str:
    if card.simulate is None:
        raise InputError(
            f"the card of {card.cell} names no simulated cell: add simulate: NAME to it, give "
            "--sim-cell NAME, or a bench with --bench FILE"
        )
    return card.simulate
