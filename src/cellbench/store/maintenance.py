"""Work on a store as a whole: one process at a time, and never on a run that is not finished."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cellbench.errors import InputError, StoreError
from cellbench.store.catalogue import Store
from cellbench.store.places import CATALOGUE
from cellbench.store.reader import RUN_ENDED
from cellbench.store.tables import Run
from cellbench.transport.ownership import is_held_for

#: Held by whoever works on the store; never part of a backup.
LOCK = ".maintenance.lock"
#: Wall time for which another program's lock on a SQLite file is waited for.
PATIENCE_S = 5.0
#: How often, and how long apart, it is looked whether a file is open.
_LOOKS, _LOOK_S = 5, 0.1


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Have a store to oneself, as far as work on the whole of it goes; runs go on meanwhile.

    Raises:
        InputError: Another process works on it, or it cannot be written.
    """
    try:
        with FileLock(directory / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise InputError(
            f"another cellbench store command works on {directory}: wait until it has ended"
        ) from error


def why_unfinished(store: Store, run: Run) -> str | None:
    """Why nothing of a run may be changed, None where it is finished."""
    path = store.run_path(run.id)
    if not path.is_file():
        return "its file is missing (cellbench store check)"
    if is_held_for(path):
        return "it is under way: instruments are held for it"
    if run.state == "running":
        return "it is under way, or lost its process before it ended (cellbench status)"
    return None if has_ended(path) else "its journal has no end"


def has_ended(path: Path) -> bool:
    """Whether the journal in a run's file says that it ended, and was not gone on with since.

    Raises:
        StoreError: It cannot be read.
    """
    query = (
        "SELECT kind FROM journalentry "
        "WHERE kind IN ('run started', 'step started', 'resumed', 'attached', ?) "
        "ORDER BY seq DESC LIMIT 1"
    )
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(query, (RUN_ENDED,)).fetchall() == [(RUN_ENDED,)]
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error} (cellbench store check)") from error


def finished(store: Store, run: Run) -> Path:
    """The file of a run that is finished.

    Raises:
        InputError: It is not.
    """
    why = why_unfinished(store, run)
    if why is not None:
        raise InputError(f"run {run.id} is left as it is: {why}")
    return store.run_path(run.id)


def is_open(path: Path) -> bool:
    """Whether any process has a run's file open: one that writes to it has, all the time."""
    for _ in range(_LOOKS):
        try:
            with closing(sqlite3.connect(path)) as connection:
                # Only who is alone with a file can take it out of its write-ahead mode.
                if connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",):
                    return False
        except sqlite3.OperationalError:
            pass  # locked: by somebody who only reads, it may be free in a moment
        time.sleep(_LOOK_S)
    return True


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A run's file to be changed in one transaction, which is dropped should anything fail.

    Raises:
        StoreError: Another program has it locked, it is damaged, or the disk is full.
    """
    try:
        with closing(_opened(path)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be changed, and is as it was: {error}") from error


@contextmanager
def catalogue_held(directory: Path) -> Iterator[sqlite3.Connection]:
    """The catalogue, in which nobody enters anything meanwhile: for moments.

    Raises:
        StoreError: Another program has it locked.
    """
    path = directory / CATALOGUE
    try:
        with closing(_opened(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be changed: {error}") from error


def _opened(path: Path) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=PATIENCE_S)


def commit_of_finished(store: Store, run_id: str, connection: sqlite3.Connection) -> None:
    """Commit what was changed of a run, unless somebody goes on with it just now.

    Raises:
        StoreError: Somebody does; nothing was changed.
    """
    with catalogue_held(store.directory) as catalogue:
        rows = catalogue.execute("SELECT state FROM run WHERE id = ?", (run_id,)).fetchall()
        if ("running",) in rows:
            raise StoreError(f"run {run_id} goes on just now: nothing was changed")
        connection.execute("COMMIT")
