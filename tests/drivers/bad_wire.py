"""A wire on which chosen exchanges go wrong, each in its own way, for property tests of drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from pymodbus.framer import FramerRTU

from cellbench.errors import TransportClosed
from cellbench.testing import FaultyLine
from cellbench.transport import Stream

#: Stands for a byte that no instrument's command begins with.
_NO_COMMAND = b"~"
_BUSY = 6


class Kind(Enum):
    """What happens to one exchange."""

    NOISE = "noise"  #: bytes come in between that belong to no number and end no line
    ANY_BYTES = "any bytes"  #: whatever bytes come in between
    TRUNCATED = "truncated"  #: the end of the reply is lost
    DUPLICATED = "duplicated"  #: the reply comes twice, at once
    ECHOED_LATE = "duplicated late"  #: the reply comes once more, after a while
    FLIPPED = "flipped"  #: one bit of the reply is another one
    LATE = "late"  #: the reply comes after its timeout, and all that follow after it
    REPLY_LOST = "reply lost"  #: the request is carried out, nobody hears of it
    REQUEST_LOST = "request lost"  #: the request does not arrive
    REFUSED = "refused"  #: the instrument does not understand the request, or says that it is busy
    DISCONNECTED = "disconnected"  #: the request is carried out, the connection lost
    RESET = "reset"  #: the instrument loses its power and comes back


@dataclass(frozen=True)
class Trouble:
    """What happens, to which exchange, and how exactly.

    Attributes:
        at: Where in the session, from 0 (its first exchange) to 1.
        where: Where in the reply, from 0 to 1.
        delay_s: How late a reply is.
        noise: Bytes that come in between.
    """

    kind: Kind
    at: float
    where: float
    delay_s: float
    noise: bytes


class BadWire(FaultyLine):
    """A stream around another one; ``reset`` switches the instrument off and on again.

    Args:
        connect: Opens the connection, to the instrument that is on at the time.
    """

    def __init__(
        self,
        inner: Stream,
        connect: Callable[[], Awaitable[Stream]],
        reset: Callable[[], None],
        modbus: str | None,
    ) -> None:
        super().__init__(inner)
        self.struck: list[Kind] = []
        self._connect = connect
        self._reset = reset
        self._modbus = modbus
        self._troubles: dict[int, Trouble] = {}
        self._now: Trouble | None = None
        self._delivered_s = 0.0

    def plan(self, troubles: Sequence[Trouble], messages: int) -> None:
        """Have these troubles strike, in a session of so many messages."""
        for trouble in troubles:
            self._troubles[1 + round(trouble.at * (messages - 1))] = trouble

    def spare(self) -> None:
        """Have nothing more go wrong."""
        self._troubles.clear()
        self._now = None

    async def _send(self, data: bytes) -> None:
        self._now = self._troubles.pop(self.sent + 1, None)
        kind = None if self._now is None else self._now.kind
        if kind is not None:
            self.struck.append(kind)
        match kind:
            case Kind.REQUEST_LOST:
                self.sent += 1
                return
            case Kind.DISCONNECTED:
                self.sent += 1
                await self._lose(data)
            case Kind.RESET:
                self.sent += 1
                self._stop_forwarding()
                self._reset()
                self.fail(TransportClosed("the instrument was switched off"))
                raise TransportClosed("the instrument was switched off")
            case Kind.REFUSED:
                self._now = None
                if self._modbus is not None:
                    self.sent += 1
                    self._arrived(_busy(data, self._modbus))
                    return
                data = _NO_COMMAND + data[1:]
        await super()._send(data)

    async def _open_anew(self) -> None:
        self._inner = await self._connect()
        self._delivered_s = 0.0
        self._forwarding = asyncio.ensure_future(self._forward())

    def _arrived(self, data: bytes) -> None:
        trouble, self._now = self._now, None
        if trouble is None:
            self._deliver(data, 0.0)
            return
        at = round(trouble.where * (len(data) - 1))
        match trouble.kind:
            case Kind.NOISE | Kind.ANY_BYTES:
                self._deliver(data[:at] + trouble.noise + data[at:], 0.0)
            case Kind.TRUNCATED:
                self._deliver(data[:at], 0.0)
            case Kind.DUPLICATED:
                self._deliver(data + data, 0.0)
            case Kind.ECHOED_LATE:
                self._deliver(data, 0.0)
                self._deliver(data, trouble.delay_s, in_order=False)
            case Kind.FLIPPED:
                bit = 1 << (len(trouble.noise) % 8)
                self._deliver(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :], 0.0)
            case Kind.LATE:
                self._deliver(data, trouble.delay_s)

    def _deliver(self, data: bytes, delay_s: float, *, in_order: bool = True) -> None:
        """Hand over what arrived, never before what came earlier."""
        loop = asyncio.get_running_loop()
        due_s = max(loop.time() + delay_s, self._delivered_s)
        if in_order:
            self._delivered_s = due_s
        if due_s <= loop.time():
            self.feed(data)
        else:
            loop.call_at(due_s, self._feed_from, self._inner, data)

    def _feed_from(self, connection: Stream, data: bytes) -> None:
        """Hand over what is still on the way, unless its connection is gone."""
        if connection is self._inner and not self.lost:
            self.feed(data)


def _busy(request: bytes, framing: str) -> bytes:
    """What a Modbus slave answers that is busy."""
    if framing == "tcp":
        head = request[:4] + bytes([0, 3, request[6]])
        return head + bytes([request[7] | 0x80, _BUSY])
    content = bytes([request[0], request[1] | 0x80, _BUSY])
    return content + FramerRTU.compute_CRC(content).to_bytes(2, "big")
