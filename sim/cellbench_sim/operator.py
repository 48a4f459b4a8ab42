"""The simulated operator: reads what is asked, takes a while, and does it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

#: What a person in the room needs to notice a prompt and act on it.
REACTION_S = 60.0


class SimulatedOperator:
    """Answers every prompt with its first choice, in simulated time."""

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Return the answer to ``prompt`` after a while; one of ``choices`` where there are any."""
        await asyncio.sleep(REACTION_S)
        return choices[0] if choices else f"done: {prompt}"
