"""What a run's file says of how the run went: its end, its deviations, its samples, its cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cellbench.analysis.dataset import FloatArray
from cellbench.analysis.stored import channel_names, environment
from cellbench.cell import CellCard
from cellbench.instruments.readings import Flag
from cellbench.protocol.source import document_of, load
from cellbench.store import JournalEntry, Run, RunReader

#: Names of the documents that reports look for; the others are shown or left alone.
PROTOCOL, CARD = "protocol", "cell"


@dataclass(frozen=True)
class Counts:
    """How many samples a run has, and how many of them are not what they should be.

    Attributes:
        total: Rows that were kept.
        missing: Rows of the channel that never arrived.
        late, saturated, stale, not_held: Rows that carry this flag.
    """

    total: int
    missing: int
    late: int
    saturated: int
    stale: int
    not_held: int


@dataclass(frozen=True)
class Record:
    """One run's catalogue entry and journal, read the way a report tells them."""

    reader: RunReader
    run: Run

    def entries(self, kind: str) -> Sequence[JournalEntry]:
        """The journal's entries of one kind, in order."""
        return [entry for entry in self.reader.journal if entry.kind == kind]

    @property
    def deviations(self) -> Sequence[JournalEntry]:
        """What was done otherwise than the protocol asked."""
        return self.entries("deviation")

    @property
    def warnings(self) -> Sequence[JournalEntry]:
        """What somebody should know, though the protocol was followed."""
        return self.entries("warning")

    @property
    def gaps(self) -> Sequence[JournalEntry]:
        """Times in which nobody saw the cell: a hold, a lost instrument, a lost host."""
        return self.entries("gap")

    @property
    def unseen_s(self) -> float:
        """How long these were together."""
        return math.fsum(each.data["to_s"] - each.data["from_s"] for each in self.gaps)

    @property
    def safe_states(self) -> Sequence[JournalEntry]:
        """What became of each instrument at the end."""
        return self._at_the_end("safe state")

    def _at_the_end(self, kind: str) -> Sequence[JournalEntry]:
        """Entries of one kind since the run was resumed last; it may have ended before."""
        resumed = self.entries("resumed")
        since = resumed[-1].seq if resumed else -1
        return [entry for entry in self.entries(kind) if entry.seq > since]

    @property
    def safe(self) -> bool:
        """Whether every instrument was read back in its safe state."""
        states = self.safe_states
        return bool(states) and all(entry.data.get("confirmed") for entry in states)

    @property
    def trip(self) -> JournalEntry | None:
        """The limit that ended the run, None where none did."""
        return next(iter(self._at_the_end("trip")), None)

    @cached_property
    def tables(self) -> dict[str, dict[str, FloatArray]]:
        """Columns of every instrument's samples, by its name."""
        return {source: self.reader.samples(source) for source in self.reader.sources()}

    @property
    def channel(self) -> dict[str, FloatArray]:
        """Columns of the channel's samples, empty where it has none."""
        return self.reader.samples(*channel_names(self.environment))

    @cached_property
    def counts(self) -> Counts:
        """How many samples there are, and how many are flagged."""
        columns = [table["flags"] for table in self.tables.values()]
        flags = np.concatenate([np.empty(0), *columns]).astype(int)
        ends = self.entries("run ended")
        gaps = int(np.count_nonzero(flags & Flag.MISSING))
        return Counts(
            total=len(flags),
            missing=sum(int(end.data.get("missing_samples", 0)) for end in ends) or gaps,
            late=int(np.count_nonzero(flags & Flag.LATE)),
            saturated=int(np.count_nonzero(flags & Flag.SATURATED)),
            stale=int(np.count_nonzero(flags & Flag.STALE)),
            not_held=int(np.count_nonzero(flags & Flag.NOT_HELD)),
        )

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, roles, identities."""
        return environment(self.reader)

    @cached_property
    def card(self) -> CellCard | None:
        """The cell card as the run kept it, None where it kept none."""
        text = self.reader.documents.get(CARD)
        if text is None:
            return None
        return CellCard.model_validate(load(document_of(text, CARD)).plain())

    @property
    def layout(self) -> str:
        """From working to counter electrode, else the cell's name."""
        return self.run.cell if self.card is None else self.card.layout

    @property
    def duration_s(self) -> float:
        """Test time from the first to the last entry of the journal."""
        journal = self.reader.journal
        return journal[-1].time_s if journal else 0.0
