"""Several cells under one protocol: the benchmark record, as JSON values and as a page.

A record that others can compare with names its conditions, has three cells or more, shows every one
of them, and tells how many failed: a mean of the survivors alone flatters a material. A cell failed
if its run did not come to an end that the protocol foresees (a screening that refused it included),
or if an analysis could not be done on it. Means are those of the cells that did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from markupsafe import Markup

from cellbench import __version__
from cellbench.analysis import reported
from cellbench.analysis.dataset import Dataset, Result
from cellbench.analysis.replicates import statistics
from cellbench.errors import InputError
from cellbench.report.html import environment
from cellbench.report.numbers import quantity
from cellbench.report.overlays import overlays
from cellbench.report.plots import as_script
from cellbench.report.record import Record
from cellbench.report.tables import Table
from cellbench.report.wording import DASH, count, number, title_of
from cellbench.store import IMPORTED, Run, RunReader

LEAST = 3
#: Quantities in these units are told in any case, others where they differ between the cells.
_TOLD = frozenset({"mAh/g", "%", "Ω cm²", "mS/cm", "mA/cm²", "cm²/s"})


class Evaluated(Protocol):
    """A run with its data and what its analyses found, or why they found nothing."""

    @property
    def run(self) -> Run: ...  # noqa: D102
    @property
    def reader(self) -> RunReader: ...  # noqa: D102
    @property
    def dataset(self) -> Dataset: ...  # noqa: D102
    @property
    def results(self) -> Mapping[str, Result]: ...  # noqa: D102
    @property
    def failures(self) -> Mapping[str, str]: ...  # noqa: D102


def why_failed(one: Evaluated) -> str:
    """Why a cell counts as failed; empty if it does not."""
    if one.run.state not in {"completed", IMPORTED}:
        return one.run.reason or one.run.state
    return "; ".join(f"{title_of(name)}: {why}" for name, why in one.failures.items())


def benchmark_record(cells: Sequence[Evaluated], at_least: int = 2) -> Result:
    """The record of several cells as JSON values.

    Raises:
        InputError: They are fewer than that, or not of one protocol with one set of parameters.
    """
    _one_test(cells, at_least)
    lost = [why_failed(one) for one in cells]
    names = dict.fromkeys(name for one in cells for name in (*one.results, *one.failures))
    sound = [one for one, why in zip(cells, lost, strict=True) if not why]
    return {
        "protocol": cells[0].run.protocol,
        "cellbench": __version__,
        "simulated": any(one.run.simulated for one in cells),
        "spread_is_of": _spread_is_of(sound),
        "parameters": _parameters(cells[0]),
        **_failure_rate(lost),
        "cells": [_cell(one, why) for one, why in zip(cells, lost, strict=True)],
        "analyses": {
            name: statistics([one.results[name] for one in sound])["quantities"] if sound else []
            for name in names
        },
    }


def describe(record: Mapping[str, Any]) -> list[str]:
    """The record in lines for people."""
    low, high = record["failure_rate_low_percent"], record["failure_rate_high_percent"]
    lines = [
        f"{record['protocol']}: {count(record['replicates'], 'cell')}, {record['failed']} failed "
        f"({record['failure_rate_percent']:.3g} %, 95 %: {low:.2g} to {high:.2g} %)"
    ]
    lines += [
        "   ".join(["", *_who(cell), cell["failed"] or "sound"])[1:] for cell in record["cells"]
    ]
    if record["replicates"] < LEAST:
        lines.append(f"  fewer than {LEAST} cells: no benchmark")
    if record["spread_is_of"]:
        lines.append(f"  spread is {record['spread_is_of']}")
    for name, rows in record["analyses"].items():
        lines += [title_of(name), *(f"  {_line(row)}" for row in rows if _is_told(row))]
    return lines


def _who(cell: Mapping[str, Any]) -> list[str]:
    return [cell[key] for key in ("run", "place", "cell") if cell[key]]


def render(cells: Sequence[Evaluated], record: Mapping[str, Any]) -> str:
    """The record as the text of one HTML file; it asks nothing of any network."""
    shown = shown_record(cells, record)
    template = environment().get_template("benchmark.html.j2")
    return template.render(record=record, shown=shown, data=plots([shown]))


@dataclass(frozen=True)
class ShownRecord:
    """A record as a page shows it.

    Attributes:
        failed: How many failed, as labels and texts.
        cells: A table with a row for each.
        analyses: Title, table of what differs between the cells, line of what does not.
        curves: Of each analysis, drawn over each other.
    """

    record: Mapping[str, Any]
    failed: Sequence[tuple[str, str]]
    cells: Table
    analyses: Sequence[tuple[str, Table | None, str]]
    curves: Sequence[Any]


def shown_record(cells: Sequence[Evaluated], record: Mapping[str, Any]) -> ShownRecord:
    """Prepare a record, and the cells that it is of, for a page."""
    names = list(record["analyses"])
    failed = [bool(cell["failed"]) for cell in record["cells"]]
    return ShownRecord(
        record,
        list(_failed(record)),
        _cells_table(record),
        [(title_of(name), *_quantities(record["analyses"][name])) for name in names],
        [overlays(name, [one.results.get(name) for one in cells], failed) for name in names],
    )


def plots(shown: Sequence[ShownRecord]) -> Markup:
    """The curves of a page's records, for its script."""
    curves = [each for record in shown for each in record.curves]
    nothing: dict[str, Any] = {"time": {"panels": []}, "nyquist": {"spectra": [], "scale": []}}
    return as_script(nothing | {"curves": curves})


def _one_test(cells: Sequence[Evaluated], at_least: int) -> None:
    if len({one.run.id for one in cells}) < max(at_least, len(cells)):
        raise InputError("replicates are two different runs or more")
    first, *others = cells
    for other in others:
        if other.run.protocol != first.run.protocol:
            raise InputError(
                f"no replicates: {first.run.id} is of {first.run.protocol!r}, "
                f"{other.run.id} of {other.run.protocol!r}"
            )
        one, two = _parameters(first), _parameters(other)
        for name in (*one, *two):
            if one.get(name) != two.get(name):
                raise InputError(
                    f"no replicates: {name} was {one.get(name)} in {first.run.id}, "
                    f"{two.get(name)} in {other.run.id}"
                )


def _parameters(one: Evaluated) -> dict[str, str]:
    found: dict[str, str] = _environment(one)["parameters"]
    return found


def _environment(one: Evaluated) -> Mapping[str, Any]:
    return Record(one.reader, one.run).environment


def _spread_is_of(cells: Sequence[Evaluated]) -> str | None:
    """One simulated cell under several seeds has no scatter of its own: nobody may take it so."""
    alike = {(one.run.bench, _environment(one).get("simulated_cell")) for one in cells}
    if len(alike) != 1 or not all(one.run.simulated for one in cells):
        return None
    return "that of the instruments: the simulated cell is the same in all runs"


def _failure_rate(lost: Sequence[str]) -> Result:
    found = statistics([None if why else {} for why in lost], failed=lambda _: False)
    return {key: value for key, value in found.items() if key != "quantities"}


def _cell(one: Evaluated, why: str) -> Result:
    record, samples = Record(one.reader, one.run), one.dataset.samples
    seen: dict[str, Any] = {}
    for entry in record.entries("screening"):
        seen |= entry.data
    loading = None if record.card is None else record.card.working.loading_kg_per_m2
    span = (0.0, record.duration_s)
    return {
        "run": one.run.id,
        "place": one.run.place or None,
        "cell": one.run.cell,
        "seed": one.run.seed,
        "state": one.run.state,
        "failed": why or None,
        "open_circuit_V": reported.number(one.dataset.geometry.potential_V(seen.get("voltage_V"))),
        "contact_ohm": reported.number(seen.get("contact_ohm")),
        "loading_mg_cm2": reported.scaled(loading, 100.0),
        "stack_pressure_MPa": reported.megapascal(samples.stack_pressure.typical(*span)),
        "temperature_degC": reported.degree_celsius(samples.temperature.typical(*span)),
        "deviations": len(record.deviations),
    }


def _is_told(row: Mapping[str, Any]) -> bool:
    differs = number(row["lowest"], 5) != number(row["highest"], 5)
    return differs or quantity(row["quantity"])[1] in _TOLD


def _line(row: Mapping[str, Any]) -> str:
    name, unit = quantity(row["quantity"])
    spread = f"{number(row['mean'])} ± {number(row['standard_deviation'], 2)} {unit}".rstrip()
    return f"{name:<34} {spread} (n = {row['n']})"


# --- The page's tables --------------------------------------------------------------------------

_CELLS = (
    ("run", "run"),
    ("place", "place"),
    ("cell", "cell"),
    ("seed", "seed"),
    ("failed", "result"),
    ("open_circuit_V", "open circuit / V"),
    ("contact_ohm", "contact / Ω"),
    ("loading_mg_cm2", "loading / mg/cm²"),
    ("stack_pressure_MPa", "MPa"),
    ("temperature_degC", "°C"),
    ("deviations", "deviations"),
)


def _failed(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    low, high = record["failure_rate_low_percent"], record["failure_rate_high_percent"]
    rate = f"{record['failure_rate_percent']:.3g} %"
    yield "failed", f"{record['failed']} of {record['replicates']} ({rate})"
    yield "95 % interval", f"{low:.2g} to {high:.2g} %"
    if record["replicates"] < LEAST:
        yield "warning", f"fewer than {LEAST} cells are no benchmark"
    if record["spread_is_of"]:
        yield "spread", record["spread_is_of"]


def _cells_table(record: Mapping[str, Any]) -> Table:
    places = any(cell["place"] for cell in record["cells"])
    columns = [column for column in _CELLS if places or column[0] != "place"]
    rows = [[_text(cell, key) for key, _ in columns] for cell in record["cells"]]
    classes = ["short" if cell["failed"] else "" for cell in record["cells"]]
    return Table("Cells", [heading for _, heading in columns], rows, classes)


def _text(cell: Mapping[str, Any], key: str) -> str:
    value = cell[key]
    if key == "failed":
        return f"failed: {value}" if value else "sound"
    return str(value) if isinstance(value, str | int) else number(value)


def _quantities(rows: Sequence[Mapping[str, Any]]) -> tuple[Table | None, str]:
    """A table of what differs between the cells, and a line of what does not."""
    told = [row for row in rows if _is_told(row)]
    alike = [row for row in rows if not _is_told(row)]
    headings = ("quantity", "unit", "n", "mean", "standard deviation", "± (95 %)", "relative / %",
                "lowest", "highest")  # fmt: skip
    table = Table("Over the cells that did not fail", headings, [_row(row) for row in told])
    texts = (f"{name} {number(row['mean'])} {unit}".strip()
             for row in alike for name, unit in [quantity(row["quantity"])])  # fmt: skip
    return (table if told else None), ", ".join(texts)


def _row(row: Mapping[str, Any]) -> list[str]:
    name, unit = quantity(row["quantity"])
    return [
        name, unit or DASH, str(row["n"]), number(row["mean"], 5),
        number(row["standard_deviation"], 2), number(row["interval"], 2),
        number(row["relative_percent"], 2), number(row["lowest"], 5), number(row["highest"], 5),
    ]  # fmt: skip
