"""Streams that answer from a wire log and check what is sent against it.

What was recorded comes in at its recorded loop time, never before the request that it followed has
been sent. A request that is sent a little early waits for its recorded time, as whoever waited for
the disk does, and timers are served as late as the recorded host served them: the replay of a run
in real time, with all its jitter and its stalls, does everything when the host did it. More than
the stated bound early or late is a divergence.

*Strict*: each connection carries the recorded bytes in the recorded order. *By meaning*: each
request says what a recorded one says; requests may change places within the bound, and routine
ones (looks at the instrument, signs of life) may be sent less often or more often than recorded.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NoReturn

from cellbench.clock import sleep_until
from cellbench.errors import InstrumentError, TransportClosed
from cellbench.transport.messages import Decode, Message, decode
from cellbench.transport.recording import Kind, WireEvent
from cellbench.transport.stream import ClosedForGood, Stream

#: Two times that a virtual clock told may differ by the rounding of floats.
_ROUNDING_S = 1e-6
#: How late a host served its timers, but for stalls, where its log does not say so.
LATE_S = 0.25
#: A look at the instrument that is so much ahead of its recorded time is another one.
_LOOK_AHEAD_S = 1.0
#: A request may change places with so many others.
_PLACES = 32


#: What stands for making a connection anew among what is sent.
_REOPENING = Message("(makes the connection anew)", ("(makes the connection anew)",))


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a replay first does something else; times since the host began to connect.

    Attributes:
        connection: The instrument's name.
        what: ``other``: something else was sent; ``missing``: it was not sent; ``beyond``: nothing
            more was recorded; ``time``: it was sent too early or too late; ``unopened``: the
            instrument was not connected to.
        time_s: When.
        expected: What was recorded, None where nothing was.
        expected_s: When it was recorded.
        sent: What was sent, None where nothing was.
    """

    connection: str
    what: str
    time_s: float
    expected: Message | None = None
    expected_s: float | None = None
    sent: Message | None = None
    expected_bytes: bytes = b""
    sent_bytes: bytes = b""


@dataclass(slots=True)
class Exchange:
    """Something that was sent, and all that came in until the next thing that was sent."""

    time_s: float
    data: bytes
    came: list[WireEvent] = field(default_factory=list)
    message: Message | None = None
    written_s: float | None = None  #: since when whoever sent it could go on, if not at once
    routine: bool = False
    used: bool = False


@dataclass(slots=True)
class RecordedConnection:
    """One connection: when it was opened, what came before anything was sent, the exchanges."""

    name: str
    time_s: float
    refused: str | None = None
    came: list[WireEvent] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)


@dataclass(slots=True)
class RecordedWire:
    """A wire log, taken apart.

    Attributes:
        run_s: When the run's own time began, None where it never did.
        ended: Whether the log is whole; that of a process that was killed is not.
        last_s: The time of its last event.
        kept_s: When the disk acknowledged what the host waited for.
        stalls_s: From when until when a timer of the host that was due had to wait.
        tells_wakes: Whether these are all, however short.
    """

    connections: list[RecordedConnection] = field(default_factory=list)
    run_s: float | None = None
    ended: bool = False
    last_s: float = 0.0
    kept_s: list[float] = field(default_factory=list)
    stalls_s: list[tuple[float, float]] = field(default_factory=list)
    tells_wakes: bool = False

    @classmethod
    def of(cls, events: Iterable[WireEvent]) -> RecordedWire:
        """Take a log apart."""
        wire, numbers = cls(), {}
        for event in events:
            wire.last_s = event.time_s
            match event.kind:
                case Kind.OPENED:
                    opened = RecordedConnection(event.data.decode(), event.time_s)
                    numbers[event.connection] = opened
                    wire.connections.append(opened)
                case Kind.REFUSED:
                    name, _, why = event.data.decode().partition("\n")
                    wire.connections.append(RecordedConnection(name, event.time_s, refused=why))
                case Kind.RUN:
                    wire.run_s = event.time_s
                case Kind.ENDED:
                    wire.ended = True
                case Kind.KEPT:
                    wire.kept_s.append(event.time_s)
                case Kind.STALLED | Kind.WOKE:
                    wire.tells_wakes |= event.kind is Kind.WOKE
                    wire.stalls_s.append((event.time_s - float(event.data), event.time_s))
                case Kind.SENT:
                    exchange = Exchange(event.time_s, event.data)
                    numbers[event.connection].exchanges.append(exchange)
                case Kind.REOPENING:
                    exchange = Exchange(event.time_s, b"", message=_REOPENING)
                    numbers[event.connection].exchanges.append(exchange)
                case Kind.RECEIVED | Kind.FAILED | Kind.REOPENED:
                    connection = numbers[event.connection]
                    last = connection.exchanges[-1] if connection.exchanges else connection
                    last.came.append(event)
                case Kind.WRITTEN:
                    numbers[event.connection].exchanges[-1].written_s = event.time_s
                case Kind.CLOSED:
                    pass  # the host's own doing
        return wire

    @property
    def frames(self) -> int:
        """How many times something was sent."""
        return sum(len(connection.exchanges) for connection in self.connections)


class Replay:
    """A wire log that is being replayed, on a loop in virtual time; its origin is now.

    Args:
        wire: The log.
        by_meaning: Compare by meaning; else bytes.
        bound_s: How much earlier or later than recorded something may be sent.

    Attributes:
        over: Set with the first divergence, with None at the end of a log that was cut off.
        earliest_s, latest_s: The largest differences of time that were met.
        left_out, added: Routine requests that were sent less or more often than recorded.
    """

    def __init__(self, wire: RecordedWire, *, by_meaning: bool, bound_s: float) -> None:
        self.wire = wire
        self.by_meaning = by_meaning
        self.bound_s = bound_s + _ROUNDING_S
        self._loop = asyncio.get_running_loop()
        self.origin_s = self._loop.time()
        self.over: asyncio.Future[Divergence | None] = self._loop.create_future()
        self.earliest_s = self.latest_s = 0.0
        self.left_out = self.added = 0
        self._unopened: dict[str, deque[RecordedConnection]] = {}
        for connection in wire.connections:
            self._unopened.setdefault(connection.name, deque()).append(connection)
        self._streams: list[ReplayingStream] = []
        self._kept_s = deque(wire.kept_s)
        self._sent_s = sorted(
            exchange.time_s for connection in wire.connections for exchange in connection.exchanges
        )

    @property
    def now_s(self) -> float:
        """Time since the host began to connect."""
        return self._loop.time() - self.origin_s

    async def open(self, name: str, decoder: Decode | None = None) -> Stream:
        """Open the next recorded connection to an instrument.

        Raises:
            InstrumentError: The recording was refused it.
            TransportClosed: The replay is over.
        """
        waiting = self._unopened.get(name)
        if not waiting:
            self.diverge(Divergence(name, "beyond", self.now_s))
        connection = waiting.popleft()
        if self.too_far(connection.time_s):
            self.diverge(Divergence(name, "time", self.now_s, expected_s=connection.time_s))
        await self.reach(connection.time_s)
        if connection.refused is not None:
            raise InstrumentError(name, connection.refused)
        stream = ReplayingStream(self, connection, decoder or decode)
        self._streams.append(stream)
        return stream

    def served_at(self, due_s: float) -> float:
        """When the recorded host, in real time, served a timer of the loop that was due then.

        After a stall, if it was due within one. Else, where the log does not tell of every wake of
        the loop, what it did next does: it was late by up to `LATE_S`, unless something came in
        before.
        """
        stalls = self.wire.stalls_s
        stall = bisect_right(stalls, (due_s - self.origin_s + _ROUNDING_S, math.inf)) - 1
        if stall >= 0 and due_s - self.origin_s < stalls[stall][1]:
            return self.origin_s + stalls[stall][1]
        if self.wire.tells_wakes:
            return due_s
        at = bisect_left(self._sent_s, due_s - self.origin_s)
        if at == len(self._sent_s):
            return due_s
        coming_s = min((stream.coming_s for stream in self._streams), default=math.inf)
        served_s = self.origin_s + min(self._sent_s[at], coming_s)
        return served_s if served_s <= due_s + LATE_S else due_s

    def diverge(self, divergence: Divergence | None) -> NoReturn:
        """End the replay.

        Raises:
            TransportClosed: Always: from now on nobody answers.
        """
        if not self.over.done():
            self.over.set_result(divergence)
        for stream in self._streams:
            stream.fail(TransportClosed("the replay is over"))
        raise TransportClosed("the replay is over")

    async def kept(self) -> None:
        """Wait as long for the disk as the recorded host did."""
        now_s = self.now_s
        while self._kept_s and self._kept_s[0] < now_s - self.bound_s:
            self._kept_s.popleft()
        if self._kept_s and self._kept_s[0] <= now_s + self.bound_s:
            await sleep_until(self.origin_s + self._kept_s.popleft())

    def too_far(self, time_s: float) -> bool:
        """Whether a recorded time is further from now than the bound."""
        return abs(time_s - self.now_s) > self.bound_s

    async def reach(self, time_s: float, *, counted: bool = False) -> None:
        """Wait for a recorded time; ``counted`` keeps the difference."""
        early_s = time_s - self.now_s
        if counted:
            self.earliest_s = max(self.earliest_s, early_s)
            self.latest_s = max(self.latest_s, -early_s)
        if early_s > _ROUNDING_S:
            await sleep_until(self.origin_s + time_s)

    def check(self) -> None:
        """Diverge if something was recorded that has not been sent long after its time.

        Raises:
            TransportClosed: It has.
        """
        self._check_until(self.now_s - self.bound_s - _ROUNDING_S)

    def finish(self) -> None:
        """Diverge if something that was recorded has not been sent at all; raises like `check`."""
        if self.wire.ended:
            self._check_until(math.inf)

    def _check_until(self, time_s: float) -> None:
        found = [
            Divergence(name, "unopened", self.now_s, expected_s=waiting[0].time_s)
            for name, waiting in self._unopened.items()
            if waiting and waiting[0].time_s < time_s
        ]
        for stream in self._streams:
            exchange = stream.overdue(time_s)
            if exchange is not None:
                message, at_s = stream.message(exchange), exchange.time_s
                found.append(Divergence(stream.name, "missing", self.now_s, message, at_s))
        if found:
            self.diverge(min(found, key=lambda each: each.expected_s or 0.0))


class ReplayingStream(Stream):
    """One recorded connection; made by `Replay.open`."""

    def __init__(self, replay: Replay, recorded: RecordedConnection, decoder: Decode) -> None:
        super().__init__()
        self.name = recorded.name
        self._replay = replay
        self._loop = asyncio.get_running_loop()
        self._decode = decoder
        self._exchanges = recorded.exchanges
        self._at = 0
        self._matched = 0
        self._due = deque(recorded.came)
        self._timer: asyncio.TimerHandle | None = None
        self._looks: dict[tuple[str | float, ...], Exchange] = {}
        if replay.by_meaning:
            self._find_asking()
        self._pump()

    @property
    def coming_s(self) -> float:
        """When something comes in next, by what has been sent."""
        return self._due[0].time_s if self._due else math.inf

    def message(self, exchange: Exchange) -> Message:
        """What a recorded exchange says."""
        if exchange.message is None:
            exchange.message = self._decode(exchange.data)
        return exchange.message

    def overdue(self, time_s: float) -> Exchange | None:
        """The first exchange that was recorded before a time, and not sent, and must be."""
        for index in range(self._at, len(self._exchanges)):
            exchange = self._exchanges[index]
            if exchange.time_s >= time_s:
                return None
            if not exchange.used and not exchange.routine:
                return exchange
        return None

    async def close(self) -> None:
        """Close the connection; nothing more comes in."""
        self._due.clear()
        await super().close()

    async def _send(self, data: bytes) -> None:
        self._pump()
        if self.lost:
            raise TransportClosed(str(self._failure))
        if self._replay.by_meaning:
            await self._send_meaning(data)
        else:
            for exchange in self._same_bytes(data):
                await self._answer(exchange)
        if self.lost:
            raise TransportClosed(str(self._failure))

    async def _open_anew(self) -> None:
        """Make the connection anew when, and as far as, the recorded host could."""
        self._due.clear()
        if self._replay.by_meaning:
            self._leave_behind(math.inf)
        exchange = self._next(b"")
        if exchange.message is not _REOPENING or self._matched:
            self._other(exchange, b"")
        self._at, exchange.used = self._at + 1, True
        self._check_time(exchange)
        await self._replay.reach(exchange.time_s)
        if not exchange.came:
            self._replay.diverge(None)
        result, *came = exchange.came
        await sleep_until(self._replay.origin_s + result.time_s)
        until, _, why = result.data.decode().partition("\n")
        if until:
            raise ClosedForGood(why) if until == "ever" else TransportClosed(why)
        self._due.extend(came)
        self._loop.call_soon(self._pump)

    def _check_time(self, exchange: Exchange) -> None:
        if self._replay.too_far(exchange.time_s):
            now_s, message = self._replay.now_s, self.message(exchange)
            found = Divergence(self.name, "time", now_s, message, exchange.time_s, message)
            self._replay.diverge(found)

    # --- Bytes ----------------------------------------------------------------------------------

    def _same_bytes(self, data: bytes) -> list[Exchange]:
        """Compare with what was recorded, however it was cut into writes; return what is whole."""
        whole = []
        rest = data
        while rest:
            exchange = self._next(data)
            expected = exchange.data[self._matched :]
            count = min(len(expected), len(rest))
            if exchange.message is _REOPENING or expected[:count] != rest[:count]:
                self._other(exchange, data)
            rest = rest[count:]
            self._matched += count
            if self._matched == len(exchange.data):
                self._at, self._matched, exchange.used = self._at + 1, 0, True
                whole.append(exchange)
        return whole

    def _next(self, data: bytes) -> Exchange:
        if self._at >= len(self._exchanges):
            if not self._replay.wire.ended:
                self._replay.diverge(None)
            now_s, message = self._replay.now_s, self._decode(data) if data else _REOPENING
            self._replay.diverge(
                Divergence(self.name, "beyond", now_s, sent=message, sent_bytes=data)
            )
        return self._exchanges[self._at]

    def _other(self, expected: Exchange, data: bytes) -> NoReturn:
        recorded = self.message(expected)
        message = self._decode(data) if data else _REOPENING
        what = "time" if self._replay.by_meaning and recorded.agrees(message) else "other"
        found = Divergence(
            self.name,
            what,
            self._replay.now_s,
            recorded,
            expected.time_s,
            message,
            expected.data,
            data,
        )
        self._replay.diverge(found)

    # --- Meaning --------------------------------------------------------------------------------

    def _find_asking(self) -> None:
        """Which requests are routine: the driver says so, or the recording repeats them at once."""
        before: Exchange | None = None
        for exchange in self._exchanges:
            message = self.message(exchange)
            exchange.routine = message.routine
            repeated = before is not None and before.came and self.message(before).agrees(message)
            if before is not None and repeated and message is not _REOPENING:
                exchange.routine = before.routine = True
            before = exchange

    async def _send_meaning(self, data: bytes) -> None:
        message = self._decode(data)
        exchange = self._same_meaning(message)
        if exchange is None:
            exchange = self._asked_before(message)
            if exchange is None:
                self._other(self._next(data), data)
            self._replay.added += 1
            self._feed_again(exchange, message)
            return
        exchange.used = True
        await self._answer(exchange, message.tag)

    def _same_meaning(self, message: Message) -> Exchange | None:
        """The recorded request that this one is; what is left out before it is routine."""
        now_s, bound_s = self._replay.now_s, self._replay.bound_s
        self._leave_behind(now_s - bound_s)
        near = []
        for exchange in self._exchanges[self._at : self._at + _PLACES]:
            if exchange.time_s > now_s + bound_s:
                break
            if not exchange.used:
                near.append(exchange)
        same = [exchange for exchange in near if self.message(exchange).agrees(message)]
        if not same:
            return None
        chosen = same[0]
        if chosen.routine:
            # Of several looks at the instrument the one nearest in time, up to its next order.
            orders = (each.time_s for each in near if not each.routine)
            until_s = next((each_s for each_s in orders if each_s >= chosen.time_s), math.inf)
            looks = [each for each in same if each.time_s <= until_s]
            chosen = min(looks, key=lambda each: abs(each.time_s - now_s))
            if chosen.time_s > now_s + _LOOK_AHEAD_S and self._asked_before(message) is not None:
                return None
            for each in looks:
                if each.time_s < chosen.time_s:
                    self._leave_out(each)
        return chosen

    def _leave_behind(self, time_s: float) -> None:
        """Go past what was sent, and past routine of before a time that was not."""
        while self._at < len(self._exchanges):
            exchange = self._exchanges[self._at]
            if not exchange.used:
                if not exchange.routine or exchange.time_s >= time_s:
                    return
                self._leave_out(exchange)
            self._at += 1

    def _leave_out(self, exchange: Exchange) -> None:
        exchange.used = True
        self._remember(exchange)
        self._replay.left_out += 1

    def _asked_before(self, message: Message) -> Exchange | None:
        """The latest routine request that was answered and said the same."""
        return self._looks.get(message.meaning)

    def _remember(self, exchange: Exchange) -> None:
        """Keep what a look at the instrument showed, for looks that were not recorded."""
        if exchange.came:
            self._looks[self.message(exchange).meaning] = exchange

    def _feed_again(self, exchange: Exchange, message: Message) -> None:
        """Answer at once what was asked before."""
        for event in exchange.came:
            if event.kind is Kind.RECEIVED:
                self.feed(_addressed(event.data, self.message(exchange).tag, message.tag))

    # --- What came in ---------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange, tag: bytes = b"") -> None:
        """At its time, let what followed the exchange come in."""
        self._check_time(exchange)
        await self._replay.reach(exchange.time_s, counted=not exchange.routine)
        came = exchange.came
        if tag and tag != self.message(exchange).tag:
            before = self.message(exchange).tag
            came = [replace(each, data=_addressed(each.data, before, tag)) for each in came]
        if exchange.routine:
            self._remember(exchange)
        self._due.extend(came)
        self._pump()
        if exchange.written_s is not None:
            await self._replay.reach(exchange.written_s)

    def _pump(self) -> None:
        """Let everything come in that is due, and wait for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = self._replay.now_s + _ROUNDING_S
        while self._due:
            event = self._due[0]
            if event.time_s > now_s:
                at_s = self._replay.origin_s + event.time_s
                self._timer = self._loop.call_at(at_s, self._pump)
                return
            self._due.popleft()
            if event.kind is Kind.FAILED:
                self.fail(TransportClosed(event.data.decode()))
            else:
                self.feed(event.data)


def _addressed(answer: bytes, recorded: bytes, tag: bytes) -> bytes:
    """An answer, with the tag of the request that it now answers."""
    if recorded and answer.startswith(recorded):
        return tag + answer[len(recorded) :]
    return answer
