"""Leases: the right of one run to use an instrument that several share.

A run asks for all that it needs at once, and holds nothing of it while it waits. Whoever asked
first is served first, as far as two want the same; so nobody waits for ever, and no two for each
other. What is wanted in the same way (a chamber at one temperature) can be had by many.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_TWO_HOURS_S, _TWO_DAYS_S = 7200.0, 172_800.0


@dataclass(frozen=True)
class Claim:
    """One instrument that is wanted.

    Attributes:
        what: Its name.
        alike: Whoever wants it alike can have it at the same time; empty: nobody else can.
    """

    what: str
    alike: str = ""

    def excludes(self, other: Claim) -> bool:
        """Whether both cannot be had at the same time."""
        return self.what == other.what and not (self.alike and self.alike == other.alike)


@dataclass(eq=False)
class Lease:
    """Instruments that somebody has, or waits for.

    Attributes:
        who: For people: the place, or the run.
        until_s: Loop time at which it is given back, about; nan while it waits, inf if unknown.
    """

    who: str
    claims: tuple[Claim, ...]
    lasts_s: float = math.inf
    until_s: float = math.nan
    granted: asyncio.Event = field(default_factory=asyncio.Event)

    def conflicts(self, other: Lease) -> list[str]:
        """The instruments that both cannot have at the same time."""
        return [
            mine.what for mine in self.claims if any(mine.excludes(each) for each in other.claims)
        ]


@dataclass(frozen=True)
class Wait:
    """What somebody waits for.

    Attributes:
        what: The instruments.
        holders: Who has them, or is to have them before.
        lasts_s: How long it takes yet, about; inf if nobody knows.
    """

    what: tuple[str, ...]
    holders: tuple[str, ...]
    lasts_s: float

    def __str__(self) -> str:
        took = "" if math.isinf(self.lasts_s) else f", ~{_about(self.lasts_s)}"
        have = "has" if len(self.holders) == 1 else "have"
        return f"waits for {_listed(self.what)}, which {_listed(self.holders)} {have}{took}"


class Leases:
    """Who has what, and who waits for it; all of it in one event loop."""

    def __init__(self) -> None:
        self._held: list[Lease] = []
        self._waiting: list[Lease] = []

    @asynccontextmanager
    async def lease(
        self,
        who: str,
        claims: Sequence[Claim],
        lasts_s: float = math.inf,
        *,
        waits: Callable[[Wait], None] = lambda _: None,
    ) -> AsyncIterator[Lease]:
        """Wait until all claims can be had, and have them while the context lasts.

        Args:
            who: Who wants it; nobody asks for what they have already.
            claims: What is wanted.
            lasts_s: How long it will be needed, about; inf if nobody knows.
            waits: Called if it cannot be had at once.
        """
        lease = Lease(who, tuple(claims), lasts_s)
        self._waiting.append(lease)
        try:
            self._serve()
            if not lease.granted.is_set():
                waits(self._wait(lease))
            await lease.granted.wait()
            yield lease
        finally:
            (self._held if lease in self._held else self._waiting).remove(lease)
            self._serve()

    def wait_of(self, who: str) -> Wait | None:
        """What somebody waits for, None while they wait for nothing."""
        lease = next((each for each in self._waiting if each.who == who), None)
        return None if lease is None else self._wait(lease)

    def _serve(self) -> None:
        """Grant what can be, in the order in which it was asked for."""
        now_s = asyncio.get_running_loop().time()
        for lease in _served(self._held, self._waiting):
            self._waiting.remove(lease)
            self._held.append(lease)
            lease.until_s = now_s + lease.lasts_s
            lease.granted.set()

    def _wait(self, lease: Lease) -> Wait:
        before = [*self._held, *self._waiting[: self._waiting.index(lease)]]
        what = dict.fromkeys(name for each in before for name in lease.conflicts(each))
        holders = dict.fromkeys(each.who for each in before if lease.conflicts(each))
        return Wait(tuple(what), tuple(holders), self._lasts_s(lease))

    def _lasts_s(self, lease: Lease) -> float:
        """How long somebody waits yet, where all give back in time: the queue is played through."""
        now_s = at_s = asyncio.get_running_loop().time()
        ends = {id(each): max(each.until_s, now_s) for each in self._held}
        held, waiting = list(self._held), list(self._waiting)
        while lease in waiting:
            at_s = min(ends[id(each)] for each in held)
            if math.isinf(at_s):
                return math.inf
            held = [each for each in held if ends[id(each)] > at_s]
            for each in _served(held, waiting):
                waiting.remove(each)
                held.append(each)
                ends[id(each)] = at_s + each.lasts_s
        return at_s - now_s


def _served(held: Sequence[Lease], waiting: Sequence[Lease]) -> list[Lease]:
    """Who of those that wait can have what they want: nobody overtakes whom they would keep out."""
    served: list[Lease] = []
    before = list(held)
    for lease in waiting:
        if not any(lease.conflicts(each) for each in before):
            served.append(lease)
        before.append(lease)
    return served


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _about(time_s: float) -> str:
    """A time as one says it: to the minute, or the tenth of an hour or a day."""
    if time_s < _TWO_HOURS_S:
        return f"{max(1.0, time_s / 60.0):.0f} min"
    if time_s < _TWO_DAYS_S:
        return f"{time_s / 3600.0:.1f} h"
    return f"{time_s / 86400.0:.1f} d"
