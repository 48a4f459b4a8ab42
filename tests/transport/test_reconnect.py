"""Connections that are lost and made again: in place, bounded, on the loop's clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from cellbench.clock import run
from cellbench.errors import TransportClosed
from cellbench.transport import Stream, pipe
from cellbench.transport.reconnect import Patience, ReconnectionFailed, reconnect, stay_connected
from cellbench.transport.stream import ClosedForGood
from cellbench.transport.tcp import open_tcp

if TYPE_CHECKING:
    from tests.transport.conftest import Serving


class Flaky(Stream):
    """Opens only after a number of attempts; keeps the times at which it was tried."""

    def __init__(self, refusals: int, takes_s: float = 0.0) -> None:
        super().__init__()
        self.refusals, self.takes_s = refusals, takes_s
        self.tried_s: list[float] = []

    async def _send(self, data: bytes) -> None:
        self.feed(data.upper())

    async def _open_anew(self) -> None:
        self.tried_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        if self.refusals:
            self.refusals -= 1
            raise TransportClosed("nobody there")


def lost(refusals: int, takes_s: float = 0.0) -> Flaky:
    stream = Flaky(refusals, takes_s)
    stream.feed(b"late answer")
    stream.fail(TransportClosed("pulled"))
    return stream


def test_it_is_tried_again_after_growing_pauses_of_the_loops_clock() -> None:
    stream = lost(3)

    async def scenario() -> bytes:
        await reconnect(stream)
        assert not stream.lost
        await stream.write(b"w")
        return await stream.read_exactly(1, 1.0)

    assert run(scenario(), virtual=True) == b"W"
    assert stream.tried_s == [0.0, 0.25, 0.75, 1.75]


def test_what_had_arrived_before_is_forgotten() -> None:
    stream = lost(0)

    async def scenario() -> bytes:
        await stay_connected(stream)
        return stream.peek(100)

    assert run(scenario(), virtual=True) == b""


def test_it_gives_up_with_a_typed_error_and_can_be_asked_again() -> None:
    stream = lost(4)

    async def scenario() -> None:
        with pytest.raises(ReconnectionFailed, match="in 4 attempts: nobody there"):
            await reconnect(stream)
        assert stream.lost
        with pytest.raises(TransportClosed, match="nobody there"):
            await stream.write(b"w")
        assert await stay_connected(stream)
        assert not await stay_connected(stream)

    run(scenario(), virtual=True)


def test_attempts_that_hang_are_bounded_too() -> None:
    stream = lost(0, takes_s=1e6)

    async def scenario() -> float:
        with pytest.raises(ReconnectionFailed, match="within 3 s"):
            await reconnect(stream, Patience(limit_s=3.0))
        assert stream.lost
        return asyncio.get_running_loop().time()

    assert run(scenario(), virtual=True) == pytest.approx(3.0)


def test_a_cancelled_reconnection_is_cancelled() -> None:
    stream = lost(0, takes_s=5.0)

    async def scenario() -> None:
        task = asyncio.create_task(reconnect(stream))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.lost
        assert len(stream.tried_s) == 1

    run(scenario(), virtual=True)


def test_what_was_closed_on_purpose_stays_closed() -> None:
    stream = lost(0)

    async def scenario() -> None:
        await stream.close()
        with pytest.raises(ReconnectionFailed, match="closed"):
            await reconnect(stream)
        assert not stream.tried_s

    run(scenario(), virtual=True)


def test_a_stream_closed_while_it_is_being_opened_stays_closed() -> None:
    stream = lost(0, takes_s=1.0)

    async def scenario() -> None:
        task = asyncio.create_task(stream.reopen())
        await asyncio.sleep(0.5)
        await stream.close()
        with pytest.raises(ClosedForGood):
            await task
        assert stream.lost

    run(scenario(), virtual=True)


async def test_a_pipe_cannot_be_opened_again() -> None:
    ours, theirs = pipe()
    await theirs.close()
    with pytest.raises(ReconnectionFailed, match="cannot be opened again"):
        await reconnect(ours)
    with pytest.raises(TransportClosed, match="cannot be opened again"):
        await ours.reopen()


async def test_a_stream_somebody_reads_is_not_reopened_under_their_feet() -> None:
    stream = Flaky(0)
    reading = asyncio.create_task(stream.read_exactly(1, 60.0))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="still reads"):
        await stream.reopen()
    reading.cancel()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper() + b"rest of it")
        if line == b"bye\n":
            return


async def test_a_tcp_connection_is_made_again_in_place(serving: Serving) -> None:
    async with serving(_greet) as port:
        stream = await open_tcp("127.0.0.1", port)
        await stream.write(b"bye\n")
        assert await stream.read_until(b"\n", 5.0) == b"BYE\n"
        await asyncio.sleep(0.05)
        assert stream.lost
        assert await stay_connected(stream)
        await stream.write(b"hello\n")
        assert await stream.read_until(b"\n", 5.0) == b"HELLO\n"
        await stream.close()


async def test_the_end_of_an_old_tcp_connection_does_not_end_the_new_one(serving: Serving) -> None:
    async with serving(_greet) as port:
        stream = await open_tcp("127.0.0.1", port)
        for _ in range(5):
            await stream.reopen()
            await stream.write(b"hello\n")
            assert await stream.read_until(b"\n", 5.0) == b"HELLO\n"
            await asyncio.sleep(0.01)
            assert not stream.lost
        await stream.close()
        with pytest.raises(ClosedForGood):
            await stream.reopen()


async def test_a_server_that_is_gone_for_good_is_given_up(serving: Serving) -> None:
    async with serving(_greet) as port:
        stream = await open_tcp("127.0.0.1", port)
        await stream.write(b"bye\n")
    with pytest.raises(ReconnectionFailed, match=rf"2 attempts: 127\.0\.0\.1, port {port}"):
        await reconnect(stream, Patience(attempts=2, pause_s=0.01))
    await stream.close()
