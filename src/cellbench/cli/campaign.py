"""``cellbench campaign``: many cells through many protocols, one's own and published ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import ExitCode, exit_code, print_error, print_json, told, writable_output
from cellbench.cli.reference import reference
from cellbench.cli.run import Speed
from cellbench.cli.stopping import Stopping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellbench.campaign.conducting import CarryingOut
    from cellbench.campaign.loading import Campaign
    from cellbench.campaign.outline import Outline, Turn
    from cellbench.campaign.standing import Progress
    from cellbench.store import Store
    from cellbench.telemetry import Beside

app = typer.Typer(help="Many cells through many protocols.", no_args_is_help=True)
app.command()(reference)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A campaign file.")]
Named = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="A campaign file, or the name of one begun.")
]


@app.command()
def run(
    file: File,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="CELL", help="Only this cell's turns; repeatable."),
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
    completed, 1 a cell ended early, 2 wrong input, 3 an instrument kept a run from being begun,
    130 interrupted.
    """
    with told(as_json=as_json):
        from cellbench import clock
        from cellbench.campaign.conducting import CarryingOut, alone_with, require_ready
        from cellbench.campaign.loading import load_campaign
        from cellbench.campaign.outline import keep
        from cellbench.campaign.standing import progress_of
        from cellbench.cli.one_by_one import OneByOne
        from cellbench.cli.telling import telling
        from cellbench.store import Store

        campaign = load_campaign(file, bench)
        stopping = Stopping()
        factor = None if speed is Speed.MAX else float(speed)
        with (
            Store(store) as opened,
            alone_with(campaign.outline.name, opened.directory),
            telling(telemetry, opened, stopping) as told_of,
        ):
            progress = progress_of(campaign.outline, opened)
            require_ready(progress)
            chosen = progress.of(_chosen(campaign, progress, cells))
            keep(opened, campaign.outline)
            one_by_one = OneByOne(campaign, opened, stopping, told_of, seed)
            carrying = CarryingOut(campaign, chosen, one_by_one, _silent if as_json else _said)
            try:
                clock.run(carrying.to_the_end(), **campaign.clock(factor))
            except asyncio.CancelledError as error:
                print_error("interrupted: the same command goes on with it")
                raise typer.Exit(ExitCode.INTERRUPTED) from error
            after = progress_of(campaign.outline, opened)
        _tell_progress(after, as_json=as_json)
    raise typer.Exit(_exit_code(carrying, after))
