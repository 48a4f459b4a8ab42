"""How far a run has been told: one small file per run beside the store, the outbox of telemetry.

What was acknowledged by whoever was told counts as told; the rest is in the run's own file, and is
told from there by whichever process comes next. While a process tells of a run, it has the run's
lock.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

#: Directory of the cursors, beside the catalogue.
DIRECTORY = "telemetry"
#: Those who read a run's journal: people, and the broker, for events and for alerts.
PEOPLE, EVENTS, BROKER = "people", "events", "broker"
#: Endings of the files of runs of which something is left to tell, or nothing.
_LEFT, _TOLD = ".left.json", ".told.json"
#: A counter that no message exceeds.
_NO_MORE = 2**63


class Cursor:
    """How far one run has been told, and which commands it has seen.

    Args:
        directory: Of all the cursors.
        run_id: The run.
    """

    def __init__(self, directory: Path, run_id: str) -> None:
        self._left = directory / f"{run_id}{_LEFT}"
        self._told = directory / f"{run_id}{_TOLD}"
        there = [path for path in (self._left, self._told) if path.exists()]
        state = next((each for each in map(_read, there) if each is not None), None)
        #: A file that says nothing: which commands came before is not known any more.
        self._forgot = bool(there) and state is None
        self._state: dict[str, Any] = state or {}
        self._kept = self._left.exists()

    def get(self, reader: str) -> int | None:
        """Number of the last entry that a reader has been told, None if it knows of none."""
        seq: int | None = self._state.get("told", {}).get(reader)
        return seq

    def advance(self, reader: str, seq: int) -> None:
        """Take note of what a reader has been told; it never goes back."""
        before = self.get(reader)
        if before is None or seq > before:
            self._state.setdefault("told", {})[reader] = seq
            self._kept = False

    def counter(self, operator: str) -> int:
        """The counter of an operator's last command, -1 before the first."""
        if self._forgot:
            return _NO_MORE
        return int(self._state.get("counters", {}).get(operator, -1))

    def count(self, operator: str, counter: int) -> None:
        """Take note of a command, before it is carried out.

        Raises:
            OSError: It is remembered by this process, but not on disk.
        """
        self._state.setdefault("counters", {})[operator] = counter
        self._keep()

    def keep(self) -> None:
        """Have it on disk how far the run has been told; where that fails, more is told twice."""
        if not self._kept:
            with contextlib.suppress(OSError):
                self._keep()

    def close(self) -> None:
        """Nothing is left to tell."""
        self.keep()
        if self._left.exists():
            self._left.replace(self._told)

    def _keep(self) -> None:
        draft = self._left.with_suffix(".tmp")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(self._state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._left)
        self._told.unlink(missing_ok=True)
        self._kept = True


@contextlib.contextmanager
def owned(directory: Path, run_id: str) -> Iterator[bool]:
    """Have a run to oneself for telling; whether that is so: another process may have it."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / f"{run_id}.lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def left(directory: Path) -> list[str]:
    """The runs of which something may be left to tell, oldest first."""
    return sorted(path.name.removesuffix(_LEFT) for path in directory.glob(f"*{_LEFT}"))


def _read(path: Path) -> dict[str, Any] | None:
    """What a cursor's file says, None if nothing: all is told again, which harms nobody."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
