"""The person at the terminal, as an instrument: asked, and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cellbench.clock import unseen


class ConsoleOperator:
    """Asks on the console; while a person thinks, virtual time stands still.

    A question may be withdrawn. The line that is being read for it then counts for the next one, or
    for nothing if none is open when it comes.

    Attributes:
        live: The live view, taken off the screen while a question stands.
    """

    def __init__(self, console: Console) -> None:
        self.live: Live | None = None
        self._console = console
        self._line: asyncio.Future[str] | None = None
        self._reading = False
        self._closed = False

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Show ``prompt`` and wait for the answer, one of ``choices`` where there are any."""
        if self.live is not None:
            self.live.stop()
        try:
            return await self._answer(prompt, choices)
        except asyncio.CancelledError:
            self._console.print("\n(no longer asked)", style="dim")
            raise
        finally:
            if self.live is not None:
                self.live.start()

    async def _answer(self, prompt: str, choices: Sequence[str]) -> str:
        """Ask until the answer is one of the choices; no answer is anybody's default."""
        hint = f" [{'/'.join(choices)}]" if choices else " (press Enter when done)"
        while True:
            self._console.print(Text(prompt + hint, style="bold"), end=" ")
            text = (await self._next_line()).strip()
            if not choices:
                return text or "done"
            if text in choices:
                return text
            self._console.print(Text(f'"{text}" is not an answer to this: {", ".join(choices)}'))

    async def _next_line(self) -> str:
        """Wait for a line; for ever once the input was closed (Ctrl-D): others may answer."""
        loop = asyncio.get_running_loop()
        self._line = loop.create_future()
        if self._closed:
            self._tell_closed()
        elif not self._reading:
            self._reading = True
            # A daemon: if the run is ended meanwhile, nobody waits for the Enter key.
            threading.Thread(target=self._read, args=(loop,), name="operator", daemon=True).start()
        try:
            return await unseen(self._line, patient=True)
        finally:
            self._line = None

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read one line, in a thread of its own: nothing can take back a read that has begun."""
        line: str | None = None
        with contextlib.suppress(EOFError):
            while line is None:
                with contextlib.suppress(UnicodeDecodeError):  # no text: nobody's answer
                    line = self._console.input()
        with contextlib.suppress(RuntimeError):  # the run, and its loop, ended meanwhile
            loop.call_soon_threadsafe(self._take, line)

    def _take(self, line: str | None) -> None:
        self._reading = False
        if line is None:
            self._closed = True
            self._tell_closed()
        elif self._line is not None and not self._line.done():
            self._line.set_result(line)

    def _tell_closed(self) -> None:
        self._console.print("(this terminal's input is closed: answer with cellbench answer)")
