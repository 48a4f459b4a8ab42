"""Following a run: what is entered and measured is told to the broker and to people.

A coroutine for any loop that can watch sockets, in any thread but the run's own. Nothing here is
waited for by the run, and no failure here reaches it; what happened is said in its journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import platform
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from cellbench.errors import CellbenchError
from cellbench.store import JournalEntry, Store
from cellbench.telemetry import cursor as cursors
from cellbench.telemetry import topics
from cellbench.telemetry.alerts import Alert, Composer
from cellbench.telemetry.commands import Commands, Gate
from cellbench.telemetry.configuration import AlertSettings, Telemetry
from cellbench.telemetry.cursor import BROKER, EVENTS, PEOPLE, Cursor
from cellbench.telemetry.limiter import Rare
from cellbench.telemetry.watched import Say, Watched

if TYPE_CHECKING:
    from cellbench.telemetry.delivery import Delivery
    from cellbench.telemetry.publisher import Publisher

#: How often the journal is looked at.
_LOOK_S = 0.5
#: How long a run that has ended waits for the broker to hear of it.
_FINISH_S = 10.0
#: How often it is kept how far a run has been told.
_KEPT_S = 1.0
#: After which it says that it waits for alerts to be delivered.
_NOTICEABLE_S = 2.0
#: Pause after something here failed that should not, and how often that is said.
_PAUSE_S = 30.0
_SAID_APART_S = 600.0


async def follow(
    watched: Watched,
    telemetry: Telemetry,
    store: Store,
    *,
    say: Say,
    commands: Commands | None,
    leave: asyncio.Event,
) -> None:
    """Tell of a run until ``leave`` is set, and then of what is left, for a while.

    What earlier processes have left is told, too.

    Args:
        watched: The run.
        telemetry: To whom.
        store: Where the run is kept; not used by anybody else meanwhile.
        say: Enters in the run's journal; called on this loop.
        commands: Carries out commands; None: there are none.
        leave: The run is over, and its file complete.
    """
    directory = store.directory / cursors.DIRECTORY
    with cursors.owned(directory, watched.run.id) as mine:
        if not mine:
            say("telling", "another process tells of this run already")
            return
        if telemetry.operators and commands is None:
            say("telling", "commands over MQTT are switched on, but this run takes none")
        async with _delivering(telemetry, say) as deliveries:
            following = _Following(watched, telemetry, directory, deliveries, say, commands)
            catching_up = asyncio.create_task(following.catch_up(store))
            try:
                await following.run(leave)
                if following.is_heard:
                    await asyncio.wait({catching_up}, timeout=_FINISH_S)
            finally:
                catching_up.cancel()
                (outcome,) = await asyncio.gather(catching_up, return_exceptions=True)
            if isinstance(outcome, Exception):
                say("telling", f"what earlier runs left to be told: {outcome}")


@asynccontextmanager
async def _delivering(telemetry: Telemetry, say: Say) -> AsyncIterator[Sequence[Delivery]]:
    """Have the ways to people at work while the context lasts."""
    if not telemetry.channels:
        yield ()
        return
    from cellbench.telemetry.delivery import Delivery  # noqa: PLC0415 (an extra)

    ways = [Delivery(name, url, say) for name, url in telemetry.channels.items()]
    tasks = [asyncio.create_task(way.run()) for way in ways]
    try:
        yield ways
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Way(Protocol):
    """A way on which alerts are told."""

    @property
    def idle(self) -> bool:
        """Whether all that was handed over has been told."""

    def hand_over(self, alert: Alert) -> None:
        """Have an alert told, after those that were handed over before."""


class Alerting:
    """Has alerts of one run told on some ways.

    Args:
        watched: The run.
        settings: What is told of.
        cursor: How far it has been told.
        reader: What the cursor calls those who are told.
        entries: The run's entries as they are made.
        ways: How they are told.
    """

    def __init__(
        self,
        watched: Watched,
        settings: AlertSettings,
        cursor: Cursor,
        reader: str,
        entries: SimpleQueue[JournalEntry],
        ways: Sequence[Way],
    ) -> None:
        self._watched, self._composer = watched, Composer(watched.run, settings)
        self._cursor, self._reader = cursor, reader
        self._entries, self._ways = entries, ways
        told = cursor.get(reader)
        self._seen = watched.begun_after if told is None else told

    async def run(self, leave: asyncio.Event) -> None:
        """Tell until ``leave`` is set and everything has been told."""
        for entry in self._left():
            self._take(entry)
        while True:
            leaving = leave.is_set()
            for entry in self._new():
                self._take(entry)
            self._tell(self._composer.look(self._watched.picture, last=leaving))
            if all(each.idle for each in self._ways) and not self._composer.waits:
                # Of what is not on disk yet, the number may come to be another entry's.
                self._cursor.advance(self._reader, min(self._seen, self._watched.end()))
                if leaving:
                    return
            await asyncio.sleep(_LOOK_S)

    def _left(self) -> Iterator[JournalEntry]:
        """What an earlier process entered and nobody was told of."""
        while entries := self._watched.after(self._seen):
            yield from entries

    def _new(self) -> Iterator[JournalEntry]:
        """What was entered since, on disk or not: a full disk is what people must hear of."""
        with contextlib.suppress(Empty):
            while True:
                entry = self._entries.get_nowait()
                if entry.seq > self._seen:
                    yield entry

    def _take(self, entry: JournalEntry) -> None:
        self._seen = entry.seq
        self._tell(self._composer.take(entry))

    def _tell(self, alerts: Iterator[Alert]) -> None:
        for alert in alerts:
            for way in self._ways:
                way.hand_over(alert)


@dataclass
class _Following:
    """All that follows one run."""

    watched: Watched
    telemetry: Telemetry
    directory: Path
    deliveries: Sequence[Delivery]
    say: Say
    commands: Commands | None

    def __post_init__(self) -> None:
        self.cursor = Cursor(self.directory, self.watched.run.id)
        self.publisher = self._publisher()
        watched, settings, cursor = self.watched, self.telemetry.alerts, self.cursor
        publishers = [] if self.publisher is None else [self.publisher]
        self.to_people = Alerting(
            watched, settings, cursor, PEOPLE, watched.for_people, self.deliveries
        )
        self.to_broker = Alerting(watched, settings, cursor, BROKER, watched.for_broker, publishers)

    @property
    def is_heard(self) -> bool:
        """Whether the broker, if there is one, has been there."""
        return self.publisher is None or self.publisher.connected.is_set()

    @property
    def nothing_is_left(self) -> bool:
        """Whether all that is on disk has been told, of a run that may still be taken up again."""
        readers = [PEOPLE, BROKER, *([] if self.publisher is None else [EVENTS])]
        told, end = [self.cursor.get(each) for each in readers], self.watched.end()
        return all(each is not None and each >= end for each in told)

    async def run(self, leave: asyncio.Event) -> None:
        """Tell until ``leave`` is set, and then for as long as is worth while."""
        publisher, patience_s = self.publisher, self.telemetry.alerts.patience_s
        async with AsyncExitStack() as stack:
            self._begin(stack, "cursor", self._keep_cursor, leave)
            to_people = self._begin(stack, "alerts", self.to_people.run, leave)
            to_broker = self._begin(stack, "alerts over MQTT", self.to_broker.run, leave)
            heard, publishing = asyncio.Event(), None
            if publisher is not None:
                publishing = self._begin(stack, "MQTT", publisher.run, heard)
            await leave.wait()
            # The last alerts go through the broker, too.
            await asyncio.wait({to_people, to_broker}, timeout=_NOTICEABLE_S)
            heard.set()
            if publishing is not None:
                await asyncio.wait({publishing}, timeout=_FINISH_S)
            if not to_people.done() and self.watched.picture is not None:
                text = f"alerts are not delivered yet: trying for up to {patience_s:.0f} s more"
                self.say("telling", text)
            await asyncio.wait({to_people}, timeout=patience_s)
            await asyncio.wait({to_broker}, timeout=2 * _LOOK_S)
            self._close(all_told=_succeeded(to_people) and _succeeded(to_broker))

    async def _keep_cursor(self, _leave: asyncio.Event) -> None:
        """Every second, and not for each entry: the disk is the run's."""
        while True:
            self.cursor.keep()
            await asyncio.sleep(_KEPT_S)

    async def catch_up(self, store: Store) -> None:
        """Tell what earlier processes have left, once the broker is there."""
        if self.publisher is not None:
            await self.publisher.connected.wait()
        runs = {run.id: run for run in store.runs()}
        for run_id in cursors.left(self.directory):
            if run_id == self.watched.run.id or run_id not in runs:
                continue
            path = store.run_path(run_id)
            with cursors.owned(self.directory, run_id) as mine:
                if mine and path.is_file():
                    rest = Watched(runs[run_id], path)
                    over = asyncio.Event()
                    over.set()
                    following = _Following(
                        rest, self.telemetry, self.directory, self.deliveries, self.say, None
                    )
                    if not following.nothing_is_left:
                        await following.run(over)

    def _begin(
        self,
        stack: AsyncExitStack,
        what: str,
        work: Callable[[asyncio.Event], Awaitable[None]],
        leave: asyncio.Event,
    ) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._again_and_again(what, work, leave))

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)
        return task

    async def _again_and_again(
        self, what: str, work: Callable[[asyncio.Event], Awaitable[None]], leave: asyncio.Event
    ) -> bool:
        """Have something done to its end, also when it fails on the way; returns whether it was."""
        rare = Rare(_SAID_APART_S)
        while True:
            leaving = leave.is_set()
            try:
                await work(leave)
            except (OSError, sqlite3.Error, CellbenchError) as error:
                text = str(error)
            except Exception as error:  # noqa: BLE001 (a mistake here is not the run's end)
                text = f"internal error: {type(error).__name__}: {error}"
            else:
                return True
            if rare.admits(text) is not None:
                self.say("telling", f"{what}: {text}; tried again")
            if leaving:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leave.wait(), _PAUSE_S)

    def _close(self, *, all_told: bool) -> None:
        all_told = all_told and (self.publisher is None or self.publisher.all_told)
        self.cursor.keep()
        if all_told and self.watched.over():
            self.cursor.close()
        elif not all_told and self.watched.picture is not None:
            self.say("telling", "not everybody has heard all of this run; the next one tells it")

    def _publisher(self) -> Publisher | None:
        settings, run = self.telemetry.mqtt, self.watched.run
        if settings is None:
            return None
        from cellbench.telemetry.broker import Broker  # noqa: PLC0415 (an extra)
        from cellbench.telemetry.publisher import Publisher  # noqa: PLC0415

        bench = topics.bench_topic(self.telemetry.site, run.bench)
        place = hashlib.sha256(f"{platform.node()} {self.directory}".encode()).hexdigest()[:8]
        broker = Broker(self.telemetry, f"cellbench-{place}-{run.id}", self.say)
        gate = None
        if settings.commands is not None and self.commands is not None:
            topic = topics.run_topic(bench, run.id)
            operators, within_s = self.telemetry.operators, settings.commands.within_s
            gate = Gate(operators, topic, self.cursor, within_s, self.commands, self.say)
        return Publisher(broker, bench, self.watched, self.cursor, settings.every_s, gate)


def _succeeded(task: asyncio.Task[bool]) -> bool:
    return task.done() and task.result()
