"""``cellbench replicates``: several cells under one protocol as one benchmark record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import print_json, told, writable_output


def replicates(
    run_ids: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids of runs, or the ends of them.")
    ],
    analysis: Annotated[
        list[str] | None,
        typer.Option("--analysis", metavar="NAME", help="Repeatable; by default the runs' own."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="An HTML file to write the record to.")
    ] = None,
    store: options.StorePath = None,
    all_benches: options.AllBenches = False,
    as_json: options.AsJson = False,
) -> None:
    """Put several runs of one protocol together: mean, spread, failure rate.

    Cells that failed (stopped, refused at screening, or without a result) are counted and shown,
    but are not in the means. Three cells or more make a benchmark.
    """
    with told(as_json=as_json):
        from cellbench.cli.database import opened_store
        from cellbench.engine.evaluation import evaluate_as_kept
        from cellbench.report.benchmark import benchmark_record, describe, render

        if report is not None:
            writable_output(report, ".html")
        with opened_store(store, all_benches=all_benches) as opened:
            cells = [evaluate_as_kept(opened, opened.find(each), analysis) for each in run_ids]
        record = benchmark_record(cells)
        if report is not None:
            report.write_text(render(cells, record), encoding="utf-8")
        if as_json:
            print_json(record)
            return
        for line in describe(record):
            typer.echo(line)
        if report is not None:
            typer.echo(report)
