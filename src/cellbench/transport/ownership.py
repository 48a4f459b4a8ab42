"""One owner per instrument: two programs of a user never talk to one instrument at a time.

An instrument that is reached at a real address is locked for as long as a process has it. The lock
is the operating system's, on a file of this user's: it is gone with the process that held it,
however that ended. Who holds it stands in a second file, for the message alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import platformdirs

from cellbench.errors import InputError, InstrumentError

if TYPE_CHECKING:
    from filelock import BaseFileLock


def locks_directory() -> Path:
    """Where the locks of this user on this computer are, or where CELLBENCH_LOCKS says.

    Not the runtime directory: on Linux that is another one for a job without a session, and it
    goes away under a job that outlives its session.
    """
    chosen = os.environ.get("CELLBENCH_LOCKS")
    return Path(
        chosen or platformdirs.user_state_path("cellbench") / "instruments" / platform.node()
    )


@dataclass(frozen=True)
class Holder:
    """Who has an instrument.

    Attributes:
        yields: Whether it lets go when it is asked to, see `ask_path`.
    """

    pid: int
    purpose: str
    since: datetime
    yields: bool = False

    def __str__(self) -> str:
        since = self.since.astimezone()
        return f"process {self.pid} ({self.purpose}, since {since:%a %H:%M})"


class Ownership:
    """The instruments that this process has, until the context ends.

    Args:
        purpose: What for: told to whoever else wants one of them.
        yields: Whether this process lets go when it is asked to.
    """

    def __init__(self, purpose: str, *, yields: bool = False) -> None:
        self._purpose = purpose
        self._yields = yields
        self._run_file: Path | None = None
        self._since = datetime.now(UTC)
        self._held: dict[Path, BaseFileLock] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self, instrument: str, place: str) -> None:
        """Lock the instrument that is at a place; one that is held already stays so.

        Args:
            instrument: Its name in the bench file, for the error.
            place: See `cellbench.transport.address.place_of`.

        Raises:
            InstrumentError: Another process has it; says which.
            InputError: There can be no locks on this computer.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - simulated benches need none

        path = _lock_path(place)
        if path in self._held:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0, thread_local=False)
            lock.acquire()
        except Timeout as error:
            raise InstrumentError(instrument, _refusal(_noted(path))) from error
        except OSError as error:
            raise InputError(
                f"{path.parent}: {error.strerror or error}; instruments are locked there"
            ) from error
        self._held[path] = lock
        self._note(path)

    def tell(self, purpose: str, run_file: Path | None = None) -> None:
        """Say what the instruments are held for from now on.

        Args:
            purpose: What for, told to whoever else wants one of them.
            run_file: The file of the run that they are held for: ids are alike in two stores.
        """
        self._purpose, self._run_file = purpose, run_file
        for path in self._held:
            self._note(path)

    def release(self) -> None:
        """Give all of them up."""
        while self._held:
            path, lock = self._held.popitem()
            _note_path(path).unlink(missing_ok=True)
            lock.release()

    def _note(self, path: Path) -> None:
        since = self._since.isoformat(timespec="seconds")
        note: dict[str, object] = {
            "pid": os.getpid(), "purpose": self._purpose, "since": since
        }  # fmt: skip
        if self._yields:
            note["yields"] = True
        if self._run_file is not None:
            note["run_file"] = str(self._run_file.resolve())
        with contextlib.suppress(OSError):  # the lock counts, and holds without it
            _note_path(path).write_text(json.dumps(note), encoding="utf-8")


def owner_of(place: str) -> str | None:
    """Who has the instrument at a place, None if nobody."""
    if is_free(place):
        return None
    return str(holder_of(place) or "another process")


def is_free(place: str) -> bool:
    """Whether nobody has the instrument at a place."""
    try:
        with Ownership("a look") as look:
            look.take("", place)
    except InstrumentError:
        return False
    return True


def holder_of(place: str) -> Holder | None:
    """Who has noted down to have the instrument at a place; None if nobody, or not yet."""
    return _noted(_lock_path(place))


def ask_path(place: str) -> Path:
    """The file whose being there asks who has the instrument at a place to let go of it."""
    return _lock_path(place).with_suffix(".ask")


def _lock_path(place: str) -> Path:
    readable = re.sub(r"[^A-Za-z0-9]+", "_", place)[:60].strip("_")
    # Two places must not become one file, whatever characters they differ in.
    return locks_directory() / f"{readable}.{hashlib.sha256(place.encode()).hexdigest()[:12]}.lock"


def _note_path(lock: Path) -> Path:
    return lock.with_suffix(".json")


def _noted(lock: Path) -> Holder | None:
    try:
        note = json.loads(_note_path(lock).read_text(encoding="utf-8"))
        since = datetime.fromisoformat(note["since"])
        return Holder(note["pid"], note["purpose"], since, note.get("yields", False))
    except (OSError, ValueError, KeyError, TypeError):  # it has not been written yet
        return None


def _refusal(holder: Holder | None) -> str:
    if holder is not None and holder.yields:
        return (
            f"is kept safe by {holder}, whose own process was lost: cellbench quiet or "
            "cellbench release takes it over"
        )
    return (
        f"is in use by {holder or 'another process'}; an instrument has one owner at a time: wait "
        "for it to end, or end it"
    )


def is_held_for(run_file: Path) -> bool:
    """Whether any process of this user has an instrument for the run of this file."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - as above

    for note in locks_directory().glob("*.json"):
        try:
            noted = json.loads(note.read_text(encoding="utf-8")).get("run_file")
            if noted != str(run_file.resolve()):
                continue
            # A process that was lost leaves its note behind, but not its lock.
            with FileLock(note.with_suffix(".lock"), timeout=0):
                pass
        except Timeout:
            return True
        except (OSError, ValueError, AttributeError):
            continue  # gone, or not written yet
    return False
