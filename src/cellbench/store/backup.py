"""Copies of a store: consistent while runs are written, known by checksums, made again cheaply.

A backup is a directory like the store's own, with a manifest. All that is new is written beside its
place first; then the manifest is, and then the files are put in their places. Whenever the process
dies, each file of the manifest is there under its own name or under that beside it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from cellbench.errors import InputError, StoreError
from cellbench.store.archive import SUFFIXES
from cellbench.store.catalogue import Store
from cellbench.store.files import PART, copy_database, damage_of, sha256, sync, whole
from cellbench.store.maintenance import alone
from cellbench.store.places import BACKUP_MANIFEST, CATALOGUE, LOOKED_AT, store_directory

#: What belongs to processes that are under way, or is SQLite's own.
_PASSING = ("-wal", "-shm", "-journal", PART, ".lock", ".control.json", ".damaged")
#: What was looked at of a laboratory's database; it is fetched again when it is asked for.
_FETCHED = (f"{LOOKED_AT}/*/{CATALOGUE}", f"{LOOKED_AT}/*/runs/*")
_DATABASE = ".sqlite"
#: Errors of a copy that are the source's: damaged, no database, locked.
_OF_THE_SOURCE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_BUSY})


def _within(name: str) -> str:
    """A path that leads nowhere but into the backup: it may come from anywhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise ValueError("leads out of the backup")
    return name


class Saved(BaseModel):
    """A file of a backup.

    Attributes:
        looks: Size and time of change of the store's file, and of its write-ahead log, when it was
            copied: as long as they are the same, so is the file.
    """

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int
    looks: tuple[int, ...]


class Manifest(BaseModel):
    """What a backup holds, by paths within it (with ``/``)."""

    model_config = ConfigDict(frozen=True)

    store: str
    made: datetime
    files: dict[Annotated[str, AfterValidator(_within)], Saved]


@dataclass(frozen=True)
class Made:
    """What a backup came to: files, those copied and their size, and what could not be copied."""

    files: int
    copied: int
    copied_B: int
    troubles: tuple[str, ...]


def read_manifest(directory: Path) -> Manifest:
    """Read what a backup holds.

    Raises:
        InputError: It is none.
    """
    path = directory / BACKUP_MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{directory} is no backup: there is no {BACKUP_MANIFEST}") from error
    except ValidationError as error:
        raise InputError(f"{path} does not say what the backup holds") from error


def backup(store: Store, to: Path) -> Made:
    """Copy a store, also while runs are written; what has not changed since the last time stays.

    A file that is damaged never takes the place of its copy, and none leaves the backup because
    it is gone from the store.

    Raises:
        InputError: It is no place for a backup of this store.
        StoreError: It cannot be written; the backup that was there is as it was.
    """
    to = _place(store, to)
    with alone(store.directory), alone(to):
        return copy(store, to)


def copy(store: Store, to: Path) -> Made:
    """See `backup`, for whoever has both places to themselves."""
    try:
        before = read_manifest(to).files if (to / BACKUP_MANIFEST).is_file() else {}
        _settle(to, before)
        files, troubles = dict(before), []
        active = {run.id for run in store.search(state="running", limit=None)}
        for name in _names(store.directory):
            source, looks = store.directory / name, _looks(store.directory / name)
            kept = before.get(name)
            if kept and kept.looks == looks and PurePosixPath(name).stem not in active:
                continue
            part = _beside(to / name)
            trouble = _copied(source, part)
            if trouble:
                part.unlink(missing_ok=True)
                troubles.append(f"{name} {trouble}; " + _instead(kept))
            else:
                files[name] = Saved(sha256=sha256(part), size=part.stat().st_size, looks=looks)
        for name in _outdated(store.directory, files):
            del files[name]
        changed = {name for name, each in files.items() if before.get(name) != each}
        _commit(to, Manifest(store=str(store.directory), made=datetime.now(UTC), files=files))
    except OSError as error:
        raise StoreError(f"{to} cannot be written: {error}; the backup is as it was") from error
    size_B = sum(files[name].size for name in changed)
    return Made(len(files), len(changed), size_B, tuple(troubles))


def _instead(kept: Saved | None) -> str:
    return "the copy from before stays" if kept else "there is no copy of it"


def _place(store: Store, to: Path) -> Path:
    to = to.expanduser().absolute()
    if to == store.directory or store.directory in to.parents or to in store.directory.parents:
        raise InputError(f"{to} and the store {store.directory} are within each other")
    if not (to / BACKUP_MANIFEST).is_file() and (to / CATALOGUE).exists():
        raise InputError(f"{to} is a store, and no backup: choose another directory")
    try:
        (to / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{to} cannot be made: {error.strerror}") from error
    return to


def _names(directory: Path) -> list[str]:
    """The files of a store; the catalogue first: whatever it knows is copied after it."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    names = [path.relative_to(directory).as_posix() for path in files]
    return sorted(filter(_is_lasting, names), key=lambda name: (name != CATALOGUE, name))


def _is_lasting(name: str) -> bool:
    passing = "/." in f"/{name}" or name.endswith(_PASSING)
    return not passing and not any(map(PurePosixPath(name).match, _FETCHED))


def _looks(path: Path) -> tuple[int, ...]:
    places = [path, path.with_name(f"{path.name}-wal")]
    states = [place.stat() for place in places if place.exists()]
    return tuple(number for each in states for number in (each.st_size, each.st_mtime_ns))


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}{PART}")


def _copied(source: Path, target: Path) -> str:
    """Copy a file to a place; says why it cannot be had."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not source.is_file():
        return "is gone"
    if source.suffix != _DATABASE:
        shutil.copy2(source, target)
        sync(target)
        return ""
    try:
        copy_database(source, target)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _OF_THE_SOURCE:
            return f"cannot be read: {error}"
        raise StoreError(f"{target} cannot be written: {error}; the backup is as it was") from error
    return "; ".join(damage_of(target))


def _outdated(directory: Path, files: dict[str, Saved]) -> Iterator[str]:
    """Parquet files of runs whose rows are in their own files (again)."""
    for name in list(files):
        suffix = next((each for each in SUFFIXES.values() if name.endswith(each)), None)
        if suffix is not None and not (directory / name).exists():
            run = directory / f"{name.removesuffix(suffix)}{_DATABASE}"
            if run.exists():
                yield name


def _commit(to: Path, manifest: Manifest) -> None:
    with whole(to / BACKUP_MANIFEST) as part:
        part.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    _settle(to, manifest.files)
    suffixes = tuple(SUFFIXES.values())
    for path in (to / "runs").glob("*"):
        if path.name.endswith(suffixes) and f"runs/{path.name}" not in manifest.files:
            path.unlink()


def _settle(to: Path, files: dict[str, Saved]) -> None:
    """Put what is beside its place there, if the manifest tells of it; else it was cut off."""
    for path in sorted(to.rglob(f"*{PART}")):
        place = path.with_name(path.name.removesuffix(PART))
        told = files.get(place.relative_to(to).as_posix())
        if told is not None and sha256(path) == told.sha256:
            path.replace(place)
        else:
            path.unlink()


# --- Back -----------------------------------------------------------------------------------------


def located(directory: Path, manifest: Manifest) -> dict[str, Path]:
    """Where each file of a backup is, all of them read and found to be what was copied.

    Raises:
        StoreError: Some are missing or damaged; all are named.
    """
    found = {name: _sound(directory / name, each) for name, each in manifest.files.items()}
    bad = sorted(name for name, path in found.items() if path is None)
    if bad:
        raise StoreError(
            f"{len(bad)} of {len(found)} files of the backup {directory} are missing or damaged, "
            f"and nothing was restored: {', '.join(bad[:5])}"
        )
    return {name: path for name, path in found.items() if path is not None}


def _sound(path: Path, saved: Saved) -> Path | None:
    places = (place for place in (path, _beside(path)) if place.is_file())
    return next((place for place in places if sha256(place) == saved.sha256), None)


def restore(source: Path, directory: Path | None) -> tuple[Path, int]:
    """Make a store of a backup, where there is none.

    Args:
        source: The backup.
        directory: Of the store; None for the default place.

    Returns:
        The store's directory, and how many files were restored.

    Raises:
        InputError: It is no backup, or there is a store in this place.
        StoreError: A file of the backup is damaged, or cannot be written.
    """
    source = source.expanduser().absolute()
    manifest = read_manifest(source)
    to = store_directory(directory)
    if (to / CATALOGUE).exists():
        raise InputError(
            f"there is a store in {to}, which stays as it is: restore to another place by --store, "
            f"or bring in what is missing here: cellbench store merge {source}"
        )
    with alone(to):
        files = located(source, manifest)
        # The catalogue last: until then this is no store, and can be restored again.
        for name in sorted(files, key=lambda each: each == CATALOGUE):
            _put_back(files[name], to / name, manifest.files[name])
    return to, len(files)


def _put_back(source: Path, target: Path, saved: Saved) -> None:
    if target.exists():
        if sha256(target) == saved.sha256:
            return
        raise InputError(f"{target} is there already, and is another: move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as part:
        shutil.copy2(source, part)
        if sha256(part) != saved.sha256:
            raise StoreError(f"{target} does not read back as it was written")
