"""An instrument that follows a script: it expects bytes, in order, and answers with bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

import pytest

from cellbench.transport import Stream, pipe

Answer = bytes | Sequence[tuple[float, bytes]]


class ScriptedInstrument:
    """Expects each exchange's bytes and answers; leaving the context checks that all took place.

    An expectation that ends in an ellipsis (``b"e\\n..."``) is the beginning of a MethodSCRIPT, up
    to its empty line. An answer is bytes, or pairs of a delay in seconds and bytes.
    """

    def __init__(self, *exchanges: tuple[bytes, Answer]) -> None:
        self._exchanges = list(exchanges)
        self.heard: list[bytes] = []
        ours, self.end = pipe()
        self.stream: Stream = ours

    async def __aenter__(self) -> ScriptedInstrument:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._task.cancel()
            return
        await asyncio.wait_for(self._task, 60.0)
        assert not bytes(self.end._buffer), "more was sent than expected"

    async def _serve(self) -> None:
        for expected, answer in self._exchanges:
            await self._expect(expected)
            for delay_s, data in [(0.0, answer)] if isinstance(answer, bytes) else answer:
                await asyncio.sleep(delay_s)
                await self.end.write(data)

    async def _expect(self, expected: bytes) -> None:
        if expected.endswith(b"..."):
            heard = await self.end.read_until(b"\n\n", 1e6)
            assert heard.startswith(expected[:-3]), heard
        else:
            heard = await self.end.read_exactly(len(expected), 1e6)
            assert heard == expected
        self.heard.append(heard)


@pytest.fixture
def scripted() -> type[ScriptedInstrument]:
    return ScriptedInstrument
