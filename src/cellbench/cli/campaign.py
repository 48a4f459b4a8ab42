"""``cellbench campaign``: many cells through many protocols, one's own and published ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import (
    ExitCode,
    exit_code,
    print_error,
    print_json,
    print_table,
    told,
    writable_output,
)
from cellbench.cli.reference import reference
from cellbench.cli.run import Speed
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from cellbench.campaign.conducting import CarryingOut, Conducts
    from cellbench.campaign.loading import Campaign
    from cellbench.campaign.outline import Turn
    from cellbench.campaign.standing import Progress
    from cellbench.engine.gate import Gate
    from cellbench.engine.run import Conducting
    from cellbench.store import Store

app = typer.Typer(help="Many cells through many protocols.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A campaign file.")]
Named = Annotated[
    str,
    typer.Argument(metavar="FILE|NAME", help="A campaign file, or the name of one begun."),
]


@app.command()
def run(
    file: File,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="CELL", help="Only the runs of this cell; repeatable."),
    ] = None,
    bench: options.BenchPath = None,
    seed: options.Seed = 0,
    speed: Annotated[Speed, typer.Option(help="Simulated seconds per second.")] = Speed.MAX,
    store: options.StorePath = None,
    telemetry: options.TelemetryPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Carry a campaign out, or go on with it: what was done is not done again.

    A run that does not complete ends the series of its cell alone. Exit codes: 0 every run
    completed, 1 one did not, 2 wrong input, 3 an instrument kept a run from being begun,
    130 interrupted.
    """
    with told(as_json=as_json):
        from cellbench.campaign.conducting import alone_with
        from cellbench.campaign.loading import load_campaign
        from cellbench.campaign.standing import progress_of
        from cellbench.cli.copying import copied_store

        campaign = load_campaign(file, bench)
        stopping = Stopping()
        with copied_store(store) as opened, alone_with(campaign.outline.name, opened.directory):
            carrying = _carry_out(
                campaign, opened, cells or [], speed, stopping, telemetry, seed, as_json=as_json
            )
            after = progress_of(campaign.outline, opened)
        _tell_progress(after, as_json=as_json)
    raise typer.Exit(_exit_code(carrying, after))


def _carry_out(
    campaign: Campaign,
    store: Store,
    cells: Sequence[str],
    speed: Speed,
    stopping: Stopping,
    telemetry: Path | None,
    seed: int,
    *,
    as_json: bool,
) -> CarryingOut:
    from cellbench import clock
    from cellbench.campaign.conducting import CarryingOut, require_ready
    from cellbench.campaign.outline import keep
    from cellbench.campaign.planning import plan_campaign
    from cellbench.campaign.standing import progress_of

    progress = progress_of(campaign.outline, store)
    require_ready(progress)
    chosen = progress.of(_chosen(campaign, progress, cells))
    keep(store, campaign.outline)
    if not as_json and not chosen.is_over:
        typer.echo(plan_campaign(campaign, chosen).headline())
    tell = _nothing if as_json else _say
    factor = None if speed is Speed.MAX else float(speed)

    async def carried_out() -> CarryingOut:
        async with _whose_bench(campaign, store, stopping, telemetry, seed) as conducts:
            carrying = CarryingOut(campaign, chosen, conducts, tell)
            await carrying.to_the_end()
            return carrying

    try:
        return clock.run(carried_out(), **campaign.clock(factor))
    except asyncio.CancelledError as error:
        print_error("interrupted; the same command goes on with it")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


@asynccontextmanager
async def _whose_bench(
    campaign: Campaign, store: Store, stopping: Stopping, telemetry: Path | None, seed: int
) -> AsyncIterator[Conducts]:
    """Whoever conducts runs on the campaign's bench: its owner, where it has many places."""
    from cellbench.cli.one_by_one import OneByOne
    from cellbench.cli.telling import telling
    from cellbench.engine.owner import Owner

    @contextmanager
    def witness(conducting: Conducting, gate: Gate) -> Iterator[None]:
        with telling(telemetry, store, stopping) as told_of:
            if told_of is not None:
                told_of.follow(conducting, gate)
            yield

    if campaign.bench is None or not campaign.places:
        yield OneByOne(campaign, store, stopping, telemetry, seed)
        return
    async with Owner(campaign.bench, store, seed=seed, witness=witness) as owner:
        with stopping.cancels_this_task():
            yield owner


def _chosen(campaign: Campaign, progress: Progress, cells: Sequence[str]) -> set[str]:
    """The cells whose runs are wanted; on a real bench with one place a person puts each there.

    Raises:
        InputError: There is no such cell, or it is not said which one is on the bench.
    """
    from cellbench.errors import InputError

    known = dict.fromkeys(each.turn.specimen for each in progress.standings)
    for cell in cells:
        if cell not in known:
            raise InputError(f'the campaign has no cell "{cell}"; it has: {", ".join(known)}')
    if campaign.simulated or campaign.places or len(known) == 1 or len(cells) == 1:
        return set(cells or known)
    left = [each.turn.specimen for each in progress.standings if not each.is_over]
    following = f'; the next is --cell "{left[0]}"' if left else ""
    raise InputError(
        "the bench has one place: put one of the cells there, and say which with --cell" + following
    )


def _nothing(_turn: Turn, _text: str) -> None:
    """With --json the answer tells it all."""


def _say(turn: Turn, text: str) -> None:
    typer.echo(f"{turn.specimen}   {text}")


def _exit_code(carrying: CarryingOut, after: Progress) -> ExitCode:
    from cellbench.campaign.standing import State

    if carrying.trouble:
        return exit_code(carrying.trouble[0])
    done = after.of(carrying.specimens)
    completed = len(done.having(State.COMPLETED)) == len(done.standings)
    return ExitCode.FORESEEN_END if completed else ExitCode.STOPPED


@app.command()
def plan(
    file: File,
    bench: options.BenchPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Check a campaign, and print when each of its runs ends at the latest, and what it waits for.

    Nothing is energised. Every step is taken to last as long as it can.
    """
    with told(as_json=as_json):
        from cellbench.campaign.loading import load_campaign
        from cellbench.campaign.planning import plan_campaign
        from cellbench.campaign.standing import not_begun
        from cellbench.report.wording import clock

        campaign = load_campaign(file, bench)
        planned = plan_campaign(campaign, not_begun(campaign.outline))
        if as_json:
            print_json(planned.answer())
            return
        typer.echo(planned.headline())
        rows = [
            (each.cell, each.protocol, clock(each.begins_s), clock(each.ends_s), each.waits)
            for each in planned.turns
        ]
        print_table(("cell", "protocol", "begins", "ends by", "waits"), rows)


@app.command()
def status(
    campaign: Named, store: options.StorePath = None, as_json: options.AsJson = False
) -> None:
    """Show how far a campaign is: every run, what it does and what it waits for."""
    with told(as_json=as_json):
        from cellbench.campaign.loading import outline_of
        from cellbench.campaign.standing import looked_at, progress_of
        from cellbench.store import Store

        with Store(store, make=False) as opened:
            progress = progress_of(outline_of(campaign, opened), opened)
            _tell_progress(looked_at(progress, opened), as_json=as_json)


def _tell_progress(progress: Progress, *, as_json: bool) -> None:
    if as_json:
        print_json(progress.answer())
        return
    typer.echo(progress.headline())
    rows = [
        (each.turn.specimen, each.trial.protocol, each.state, each.run_id, each.told)
        for each in progress.standings
    ]
    print_table(("cell", "protocol", "state", "run", ""), rows)


@app.command()
def report(
    campaign: Named,
    page: Annotated[
        Path | None, typer.Option("--report", help="An HTML file to write it to.")
    ] = None,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Put a campaign's replicates together: mean, spread, failure rate of each protocol.

    Computed from the runs' own files. Runs that are still to come are named, not guessed.
    """
    with told(as_json=as_json):
        from cellbench.campaign.loading import outline_of
        from cellbench.campaign.record import campaign_record, groups_of, lines_of, render
        from cellbench.campaign.standing import progress_of
        from cellbench.store import Store

        if page is not None:
            writable_output(page, ".html")
        with Store(store, make=False) as opened:
            outline = outline_of(campaign, opened)
            progress = progress_of(outline, opened)
            groups = list(groups_of(outline, progress, opened))
        if page is not None:
            page.write_text(render(progress, groups), encoding="utf-8")
        if as_json:
            print_json(campaign_record(progress, groups))
            return
        for line in lines_of(progress, groups):
            typer.echo(line)
        if page is not None:
            typer.echo(page)


app.command()(reference)
