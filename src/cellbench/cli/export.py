"""``cellbench export``: a run's data as files that other programs read."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellbench.cli import options
from cellbench.cli.output import print_json, told

if TYPE_CHECKING:
    from cellbench.engine.evaluation import Evaluation
    from cellbench.store import Store


class ExportFormat(StrEnum):
    """File formats that data leave in."""

    BDF = "bdf"
    PARQUET = "parquet"
    MPT = "mpt"
    CSV = "csv"
    SPECTRA = "spectra"
    CRATE = "crate"
    RECORDING = "recording"


def export(
    run_id: options.RunId,
    to: Annotated[ExportFormat, typer.Option("--to", help="What is written, and how.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.")
    ] = Path(),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same names.")
    ] = False,
    license_id: Annotated[
        str | None,
        typer.Option("--license", metavar="SPDX", help="Of a crate: CC-BY-4.0, CC0-1.0, ..."),
    ] = None,
    store: options.StorePath = None,
    all_benches: options.AllBenches = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a run's data in a format that other programs read; files are named by the run.

    bdf, parquet: the channel in the Battery Data Format, with its metadata. mpt: the channel and
    each spectrum as EC-Lab writes them. csv: every sample of every instrument. spectra: a table of
    all, and each as fitting programs read it. crate: all of it, to deposit with a paper.
    recording: the wire log with all that its replay needs, for `cellbench replay FILE`.
    """
    with told(as_json=as_json):
        from cellbench.cli.database import opened_store

        with opened_store(store, all_benches=all_benches) as opened:
            written = _written(opened, run_id, to, output, overwrite, license_id)
        if as_json:
            print_json({"written": [str(path) for path in written]})
            return
        for path in written:
            typer.echo(path)


def _written(
    store: Store,
    run_id: str,
    to: ExportFormat,
    output: Path,
    overwrite: bool,
    license_id: str | None,
) -> tuple[Path, ...]:
    from cellbench.engine.evaluation import evaluate_as_kept
    from cellbench.errors import InputError
    from cellbench.exchange.export import export as write
    from cellbench.store import RunReader

    run = store.find(run_id)
    if to is ExportFormat.RECORDING and store.elsewhere(run.id) is not None:
        raise InputError("a run's wire log stays with its bench: export the recording there")
    if to in {ExportFormat.CRATE, ExportFormat.RECORDING}:
        evaluation = evaluate_as_kept(store, run)
        if to is ExportFormat.RECORDING:
            return _recording(evaluation, output, overwrite)
        reader, extra = evaluation.reader, _results(evaluation)
    else:
        reader, extra = RunReader(store.run_path(run.id)), {}
    return write(
        reader, run, str(to), output, overwrite=overwrite, license_id=license_id, extra=extra
    )


def _results(evaluation: Evaluation) -> dict[str, str]:
    from cellbench.report import render

    answer = json.dumps(evaluation.answer(), ensure_ascii=False, indent=2)
    page = render(evaluation.reader, evaluation.run, evaluation.dataset, evaluation.results)
    return {"results.json": answer + "\n", "report.html": page}


def _recording(evaluation: Evaluation, output: Path, overwrite: bool) -> tuple[Path, ...]:
    from cellbench.engine.recorded import recording_of, write_recording
    from cellbench.exchange.staging import Staging

    recording = recording_of(evaluation.run, evaluation.reader, evaluation.results)
    with Staging(output, overwrite=overwrite) as staging:
        write_recording(recording, staging.path(f"{evaluation.run.id}.recording"))
    return staging.written
