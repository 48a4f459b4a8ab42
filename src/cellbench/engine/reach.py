"""A bench whose instruments are connected one by one, when each is needed: some may not answer.

For whoever brings a bench to its safe state and is not the run that had it: each instrument is
reached, or not, independently of the others, and one that failed is connected anew the next time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Collection, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cellbench.bench import LIBRARY, NO_PORT, BenchFile, InstrumentEntry, SimulatedBench
from cellbench.engine.safe_state import QUIET_DEADLINE_S
from cellbench.engine.session import open_instrument, owned
from cellbench.errors import CellbenchError, InstrumentError
from cellbench.instruments.capabilities import PressCapabilities
from cellbench.instruments.readings import GaugeReading, Outcome, PressState
from cellbench.instruments.registry import Driver, load_driver
from cellbench.instruments.roles import ByHand, Gauge, Instrument, Operator, Press
from cellbench.transport import Stream, pipe
from cellbench.transport.ownership import Ownership


@dataclass(frozen=True)
class Site:
    """Where instruments are, and in whose name they are taken.

    Attributes:
        purpose: What for, told to whoever else wants one.
        beside: Directory of the bench file.
        yields: Whether they are given up when somebody asks for them.
        simulator: The simulated bench in this process, for a file whose instruments it plays.
        operator: Who works a press by hand.
    """

    file: BenchFile
    purpose: str
    beside: Path | None = None
    yields: bool = False
    simulator: SimulatedBench | None = None
    operator: Operator | None = None


class Reachable:
    """One instrument of a bench file, which is reached when it is needed.

    Attributes:
        instrument: It, while it is connected.
        by_hand: Whether a person works it: then there is nothing to be reached.
    """

    def __init__(self, name: str, entry: InstrumentEntry, driver: Driver, site: Site) -> None:
        self.name, self.role = name, driver.role
        self.by_hand = entry.port == NO_PORT
        self.instrument: Instrument | None = None
        self._entry, self._driver, self._site = entry, driver, site
        self._stream: Stream | None = None
        self._ownership: Ownership | None = None
        self._lock, self._use = asyncio.Lock(), asyncio.Lock()

    async def reach(self) -> Instrument:
        """Take it into possession, connect to it, and see what it does.

        Raises:
            InstrumentError: Somebody else has it, or it does not answer.
            CellbenchError: It cannot be reached as the bench file says.
        """
        async with self._lock:
            if self.instrument is None:
                await self._connect()
        assert self.instrument is not None  # noqa: S101 (it is connected, or that has raised)
        return self.instrument

    async def _connect(self) -> None:
        site, entry = self._site, self._entry
        if self._ownership is None:
            self._ownership = owned(
                site.file, site.purpose, only=self.name, beside=site.beside, yields=site.yields
            )
        if self.by_hand:
            stream: Stream = pipe()[0]
        else:
            stream = await open_instrument(self.name, entry, self._driver, site.simulator)
        self._stream = stream
        try:
            instrument = self._driver(self.name, stream, entry.options)
            if isinstance(instrument, ByHand):
                # Without a person it is left as it is, and only looked at.
                instrument.operator = site.operator
            else:
                await instrument.connect()
        except BaseException:
            await stream.close()
            raise
        self.instrument = instrument

    async def quiet(self) -> Outcome:
        """Reach it, bring it to quiet, and read that back; raises like `reach`."""
        async with self._use:  # one question at a time
            instrument = await self.reach()
            try:
                outcome = await instrument.quiet()
            except BaseException:
                await self.hang_up()
                raise
            if not outcome.confirmed:
                await self.hang_up()
        return outcome

    async def hang_up(self) -> None:
        """Drop the connection, whatever state it is in: the next one finds out anew."""
        instrument, self.instrument = self.instrument, None
        stream, self._stream = self._stream, None
        if instrument is not None and self._entry.port == LIBRARY:
            with contextlib.suppress(CellbenchError):
                await instrument.close()
        if stream is not None:
            await stream.close()

    async def give_up(self) -> None:
        """Leave the instrument as its driver does, and let others have it."""
        async with self._use:  # the guard of another run may be at it
            try:
                instrument, self.instrument = self.instrument, None
                if instrument is not None:
                    with contextlib.suppress(CellbenchError, TimeoutError):
                        async with asyncio.timeout(QUIET_DEADLINE_S):
                            await instrument.close()
                await self.hang_up()
            finally:
                ownership, self._ownership = self._ownership, None
                if ownership is not None:
                    ownership.release()


class ReachablePress(Reachable):
    """A press, whose force can be read and taken away.

    Attributes:
        gauge: What a press by hand is looked at with, None where there is none.
    """

    gauge: Gauge | None = None

    async def reach(self) -> Instrument:
        """As of any other; one that is worked by hand is shown the gauge."""
        instrument = await super().reach()
        if isinstance(instrument, ByHand):
            instrument.gauge = self.gauge
        return instrument

    @property
    def press(self) -> Press:
        """The press; raises InstrumentError while it is not reached."""
        if not isinstance(self.instrument, Press):
            raise InstrumentError(self.name, "is not connected")
        return self.instrument

    @property
    def capabilities(self) -> PressCapabilities:
        """What it can do; raises like `press`."""
        return self.press.capabilities

    async def release(self, rate_N_per_s: float) -> None:
        """Ramp the force to zero; raises like `press`."""
        await self.press.release(rate_N_per_s)

    async def read(self) -> PressState:
        """Look at it; raises like `press`."""
        return await self.press.read()


class ReachableGauge(Reachable):
    """A gauge, which a press by hand looks at too."""

    async def read(self) -> GaugeReading:
        """Read the force; raises like `reach`."""
        async with self._use:
            gauge = await self.reach()
            if not isinstance(gauge, Gauge):
                raise InstrumentError(self.name, "is no gauge")
            return await gauge.read()


def _reachable(name: str, entry: InstrumentEntry, site: Site) -> Reachable:
    driver = load_driver(entry.driver, site.beside)
    kinds = {"press": ReachablePress, "gauge": ReachableGauge}
    return kinds.get(driver.role, Reachable)(name, entry, driver, site)


class ReachableBench:
    """The instruments of a site, each by its role.

    Args:
        site: Where they are.
        known: Those that other benches of this process have too, by name; more come to them.
        shared: Which of its own are to be such.

    Raises:
        InputError: A driver or one of its options is unknown.
    """

    def __init__(
        self,
        site: Site,
        known: MutableMapping[str, Reachable] | None = None,
        shared: Collection[str] = (),
    ) -> None:
        self.name = site.file.bench
        self.press: ReachablePress | None = None
        self.switch: Reachable | None = None
        self._channels: list[Reachable] = []
        self._others: list[Reachable] = []
        known = {} if known is None else known
        for name, entry in site.file.instruments.items():
            found = known.get(name) or _reachable(name, entry, site)
            if name in shared:
                known[name] = found
            match found.role:
                case "press":
                    self.press = cast("ReachablePress", found)
                case "switch":
                    self.switch = found
                case "channel":
                    self._channels.append(found)
                case _:
                    self._others.append(found)
        if self.press is not None:
            gauges = [each for each in self._others if isinstance(each, ReachableGauge)]
            # All that a press by hand does with a gauge is to read it.
            self.press.gauge = cast("Gauge", gauges[0]) if gauges else None

    def channels(self) -> Sequence[Reachable]:
        """All that can energise the cell."""
        return self._channels

    def instruments(self) -> Sequence[Reachable]:
        """All instruments but the switch, the channels first."""
        return [*self._channels, *([] if self.press is None else [self.press]), *self._others]

    def all(self) -> Sequence[Reachable]:
        """All instruments."""
        return [*self.instruments(), *([] if self.switch is None else [self.switch])]

    async def give_up(self) -> None:
        """Leave all of them."""
        work: list[Awaitable[None]] = [each.give_up() for each in self.all()]
        await asyncio.gather(*work)
