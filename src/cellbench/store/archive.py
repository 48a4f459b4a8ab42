"""What of a compacted run stands beside its file, by the table ``archive`` in it.

A table of which there is an entry is not in the file any more. The entry is made in the same
transaction that drops the table: at any moment there is one truth.
"""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass
from pathlib import Path

from cellbench.errors import StoreError
from cellbench.store.tables import ARCHIVE_SCHEMA, COMPACTED_VERSION, FORMAT_VERSION

#: The tables that can be compacted, and the endings of the files that they become.
SUFFIXES = {
    "sample": ".samples.parquet",
    "spectrum": ".spectra.parquet",
    "wire": ".wire.parquet",
}


@dataclass(frozen=True)
class Archived:
    """A table that stands in a Parquet file.

    Attributes:
        kind: The table.
        rows: How many rows it has.
        content: Checksum of the rows, see `cellbench.store.parquet.Content`; None where the
            table was given up.
        sha256: Checksum of the file; None likewise.
        utc: When it was made, or given up.
    """

    kind: str
    rows: int
    content: str | None
    sha256: str | None
    utc: str

    @property
    def is_dropped(self) -> bool:
        """Whether it was given up."""
        return self.sha256 is None

    def beside(self, path: Path) -> Path:
        """Where it is, of a run's file.

        Raises:
            StoreError: It was given up.
        """
        if self.is_dropped:
            raise StoreError(
                f"{path}: its {self.kind} log was dropped on {self.utc[:10]} by the rules of its "
                "store (cellbench store retain)"
            )
        return beside(path, self.kind)


def beside(path: Path, kind: str) -> Path:
    """The Parquet file of a table, by the run's own."""
    return path.with_name(f"{path.stem}{SUFFIXES[kind]}")


def archived(connection: sqlite3.Connection) -> dict[str, Archived]:
    """What of a run stands elsewhere, by table; nothing of one that was not compacted."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version != COMPACTED_VERSION:
        return {}
    rows = connection.execute("SELECT kind, rows, content, sha256, utc FROM archive")
    return {row[0]: Archived(*row) for row in rows}


def compacted(path: Path) -> str:
    """Why nothing can be added to the run of a file."""
    return (
        f"run {path.stem} was compacted and takes no more data; to go on with it, first bring its "
        f"rows back: cellbench store expand {path.stem}"
    )


def enter(connection: sqlite3.Connection, kept: Archived) -> None:
    """Enter that a table stands elsewhere; within the caller's transaction."""
    connection.execute(ARCHIVE_SCHEMA)
    connection.execute("INSERT OR REPLACE INTO archive VALUES (?, ?, ?, ?, ?)", astuple(kept))
    connection.execute(f"PRAGMA user_version={COMPACTED_VERSION}")


def forget(connection: sqlite3.Connection, kind: str) -> None:
    """Enter that a table is in the file again; within the caller's transaction."""
    connection.execute("DELETE FROM archive WHERE kind = ?", (kind,))
    if not archived(connection):
        connection.execute("DROP TABLE archive")
        connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
