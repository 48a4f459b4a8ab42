"""Two stores made one: the runs of another store, or of a backup, that are not here yet.

A run is the same where its journal and the numbers of its rows are; its id may differ. One whose id
another run has here gets the next free one of its day. A run that is damaged or missing here comes
back. Campaigns that are not here yet come along. The other store stays as it is; its lock is held.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

from cellbench.errors import InputError, StoreError
from cellbench.store.archive import SUFFIXES, archived
from cellbench.store.backup import located, read_manifest
from cellbench.store.catalogue import Store
from cellbench.store.check import faults
from cellbench.store.files import copy_database, sync, whole
from cellbench.store.maintenance import alone, has_ended
from cellbench.store.parquet import content_of
from cellbench.store.places import BACKUP_MANIFEST, CAMPAIGNS, CATALOGUE
from cellbench.store.reader import never_began
from cellbench.store.tables import Run

#: What else of a run may stand beside its file, and is brought along.
_BESIDE = (*SUFFIXES.values(), ".html", ".guard.jsonl", ".service.log")


class Fate(StrEnum):
    """What became of a run of the other store."""

    TAKEN = "taken"  #: it is here now
    RENAMED = "taken under another id"  #: so it is: another run has its id
    BACK = "brought back"  #: its entry was here, its file was missing or damaged
    HERE = "here already"
    LEFT = "left there"  #: it has not ended, or is damaged


@dataclass(frozen=True)
class Merged:
    """One run of the other store.

    Attributes:
        run: Its id there.
        here: Its id here, empty where it was left there.
        why: Why it was left.
    """

    run: str
    fate: Fate
    here: str = ""
    why: str = ""


def merge(store: Store, other: Path) -> Iterator[Merged]:
    """Take in the runs of another store, or of a backup, one by one; oldest first.

    Raises:
        InputError: There is none, another process works on one of the two, or a campaign there has
            the name of another one here.
        StoreError: A file cannot be written; what was taken so far is here.
    """
    other = other.expanduser().absolute()
    if other == store.directory:
        raise InputError(f"{other} cannot be merged with itself")
    files = _files(other)
    there = nullcontext() if (other / BACKUP_MANIFEST).is_file() else alone(other)
    # On the same disk as the runs, into which finished copies are moved.
    draft = tempfile.TemporaryDirectory(prefix=".merge-", dir=store.directory)
    with alone(store.directory), there, draft as name:
        _take_campaigns(store, files)
        copies = Path(name)
        _copy(files[CATALOGUE], copies / CATALOGUE)
        with Store(copies) as listing:
            runs = sorted(listing.search(limit=None), key=lambda run: (run.started, run.id))
        twins: dict[datetime, list[Run]] = defaultdict(list)
        for mine in sorted(store.search(limit=None), key=lambda run: run.id):
            twins[mine.started].append(mine)
        for run in runs:
            yield _Taking(store, files, copies / "runs", run, twins[run.started]).done()


def _files(other: Path) -> Mapping[str, Path]:
    """Where each file of a store is, by its path within it; of a backup all are sound."""
    if (other / BACKUP_MANIFEST).is_file():
        return located(other, read_manifest(other))
    if not (other / CATALOGUE).is_file():
        raise InputError(f"there is no store in {other}, and no backup of one")
    found = [other / CATALOGUE, *(other / "runs").glob("*"), *(other / CAMPAIGNS).glob("*")]
    return {path.relative_to(other).as_posix(): path for path in found if path.is_file()}


def _take_campaigns(store: Store, files: Mapping[str, Path]) -> None:
    """Take in the outlines of campaigns that are not here: all of them, or none."""
    outlines = {store.directory / name: path for name, path in files.items() if _is_outline(name)}
    for here, there in outlines.items():
        if here.exists() and _told(here) != _told(there):
            raise InputError(
                f"nothing was merged: {there} is another campaign than the one of that name here; "
                f"to have that one, move {here} away"
            )
    for here, there in outlines.items():
        if not here.exists():
            with whole(here) as part:
                here.parent.mkdir(exist_ok=True)
                shutil.copy2(there, part)


def _told(outline: Path) -> dict[str, Any]:
    """What an outline says; the file that it was made of is elsewhere on each computer."""
    try:
        told: dict[str, Any] = json.loads(outline.read_bytes())
        return told | {"file": ""}
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{outline} cannot be read: {error}") from error


def _is_outline(name: str) -> bool:
    return name.startswith(f"{CAMPAIGNS}/") and name.endswith(".json")


def _copy(source: Path, target: Path) -> None:
    try:
        if source.name.partition(".sqlite")[1]:
            copy_database(source, target)
        else:
            shutil.copy2(source, target)
            sync(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{source} cannot be copied: {error}") from error


@dataclass(frozen=True)
class _Taking:
    """One run of the other store on its way.

    Attributes:
        files: All files of the other store.
        copies: Where copies are made.
        run: Its entry there.
        twins: Runs here that began at the same moment.
    """

    store: Store
    files: Mapping[str, Path]
    copies: Path
    run: Run
    twins: Sequence[Run]

    def done(self) -> Merged:
        """Take it, unless it is here."""
        try:
            if (here := self._here()) is not None:
                return Merged(self.run.id, Fate.HERE, here.id)
            path = self._copied()
        except StoreError as error:
            return self._left(str(error))
        why = self._why_not(path)
        if why:
            return self._left(why)
        # A sound one of the same moment has more in it, or less: both are kept.
        for twin in self.twins:
            if twin not in self._sound:
                self._put(twin.id)
                return Merged(self.run.id, Fate.BACK, twin.id)
        entered = self._entered()
        self._put(entered.id)
        fate = Fate.TAKEN if entered.id == self.run.id else Fate.RENAMED
        return Merged(self.run.id, fate, entered.id)

    def _here(self) -> Run | None:
        """The same run, here and sound."""
        theirs = self.files.get(f"runs/{self.run.id}.sqlite")
        if theirs is None or not self.twins:
            return None
        mark = fingerprint(theirs)
        return next((each for each in self._sound if fingerprint(self._path(each)) == mark), None)

    @cached_property
    def _sound(self) -> Sequence[Run]:
        """Those of the twins whose files are there, and whole."""
        there = [each for each in self.twins if self._path(each).is_file()]
        return [each for each in there if not faults(self._path(each), each)]

    def _path(self, twin: Run) -> Path:
        return self.store.run_path(twin.id)

    def _left(self, why: str) -> Merged:
        return Merged(self.run.id, Fate.LEFT, why=why)

    def _copied(self) -> Path:
        """A copy of its files, by its id there."""
        for old in self.copies.glob("*"):
            old.unlink()
        path = self.copies / f"{self.run.id}.sqlite"
        if f"runs/{path.name}" not in self.files:
            raise StoreError("it has no file there")
        for name in (path.name, *(f"{self.run.id}{end}" for end in _BESIDE)):
            if (source := self.files.get(f"runs/{name}")) is not None:
                _copy(source, self.copies / name)
        return path

    def _why_not(self, path: Path) -> str:
        if found := faults(path, self.run):
            return f"it is damaged there: {'; '.join(found)}"
        if self.run.state == "running" and not (never_began(path) or has_ended(path)):
            return "it has not ended there: it is under way, or lost its process (cellbench status)"
        return ""

    def _entered(self) -> Run:
        """Its entry here, under the first id that is free."""
        content = self.run.model_dump()
        for run_id in self._free_ids():
            try:
                return self.store.enter(Run(**content | {"id": run_id}))
            except IntegrityError:
                continue
        raise StoreError(f"no free id for run {self.run.id}")  # there is always one more

    def _free_ids(self) -> Iterator[str]:
        yield self.run.id
        day, _, _ = self.run.id.rpartition("-")
        same_day = [run.id for run in self.store.search(day, limit=None) if run.id.startswith(day)]
        numbers = [int(each.rpartition("-")[2]) for each in same_day]
        for number in range(max(numbers, default=0) + 1, 10**6):
            yield f"{day}-{number:03d}"

    def _put(self, run_id: str) -> None:
        """Move the copies into their places; the run's own file last, which makes the others its.

        What is damaged there is set aside.
        """
        path = self.store.run_path(run_id)
        if path.is_file():
            path.replace(path.with_name(f"{path.name}.damaged"))
            for end in ("-wal", "-shm"):
                path.with_name(f"{path.name}{end}").unlink(missing_ok=True)
        for copied in sorted(self.copies.glob("*"), key=lambda each: each.suffix == ".sqlite"):
            copied.replace(path.with_name(copied.name.replace(self.run.id, run_id, 1)))
        sync(path.parent)


def fingerprint(path: Path) -> tuple[object, ...]:
    """What tells a run from all others, wherever its rows are kept: its journal and their numbers.

    Raises:
        StoreError: It cannot be read.
    """
    if never_began(path):
        return ("never began",)
    query = "SELECT seq, time_s, utc, kind, step, text, data FROM journalentry ORDER BY seq"
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN")
            entries = connection.execute(query).fetchall()
            kept = archived(connection)
            counts = [
                kept[table].rows
                if table in kept
                else connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                for table in ("sample", "spectrum")
            ]
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    return (*content_of([entries]), *counts)
