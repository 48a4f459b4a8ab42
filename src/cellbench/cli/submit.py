"""``cellbench submit`` and ``cellbench jobs``: the laboratory's queue, for people.

See docs/jobs.md for what becomes of a job.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, print_json, told

if TYPE_CHECKING:
    from cellbench.engine.orders import Order
    from cellbench.laboratory.queue import Job, JobQueue

app = typer.Typer(help="The laboratory's jobs: the list, cancelling, giving back.")

_Number = Annotated[int, typer.Argument(metavar="JOB", help="Its number in cellbench jobs.")]


class Ending(StrEnum):
    """How a job's run is to end."""

    STEP = "step"
    CYCLE = "cycle"
    NOW = "now"


def submit(
    protocol: Annotated[str, typer.Argument(help="A protocol, as for run, or a campaign file.")],
    cell: Annotated[
        list[str] | None,
        typer.Option(
            "--cell",
            help="A cell card, a place of the bench (A1), or both (A1=CARD); several with commas. "
            "Else the cell that the protocol names.",
        ),
    ] = None,
    bench: Annotated[
        str,
        typer.Option("--bench", help="The bench that is to run it; else any that can."),
    ] = "",
    sets: options.Sets = None,
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, help="Higher ones are taken first.")
    ] = 0,
    deadline: Annotated[
        str | None,
        typer.Option(help="When it must have begun: 2026-11-22 08:00, or from now: 8 h."),
    ] = None,
    replicates: Annotated[
        int, typer.Option(min=1, max=1000, help="How many cells of each card.")
    ] = 1,
    database: options.DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Queue a run for the benches of the laboratory: the first that can do it takes it."""
    with told(as_json=as_json):
        from datetime import UTC, datetime

        from cellbench.campaign.submitting import is_campaign, works_of_campaign
        from cellbench.errors import InputError
        from cellbench.laboratory.jobs import deadline_of, works_of
        from cellbench.library import find_protocol

        due = None if deadline is None else deadline_of(deadline, datetime.now(UTC))
        shared: dict[str, Any] = {"bench": bench, "deadline": due, "by": _person()}
        if is_campaign(file := find_protocol(protocol)):
            if cell or sets or replicates > 1:
                raise InputError("a campaign file says its cells, settings and replicates itself")
            works = works_of_campaign(file, **shared)
        else:
            cells = [name.strip() for each in cell or [] for name in each.split(",")]
            works = works_of(protocol, cells, sets=sets or [], replicates=replicates, **shared)
        with _queue(database) as queue:
            numbers = queue.submit(works, priority)
        if as_json:
            print_json({"jobs": numbers})
            return
        for number, work in zip(numbers, works, strict=True):
            many = work.replicates > 1
            of = f", replicate {work.replicate} of {work.replicates}" if many else ""
            typer.echo(f"job {number}: {work.title} on {work.cell}{of}")


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    database: options.DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the jobs that wait and run, in the order in which they were submitted."""
    if context.invoked_subcommand is not None:
        return
    with told(as_json=as_json):
        with _queue(database) as queue:
            found = queue.jobs(ended=everything)
        if as_json:
            print_json([job.answer() for job in found])
            return
        for job in found:
            for line in _lines(job):
                typer.echo(line)
        if not found:
            typer.echo("no job waits or runs" if not everything else "there are no jobs")


@app.command()
def cancel(
    number: _Number,
    after: Annotated[
        Ending,
        typer.Option(
            help="When a run that is under way ends: after its step, after its cycle, or now, "
            "through its safe state."
        ),
    ] = Ending.NOW,
    database: options.DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Cancel a job: one that waits is gone, the run of another is ended by its bench."""
    with told(as_json=as_json):
        how = {Ending.STEP: "step", Ending.CYCLE: "cycle", Ending.NOW: "abort"}[after]
        with _queue(database) as queue:
            job = queue.cancel(number, how, _person())  # type: ignore[arg-type]
        if job.state == "waiting":
            text = "it was waiting and is gone"
        else:
            end = "now" if after is Ending.NOW else f"after its {after.value}"
            text = f"{job.bench} is to end it {end}"
        _answer(number, text, as_json=as_json)


@app.command()
def release(
    number: _Number,
    yes: Annotated[bool, typer.Option("--yes", help="I have looked at the cell.")] = False,
    database: options.DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Take a job from a bench that is lost, and let it wait for any bench again.

    It is begun from its first step. Nothing is done on the bench that had it: see for yourself
    that the cell there is at open circuit (cellbench quiet).
    """
    with told(as_json=as_json):
        with _queue(database) as queue:
            job = queue.find(number)
            if job.run and not yes:
                if as_json or not sys.stdin.isatty():
                    from cellbench.errors import InputError

                    raise InputError(
                        f"job {number} became run {job.run} on {job.bench}, and its cell may be "
                        "energised: look at it, then add --yes"
                    )
                question = f"Is the cell of run {job.run} on {job.bench} at open circuit?"
                typer.confirm(question, abort=True)
            queue.release(number)
        _answer(number, "waits for any bench again", as_json=as_json)


@app.command(hidden=True)
def begin(
    number: _Number,
    bench: Annotated[Path, typer.Option("--bench")],
    place: Annotated[str, typer.Option("--place")] = "",
    cell: Annotated[str | None, typer.Option("--cell")] = None,
    store: options.StorePath = None,
    database: options.DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Run a job that this bench has taken: cellbench service --take-jobs calls this."""
    with told(as_json=as_json):
        from cellbench.cli.database import needed_database
        from cellbench.engine.orders import Order
        from cellbench.errors import InputError, InstrumentError

        order = Order(number, needed_database(database))
        try:
            code = _begun(order, bench, place, cell, store, as_json=as_json)
        except InstrumentError as error:
            order.tell(f"not begun yet: {error}")
            raise
        except InputError as error:
            order.fail(str(error))
            raise
    raise typer.Exit(code)


@app.command(hidden=True)
def work(
    bench: Annotated[Path, typer.Option("--bench")],
    resume: Annotated[list[str] | None, typer.Option("--resume")] = None,
    store: options.StorePath = None,
    database: options.DatabaseUrl = None,
) -> None:
    """Run all jobs that this bench has taken, in one process: its places share instruments."""
    with told():
        from cellbench import clock
        from cellbench.cli.database import needed_database
        from cellbench.cli.stopping import Stopping
        from cellbench.engine.offer import Offer
        from cellbench.engine.owner import Owner
        from cellbench.engine.working import Working
        from cellbench.store import Store

        laboratory, offer, stopping = needed_database(database), Offer(bench), Stopping()

        with Store(store) as opened:
            owner = Owner(bench, opened)
            working = Working(offer, owner, opened, laboratory, typer.echo, resume or [])

            async def main() -> None:
                async with owner:
                    with stopping.cancels_this_task():
                        await working.work()

            try:
                clock.run(main(), **owner.file.clock())
            except asyncio.CancelledError as error:
                raise typer.Exit(ExitCode.INTERRUPTED) from error


def _begun(
    order: Order, bench: Path, place: str, cell: str | None, store: Path | None, *, as_json: bool
) -> int:
    from cellbench.cli.run import Speed, conducted, tell
    from cellbench.cli.stopping import Stopping
    from cellbench.cli.telling import telling
    from cellbench.engine.offer import Offer
    from cellbench.protocol import plan
    from cellbench.store import Store

    session = Offer(bench, cell).session(order.work, place)
    planned = plan(session.program, session.declared())
    stopping = Stopping()
    with Store(store) as opened, telling(None, opened, stopping) as told_of:
        end = conducted(
            session, opened, planned, Speed.MAX, stopping, told_of, as_json=as_json, order=order
        )
        tell(session, opened, end, None, as_json=as_json)
    return end.exit_code


def _queue(url: str | None) -> AbstractContextManager[JobQueue]:
    from cellbench.cli.database import needed_database
    from cellbench.engine.orders import queue_in

    return queue_in(needed_database(url))


def _person() -> str:
    from cellbench.engine.control_client import this_person

    person = this_person()
    return f"{person.user} at {person.host}"[:100]


def _answer(number: int, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"job": number, "text": text})
    else:
        typer.echo(f"job {number}: {text}")


def _lines(job: Job) -> Iterator[str]:
    where = " ".join(each for each in (job.bench, job.place) if each)
    replicates = job.fact("replicates")
    of = f" ({job.fact('replicate')} of {replicates})" if replicates not in {"", "1"} else ""
    facts = [
        f"{job.id:>5}  {job.state:<9}  {job.fact('title')} on {job.fact('cell')}{of}",
        f"priority {job.priority}" if job.priority else "",
        f"before {job.deadline.astimezone():%a %d %b %H:%M}" if job.deadline else "",
        where or (f"for {job.fact('bench')}" if job.fact("bench") else ""),
        f"run {job.run}" if job.run else "",
        job.text,
    ]
    yield "   ".join(each for each in facts if each)
    for bench, why in job.refusals.items():
        yield f"{'':18}{bench}: {' '.join(why.split())[:200]}"
