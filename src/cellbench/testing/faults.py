"""A connection that fails on purpose, between a driver and whatever its stream leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

from cellbench.errors import TransportClosed
from cellbench.transport import Stream

_PATIENCE_S = 1e9
_CHUNK = 1 << 20


class Fault(Enum):
    """What happens to a connection."""

    SILENCE = "silence"  #: nothing gets through any more, either way
    GARBAGE = "garbage"  #: the bytes of a reply are others
    DISCONNECTION = "disconnection"  #: it is lost; it can be made again


class FaultyLine(Stream):
    """A stream around another one, which counts what is sent and fails when told to.

    Attributes:
        sent: Messages that were written so far.
        silent: Whether nothing gets through, either way.
        on_exchange: Called before each message that is sent.
    """

    def __init__(self, inner: Stream) -> None:
        super().__init__()
        self.sent = 0
        self.silent = False
        self.on_exchange: Callable[[], None] | None = None
        self._inner = inner
        self._due: tuple[int, Fault] | None = None
        self._garbling = False
        self._forwarding = asyncio.ensure_future(self._forward())

    def __getattr__(self, name: str) -> Any:
        """What the stream around which it is carries besides bytes: a vendor's library."""
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def break_at(self, message: int, fault: Fault) -> None:
        """Fail with the given message (counted from 1) and what answers it.

        Silence lasts until `heal`; the others happen once.
        """
        self._due = (message, fault)

    async def drop(self) -> None:
        """Lose the connection now, while nothing is being sent; it can be made again."""
        self._stop_forwarding()
        await self._inner._hang_up()  # noqa: SLF001 (a stream around a stream)
        self.fail(TransportClosed("the connection was lost, on purpose"))

    def heal(self) -> None:
        """Let everything through again."""
        self.silent = self._garbling = False
        self._due = None

    async def _send(self, data: bytes) -> None:
        if self.on_exchange is not None:
            self.on_exchange()
        self.sent += 1
        if self._due is not None and self.sent >= self._due[0]:
            fault = self._due[1]
            self._due = None
            if fault is Fault.DISCONNECTION:
                await self._lose(data)
            self.silent = self.silent or fault is Fault.SILENCE
            self._garbling = fault is Fault.GARBAGE
        if not self.silent:
            await self._inner.write(data)

    async def _lose(self, data: bytes) -> None:
        """Lose the connection once the message is out: the instrument may have acted on it."""
        self._stop_forwarding()
        await self._inner.write(data)
        await self._inner._hang_up()  # noqa: SLF001 (a stream around a stream)
        self.fail(TransportClosed("the connection was lost, on purpose"))
        raise TransportClosed("the connection was lost, on purpose")

    async def _forward(self) -> None:
        inner = self._inner
        try:
            while True:
                data = await inner.read_exactly(1, _PATIENCE_S)
                if rest := len(inner.peek(_CHUNK)):
                    data += await inner.read_exactly(rest, 1.0)
                self._arrived(data)
        except TransportClosed as error:
            self.fail(error)

    def _arrived(self, data: bytes) -> None:
        if self.silent:
            return
        if self._garbling:
            self._garbling = False
            # The last byte of a reply stays: it is often all that a reader waits for.
            last = data[-1:] if len(data) > 1 else b"?"
            data = bytes(byte ^ 0x15 for byte in data[:-1]) + last
        self.feed(data)

    def _stop_forwarding(self) -> None:
        self._forwarding.cancel()

    async def _hang_up(self) -> None:
        self._stop_forwarding()
        await asyncio.wait([self._forwarding])

    async def _open_anew(self) -> None:
        await self._inner.reopen()
        self._forwarding = asyncio.ensure_future(self._forward())

    async def close(self) -> None:
        """Close both."""
        self._stop_forwarding()
        await super().close()
        await self._inner.close()
