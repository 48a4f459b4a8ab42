"""Instruments that speak lines of ASCII: one request at a time, and its reply.

After a failure nobody knows whose reply comes next. The line is then drained before it is used
again, and so it is when something has come that nobody asked for, so that a late or a second answer
is not taken for the next one. A connection that was lost is made
again by the exchange that follows, for a bounded time. Nothing is ever sent twice here: whether an
exchange that failed was carried out is for its driver to find out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cellbench.errors import InstrumentError
from cellbench.transport.reconnect import PATIENCE, Patience, stay_connected
from cellbench.transport.stream import Stream
from cellbench_drivers.common import wire

_STOP_S = 2.0
_LOOK_BYTES = 64


class Lines:
    """The line to one instrument.

    Args:
        name: The instrument, for errors.
        stream: Its connection.
        ends: What ends a request.
        replies_end: What ends a reply.
        timeout_s: How long a reply may take.
        silence_s: After a failure, how long the line must be silent to count as drained.
        resynchronise: What to say after draining, where draining is not enough; its exchanges are
            this line's own.
        patience: How long one tries to connect again.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        *,
        ends: str = "\n",
        replies_end: str = "\n",
        timeout_s: float = 1.0,
        silence_s: float = 0.1,
        resynchronise: Callable[[], Awaitable[None]] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self.lock = asyncio.Lock()
        self._name = name
        self._stream = stream
        self._ends = ends
        self._replies_end = replies_end.encode("ascii")
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._resynchronise = resynchronise
        self._patience = patience
        self._in_step = False
        self._resynchronising = False

    async def ask(self, request: str, timeout_s: float | None = None) -> str:
        """Return the reply to ``request``, without its ending; the caller holds `lock`.

        Raises:
            InstrumentError: The connection is gone and cannot be made again, or was lost while the
                reply was awaited, or the reply is not ASCII.
            InstrumentTimeout: There is no reply in time.
        """
        await self._into_step()
        self._in_step = False
        with wire(self._name):
            await self._stream.write((request + self._ends).encode("ascii"))
            reply = await self._stream.read_until(
                self._replies_end, self._timeout_s if timeout_s is None else timeout_s
            )
        self._in_step = True
        try:
            return reply.decode("ascii").strip()
        except UnicodeDecodeError as error:
            self._in_step = False
            raise InstrumentError(self._name, f"answers {reply!r}, which is no text") from error

    async def tell(self, request: str) -> None:
        """Send what has no reply; the caller holds `lock`. Raises like `ask`."""
        await self._into_step()
        with wire(self._name):
            await self._stream.write((request + self._ends).encode("ascii"))

    def _has_unasked(self) -> bool:
        """Whether more has come than was asked for; the rest of a line's ending is nothing."""
        left = self._stream.peek(_LOOK_BYTES)
        return bool(left.strip()) or self._replies_end in left

    def out_of_step(self) -> None:
        """Take note that a reply made no sense, so that the line is drained before its next use."""
        self._in_step = False

    async def close(self) -> None:
        """Give up the connection."""
        await self._stream.close()

    async def _into_step(self) -> None:
        in_step = self._in_step and not self._stream.lost and not self._has_unasked()
        if in_step or self._resynchronising:
            return
        self._in_step = False
        with wire(self._name):
            await stay_connected(self._stream, self._patience)
            await self._stream.drain(self._silence_s, _STOP_S)
        if self._resynchronise is not None:
            self._resynchronising = True
            try:
                await self._resynchronise()
            finally:
                self._resynchronising = False
        self._in_step = True
