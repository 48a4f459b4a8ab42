"""The bench: which instruments there are, which plays which role, and how they are reached.

A bench file (or the simulated bench's own description) names instruments with their drivers and
addresses; `connected` opens them, identifies them and hands over a `Bench` of roles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.capabilities import FixtureKind
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
)
from cellbench.protocol.source import SourceNode
from cellbench.protocol.validation import validate
from cellbench.transport import SerialSettings, Stream, pipe
from cellbench.transport.ownership import Ownership

#: What holds the stack where nothing is said: a small servo press.
DEFAULT_FIXTURE: FixtureKind = "servo"
ROLES = ("channel", "press", "gauge", "chamber")
#: The port of an instrument that a person works.
NO_PORT = "none"
#: The port of an instrument that the simulated bench plays.
SIMULATED = "simulated"


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


class InstrumentEntry(BaseModel):
    """One instrument of a bench file; keys that are not known here are the driver's own options.

    Its port is ``none`` where a person works it, ``simulated`` where the simulated bench plays it.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    driver: str
    port: str
    serial: SerialEntry | None = None

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


class Fixture(BaseModel):
    """What holds the stack."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    die: str
    kind: FixtureKind = DEFAULT_FIXTURE
    at_most: str = Field(alias="at most")


class BenchFile(BaseModel):
    """A bench as it is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bench: str
    instruments: dict[str, InstrumentEntry]
    fixture: Fixture | None = None

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


@dataclass
class Bench:
    """The instruments of a bench by role; None where there is none."""

    name: str
    simulated: bool
    channel: Channel | None = None
    press: Press | None = None
    gauge: Gauge | None = None
    chamber: Chamber | None = None
    operator: Operator | None = None
    fixture: Fixture | None = None
    identities: dict[str, Identity] = field(default_factory=dict)
    ownership: Ownership | None = None

    def instruments(self) -> list[Instrument]:
        """All instruments, the channel first: it is the one that energises the cell."""
        found: list[Instrument | None] = [self.channel, self.press, self.gauge, self.chamber]
        return [instrument for instrument in found if instrument is not None]


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
) -> SimulatedBench:
    """Build the simulated bench around a simulated cell in a fixture.

    Args:
        cell: Name of the simulated cell.
        seed: Of everything random.
        fixture: What holds the stack.
        instruments: Entries of a bench file, by name; the usual four if there are none.

    Raises:
        InputError: No simulated bench is installed, or it has no such cell, fixture or instrument.
    """
    bench: SimulatedBench = _simulator()(
        cell=cell, seed=seed, fixture=fixture, instruments=instruments
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


def parse_bench(node: SourceNode) -> BenchFile:
    """Validate what a bench file holds.

    Raises:
        ProtocolError: It does not describe a bench; the problems tell where.
    """
    return validate(BenchFile, node)


def declared(file: BenchFile, *, simulated: bool, beside: Path | None = None) -> Bench:
    """Return a bench as its file declares it, to plan with: nothing is connected.

    Raises:
        InputError: A driver or one of its options is unknown, or two instruments play one role.
    """
    bench = Bench(file.bench, simulated, fixture=file.fixture)
    for name, entry in file.instruments.items():
        driver = load_driver(entry.driver, beside)
        nowhere, _ = pipe()
        _cast(bench, driver.role, driver(name, nowhere, entry.options))
    return bench


def _cast(bench: Bench, role: str, instrument: Instrument) -> None:
    """Give an instrument its role."""
    if getattr(bench, role) is not None:
        raise InputError(
            f"{bench.name}: {instrument.name} is a second {role}; a bench has one of each"
        )
    setattr(bench, role, instrument)


@asynccontextmanager
async def connected(
    file: BenchFile,
    open_stream: Callable[[str, InstrumentEntry, Driver], Awaitable[Stream]],
    *,
    simulated: bool,
    operator: Operator | None = None,
    beside: Path | None = None,
) -> AsyncIterator[Bench]:
    """Open and identify every instrument; close them all at the end.

    Raises:
        InstrumentError: One cannot be reached or is not what the file says.
        InputError: Two instruments play one role.
    """
    bench = Bench(file.bench, simulated, fixture=file.fixture, operator=operator)
    async with AsyncExitStack() as stack:
        for name, entry in file.instruments.items():
            driver = load_driver(entry.driver, beside)
            try:
                stream = (
                    pipe()[0] if entry.port == NO_PORT else await open_stream(name, entry, driver)
                )
            except InstrumentError as error:  # it knows the address, and we the instrument
                raise InstrumentError(name, str(error)) from error
            instrument = driver(name, stream, entry.options)
            stack.push_async_callback(instrument.close)
            if isinstance(instrument, ByHand):
                instrument.operator = operator
            bench.identities[name] = await instrument.connect()
            _cast(bench, driver.role, instrument)
        for instrument in bench.instruments():
            if isinstance(instrument, ByHand):
                instrument.gauge = bench.gauge
        yield bench
