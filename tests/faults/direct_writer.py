"""A run's file whose writer works in the event loop: no thread, so that nothing hangs on one.

All but the thread is `RunWriter`'s own. What is awaited is committed one turn later, so that a host
may die in between; what is not is committed with it. A disk that is full is tried again in
simulated time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from cellbench.engine import disk
from cellbench.store import RunWriter, runfile
from cellbench.store.trouble import Backlog, Batch

_RETRY_S = 2.0


class LoopThread:
    """Stands in for the writer's thread."""

    #: Whether the disk of a file is full now.
    is_full: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(self, *, target: Callable[[], None], **_: Any) -> None:
        writer = target.__self__  # type: ignore[attr-defined]
        assert isinstance(writer, RunWriter)
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Batch] = deque()
        self._retrying = self._over = False

    def start(self) -> None:
        """Take the place of the queue."""
        writer: Any = self._writer
        writer._queue = SimpleNamespace(put=self._put)
        write = writer._write

        def write_unless_full(backlog: Backlog) -> None:
            if self.is_full() and writer._patient_until_s is None:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            write(backlog)

        writer._write = write_unless_full

    def join(self) -> None:
        """Nothing more is written."""
        self._over = True

    def is_alive(self) -> bool:
        """Whether it writes."""
        return not self._over

    def _put(self, batch: Batch) -> None:
        self._waiting.append(batch)
        if self._over or self._writer._severed:
            self._fail()
            return
        if batch.done is not None or batch.last or self._writer._patient_until_s is not None:
            self._loop.call_soon(self._drain)

    def _fail(self) -> None:
        """Tell whoever waits that nothing is written any more."""
        writer: Any = self._writer
        writer._failure = writer._failure or OSError("the process is gone")
        for batch in (*writer._backlog.batches, *self._waiting):
            writer._tell(batch.done, kept=True, failure=writer._failure)
            writer._tell(batch.kept, kept=True, failure=writer._failure)
        writer._backlog.clear()
        self._waiting.clear()

    def _drain(self) -> None:
        writer: Any = self._writer
        if self._over or writer._severed:
            return
        new = [*self._waiting]
        self._waiting.clear()
        writer._backlog.batches.extend(new)
        if writer.stall is not None and writer._patient_until_s is None:
            for batch in new:
                writer._tell(batch.done, kept=False)
            return
        self._commit()

    def _commit(self) -> None:
        writer: Any = self._writer
        if self._over or writer._severed:
            return
        writer._backlog.batches.extend(self._waiting)
        self._waiting.clear()
        writer._commit(writer._backlog)
        if writer.stall is not None and not self._retrying:
            self._retrying = True
            self._loop.call_later(_RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        if self._writer.stall is not None:
            self._commit()


@contextmanager
def installed() -> Iterator[None]:
    """Have all runs written that way."""
    files: Any = runfile
    watch: Any = disk
    before = files.threading, files.REST_S, watch.REST_S
    files.threading = SimpleNamespace(Thread=LoopThread)
    # Simulated time goes on while the disk is full: it is empty again at a simulated time.
    files.REST_S = watch.REST_S = 1e12
    try:
        yield
    finally:
        files.threading, files.REST_S, watch.REST_S = before
