"""``cellbench service``: goes on with runs that lost their host, at boot and ever after."""

from __future__ import annotations

import asyncio
import getpass
import sys
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from xml.sax.saxutils import escape

import typer

from cellbench.cli.output import told
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from cellbench.engine.service import Policy, Service
    from cellbench.engine.taking import Taking

_UNIT, _TASK = "cellbench.service", "cellbench-task.xml"


def service(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The policy (else: service.toml where runs are kept)."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when what is lost now has been seen to.")
    ] = False,
    take_jobs: Annotated[
        bool,
        typer.Option("--take-jobs", help="Take the laboratory's jobs that --bench can do."),
    ] = False,
    bench: Annotated[
        Path | None, typer.Option("--bench", help="The bench file that jobs are run on.")
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option("--cell", help="Card of the cell that is there, for a bench with one cell."),
    ] = None,
    write_unit: Annotated[
        Path | None,
        typer.Option("--write-unit", help="Only write a systemd unit for this installation."),
    ] = None,
    write_task: Annotated[
        Path | None,
        typer.Option("--write-task", help="Only write a task for Windows' Task Scheduler."),
    ] = None,
) -> None:
    """Go on with runs that lost their host: at boot, and whenever one is found.

    Each is resumed in a process of its own, those that share instruments in one. With
    --take-jobs a bench takes jobs of the laboratory whose database CELLBENCH_DATABASE names,
    each in a process of its own as well. Ends in good order on SIGTERM or Ctrl-C: runs that it
    has begun or resumed come to their safe state first.
    """
    with told():
        from cellbench import clock
        from cellbench.cli.copying import copying
        from cellbench.engine.service import Service, described, read_policy
        from cellbench.store import data_directory

        if write_unit is not None or write_task is not None:
            _write(write_unit, write_task)
            return
        policy = read_policy(config)
        taking = _taking(policy, bench, cell) if take_jobs else None
        stopping = Stopping()
        for line in described(policy):
            _say(line)
        with ExitStack() as stack:
            for directory in policy.stores or (data_directory(),):
                stack.enter_context(copying(directory))
            try:
                clock.run(_serve(Service(policy, _say), taking, stopping, once=once))
            except asyncio.CancelledError:
                _say("ended")


async def _serve(
    service: Service, taking: Taking | None, stopping: Stopping, *, once: bool
) -> None:
    with stopping.cancels_this_task():
        async with asyncio.TaskGroup() as group:
            group.create_task(service.serve(once=once))
            if taking is not None:
                group.create_task(taking.serve(once=once))


def _taking(policy: Policy, bench: Path | None, cell: str | None) -> Taking:
    from cellbench.cli.database import needed_database
    from cellbench.engine.offer import Offer
    from cellbench.engine.taking import Taking
    from cellbench.errors import InputError
    from cellbench.store import data_directory
    from cellbench.store.places import store_directory

    if bench is None:
        raise InputError("--take-jobs needs the bench that they are run on: --bench FILE")
    store = store_directory(policy.stores[0] if policy.stores else data_directory())
    return Taking(Offer(bench, cell), needed_database(None), store, policy, _say, cell)


def _write(unit: Path | None, task: Path | None) -> None:
    """Write the files for service managers, filled in for this installation."""
    python = sys.executable
    if unit is not None:
        # systemd expands what follows a percent sign, also within quotes.
        facts = {"python": python.replace("%", "%%"), "user": getpass.getuser()}
        unit.write_text(_template(_UNIT).format(**facts), encoding="utf-8")
    if task is not None:
        facts = {"python": escape(python), "user": escape(getpass.getuser())}
        # The Task Scheduler wants what the XML declares, with a mark of its byte order.
        task.write_text(_template(_TASK).format(**facts), encoding="utf-16")


def _template(name: str) -> str:
    return files("cellbench.cli").joinpath("service_files", name).read_text(encoding="utf-8")


def _say(text: str) -> None:
    typer.echo(text)
    sys.stdout.flush()
