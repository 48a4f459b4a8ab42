"""Files of a store that are there whole or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cellbench.errors import StoreError

#: Ending of a file that is being written; one that is found was left by a process that was lost.
PART = ".part"


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file for now; at the end it is flushed to the disk and put in its place.

    Raises:
        StoreError: It cannot be written: the disk is full, for example.
    """
    part = path.with_name(f"{path.name}{PART}")
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or what a directory lists, on the disk before anything that comes after."""
    if path.is_dir() and os.name == "nt":
        return  # directories cannot be opened there, and renames are journalled
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite file as it is at one moment, also while others write to it.

    Raises:
        sqlite3.Error: The source is damaged or locked, or the disk is full.
    """
    address = f"{source.absolute().as_uri()}?mode=rw"  # which makes no file where there is none
    with (
        closing(sqlite3.connect(address, uri=True)) as read,
        closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)
        # One file: whoever reads the copy makes a write-ahead log of its own.
        written.execute("PRAGMA journal_mode=DELETE")
    sync(target)


def damage_of(path: Path) -> list[str]:
    """What SQLite finds wrong with a file."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("PRAGMA integrity_check(3)").fetchall()
    except sqlite3.DatabaseError as error:
        return [f"is damaged: {error}"]
    return [f"is damaged: {text}" for (text,) in rows if text != "ok"]
