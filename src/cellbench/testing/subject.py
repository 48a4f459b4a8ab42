"""What is checked: a driver with its options, its instrument, and how the truth is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cellbench.errors import InstrumentError
from cellbench.instruments.techniques import ElectricalLimits
from cellbench.testing.checks import NonConformance, NotApplicable
from cellbench.testing.faults import FaultyLine
from cellbench.transport import Stream

T = TypeVar("T")


@dataclass
class Rig:
    """An instrument, and the truth about what it is wired to; None where nobody knows.

    Attributes:
        connect: Opens a new connection, which may be opened again after it was lost.
        energised: Whether the instrument drives the cell at this moment.
        impedance_ohm: Impedance of the cell at a frequency in hertz.
        force_N: The force on the stack.
        temperature_K: What the chamber's sensor should show.
        closed: The positions of a multiplexer that are connected.
        prepare: Called with each driver before it is connected, e.g. to give a press that is
            worked by hand its operator and its gauge.
    """

    connect: Callable[[], Awaitable[Stream]]
    energised: Callable[[], bool] | None = None
    impedance_ohm: Callable[[float], complex] | None = None
    force_N: Callable[[], float] | None = None
    temperature_K: Callable[[], float] | None = None
    closed: Callable[[], frozenset[str]] | None = None
    prepare: Callable[[Any], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Amounts:
    """How much a check may ask of what is connected, and how exact an answer has to be.

    The defaults suit `DummyCell`, and a press that takes part of its capacity.

    Attributes:
        rest_V: Voltage of the cell at the start.
        current_A: A current that moves its voltage by some millivolts in a second.
        change_V: How far its voltage may be driven from where it rests.
        duration_s: How long a technique takes.
        interval_s: Between two rows.
        frequencies_Hz: Highest and lowest of a spectrum.
        force_fraction: Largest force, as a fraction of the press's capacity.
        exactness: Deviation from the truth that is no fault, as a fraction.
        stride: Of all messages at which the line can fail, each so many-th is tried.
    """

    rest_V: float = 1.0
    current_A: float = 1e-3
    change_V: float = 0.3
    duration_s: float = 10.0
    interval_s: float = 0.5
    frequencies_Hz: tuple[float, float] = (1000.0, 10.0)
    force_fraction: float = 0.4
    exactness: float = 0.02
    stride: int = 1

    @property
    def limits(self) -> ElectricalLimits:
        """Limits that nothing reaches while all is well."""
        return ElectricalLimits(
            voltage_min_V=max(0.0, self.rest_V - 3 * self.change_V),
            voltage_max_V=self.rest_V + 3 * self.change_V,
            current_max_A=20 * abs(self.current_A),
        )


@dataclass
class Session:
    """A driver and its instrument for the time of one check."""

    subject: Subject
    rig: Rig
    line: FaultyLine
    driver: Any

    @property
    def amounts(self) -> Amounts:
        """What may be asked."""
        return self.subject.amounts

    def energised(self) -> bool:
        """Whether the cell is driven at this moment."""
        return _known(self.rig.energised, "whether the cell is energised")()

    def force_N(self) -> float:
        """The force on the stack."""
        return _known(self.rig.force_N, "the force on the stack")()

    def temperature_K(self) -> float:
        """The temperature in the chamber."""
        return _known(self.rig.temperature_K, "the temperature in the chamber")()

    def closed(self) -> frozenset[str]:
        """The positions that are connected."""
        return _known(self.rig.closed, "which positions are connected")()

    async def new_host(self, *, connected: bool = True) -> Session:
        """Another host on the same instrument, on a connection of its own."""
        return await self.subject.plug_in(self.rig, connected=connected)


def _known(truth: Callable[[], T] | None, what: str) -> Callable[[], T]:
    if truth is None:
        raise NotApplicable(f"nobody knows {what}")
    return truth


@dataclass(frozen=True)
class Subject:
    """A driver that is to be checked.

    Attributes:
        driver: Its class.
        options: Its options, as a bench file would give them.
        rig: Switches an instrument on, fresh for each check, until its context ends.
        amounts: What checks may ask of it.
        virtual: Whether time jumps to what is due next (emulators), or passes (instruments).
        name: What the instrument is called.
    """

    driver: Any
    options: Mapping[str, Any]
    rig: Callable[[], AbstractAsyncContextManager[Rig]]
    amounts: Amounts = field(default_factory=Amounts)
    virtual: bool = True
    name: str = "instrument"

    @property
    def role(self) -> str:
        """What the driver plays."""
        return str(self.driver.role)

    @asynccontextmanager
    async def session(self, *, connected: bool = True) -> AsyncIterator[Session]:
        """An instrument that is on, and a driver that has (or not yet) been connected to it."""
        async with self.rig() as rig:
            session = await self.plug_in(rig, connected=connected)
            try:
                yield session
            finally:
                session.line.heal()
                await self._close(session)

    async def plug_in(self, rig: Rig, *, connected: bool) -> Session:
        """A driver on a new connection to an instrument."""
        line = FaultyLine(await rig.connect())
        driver: Any = self.driver(self.name, line, self.options)
        if rig.prepare is not None:
            await rig.prepare(driver)
        if connected:
            await driver.connect()
        return Session(self, rig, line, driver)

    async def _close(self, session: Session) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await session.driver.close()
        except InstrumentError:
            # A connection that a check has broken for good has nobody to say goodbye to.
            await session.line.close()
        except TimeoutError as error:
            raise NonConformance(f"close takes more than {CLOSE_S:g} s") from error


#: No driver may take longer to give up its connection.
CLOSE_S = 60.0
