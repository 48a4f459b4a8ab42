"""Talking to one instrument by hand, everything kept in a log with its time.

The instrument is identified first, where it can be, and brought to its quiet state at the end,
whatever it was told meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TextIO

from cellbench.engine.commissioning.installation import Installation
from cellbench.engine.safe_state import CHANNEL_DEADLINE_S, attempt, to_the_end
from cellbench.errors import CellbenchError, InputError, InstrumentError, TransportTimeout
from cellbench.instruments.readings import Outcome
from cellbench.instruments.roles import Cycler
from cellbench.transport import Stream

#: Of an instrument that talks without end, so much time's worth is shown at once.
_TALKS_ON_S = 5.0
ENDS = {"lf": b"\n", "cr": b"\r", "crlf": b"\r\n", "none": b""}


class Wording:
    """How bytes are written by a person: as text with an ending, or in hexadecimal.

    Args:
        ends: What ends a line of text, a key of `ENDS`.
        hexadecimal: Whether both ways are in hexadecimal; nothing is added then.
    """

    def __init__(self, ends: str, *, hexadecimal: bool) -> None:
        self._ends = ENDS[ends]
        self._hexadecimal = hexadecimal

    def sent(self, line: str) -> bytes:
        """Return the bytes that a line stands for.

        Raises:
            InputError: It stands for none.
        """
        try:
            if self._hexadecimal:
                return bytes.fromhex(line)
            return line.encode("latin-1") + self._ends
        except ValueError as error:
            example = "write bytes such as 02 4F FF" if self._hexadecimal else "write plain text"
            raise InputError(f'"{line}" cannot be sent: {example}') from error

    def received(self, data: bytes) -> str:
        """Return what is shown of an answer."""
        if self._hexadecimal:
            return data.hex(" ").upper()
        return "\n".join(readable(line) for line in data.decode("latin-1").splitlines())


def readable(text: str) -> str:
    """Text that cannot move a terminal's cursor."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


class _Log:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, mark: str, text: str) -> None:
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._file.write(f"{now} {mark} {text}\n")
        self._file.flush()

    def bytes(self, mark: str, data: bytes) -> None:
        self(mark, f"{data.hex(' ').upper()}  {readable(data.decode('latin-1'))}")


async def converse(
    installation: Installation,
    name: str,
    *,
    ask: Callable[[], Awaitable[str | None]],
    show: Callable[[str], None],
    log: TextIO,
    wording: Wording,
    wait_s: float,
) -> Outcome:
    """Send line after line to an instrument and show its answers, until there are no more lines.

    Args:
        installation: The bench.
        name: The instrument.
        ask: The next line; None ends it.
        show: Shows a line.
        log: Takes everything down, with times.
        wording: How bytes are written.
        wait_s: An answer is over when nothing has come for so long.

    Returns:
        What became of its quiet state.

    Raises:
        InstrumentError: It cannot be reached, a run has it, or it is busy with a test of its own.
        InputError: There is no such instrument, or it has no connection.
    """
    entry, kept = installation.entry(name), _Log(log)
    installation.require_wire(name)
    with installation.owned("bench console", only=name):
        async with installation.switched_on():
            kept("#", f"{name}: {entry.driver} at {entry.port}")
            await _identify(installation, name, show, kept)
            try:
                stream = await installation.stream(name)
                try:
                    await _talk(stream, ask, show, kept, wording, wait_s)
                finally:
                    await stream.close()
            finally:
                outcome = await to_the_end(_leave(installation, name), lambda _: None)
                confirmed = "confirmed" if outcome.confirmed else "NOT CONFIRMED"
                kept("#", f"{outcome.state}: {confirmed}")
                show(f"{name}: {outcome.state}: {confirmed}")
    return outcome


async def _identify(
    installation: Installation, name: str, show: Callable[[str], None], kept: _Log
) -> None:
    """Say who answers; that nobody does who can be understood is why one wants a console."""
    instrument = await installation.instrument(name)
    try:
        identity = await instrument.connect()
    except InstrumentError as error:
        text = f"not identified: {error}"
    else:
        if isinstance(instrument, Cycler) and identity.found_active:
            raise InstrumentError(name, "a test is under way: it would be ended here")
        text = " ".join(f"{identity.model} {identity.serial} {identity.firmware}".split())
    finally:
        await instrument.close()
    kept("#", text)
    show(text)


async def _talk(
    stream: Stream,
    ask: Callable[[], Awaitable[str | None]],
    show: Callable[[str], None],
    kept: _Log,
    wording: Wording,
    wait_s: float,
) -> None:
    while (line := await ask()) is not None:
        try:
            data = wording.sent(line)
        except InputError as error:
            show(str(error))
            continue
        kept.bytes(">", data)
        if data:
            await stream.write(data)
        answer = await _answer(stream, wait_s)
        if answer:
            kept.bytes("<", answer)
            show(wording.received(answer))


async def _answer(stream: Stream, wait_s: float) -> bytes:
    """Return what comes until the line is silent, or for as long as one cares to listen."""
    try:
        return await stream.drain(wait_s, _TALKS_ON_S)
    except TransportTimeout:
        return await stream.read_exactly(stream.unread, 1.0)


async def _leave(installation: Installation, name: str) -> Outcome:
    try:
        instrument = await installation.instrument(name)
    except CellbenchError as error:
        return Outcome(name, f"state unknown: {error}", confirmed=False)
    try:
        await instrument.connect()
        return await attempt(instrument, "quiet", instrument.quiet, CHANNEL_DEADLINE_S)
    except CellbenchError as error:
        return Outcome(name, f"state unknown: {error}", confirmed=False)
    finally:
        await instrument.close()
