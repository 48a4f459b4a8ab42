"""An instrument for driver tests that answers lines as a function says, and keeps what it heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from cellbench.transport import Stream, pipe

#: Returns the reply to a line, without its ending; None for silence.
Answer = Callable[[str], str | None]


class LineInstrument:
    """Answers each line that ends in ``ends``; an async context manager that serves it."""

    def __init__(self, answer: Answer, *, ends: str = "\r\n", replies_end: str = "\r\n") -> None:
        self.answer = answer
        self.heard: list[str] = []
        self.times_s: list[float] = []
        self._ends, self._replies_end = ends.encode(), replies_end.encode()
        ours, self._end = pipe()
        self.stream: Stream = ours

    async def __aenter__(self) -> LineInstrument:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        (fault,) = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(fault, AssertionError):
            raise fault

    def commands(self, *beginnings: str) -> list[str]:
        """What was heard that begins so."""
        return [line for line in self.heard if line.startswith(beginnings)]

    async def _serve(self) -> None:
        while True:
            line = (await self._end.read_until(self._ends, 1e9))[: -len(self._ends)].decode()
            self.heard.append(line)
            self.times_s.append(asyncio.get_running_loop().time())
            reply = self.answer(line)
            if reply is not None:
                await self._end.write(reply.encode() + self._replies_end)
