"""The in-memory pipe and what every stream shares: order, timeouts, closed ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench.clock import run
from cellbench.errors import TransportClosed, TransportTimeout
from cellbench.transport import pipe


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=20))
def test_bytes_arrive_in_order_however_they_are_cut(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)

    async def main() -> bytes:
        ours, theirs = pipe()

        async def send() -> None:
            for chunk in chunks:
                await theirs.write(chunk)
                await asyncio.sleep(0.001)

        sender = asyncio.create_task(send())
        received = await ours.read_exactly(len(whole), 10)
        await sender
        return received

    assert run(main(), virtual=True) == whole


async def test_a_terminator_may_arrive_in_two_pieces() -> None:
    ours, theirs = pipe()
    await theirs.write(b"value\r")
    reading = asyncio.create_task(ours.read_until(b"\r\n", 1))
    await asyncio.sleep(0)
    await theirs.write(b"\nnext")
    assert await reading == b"value\r\n"
    assert await ours.read_exactly(4, 1) == b"next"


def test_a_timeout_takes_nothing_and_the_late_answer_can_be_drained() -> None:
    async def main() -> tuple[float, bytes]:
        ours, theirs = pipe()
        await theirs.write(b"half")
        with pytest.raises(TransportTimeout):
            await ours.read_until(b"\n", 2.0)
        timed_out = asyncio.get_running_loop().time()
        await theirs.write(b" and half\n")
        return timed_out, await ours.drain(0.5)

    assert run(main(), virtual=True) == (2.0, b"half and half\n")


async def test_closing_one_end_is_seen_at_the_other_after_what_was_sent() -> None:
    ours, theirs = pipe()
    await theirs.write(b"last\n")
    await theirs.close()
    assert await ours.read_until(b"\n", 1) == b"last\n"
    with pytest.raises(TransportClosed):
        await ours.read_until(b"\n", 1)
    with pytest.raises(TransportClosed):
        await ours.write(b"hello")


async def test_a_reader_that_waits_is_told_of_the_close() -> None:
    ours, theirs = pipe()
    reading = asyncio.create_task(ours.read_until(b"\n", 60))
    await asyncio.sleep(0)
    await theirs.close()
    with pytest.raises(TransportClosed):
        await reading


async def test_two_readers_on_one_stream_are_a_mistake_that_is_found() -> None:
    ours, _ = pipe()
    first = asyncio.create_task(ours.read_until(b"\n", 60))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await ours.read_until(b"\n", 60)
    first.cancel()
