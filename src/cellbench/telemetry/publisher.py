"""A run on the broker: its state, its newest readings, its events in order, alerts, commands.

Events are read from the run's file, so that nothing is told that could be lost, and each counts as
told when the broker has acknowledged it: the cursor is the outbox. A broker that dies can take with
it what it has acknowledged, and whoever listens may be back later than this client. So what was
told shortly before a connection was lost is told again, at once and once more a little later;
receivers drop repeats by their number.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Any

from cellbench.store import JournalEntry
from cellbench.telemetry import topics
from cellbench.telemetry.alerts import Alert
from cellbench.telemetry.broker import Broker, Client, Will
from cellbench.telemetry.commands import Gate
from cellbench.telemetry.cursor import EVENTS, Cursor
from cellbench.telemetry.watched import Watched

#: How often the run's file is looked at.
_LOOK_S = 0.5
#: The bench says at least so often that it is there.
_PRESENCE_S = 30.0
#: What was told so long before a connection was found lost is told again.
_REPEATED_S = 120.0
#: ... and once more so long after it is there again.
_ONCE_MORE_S = 20.0
#: Events that are on their way at a time.
_ON_THEIR_WAY = 20
_ALERTS_KEPT = 100


class Publisher:
    """Tells a broker of one run, and of what is left to tell of an earlier one.

    Args:
        broker: The broker.
        bench: Topic of the bench.
        watched: The run.
        cursor: How far it has been told.
        every_s: How often the newest readings are told at most.
        gate: Takes commands; None: there are none.

    Attributes:
        connected: Set when the broker was there for the first time.
    """

    def __init__(
        self,
        broker: Broker,
        bench: str,
        watched: Watched,
        cursor: Cursor,
        every_s: float,
        gate: Gate | None = None,
    ) -> None:
        self._broker, self._bench, self._watched, self._cursor = broker, bench, watched, cursor
        self._every_s, self._gate = every_s, gate
        self._topic = topics.run_topic(bench, watched.run.id)
        self._course = topics.Course(watched)
        told = cursor.get(EVENTS)
        self._told = -1 if told is None else told
        self._acknowledged: deque[tuple[float, int]] = deque()
        self._repeat_from: int | None = None
        self._repeat_at_s = 0.0
        self._alerts: deque[dict[str, Any]] = deque(maxlen=_ALERTS_KEPT)
        self._shown: dict[str, bytes] = {}
        self._due_s: dict[str, float] = {}
        self._shown_s: float | None = None
        self.connected = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether the alerts that were handed over have been told."""
        return not self._alerts

    def hand_over(self, alert: Alert) -> None:
        """Have an alert told; while the broker is away the newest hundred are kept."""
        self._alerts.append(topics.alert(self._watched.run.id, alert))

    async def run(self, leave: asyncio.Event) -> None:
        """Tell until ``leave`` is set and all is told."""
        await self._broker.stay_connected(
            self._will, lambda client: self._serve(client, leave), leave
        )

    def _will(self) -> Will | None:
        if not self._is_here:
            return None
        gone = topics.payload(self._presence(online=False) | {"reason": "connection lost"})
        return Will(f"{self._bench}/state", gone, qos=1, retain=True)

    @property
    def _is_here(self) -> bool:
        """Whether the run is this process's own, and no earlier one's."""
        return self._watched.picture is not None

    @property
    def all_told(self) -> bool:
        """Whether every entry of the run's file has been acknowledged."""
        told = self._cursor.get(EVENTS)
        return told is not None and told >= self._watched.end()

    async def _serve(self, client: Client, leave: asyncio.Event) -> None:
        self._begin_again()
        self.connected.set()
        telling = asyncio.create_task(self._tell(client, leave))
        listening = asyncio.create_task(self._listen(client))
        tasks = (telling, listening)
        try:
            # Listening ends with the connection: it notices its loss also when nothing is to tell.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._note_what_may_be_lost()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _note_what_may_be_lost(self) -> None:
        """At the end of a connection: go back to what its broker may not have handed on."""
        now_s = asyncio.get_running_loop().time()
        recent = [seq for told_s, seq in self._acknowledged if told_s >= now_s - _REPEATED_S]
        if recent:
            self._told = min(self._told, recent[0] - 1)

    def _begin_again(self) -> None:
        """Forget what another broker was shown; what is repeated is repeated once more later."""
        self._shown.clear()
        self._due_s.clear()
        if self._acknowledged:
            self._repeat_from = self._told
            self._repeat_at_s = asyncio.get_running_loop().time() + _ONCE_MORE_S

    async def _tell(self, client: Client, leave: asyncio.Event) -> None:
        while True:
            leaving = leave.is_set()
            try:
                await self._tell_what_is_new(client, leaving=leaving)
            except sqlite3.OperationalError:
                # Busy, or not there yet: the run's writer comes first.
                await asyncio.sleep(_LOOK_S)
                continue
            if leaving:
                await self._go(client)
                return
            await asyncio.sleep(_LOOK_S)

    async def _tell_what_is_new(self, client: Client, *, leaving: bool) -> None:
        self._course.read_on()
        if self._is_here:
            here = self._presence(online=True)
            await self._show(client, f"{self._bench}/state", here, _PRESENCE_S)
        await self._show(client, f"{self._topic}/state", self._course.facts(), None)
        await self._readings(client)
        await self._send_alerts(client)
        now_s = asyncio.get_running_loop().time()
        if self._repeat_from is not None and (leaving or now_s >= self._repeat_at_s):
            self._told, self._repeat_from = min(self._told, self._repeat_from), None
        while entries := self._watched.after(self._told):
            await self._send_events(client, entries)

    async def _show(
        self, client: Client, topic: str, content: dict[str, Any], every_s: float | None
    ) -> None:
        """Keep a retained message up to date; with a time, it is said again that often."""
        now_s, shown = asyncio.get_running_loop().time(), topics.payload(content)
        due = every_s is not None and now_s >= self._due_s.get(topic, 0.0)
        if self._shown.get(topic) == shown and not due:
            return
        await client.publish(topic, shown, qos=1, retain=True)
        self._shown[topic] = shown
        if every_s is not None:
            self._due_s[topic] = now_s + every_s

    async def _readings(self, client: Client) -> None:
        picture, now_s = self._watched.picture, asyncio.get_running_loop().time()
        topic = f"{self._topic}/telemetry"
        if picture is None or not picture.latest or now_s < self._due_s.get(topic, 0.0):
            return
        if picture.time_s == self._shown_s:
            return  # nothing was measured since
        self._shown_s = picture.time_s
        # Not retained: a reading that waits on a broker would look like one of today.
        await client.publish(topic, topics.payload(topics.telemetry(self._watched, picture)))
        self._due_s[topic] = now_s + self._every_s

    async def _send_events(self, client: Client, entries: Sequence[JournalEntry]) -> None:
        for first in range(0, len(entries), _ON_THEIR_WAY):
            some = entries[first : first + _ON_THEIR_WAY]
            await _together(client, f"{self._topic}/event", self._events(some))
            now_s = asyncio.get_running_loop().time()
            self._acknowledged.extend((now_s, entry.seq) for entry in some)
            while self._acknowledged and self._acknowledged[0][0] < now_s - 2 * _REPEATED_S:
                self._acknowledged.popleft()
            self._told = some[-1].seq
            self._cursor.advance(EVENTS, self._told)

    def _events(self, entries: Sequence[JournalEntry]) -> list[bytes]:
        run_id = self._watched.run.id
        return [topics.payload(topics.event(run_id, entry)) for entry in entries]

    async def _send_alerts(self, client: Client) -> None:
        while self._alerts:
            alert = self._alerts[0]
            await client.publish(f"{self._topic}/alert", topics.payload(alert), qos=1)
            if self._alerts[0] is alert:  # and did not give way to a newer one meanwhile
                self._alerts.popleft()

    async def _go(self, client: Client) -> None:
        if self._is_here:
            gone = self._presence(online=False) | {"reason": "the run is over"}
            await client.publish(f"{self._bench}/state", topics.payload(gone), qos=1, retain=True)

    def _presence(self, *, online: bool) -> dict[str, Any]:
        run = self._watched.run
        return {
            "bench": run.bench,
            "online": online,
            "run": run.id,
            "state": self._course.state,
            "simulated": run.simulated,
        }

    async def _listen(self, client: Client) -> None:
        if self._gate is not None:
            await client.subscribe(f"{self._topic}/command", qos=1)
        async for message in client.messages:
            if self._gate is None or not isinstance(message.payload, bytes):
                continue
            answer = await self._gate.take(message.payload, retained=message.retain)
            if answer is not None:
                await client.publish(f"{self._topic}/answer", topics.payload(answer), qos=1)


async def _together(client: Client, topic: str, payloads: Sequence[bytes]) -> None:
    """Publish several messages in order, and wait until the broker has acknowledged them all."""
    publishing = [asyncio.ensure_future(client.publish(topic, each, qos=1)) for each in payloads]
    try:
        await asyncio.gather(*publishing)
    finally:
        for each in publishing:
            each.cancel()
        await asyncio.gather(*publishing, return_exceptions=True)
