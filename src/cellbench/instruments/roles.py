"""Roles: what a protocol may ask of a bench. A driver is how one instrument does it.

Each role is an interface of a handful of coroutines. ``connect`` identifies the instrument, reads
what it is doing and leaves nothing energised; ``quiet`` brings it to the state that is safe while
nobody watches and reads it back; ``close`` gives the connection up.

Every coroutine may raise `cellbench.errors.InstrumentError` (a refusal, nonsense on the wire) or
its subclass `cellbench.errors.InstrumentTimeout`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from cellbench.instruments.capabilities import (
    ChamberCapabilities,
    ChannelCapabilities,
    GaugeCapabilities,
    PressCapabilities,
    SwitchCapabilities,
)
from cellbench.instruments.readings import (
    Block,
    ChamberState,
    Ending,
    GaugeReading,
    Identity,
    Outcome,
    PressState,
)
from cellbench.instruments.techniques import ElectricalLimits, StepList, Technique


class Instrument(Protocol):
    """What every instrument has."""

    name: str

    async def connect(self) -> Identity:
        """Identify the instrument and take it over; energises nothing."""

    async def quiet(self) -> Outcome:
        """Bring it to its quiet state and read that back; works from any state."""

    async def close(self) -> None:
        """Give up the connection."""


class Running(Protocol):
    """A technique under way: iterate over its blocks to the end, then ask how it ended.

    Attributes:
        ending: How it ended, None while it runs.
        open_circuit_V: Voltage that was measured before the cell was closed; nan where it was not.
        started_s: Loop time at which it took hold of the cell, known with the first block; nan
            where the instrument does not tell.
    """

    ending: Ending | None
    open_circuit_V: float
    started_s: float

    def __aiter__(self) -> AsyncIterator[Block]:
        """Yield blocks as they arrive, until the instrument says that the technique is over."""


@runtime_checkable
class Channel(Instrument, Protocol):
    """A potentiostat or cycler channel.

    ``run`` starts a technique, with cut-offs and limits programmed into the instrument first. On
    leaving the context early the technique is aborted and the cell is at open circuit, read back.
    """

    @property
    def capabilities(self) -> ChannelCapabilities:
        """What it can do; for some instruments known in full once they are connected."""

    def run(
        self, technique: Technique, limits: ElectricalLimits
    ) -> AbstractAsyncContextManager[Running]:
        """Start ``technique``; the context manager owns it."""


@runtime_checkable
class Cycler(Channel, Protocol):
    """A channel that runs a list of techniques by itself, and goes on while its host is away.

    Blocks of a list have two more columns: ``step``, the position (from 0) in the expanded list,
    and ``row``, the instrument's own number of the row (from 1, without gaps), by which rows are
    fetched once and none is missed.
    """

    def can_list(self, technique: Technique) -> bool:
        """Whether it can do ``technique`` in a list, and end it by itself on all its cut-offs."""

    def run_list(
        self, steps: StepList, limits: ElectricalLimits, test: str
    ) -> AbstractAsyncContextManager[Running]:
        """Hand over ``steps`` as one program called ``test``, and start it."""

    def attach(
        self, steps: StepList, test: str, after_row: int
    ) -> AbstractAsyncContextManager[Running]:
        """Go on reading what was started as ``test``, from the row that follows ``after_row``.

        Whether it is still running or has ended meanwhile. Raises InstrumentError when the
        instrument does something else, `OtherTest` when it is idle and does not have that test.
        """


@runtime_checkable
class Switch(Instrument, Protocol):
    """A multiplexer: connects one instrument at a time to a cell. Quiet: everything open."""

    capabilities: SwitchCapabilities

    async def select(self, position: str) -> None:
        """Open what is closed, then close ``position`` (as the bench file names it), read back."""

    async def open_all(self) -> None:
        """Open every contact, read back."""


@runtime_checkable
class Press(Instrument, Protocol):
    """A force actuator with its own loop: it keeps a force until told otherwise.

    Its quiet state holds the force that was last measured; ``release`` takes the force away.
    """

    capabilities: PressCapabilities

    async def ramp_to(self, force_N: float, rate_N_per_s: float, force_max_N: float) -> None:
        """Approach a force and keep it; trip on the device above ``force_max_N``."""

    async def release(self, rate_N_per_s: float) -> None:
        """Ramp the force to zero and stay there."""

    async def read(self) -> PressState:
        """Look at it. Reading (or `heartbeat`) often enough also tells it that the host lives."""

    async def heartbeat(self) -> None:
        """Tell it that the host lives, where it wants to know."""


@runtime_checkable
class Gauge(Instrument, Protocol):
    """A force gauge in line with the stack."""

    capabilities: GaugeCapabilities

    async def read(self) -> GaugeReading:
        """Read the force."""

    async def tare(self) -> None:
        """Take the force of this moment for zero; asked for on an unloaded stack only."""


@runtime_checkable
class Chamber(Instrument, Protocol):
    """A temperature chamber or heater with its own loop. Its quiet state holds."""

    capabilities: ChamberCapabilities

    async def set_temperature(self, temperature_K: float) -> None:
        """Give it a set point."""

    async def read(self) -> ChamberState:
        """Look at it."""


@runtime_checkable
class Operator(Protocol):
    """A person who is asked to do something and confirms."""

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Show ``prompt`` and wait for the answer, one of ``choices`` where there are any."""


@runtime_checkable
class ByHand(Protocol):
    """An instrument that a person works: the bench tells it whom to ask, and what confirms.

    Attributes:
        operator: Who is asked; set before it is connected.
        gauge: The bench's gauge, None where there is none; set when all are connected.
        stack_area_m2: Area that turns force into stack pressure; set by the run.
    """

    operator: Operator | None
    gauge: Gauge | None
    stack_area_m2: float | None
