"""SCPI switch systems: one position at a time, each a list of channels that are closed together.

Everything is opened, and read back as open, before anything is closed. Sources of the command sets:
Keithley 2700 (user's manual, chapter 2) and 3700A (reference manual, chapter 11: it speaks TSP, not
SCPI), Keysight 34970A (chapter 5: it can only open channels that are named) and 34980A; the
Keithley 7001 and the common form ``ROUT:CLOS``, ``ROUT:OPEN:ALL``, ``ROUT:CLOS?`` are recalled.
None has been tried on a unit yet.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cellbench.errors import InstrumentError
from cellbench.instruments.capabilities import SwitchCapabilities
from cellbench.instruments.readings import Identity, Outcome
from cellbench.transport import SerialSettings
from cellbench.transport.stream import Stream
from cellbench_drivers.common import Duration, Options, parse_options
from cellbench_drivers.scpi import Scpi

CommandSet = Literal["scpi", "keithley 2700", "keithley 7001", "keithley 3700", "keysight 34970"]


@dataclass(frozen=True, slots=True)
class _Commands:
    """How one family is told; ``{}`` is a list of channels, of all that are named for the last two.

    Attributes:
        models: What its identification must match.
        closed: The query for what is closed. Its reply is either a list of the closed channels, or
            a 1 (closed) or 0 for each that was asked for.
        tsp: Whether it speaks TSP.
    """

    models: str
    close: str
    open_all: str
    closed: str
    tsp: bool = False


_SETS: dict[CommandSet, _Commands] = {
    "scpi": _Commands(r".", "ROUT:CLOS (@{})", "ROUT:OPEN:ALL", "ROUT:CLOS? (@{})"),
    "keithley 2700": _Commands(
        r"27(00|01|50)", "ROUT:MULT:CLOS (@{})", "ROUT:OPEN:ALL", "ROUT:MULT:CLOS?"
    ),
    "keithley 7001": _Commands(r"700[12]", "ROUT:CLOS (@{})", "ROUT:OPEN ALL", "ROUT:CLOS? (@{})"),
    "keithley 3700": _Commands(
        r"37\d\d",
        'channel.close("{}")',
        'channel.open("allslots")',
        'print(channel.getclose("allslots"))',
        tsp=True,
    ),
    "keysight 34970": _Commands(
        r"3497[02]", "ROUT:CLOS (@{})", "ROUT:OPEN (@{})", "ROUT:CLOS? (@{})"
    ),
}
#: Slot and channel as the manuals write them: 101, 1!1, 1!2!3.
_CHANNEL = re.compile(r"\d+(!\d+)*")
_TSP_NO_ERRORS = 0.0
_QUIET_ATTEMPTS = 3


def _channels(value: object) -> object:
    """Read ``101,102`` or a list of channels, each once."""
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    channels = tuple(dict.fromkeys(str(item).replace(" ", "") for item in items))
    for channel in channels:
        if not _CHANNEL.fullmatch(channel):
            raise ValueError(f'"{channel}" is no channel: write 101 (or 1!1), no ranges')
    return channels


class ScpiSwitchOptions(Options):
    """Options in the bench file.

    Attributes:
        positions: The channels to close for each position, ``101,102``, by its name.
        commands: The command set.
        settle: Time for relays to open or close.
        timeout: How long a reply may take.
    """

    positions: dict[str, Annotated[tuple[str, ...], BeforeValidator(_channels)]] = Field(
        min_length=1
    )
    commands: CommandSet = "scpi"
    settle: Duration = Field(default=0.05, ge=0)
    timeout: Duration = Field(default=2.0, gt=0)


class ScpiSwitch:
    """A multiplexer between the instruments of a bench and a cell."""

    role: ClassVar[str] = "switch"
    summary: ClassVar[str] = "Switch systems: Keithley 2700, 7001, 3700, Keysight 34970A (SCPI)"
    serial: ClassVar[SerialSettings | None] = SerialSettings(9600)
    tcp_port: ClassVar[int | None] = 5025

    def __init__(self, name: str, stream: Stream, options: Mapping[str, Any]) -> None:
        self.name = name
        own = parse_options(name, ScpiSwitchOptions, options)
        self._positions = own.positions
        self._named = tuple(dict.fromkeys(each for one in own.positions.values() for each in one))
        self._commands = _SETS[own.commands]
        self._settle_s = own.settle
        self._scpi = Scpi(name, stream, replies_end="\n", timeout_s=own.timeout)
        self.capabilities = SwitchCapabilities(
            model=own.commands, positions=tuple(own.positions), switching_s=2 * own.settle
        )

    async def connect(self) -> Identity:
        """Identify it and look at what is closed; moves no relay, a cycler may be at work."""
        async with self._scpi.lock:
            answer = await self._scpi.ask("*IDN?")
            fields = [field.strip() for field in answer.split(",")]
            if len(fields) != 4 or not re.search(self._commands.models, fields[1]):
                wanted = self.capabilities.model
                raise InstrumentError(self.name, f'answers "{answer}", the bench says {wanted}')
            await self._complaints()
            closed = await self._closed()
        model = f"{fields[0].title()} {fields[1].upper().removeprefix('MODEL').strip()}"
        remarks = (
            f"found {self._described(closed)}",
            f"firmware {fields[3]} has never been tried with cellbench",
        )
        return Identity(model, fields[2], fields[3], remarks)

    async def select(self, position: str) -> None:
        """Open everything, then close a position; both are read back.

        Raises:
            InstrumentError: There is no such position, or the contacts are not as they were told;
                they are then opened, as far as the instrument obeys.
        """
        channels = self._positions.get(position)
        if channels is None:
            known = ", ".join(self._positions)
            raise InstrumentError(self.name, f'has no position "{position}", only {known}')
        async with self._scpi.lock, self._open_unless_done():
            await self._open_all()
            await self._tell(self._commands.close, channels)
            await self._require(channels)

    async def open_all(self) -> None:
        """Open every contact, and read back that they are."""
        async with self._scpi.lock:
            await self._open_all()

    async def quiet(self) -> Outcome:
        """Open every contact; says honestly when that could not be confirmed.

        Tried again after a failure: the answer to an exchange that was cancelled may come late.
        """
        for _ in range(_QUIET_ATTEMPTS):
            try:
                await self.open_all()
            except InstrumentError as error:
                outcome = Outcome(self.name, f"contacts unknown: {error}", confirmed=False)
            else:
                return Outcome(self.name, "all contacts open", confirmed=True)
        return outcome

    async def close(self) -> None:
        """Give up the connection."""
        await self._scpi.close()

    @asynccontextmanager
    async def _open_unless_done(self) -> AsyncIterator[None]:
        """Open everything if what is done inside fails or is cancelled half-way."""
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                await self._open_all()

    async def _open_all(self) -> None:
        await self._tell(self._commands.open_all, self._named)
        await self._require(())

    async def _tell(self, command: str, channels: Iterable[str]) -> None:
        await self._scpi.tell(command.format(",".join(channels)))
        await asyncio.sleep(self._settle_s)
        if complaints := await self._complaints():
            raise InstrumentError(self.name, f"refuses: {'; '.join(complaints)}")

    async def _complaints(self) -> list[str]:
        if not self._commands.tsp:
            return await self._scpi.complaints()
        if await self._scpi.number("print(errorqueue.count)") == _TSP_NO_ERRORS:
            return []
        text = await self._scpi.ask("print(errorqueue.next())")
        await self._scpi.tell("errorqueue.clear()")
        return [" ".join(text.split())]

    async def _require(self, channels: tuple[str, ...]) -> None:
        closed = await self._closed()
        if closed != set(channels):
            message = f"has {_listed(closed)} closed instead of {_listed(channels)}"
            raise InstrumentError(self.name, message)

    async def _closed(self) -> set[str]:
        query = self._commands.closed.format(",".join(self._named))
        answer = await self._scpi.ask(query)
        closed = _parsed(answer, self._named)
        if closed is None:
            self._scpi.out_of_step()
            raise InstrumentError(self.name, f'answers "{answer}" to {query}')
        return closed

    def _described(self, closed: set[str]) -> str:
        for position, channels in self._positions.items():
            if closed == set(channels):
                return f'at position "{position}"'
        return f"with {_listed(closed)} closed"


def _parsed(answer: str, asked: tuple[str, ...]) -> set[str] | None:
    """Return what an answer says is closed, None if it makes no sense."""
    text = answer.replace(" ", "")
    if text in {"(@)", "nil"}:
        return set()
    listed = text.startswith("(@") and text.endswith(")")
    items = re.split("[,;]", text[2:-1] if listed else text)
    if not listed and len(items) == len(asked) and set(items) <= {"0", "1"}:
        return {channel for channel, state in zip(asked, items, strict=True) if state == "1"}
    return set(items) if all(_CHANNEL.fullmatch(item) for item in items) else None


def _listed(channels: Iterable[str]) -> str:
    return ", ".join(sorted(channels)) or "nothing"
