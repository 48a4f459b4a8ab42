"""One cell wired to several instruments: a channel made of a cycler and a potentiostat.

Each technique goes to the instrument that it is meant for, or else to one that can do it. Where
that is another than before, the cell is handed over: both are brought to open circuit and read
back, the contacts are opened, then those of the next one are closed; everything is confirmed, and
entered in the journal, before anything is energised. A handover that fails or is interrupted
leaves the cell connected to nothing (by hand: to nothing that is on).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.instruments.changeover import Changeover
from cellbench.instruments.objections import objection
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Channel, Running
from cellbench.instruments.techniques import ElectricalLimits, Impedance, Rest, Technique

T = TypeVar("T")

#: How long it may take to open everything after a handover that failed.
_OPEN_DEADLINE_S = 15.0


class Enter(Protocol):
    """Where a handover is entered, durable when it returns: the journal of the run."""

    async def __call__(self, kind: str, *, text: str, **data: str) -> None:
        """Enter one fact."""


class WiredChannel:
    """Several instruments as one channel.

    Args:
        name: The cell that they are wired to, as the bench file calls it.
        cycling: Runs what it can of all but spectra.
        impedance: Takes spectra, and what the other cannot do.
        changeover: How the cell gets from one to the other.

    Attributes:
        enter: Where handovers are entered; set by the run.
        handover_s: Time that handovers have taken so far, in which the cell rested.
    """

    def __init__(
        self, name: str, cycling: Channel, impedance: Channel, changeover: Changeover
    ) -> None:
        self.name = name
        self.changeover = changeover
        self.enter: Enter | None = None
        self.handover_s = 0.0
        self._cycling = cycling
        self._impedance = impedance

    @property
    def impedance(self) -> Channel:
        """What takes spectra."""
        return self._impedance

    @property
    def instruments(self) -> Sequence[Channel]:
        """All instruments that the cell is wired to."""
        return self._cycling, self._impedance

    @property
    def capabilities(self) -> ChannelCapabilities:
        """What they can do together; for one technique ask `serving`."""
        cycling, spectra = self._cycling.capabilities, self._impedance.capabilities
        return replace(
            cycling,
            model=f"{cycling.model} and {spectra.model}",
            techniques=cycling.techniques | spectra.techniques,
            impedance=spectra.impedance or cycling.impedance,
            spectra_in_hold=False,
        )

    def serving(self, technique: Technique, holder: str | None = None) -> Channel:
        """Return the instrument that runs a technique.

        Whoever has the cell keeps it through a rest.

        Args:
            technique: What is to be run.
            holder: Who has the cell; by default who has it now.
        """
        holder = self.changeover.holder if holder is None else holder
        if isinstance(technique, Rest):
            for each in self.instruments:
                if each.name == holder and self._may_keep(each, technique):
                    return each
        spectrum = isinstance(technique, Impedance)
        meant, other = self.instruments[::-1] if spectrum else self.instruments
        able = not objection(technique, meant.capabilities)
        return meant if able or objection(technique, other.capabilities) else other

    def objections(self, technique: Technique) -> Mapping[str, str]:
        """Return why none of them can run a technique, by instrument; empty if one can."""
        found = {each.name: objection(technique, each.capabilities) for each in self.instruments}
        return found if all(found.values()) else {}

    async def take(self, technique: Technique) -> None:
        """Give the cell to the instrument for a technique, where it is not there already.

        Raises:
            InstrumentError: The handover failed or was not confirmed, and nothing was energised.
        """
        async with self.changeover.lock:
            # One that others wait for is not kept while nothing runs on it.
            if not self.changeover.lends(self.serving(technique).name):
                await self._taken(technique)

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """Run a technique on the instrument for it, which is handed the cell first.

        Raises:
            InstrumentError: The handover failed or was not confirmed, and nothing was energised;
                or the instrument failed.
        """
        return self._running(technique, limits)

    @asynccontextmanager
    async def _running(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AsyncIterator[Running]:
        async with self.changeover.lock:
            instrument = await self._taken(technique)
            try:
                async with instrument.run(technique, limits) as running:
                    yield running
            finally:
                if self.changeover.lends(instrument.name):
                    await _to_the_end(self._give_back(instrument))

    async def _give_back(self, instrument: Channel) -> None:
        """Take the cell off an instrument that others wait for.

        Raises:
            InstrumentError: That is not confirmed.
        """
        try:
            await _require_open(instrument)
        finally:
            outcome = await self._open()
            self.changeover.holder = ""
        if outcome is not None and not outcome.confirmed:
            raise InstrumentError(outcome.instrument, outcome.state)
        await self._tell(
            "handed back", f"{instrument.name} is off {self.name}", instrument.name, ""
        )

    async def _taken(self, technique: Technique) -> Channel:
        instrument = self.serving(technique)
        if self.changeover.holder != instrument.name:
            await self._hand_over(instrument.name)
        return instrument

    async def _hand_over(self, instrument: str) -> None:
        changeover, now = self.changeover, asyncio.get_running_loop().time
        previous, changeover.holder = changeover.holder, ""
        started_s = now()
        try:
            away = f" from {previous}" if previous else ""
            text = f"{self.name}{away} to {instrument}, {changeover.means}"
            await self._tell("handover", f"handover: {text}", previous, instrument)
            for each in self.instruments:
                await _require_open(each)
            await changeover.give(self.name, instrument, previous)
            text = f"{instrument} has {self.name}, confirmed"
            await self._tell("handed over", text, previous, instrument)
        except BaseException:
            await _to_the_end(self._open())
            raise
        finally:
            self.handover_s += now() - started_s
        changeover.holder = instrument

    async def _tell(self, kind: str, text: str, previous: str, instrument: str) -> None:
        if self.enter is not None:
            data = {"cell": self.name, "previous": previous, "instrument": instrument}
            await self.enter(kind, text=text, **data)

    async def _open(self) -> Outcome | None:
        """Disconnect the cell; whether that is confirmed shows again on the way to quiet."""
        try:
            async with asyncio.timeout(_OPEN_DEADLINE_S):
                return await self.changeover.open()
        except TimeoutError:
            return None

    async def connect(self) -> Identity:
        """Identify all of them; energises nothing, moves no lead."""
        found = [await each.connect() for each in self.instruments]
        return Identity(
            " and ".join(each.model for each in found),
            " and ".join(each.serial for each in found),
            " and ".join(each.firmware for each in found),
            tuple(remark for each in found for remark in each.remarks),
        )

    async def quiet(self) -> Outcome:
        """Bring all of them to open circuit, and then open the contacts; each read back."""
        outcomes: list[Outcome | None] = [await each.quiet() for each in self.instruments]
        told = [each for each in (*outcomes, await self._open()) if each is not None]
        text = "; ".join(f"{each.instrument}: {each.state}" for each in told)
        return Outcome(self.name, text, all(each.confirmed for each in told))

    async def close(self) -> None:
        """Give up the connections."""
        for each in self.instruments:
            await each.close()

    def _may_keep(self, holder: Channel, rest: Rest) -> bool:
        """Whether the cell can rest where it is, as safely as where it was meant to."""
        able, meant = holder.capabilities, self._cycling.capabilities
        safe = able.bounded_without_host or not meant.bounded_without_host
        return safe and not objection(rest, able)


def serving(channel: Channel, technique: Technique) -> Channel:
    """Return the instrument that runs a technique: the channel itself, or one of its parts."""
    return channel.serving(technique) if isinstance(channel, WiredChannel) else channel


async def take(channel: Channel | None, technique: Technique) -> None:
    """See that the instrument for a technique has the cell; raises like `WiredChannel.take`."""
    if isinstance(channel, WiredChannel):
        await channel.take(technique)


def handover_s(channel: Channel) -> float:
    """Return the time that the cell has rested in handovers so far."""
    return channel.handover_s if isinstance(channel, WiredChannel) else 0.0


async def _require_open(instrument: Channel) -> None:
    outcome = await instrument.quiet()
    if not outcome.confirmed:
        raise InstrumentError(
            instrument.name,
            f"is not confirmed at open circuit ({outcome.state}): the cell is not handed over",
        )


async def _to_the_end(work: Awaitable[T]) -> None:
    """Await ``work`` to its end, however often the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
