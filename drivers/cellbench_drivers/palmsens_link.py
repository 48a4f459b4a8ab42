"""The communication protocol of the PalmSens MethodSCRIPT family: commands, scripts, abort.

Lines end in a line feed both ways. A reply echoes its command; ``!XXXX`` after the echo is an
error, after which the instrument is deaf for a moment. Sources: communication protocol EmStat4 1.3,
EmStat Pico 1.6 and Nexus; the vendor's public Python examples.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable

from cellbench.errors import CellbenchError, InstrumentError, InstrumentTimeout
from cellbench.transport.reconnect import stay_connected
from cellbench.transport.stream import Stream
from cellbench_drivers.common import wire
from cellbench_drivers.methodscript import error_meaning
from cellbench_drivers.palmsens_scripts import CELL_OFF

_REPLY_S = 2.0
#: Three times what an instrument is deaf for after an error: a busy loop can halve a pause.
_DEAF_S = 0.25
#: Silence after which a script that was aborted has said its last.
_SILENCE_S = 0.1
#: An abort that got no answer for so long is sent again; longer than the usual sample.
_DEAF_RETRY_S = 1.5
#: An abort that was answered is over after this many lines, or the line is not ours.
_LINES_MAX = 10_000
_ERROR = re.compile(r"[A-Za-z_]*!([0-9A-Fa-f]{4})(?:: Line (\d+))?")


class Link:
    """One MethodSCRIPT instrument on a stream; one caller at a time."""

    def __init__(self, name: str, stream: Stream) -> None:
        self.name = name
        self._wire = wire(name)
        self._stream = stream

    async def send(self, text: str) -> None:
        """Send text as it is."""
        with self._wire:
            await self._stream.write(text.encode("ascii"))

    async def line(self, timeout_s: float) -> str:
        """Return the next line without its line feed."""
        try:
            line = await self._stream.read_until(b"\n", timeout_s)
        except CellbenchError as error:
            raise self._wire.failed(error) from error
        return line[:-1].decode("ascii", "replace")

    async def command(self, text: str, terminator: bytes = b"\n") -> str:
        """Send one command; return its reply without echo and terminator.

        Raises:
            InstrumentError: It was refused, or something else came back.
        """
        await self.send(f"{text}\n")
        with self._wire:
            reply = await self._stream.read_until(b"\n", _REPLY_S)
            if b"!" not in reply and not reply.endswith(terminator):
                reply += await self._stream.read_until(terminator, _REPLY_S)
        answer = reply.decode("ascii", "replace")
        if not answer.startswith(text) or answer.startswith(f"{text}!"):
            raise await self.refusal(text, answer.strip())
        return answer[len(text) : -len(terminator)]

    async def start(self, script: str) -> None:
        """Load and run a script; returns once the instrument has accepted it.

        Raises:
            InstrumentError: It does not parse, or another script runs; this one does not.
        """
        await self.send(f"e\n{script}\n")
        answer = await self.line(_REPLY_S)
        if answer != "e":
            raise await self.refusal("e", answer, script)

    async def refusal(self, command: str, answer: str, script: str = "") -> InstrumentError:
        """Wait until the instrument listens again; return the error that tells of ``answer``."""
        matched = _ERROR.match(answer)
        if matched is None:
            return InstrumentError(self.name, f'answers "{answer}" to "{command}"')
        await asyncio.sleep(_DEAF_S)
        code, number = matched[1], int(matched[2] or 0)
        message = f'answers error {code} to "{command}": {error_meaning(code)}'
        lines = script.splitlines()
        if 1 <= number <= len(lines):
            message += f' (line {number} of the script, "{lines[number - 1].strip()}")'
        return InstrumentError(self.name, message)

    async def abort_and_sync(self, timeout_s: float) -> bool:
        """Bring the instrument to idle from any state; return whether a script was running.

        Args:
            timeout_s: How long the sample under way may still take.
        """
        with self._wire:
            await stay_connected(self._stream)
        answer = await self._abort(timeout_s)
        was_running = not answer.startswith("Z!")
        if was_running:
            await self._skip_to(lambda line: not line, timeout_s)
        with self._wire:
            await self._stream.drain(_SILENCE_S if was_running else _DEAF_S)
        return was_running

    async def _abort(self, timeout_s: float) -> str:
        """Send the abort; once more if it may have fallen on deaf ears, after an error reply."""
        if timeout_s > _DEAF_RETRY_S:
            await self.send("\nZ\n")
            with contextlib.suppress(InstrumentTimeout):
                return await self._skip_to(lambda line: line.startswith("Z"), _DEAF_RETRY_S)
        await self.send("\nZ\n")
        return await self._skip_to(lambda line: line.startswith("Z"), timeout_s)

    async def cell_off(self) -> None:
        """Open the cell by a script of its own, and see that it ends cleanly.

        Sent once more if it may have fallen on deaf ears, after an error reply.

        Raises:
            InstrumentError: It did not; the cell may be on.
        """
        try:
            await self.start(CELL_OFF)
        except InstrumentTimeout:
            await self.abort_and_sync(_DEAF_RETRY_S)
            await self.start(CELL_OFF)
        answer = await self.line(_REPLY_S)
        if answer:
            raise await self.refusal("cell_off", answer, CELL_OFF)

    async def _skip_to(self, wanted: Callable[[str], bool], timeout_s: float) -> str:
        for _ in range(_LINES_MAX):
            line = await self.line(timeout_s)
            if wanted(line):
                return line
        raise InstrumentError(self.name, "goes on sending after it was aborted")

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()
