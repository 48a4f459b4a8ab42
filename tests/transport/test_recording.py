"""The wire log: everything on the wire is in it, in order, and what is in it can be read."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench.clock import run
from cellbench.errors import StoreError, TransportClosed
from cellbench.transport import Stream, pipe
from cellbench.transport.recording import (
    Kind,
    WireEvent,
    WireLog,
    events_of,
    packed,
    unpacked,
)
from cellbench.transport.stream import ClosedForGood


def read(pieces: list[bytes]) -> list[tuple[float, Kind, bytes]]:
    return [(event.time_s, event.kind, event.data) for event in events_of(unpacked(pieces))]


def test_all_that_happens_on_a_stream_is_kept_with_its_time() -> None:
    async def main() -> list[bytes]:
        await asyncio.sleep(5.0)
        ours, theirs = pipe()
        log = WireLog()
        log.listen("gauge", ours)
        await asyncio.sleep(1.5)
        await ours.write(b"w\r")
        await asyncio.sleep(0.25)
        await theirs.write(b"1.0\n")
        first = log.take()
        log.run_started()
        await ours.close()
        log.ended()
        return [first, log.take(), log.take()]

    pieces = run(main(), virtual=True)
    assert pieces[2] == b""
    whole = [
        (0.0, Kind.OPENED, b"gauge"),
        (1.5, Kind.SENT, b"w\r"),
        (1.75, Kind.RECEIVED, b"1.0\n"),
        (1.75, Kind.RUN, b""),
        (1.75, Kind.CLOSED, b""),
        (1.75, Kind.ENDED, b""),
    ]
    assert read(pieces) == whole
    # What was committed before a process was killed can be read.
    assert read(pieces[:1]) == whole[:3]


def test_a_connection_that_breaks_is_kept_once() -> None:
    async def main() -> list[bytes]:
        ours, theirs = pipe()
        log = WireLog()
        log.listen("press", ours)
        log.refused("chamber", "nobody listens")
        await theirs.close()
        with pytest.raises(TransportClosed):
            await ours.write(b"x")
        await ours.close()
        return [log.take()]

    kinds = [(kind, data) for _, kind, data in read(run(main(), virtual=True))]
    assert kinds == [
        (Kind.OPENED, b"press"),
        (Kind.REFUSED, b"chamber\nnobody listens"),
        (Kind.FAILED, b"the other end closed the connection"),
        (Kind.CLOSED, b""),
    ]


class Plugged(Stream):
    """A stream that opens again at the second attempt."""

    attempts = 0

    async def _send(self, data: bytes) -> None:
        raise TransportClosed(f"torn at {data!r}")

    async def _open_anew(self) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise TransportClosed("nobody there")


def test_attempts_to_connect_again_are_kept() -> None:
    async def main() -> list[bytes]:
        log, stream = WireLog(), Plugged()
        log.listen("gauge", stream)
        with pytest.raises(TransportClosed, match="nobody there"):
            await stream.reopen()
        await stream.reopen()
        ours, _ = pipe()
        log.listen("press", ours)
        with pytest.raises(ClosedForGood):
            await ours.reopen()
        return [log.take()]

    events = [(kind, data) for _, kind, data in read(run(main(), virtual=True))]
    assert events == [
        (Kind.OPENED, b"gauge"),
        (Kind.REOPENING, b""),
        (Kind.REOPENED, b"now\nnobody there"),
        (Kind.REOPENING, b""),
        (Kind.REOPENED, b""),
        (Kind.OPENED, b"press"),
        (Kind.REOPENING, b""),
        (Kind.REOPENED, b"ever\nthis connection cannot be opened again"),
    ]


class Torn(Stream):
    """A stream whose every write fails."""

    async def _send(self, data: bytes) -> None:
        raise TransportClosed(f"torn at {data!r}")


def test_a_write_that_fails_is_kept_as_sent_and_then_failed() -> None:
    async def main() -> list[bytes]:
        log, stream = WireLog(), Torn()
        log.listen("gauge", stream)
        with pytest.raises(TransportClosed, match="torn"):
            await stream.write(b"w\r")
        return [log.take()]

    kinds = [kind for _, kind, _ in read(run(main(), virtual=True))]
    assert kinds == [Kind.OPENED, Kind.SENT, Kind.FAILED]


async def stalled_for_a_while() -> tuple[dict[str, Any], list[WireEvent]]:
    log = WireLog()
    await asyncio.sleep(0.15)
    time.sleep(0.35)  # noqa: ASYNC251 (it is to stall)
    await asyncio.sleep(0.15)
    log.kept()
    log.ended()
    return json.loads(log.header), list(events_of(unpacked([log.take()])))


def test_in_real_time_wakes_and_waits_for_the_disk_are_kept() -> None:
    header, events = run(stalled_for_a_while())
    assert header["time"] == "real"
    assert header["origin_s"] >= 0.0
    assert [event.kind for event in events[-2:]] == [Kind.KEPT, Kind.ENDED]
    first, second = (event for event in events if event.kind is Kind.WOKE)
    assert first.time_s >= 0.15
    assert float(second.data) >= 0.2  # it was due while the loop was stalled


def test_of_a_loop_that_does_not_tell_its_wakes_stalls_are_kept() -> None:
    header, events = asyncio.run(stalled_for_a_while())
    assert "origin_s" not in header
    kinds = [event.kind for event in events]
    assert Kind.STALLED in kinds
    assert Kind.WOKE not in kinds


def test_a_write_that_takes_a_while_is_kept_with_its_end() -> None:
    class Slow(Stream):
        async def _send(self, data: bytes) -> None:
            await asyncio.sleep(len(data) - 1.0)

    async def main() -> list[bytes]:
        log, stream = WireLog(), Slow()
        log.listen("meter", stream)
        await stream.write(b"a")
        await stream.write(b"abc")
        return [log.take()]

    assert read(run(main(), virtual=True))[1:] == [
        (0.0, Kind.SENT, b"a"),
        (0.0, Kind.SENT, b"abc"),
        (2.0, Kind.WRITTEN, b""),
    ]


EVENTS = st.lists(
    st.builds(
        WireEvent,
        st.integers(-(10**12), 10**16).map(lambda ns: ns / 10**9),
        st.integers(0, 65535),
        st.sampled_from(Kind),
        st.binary(max_size=40),
    ),
    max_size=20,
)


@given(EVENTS)
def test_packing_and_reading_are_inverse(events: list[WireEvent]) -> None:
    again = list(events_of(packed(events)))
    assert [(e.connection, e.kind, e.data) for e in again] == [
        (e.connection, e.kind, e.data) for e in events
    ]
    assert [e.time_s for e in again] == pytest.approx([e.time_s for e in events], abs=2e-9)


def test_damage_is_found() -> None:
    whole = packed([WireEvent(1.0, 0, Kind.SENT, b"abc")])
    for damaged in (whole[:-1], whole[:5], b"\xff" + whole[1:]):
        with pytest.raises(StoreError, match="damaged"):
            list(events_of(damaged))
    with pytest.raises(StoreError, match="damaged"):
        unpacked([b"no zlib"])
