"""``cellbench attach``: go on reading a cycler that went on while its computer was away."""

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
    from cellbench.engine.unfinished import Unfinished
    from cellbench.store import Store


def attach(
    run_id: options.RunId = "last",
    bench: Annotated[
        Path | None,
        typer.Option("--bench", help="The bench file, if it is not as it was when the run began."),
    ] = None,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Attach to a run whose computer was lost while a cycler ran its steps by itself.

    Fetches every row that was missed into the run's file, follows the list of steps to its end, and
    ends in the safe state; what the protocol has after the list is not done. Exit codes as of run.
    """
    with told(as_json=as_json):
        from cellbench import clock
        from cellbench.engine.attach import session_of
        from cellbench.engine.unfinished import unfinished
        from cellbench.store import Store

        with Store(store, make=False) as opened:
            found = unfinished(opened, opened.find(run_id))
            session = session_of(found, bench)
            stopping = Stopping()
            try:
                end = clock.run(
                    _attach(found, session, opened, stopping, as_json=as_json), **session.clock()
                )
            except asyncio.CancelledError as error:
                print_error("interrupted before it was attached: nothing was changed")
                raise typer.Exit(ExitCode.INTERRUPTED) from error
            tell(session, opened, end, None, as_json=as_json)
    raise typer.Exit(end.exit_code)


async def _attach(
    found: Unfinished, session: Session, store: Store, stopping: Stopping, *, as_json: bool
) -> RunEnd:
    from rich.console import Console

    from cellbench.cli.live import watching
    from cellbench.engine.attach import attached
    from cellbench.engine.guard.keeper import guarded

    console = Console(stderr=as_json, quiet=as_json and not os.isatty(2))
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(guarded(session))
        with stopping.cancels_this_task():
            bench = await stack.enter_async_context(
                session.bench(None, take_over=f"attach {found.run.id}")
            )
            attachment = await stack.enter_async_context(
                attached(found, bench, store, session.file.speed)
            )
            guard.watch_over(attachment)
            with watching(attachment, banner(session, attachment), console):
                return await attachment.conduct()
