"""What telemetry knows of a run: its catalogue entry, its file, and what it looks like just now."""

from __future__ import annotations

import json
import queue
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from cellbench.store import JournalEntry, Run

#: Entries that are read from the file in one go.
_ENTRIES_AT_ONCE = 500


class Reading(Protocol):
    """The newest value of a quantity, and its time since the start of the run."""

    value: float
    time_s: float


class Picture(Protocol):
    """What a run looks like just now; read from another thread, never waited for."""

    time_s: float
    step_number: int | None
    steps_planned: int | None
    planned_end_s: float | None

    @property
    def latest(self) -> Mapping[str, Reading]:
        """Newest readings by name with unit, e.g. ``voltage_V``."""


class Say(Protocol):
    """Enters in the run's journal, or says elsewhere, what telemetry has to say."""

    def __call__(self, kind: str, text: str, /, **data: Any) -> None:
        """Enter one fact."""


@dataclass(frozen=True)
class Watched:
    """A run that is told of.

    Attributes:
        path: Its file.
        picture: None for a run that is over, of which something is left to tell.
        begun_after: Number of the last entry that was there before this process told of the run.
        for_people, for_broker: Of a run under way, its journal entries as they are made, before
            they are on disk: what alerts are made of, for each of the two to be told.
    """

    run: Run
    path: Path
    picture: Picture | None = None
    begun_after: int = -1
    for_people: queue.SimpleQueue[JournalEntry] = field(default_factory=queue.SimpleQueue)
    for_broker: queue.SimpleQueue[JournalEntry] = field(default_factory=queue.SimpleQueue)

    def put(self, entry: JournalEntry) -> None:
        """Take an entry that was just made; from the run's own thread."""
        self.for_people.put(entry)
        self.for_broker.put(entry)

    def after(self, seq: int) -> Sequence[JournalEntry]:
        """The next entries on disk after a number, some hundred at most; none is no error."""
        query = (
            "SELECT seq, time_s, utc, kind, step, text, data FROM journalentry "
            "WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        return [_entry(*row) for row in self._rows(query, (seq, _ENTRIES_AT_ONCE))]

    def end(self) -> int:
        """Number of the last entry on disk, -1 if there is none."""
        ((seq,),) = self._rows("SELECT max(seq) FROM journalentry")
        return -1 if seq is None else int(seq)

    def over(self) -> bool:
        """Whether the run has ended, by what is on disk, and was not taken up again."""
        ended = "max(CASE WHEN kind = 'run ended' THEN seq END)"
        stepped = "max(CASE WHEN kind IN ('step started', 'resumed', 'attached') THEN seq END)"
        query = f"SELECT {ended} > coalesce({stepped}, -1) FROM journalentry"  # noqa: S608 (ours)
        ((over,),) = self._rows(query)
        return bool(over)

    def _rows(self, query: str, values: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
        # Opened to be read, and only for as long as that takes: the run's writer tidies up its
        # file when it closes, as the last one who has it open.
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            return file.execute(query, values).fetchall()

    def utc(self, time_s: float) -> datetime:
        """The UTC of a time since the start of the run."""
        return utc(self.run.started) + timedelta(seconds=time_s)


def utc(time: datetime) -> datetime:
    """A time of the store, which keeps UTC without saying so."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _entry(
    seq: int, time_s: float, utc_text: str, kind: str, step: str, text: str, data: str | None
) -> JournalEntry:
    return JournalEntry(
        seq=seq,
        time_s=time_s,
        utc=utc(datetime.fromisoformat(utc_text)),
        kind=kind,
        step=step,
        text=text,
        data=json.loads(data) if data else {},
    )
