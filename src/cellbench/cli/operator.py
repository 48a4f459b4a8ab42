"""The person at the terminal, as an instrument: asked, and waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cellbench.clock import unseen


class ConsoleOperator:
    """Asks on the console; while a person thinks, virtual time stands still.

    Attributes:
        live: The live view, taken off the screen while a question stands.
    """

    def __init__(self, console: Console) -> None:
        self.live: Live | None = None
        self._console = console

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Show ``prompt`` and wait for the answer, one of ``choices`` where there are any."""
        if self.live is not None:
            self.live.stop()
        try:
            return await self._answer(prompt, choices)
        finally:
            if self.live is not None:
                self.live.start()

    async def _answer(self, prompt: str, choices: Sequence[str]) -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def take(text: str) -> None:
            if not answer.done():
                answer.set_result(text)

        def read() -> None:
            loop.call_soon_threadsafe(take, self._read(prompt, choices))

        # A daemon: if the run is ended meanwhile, nobody waits for the Enter key.
        threading.Thread(target=read, name="operator", daemon=True).start()
        return await unseen(answer, patient=True)

    def _read(self, prompt: str, choices: Sequence[str]) -> str:
        """Ask until the answer is one of the choices; no answer is anybody's default."""
        hint = f" [{'/'.join(choices)}]" if choices else " (press Enter when done)"
        while True:
            self._console.print(Text(prompt + hint, style="bold"), end=" ")
            text = self._console.input().strip()
            if not choices:
                return text or "done"
            if text in choices:
                return text
            self._console.print(Text(f'"{text}" is not an answer to this: {", ".join(choices)}'))
