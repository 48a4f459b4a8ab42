"""``cellbench resume``: go on with a run whose computer was lost, or that ended early."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_error, told
from cellbench.cli.run import banner, tell
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from cellbench.engine.run import RunEnd
    from cellbench.engine.session import Session
    from cellbench.store import Run, Store
    from cellbench.telemetry import Beside


def resume(
    run_id: options.RunId = "last",
    accept: Annotated[
        bool,
        typer.Option("--accept", help="I looked at the cell: go on although it has changed."),
    ] = False,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", help="The bench file, if it is not as it was when the run began."),
    ] = None,
    store: options.StorePath = None,
    telemetry: options.TelemetryPath = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Where the report goes (else: the store).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Go on with a run after its computer was lost, or after it ended early.

    Asks every instrument what it is doing, attaches to a cycler that went on by itself, and goes on
    where the run was: nothing that was done is done again. Exit codes as of run.
    """
    with told(as_json=as_json):
        from cellbench import clock
        from cellbench.cli.telling import telling
        from cellbench.engine.resume import session_of
        from cellbench.store import Store

        with Store(store, make=False) as opened:
            run = opened.find(run_id)
            session = session_of(opened, run, bench)
            stopping = Stopping()
            with telling(telemetry, opened, stopping) as beside:
                resuming = _resume(
                    session, opened, run, stopping, beside, accept=accept, as_json=as_json
                )
                try:
                    end = clock.run(resuming, **session.clock())
                except asyncio.CancelledError as error:
                    print_error("interrupted before it was resumed: nothing was changed")
                    raise typer.Exit(ExitCode.INTERRUPTED) from error
                tell(session, opened, end, report, as_json=as_json)
    raise typer.Exit(end.exit_code)


async def _resume(
    session: Session,
    store: Store,
    run: Run,
    stopping: Stopping,
    beside: Beside | None,
    *,
    accept: bool,
    as_json: bool,
) -> RunEnd:
    from rich.console import Console

    from cellbench.cli.live import watching
    from cellbench.cli.operator import ConsoleOperator
    from cellbench.engine.control import ControlServer
    from cellbench.engine.gate import gate_of
    from cellbench.engine.guard.keeper import guarded
    from cellbench.engine.prompts import Prompts
    from cellbench.engine.resume import Resumption, age_of
    from cellbench.engine.side_thread import SideThread
    from cellbench.protocol import plan

    console = Console(stderr=as_json, quiet=as_json and not os.isatty(2))
    person = ConsoleOperator(console) if console.is_terminal and not as_json else None
    prompts = Prompts(person)
    planned = plan(session.program, session.declared())
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(guarded(session))
        with stopping.cancels_this_task():
            side = await stack.enter_async_context(SideThread())
            bench = await stack.enter_async_context(
                session.bench(prompts, take_over=f"resume {run.id}")
            )
            age_s = age_of(run, session.file.speed)
            resumption = Resumption(
                session, bench, store, run, age_s=age_s, accepted=accept, planned=planned
            )
            await resumption.attach()
            guard.watch_over(resumption)
            resumption.commands.prompts = prompts
            gate = gate_of(resumption)
            if beside is not None:
                beside.follow(resumption, gate)
            channel = ControlServer(run.id, store.run_path(run.id), side, gate)
            await stack.enter_async_context(channel)
            with watching(resumption, banner(session, resumption), console) as live:
                if person is not None:
                    person.live = live
                return await resumption.conduct()
