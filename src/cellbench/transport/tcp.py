"""A TCP connection as a byte stream."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from cellbench.clock import of_real_time
from cellbench.errors import TransportClosed
from cellbench.transport.stream import Stream


class TcpStream(Stream):
    """A connection made by `open_tcp`; small frames leave at once, a dead peer is noticed."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        super().__init__()
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    async def close(self) -> None:
        """Close the connection."""
        await super().close()
        if self._transport is not None:
            self._transport.close()

    async def _send(self, data: bytes) -> None:
        if self._transport is None:
            raise TransportClosed("not connected")
        self._transport.write(data)
        await self._writable.wait()
        if self.lost:
            raise TransportClosed(str(self._failure))

    async def _hang_up(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    async def _open_anew(self) -> None:
        loop = asyncio.get_running_loop()
        where = f"{self._host}, port {self._port}"
        try:
            # A bench that is played faster than life does not make the network faster.
            async with asyncio.timeout(of_real_time(self._timeout_s)):
                transport, _ = await loop.create_connection(
                    lambda: _Feeder(self), self._host, self._port
                )
        except TimeoutError as error:
            raise TransportClosed(f"{where}: no answer within {self._timeout_s:g} s") from error
        except OSError as error:
            raise TransportClosed(f"{where}: {error.strerror or error}") from error
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class _Feeder(asyncio.Protocol):
    """Hands what one connection receives to a stream, until the stream has another one."""

    def __init__(self, stream: TcpStream) -> None:
        self._stream = stream
        self._transport: asyncio.Transport | None = None

    @property
    def _current(self) -> bool:
        return self._stream._transport is self._transport  # noqa: SLF001 (its half)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._stream._transport = self._transport  # noqa: SLF001 (its half)
        self._stream._writable.set()  # noqa: SLF001 (its half)

    def data_received(self, data: bytes) -> None:
        if self._current:
            self._stream.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._current:
            self._stream.fail(TransportClosed(str(exc or "the other end closed the connection")))
            self._stream._writable.set()  # noqa: SLF001 (its half)

    def pause_writing(self) -> None:
        if self._current:
            self._stream._writable.clear()  # noqa: SLF001 (its half)

    def resume_writing(self) -> None:
        if self._current:
            self._stream._writable.set()  # noqa: SLF001 (its half)


async def open_tcp(host: str, port: int, timeout_s: float = 5.0) -> TcpStream:
    """Connect.

    Raises:
        TransportClosed: Nobody listens there, or not within ``timeout_s``.
    """
    stream = TcpStream(host, port, timeout_s)
    await stream.reopen()
    return stream
