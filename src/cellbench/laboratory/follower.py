"""Copying the runs of a store to the laboratory's database: what is new, from where it stands.

How far a run is copied stands beside its rows, and is committed with them: whatever is interrupted,
nothing is copied twice and nothing left out. Nobody waits for it: it is a process of its own, and
what is not copied stays in the run's file until it is.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import psycopg
from filelock import FileLock, Timeout
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from cellbench.errors import CellbenchError
from cellbench.laboratory.copying import (
    Copied,
    copied_runs,
    copy_some,
    end_of,
    is_copied,
    run_file,
    stage,
)
from cellbench.laboratory.database import Connection, Database
from cellbench.store import Run, Store

#: How often it is looked what is new: in runs under way or just over, and in all.
LOOK_S = 1.0
LOOK_AT_ALL_S = 60.0
#: Pauses while the server is away: at first, and at most.
_PAUSE_S, _PAUSE_MOST_S = 0.5, 30.0


class Follower:
    """Copies the runs of one store, as one bench.

    Args:
        store: Where they are kept.
        database: Where they are copied to, with the address of a bench's role.
        say: Takes a line for people, when something changes.

    Attributes:
        refused: Why runs were not copied, by their ids.
    """

    def __init__(self, store: Store, database: Database, say: Callable[[str], None]) -> None:
        self._store, self._database, self._say = store, database, say
        self._connection: Connection | None = None
        self._copied: dict[str, Copied] = {}
        self.refused: dict[str, str] = {}
        self._away = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()

    def follow(self, leave: threading.Event) -> bool:
        """Copy until ``leave`` is set, and then once more; whether all is copied.

        Raises:
            InputError: The role that we come with is none of a bench.
        """
        looked_at_all_s = -math.inf
        while True:
            leaving, now_s = leave.is_set(), time.monotonic()
            look_at_all = leaving or now_s - looked_at_all_s >= LOOK_AT_ALL_S
            if not self._once_patiently(leave, self._store.runs if look_at_all else self._fresh):
                return False
            if leaving:
                return not self.refused
            if look_at_all:
                looked_at_all_s = now_s
            leave.wait(LOOK_S)

    def once(self, runs: Sequence[Run] | None = None) -> None:
        """Copy what is new in some runs, given newest first; by default in all.

        Raises:
            psycopg.Error: The server is away, or does not let us.
            InputError: The role that we come with is none of a bench.
        """
        connection = self._connected()
        for run in reversed(self._store.runs() if runs is None else runs):
            self._copy(connection, run)

    def _fresh(self) -> Sequence[Run]:
        """The runs that can have anything new, but those that were brought in or moved here."""
        return self._store.recent(datetime.now(UTC) - timedelta(seconds=2 * LOOK_AT_ALL_S))

    # --- The server -------------------------------------------------------------------------------

    def _once_patiently(self, leave: threading.Event, runs: Callable[[], Sequence[Run]]) -> bool:
        """Copy what is new as soon as the server is there; False: it is away, and we leave."""
        attempts = Retrying(
            retry=retry_if_exception_type(psycopg.Error),
            wait=wait_random_exponential(_PAUSE_S, _PAUSE_MOST_S),
            stop=stop_when_event_set(leave),
            sleep=sleep_using_event(leave),
            before_sleep=self._say_away,
            reraise=True,
        )
        try:
            attempts(self._once_connected, runs)
        except psycopg.Error as error:
            self._say(f"{self._database.name} is away ({_first_line(error)}): not all is copied")
            return False
        if self._away:
            self._away = False
            self._say(f"{self._database.name} is back, and all is copied")
        return True

    def _once_connected(self, runs: Callable[[], Sequence[Run]]) -> None:
        try:
            self.once(runs())
        except psycopg.Error:
            self._disconnect()
            raise

    def _say_away(self, attempt: RetryCallState) -> None:
        if not self._away and attempt.outcome is not None:
            self._away = True
            why = _first_line(attempt.outcome.exception())
            self._say(f"{self._database.name} is away ({why}): runs go on, and are copied later")

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._connection = self._database.connect()
            connection.autocommit = True
            with connection.transaction():
                self._copied = copied_runs(connection)
                stage(connection)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- A run ------------------------------------------------------------------------------------

    def _copy(self, connection: Connection, run: Run) -> None:
        """Copy what is new in a run, piece by piece of its file as it is at one moment."""
        copied, path = self._copied.get(run.id), self._store.run_path(run.id)
        if copied is not None and run.ended is not None and copied.end == end_of(run):
            return
        if run.ended is None and not path.exists():
            return  # it begins just now
        try:
            with run_file(path) as file:
                whole = copied is not None and is_copied(run, file, copied)
                while not whole:
                    with connection.transaction():
                        copied, whole = copy_some(connection, run, file, copied)
                    self._copied[run.id] = copied
        except (CellbenchError, sqlite3.Error, psycopg.DataError, psycopg.IntegrityError) as error:
            self._refuse(run, str(error))
        else:
            self.refused.pop(run.id, None)

    def _refuse(self, run: Run, why: str) -> None:
        if self.refused.get(run.id) != why:
            self.refused[run.id] = why
            self._say(f"run {run.id} is not copied: {why}")


@contextmanager
def turn(directory: Path, leave: threading.Event) -> Iterator[None]:
    """Wait for one's turn to copy a store, or to leave: one process at a time is enough.

    Two at once would do no harm: the rows of a run are the database's to lock.
    """
    lock = FileLock(directory / "follow.lock", thread_local=False)
    while not leave.is_set():
        with suppress(Timeout):
            lock.acquire(timeout=0)
            break
        leave.wait(LOOK_S)
    try:
        yield
    finally:
        lock.release()


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0]
