"""``cellbench runs``, ``show``, ``report``, ``analyze``: what was kept, afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import print_json, told, writable_output

if TYPE_CHECKING:
    from cellbench.engine.evaluation import Evaluation


def _evaluated(
    run_id: str,
    store: Path | None,
    cell: str | None = None,
    names: list[str] | None = None,
    *,
    all_benches: bool = False,
) -> Evaluation:
    from cellbench.cli.database import opened_store
    from cellbench.engine.evaluation import evaluate, evaluate_as_kept
    from cellbench.protocol import load_card

    with opened_store(store, all_benches=all_benches) as opened:
        run = opened.find(run_id)
        if cell is None:
            return evaluate_as_kept(opened, run, names)
        card, _ = load_card(None, cell)
        return evaluate(opened, run, card, names)


def runs(
    store: options.StorePath = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    all_benches: options.AllBenches = False,
    as_json: options.AsJson = False,
) -> None:
    """List the runs that are kept."""
    with told(as_json=as_json):
        from rich.console import Console
        from rich.table import Table

        from cellbench.cli.database import opened_store

        with opened_store(store, all_benches=all_benches) as opened:
            found = opened.runs(limit)
        if as_json:
            print_json({"runs": [run.model_dump(mode="json") for run in found]})
            return
        width = None if sys.stdout.isatty() else 200  # a pipe does not wrap lines
        table = Table("run", "protocol", "cell", "state", "started (UTC)", box=None)
        for run in found:
            started = f"{run.started:%Y-%m-%d %H:%M}"
            table.add_row(run.id, run.protocol, run.cell_at, run.state, started)
        Console(width=width).print(table if found else "No run is kept yet.")


def show(
    run_id: options.RunId = "last",
    store: options.StorePath = None,
    all_benches: options.AllBenches = False,
    as_json: options.AsJson = False,
) -> None:
    """Show how a run went: its events, its results, what was not as planned."""
    with told(as_json=as_json):
        evaluation = _evaluated(run_id, store, all_benches=all_benches)
        if as_json:
            entries = [entry.model_dump(mode="json") for entry in evaluation.reader.journal]
            print_json(evaluation.answer() | {"journal": entries})
            return
        from cellbench.cli.words import clock_text, printable

        for entry in evaluation.reader.journal:
            text = entry.text
            if entry.kind == "step started":
                text = f"{entry.step}: {entry.data['what']}"
            if text:
                typer.echo(f"{clock_text(entry.time_s):>12}  {printable(text)}")
        typer.echo("")
        beside = evaluation.reader.path.with_suffix(".html")
        for line in evaluation.lines(beside if beside.is_file() else None):
            typer.echo(line)


def report(
    run_id: options.RunId = "last",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The HTML file to write.")
    ] = None,
    store: options.StorePath = None,
    cell: options.Cell = None,
    all_benches: options.AllBenches = False,
) -> None:
    """Write a run's report: one HTML file that opens from disk, offline."""
    with told():
        from cellbench.engine.evaluation import write_report

        if output is not None:
            writable_output(output, ".html")
        typer.echo(write_report(_evaluated(run_id, store, cell, all_benches=all_benches), output))


def analyze(
    run_id: options.RunId,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ANALYSIS]...", help="By default the run's own.")
    ] = None,
    cell: options.Cell = None,
    store: options.StorePath = None,
    all_benches: options.AllBenches = False,
    as_json: options.AsJson = False,
) -> None:
    """Analyse a run again: with other analyses, or with a corrected cell card (--cell)."""
    with told(as_json=as_json):
        evaluation = _evaluated(run_id, store, cell, names or None, all_benches=all_benches)
        if as_json:
            print_json(evaluation.answer())
            return
        for line in evaluation.lines():
            typer.echo(line)
