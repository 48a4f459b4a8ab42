"""``cellbench`` in a process that notes when rows are handed to the store, and what commits cost.

    python benchmarks/watched.py DIRECTORY run PROTOCOL --bench FILE --cell A1,A2 ...

Nothing in the program knows of it: a row is noted where a run's file takes it, a commit where
SQLAlchemy begins and commits the transaction of a run's thread. Both go to files in DIRECTORY, as
they come, so that they are there however the process ends.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from cellbench.store import RunWriter, SampleRow

#: When a row was handed over (s, monotonic), its time since its run began (s), and which run's.
ARRIVALS = np.dtype([("at_s", "<f8"), ("time_s", "<f8"), ("run", "<u4")])
#: When a commit was done (s, monotonic), how long it took, and that with its rows (s).
COMMITS = np.dtype([("at_s", "<f8"), ("commit_s", "<f4"), ("write_s", "<f4")])
_ARRIVAL, _COMMIT = struct.Struct("<ddI"), struct.Struct("<dff")
#: The threads of runs' files: the catalogue of runs is written too, and not meant.
_THREAD = "run file"


def arrivals(directory: Path) -> NDArray[Any]:
    """Rows that a process has noted in a directory."""
    return _noted(directory / "arrivals", ARRIVALS)


def commits(directory: Path) -> NDArray[Any]:
    """Commits that a process has noted in a directory."""
    return _noted(directory / "commits", COMMITS)


def _noted(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    if not path.exists():
        return np.zeros(0, kind)
    content = path.read_bytes()
    return np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)


@contextmanager
def noted_in(directory: Path) -> Iterator[None]:
    with (directory / "arrivals").open("wb") as rows, (directory / "commits").open("wb") as made:
        _note_rows(rows)
        _note_commits(made)
        yield


def _note_rows(file: BinaryIO) -> None:
    add_sample = RunWriter.add_sample
    numbers: dict[RunWriter, int] = {}

    def noted(writer: RunWriter, row: SampleRow) -> None:
        number = numbers.setdefault(writer, len(numbers))
        file.write(_ARRIVAL.pack(time.monotonic(), row[0], number))
        add_sample(writer, row)

    setattr(RunWriter, add_sample.__name__, noted)


def _note_commits(file: BinaryIO) -> None:
    began = threading.local()
    do_commit: Callable[[SQLiteDialect_pysqlite, Any], None] = SQLiteDialect_pysqlite.do_commit

    @event.listens_for(Engine, "begin")
    def begin(_: Connection) -> None:
        began.at_s = time.monotonic()

    def noted(dialect: SQLiteDialect_pysqlite, connection: Any) -> None:
        from_s = time.monotonic()
        do_commit(dialect, connection)
        at_s = time.monotonic()
        if threading.current_thread().name == _THREAD:
            file.write(_COMMIT.pack(at_s, at_s - from_s, at_s - began.at_s))

    setattr(SQLiteDialect_pysqlite, SQLiteDialect_pysqlite.do_commit.__name__, noted)


if __name__ == "__main__":
    from cellbench.cli import main

    directory, sys.argv = Path(sys.argv[1]), ["cellbench", *sys.argv[2:]]
    with noted_in(directory):
        main()
