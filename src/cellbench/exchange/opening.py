"""Which store `cellbench.open` opens: a directory's, or a server's."""

from __future__ import annotations

import os
from pathlib import Path

from cellbench.exchange.client import OpenedStore
from cellbench.exchange.local import LocalStore
from cellbench.exchange.remote import RemoteStore


def opened(place: str | os.PathLike[str] | None, token: str | None) -> OpenedStore:
    """Open it; see `cellbench.open`."""
    if isinstance(place, str) and place.startswith(("http://", "https://")):
        return OpenedStore(RemoteStore(place, token))
    return OpenedStore(LocalStore(None if place is None else Path(place)))
