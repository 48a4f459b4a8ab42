"""What one server knows: its store, its users and sessions, where it may be reached."""

from __future__ import annotations

import asyncio
import ipaddress
import platform
import socket
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellbench.store import Store
from cellbench.web.limiter import Limiter
from cellbench.web.run_page import RunPage, RunPages
from cellbench.web.sessions import Sessions
from cellbench.web.tails import Tails
from cellbench.web.traces import Curves, Overviews
from cellbench.web.users import Users
from cellbench.web.worked_out import WorkedOut

if TYPE_CHECKING:
    from cellbench.laboratory import Database

#: Passwords that are looked at at once: each takes 64 MiB for a while.
_HASHES_AT_ONCE = 2


@dataclass
class Site:
    """One server.

    Attributes:
        directory: Of the store.
        port: Where it listens.
        host_names: Names under which browsers may reach it; others are somebody's trick (DNS
            rebinding). Addresses always are: nobody can point them elsewhere.
        tls: Whether it speaks https.
        say: Takes a line for who looks after the server.
        database: Of the runs of all benches, which are shown then; None for the store's own.
        new_link: Prints another link after one was used; None where there are users.
    """

    directory: Path
    port: int
    host_names: frozenset[str]
    tls: bool = False
    say: Callable[[str], None] = print
    database: Database | None = None
    new_link: Callable[[], None] | None = None
    limiter: Limiter = field(default_factory=Limiter)
    overviews: Overviews = field(default_factory=Overviews)
    worked_out: WorkedOut = field(default_factory=WorkedOut)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @cached_property
    def store(self) -> Store:
        """The catalogue of runs."""
        if self.database is None:
            return Store(self.directory)
        from cellbench.laboratory import Mirror  # noqa: PLC0415 (an extra)

        return Mirror(self.database, self.directory)

    def close(self) -> None:
        """Give up the catalogue's file."""
        self.store.close()

    @cached_property
    def users(self) -> Users:
        """Who may sign in."""
        return Users(self.directory)

    @cached_property
    def sessions(self) -> Sessions:
        """Who is signed in."""
        return Sessions(self.users)

    @cached_property
    def tails(self) -> Tails:
        """What is new in the runs that somebody watches; made in the server's loop."""
        return Tails(self.store)

    @cached_property
    def pages(self) -> RunPages:
        """The pages of runs."""
        return RunPages(self.store)

    def curves(self, page: RunPage) -> Curves:
        """The curves of a run."""
        if self.database is None:
            return self.overviews.of(page.path)
        from cellbench.web.all_benches import DatabaseCurves  # noqa: PLC0415 (an extra)

        return DatabaseCurves(self.database, page.run_id)

    @cached_property
    def hashing(self) -> asyncio.Semaphore:
        """Bounds how many passwords are looked at at once."""
        return asyncio.Semaphore(_HASHES_AT_ONCE)

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie: browsers do not tell ports apart."""
        return f"__Host-cellbench-{self.port}" if self.tls else f"cellbench-{self.port}"

    def is_ours(self, host: str) -> bool:
        """Whether a request's Host names this server."""
        name = host_name(host)
        return is_address(name) or name in self.host_names


def own_names(more: Iterable[str] = ()) -> frozenset[str]:
    """The names that this computer goes by, and others that it is said to have."""
    names = {"localhost", platform.node(), socket.getfqdn(), *more}
    return frozenset(name.lower().rstrip(".") for name in names if name)


def host_name(host: str) -> str:
    """The name (or address) in a Host header, without port and brackets."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".")


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
