"""cellbench runs battery cell tests unattended, on real instruments or on a simulated bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from cellbench.exchange.client import OpenedStore

__version__ = "0.1.0"


def open(  # noqa: A001 (cellbench.open, as of a file)
    place: str | os.PathLike[str] | None = None, *, token: str | None = None
) -> OpenedStore:
    """Open a store to read its runs.

    Args:
        place: Its directory, or the address of a server (``cellbench serve``) that shows one, like
            ``https://lab:8000``, or of a laboratory's database, like
            ``postgresql://cellbench_vera@lab/cellbench``; None for the default store of this
            computer.
        token: What to sign in at a server with.

    Raises:
        InputError: There is no store, or the server does not let us in.
    """
    from cellbench.exchange.opening import opened  # noqa: PLC0415 (import cellbench stays light)

    return opened(place, token)
