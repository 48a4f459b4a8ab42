"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Protocol = Annotated[
    str, typer.Argument(help="A protocol file, or the name of a shipped one such as ccd.")
]
Cell = Annotated[
    str | None,
    typer.Option(
        "--cell",
        help="A cell card's file, or the name of a shipped card. On a bench with many cells a "
        "place (A1, or A1=CARD); run takes several: A1,A2,A3.",
    ),
]
SimCell = Annotated[
    str | None,
    typer.Option("--sim-cell", help="Cell on the simulated bench (else: the one the card names)."),
]
Fixture = Annotated[
    str | None,
    typer.Option(
        "--fixture",
        help="What holds the stack on the simulated bench: servo (to 5 kN), screw (constant gap, "
        "to 25 kN), spring (to 5 kN), laboratory press (2 to 147 kN). Else what the protocol says, "
        "or servo.",
    ),
]
BenchPath = Annotated[
    Path | None,
    typer.Option(
        "--bench",
        help="A bench file, or the name of a simulated bench (cellbench sim benches). Without one "
        "the usual simulated bench is used.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the protocol; repeatable."),
]
Seed = Annotated[
    int, typer.Option("--seed", help="Seed of the simulated bench.", min=0, max=2**31 - 1)
]
StorePath = Annotated[
    Path | None,
    typer.Option("--store", help="Where runs are kept (or CELLBENCH_STORE)."),
]
TelemetryPath = Annotated[
    Path | None,
    typer.Option(
        "--telemetry",
        help="Who is told of a run, and how (else: telemetry.yaml in the store, if there is one).",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="The laboratory's database, postgresql://user@host/name (or CELLBENCH_DATABASE).",
        show_default=False,
    ),
]
AllBenches = Annotated[
    bool,
    typer.Option(
        "--all-benches", help="The runs of all benches, from the database in CELLBENCH_DATABASE."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Answer with one JSON object on standard output.")
]
ShownName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="One of them, to be shown whole.")
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the end of one, or last.")]
