"""An instrument that several runs share, as each of them sees it.

There is one connection, and one driver. A run that has the instrument uses it as its own; one that
has not leaves it alone: on the way to its safe state it must not stop what another one does.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar, cast

from cellbench.errors import InstrumentError, TransportClosed
from cellbench.instruments.capabilities import (
    ChamberCapabilities,
    ChannelCapabilities,
    GaugeCapabilities,
    PressCapabilities,
    SwitchCapabilities,
)
from cellbench.instruments.readings import (
    ChamberState,
    GaugeReading,
    Identity,
    Outcome,
    PressState,
)
from cellbench.instruments.roles import (
    Chamber,
    Channel,
    Gauge,
    Instrument,
    Press,
    Running,
    Switch,
)
from cellbench.instruments.techniques import ElectricalLimits, Technique
from cellbench.transport import Stream

I = TypeVar("I", bound=Instrument)  # noqa: E741 (the usual name)

#: A reading of a chamber serves all that ask within this time.
_FRESH_S = 0.5


class Shared(Generic[I]):
    """The one connection to an instrument.

    Args:
        instrument: It, connected.
        stream: Its connection, None where its library is.
        identity: As it was found.

    Attributes:
        users: Who of those that it is lent to has it now.
        lock: Held by whoever connects to it, or brings it to quiet.
        read, read_s: What a chamber was last read to be, and when; ``reading`` is held meanwhile.
    """

    def __init__(self, instrument: I, stream: Stream | None, identity: Identity) -> None:
        self.instrument, self.identity = instrument, identity
        self.users: set[Lent[I]] = set()
        self.lock, self.reading = asyncio.Lock(), asyncio.Lock()
        self.read: ChamberState | None = None
        self.read_s = 0.0
        self._stream = stream
        self._failed = False

    async def connect(self) -> Identity:
        """Find out anew what it is; a connection that is gone, or did not help, is made anew."""
        async with self.lock:
            stream = self._stream
            try:
                if stream is not None and (stream.lost or self._failed) and not stream.is_read:
                    await stream.reopen()
                self.identity = await self.instrument.connect()
            except (InstrumentError, TransportClosed):
                self._failed = True
                raise
            self._failed = False
        return self.identity


class Lent(Generic[I]):
    """What one run sees of it; the connection is not its own to be closed."""

    def __init__(self, shared: Shared[I]) -> None:
        self._shared = shared
        self.name = shared.instrument.name

    @property
    def instrument(self) -> I:
        """The instrument itself."""
        return self._shared.instrument

    def had(self, has_it: bool) -> None:
        """Take note whether the run has it from now on."""
        (self._shared.users.add if has_it else self._shared.users.discard)(self)

    async def connect(self) -> Identity:
        """Identify it; while another run alone has it, it is not asked."""
        others = self._shared.users - {self}
        if others and self not in self._shared.users:
            return self._shared.identity
        return await self._shared.connect()

    async def quiet(self) -> Outcome:
        """Bring it to quiet, if this run has it."""
        if self not in self._shared.users:
            return Outcome(self.name, "not in use by this run, left as it is", confirmed=True)
        async with self._shared.lock:
            return await self.instrument.quiet()

    async def close(self) -> None:
        """Leave it to the others."""
        self.had(has_it=False)


class LentChannel(Lent[Channel]):
    """A potentiostat that takes one cell after the other."""

    @property
    def capabilities(self) -> ChannelCapabilities:
        """See `Channel`."""
        return self.instrument.capabilities

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """See `Channel`; raises InstrumentError where the run does not have it."""
        if self not in self._shared.users:
            raise InstrumentError(self.name, "is another cell's at the moment")
        return self.instrument.run(technique, limits)


class LentSwitch(Lent[Switch]):
    """A multiplexer that connects one cell after the other."""

    @property
    def capabilities(self) -> SwitchCapabilities:
        """See `Switch`."""
        return self.instrument.capabilities

    async def select(self, position: str) -> None:
        """See `Switch`."""
        await self.instrument.select(position)

    async def open_all(self) -> None:
        """See `Switch`."""
        await self.instrument.open_all()


class LentPress(Lent[Press]):
    """A press that presses one stack after the other."""

    @property
    def capabilities(self) -> PressCapabilities:
        """See `Press`."""
        return self.instrument.capabilities

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """See `Press`."""
        await self.instrument.ramp_to(force_N, rate_N_per_s, force_max_N)

    async def release(self, rate_N_per_s: float) -> None:
        """See `Press`; a run that does not have it releases nothing."""
        if self in self._shared.users:
            await self.instrument.release(rate_N_per_s)

    async def read(self) -> PressState:
        """See `Press`."""
        return await self.instrument.read()

    async def heartbeat(self) -> None:
        """See `Press`."""
        await self.instrument.heartbeat()


class LentGauge(Lent[Gauge]):
    """A gauge that measures on one stack after the other."""

    @property
    def capabilities(self) -> GaugeCapabilities:
        """See `Gauge`."""
        return self.instrument.capabilities

    async def read(self) -> GaugeReading:
        """See `Gauge`."""
        return await self.instrument.read()

    async def tare(self) -> None:
        """See `Gauge`."""
        await self.instrument.tare()


class LentChamber(Lent[Chamber]):
    """A chamber in which several cells stand at one temperature."""

    _has_read = False

    @property
    def capabilities(self) -> ChamberCapabilities:
        """See `Chamber`."""
        return self.instrument.capabilities

    async def set_temperature(self, temperature_K: float) -> None:
        """See `Chamber`."""
        self._shared.read = None
        await self.instrument.set_temperature(temperature_K)

    async def read(self) -> ChamberState:
        """See `Chamber`; what another run has read a moment ago is not read again."""
        shared, now = self._shared, asyncio.get_running_loop().time
        async with shared.reading:
            # What was read before this run began is none of its readings.
            known, self._has_read = self._has_read, True
            if not known or shared.read is None or now() - shared.read_s > _FRESH_S:
                shared.read = await self.instrument.read()
                shared.read_s = now()
            return shared.read


_LENT: dict[str, type[Lent[Instrument]]] = {
    "channel": cast("type[Lent[Instrument]]", LentChannel),
    "switch": cast("type[Lent[Instrument]]", LentSwitch),
    "press": cast("type[Lent[Instrument]]", LentPress),
    "gauge": cast("type[Lent[Instrument]]", LentGauge),
    "chamber": cast("type[Lent[Instrument]]", LentChamber),
}


def lent(role: str, shared: Shared[Instrument]) -> Lent[Instrument]:
    """Return an instrument of a role as one run sees it."""
    return _LENT[role](shared)
