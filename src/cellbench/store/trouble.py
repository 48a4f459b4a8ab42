"""A disk that does not take what it is given: what may pass, and what is kept in memory meanwhile.

A full disk, a lock that another program holds and an error of input or output may pass: the writer
keeps everything in order and tries again. A file that is gone, damaged or not to be written stays
so, and the run ends.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbench.store.tables import JournalEntry, SampleRow

#: Wall time between two attempts: at first, and at most, each being twice the one before.
RETRY_FIRST_S = 0.5
RETRY_MOST_S = 10.0
#: Rows that are kept in memory while the disk takes none (about a third of a gigabyte).
STALLED_ROWS = 500_000
#: Bytes of the wire log, which wait too, count as a row each so many.
BYTES_PER_ROW = 500
#: Wall time for which a run that ends still waits for its disk.
PATIENCE_S = 10.0
#: Loop time in which a bench comes to rest; while a disk is waited for, simulated time passes for
#: so long, and then stands still.
REST_S = 300.0

#: SQLite's primary result codes (the low byte) of what may pass: locks, memory, files, the disk.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
#: Among errors of input and output those that say that the file system is damaged.
_DAMAGED = frozenset({sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_IOERR | 32 << 8})


class FileGone(Exception):
    """The file under a path is not the one that was opened: moved, deleted or replaced."""


def may_pass(error: BaseException) -> bool:
    """Whether what the disk refused now it may take later."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _PASSING and code not in _DAMAGED


@dataclass
class Batch:
    """Work for the writer thread; with futures it is committed at once and acknowledged.

    Attributes:
        done: Whether it is on disk; False means that the disk does not take it now, and that
            ``kept`` is to be waited for.
    """

    statements: Sequence[tuple[str, tuple[Any, ...]]] = ()
    entries: Sequence[JournalEntry] = ()
    done: asyncio.Future[bool] | None = None
    kept: asyncio.Future[bool] | None = None
    last: bool = False


@dataclass
class Backlog:
    """What the writer has taken and the disk not yet, in order; written whole or not at all."""

    batches: list[Batch] = field(default_factory=list)
    samples: list[SampleRow] = field(default_factory=list)
    wire: list[bytes] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How much memory it takes, as rows."""
        return len(self.samples) + sum(map(len, self.wire)) // BYTES_PER_ROW

    @property
    def entries(self) -> int:
        """How many journal entries are in it."""
        return sum(len(batch.entries) for batch in self.batches)

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return any(batch.last for batch in self.batches)

    def clear(self) -> None:
        """Forget it: it is on disk, or lost."""
        self.batches.clear()
        self.samples.clear()
        self.wire.clear()
