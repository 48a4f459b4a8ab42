"""A run's journal as the API tells it: entries by their number, each as a person reads it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

_COLUMNS = "seq, time_s, utc, kind, step, text, data"


def entries_after(connection: sqlite3.Connection, number: int, limit: int) -> list[dict[str, Any]]:
    """Entries with a larger number, oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM journalentry WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
        (number, limit),
    )
    return [_entry(row) for row in rows]


def newest_entries(connection: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """The last entries, oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM journalentry ORDER BY seq DESC LIMIT ?",  # noqa: S608
        (limit,),
    )
    return [_entry(row) for row in rows][::-1]


def without_data(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries as they leave the server."""
    return [{name: each[name] for name in each if name != "data"} for each in entries]


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    number, time_s, utc, kind, step, text, data = row
    decided = json.loads(data) if data else {}
    return {
        "number": number,
        "time_s": time_s,
        "utc": f"{utc.replace(' ', 'T')}Z",
        "kind": kind,
        "step": step,
        "text": text or str(decided.get("what", "")),
        "data": decided,
    }
