"""``cellbench import``: a file of another program as a run in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import print_json, told


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Battery Data Format (.bdf, .csv, .parquet), Neware (.nda, .ndax), EC-Lab "
            "(.mpr, .mpt).",
        ),
    ],
    cell: options.Cell = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="What to call the test (else: as the file).")
    ] = None,
    analysis: Annotated[
        list[str] | None,
        typer.Option("--analysis", metavar="NAME", help="Its analyses; repeatable."),
    ] = None,
    store: options.StorePath = None,
    as_json: options.AsJson = False,
) -> None:
    """Bring in a cell's data that another program recorded, to analyse and compare them here.

    They become a run in the state "imported"; the file's checksum and the reader are kept with it.
    The cell card says what analyses need: areas, masses, which sign charges the cell.
    """
    with told(as_json=as_json):
        from cellbench.exchange.importing import import_file
        from cellbench.store import Store

        with Store(store) as opened:
            run = import_file(opened, file, cell, protocol, analysis)
        if as_json:
            print_json({"run": run.id, "state": run.state, "started": f"{run.started:%FT%TZ}"})
            return
        typer.echo(f"run {run.id}: {run.protocol}, cell {run.cell}   cellbench show {run.id}")
