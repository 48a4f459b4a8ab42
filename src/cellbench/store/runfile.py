"""One run's file: written through a single thread, acknowledged after commit, read by anyone.

Samples are handed over without waiting and are durable within `FLUSH_INTERVAL_S` of wall time; a
journal entry is awaited, and everything handed over before it is committed with it. While the disk
is full, or in other trouble that may pass, everything waits in memory, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, event, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import Pool, StaticPool
from sqlmodel import SQLModel, create_engine

from cellbench.clock import unseen
from cellbench.errors import StoreError
from cellbench.store.archive import archived, compacted
from cellbench.store.tables import (
    FORMAT_VERSION,
    SAMPLE_COLUMNS,
    TABLES,
    Document,
    JournalEntry,
    SampleRow,
)
from cellbench.store.trouble import (
    PATIENCE_S,
    REST_S,
    RETRY_FIRST_S,
    RETRY_MOST_S,
    STALLED_ROWS,
    Backlog,
    Batch,
    FileGone,
    may_pass,
)
from cellbench.transport.recording import WireLog

#: Wall time between two commits: half of what is promised (docs/decisions/0002-run-file.md), and
#: what a page that shows live curves waits for.
FLUSH_INTERVAL_S = 0.25
#: Pages that a connection keeps. SQLite would fill 2 MB for each run with what is never looked at
#: again: rows are only added.
_CACHE_KIB = 256
#: Rows waiting for the disk at which a fast (simulated) run waits for it.
BACKLOG_ROWS = 50_000

_SAMPLE = f"({', '.join('?' * len(SAMPLE_COLUMNS))})"
_INSERT_SAMPLE = f"INSERT INTO sample ({', '.join(SAMPLE_COLUMNS)}) VALUES {_SAMPLE}"  # noqa: S608 (constant names)
#: Samples that one statement inserts: between two statements the interpreter changes threads.
_SAMPLES_AT_ONCE = 64
_INSERT_SAMPLES = _INSERT_SAMPLE + f", {_SAMPLE}" * (_SAMPLES_AT_ONCE - 1)
_INSERT_WIRE = "INSERT INTO wire (piece) VALUES (?)"
_INSERT_ENTRY = insert(JournalEntry)


#: Told in the event loop's thread why the disk takes nothing, and with None that it does again.
StallListener = Callable[[str | None], None]


def open_engine(path: Path, *, durable: bool, pool: type[Pool] = StaticPool) -> Engine:
    """Return an engine on a SQLite file in WAL mode, with one connection until it is disposed of.

    Args:
        path: The file.
        durable: Whether a commit also survives loss of power (slower; for real hardware).
        pool: Another one, for a connection to each thread that needs one.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=pool,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")

    return engine


def make_tables(engine: Engine, *, wire: bool) -> None:
    """Make the tables of a run's file.

    Args:
        engine: On the file.
        wire: Whether a wire log is to be kept in it.
    """
    SQLModel.metadata.create_all(
        engine,
        tables=[SQLModel.metadata.tables[t.__tablename__] for t in (JournalEntry, Document)],  # type: ignore[index]
    )
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # noqa: S101 (the driver of sqlite:///)
        script = "; ".join(TABLES[name] for name in TABLES if name != "wire" or wire)
        raw.executescript(f"{script}; PRAGMA user_version={FORMAT_VERSION};")


class RunWriter:
    """The only writer of a run's file.

    Args:
        path: The file, which must not exist yet.
        durable: See `open_engine`.
        wire: The wire log to keep with the run; what goes over the wire after `close` is for
            `keep_rest_of_wire`.
        acknowledged: Awaited before whoever waited for the disk goes on.
        again: Go on with a file that is there.
        rows_kept: Rows that are kept in memory while the disk takes none; later ones are lost,
            and counted.

    Attributes:
        stall: Why the disk takes nothing at the moment, in SQLite's words; None while it does.
        stall_listeners: Told of each change of it.
        rows_lost: Rows that are not kept and will not be.
        entries_lost: The same of journal entries.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool,
        wire: WireLog | None = None,
        acknowledged: Callable[[], Awaitable[None]] | None = None,
        again: bool = False,
        rows_kept: int = STALLED_ROWS,
    ) -> None:
        self.path = path
        self.rows_kept = rows_kept
        self.rows_lost = self.entries_lost = 0
        self.stall: str | None = None
        self.stall_listeners: list[StallListener] = []
        self._wire = wire
        self._acknowledged = acknowledged
        self._queue: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        # Appending wakes nobody: a thread woken for each row would cost more than the row.
        self._samples: deque[SampleRow] = deque()
        self._backlog = Backlog()
        self._retry_s = self._retry_in_s = 0.0
        self._patient_until_s: float | None = None
        self._failure: Exception | None = None
        self._severed = False
        self._loop = asyncio.get_running_loop()
        self._engine = open_engine(path, durable=durable)
        try:
            if again:
                self._must_hold_rows()
            else:
                make_tables(self._engine, wire=wire is not None)
            self._file = _file_at(path)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            self._engine.dispose()
            raise StoreError(f"the run's file {path} cannot be made: {error}") from error
        self._thread = threading.Thread(target=self._work, name="run file", daemon=True)
        self._thread.start()

    def _must_hold_rows(self) -> None:
        with self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)  # noqa: S101 (the driver of sqlite:///)
            elsewhere = archived(raw).keys() & {"sample", "spectrum"}
        if elsewhere:
            self._engine.dispose()
            raise StoreError(compacted(self.path))

    def add_sample(self, row: SampleRow) -> None:
        """Hand over a sample; raises StoreError if earlier ones could not be written."""
        if self._failure is not None:
            self._check()
        if self.stall is not None and self.rows_waiting >= self.rows_kept:
            self.rows_lost += 1
            return
        self._samples.append(row)

    def add_samples(self, rows: Iterable[SampleRow]) -> None:
        """Hand over several."""
        for row in rows:
            self.add_sample(row)

    def add_step(self, step_id: int, path: str, kind: str) -> None:
        """Register a step that samples will refer to."""
        self._check()
        self._queue.put(
            Batch(statements=[("INSERT INTO step VALUES (?, ?, ?)", (step_id, path, kind))])
        )

    def add_spectrum(self, row: Mapping[str, Any]) -> None:
        """Hand over a spectrum: values by column name of the table."""
        self._check()
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        statement = f"INSERT INTO spectrum ({names}) VALUES ({marks})"  # noqa: S608 (our names)
        self._queue.put(Batch(statements=[(statement, tuple(row.values()))]))

    async def add_entries(self, entries: Iterable[JournalEntry]) -> None:
        """Commit journal entries with everything handed over before; returns when durable."""
        await self._send(Batch(entries=list(entries)))

    def add_entries_soon(self, entries: Iterable[JournalEntry]) -> None:
        """Hand over journal entries without waiting; durable like samples."""
        self._queue.put(Batch(entries=list(entries)))

    async def add_documents(self, documents: Mapping[str, str]) -> None:
        """Commit texts kept verbatim."""
        insert = "INSERT OR REPLACE INTO document (name, text) VALUES (?, ?)"
        statements = [(insert, item) for item in documents.items()]
        await self._send(Batch(statements=statements))

    @property
    def rows_waiting(self) -> int:
        """Rows that are not on disk yet."""
        return len(self._samples) + self._backlog.rows

    @property
    def backlogged(self) -> bool:
        """Whether so much waits for the disk that a fast run had better `flush`."""
        return self.stall is None and len(self._samples) > BACKLOG_ROWS

    async def flush(self) -> None:
        """Return when everything handed over is durable."""
        await self._send(Batch())

    def hurry(self, patience_s: float = PATIENCE_S) -> None:
        """Let trouble be final that lasts for so much wall time from now: the run is ending."""
        if self._patient_until_s is None:
            self._patient_until_s = time.monotonic() + patience_s
            self._retry_s, self._retry_in_s = 0.0, RETRY_FIRST_S
            self._queue.put(Batch())

    async def close(self) -> None:
        """Commit what waits and end the thread; safe to call after a failure.

        Raises:
            StoreError: Not everything that was handed over is on disk.
        """
        self.hurry()
        try:
            if self._thread.is_alive():
                await self._put(Batch(last=True))
        finally:
            self._thread.join()
            self._engine.dispose()
        self._check()
        if self.rows_lost:
            raise StoreError(f"{self.path}: {self._lost()}")

    def sever(self) -> None:
        """Lose all that is not on disk yet, as the death of the process does; for simulations."""
        self._severed = True
        self._queue.put(Batch(last=True))
        self._thread.join()
        self._engine.dispose()

    async def _send(self, batch: Batch) -> None:
        self._check()
        await self._put(batch)
        if self._wire is not None:
            self._wire.kept()
        if self._acknowledged is not None:
            await self._acknowledged()

    async def _put(self, batch: Batch) -> None:
        batch.done, batch.kept = self._loop.create_future(), self._loop.create_future()
        self._queue.put(batch)
        if not await unseen(batch.done):
            await self._outlast(batch.kept)

    async def _outlast(self, kept: asyncio.Future[bool]) -> None:
        """Wait for a disk in trouble, for as long as it takes.

        A simulated bench needs time to come to rest; who steers the run stops its clock then. Of a
        run that is ending all is at rest.
        """
        while self._patient_until_s is None and not kept.done():
            await asyncio.wait({kept}, timeout=REST_S)
        await unseen(kept, patient=True)

    def _check(self) -> None:
        if self._failure is not None:
            raise StoreError(self._why_not(self._failure)) from self._failure

    def _why_not(self, failure: Exception) -> str:
        text = f"the run's data can no longer be written to {self.path}: {failure}"
        return f"{text}; {self._lost()}" if self.rows_lost or self.entries_lost else text

    def _lost(self) -> str:
        return f"lost are {self.rows_lost} rows of samples, {self.entries_lost} journal entries"

    # --- The writer thread ----------------------------------------------------------------------

    def _work(self) -> None:
        """Gather, commit, acknowledge; in trouble keep what was gathered, and try again."""
        backlog = self._backlog
        while True:
            self._gather(backlog)
            if self._severed:
                self._failure = OSError("the process is gone")
            is_last = backlog.is_last
            self._commit(backlog)
            if is_last and self.stall is None:
                return

    def _gather(self, backlog: Backlog) -> None:
        if self.stall is not None:
            self._gather_in_trouble(backlog)
            return
        # Whatever waits is committed at the latest one interval after the last commit.
        with contextlib.suppress(queue.Empty):
            while not (batches := backlog.batches) or not (batches[-1].done or batches[-1].last):
                batches.append(self._queue.get(timeout=FLUSH_INTERVAL_S))

    def _gather_in_trouble(self, backlog: Backlog) -> None:
        """Gather until the next attempt is due; whoever waits is told that it takes longer."""
        while not self._severed:
            due_s = min(self._retry_s, self._patient_until_s or self._retry_s)
            with contextlib.suppress(queue.Empty):
                batch = self._queue.get(timeout=max(0.0, due_s - time.monotonic()))
                backlog.batches.append(batch)
                self._tell(batch.done, kept=False)
                continue
            return

    def _commit(self, backlog: Backlog) -> None:
        failure = self._failure
        if failure is None:
            try:
                self._write(backlog)
            except Exception as error:  # noqa: BLE001 (the thread must live to tell of it)
                failure = getattr(error, "orig", None) or error
                if may_pass(failure) and not self._is_out_of_patience():
                    self._stall(failure, backlog)
                    return
                # In this order: whoever sees the failure sees what it cost.
                self.rows_lost += len(backlog.samples) + len(self._samples)
                self._failure = failure
        if failure is not None:
            self.entries_lost += backlog.entries
        for batch in backlog.batches:
            self._tell(batch.done, kept=True, failure=failure)
            self._tell(batch.kept, kept=True, failure=failure)
        backlog.clear()
        if failure is not None:
            self.stall = None  # nobody waits for it any more
        elif self.stall is not None:
            self._change_stall(None)

    def _stall(self, trouble: Exception, backlog: Backlog) -> None:
        """Keep what was gathered, and be due again later each time."""
        if self.stall is None:
            self._retry_in_s = RETRY_FIRST_S
            for batch in backlog.batches:
                self._tell(batch.done, kept=False)
        if self.stall != str(trouble):
            self._change_stall(str(trouble))
        self._retry_s = time.monotonic() + self._retry_in_s
        self._retry_in_s = min(2 * self._retry_in_s, RETRY_MOST_S)

    def _is_out_of_patience(self) -> bool:
        return self._patient_until_s is not None and time.monotonic() >= self._patient_until_s

    def _change_stall(self, why: str | None) -> None:
        self.stall = why
        self._loop.call_soon_threadsafe(self._tell_listeners, why)

    def _tell_listeners(self, why: str | None) -> None:
        for listener in list(self.stall_listeners):
            listener(why)

    def _tell(
        self, waiter: asyncio.Future[bool] | None, *, kept: bool, failure: Exception | None = None
    ) -> None:
        if waiter is None:
            return
        error = None if failure is None else StoreError(self._why_not(failure))
        if error is not None:
            error.__cause__ = failure
        self._loop.call_soon_threadsafe(_acknowledge, waiter, kept, error)

    def _write(self, backlog: Backlog) -> None:
        backlog.samples.extend(self._samples.popleft() for _ in range(len(self._samples)))
        piece = b"" if self._wire is None else self._wire.take()
        if piece:
            backlog.wire.append(piece)
        if not backlog.samples and not backlog.batches and not backlog.wire:
            return
        if _file_at(self.path) != self._file:
            raise FileGone("the file was moved, deleted or replaced")
        with self._engine.begin() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)  # noqa: S101 (the driver of sqlite:///)
            _insert_samples(raw, backlog.samples)
            for each in backlog.wire:
                raw.execute(_INSERT_WIRE, (each,))
            for batch in backlog.batches:
                for statement, values in batch.statements:
                    raw.execute(statement, values)
            # A session would take many times as long as the rows: a run makes entries all the time.
            entries = [entry.model_dump() for batch in backlog.batches for entry in batch.entries]
            if entries:
                connection.execute(_INSERT_ENTRY, entries)


def keep_rest_of_wire(path: Path, wire: WireLog) -> None:
    """Keep what went over the wire while the bench was let go of, after the run's own end.

    Raises:
        StoreError: It cannot be written.
    """
    piece = wire.take()
    try:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(_INSERT_WIRE, (piece,))
    except sqlite3.Error as error:
        raise StoreError(f"the end of the wire log cannot be written to {path}: {error}") from error


def _insert_samples(file: sqlite3.Connection, rows: Sequence[SampleRow]) -> None:
    whole = len(rows) - len(rows) % _SAMPLES_AT_ONCE
    groups = (rows[at : at + _SAMPLES_AT_ONCE] for at in range(0, whole, _SAMPLES_AT_ONCE))
    file.executemany(_INSERT_SAMPLES, map(_values, groups))
    file.executemany(_INSERT_SAMPLE, (_values([row]) for row in rows[whole:]))


def _values(rows: Sequence[SampleRow]) -> list[float | str]:
    """What rows bind, one after the other.

    SQLite keeps a NaN as NULL, and sqlite3 looks for an adapter each time that it is given a None:
    that took longer than the row.
    """
    return [math.nan if value is None else value for row in rows for value in row]


def _file_at(path: Path) -> int | None:
    """What the operating system knows the file under a path by; None where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _acknowledge(waiter: asyncio.Future[bool], kept: bool, error: StoreError | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(kept)
    else:
        waiter.set_exception(error)
        waiter.exception()  # seen, whether or not anybody is still there who waits
