"""The person at the terminal, as an instrument: asked, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.console import Console
from rich.prompt import Prompt


class ConsoleOperator:
    """Asks on the console; while a person thinks, virtual time stands still."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Show ``prompt`` and wait for the answer, one of ``choices`` where there are any."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._ask, prompt, list(choices))

    def _ask(self, prompt: str, choices: list[str]) -> str:
        return Prompt.ask(
            prompt,
            console=self._console,
            choices=choices or None,
            default="done" if not choices else choices[0],
        )
