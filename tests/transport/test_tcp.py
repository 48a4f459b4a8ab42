"""TCP streams on a real socket."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from cellbench.errors import TransportClosed, TransportTimeout
from cellbench.transport.tcp import open_tcp

if TYPE_CHECKING:
    from tests.transport.conftest import Serving


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        if line == b"bye\n":
            break


async def test_bytes_go_both_ways_until_the_other_end_closes(serving: Serving) -> None:
    async with serving(_serve) as port:
        stream = await open_tcp("127.0.0.1", port)
        await stream.write(b"hello\n")
        assert await stream.read_until(b"\n", 5.0) == b"HELLO\n"
        with pytest.raises(TransportTimeout):
            await stream.read_until(b"\n", 0.02)
        await stream.write(b"bye\n")
        assert await stream.read_exactly(4, 5.0) == b"BYE\n"
        with pytest.raises(TransportClosed, match="closed the connection"):
            await stream.read_exactly(1, 5.0)
        with pytest.raises(TransportClosed):
            await stream.write(b"more")
        await stream.close()


async def test_small_frames_leave_at_once(serving: Serving) -> None:
    async with serving(_serve) as port:
        stream = await open_tcp("127.0.0.1", port)
        assert stream._transport is not None
        connection = stream._transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await stream.close()


async def test_nobody_listening_is_told_with_host_and_port() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(TransportClosed, match=rf"127\.0\.0\.1, port {port}"):
        await open_tcp("127.0.0.1", port)
