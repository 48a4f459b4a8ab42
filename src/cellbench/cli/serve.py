"""``cellbench serve``: the page and the HTTP API over a store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import told

if TYPE_CHECKING:
    from cellbench.store import Store


class RoleName(StrEnum):
    """What a user may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


def serve(
    store: options.StorePath = None,
    all_benches: options.AllBenches = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this computer, a user and TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535)] = 8765,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="TLS certificate (PEM).")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its private key (PEM).")] = None,
    without_tls: Annotated[
        bool, typer.Option("--without-tls", help="Listen beyond this computer all the same.")
    ] = False,
    host_name: Annotated[
        list[str] | None,
        typer.Option("--host-name", help="A further name that browsers reach it by; repeatable."),
    ] = None,
    add_user: Annotated[
        str | None,
        typer.Option("--add-user", metavar="NAME", help="Only enter a user; asks the password."),
    ] = None,
    role: Annotated[RoleName, typer.Option(help="Of the user to enter.")] = RoleName.VIEWER,
    token: Annotated[
        bool, typer.Option("--token", help="The user is a program: show a token for it, once.")
    ] = False,
) -> None:
    """Show runs, live and past, in a browser; steer them from there. See docs/web.md."""
    with told():
        _installed()
        from cellbench.store import Store, data_directory

        directory = store or data_directory()
        open_store: Callable[[Path], Store] = Store
        if all_benches:
            directory, open_store = _of_all_benches(directory)
        if add_user is not None:
            _enter(add_user, role, directory, token=token)
            return
        from cellbench.web.serving import Where, serve

        where = Where(host, port, certificate, key, without_tls, tuple(host_name or ()))
        serve(directory, where, _say, open_store)


def _of_all_benches(store: Path) -> tuple[Path, Callable[[Path], Store]]:
    """Where what is shown of all benches is kept, with its own users; and what opens it."""
    from cellbench.cli.database import needed_database
    from cellbench.laboratory import Mirror

    database = needed_database(None)
    return database.kept_in(store), partial(Mirror, database)


def _enter(name: str, role: RoleName, store: Path, *, token: bool) -> None:
    from cellbench.store import Store
    from cellbench.web.users import Users

    with Store(store) as opened:
        users = Users(opened.directory)
    if token:
        made = users.add_token(name, role.value)
        typer.echo(f"{name} ({role.value}) signs in with this token; it is not shown again:")
        typer.echo(made)
        return
    password = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    users.add_password(name, role.value, password)
    typer.echo(f"{name} ({role.value}) is entered in {users.path}")


def _installed() -> None:
    from importlib.util import find_spec

    from cellbench.errors import InputError

    missing = [name for name in ("fastapi", "uvicorn", "argon2") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"cellbench serve needs {' and '.join(missing)}: pip install 'cellbench[web]'"
        )


def _say(text: str) -> None:
    typer.echo(text)
    sys.stdout.flush()
