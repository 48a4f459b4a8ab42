"""Lending: the instruments that several runs share are connected once, and leased to one of them.

A run that needs one for its whole length (a press, a chamber) waits for it before anything is
energised. A potentiostat that takes spectra of many cells is leased for one spectrum, with the
switch that it is reached through.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cellbench.bench import (
    LIBRARY,
    NO_PORT,
    BenchFile,
    InstrumentEntry,
    OpenStream,
    opened,
)
from cellbench.engine.guard.handover import taking_over
from cellbench.engine.leases import Claim, Leases, Wait
from cellbench.engine.session import owned, places
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.changeover import Changeover, Switching, ThroughSwitch
from cellbench.instruments.lent import Lent, Shared, lent
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.registry import Driver, load_driver
from cellbench.instruments.roles import Channel, Instrument, Press, Switch
from cellbench.instruments.wired import WiredChannel
from cellbench.protocol.plan import Plan
from cellbench.protocol.program import EisStep, LaterStep, PressStep, Program, TemperatureStep
from cellbench.protocol.walk import Walk

#: How a chamber is wanted whose temperature a program leaves as it is.
_AS_IT_IS = "as it is"

#: A press that nobody has hears from its host so often within the time that it waits for one.
_FEEDS, _FEED_MAX_S = 4, 5.0

#: Told what a run waits for, and when it has got it with None.
Waits = Callable[[Wait | None], None]


@dataclass(frozen=True)
class Needs:
    """What a run needs of the instruments that others use too.

    Attributes:
        whole: For its whole length.
        unused: What it can do without, and leaves to others.
        lasts_s: How long the run takes at most, inf if nobody knows.
        spectrum_s: How long its longest spectrum takes, likewise.
    """

    whole: tuple[Claim, ...]
    unused: frozenset[str]
    lasts_s: float
    spectrum_s: float

    def with_all(self) -> Needs:
        """The same of a run that can do without none of it."""
        more = (Claim(name) for name in sorted(self.unused))
        return replace(self, whole=(*self.whole, *more), unused=frozenset())


def needs_of(
    program: Program, planned: Plan, file: BenchFile, shared: Collection[str], beside: Path | None
) -> Needs:
    """Find out what a run needs of what is shared.

    A press that the program does not press with, and the gauge with it, is left to others.

    Args:
        program: What is run.
        planned: Its plan.
        file: The bench file of its place.
        shared: The names of shared instruments.
        beside: Directory of the bench file.
    """
    steps = list(Walk(program, planning=True))
    roles = {
        name: load_driver(entry.driver, beside).role
        for name, entry in file.instruments.items()
        if name in shared
    }
    presses = any(isinstance(each, PressStep) for each in steps)
    on_stack = {name for name, role in roles.items() if role in {"press", "gauge"}}
    ovens = [name for name, role in roles.items() if role == "chamber"]
    temperatures_K = {each.temperature_K for each in steps if isinstance(each, TemperatureStep)}
    later = any(isinstance(each, LaterStep) and each.verb == "temperature" for each in steps)
    alike = "" if later or len(temperatures_K) > 1 else _told(temperatures_K)
    spectra = {each.path for each in steps if isinstance(each, EisStep)}
    lasting = [row.duration_max_s for row in planned.rows if row.path in spectra]
    whole = [Claim(name) for name in sorted(on_stack if presses else ())]
    return Needs(
        (*whole, *(Claim(name, alike) for name in sorted(ovens))),
        frozenset() if presses else frozenset(on_stack),
        math.inf if planned.duration_max_s is None else planned.duration_max_s,
        math.inf if None in lasting else max((each or 0.0 for each in lasting), default=0.0),
    )


def _told(temperatures_K: Collection[float]) -> str:
    return next((f"{each:.2f} K" for each in temperatures_K), _AS_IT_IS)


class Pool:
    """The shared instruments of a bench, each connected when it is first needed.

    Use it as an async context manager: at the end they are let go of; who had one has left it at
    open circuit.

    Args:
        file: The bench file.
        beside: Its directory.
    """

    def __init__(self, file: BenchFile, beside: Path | None) -> None:
        self.leases = Leases()
        self.names = frozenset(
            name for name in file.shared if file.instruments[name].port != NO_PORT
        )
        self._file, self._beside = file, beside
        self._shared: dict[str, Shared[Instrument]] = {}
        self._connecting = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Pool:
        self._feeding = asyncio.create_task(self._feed(), name="presses that nobody has")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        await self._stack.aclose()

    async def _feed(self) -> None:
        """Let a press hear that its host lives, lest it unloads a stack whose run has ended."""
        while True:
            waits_s = _FEED_MAX_S
            for shared in list(self._shared.values()):
                press = shared.instrument
                if isinstance(press, Press) and press.capabilities.heartbeat_s is not None:
                    waits_s = min(waits_s, press.capabilities.heartbeat_s / _FEEDS)
                    if not shared.users:
                        with suppress(InstrumentError):  # the next run that wants it finds out
                            await press.heartbeat()
            await asyncio.sleep(waits_s)

    async def get(
        self,
        name: str,
        entry: InstrumentEntry,
        driver: Driver,
        open_stream: OpenStream,
        take_over: str | None = None,
    ) -> Shared[Instrument]:
        """Return a shared instrument, which is taken and connected if it is not yet.

        Args:
            name: The instrument.
            entry: Its entry of the bench file.
            driver: Its driver.
            open_stream: Opens its connection.
            take_over: What for a guard that keeps it is to let go of it.

        Raises:
            InstrumentError: Another process has it, or it does not answer as it should.
        """
        async with self._connecting:
            if name not in self._shared:
                async with AsyncExitStack() as stack:
                    if take_over is not None:
                        where = places(self._file, self._beside, only=name)
                        await stack.enter_async_context(taking_over(where, take_over))
                    await self._connect(name, entry, driver, open_stream)
        return self._shared[name]

    async def _connect(
        self, name: str, entry: InstrumentEntry, driver: Driver, open_stream: OpenStream
    ) -> None:
        async with AsyncExitStack() as stack:
            purpose = f"the runs on {self._file.bench}"
            stack.enter_context(owned(self._file, purpose, only=name, beside=self._beside))
            stream = await opened(name, entry, driver, open_stream)
            instrument = driver(name, stream, entry.options)
            stack.push_async_callback(instrument.close)
            identity = await instrument.connect()
            if driver.role in {"channel", "switch"}:
                await _require_quiet(instrument)
            kept = None if entry.port == LIBRARY else stream
            self._shared[name] = Shared(instrument, kept, identity)
            self._stack.push_async_exit(stack.pop_all())


class LeasedStake:
    """What one run has of the shared instruments; see `cellbench.bench.Stake`.

    Args:
        pool: The instruments.
        who: The run's place.
        file: The bench file of the place.
        needs: What the run needs.
        take_over: See `Pool.get`.

    Attributes:
        names: Of the shared instruments that it may use.
        waits: Told when it has to wait for one, and when it has got it.
    """

    def __init__(
        self,
        pool: Pool,
        who: str,
        file: BenchFile,
        needs: Needs,
        *,
        take_over: str | None = None,
    ) -> None:
        self.names = frozenset(file.instruments) & pool.names
        self.waits: Waits = lambda _: None
        self._pool, self._who, self._needs, self._take_over = pool, who, needs, take_over
        self._lent: dict[str, Lent[Instrument]] = {}
        self._whole, self._spectrum = AsyncExitStack(), AsyncExitStack()

    @property
    def wait(self) -> Wait | None:
        """What the run waits for now."""
        return self._pool.leases.wait_of(self._who)

    async def lend(
        self, name: str, entry: InstrumentEntry, driver: Driver, open_stream: OpenStream
    ) -> tuple[Instrument, Identity]:
        """See `cellbench.bench.Stake`."""
        shared = await self._pool.get(name, entry, driver, open_stream, self._take_over)
        found = self._lent[name] = lent(driver.role, shared)
        return found, shared.identity

    def changeover(self, channel: WiredChannel) -> Changeover:
        """See `cellbench.bench.Stake`.

        Raises:
            InputError: A switch that several places share has no position for this one.
        """
        inner, impedance = channel.changeover, channel.impedance
        switch = inner.switch.name if isinstance(inner, Switching) else ""
        shared = [name for name in (impedance.name, switch) if name in self.names]
        if not shared:
            return inner
        if not isinstance(inner, ThroughSwitch):
            return LeasedChangeover(inner, impedance, self, shared)
        if switch in self.names and not inner.by_cell:
            raise InputError(
                f"{switch} is shared, and has no position {channel.name}: name the positions of a "
                "switch that several cells share like their places"
            )
        return LeasedSwitch(inner, impedance, self, shared)

    async def admitted(self) -> None:
        """See `cellbench.bench.Stake`."""
        await self._lease(self._whole, self._needs.whole, self._needs.lasts_s)

    async def take(self, names: Sequence[str]) -> None:
        """Have instruments for one spectrum."""
        await self._lease(self._spectrum, [Claim(each) for each in names], self._needs.spectrum_s)

    async def give_back(self) -> None:
        """Give back what was taken for a spectrum."""
        await self._spectrum.aclose()

    async def leave(self) -> None:
        """See `cellbench.bench.Stake`."""
        await self._spectrum.aclose()
        await self._whole.aclose()

    async def _lease(self, stack: AsyncExitStack, claims: Sequence[Claim], lasts_s: float) -> None:
        if not claims:
            return
        waited = False

        def waits(wait: Wait) -> None:
            nonlocal waited
            waited = True
            self.waits(wait)

        leases = self._pool.leases
        try:
            await stack.enter_async_context(leases.lease(self._who, claims, lasts_s, waits=waits))
        finally:
            if waited:
                self.waits(None)
        for claim in claims:
            if (instrument := self._lent.get(claim.what)) is not None:
                instrument.had(has_it=True)
                stack.callback(instrument.had, has_it=False)


class LeasedChangeover:
    """How a cell gets to an instrument that others wait for too: with a lease for each spectrum.

    See `cellbench.instruments.changeover.Changeover`.

    Args:
        inner: What does it.
        impedance: The instrument that is shared, or is reached through a shared switch.
        stake: Of the run.
        names: What is leased.
    """

    def __init__(
        self, inner: Changeover, impedance: Channel, stake: LeasedStake, names: Sequence[str]
    ) -> None:
        self.lock, self.means, self.duration_s = inner.lock, inner.means, inner.duration_s
        self.holder = ""
        self._inner, self._impedance, self._stake, self._names = inner, impedance, stake, names
        self._has = False

    def require(self) -> None:
        """See `Changeover`."""
        self._inner.require()

    def lends(self, instrument: str) -> bool:
        """See `Changeover`."""
        return instrument == self._impedance.name

    async def give(self, cell: str, instrument: str, previous: str) -> None:
        """See `Changeover`; waits until the instrument is free, which is at open circuit then."""
        if not self.lends(instrument):
            await self._give_away(cell, instrument, previous)
            return
        await self._stake.take(self._names)
        self._has = True
        await _require_quiet(self._impedance)
        await self._inner.give(cell, instrument, previous)

    async def _give_away(self, cell: str, instrument: str, previous: str) -> None:
        await self._inner.give(cell, instrument, previous)
        await self._give_back()

    async def open(self) -> Outcome | None:
        """See `Changeover`; what was leased is given back."""
        try:
            return await self._inner.open()
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        self._has = False
        await self._stake.give_back()


class LeasedSwitch(LeasedChangeover):
    """The same through a switch, whose contacts are left alone while the cell does not have it."""

    def __init__(
        self, inner: ThroughSwitch, impedance: Channel, stake: LeasedStake, names: Sequence[str]
    ) -> None:
        super().__init__(inner, impedance, stake, names)
        self.name, self.switch = inner.name, inner.switch
        self._is_shared = inner.by_cell and inner.name in stake.names

    async def _give_away(self, cell: str, instrument: str, previous: str) -> None:
        if self._has or not self._is_shared:
            await super()._give_away(cell, instrument, previous)

    async def open(self) -> Outcome | None:
        """See `Changeover`."""
        if self._has or not self._is_shared:
            return await super().open()
        return Outcome(self.name, "not in use by this run, left as it is", confirmed=True)

    async def quiet(self) -> Outcome:
        """Disconnect the cell from everything, read back."""
        self.holder = ""
        outcome = await self.open()
        assert outcome is not None  # noqa: S101 (a switch tells)
        return outcome


async def _require_quiet(instrument: Instrument | Switch) -> None:
    outcome = await instrument.quiet()
    if not outcome.confirmed:
        raise InstrumentError(
            instrument.name, f"is not confirmed at open circuit ({outcome.state}): no cell gets it"
        )
