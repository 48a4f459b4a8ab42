"""``cellbench database`` and ``follow``: the copy of all benches' runs in PostgreSQL."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_error, print_json, told

if TYPE_CHECKING:
    from pathlib import Path

    from cellbench.laboratory.database import Bench, Database
    from cellbench.store import Store

app = typer.Typer(
    help="The laboratory's database: all benches' runs in PostgreSQL.", no_args_is_help=True
)


class Kind(StrEnum):
    """What somebody may do."""

    BENCH = "bench"
    VIEWER = "viewer"
    OPERATOR = "operator"


@app.command()
def init(database: options.DatabaseUrl = None) -> None:
    """Make the database if it is not there, and cellbench's tables in it."""
    with told():
        opened = needed_database(database)
        made = opened.create()
        opened.upgrade()
        typer.echo(f"{opened.name} is {'made and ' if made else ''}ready")


@app.command()
def upgrade(database: options.DatabaseUrl = None) -> None:
    """Bring the tables up to date with this cellbench; nothing is lost."""
    with told():
        from cellbench.errors import InputError

        opened = needed_database(database)
        version, newest = opened.versions()
        if version is None:
            raise InputError(f"{opened.name} has no tables yet: cellbench database init makes them")
        opened.upgrade()
        typer.echo(f"{opened.name} {'was' if version == newest else 'is now'} up to date")


@app.command()
def status(database: options.DatabaseUrl = None, as_json: options.AsJson = False) -> None:
    """Show what is in the database: benches, their runs, and when each was heard of last.

    Exit codes: 0 it is up to date, 1 its tables are of another version, 2 it cannot be used.
    """
    with told(as_json=as_json):
        opened = needed_database(database)
        version, newest = opened.versions()
        benches = [] if version is None else opened.benches()
    if as_json:
        print_json(
            {"database": opened.name, "version": version, "newest": newest}
            | {"benches": [_row(each) for each in benches]}
        )
    else:
        typer.echo(opened.name + _version_text(version, newest))
        for each in benches:
            typer.echo(f"  {each}")
    raise typer.Exit(ExitCode.FORESEEN_END if version == newest else ExitCode.STOPPED)


def _row(bench: Bench) -> dict[str, Any]:
    return asdict(bench) | {"seen": bench.seen and bench.seen.isoformat()}


def _version_text(version: str | None, newest: str) -> str:
    if version is None:
        return ": no tables yet (cellbench database init)"
    return "" if version == newest else ": tables of another version (cellbench database upgrade)"


@app.command()
def grant(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="bench: copies its runs, takes jobs. viewer: reads all. operator: submits too."
        ),
    ],
    name: Annotated[str, typer.Argument(help="Of the bench or the person.")],
    database: options.DatabaseUrl = None,
) -> None:
    """Give a bench or a person a role of their own, and print its address with a new password."""
    with told():
        opened = needed_database(database)
        typer.echo(opened.address_for(name, opened.grant(kind.value, name)))


@app.command()
def check(
    database: options.DatabaseUrl = None,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare the runs of this store with their copies, row by row.

    Exit codes: 0 all are equal, 1 some are not, 2 wrong input.
    """
    with told(as_json=as_json):
        from cellbench.store import Store

        opened = needed_database(database)
        from cellbench.laboratory.checking import differences

        with Store(store, make=False) as kept:
            found = dict(differences(kept, opened))
            runs = len(kept.runs())
    if as_json:
        print_json({"runs": runs, "differences": found})
    else:
        for run, difference in found.items():
            typer.echo(f"{run}: {difference}")
        typer.echo(f"{runs - len(found)} of {runs} runs are equal to their copies")
    raise typer.Exit(ExitCode.STOPPED if found else ExitCode.FORESEEN_END)


def follow(
    once: Annotated[bool, typer.Option("--once", help="Copy what there is, and end.")] = False,
    beside: Annotated[
        bool, typer.Option("--beside", help="End when standard input does, as beside a run.")
    ] = False,
    database: options.DatabaseUrl = None,
    store: options.StorePath = None,
) -> None:
    """Copy the runs of this store to the laboratory's database, as they come.

    Goes on until Ctrl-C; a server that is away is waited for. `run`, `resume`, `campaign run` and
    `service` do this by themselves where CELLBENCH_DATABASE is set. Exit codes: 0 all is copied, 1
    not all, 2 wrong input.
    """
    with told():
        from cellbench.store import Store

        opened = needed_database(database)
        from cellbench.laboratory.follower import Follower, turn
        from cellbench.system import give_way

        give_way()  # to runs on the same computer
        leave = _leave_when_told(beside=beside)
        if once:
            leave.set()
        with (
            Store(store, make=beside) as kept,
            Follower(kept, opened, print_error) as follower,
            turn(kept.directory, leave),
        ):
            whole = follower.follow(leave)
    raise typer.Exit(ExitCode.FORESEEN_END if whole else ExitCode.STOPPED)


def _leave_when_told(*, beside: bool) -> threading.Event:
    """An event that a signal sets, or for one beside a run the end of its standard input."""
    from cellbench.system import stopping_signals

    leave = threading.Event()
    for number in stopping_signals():
        signal.signal(number, lambda *_: leave.set())

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        leave.set()

    if beside:
        threading.Thread(target=wait_for_the_end, daemon=True).start()
    return leave


def needed_database(url: str | None) -> Database:
    """The database that is named.

    Raises:
        InputError: None is, or what is needed to speak to it is not installed.
    """
    from cellbench.errors import InputError
    from cellbench.laboratory import database_named

    found = database_named(url)
    if found is None:
        raise InputError("no database is named: set CELLBENCH_DATABASE, or write --database URL")
    return found


def opened_store(store: Path | None, *, all_benches: bool) -> Store:
    """The store that is meant: this computer's, or that of the runs of all benches.

    Raises:
        InputError: There is none.
    """
    from cellbench.store import Store, data_directory

    if not all_benches:
        return Store(store, make=False)
    database = needed_database(None)
    from cellbench.laboratory import Mirror

    return Mirror(database, database.kept_in(store or data_directory()))
