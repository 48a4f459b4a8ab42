"""Where the store is: the user's data directory, or where --store or CELLBENCH_STORE says."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from cellbench.errors import InputError
from cellbench.system import is_on_network

#: What is in a store's directory beside its runs: their list, the campaigns that were begun, and
#: what was looked at of a laboratory's database, with the users of its pages.
CATALOGUE, CAMPAIGNS, LOOKED_AT = "catalogue.sqlite", "campaigns", "laboratory"
#: Makes a directory a backup of a store, and what stays of a store that was moved.
BACKUP_MANIFEST, MOVED = "backup.json", "moved-to.txt"


def data_directory() -> Path:
    """Return where cellbench keeps what nobody has chosen another place for."""
    return Path(os.environ.get("CELLBENCH_STORE") or platformdirs.user_data_dir("cellbench"))


def store_directory(chosen: Path | None = None, *, make: bool = True) -> Path:
    """Return the store's directory, made if need be.

    Raises:
        InputError: It cannot be made, is not there (without ``make``), lies on a network drive,
            was moved, or is a backup.
    """
    if chosen is not None and str(chosen) in {"", "."}:
        raise InputError("--store needs a directory of its own: write --store DIR")
    path = (chosen or data_directory()).expanduser().absolute()
    if (path / BACKUP_MANIFEST).is_file():
        raise InputError(
            f"{path} is a backup, which nobody works in: cellbench store restore {path}"
        )
    if (path / MOVED).is_file():
        place = (path / MOVED).read_text(encoding="utf-8").strip()
        raise InputError(
            f"the store {path} was moved to {place}: use --store or CELLBENCH_STORE to say so "
            f"(for a new store here, delete {path / MOVED})"
        )
    if not make and not (path / CATALOGUE).is_file():
        raise InputError(f"there is no store in {path}: no run was kept there yet")
    try:
        (path / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the store {path} cannot be made: {error.strerror}. "
            "Choose another place with --store DIR or CELLBENCH_STORE."
        ) from error
    if is_on_network(path):
        raise InputError(
            f"the store {path} is on a network drive, where a run's data cannot be kept safely. "
            "Choose a local place with --store DIR or CELLBENCH_STORE."
        )
    return path
