"""A store moved to another place, also to another disk.

It is copied as a backup is, while runs may go on; then, with the catalogue held, what has changed
since. Only when the whole of it is at its new place, read back, does the old one say so and lose
its files. Whatever happens on the way, one of the two is the store, and whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cellbench.errors import InputError, StoreError
from cellbench.store.backup import Manifest, backup, copy, located, read_manifest
from cellbench.store.catalogue import Store
from cellbench.store.files import whole
from cellbench.store.maintenance import LOCK, alone, catalogue_held, has_ended, is_open
from cellbench.store.places import (
    BACKUP_MANIFEST,
    LOOKED_AT,
    MOVED,
    data_directory,
    store_directory,
)
from cellbench.store.tables import Run
from cellbench.system import is_on_network
from cellbench.transport.ownership import is_held_for


def under_way(store: Store) -> list[Run]:
    """The runs that a process conducts just now."""
    running = store.search(state="running", limit=None)
    return [run for run in running if _is_conducted(store.run_path(run.id))]


def _is_conducted(path: Path) -> bool:
    if not path.is_file():
        return False
    return is_held_for(path) or (not has_ended(path) and is_open(path))


def move(directory: Path | None, to: Path) -> int:
    """Move a store to a place where there is none; or finish to do so, after it was cut off.

    Args:
        directory: Of the store; None for the default place.
        to: Its new directory.

    Returns:
        How many files were moved.

    Raises:
        InputError: A run is under way, or it is no place for the store.
        StoreError: It cannot be written, or does not read back; the store is where it was.
    """
    to = to.expanduser().absolute()
    if is_on_network(to):
        raise InputError(f"{to} is on a network drive, where runs cannot be kept safely")
    origin = _cut_off(directory, to)
    if origin is None:
        with Store(directory, make=False) as store:
            origin = store.directory
            _refuse_runs(store)
            backup(store, to)
            _copy_the_rest(store, to)
    return _finish(origin, to)


def _refuse_runs(store: Store) -> None:
    if runs := under_way(store):
        names = ", ".join(run.id for run in runs)
        raise InputError(f"the store stays where it is: under way in it is {names}")


def _cut_off(directory: Path | None, to: Path) -> Path | None:
    """The old place of a store that has moved there already, but for what is left to tidy up."""
    old = (directory or data_directory()).expanduser().absolute()
    mark = old / MOVED
    if not (to / BACKUP_MANIFEST).is_file():
        return None
    return old if mark.is_file() and mark.read_text("utf-8").strip() == str(to) else None


def _copy_the_rest(store: Store, to: Path) -> None:
    """With the catalogue held, in which no run can begin: what has changed, and the change over."""
    with alone(store.directory), alone(to), catalogue_held(store.directory) as catalogue:
        _refuse_runs(store)
        made = copy(store, to)
        if made.troubles:
            raise StoreError(
                f"the store stays where it is, since not all of it can be read: "
                f"{'; '.join(made.troubles)} (cellbench store check)"
            )
        located(to, read_manifest(to))
        with whole(store.directory / MOVED) as part:
            part.write_text(f"{to}\n", encoding="utf-8")
        # Whoever has it open still begins no run here, where it would be lost.
        catalogue.execute("ALTER TABLE run RENAME TO moved")
        catalogue.execute("COMMIT")


def _finish(old: Path, new: Path) -> int:
    """Make the copy the store, and leave nothing but the notice at the old place."""
    manifest: Manifest = read_manifest(new)
    for name in manifest.files:
        for end in ("", "-wal", "-shm"):
            (old / f"{name}{end}").unlink(missing_ok=True)
    shutil.rmtree(old / LOOKED_AT, ignore_errors=True)  # what is open stays
    for directory in sorted((each for each in old.rglob("*") if each.is_dir()), reverse=True):
        if not any(directory.iterdir()):
            directory.rmdir()
    (old / LOCK).unlink(missing_ok=True)
    (new / BACKUP_MANIFEST).unlink()
    store_directory(new, make=False)
    return len(manifest.files)
