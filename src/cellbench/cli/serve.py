"""``cellbench serve``: the page and the HTTP API over a store."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import told


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
        from cellbench.cli.database import needed_database
        from cellbench.store import data_directory

        directory = store or data_directory()
        database = needed_database(None) if all_benches else None
        if database is not None:
            # With users of its own.
            directory = database.kept_in(directory)
        if add_user is not None:
            _enter(add_user, role, directory, token=token)
            return
        from cellbench.web.serving import Where, serve

        where = Where(host, port, certificate, key, without_tls, tuple(host_name or ()))
        serve(directory, where, _say, database)


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
