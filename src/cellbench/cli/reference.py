"""``cellbench campaign reference``: published studies and the simulated bench side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import (
    ExitCode,
    print_error,
    print_json,
    print_table,
    told,
    writable_output,
)

if TYPE_CHECKING:
    from cellbench.campaign.reference.judging import Judged
    from cellbench.campaign.reference.run import Job


def reference(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="A row; repeatable.")
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="Also the rows of several hundred cycles.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="An HTML file to write the table to.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="Keep the runs under this directory.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Run the published campaigns on the simulated bench and compare.

    Exit codes: 0 every row agrees with its study, 1 at least one does not, 2 wrong input,
    130 interrupted.
    """
    with told(as_json=as_json):
        from cellbench.campaign.reference.judging import judge
        from cellbench.campaign.reference.run import outcome_of, outcomes
        from cellbench.campaign.reference.table import chosen

        if report is not None:
            writable_output(report, ".html")
        rows = chosen(only or [], with_long=long)
        try:
            found = outcomes(rows, store, _progress)
        except KeyboardInterrupt as interrupt:
            print_error("interrupted: the runs under way are dropped")
            raise typer.Exit(ExitCode.INTERRUPTED) from interrupt
        judged = [judge(row, outcome_of(row, found)) for row in rows]
        if report is not None:
            from cellbench.campaign.reference.page import render

            report.write_text(render(judged), encoding="utf-8")
        _tell(judged, as_json=as_json)
    passed = all(each.passed for each in judged)
    raise typer.Exit(ExitCode.FORESEEN_END if passed else ExitCode.STOPPED)


def _progress(job: Job) -> None:
    if sys.stderr.isatty():
        print_error(f"{job.protocol} on {job.cell} has ended")


def _tell(judged: list[Judged], *, as_json: bool) -> None:
    if as_json:
        print_json({"rows": [each.answer() for each in judged]})
        for each in judged:
            if each.reason:
                print_error(f"{each.row.name}: {each.reason}")
        return
    headings = ("row", "study", "published", "obtained", "tolerance", "agrees", "kind")
    print_table(headings, [_cells(each) for each in judged])
    typer.echo(f"{sum(each.passed for each in judged)} of {len(judged)} rows agree.")


def _cells(each: Judged) -> Sequence[str]:
    return (
        each.row.name,
        each.row.study,
        each.published_text(),
        each.obtained_text(),
        each.tolerance_text(),
        "yes" if each.passed else "no",
        each.row.kind,
    )
