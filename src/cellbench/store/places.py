"""Where the store is: the user's data directory, or where --store or CELLBENCH_STORE says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs

from cellbench.errors import InputError

#: File systems whose locking and write ordering SQLite's write-ahead log cannot rely on.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "9p", "ceph", "glusterfs"}
)
_WINDOWS_DRIVE_REMOTE = 4


def data_directory() -> Path:
    """Return where cellbench keeps what nobody has chosen another place for."""
    return Path(os.environ.get("CELLBENCH_STORE") or platformdirs.user_data_dir("cellbench"))


def store_directory(chosen: Path | None = None, *, make: bool = True) -> Path:
    """Return the store's directory, made if need be.

    Raises:
        InputError: It cannot be made, is not there (without ``make``), or lies on a network drive.
    """
    if chosen is not None and str(chosen) in {"", "."}:
        raise InputError("--store needs a directory of its own: write --store DIR")
    path = (chosen or data_directory()).expanduser().absolute()
    if not make and not (path / "catalogue.sqlite").is_file():
        raise InputError(f"there is no store in {path}: no run was kept there yet")
    try:
        (path / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the store {path} cannot be made: {error.strerror}. "
            "Choose another place with --store DIR or CELLBENCH_STORE."
        ) from error
    if _is_remote(path):
        raise InputError(
            f"the store {path} is on a network drive, where a run's data cannot be kept safely. "
            "Choose a local place with --store DIR or CELLBENCH_STORE."
        )
    return path


def _is_remote(path: Path) -> bool:
    if sys.platform == "win32":
        return _is_remote_on_windows(path)
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return False
    lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    table = [line.split()[1:3] for line in lines]
    resolved = path.resolve()
    inside = [
        (len(where), kind)
        for where, kind in table
        if resolved.is_relative_to(where.replace(r"\040", " "))  # how the kernel writes a space
    ]
    return max(inside, default=(0, ""))[1] in _NETWORK_FILE_SYSTEMS


def _is_remote_on_windows(path: Path) -> bool:
    import ctypes  # noqa: PLC0415 (its windll exists on Windows alone)

    if path.drive.startswith("\\\\"):
        return True
    windll = getattr(ctypes, "windll")  # noqa: B009 (unknown to type checkers elsewhere)
    drive_type: int = windll.kernel32.GetDriveTypeW(path.drive + "\\")
    return drive_type == _WINDOWS_DRIVE_REMOTE
