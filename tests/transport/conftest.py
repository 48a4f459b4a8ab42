"""A TCP server for the length of a test, which waits for its connections to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serving = Callable[[Handler], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[int]:
    connections: list[asyncio.Task[None]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.wait_for(asyncio.gather(*connections), 5.0)


@pytest.fixture
def serving() -> Serving:
    """Serve a handler: ``async with serving(handler) as port``."""
    return _serving
