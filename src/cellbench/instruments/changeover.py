"""What moves a cell from one instrument to another: a multiplexer, or a person.

A changeover is shared by all who want the cell: its lock is held as long as somebody uses the cell,
so that nobody opens a contact under another's current.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.readings import Outcome
from cellbench.instruments.roles import Operator, Switch
from cellbench.quantities import format_quantity

#: Time for both instruments to show that they are at open circuit, beside that of the relays.
_QUIET_S = 2.0
#: What a person in the room takes to move leads; to see whether a plan leaves time for it.
_BY_HAND_S = 120.0
_DONE, _NOT_DONE = "done", "not done"


class Changeover(Protocol):
    """How a cell changes hands, and who has it.

    Attributes:
        lock: Held by whoever uses the cell.
        holder: The instrument that the cell is connected to; empty while that is none, or unknown.
        means: For people: ``by the operator``, ``through multiplexer``.
        duration_s: What one change takes, about.
    """

    lock: asyncio.Lock
    holder: str
    means: str
    duration_s: float

    def require(self) -> None:
        """Raise InstrumentError where it cannot work at all: a person is needed and not there."""

    async def give(self, cell: str, instrument: str, previous: str) -> None:
        """Connect the cell to ``instrument`` alone, confirmed.

        Both instruments are at open circuit. ``previous`` had the cell, empty if nobody knows.

        Raises:
            InstrumentError: It could not be done, or not be confirmed.
        """

    async def open(self) -> Outcome | None:
        """Disconnect the cell from everything, read back; None where nothing can do that."""

    def lends(self, instrument: str) -> bool:
        """Whether other cells wait for an instrument: it has the cell for one technique at most."""


@runtime_checkable
class Switching(Protocol):
    """A changeover that is an instrument of the bench itself: its quiet state is open."""

    name: str
    holder: str
    switch: Switch

    async def quiet(self) -> Outcome:
        """Disconnect the cell from everything, read back."""


class ThroughSwitch:
    """A multiplexer whose positions are named like the instruments, or like the cells.

    One whose positions are cells connects an instrument that many of them share; what cycles each
    is on it for good, and rests while the other has it.

    It is an instrument of the bench itself: its quiet state is open.

    Args:
        switch: The multiplexer.
        instruments: What the cell is wired to, what cycles it first.
        cell: As the bench file calls it.

    Attributes:
        by_cell: Whether its positions are cells.

    Raises:
        InputError: One of the instruments has no position.
    """

    def __init__(self, switch: Switch, instruments: Sequence[str], cell: str = "") -> None:
        self.lock = asyncio.Lock()
        self.holder = ""
        self.name = switch.name
        self.means = f"through {switch.name}"
        self.duration_s = switch.capabilities.switching_s + _QUIET_S
        self.switch = switch
        own = _position_of(switch, cell)
        self.by_cell = own is not None
        self._positions: dict[str, str | None]
        if self.by_cell:
            self._positions = dict(zip(instruments, (None, own), strict=True))
        else:
            self._positions = {each: _position(switch, each) for each in instruments}

    def require(self) -> None:
        """Nothing: it was identified."""

    async def give(self, cell: str, instrument: str, previous: str) -> None:
        """Open every contact, read back, then close those of ``instrument``; see `Changeover`."""
        del cell, previous  # it does the same for all
        await self.switch.open_all()
        if (position := self._positions[instrument]) is not None:
            await self.switch.select(position)

    async def open(self) -> Outcome:
        """Open every contact, read back."""
        return await self.quiet()

    async def quiet(self) -> Outcome:
        """Open every contact, read back."""
        self.holder = ""
        return await self.switch.quiet()

    def lends(self, instrument: str) -> bool:  # noqa: ARG002 (as of all changeovers)
        """Nothing: the cell is the only one."""
        return False


def _position_of(switch: Switch, name: str) -> str | None:
    """The position that bears a name, None if none does; options may write _ for a space."""
    positions = switch.capabilities.positions
    return next((each for each in positions if _plain(each) == _plain(name)), None)


def _position(switch: Switch, instrument: str) -> str:
    """The position that bears an instrument's name."""
    if (position := _position_of(switch, instrument)) is not None:
        return position
    known = ", ".join(switch.capabilities.positions)
    raise InputError(
        f'{switch.name} has no position "{instrument}", only {known}: the positions through which '
        "a cell is wired are named like the instruments"
    )


def _plain(name: str) -> str:
    return name.replace(" ", "_").lower()


class ByOperator:
    """A person who moves the leads when asked, and says so.

    Args:
        operator: Who is asked; None while a bench is only planned with.
        patience_s: How long that may take.
    """

    def __init__(self, operator: Operator | None, patience_s: float) -> None:
        self.lock = asyncio.Lock()
        self.holder = ""
        self.means = "by the operator"
        self.duration_s = _BY_HAND_S
        self._operator = operator
        self._patience_s = patience_s

    def require(self) -> None:
        """Raise InstrumentError if there is nobody to ask."""
        self._person()

    async def give(self, cell: str, instrument: str, previous: str) -> None:
        """Ask for the leads to be moved; see `Changeover`."""
        off = f"those of {previous}" if previous else "whatever is on it"
        prompt = (
            f"{cell} goes to {instrument}, everything is at open circuit. Take {off} off the cell, "
            f"then clip the leads of {instrument} to it, and confirm."
        )
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await self._person().ask(prompt, (_DONE, _NOT_DONE))
        except TimeoutError as error:
            patience = format_quantity(self._patience_s, "time")
            raise InstrumentError(
                "operator", f"has not confirmed in {patience}: {prompt}"
            ) from error
        if answer != _DONE:
            raise InstrumentError("operator", f'answers "{answer}" to: {prompt}')

    async def open(self) -> None:
        """Nothing opens leads but a person, who may be gone: both instruments are quiet."""

    def lends(self, instrument: str) -> bool:  # noqa: ARG002 (as of all changeovers)
        """Nothing: the cell is the only one."""
        return False

    def _person(self) -> Operator:
        if self._operator is None:
            raise InstrumentError(
                "operator", "moves the leads, and there is nobody to ask: run it from a terminal"
            )
        return self._operator
