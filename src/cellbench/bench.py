"""The bench: which instruments there are, which plays which role, and how they are reached.

A bench file (or the simulated bench's own description) names instruments with their drivers and
addresses; `connected` opens them, identifies them and hands over a `Bench` of roles.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from cellbench.clock import at_speed
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.changeover import ByOperator, Changeover, Switching, ThroughSwitch
from cellbench.instruments.readings import Identity
from cellbench.instruments.registry import Driver, load_driver
from cellbench.instruments.roles import (
    ByHand,
    Chamber,
    Channel,
    Gauge,
    Instrument,
    Operator,
    Press,
    Switch,
)
from cellbench.instruments.wired import WiredChannel
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.source import SourceNode
from cellbench.protocol.validation import validate
from cellbench.quantities import parse
from cellbench.transport import SerialSettings, Stream, pipe
from cellbench.transport.ownership import Ownership
from cellbench.wiring import (
    BY_OPERATOR,
    DEFAULT_FIXTURE,
    Fixture,
    Place,
    Wiring,
    wrong_places,
)

ROLES = ("channel", "press", "gauge", "chamber", "switch")
#: The port of an instrument that a person works.
NO_PORT = "none"
#: The port of an instrument that is reached through its vendor's library, and no byte stream.
LIBRARY = "library"
#: The port of an instrument that the simulated bench plays.
SIMULATED = "simulated"
#: How long a run waits for an instrument whose bench file does not say.
PATIENCE = "2 h"


class SerialEntry(BaseModel):
    """How a serial port is set where that differs from the driver's manual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baudrate: PositiveInt | None = None
    bytesize: Literal[7, 8] | None = None
    parity: Literal["N", "E", "O"] | None = None
    stopbits: Literal[1, 2] | None = None
    xonxoff: bool | None = None
    rtscts: bool | None = None

    @field_validator("bytesize", "stopbits", mode="before")
    @classmethod
    def _number(cls, written: object) -> object:
        return int(written) if isinstance(written, str) and written.isdigit() else written

    @field_validator("parity", mode="before")
    @classmethod
    def _initial(cls, written: object) -> object:
        words = {"none": "N", "even": "E", "odd": "O"}
        return words.get(written.lower(), written.upper()) if isinstance(written, str) else written

    def over(self, settings: SerialSettings) -> SerialSettings:
        """Return settings with what is written here in their place."""
        return replace(settings, **self.model_dump(exclude_none=True))


class OnTrouble(BaseModel):
    """What a run does about an instrument that fails it.

    Attributes:
        retries: How often it is tried to reach it again before anything else happens.
        then: Whether the run waits for it, with the cell at open circuit, or ends.
        patience: How long it waits, from the first failure on; `PATIENCE` if nothing is said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    retries: int = Field(3, ge=0, le=20)
    then: Literal["wait", "abort"] = "wait"
    patience: str | None = None

    @field_validator("patience")
    @classmethod
    def _time(cls, written: str | None) -> str | None:
        if written is not None and parse(written, "time") <= 0:
            raise ValueError("must be longer than no time")
        return written

    @model_validator(mode="after")
    def _waits(self) -> Self:
        if self.then == "abort" and self.patience is not None:
            raise ValueError('has a patience, and "then: abort" waits for nothing')
        return self

    @property
    def patience_s(self) -> float:
        """How long the run waits."""
        return parse(self.patience or PATIENCE, "time")


class InstrumentEntry(BaseModel):
    """One instrument of a bench file; keys that are not known here are the driver's own options.

    Its port is ``none`` where a person works it, ``library`` where the vendor's library is its
    connection, ``simulated`` where the simulated bench plays it.
    """

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    driver: str
    port: str
    serial: SerialEntry | None = None
    on_trouble: OnTrouble | None = Field(None, alias="on trouble")

    def serial_settings(self, usual: SerialSettings | None) -> SerialSettings | None:
        """Return the settings of its serial port: the driver's, with what is written here.

        Raises:
            InputError: Settings are written, but the instrument has no serial port.
        """
        if self.serial is None:
            return usual
        if usual is None:
            raise InputError(f'"serial:" is written, but {self.driver} has no serial port')
        return self.serial.over(usual)

    @property
    def is_simulated(self) -> bool:
        """Whether it is to be played by the simulated bench."""
        return self.port == SIMULATED

    @property
    def options(self) -> dict[str, Any]:
        """What the driver makes of."""
        return dict(self.model_extra or {})


class Guarding(BaseModel):
    """How the guard of a run on this bench is set.

    Attributes:
        silence: Of the run's process, after which it counts as lost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    silence: str = "10 s"


class BenchFile(BaseModel):
    """A bench as it is written down.

    Attributes:
        place: Where on a bench of many cells this is; empty for a bench of its own.
        wiring: By cell.
        cells: The places of a bench with many cells, by name.
        guard: How runs on it are guarded.
        speed: Seconds per second of a simulated bench that another process serves.
        accepts_unbounded: Instruments that may energise a cell although nothing of theirs ends that
            when the computer dies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    bench: str
    place: str = ""
    instruments: dict[str, InstrumentEntry]
    fixture: Fixture | None = None
    wiring: dict[str, Wiring] = Field(default_factory=dict, max_length=1)
    cells: dict[str, Place] = Field(default_factory=dict)
    guard: Guarding = Guarding()
    speed: float = Field(1.0, gt=0)
    accepts_unbounded: tuple[str, ...] = Field((), alias="accepts unbounded")

    @model_validator(mode="after")
    def _accepts_its_own(self) -> Self:
        for name in self.accepts_unbounded:
            if name not in self.instruments:
                raise ValueError(f'accepts "{name}" unbounded, which is none of its instruments')
        if self.wiring and self.cells:
            raise ValueError('"wiring" is for a bench with one cell; here each place says its own')
        return self

    @property
    def shared(self) -> frozenset[str]:
        """The instruments that several of its places have."""
        having = Counter(name for place in self.cells.values() for name in place.names)
        return frozenset(name for name, places in having.items() if places > 1)

    def of_place(self, place: str) -> BenchFile:
        """Return what a place has as a bench with one cell; "" is that of a bench with one.

        Raises:
            InputError: There is no such place, or none is named where there are many.
        """
        if not place and not self.cells:
            return self
        if place not in self.cells:
            known = ", ".join(self.cells) or "none, it has one cell"
            what = f'no place "{place}"' if place else "many places: name one with --cell"
            raise InputError(f"{self.bench} has {what}; there are: {known}")
        entry = self.cells[place]
        return self.model_copy(
            update={
                "place": place,
                "instruments": {
                    name: each for name, each in self.instruments.items() if name in entry.names
                },
                "fixture": entry.fixture or self.fixture,
                "wiring": {} if entry.wiring is None else {place: entry.wiring},
                "cells": {},
                "accepts_unbounded": tuple(
                    name for name in self.accepts_unbounded if name in entry.names
                ),
            }
        )

    def without(self, names: Collection[str]) -> BenchFile:
        """Return it without some of its instruments, which no wiring needs."""
        left = {name: each for name, each in self.instruments.items() if name not in names}
        return self.model_copy(update={"instruments": left})

    def text(self) -> str:
        """Return it as a file, which reads as this one."""
        written = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps(written, indent=2, ensure_ascii=False)

    @property
    def is_simulated(self) -> bool:
        """Whether the simulated bench plays it: all of it, or nothing.

        Raises:
            InputError: Some of its instruments are simulated and others are not.
        """
        played = [name for name, entry in self.instruments.items() if entry.is_simulated]
        real = [
            name
            for name, entry in self.instruments.items()
            if not entry.is_simulated and entry.port != NO_PORT
        ]
        if played and real:
            raise InputError(
                f"{self.bench}: {', '.join(played)} simulated, but {', '.join(real)} not: a cell "
                "is on one bench, the simulated or the real one"
            )
        return bool(played)

    def clock(self, speed: float | None = None) -> dict[str, Any]:
        """How time passes on it, for `cellbench.clock.run`.

        Args:
            speed: Of the simulated bench in this process; one that is served says its own.
        """
        return {"virtual": True, "speed": speed} if self.is_simulated else at_speed(self.speed)


#: Opens the connection to an instrument of a bench file.
OpenStream = Callable[[str, InstrumentEntry, Driver], Awaitable[Stream]]


class Stake(Protocol):
    """What one run is lent of the instruments that several share.

    Attributes:
        waits: Told what the run has to wait for, and when it has got it with None.
    """

    waits: Callable[[Any], None]

    @property
    def names(self) -> Collection[str]:
        """The names of those instruments."""

    @property
    def wait(self) -> object | None:
        """What the run waits for now."""

    async def lend(
        self, name: str, entry: InstrumentEntry, driver: Driver, open_stream: OpenStream
    ) -> tuple[Instrument, Identity]:
        """Return a shared instrument as this run sees it; arguments and errors as `connected`."""

    def changeover(self, channel: WiredChannel) -> Changeover:
        """Return how a cell gets to a shared instrument, in place of its own changeover."""

    async def admitted(self) -> None:
        """Wait until the run has what it needs for its whole length."""

    async def leave(self) -> None:
        """Give back all that it has."""


@dataclass
class Bench:
    """The instruments of a bench by role; None where there is none.

    Attributes:
        place: Where on a bench of many cells this is.
        stake: In the instruments that several runs share, None where there are none.
        streams: The connections by instrument, of those that have one of their own.
        on_trouble: What is to be done about an instrument that fails, by its name.
    """

    name: str
    simulated: bool
    place: str = ""
    stake: Stake | None = None
    channel: Channel | None = None
    press: Press | None = None
    gauge: Gauge | None = None
    chamber: Chamber | None = None
    operator: Operator | None = None
    switch: Switching | None = None
    fixture: Fixture | None = None
    identities: dict[str, Identity] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    on_trouble: dict[str, OnTrouble] = field(default_factory=dict)
    accepts_unbounded: frozenset[str] = frozenset()
    ownership: Ownership | None = None

    def channels(self) -> list[Channel]:
        """All that can energise the cell: one, or those that it is wired to."""
        if isinstance(self.channel, WiredChannel):
            return list(self.channel.instruments)
        return [] if self.channel is None else [self.channel]

    def instruments(self) -> list[Instrument]:
        """All instruments but the switch, the channels first: they energise the cell."""
        others: list[Instrument | None] = [self.press, self.gauge, self.chamber]
        return [*self.channels(), *(each for each in others if each is not None)]


class SimulatedBench(Protocol):
    """A bench without hardware, found by entry point (group ``cellbench.benches``)."""

    operator: Operator

    @staticmethod
    def cells() -> Sequence[str]:
        """Return the names of the cells that can be on it."""

    @staticmethod
    def cell_text(name: str) -> str:
        """Return what one of them is made of, every value with its source.

        Raises:
            InputError: There is no such cell.
        """

    @staticmethod
    def benches() -> Mapping[str, str]:
        """Return the text of the bench files that ship with it, by name."""

    def attended(self, person: Operator | None, place: str = "") -> Operator:
        """Return an operator who asks a person, and then does on this bench what was asked.

        Args:
            person: Who answers; None for the simulated operator.
            place: Where they work on a bench with many places.
        """

    def description(self, addresses: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """Return what a bench file would say, with the addresses where it is served."""

    def connect(self, name: str) -> Stream:
        """Return a new connection to the emulator of an instrument."""

    def serve(
        self, base_port: int, *, ptys: bool
    ) -> AbstractAsyncContextManager[Mapping[str, Sequence[str]]]:
        """Serve the emulators to programs on this machine, while on; addresses by instrument.

        Args:
            base_port: TCP port of the first instrument, the others follow; 0 for free ones.
            ptys: Whether to open pseudo-terminals too (POSIX).
        """

    async def __aenter__(self) -> Self:
        """Start the emulators on the running loop."""

    async def __aexit__(self, *exc: object) -> None:
        """Stop them."""


def simulated_bench(
    cell: str,
    seed: int,
    fixture: str = DEFAULT_FIXTURE,
    instruments: Mapping[str, Mapping[str, Any]] | None = None,
    wiring: Mapping[str, Mapping[str, str]] | None = None,
    cells: Mapping[str, Mapping[str, Any]] | None = None,
) -> SimulatedBench:
    """Build the simulated bench around a simulated cell in a fixture.

    Args:
        cell: Name of the simulated cell.
        seed: Of everything random.
        fixture: What holds the stack.
        instruments: Entries of a bench file, by name; the usual four if there are none.
        wiring: Of the cell to several of them, as in a bench file.
        cells: The places of a bench with many cells, as in a bench file, each with the name of
            the simulated ``cell`` that is there.

    Raises:
        InputError: No simulated bench is installed, or it has no such cell, fixture or instrument.
    """
    bench: SimulatedBench = _simulator()(
        cell=cell,
        seed=seed,
        fixture=fixture,
        instruments=instruments,
        wiring=wiring,
        cells=cells,
    )
    return bench


def simulated_benches() -> Mapping[str, str]:
    """Texts of the bench files that ship with the simulated bench, by name."""
    texts: Mapping[str, str] = _simulator().benches()
    return texts


def simulated_cells() -> list[str]:
    """Names of the cells that can be on the simulated bench. Raises like `simulated_bench`."""
    return sorted(_simulator().cells())


def simulated_cell_text(name: str) -> str:
    """What a simulated cell is made of; see `SimulatedBench.cell_text`."""
    text: str = _simulator().cell_text(name)
    return text


def _simulator() -> Any:
    for point in entry_points(group="cellbench.benches", name="simulated"):
        return point.load()
    raise InputError("the simulated bench is not installed: reinstall cellbench")


def parse_bench(node: SourceNode, beside: Path | None = None) -> BenchFile:
    """Validate what a bench file holds.

    Args:
        node: The file.
        beside: Its directory, where driver files are looked for.

    Raises:
        ProtocolError: It does not describe a bench; the problems tell where.
        InputError: It has places, and instruments of an unknown driver.
    """
    file = validate(BenchFile, node)
    if file.cells:
        roles = {
            name: load_driver(entry.driver, beside).role for name, entry in file.instruments.items()
        }
        if problems := list(wrong_places(file.cells, roles, node)):
            raise ProtocolError(problems)
    return file


def declared(file: BenchFile, *, simulated: bool, beside: Path | None = None) -> Bench:
    """Return a bench as its file declares it, to plan with: nothing is connected.

    Raises:
        InputError: A driver or one of its options is unknown, two instruments play one role, or
            the wiring is not possible.
    """
    bench = Bench(
        file.bench,
        simulated,
        place=file.place,
        fixture=file.fixture,
        accepts_unbounded=frozenset(file.accepts_unbounded),
    )
    players = []
    for name, entry in file.instruments.items():
        driver = load_driver(entry.driver, beside)
        nowhere, _ = pipe()
        players.append((driver.role, driver(name, nowhere, entry.options)))
    _cast(bench, file, players)
    return bench


def _cast(bench: Bench, file: BenchFile, players: Sequence[tuple[str, Instrument]]) -> None:
    """Give instruments their roles, and wire those that share a cell."""
    by_name = {instrument.name: instrument for _, instrument in players}
    for cell, wiring in file.wiring.items():
        _wire(bench, f"{bench.name}, wiring of {cell}", cell, wiring, by_name)
    shared = {name for wiring in file.wiring.values() for name in wiring.names}
    for role, instrument in players:
        if role in {"channel", "switch"} and instrument.name in shared:
            continue
        if role == "switch":
            raise InputError(f"{bench.name}: no wiring says what goes through {instrument.name}")
        if getattr(bench, role) is not None:
            cure = '; name both under "wiring" if they share a cell' if role == "channel" else ""
            raise InputError(
                f"{bench.name}: {instrument.name} is a second {role}; a bench has one of each{cure}"
            )
        setattr(bench, role, instrument)


def _wire(
    bench: Bench, place: str, cell: str, wiring: Wiring, instruments: Mapping[str, Instrument]
) -> None:
    """Make one channel of those that a cell is wired to."""

    def named(name: str) -> Instrument:
        if name not in instruments:
            raise InputError(f'{place}: there is no "{name}"; there are: {", ".join(instruments)}')
        return instruments[name]

    channels = []
    for name in (wiring.cycling, wiring.impedance):
        channel = named(name)
        if not isinstance(channel, Channel):
            raise InputError(f"{place}: {name} is no potentiostat and no cycler")
        channels.append(channel)
    cycling, impedance = channels
    if cycling is impedance:
        raise InputError(f"{place}: {cycling.name} does both, which needs no wiring")
    changeover: Changeover
    if wiring.changeover == BY_OPERATOR:
        changeover = ByOperator(bench.operator, parse(wiring.patience, "time"))
    else:
        switch = named(wiring.changeover)
        if not isinstance(switch, Switch):
            raise InputError(f"{place}: {wiring.changeover} is no switch (nor {BY_OPERATOR})")
        changeover = ThroughSwitch(switch, (cycling.name, impedance.name), cell)
    bench.channel = WiredChannel(cell, cycling, impedance, changeover)
    if bench.stake is not None:
        changeover = bench.channel.changeover = bench.stake.changeover(bench.channel)
    bench.switch = changeover if isinstance(changeover, Switching) else None


async def opened(
    name: str, entry: InstrumentEntry, driver: Driver, open_stream: OpenStream
) -> Stream:
    """Open the connection to an instrument; raises InstrumentError in its name."""
    if entry.port == NO_PORT:
        return pipe()[0]
    try:
        return await open_stream(name, entry, driver)
    except InstrumentError as error:  # it knows the address, and we the instrument
        raise InstrumentError(name, str(error)) from error


@asynccontextmanager
async def connected(
    file: BenchFile,
    open_stream: OpenStream,
    *,
    simulated: bool,
    operator: Operator | None = None,
    beside: Path | None = None,
    stake: Stake | None = None,
) -> AsyncIterator[Bench]:
    """Open and identify every instrument; close them all at the end.

    Args:
        file: The bench file.
        open_stream: Opens the connection to an instrument.
        simulated: Whether the simulated bench plays it.
        operator: Who is asked, where a person works an instrument.
        beside: Directory of the bench file.
        stake: In the instruments that are not this run's alone.

    Raises:
        InstrumentError: One cannot be reached or is not what the file says.
        InputError: Two instruments play one role, or the wiring is not possible.
    """
    bench = Bench(
        file.bench,
        simulated,
        place=file.place,
        stake=stake,
        fixture=file.fixture,
        operator=operator,
        accepts_unbounded=frozenset(file.accepts_unbounded),
    )
    players = []
    async with AsyncExitStack() as stack:
        for name, entry in file.instruments.items():
            driver = load_driver(entry.driver, beside)
            bench.on_trouble[name] = entry.on_trouble or OnTrouble()
            if stake is not None and name in stake.names:
                lent, bench.identities[name] = await stake.lend(name, entry, driver, open_stream)
                stack.push_async_callback(lent.close)
                players.append((driver.role, lent))
                continue
            stream = await opened(name, entry, driver, open_stream)
            if entry.port not in {NO_PORT, LIBRARY}:
                bench.streams[name] = stream
            instrument = driver(name, stream, entry.options)
            stack.push_async_callback(instrument.close)
            if isinstance(instrument, ByHand):
                instrument.operator = operator
            bench.identities[name] = await instrument.connect()
            players.append((driver.role, instrument))
        _cast(bench, file, players)
        if isinstance(bench.channel, WiredChannel):
            bench.channel.changeover.require()
        for instrument in bench.instruments():
            if isinstance(instrument, ByHand):
                instrument.gauge = bench.gauge
        yield bench
