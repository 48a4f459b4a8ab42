"""One run's file: written through a single thread, acknowledged after commit, read by anyone.

Samples are handed over without waiting and are durable within `FLUSH_INTERVAL_S` of wall time; a
journal entry is awaited, and everything handed over before it is committed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, event, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool
from sqlmodel import SQLModel, create_engine

from cellbench.clock import unseen
from cellbench.errors import StoreError
from cellbench.store.tables import (
    FORMAT_VERSION,
    SAMPLE_COLUMNS,
    SCHEMA,
    WIRE_SCHEMA,
    Document,
    JournalEntry,
)
from cellbench.transport.recording import WireLog

#: Wall time within which an acknowledged sample is on disk.
FLUSH_INTERVAL_S = 0.5
#: Rows waiting for the disk at which a fast (simulated) run waits for it.
BACKLOG_ROWS = 50_000

SampleRow = tuple[
    float, str, int, float | None, float | None, float | None, float | None, float | None, int,
    int | None,
]  # fmt: skip
_INSERT_SAMPLE = (
    f"INSERT INTO sample ({', '.join(SAMPLE_COLUMNS)}) "  # noqa: S608 (constant names)
    f"VALUES ({', '.join('?' * len(SAMPLE_COLUMNS))})"
)
_INSERT_WIRE = "INSERT INTO wire (piece) VALUES (?)"
_INSERT_ENTRY = insert(JournalEntry)


@dataclass(frozen=True)
class _Batch:
    """Work for the writer thread; with a future it is committed at once and acknowledged."""

    statements: Sequence[tuple[str, tuple[Any, ...]]] = ()
    entries: Sequence[JournalEntry] = ()
    done: asyncio.Future[None] | None = None
    last: bool = False


def open_engine(path: Path, *, durable: bool) -> Engine:
    """Return an engine on a SQLite file in WAL mode, with one connection until it is disposed of.

    Args:
        path: The file.
        durable: Whether a commit also survives loss of power (slower; for real hardware).
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")

    return engine


class RunWriter:
    """The only writer of a run's file.

    Args:
        path: The file, which must not exist yet.
        durable: See `open_engine`.
        wire: The wire log to keep with the run; what goes over the wire after `close` is for
            `keep_rest_of_wire`.
        acknowledged: Awaited before whoever waited for the disk goes on.
        again: Go on with a file that is there.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool,
        wire: WireLog | None = None,
        acknowledged: Callable[[], Awaitable[None]] | None = None,
        again: bool = False,
    ) -> None:
        self.path = path
        self._wire = wire
        self._acknowledged = acknowledged
        self._queue: queue.SimpleQueue[_Batch] = queue.SimpleQueue()
        # Appending wakes nobody: a thread woken for each row would cost more than the row.
        self._samples: deque[SampleRow] = deque()
        self._failure: Exception | None = None
        self._severed = False
        self._loop = asyncio.get_running_loop()
        self._engine = open_engine(path, durable=durable)
        try:
            if not again:
                self._create()
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._engine.dispose()
            raise StoreError(f"the run's file {path} cannot be made: {error}") from error
        self._thread = threading.Thread(target=self._work, name="run file", daemon=True)
        self._thread.start()

    def _create(self) -> None:
        SQLModel.metadata.create_all(
            self._engine,
            tables=[SQLModel.metadata.tables[t.__tablename__] for t in (JournalEntry, Document)],  # type: ignore[index]
        )
        with self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)  # noqa: S101 (the driver of sqlite:///)
            raw.executescript(f"{SCHEMA} PRAGMA user_version={FORMAT_VERSION};")
            if self._wire is not None:
                raw.execute(WIRE_SCHEMA)
                raw.commit()

    def add_samples(self, rows: Sequence[SampleRow]) -> None:
        """Hand over samples; raises StoreError if earlier ones could not be written."""
        if self._failure is not None:
            self._check()
        self._samples.extend(rows)

    def add_step(self, step_id: int, path: str, kind: str) -> None:
        """Register a step that samples will refer to."""
        self._check()
        self._queue.put(
            _Batch(statements=[("INSERT INTO step VALUES (?, ?, ?)", (step_id, path, kind))])
        )

    def add_spectrum(self, row: Mapping[str, Any]) -> None:
        """Hand over a spectrum: values by column name of the table."""
        self._check()
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        statement = f"INSERT INTO spectrum ({names}) VALUES ({marks})"  # noqa: S608 (our names)
        self._queue.put(_Batch(statements=[(statement, tuple(row.values()))]))

    async def add_entries(self, entries: Iterable[JournalEntry]) -> None:
        """Commit journal entries with everything handed over before; returns when durable."""
        await self._send(_Batch(entries=list(entries), done=self._loop.create_future()))

    def add_entries_soon(self, entries: Iterable[JournalEntry]) -> None:
        """Hand over journal entries without waiting; durable like samples."""
        self._queue.put(_Batch(entries=list(entries)))

    async def add_documents(self, documents: Mapping[str, str]) -> None:
        """Commit texts kept verbatim."""
        insert = "INSERT OR REPLACE INTO document (name, text) VALUES (?, ?)"
        statements = [(insert, item) for item in documents.items()]
        await self._send(_Batch(statements=statements, done=self._loop.create_future()))

    @property
    def backlogged(self) -> bool:
        """Whether so much waits for the disk that a fast run had better `flush`."""
        return len(self._samples) > BACKLOG_ROWS

    async def flush(self) -> None:
        """Return when everything handed over is durable."""
        await self._send(_Batch(done=self._loop.create_future()))

    async def close(self) -> None:
        """Commit what waits and end the thread; safe to call after a failure."""
        try:
            if self._thread.is_alive():
                done = self._loop.create_future()
                self._queue.put(_Batch(done=done, last=True))
                await unseen(done)
        finally:
            self._thread.join()
            self._engine.dispose()
        self._check()

    def sever(self) -> None:
        """Lose all that is not on disk yet, as the death of the process does; for simulations."""
        self._severed = True
        self._queue.put(_Batch(last=True))
        self._thread.join()
        self._engine.dispose()

    async def _send(self, batch: _Batch) -> None:
        assert batch.done is not None  # noqa: S101 (only called with one)
        self._check()
        self._queue.put(batch)
        await unseen(batch.done)
        if self._wire is not None:
            self._wire.kept()
        if self._acknowledged is not None:
            await self._acknowledged()

    def _check(self) -> None:
        if self._failure is not None:
            raise StoreError(
                f"the run's data can no longer be written to {self.path}: {self._failure}"
            ) from self._failure

    def _work(self) -> None:
        """The writer thread: gather, commit, acknowledge."""
        gathered: list[_Batch] = []
        while True:
            # Whatever waits is committed at the latest one interval after the last commit.
            with contextlib.suppress(queue.Empty):
                while not gathered or not (gathered[-1].done or gathered[-1].last):
                    gathered.append(self._queue.get(timeout=FLUSH_INTERVAL_S))
            if self._severed:
                self._failure = OSError("the process is gone")
            self._commit(gathered)
            if gathered and gathered[-1].last:
                return
            gathered.clear()

    def _commit(self, batches: Sequence[_Batch]) -> None:
        failure = self._failure
        if failure is None:
            try:
                self._write(batches)
            except Exception as error:  # noqa: BLE001 (the thread must live to tell of it)
                failure = self._failure = getattr(error, "orig", None) or error
        for batch in batches:
            if batch.done is not None:
                self._loop.call_soon_threadsafe(_acknowledge, batch.done, failure)

    def _write(self, batches: Sequence[_Batch]) -> None:
        samples = [self._samples.popleft() for _ in range(len(self._samples))]
        piece = b"" if self._wire is None else self._wire.take()
        if not samples and not batches and not piece:
            return
        with self._engine.begin() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)  # noqa: S101 (the driver of sqlite:///)
            raw.executemany(_INSERT_SAMPLE, samples)
            if piece:
                raw.execute(_INSERT_WIRE, (piece,))
            for batch in batches:
                for statement, values in batch.statements:
                    raw.execute(statement, values)
            # A session would take many times as long as the rows: a run makes entries all the time.
            entries = [entry.model_dump() for batch in batches for entry in batch.entries]
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


def _acknowledge(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        error = StoreError(f"the run's data cannot be written: {failure}")
        error.__cause__ = failure
        done.set_exception(error)
