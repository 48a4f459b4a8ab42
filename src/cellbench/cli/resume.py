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
        from cellbench.engine.resume import session_of
        from cellbench.store import Store

        with Store(store, make=False) as opened:
            run = opened.find(run_id)
            session = session_of(opened, run, bench)
            stopping = Stopping()
            try:
                end = clock.run(
                    _resume(session, opened, run, stopping, accept=accept, as_json=as_json),
                    **session.clock(),
                )
            except asyncio.CancelledError as error:
                print_error("interrupted before it was resumed: nothing was changed")
                raise typer.Exit(ExitCode.INTERRUPTED) from error
            tell(session, opened, end, report, as_json=as_json)
    raise typer.Exit(end.exit_code)


async def _resume(
    session: Session, store: Store, run: Run, stopping: Stopping, *, accept: bool, as_json: bool
) -> RunEnd:
    from rich.console import Console

    from cellbench.cli.live import watching
    from cellbench.cli.operator import ConsoleOperator
    from cellbench.engine.guard.keeper import guarded
    from cellbench.engine.resume import Resumption, age_of
    from cellbench.protocol import plan

    console = Console(stderr=as_json, quiet=as_json and not os.isatty(2))
    operator = ConsoleOperator(console) if console.is_terminal and not as_json else None
    planned = plan(session.program, session.declared())
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(guarded(session))
        with stopping.cancels_this_task():
            bench = await stack.enter_async_context(
                session.bench(operator, take_over=f"resume {run.id}")
            )
            age_s = age_of(run, session.file.speed)
            resumption = Resumption(
                session, bench, store, run, age_s=age_s, accepted=accept, planned=planned
            )
            await resumption.attach()
            guard.watch_over(resumption)
            with watching(resumption, banner(session, resumption), console) as live:
                if operator is not None:
                    operator.live = live
                return await resumption.conduct()
