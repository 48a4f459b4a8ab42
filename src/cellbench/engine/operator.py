"""The operator's part of a recording: prompts and answers, lines on a connection of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cellbench.instruments.roles import Operator
from cellbench.transport.recording import WireLog
from cellbench.transport.stream import Stream

#: What the wire log calls the operator: no name that a bench file gives.
OPERATOR = "(operator)"
#: An answer comes when it was recorded; this is for the loop, which wants a number.
_NEVER_S = 1e9


class RecordedOperator:
    """An operator whose prompts and answers go into the wire log."""

    def __init__(self, operator: Operator, wire: WireLog) -> None:
        self._operator = operator
        self._log = wire.connection(OPERATOR)

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Ask, and keep both sides."""
        self._log.sent(_line([prompt, *choices]))
        answer = await self._operator.ask(prompt, choices)
        self._log.received(_line(answer))
        return answer


class ReplayedOperator:
    """Gives the recorded answers, when they were given."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def ask(self, prompt: str, choices: Sequence[str] = ()) -> str:
        """Return the recorded answer."""
        await self._stream.write(_line([prompt, *choices]))
        answer: str = json.loads(await self._stream.read_until(b"\n", _NEVER_S))
        return answer


def _line(said: str | list[str]) -> bytes:
    return json.dumps(said).encode() + b"\n"
