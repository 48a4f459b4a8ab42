"""The numbers behind the report's plots, as JSON for the page's script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cellbench.analysis.dataset import Dataset, Result, Series, StepData
from cellbench.report.record import Record
from cellbench.report.spectra import Drawn, plot_data
from cellbench.report.traces import Points, Trace, gaps_of, pauses_of, points, time_unit
from cellbench.report.wording import number

_MPA_PER_PA = 1e-6


def page_data(
    record: Record,
    dataset: Dataset,
    spectra: Sequence[Drawn],
    results: Mapping[str, Result],
    curves: Sequence[Sequence[dict[str, Any]]],
) -> Markup:
    """All plots as JSON that can stand inside a script element; curves by analysis, in order."""
    content = {
        "time": time_plot(record, dataset),
        "nyquist": [plot_data(drawn) for drawn in spectra],
        "levels": [plot for name in results for plot in _level_plots(name, results[name])],
        "curves": curves,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 ("<" is the only way out of a script)


def time_plot(record: Record, dataset: Dataset) -> dict[str, Any]:
    """Voltage, current, stack pressure and temperature against one time axis."""
    unit, unit_s = time_unit(record.duration_s)
    return {
        "unit": unit,
        "area_cm2": dataset.geometry.area_m2 * 1e4,
        "end": record.duration_s / unit_s,
        "panels": _panels(record, dataset, unit_s),
        "spans": [span for step in dataset.steps for span in _span(step, dataset, unit_s)],
    }


def _panels(record: Record, dataset: Dataset, unit_s: float) -> list[dict[str, Any]]:
    samples = dataset.samples
    channel = record.channel
    gaps = gaps_of(channel["time_s"], channel["step"], channel["flags"])
    traces = (
        ("voltage", "V", Trace.of(samples.time_s, samples.voltage_V, gaps)),
        ("current", "mA", Trace.of(samples.time_s, 1e3 * samples.current_A, gaps)),
        ("stack pressure", "MPa", _slow(samples.stack_pressure, _MPA_PER_PA, 0.0)),
        ("temperature", "°C", _slow(samples.temperature, 1.0, -273.15)),
    )
    return [
        _panel(name, unit, points(trace, unit_s))
        for name, unit, trace in traces
        if len(trace.value)
    ]


def _slow(series: Series, scale: float, offset: float) -> Trace:
    return Trace.of(series.time_s, series.value * scale + offset, pauses_of(series.time_s))


def _panel(name: str, unit: str, drawn: Points) -> dict[str, Any]:
    return {"name": name, "unit": unit, "x": drawn[0], "y": drawn[1]}


def _span(step: StepData, dataset: Dataset, unit_s: float) -> list[dict[str, Any]]:
    """Half-cycles and spectra shade the time axis; half-cycles name their current density."""
    current_A = step.number("current_A")
    if step.kind == "eis":
        kind, label = "eis", ""
    elif step.kind in {"current", "charge", "discharge"} and current_A:
        kind = "plus" if current_A > 0 else "minus"
        label = number(abs(current_A) / dataset.geometry.area_m2 / 10, 3)
    else:
        return []
    start, end = (round(moment / unit_s, 6) for moment in (step.start_s, step.end_s))
    return [{"from": start, "to": end, "kind": kind, "label": label}]


# --- Against current density or pressure --------------------------------------------------------


def _level_plots(name: str, result: Result) -> list[dict[str, Any]]:
    match name.strip().replace(" ", "_"):
        case "ccd":
            return _ccd_plots(result)
        case "interface_resistance":
            return _pressure_plots(result)
        case _:
            return []


def _ccd_plots(result: Result) -> list[dict[str, Any]]:
    rows = [row for row in result.get("steps", []) if row["current_density_mA_cm2"]]
    rows.sort(key=lambda row: float(row["current_density_mA_cm2"]))
    common = {
        "along": "current density",
        "along_unit": "mA/cm²",
        "log": True,
        "x": [row["current_density_mA_cm2"] for row in rows],
        "verdicts": [row["verdict"] for row in rows],
    }
    return [
        common | {"name": "|V|", "unit": "V", "y": [_magnitude(row) for row in rows]},
        common | _column("apparent ASR", "Ω cm²", rows, "ASR_apparent_ohm_cm2"),
    ]


def _column(name: str, unit: str, rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    return {"name": name, "unit": unit, "y": [row[key] for row in rows]}


def _magnitude(row: Mapping[str, Any]) -> float | None:
    known = [row[f"voltage_{sign}_V"] for sign in ("positive", "negative")]
    values = [abs(value) for value in known if value is not None]
    return sum(values) / len(values) if values else None


def _pressure_plots(result: Result) -> list[dict[str, Any]]:
    rows = [row for row in result.get("spectra", []) if row["stack_pressure_MPa"] is not None]
    rows.sort(key=lambda row: float(row["stack_pressure_MPa"]))
    common = {
        "along": "stack pressure",
        "along_unit": "MPa",
        "log": False,
        "x": [row["stack_pressure_MPa"] for row in rows],
        "verdicts": [],
    }
    return [
        common | _column("R electrolyte", "Ω", rows, "R_electrolyte_ohm"),
        common | _column("R interface", "Ω", rows, "R_interface_ohm"),
    ]
