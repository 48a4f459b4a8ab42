"""Which store `cellbench.open` opens: a directory's, a server's, or a laboratory's."""

from __future__ import annotations

import os
from pathlib import Path

from cellbench.exchange.client import OpenedStore
from cellbench.exchange.local import LocalStore
from cellbench.exchange.remote import RemoteStore
from cellbench.store import Store


def opened(place: str | os.PathLike[str] | None, token: str | None) -> OpenedStore:
    """Open it; see `cellbench.open`."""
    if isinstance(place, str) and place.startswith(("http://", "https://")):
        return OpenedStore(RemoteStore(place, token))
    if isinstance(place, str) and place.startswith(("postgresql://", "postgres://")):
        from cellbench.laboratory import Database, Mirror  # noqa: PLC0415 (an extra)

        return OpenedStore(LocalStore(Mirror(Database(place))))
    return OpenedStore(LocalStore(Store(None if place is None else Path(place), make=False)))
