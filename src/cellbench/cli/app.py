"""The commands, and where each is found."""

from __future__ import annotations

from typing import Annotated

import typer

from cellbench import __version__
from cellbench.cli import (
    bench,
    campaign,
    database,
    look,
    prepare,
    protocol,
    sim,
    steer,
    store,
    submit,
    telemetry,
)
from cellbench.cli.export import export
from cellbench.cli.import_ import import_
from cellbench.cli.quiet import quiet, release
from cellbench.cli.replay import replay
from cellbench.cli.replicates import replicates
from cellbench.cli.resume import resume
from cellbench.cli.run import run
from cellbench.cli.serve import serve
from cellbench.cli.service import service
from cellbench.cli.top import top

app = typer.Typer(
    name="cellbench",
    help="Run battery cell tests unattended, on real instruments or on a simulated bench.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cellbench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command()(run)
app.command()(submit.submit)
app.command()(resume)
app.command()(quiet)
app.command()(release)
app.command()(service)
app.command()(serve)
app.command()(database.follow)
app.command()(steer.status)
app.command()(top)
app.command()(steer.pause)
app.command("continue")(steer.go_on)
app.command()(steer.skip)
app.command()(steer.stop)
app.command()(steer.abort)
app.command()(steer.answer)
app.command()(steer.note)
app.command()(prepare.check)
app.command()(prepare.plan)
app.command()(prepare.schema)
app.command()(prepare.protocols)
app.command()(prepare.cells)
app.command()(prepare.analyses)
app.command()(prepare.drivers)
app.command()(look.runs)
app.command()(look.show)
app.command()(look.report)
app.command()(export)
app.command("import")(import_)
app.command()(look.analyze)
app.command()(replay)
app.command()(replicates)
app.add_typer(bench.app, name="bench")
app.add_typer(submit.app, name="jobs")
app.add_typer(sim.app, name="sim")
app.add_typer(protocol.app, name="protocol")
app.add_typer(campaign.app, name="campaign")
app.add_typer(store.app, name="store")
app.add_typer(telemetry.app, name="telemetry")
app.add_typer(database.app, name="database")
