"""What is new: one look at a run for all who watch it, told to each as server-sent events.

The run's file is looked at for rows and entries (for rows of another bench's run, the database),
its command channel for what it does now. The file is the outbox: an event's id says up to which row
and entry it tells, and who comes back with one is told what was missed from the file.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from cellbench.engine.overview import Summary, at_a_glance
from cellbench.errors import CellbenchError
from cellbench.store import Store
from cellbench.web.buckets import FROM_S, TO_S, Buckets
from cellbench.web.facts import QUANTITIES, Facts
from cellbench.web.journal import entries_after, without_data
from cellbench.web.run_page import RunPage
from cellbench.web.traces import Curves, Cut, reading

#: Wall time between two looks at what a run does.
ASK_S = 1.0
#: The same for one that nobody conducts.
IDLE_S = 2.0
HEARTBEAT_S = 5.0
#: Rows and entries that are told in one event.
_ROWS, _ENTRIES = 20_000, 500
#: Stretches of a curve in an event, each drawn as two points at most.
_STRETCHES = 200
#: Tails that are kept though nobody may watch them.
_TAILS = 100
#: Bundles of events that wait for one viewer; who is further behind is to come back.
_WAITING = 100
#: Runs that ended so lately are still among those that everybody is told of.
ENDED_WITHIN = timedelta(hours=24)


@dataclass(frozen=True)
class Cursor:
    """Up to which row of the samples and which entry of the journal something is told."""

    row: int
    entry: int

    def __str__(self) -> str:
        return f"{self.row}-{self.entry}"

    @classmethod
    def of(cls, text: str | None) -> Cursor | None:
        """Read one, None where it is none."""
        row, _, entry = (text or "").partition("-")
        digits = row.isdecimal() and entry.lstrip("-").isdecimal() and len(text or "") < 40
        return cls(int(row), int(entry)) if digits else None


def event(name: str, data: Any, number: Cursor | None = None) -> bytes:
    """One event as it goes over the wire."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {name}\ndata: {text}\n\n".encode()


class Audience:
    """Those who are told the same."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes | None]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    @contextmanager
    def joined(self) -> Iterator[asyncio.Queue[bytes | None]]:
        """One more of them, while the context lasts; None in the queue is the end."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING + 1)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def served_by(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Have work done for them; should it fail, they are sent away, and come back to anew."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda done: None if done.cancelled() else self.dismiss())
        return task

    def tell(self, events: Iterable[bytes]) -> None:
        """Tell all; who does not keep up is sent away, and comes back by its last event."""
        piece = b"".join(events)
        for queue in list(self._queues) if piece else ():
            if queue.qsize() < _WAITING:
                queue.put_nowait(piece)
            else:
                self._queues.discard(queue)
                queue.put_nowait(None)

    def dismiss(self) -> None:
        """Tell all that this is the end."""
        for queue in list(self._queues):
            self._queues.discard(queue)
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(None)


async def heard(
    queue: asyncio.Queue[bytes | None], admitted: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """What comes to one of an audience, with a sign of life in between, while it is admitted."""
    while admitted():
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                piece = await queue.get()
        except TimeoutError:
            yield event("heartbeat", datetime.now(UTC).isoformat(timespec="milliseconds"))
            continue
        if piece is None:
            return
        yield piece


class Tail:
    """What is new in one run, looked at while somebody watches.

    Args:
        page: What is told of the run besides.
        curves: Where its rows come from.
    """

    def __init__(self, page: RunPage, curves: Curves) -> None:
        self.audience = Audience()
        self._page = page
        self._curves = curves
        self._cursor: Cursor | None = None
        self._before: dict[str, Buckets] = {}
        self._under_way = True
        self._tasks: list[asyncio.Task[None]] = []

    async def watch(
        self, since: Cursor | None, admitted: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """The events for one viewer, from a cursor, or from now on."""
        try:
            with self.audience.joined() as queue:
                now = await self._begun()
                async for piece in self._missed(since, now):
                    yield piece
                yield event("run", await asyncio.to_thread(self._page.whole))
                async for piece in heard(queue, admitted):
                    yield piece
        finally:
            self._rest()

    async def _begun(self) -> Cursor:
        """Begin to look, if nobody watches yet; returns up to where is told already."""
        if self._cursor is None:
            self._cursor = await asyncio.to_thread(self._newest)
        if not self._tasks:
            self._tasks = [
                self.audience.served_by(self._tell_news(), "tail"),
                self.audience.served_by(self._tell_state(), "state"),
            ]
        return self._cursor

    def _rest(self) -> None:
        """Look no more when nobody watches."""
        if not len(self.audience):
            for task in self._tasks:
                task.cancel()
            self._tasks.clear()
            self._cursor, self._before = None, {}

    async def _missed(self, since: Cursor | None, now: Cursor) -> AsyncIterator[bytes]:
        while since is not None and (since.row < now.row or since.entry < now.entry):
            pieces, reached = await asyncio.to_thread(self._news, since, now, {})
            for piece in pieces:
                yield piece
            if reached == since:
                return
            since = reached

    async def _tell_news(self) -> None:
        """Look at the file again and again."""
        told_of: bytes | None = None
        while (since := self._cursor) is not None:
            committed = self._curves.commits()
            # A file that cannot be read at the moment is looked at again.
            with suppress(CellbenchError):
                if committed is None or committed != told_of:
                    pieces, reached = await asyncio.to_thread(self._news, since, None, self._before)
                    self._cursor = reached
                    self.audience.tell(pieces)
                    if reached.row - since.row < _ROWS and reached.entry - since.entry < _ENTRIES:
                        told_of = committed  # all there was
            await asyncio.sleep(self._curves.look_s if self._under_way else IDLE_S)

    async def _tell_state(self) -> None:
        """Ask the run again and again."""
        while True:
            with suppress(CellbenchError):
                data, self._under_way = await asyncio.to_thread(self._page.changed)
                if data is not None:
                    self.audience.tell([event("run", data)])
            await asyncio.sleep(ASK_S if self._under_way else IDLE_S)

    # --- In a thread ----------------------------------------------------------------------------

    def _newest(self) -> Cursor:
        with reading(self._page.path) as connection:
            return Cursor(self._curves.newest(), newest_entry(connection))

    def _news(
        self, since: Cursor, until: Cursor | None, before: dict[str, Buckets]
    ) -> tuple[Sequence[bytes], Cursor]:
        """Events on what came after a cursor, and up to where they tell."""
        most = since.row + _ROWS
        rows, last = self._curves.after(since.row, most if until is None else min(until.row, most))
        with reading(self._page.path) as connection:
            entries = entries_after(connection, since.entry, _ENTRIES)
        if until is not None:
            entries = [each for each in entries if each["number"] <= until.entry]
        reached = Cursor(last, entries[-1]["number"] if entries else since.entry)
        pieces = []
        sources = curves_of(rows, self._page.facts, before)
        if sources:
            data = {"run": self._page.run_id, "sources": sources}
            pieces.append(event("samples", data, Cursor(reached.row, since.entry)))
        if entries:
            data = {"run": self._page.run_id, "entries": without_data(entries)}
            pieces.append(event("journal", data, reached))
        return pieces, reached


def newest_entry(connection: sqlite3.Connection) -> int:
    """Number of the newest entry of a run's journal, -1 if there is none."""
    ((entry,),) = connection.execute("SELECT max(seq) FROM journalentry").fetchall()
    return -1 if entry is None else int(entry)


def curves_of(
    rows: dict[str, Buckets], facts: Facts, before: dict[str, Buckets]
) -> list[dict[str, Any]]:
    """New rows as curves that go on where those before ended.

    Args:
        rows: By source.
        facts: Of the run.
        before: The last row of each source that was drawn; changed.
    """
    found = []
    for source, buckets in rows.items():
        joined = before[source].joined(buckets) if source in before else buckets
        span_s = float(buckets.table[-1, TO_S] - buckets.table[0, FROM_S])
        width_s = span_s / _STRETCHES if len(buckets) > 2 * _STRETCHES else 0.0
        gaps = joined.gaps()[len(joined) - len(buckets) :]
        merged, broken = Buckets(buckets.table).merged(width_s)
        if len(broken):
            broken = np.concatenate((gaps[:1], broken[1:]))
        before[source] = Buckets(buckets.table[-1:])
        curves = facts.curves(Cut(source, merged, broken, len(buckets)), list(QUANTITIES))
        if curves is not None:
            found.append(curves)
    return found


class Glances:
    """All runs at a glance, while somebody looks at them.

    Args:
        store: The catalogue.
    """

    def __init__(self, store: Store) -> None:
        self.audience = Audience()
        self._store = store
        self._told: dict[str, Summary] = {}
        self._task: asyncio.Task[None] | None = None

    async def watch(self, admitted: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The events for one viewer."""
        try:
            with self.audience.joined() as queue:
                if self._task is None:
                    self._task = self.audience.served_by(self._repeat(), "glances")
                for known in list(self._told.values()):
                    yield event("run", known.model_dump(mode="json"))
                async for piece in heard(queue, admitted):
                    yield piece
        finally:
            if not len(self.audience) and self._task is not None:
                self._task.cancel()
                self._task = None
                self._told = {}

    async def _repeat(self) -> None:
        while True:
            found = await asyncio.to_thread(self._look)
            changed = [each for each in found.values() if self._told.get(each.run) != each]
            self.audience.tell(event("run", each.model_dump(mode="json")) for each in changed)
            gone = self._told.keys() - found.keys()
            self.audience.tell(event("gone", {"run": run}) for run in gone)
            self._told = found
            await asyncio.sleep(ASK_S)

    def _look(self) -> dict[str, Summary]:
        return {each.run: each for each in at_a_glance(self._store, ENDED_WITHIN)}


class Tails:
    """The tails of the runs that somebody watches, and the glances.

    Args:
        store: The catalogue.
    """

    def __init__(self, store: Store) -> None:
        self.glances = Glances(store)
        self._tails: dict[str, Tail] = {}

    def of(self, page: RunPage, curves: Curves) -> Tail:
        """The tail of a run."""
        if len(self._tails) > _TAILS:
            self._tails = {name: tail for name, tail in self._tails.items() if tail.audience}
        return self._tails.setdefault(page.run_id, Tail(page, curves))

    def dismiss(self) -> None:
        """The server ends: so do all events."""
        for audience in (self.glances.audience, *(each.audience for each in self._tails.values())):
            audience.dismiss()
