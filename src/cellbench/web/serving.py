"""Opening the server: where it listens, what has to be configured for it, and its end."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from cellbench.engine.control_client import this_person
from cellbench.errors import InputError
from cellbench.library import card_names
from cellbench.protocol import load_card
from cellbench.store import Store
from cellbench.web.app import make_app
from cellbench.web.site import Site, own_names
from cellbench.web.users import User, Users

if TYPE_CHECKING:
    from cellbench.laboratory import Database

#: Threads that wait for disks, instruments' processes and numpy.
_THREADS = 32
_CONNECTIONS_MAX = 400
#: For answers that are under way when the server ends.
_LEAVE_S = 3


@dataclass(frozen=True)
class Where:
    """Where a server listens.

    Attributes:
        certificate, key: Files for TLS, None for none.
        without_tls: Whether somebody has said that none is needed.
        host_names: Further names that browsers may reach it by.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    certificate: Path | None = None
    key: Path | None = None
    without_tls: bool = False
    host_names: Sequence[str] = ()

    @property
    def is_beyond_this_computer(self) -> bool:
        """Whether others can reach it."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


def check(where: Where, users: Users) -> None:
    """Refuse what would leave instruments open to whoever is on the network.

    Raises:
        InputError: Says what is missing.
    """
    if (where.certificate is None) != (where.key is None):
        raise InputError("TLS needs both files: --certificate FILE and --key FILE")
    for file in (where.certificate, where.key):
        if file is not None and not file.is_file():
            raise InputError(f"there is no file {file}")
    if not where.is_beyond_this_computer:
        return
    if not len(users):
        raise InputError(
            f"--host {where.host} is reached from other computers, and nobody could sign in there: "
            "enter a user first: cellbench serve --add-user NAME --role operator"
        )
    if where.certificate is None and not where.without_tls:
        raise InputError(
            f"--host {where.host} is reached from other computers: passwords need TLS on the way. "
            "Give --certificate FILE and --key FILE; or, where something in front of cellbench "
            "speaks TLS or the network is your own, --without-tls"
        )


def serve(
    directory: Path,
    where: Where,
    say: Callable[[str], None],
    database: Database | None = None,
) -> None:
    """Serve a store until Ctrl-C.

    Args:
        directory: Of the store; it may be empty.
        where: Where to listen.
        say: Takes lines for who looks after the server.
        database: See `Site`.

    Raises:
        InputError: It must not, or cannot, listen there.
    """
    with Store(directory) as store:
        directory = store.directory
    users = Users(directory)
    check(where, users)
    with listening(where.host, where.port) as opened:
        port = opened.getsockname()[1]
        tls = where.certificate is not None
        names = own_names([*where.host_names, where.host])
        site = Site(directory, port, names, tls, say, database)
        address = f"{'https' if tls else 'http'}://{_shown(where.host)}:{port}/"
        say(f"store {directory}")
        say(f"cellbench is at {address}   (Ctrl-C ends it; no run notices)")
        if not len(users):
            site.new_link = _links(site, address)
            site.new_link()
        with closing(site):
            _run(site, where, opened)


def _links(site: Site, address: str) -> Callable[[], None]:
    person = this_person().user
    user = User.model_construct(name=person, role="operator", password="", token="")

    def tell() -> None:
        token = site.sessions.link_token(user)
        # After the "#": it is sent to no server, and stands in no log.
        site.say(f"no user is configured; this link signs in one browser, once:\n  "
                 f"{address}sign-in#token={token}")  # fmt: skip

    return tell


def listening(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        InputError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise InputError(
            f"port {port} of {host} cannot be had: {error.strerror or error}. "
            "Choose another with --port"
        ) from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """Uvicorn's server, whose events end before it waits for its connections."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="web"))
        await super().startup(sockets)
        loop.run_in_executor(None, _warm_up)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._site.tails.dismiss()
        await super().shutdown(sockets)


def _warm_up() -> None:
    """Load what the first page would wait for: units and the parser of protocols."""
    load_card(None, card_names()[0])
    # The collector looks through all modules each time that many rows are read, a tenth of a
    # second; what is loaded now stays for good.
    gc.collect()
    gc.freeze()


def _run(site: Site, where: Where, opened: socket.socket) -> None:
    config = uvicorn.Config(
        make_app(site),
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        ws="none",
        limit_concurrency=_CONNECTIONS_MAX,
        timeout_graceful_shutdown=_LEAVE_S,
        ssl_certfile=where.certificate,
        ssl_keyfile=where.key,
    )
    try:
        config.load()
    except OSError as error:  # also what ssl raises of a file that is no key
        raise InputError(f"the certificate or its key cannot be used: {error}") from error
    _Server(config, site).run([opened])
