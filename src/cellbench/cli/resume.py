"""``cellbench resume``: go on with a run whose computer was lost, or that ended early."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_error, told
from cellbench.cli.run import tell
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from cellbench.engine.run import RunEnd
    from cellbench.engine.session import Session
    from cellbench.store import Run, Store
    from cellbench.telemetry import Beside


def resume(
    run_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run's id, the end of one, or last; several of one bench of many cells.",
        ),
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The newest run, as without any.")] = False,
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
        from cellbench.cli.copying import copied_store
        from cellbench.cli.many import resume_many
        from cellbench.cli.telling import telling
        from cellbench.engine.resume import session_of
        from cellbench.errors import InputError

        named = run_ids or ["last"]
        if last and named != ["last"]:
            raise InputError(f"{' '.join(named)} or --last? Name one run")
        if len(named) > 1:
            if report is not None:
                raise InputError("--report is for one run at a time")
            code = resume_many(
                named, bench, accept=accept, store=store, telemetry=telemetry, as_json=as_json
            )
            raise typer.Exit(code)
        (run_id,) = named
        with copied_store(store, make=False) as opened:
            run = opened.find(run_id)
            session = session_of(opened, run, bench)
            stopping = Stopping()
            with telling(telemetry, opened, stopping) as told_of:
                resuming = resumed(
                    session, opened, run, stopping, told_of, accept=accept, as_json=as_json
                )
                try:
                    end = clock.run(resuming, **session.file.clock())
                except asyncio.CancelledError as error:
                    print_error("interrupted before it was resumed: nothing was changed")
                    raise typer.Exit(ExitCode.INTERRUPTED) from error
                tell(session, opened, end, report, as_json=as_json)
    raise typer.Exit(end.exit_code)


async def resumed(
    session: Session,
    store: Store,
    run: Run,
    stopping: Stopping,
    telemetry: Beside | None,
    *,
    accept: bool,
    as_json: bool,
) -> RunEnd:
    """Take a run up on its bench, once that is there, and conduct it to its end."""
    from cellbench.cli.company import company
    from cellbench.engine.awaiting import awaited_bench
    from cellbench.engine.resume import age_of, taken_up
    from cellbench.protocol import plan

    planned = plan(session.program, session.declared())
    async with AsyncExitStack() as stack:
        beside = await stack.enter_async_context(company(session, telemetry, as_json=as_json))
        with stopping.cancels_this_task():
            bench = await stack.enter_async_context(
                awaited_bench(session, beside.prompts, f"resume {run.id}", print_error)
            )
            resumption = await taken_up(
                session,
                bench,
                store,
                run,
                age_s=age_of(run, session.file.speed),
                accepted=accept,
                planned=planned,
            )
            return await beside.conduct(resumption)
