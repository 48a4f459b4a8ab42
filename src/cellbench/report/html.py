"""The report of a run: one HTML file that opens from disk and asks nothing of any network.

The page is a Jinja2 template with automatic escaping; styles, plotting library and data are put
into it, so that the file can be mailed, archived and printed on its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cellbench.analysis.dataset import Dataset, Result
from cellbench.report.conditions import condition_rows, instrument_table, step_rows
from cellbench.report.drawers import plots_of
from cellbench.report.numbers import numbers_table
from cellbench.report.plots import page_data
from cellbench.report.record import PROTOCOL, Record
from cellbench.report.spectra import drawn_spectra, spectra_table
from cellbench.report.tables import Table, result_tables
from cellbench.report.wording import (
    banner,
    clock,
    count,
    described,
    duration,
    powers,
    title_of,
    utc,
)
from cellbench.store import Run, RunReader

if TYPE_CHECKING:
    from jinja2 import Environment

_MODULE_ONLY = re.compile(r"^import .*\n|^export ", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One analysis's answer: name, verdict, lines as label and text, tables, and curves."""

    name: str
    verdict: str
    lines: list[tuple[str, str]]
    tables: list[Table]
    curves: list[dict[str, Any]]


def render(reader: RunReader, run: Run, dataset: Dataset, results: Mapping[str, Result]) -> str:
    """The report as the text of one HTML file.

    Args:
        reader: The run's file; its documents "protocol" and "cell card" are shown.
        run: Its entry in the catalogue.
        dataset: Its data, as `cellbench.analysis.stored.stored_dataset` gives them.
        results: What the analyses returned, by name.
    """
    record = Record(reader, run)
    spectra = drawn_spectra(dataset)
    findings = [_finding(name, dataset, result) for name, result in results.items()]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            run=run,
            record=record,
            banner=banner(run),
            findings=findings,
            without_result=[
                title_of(name)
                for name in record.environment.get("analyses", ())
                if name not in results
            ],
            conditions=condition_rows(record, dataset),
            instruments=instrument_table(record),
            steps=step_rows(record, dataset),
            spectra=spectra_table(spectra) if spectra else None,
            protocol=reader.documents.get(PROTOCOL, ""),
            data=page_data(record, dataset, spectra, [one.curves for one in findings]),
        )
    )


def _finding(name: str, dataset: Dataset, result: Result) -> Finding:
    lines = [powers(line).strip() for line in described(name, result)]
    plain = numbers_table(result)
    return Finding(
        name=title_of(name),
        verdict=str(result.get("verdict") or "").replace("_", " "),
        lines=[_label_and_text(line) for line in lines],
        tables=[*result_tables(name, result), *([plain] if plain else [])],
        curves=plots_of(name, dataset, result),
    )


def _label_and_text(line: str) -> tuple[str, str]:
    """A line in two: analyses align their texts with spaces after a label, or list conditions."""
    parts = [part.strip() for part in line.split("  ") if part.strip()]
    if len(parts) < 2 or parts[0][0].isdigit():
        return "", " · ".join(parts)
    return parts[0], " · ".join(parts[1:])


@lru_cache(maxsize=1)
def environment() -> Environment:
    """What templates are rendered with: filters, our own files, escaping of all else."""
    from jinja2 import Environment, PackageLoader  # noqa: PLC0415 (only for who makes a report)

    made = Environment(
        loader=PackageLoader("cellbench.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"clock": clock, "powers": powers, "utc": utc, "duration": duration}
    made.globals |= {"count": count, "asset": asset, "script": _script}
    return made


def asset(name: str) -> Markup:
    """One of our own static files, to stand in the page as it is."""
    text = files("cellbench.report").joinpath("static", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (files of this package)


def _script(name: str) -> Markup:
    """A module without its imports and exports: in a report all of them are one function."""
    return Markup(_MODULE_ONLY.sub("", asset(name)))  # noqa: S704 (files of this package)
