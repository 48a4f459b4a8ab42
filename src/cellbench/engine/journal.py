"""The journal as the engine writes it: numbered entries, durable before what they announce."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cellbench.store import JournalEntry, RunWriter

Listener = Callable[[JournalEntry], None]


class Journal:
    """Enters what was decided, with the time since the start of the run.

    Args:
        writer: The run's file.
        started: UTC of the run's start; an entry's UTC follows from it by the loop's clock, so that
            steps of the computer's clock never reach it.
        first: Number of its first entry: of a run that goes on, the next one.
        age_s: How long ago the run started.
    """

    def __init__(
        self, writer: RunWriter, started: datetime, *, first: int = 0, age_s: float = 0.0
    ) -> None:
        self._writer = writer
        self._started = started
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time() - age_s
        self._seq = first
        self.listeners: list[Listener] = []

    @property
    def now_s(self) -> float:
        """Time since the start of the run."""
        return self._loop.time() - self._start_s

    @property
    def utc_now(self) -> datetime:
        """UTC as entries made now would bear it."""
        return self._started + timedelta(seconds=self.now_s)

    def since_start(self, loop_time_s: float) -> float:
        """A loop time as time since the start of the run."""
        return loop_time_s - self._start_s

    def loop_time(self, time_s: float) -> float:
        """A time since the start of the run as a loop time."""
        return time_s + self._start_s

    async def enter(self, kind: str, *, step: str = "", text: str = "", **data: Any) -> None:
        """Enter one fact; returns when it is durable."""
        await self._writer.add_entries([self._entry(kind, step, text, data)])

    async def durable(self) -> None:
        """Return when all that was entered is durable."""
        await self._writer.flush()

    def enter_soon(self, kind: str, *, step: str = "", text: str = "", **data: Any) -> None:
        """Enter one fact without waiting for the disk: what comes next cannot wait."""
        self._writer.add_entries_soon([self._entry(kind, step, text, data)])

    def _entry(self, kind: str, step: str, text: str, data: dict[str, Any]) -> JournalEntry:
        time_s = round(self.now_s, 9)
        entry = JournalEntry(
            seq=self._seq,
            time_s=time_s,
            utc=self._started + timedelta(seconds=time_s),
            kind=kind,
            step=step,
            text=text,
            data=data,
        )
        self._seq += 1
        # Listeners first: what a person must know does not wait for, or fail with, the disk.
        for listener in list(self.listeners):
            self._tell(listener, entry)
        return entry

    def _tell(self, listener: Listener, entry: JournalEntry) -> None:
        try:
            listener(entry)
        except (Exception, SystemExit):  # noqa: BLE001 (a closed terminal is no reason to stop)
            # rich ends the process when its pipe is closed; a run outlives whoever was watching.
            self.listeners.remove(listener)
