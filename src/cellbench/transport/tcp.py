"""A TCP connection as a byte stream."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from cellbench.errors import TransportClosed
from cellbench.transport.stream import Stream


class TcpStream(Stream):
    """A connection made by `open_tcp`; small frames leave at once, a dead peer is noticed."""

    def __init__(self) -> None:
        super().__init__()
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
        if self._failure is not None:
            raise TransportClosed(str(self._failure))


class _Feeder(asyncio.Protocol):
    """Hands what the event loop receives to a stream."""

    def __init__(self, stream: TcpStream) -> None:
        self._stream = stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream._transport = cast("asyncio.Transport", transport)  # noqa: SLF001 (its half)

    def data_received(self, data: bytes) -> None:
        self._stream.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream.fail(TransportClosed(str(exc or "the other end closed the connection")))
        self._stream._writable.set()  # noqa: SLF001 (its half)

    def pause_writing(self) -> None:
        self._stream._writable.clear()  # noqa: SLF001 (its half)

    def resume_writing(self) -> None:
        self._stream._writable.set()  # noqa: SLF001 (its half)


async def open_tcp(host: str, port: int, timeout_s: float = 5.0) -> TcpStream:
    """Connect.

    Raises:
        TransportClosed: Nobody listens there, or not within ``timeout_s``.
    """
    stream = TcpStream()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await loop.create_connection(lambda: _Feeder(stream), host, port)
    except TimeoutError as error:
        raise TransportClosed(f"{host}, port {port}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        raise TransportClosed(f"{host}, port {port}: {error.strerror or error}") from error
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return stream
