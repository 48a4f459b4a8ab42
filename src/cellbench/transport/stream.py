"""A byte stream to one instrument: the interface, and the buffer that every transport shares.

Drivers are written against `Stream` alone. Memory pipes, TCP, serial ports and VISA sessions only
differ in how bytes get in (`feed`) and out (`_send`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Protocol

from cellbench.errors import TransportClosed, TransportTimeout


class Tap(Protocol):
    """Who listens in on a stream: told of everything at once, may change nothing."""

    def sent(self, data: bytes) -> None:
        """Take note of bytes that are about to go out."""

    def written(self) -> None:
        """Take note that they have gone out."""

    def received(self, data: bytes) -> None:
        """Take note of bytes that came in."""

    def failed(self, why: str) -> None:
        """Take note that the connection is gone."""

    def closed(self) -> None:
        """Take note that the host has closed the connection."""

    def reopening(self) -> None:
        """Take note that the connection is about to be made anew."""

    def reopened(self, failure: TransportClosed | None) -> None:
        """Take note that it was, or why not."""


class ClosedForGood(TransportClosed):
    """The connection was closed on purpose, or is of a kind that cannot be opened again."""


class Stream(ABC):
    """A connection on which bytes travel both ways, in order.

    One task reads at a time. A read that times out takes nothing from the buffer, so that a late
    answer can be drained. Whoever holds a stream keeps it when the connection is lost: `reopen`
    makes it anew, in place.

    Attributes:
        tap: Who listens in, if anybody does.
        lost: Whether the connection is gone, as far as anybody has noticed.
    """

    def __init__(self) -> None:
        self.tap: Tap | None = None
        self.lost = False
        # Nearly always what comes is one message: as bytes it is taken as it came, uncopied.
        self._buffer = b""
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._given_up = False
        self._known_loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        """Time of the loop, which is looked for once: before Python 3.12 that asks the system."""
        self.now = asyncio.get_running_loop().time  # type: ignore[method-assign]
        return self.now()

    @property
    def is_read(self) -> bool:
        """Whether a task waits for bytes at this moment."""
        return self._waiter is not None

    @property
    def unread(self) -> int:
        """How many bytes have arrived that nobody has taken."""
        return len(self._buffer)

    async def write(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            TransportClosed: The connection is gone.
        """
        if self.lost:
            raise TransportClosed(str(self._failure))
        if self.tap is not None:
            self.tap.sent(data)
        try:
            # What is handed over at once, to an instrument in this process, spares a coroutine.
            if (sending := self._send(data)) is not None:
                await sending
        except TransportClosed as error:
            self.fail(error)
            raise
        if self.tap is not None:
            self.tap.written()

    async def read_until(self, terminator: bytes, timeout_s: float) -> bytes:
        """Return the bytes up to and including ``terminator``.

        Raises:
            TransportTimeout: It did not arrive within ``timeout_s``; nothing was taken.
            TransportClosed: The connection is gone.
        """
        while (at := self._buffer.find(terminator)) < 0:
            timeout_s = await self._more(timeout_s)
        return self._take(at + len(terminator))

    async def read_exactly(self, count: int, timeout_s: float) -> bytes:
        """Return the next ``count`` bytes; errors as `read_until`."""
        while len(self._buffer) < count:
            timeout_s = await self._more(timeout_s)
        return self._take(count)

    def arrived(self, begins: bytes, size: int) -> bytes | None:
        """Take what has arrived if it is one message, whole, and nothing else; None leaves it.

        Args:
            begins: How the message begins.
            size: Its length.
        """
        arrived = self._buffer
        if len(arrived) != size or not arrived.startswith(begins):
            return None
        self._buffer = b""
        return arrived

    def peek(self, count: int) -> bytes:
        """Return up to ``count`` bytes that have arrived, and leave them there."""
        return self._buffer[:count]

    def skip(self, count: int) -> None:
        """Discard bytes that `peek` has shown."""
        self._buffer = self._buffer[count:]

    async def drain(self, silence_s: float, limit_s: float = 30.0) -> bytes:
        """Discard (and return) what arrives until the line has been silent for ``silence_s``.

        Raises:
            TransportTimeout: The line did not fall silent within ``limit_s``.
            TransportClosed: The connection is gone.
        """
        deadline_s = self.now() + limit_s
        while self.now() < deadline_s:
            try:
                await self._more(silence_s)
            except TransportTimeout:
                return self._take(len(self._buffer))
        raise TransportTimeout(f"the line does not fall silent within {limit_s:g} s")

    async def close(self) -> None:
        """Give the connection up for good: reading, writing and reopening fail from now on."""
        tap, self.tap = self.tap, None
        if tap is not None:
            tap.closed()
        self._given_up = True
        self.fail(TransportClosed("closed"))

    async def reopen(self) -> None:
        """Open the connection anew, in place; what had arrived is forgotten.

        Raises:
            TransportClosed: It does not open; the stream counts as lost then.
            ClosedForGood: It never will.
        """
        if self._given_up:
            raise ClosedForGood("closed")
        if self._waiter is not None:
            raise RuntimeError("a task still reads from the stream that is reopened")
        tap, self.tap = self.tap, None
        if tap is not None:
            tap.reopening()
        try:
            await self._reopen()
        except TransportClosed as error:
            if tap is not None:
                tap.reopened(error)
            raise
        finally:
            self.tap = tap
        if tap is not None:
            tap.reopened(None)

    async def _reopen(self) -> None:
        self.fail(TransportClosed("being opened again"))
        await self._hang_up()
        self._buffer = b""
        self._failure, self.lost = None, False
        try:
            await self._open_anew()
        except BaseException as error:
            self.fail(TransportClosed(str(error) or "was not opened again"))
            raise
        if self._given_up:
            await self._hang_up()
            self.fail(ClosedForGood("closed"))
            raise ClosedForGood("closed")

    @abstractmethod
    def _send(self, data: bytes) -> Awaitable[None] | None:
        """Hand ``data`` to the other end; None where that is done at once."""

    async def _hang_up(self) -> None:  # noqa: B027 (a kind that cannot be reopened has none)
        """Let go of the old connection, in whatever state it is."""

    async def _open_anew(self) -> None:
        """Make a new connection; raises TransportClosed."""
        raise ClosedForGood("this connection cannot be opened again")

    def feed(self, data: bytes) -> None:
        """Take in bytes that arrived (called on the loop)."""
        if self.tap is not None:
            self.tap.received(data)
        self._buffer += data
        if self._waiter is not None:
            self._wake()

    def fail(self, failure: Exception) -> None:
        """Take note that the connection is gone; what had arrived can still be read."""
        if self.tap is not None and not self.lost:
            self.tap.failed(str(failure))
        self._failure, self.lost = self._failure or failure, True
        self._wake()

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _more(self, timeout_s: float) -> float:
        """Wait until more has arrived; return what is left of the timeout."""
        if self.lost:
            raise TransportClosed(str(self._failure))
        if self._waiter is not None:
            raise RuntimeError("two tasks read from one stream")
        # A bare future and timer: this is awaited once per sample, and asyncio.timeout costs
        # several times as much.
        loop = self._known_loop = self._known_loop or asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self._waiter = loop.create_future()
        timer = loop.call_at(deadline, _expire, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        return deadline - loop.time()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TransportTimeout("no answer in time"))
