"""The wire log: what went over each connection of a run, and when.

A `WireLog` listens in on every stream of a bench. An event is a tuple appended to a queue, which is
all that the control path pays; the thread that writes the run's file packs and compresses them.

Layout, version 1 (all numbers little-endian): events one after the other, each a kind (1 byte), the
number of its connection (2 bytes), the time since the event before it in nanoseconds (8 bytes,
signed), the length of its data (4 bytes), and the data. In a run's file the whole is one zlib
stream, cut into pieces that each end in a flush: whatever was committed can be read, also when the
process was killed.
"""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cellbench.clock import RealLoop, VirtualLoop
from cellbench.errors import StoreError, TransportClosed
from cellbench.transport.stream import ClosedForGood, Stream

WIRE_VERSION = 1
#: The lateness of a loop that does not tell it is looked at so often, and kept from so much on.
_LOOK_EVERY_S = 0.1
_STALL_S = 0.05
_EVENT = struct.Struct("<BHqI")
_NS = 1_000_000_000


class Kind(IntEnum):
    """What happened on a connection; its data in brackets."""

    OPENED = 0  #: it was opened (name of the instrument)
    REFUSED = 1  #: it could not be opened (name, a line feed, and why)
    SENT = 2  #: the host wrote (the bytes)
    RECEIVED = 3  #: bytes arrived (the bytes)
    FAILED = 4  #: it broke (why)
    CLOSED = 5  #: the host closed it
    RUN = 6  #: the run's own time began (nothing)
    ENDED = 7  #: the host let go of the bench: the log is whole (nothing)
    KEPT = 8  #: the disk has acknowledged something that the host waited for (nothing)
    STALLED = 9  #: the loop turns again after it was busy (for how long, s, as text)
    REOPENING = 10  #: the host makes it anew (nothing)
    REOPENED = 11  #: it did so (nothing), or not (``now`` or ``ever``, a line feed, and why)
    WRITTEN = 12  #: what was sent last has gone out, which took a while (nothing)
    WOKE = 13  #: the loop serves timers (how late the first one, s, as text)


@dataclass(frozen=True, slots=True)
class WireEvent:
    """One event; ``time_s`` since the host began to connect the bench."""

    time_s: float
    connection: int
    kind: Kind
    data: bytes = b""


class WireLog:
    """What goes over the wire, from the first connection on; its times count from now.

    On a `RealLoop` it keeps when timers were served too: with what came in, all that a replay needs
    to be as fast and as slow as the host was.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._origin_s = self._loop.time()
        self._events: deque[tuple[float, int, Kind, bytes]] = deque()
        self._count = 0
        self._packed_ns = 0
        self._compressor = zlib.compressobj(6)
        self._jumps = isinstance(self._loop, VirtualLoop) and self._loop.jumps
        self._facts: dict[str, Any] = {
            "version": WIRE_VERSION,
            "time": "virtual" if self._jumps else "real",
        }
        self._look: asyncio.TimerHandle | None = None
        if isinstance(self._loop, RealLoop):
            self._facts["origin_s"] = self._origin_s  # that sums of times are the same floats
            self._loop.on_late = self._woke
        elif not self._jumps:
            self._look_again()

    @property
    def header(self) -> str:
        """What is kept beside the log, as JSON."""
        return json.dumps(self._facts, indent=2)

    def note(self, **facts: Any) -> None:
        """Keep facts beside the log that its replay needs."""
        self._facts |= facts

    def listen(self, name: str, stream: Stream) -> None:
        """Listen in on a new connection to an instrument."""
        stream.tap = self.connection(name)

    def connection(self, name: str) -> ConnectionLog:
        """Take note of a new connection, and return what keeps it."""
        number, self._count = self._count, self._count + 1
        self.enter(number, Kind.OPENED, name.encode())
        return ConnectionLog(self, number)

    def refused(self, name: str, why: str) -> None:
        """Take note that a connection could not be opened."""
        number, self._count = self._count, self._count + 1
        self.enter(number, Kind.REFUSED, f"{name}\n{why}".encode())

    def run_started(self) -> None:
        """Take note that the run's own time begins now."""
        self.enter(0, Kind.RUN, b"")

    def kept(self) -> None:
        """Take note that the disk has acknowledged something that the host waited for."""
        if not self._jumps:  # else no time has passed
            self.enter(0, Kind.KEPT, b"")

    def ended(self) -> None:
        """Take note that the host has let go of the bench."""
        if self._look is not None:
            self._look.cancel()
        if isinstance(self._loop, RealLoop):
            self._loop.on_late = None
        self.enter(0, Kind.ENDED, b"")

    @property
    def now_s(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def _woke(self, late_s: float) -> None:
        self.enter(0, Kind.WOKE, f"{late_s:.9f}".encode())

    def _look_again(self) -> None:
        due_s = self._loop.time() + _LOOK_EVERY_S
        self._look = self._loop.call_at(due_s, self._look_whether_stalled, due_s)

    def _look_whether_stalled(self, due_s: float) -> None:
        late_s = self._loop.time() - due_s
        if late_s > _STALL_S:
            self.enter(0, Kind.STALLED, f"{late_s:.6f}".encode())
        self._look_again()

    def enter(self, connection: int, kind: Kind, data: bytes) -> None:
        """Enter one event, at this moment."""
        self._events.append((self._loop.time(), connection, kind, data))

    def take(self) -> bytes:
        """Return what has come since the last call, compressed; nothing if nothing has.

        Called by one thread at a time.
        """
        count = len(self._events)
        if not count:
            return b""
        pieces = []
        for _ in range(count):
            time_s, connection, kind, data = self._events.popleft()
            time_ns = round((time_s - self._origin_s) * _NS)
            pieces.append(_EVENT.pack(kind, connection, time_ns - self._packed_ns, len(data)))
            pieces.append(data)
            self._packed_ns = time_ns
        compressed = self._compressor.compress(b"".join(pieces))
        return compressed + self._compressor.flush(zlib.Z_SYNC_FLUSH)


class ConnectionLog:
    """Keeps what one stream tells (a `Tap`)."""

    def __init__(self, log: WireLog, number: int) -> None:
        self._log = log
        self._number = number
        self._sent_s = 0.0

    def sent(self, data: bytes) -> None:
        """Keep bytes that go out."""
        self._sent_s = self._log.now_s
        self._log.enter(self._number, Kind.SENT, bytes(data))

    def written(self) -> None:
        """Keep that they have gone out, if whoever sent them had to wait for that."""
        if self._log.now_s != self._sent_s:
            self._log.enter(self._number, Kind.WRITTEN, b"")

    def received(self, data: bytes) -> None:
        """Keep bytes that came in."""
        self._log.enter(self._number, Kind.RECEIVED, bytes(data))

    def failed(self, why: str) -> None:
        """Keep that the connection broke."""
        self._log.enter(self._number, Kind.FAILED, why.encode())

    def reopening(self) -> None:
        """Keep that the host makes the connection anew."""
        self._log.enter(self._number, Kind.REOPENING, b"")

    def reopened(self, failure: TransportClosed | None) -> None:
        """Keep that it did, or why not."""
        if failure is None:
            self._log.enter(self._number, Kind.REOPENED, b"")
            return
        until = "ever" if isinstance(failure, ClosedForGood) else "now"
        self._log.enter(self._number, Kind.REOPENED, f"{until}\n{failure}".encode())

    def closed(self) -> None:
        """Keep that the host closed it."""
        self._log.enter(self._number, Kind.CLOSED, b"")


def unpacked(pieces: Iterable[bytes]) -> bytes:
    """Return the events that pieces of a run's file hold.

    Raises:
        StoreError: A piece is damaged.
    """
    decompressor = zlib.decompressobj()
    try:
        return b"".join([decompressor.decompress(piece) for piece in pieces])
    except zlib.error as error:
        raise StoreError(f"the wire log is damaged: {error}") from error


def packed(events: Sequence[WireEvent]) -> bytes:
    """Return events in the layout of the log; the inverse of `events_of`."""
    pieces, before_ns = [], 0
    for event in events:
        time_ns = round(event.time_s * _NS)
        head = _EVENT.pack(event.kind, event.connection, time_ns - before_ns, len(event.data))
        pieces += [head, event.data]
        before_ns = time_ns
    return b"".join(pieces)


def events_of(data: bytes) -> Iterator[WireEvent]:
    """Read events.

    Raises:
        StoreError: They are cut off or of an unknown kind.
    """
    at, time_ns = 0, 0
    while at < len(data):
        try:
            kind, connection, passed_ns, length = _EVENT.unpack_from(data, at)
            known = Kind(kind)
        except (struct.error, ValueError) as error:
            raise StoreError(f"the wire log is damaged at byte {at}: {error}") from error
        at += _EVENT.size
        if at + length > len(data):
            raise StoreError(f"the wire log is damaged: it ends within an event, at byte {at}")
        time_ns += passed_ns
        yield WireEvent(time_ns / _NS, connection, known, data[at : at + length])
        at += length
