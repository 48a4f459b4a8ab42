"""Replaying a wire log on streams: answers at their times, and the first thing that differs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cellbench.clock import run
from cellbench.errors import InstrumentError, TransportClosed, TransportTimeout
from cellbench.transport import Stream
from cellbench.transport.recording import Kind, WireEvent
from cellbench.transport.replaying import Divergence, RecordedWire, Replay
from cellbench.transport.stream import ClosedForGood

Host = Callable[[Stream, Replay], Awaitable[None]]


def log(*events: tuple[float, Kind, bytes]) -> list[WireEvent]:
    """A log of one connection, to an instrument called "meter"."""
    opened = WireEvent(0.0, 0, Kind.OPENED, b"meter")
    last_s = events[-1][0] if events else 0.0
    own = [WireEvent(time_s, 0, kind, data) for time_s, kind, data in events]
    return [opened, *own, WireEvent(last_s, 0, Kind.ENDED)]


ASKED = log(
    (1.0, Kind.SENT, b"a\n"),
    (1.5, Kind.RECEIVED, b"1\n"),
    (2.0, Kind.SENT, b"b\n"),
    (2.25, Kind.RECEIVED, b"2\n"),
)


def replayed(
    events: list[WireEvent], host: Host, *, by_meaning: bool = False, bound_s: float = 1e-3
) -> tuple[Divergence | None, Replay]:
    """Run a host against a log; its first divergence."""

    async def main() -> tuple[Divergence | None, Replay]:
        replay = Replay(RecordedWire.of(events), by_meaning=by_meaning, bound_s=bound_s)
        try:
            await host(await replay.open("meter"), replay)
            replay.finish()
        except TransportClosed:
            if not replay.over.done():
                raise
        return (replay.over.result() if replay.over.done() else None), replay

    return run(main(), virtual=True)


async def at(time_s: float) -> None:
    await asyncio.sleep(time_s - asyncio.get_running_loop().time())


async def same(stream: Stream, _: Replay) -> None:
    await at(1.0)
    await stream.write(b"a\n")
    assert await stream.read_until(b"\n", 1.0) == b"1\n"
    assert asyncio.get_running_loop().time() == 1.5
    await at(2.0)
    await stream.write(b"b\n")
    assert await stream.read_until(b"\n", 1.0) == b"2\n"
    assert asyncio.get_running_loop().time() == 2.25


@pytest.mark.parametrize("by_meaning", [False, True])
def test_who_does_the_same_gets_the_same_at_the_same_times(by_meaning: bool) -> None:
    divergence, _ = replayed(ASKED, same, by_meaning=by_meaning)
    assert divergence is None


def test_writes_may_be_cut_and_joined() -> None:
    events = log(
        (1.0, Kind.SENT, b"one "), (1.0, Kind.SENT, b"two\n"), (1.0, Kind.RECEIVED, b"x"),
    )  # fmt: skip

    async def cut(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(b"o")
        await stream.write(b"ne two\n")
        assert await stream.read_exactly(1, 1.0) == b"x"

    assert replayed(events, cut)[0] is None


BROKEN = log(
    (1.0, Kind.SENT, b"a\n"),
    (1.5, Kind.FAILED, b"unplugged"),
    (2.0, Kind.REOPENING, b""),
    (2.5, Kind.REOPENED, b"now\nnobody there"),
    (3.0, Kind.REOPENING, b""),
    (3.25, Kind.REOPENED, b""),
    (3.25, Kind.RECEIVED, b"hello\n"),
    (4.0, Kind.SENT, b"b\n"),
    (5.0, Kind.REOPENING, b""),
    (5.0, Kind.REOPENED, b"ever\nscrapped"),
)


@pytest.mark.parametrize("by_meaning", [False, True])
def test_a_connection_is_made_anew_when_it_was(by_meaning: bool) -> None:
    async def host(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        with pytest.raises(TransportClosed, match="unplugged"):
            await stream.read_until(b"\n", 5.0)
        await at(2.0)
        with pytest.raises(TransportClosed, match="nobody there"):
            await stream.reopen()
        assert stream.lost
        assert asyncio.get_running_loop().time() == 2.5
        await at(3.0)
        await stream.reopen()
        assert await stream.read_until(b"\n", 1.0) == b"hello\n"
        assert asyncio.get_running_loop().time() == 3.25
        await at(4.0)
        await stream.write(b"b\n")
        await at(5.0)
        with pytest.raises(ClosedForGood, match="scrapped"):
            await stream.reopen()

    assert replayed(BROKEN, host, by_meaning=by_meaning)[0] is None


@pytest.mark.parametrize("by_meaning", [False, True])
def test_a_connection_that_is_made_anew_or_not_is_a_difference(by_meaning: bool) -> None:
    async def not_anew(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        await at(4.0)

    async def anew(stream: Stream, replay: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        await at(2.0)
        await stream.reopen()

    found, _ = replayed(BROKEN, not_anew, by_meaning=by_meaning)
    assert found is not None
    assert found.expected is not None
    assert "connection anew" in found.expected.text
    found, _ = replayed(ASKED, anew, by_meaning=by_meaning)
    assert found is not None
    assert found.sent is not None
    assert "connection anew" in found.sent.text


@pytest.mark.parametrize("by_meaning", [False, True])
def test_something_else_is_found_and_nobody_answers_any_more(by_meaning: bool) -> None:
    async def other(stream: Stream, replay: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        await at(2.0)
        with pytest.raises(TransportClosed):
            await stream.write(b"c\n")
        with pytest.raises(TransportClosed):
            await stream.write(b"b\n")

    found, _ = replayed(ASKED, other, by_meaning=by_meaning)
    assert found is not None
    assert (found.connection, found.what, found.time_s) == ("meter", "other", 2.0)
    assert found.expected is not None
    assert found.sent is not None
    assert (found.expected.text, found.sent.text) == ("b", "c")
    assert (found.expected_bytes, found.sent_bytes) == (b"b\n", b"c\n")


def test_too_early_and_too_late_are_found_and_a_little_early_waits() -> None:
    def shifted(by_s: float) -> Host:
        async def host(stream: Stream, _: Replay) -> None:
            await at(1.0 + by_s)
            await stream.write(b"a\n")
            now_s = asyncio.get_running_loop().time()
            assert now_s == pytest.approx(max(1.0, 1.0 + by_s))
            await stream.write(b"b\n")
            await stream.read_until(b"2\n", 1.0)

        return host

    for by_s in (-0.4, 0.4):
        assert replayed(ASKED, shifted(by_s), bound_s=1.0)[0] is None
        found, _ = replayed(ASKED, shifted(by_s), bound_s=0.1)
        assert found is not None
        assert (found.what, found.expected_s) == ("time", 1.0)
        assert found.time_s == pytest.approx(1.0 + by_s)
    assert replayed(ASKED, shifted(-0.4), bound_s=1.0)[1].earliest_s == pytest.approx(1.0)


def test_what_is_not_sent_is_found_while_waiting_and_at_the_end() -> None:
    async def idle(stream: Stream, replay: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        await at(10.0)
        replay.check()

    async def leaving(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")

    for host in (idle, leaving):
        found, _ = replayed(ASKED, host)
        assert found is not None
        assert (found.what, found.expected_s, found.sent) == ("missing", 2.0, None)


def test_more_than_was_recorded_is_found() -> None:
    async def longer(stream: Stream, replay: Replay) -> None:
        await same(stream, replay)
        await stream.write(b"c\n")

    found, _ = replayed(ASKED, longer)
    assert found is not None
    assert (found.what, found.expected) == ("beyond", None)
    cut_off = ASKED[:-1]
    found, replay = replayed(cut_off, longer)
    assert found is None
    assert replay.over.done()


def test_a_connection_that_broke_breaks_again() -> None:
    events = log((1.0, Kind.SENT, b"a\n"), (1.5, Kind.FAILED, b"unplugged"))

    async def host(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        with pytest.raises(TransportClosed, match="unplugged"):
            await stream.read_until(b"\n", 5.0)
        assert asyncio.get_running_loop().time() == 1.5

    assert replayed(events, host)[0] is None


def test_a_refused_connection_is_refused_again_and_an_unknown_one_is_found() -> None:
    async def main() -> None:
        events = [WireEvent(0.5, 0, Kind.REFUSED, b"press\nnobody listens")]
        replay = Replay(RecordedWire.of(events), by_meaning=False, bound_s=1.0)
        with pytest.raises(InstrumentError, match="nobody listens"):
            await replay.open("press")
        assert asyncio.get_running_loop().time() == 0.5
        with pytest.raises(TransportClosed):
            await replay.open("press")
        found = replay.over.result()
        assert found is not None
        assert found.what == "beyond"

    run(main(), virtual=True)


# --- By meaning -----------------------------------------------------------------------------------


def test_orders_may_change_places_within_the_bound() -> None:
    events = log(
        (1.0, Kind.SENT, b"RANGE 1\n"), (1.0, Kind.SENT, b"LIMIT 2.0\n"),
        (1.1, Kind.SENT, b"ON\n"), (1.2, Kind.RECEIVED, b"ok\n"),
    )  # fmt: skip

    async def host(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(b"LIMIT  2\r\n")
        await stream.write(b"RANGE 1.0\n")
        await stream.write(b"ON\n")
        assert await stream.read_until(b"\n", 1.0) == b"ok\n"

    assert replayed(events, host, by_meaning=True, bound_s=10.0)[0] is None
    assert replayed(events, host)[0] is not None


def modbus(transaction: int, rest: str) -> bytes:
    return transaction.to_bytes(2, "big") + bytes.fromhex(rest)


READ, VALUE = "0000 0006 01 03 0000 0001", "0000 0005 01 03 02 0007"
WRITE, WRITTEN = "0000 0006 01 06 0005 0009", "0000 0006 01 06 0005 0009"


def test_looks_may_be_left_out_and_added_and_answers_carry_the_new_number() -> None:
    events = log(
        (1.0, Kind.SENT, modbus(1, READ)), (1.1, Kind.RECEIVED, modbus(1, VALUE)),
        (3.0, Kind.SENT, modbus(2, READ)), (3.1, Kind.RECEIVED, modbus(2, VALUE)),
        (5.0, Kind.SENT, modbus(3, WRITE)), (5.1, Kind.RECEIVED, modbus(3, WRITTEN)),
    )  # fmt: skip

    def host(*looks_s: float) -> Host:
        async def go(stream: Stream, _: Replay) -> None:
            number = 100
            for look_s in looks_s:
                await at(look_s)
                number += 1
                await stream.write(modbus(number, READ))
                assert await stream.read_exactly(11, 1.0) == modbus(number, VALUE)
            await at(5.0)
            await stream.write(modbus(200, WRITE))
            assert await stream.read_exactly(12, 1.0) == modbus(200, WRITTEN)

        return go

    for looks_s, left_out, added in (((1.0, 1.4, 3.0), 0, 1), ((1.0,), 0, 0), ((3.0,), 1, 0)):
        found, replay = replayed(events, host(*looks_s), by_meaning=True, bound_s=10.0)
        assert found is None
        assert (replay.left_out, replay.added) == (left_out, added)


def test_an_order_that_is_left_out_or_repeated_is_found() -> None:
    events = log(
        (1.0, Kind.SENT, modbus(1, WRITE)), (1.1, Kind.RECEIVED, modbus(1, WRITTEN)),
        (2.0, Kind.SENT, modbus(2, READ)), (2.1, Kind.RECEIVED, modbus(2, VALUE)),
    )  # fmt: skip

    async def without(stream: Stream, _: Replay) -> None:
        await at(2.0)
        await stream.write(modbus(1, READ))

    async def twice(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(modbus(1, WRITE))
        await stream.write(modbus(2, WRITE))

    found, _ = replayed(events, without, by_meaning=True, bound_s=10.0)
    assert found is not None
    assert found.what == "missing"
    found, _ = replayed(events, twice, by_meaning=True, bound_s=10.0)
    assert found is not None
    assert found.what == "other"


def test_a_silent_recording_is_silent_again() -> None:
    events = log((1.0, Kind.SENT, b"a\n"), (9.0, Kind.RECEIVED, b"late\n"))

    async def host(stream: Stream, _: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        with pytest.raises(TransportTimeout):
            await stream.read_until(b"\n", 2.0)

    assert replayed(events, host)[0] is None


def test_timers_are_served_with_the_wakes_that_a_log_tells_of() -> None:
    events = log((1.0, Kind.SENT, b"a\n"), (1.01, Kind.RECEIVED, b"1\n"), (2.1, Kind.SENT, b"b\n"))
    events[2:2] = [WireEvent(1.005, 0, Kind.WOKE, b"0.105000000")]
    events.insert(-1, WireEvent(6.5, 0, Kind.WOKE, b"2.000000000"))

    async def main() -> None:
        replay = Replay(RecordedWire.of(events), by_meaning=False, bound_s=1.0)
        await replay.open("meter")
        assert replay.served_at(0.89) == 0.89  # whatever it did next
        assert [replay.served_at(due_s) for due_s in (0.9, 1.0, 1.005)] == [1.005] * 3
        assert replay.served_at(5.0) == 6.5
        assert replay.served_at(6.5) == 6.5

    run(main(), virtual=True)


def test_who_wrote_goes_on_when_the_recorded_host_could() -> None:
    events = log((1.0, Kind.SENT, b"a\n"), (1.4, Kind.WRITTEN, b""), (1.5, Kind.RECEIVED, b"1\n"))

    async def host(stream: Stream, replay: Replay) -> None:
        await at(1.0)
        await stream.write(b"a\n")
        assert replay.now_s == pytest.approx(1.4)
        assert await stream.read_until(b"\n", 0.2) == b"1\n"

    for by_meaning in (False, True):
        assert replayed(events, host, by_meaning=by_meaning)[0] is None


def test_timers_of_a_real_host_are_served_as_late_as_it_served_them() -> None:
    events = log((1.0, Kind.SENT, b"a\n"), (1.01, Kind.RECEIVED, b"1\n"), (2.1, Kind.SENT, b"b\n"))
    events.insert(-1, WireEvent(6.5, 0, Kind.STALLED, b"2.0"))

    async def main() -> None:
        replay = Replay(RecordedWire.of(events), by_meaning=False, bound_s=1.0)
        stream = await replay.open("meter")
        assert replay.served_at(0.9) == 1.0  # what it did next was at 1.0
        assert replay.served_at(0.2) == 0.2  # too far from anything
        await at(1.0)
        await stream.write(b"a\n")
        assert replay.served_at(1.005) == 1.01  # but something came in before
        assert replay.served_at(5.0) == 6.5  # it stalled from 4.5 to 6.5
        assert replay.served_at(6.5) == 6.5

    run(main(), virtual=True)
