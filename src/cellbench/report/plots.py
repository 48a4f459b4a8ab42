"""The numbers behind the report's plots, as JSON for the page's script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cellbench.analysis.dataset import Dataset, Series, StepData
from cellbench.report.record import Record
from cellbench.report.spectra import Drawn, colours, plot_data
from cellbench.report.traces import Points, Trace, gaps_of, pauses_of, points, time_unit
from cellbench.report.wording import number

_MPA_PER_PA = 1e-6


def page_data(
    record: Record,
    dataset: Dataset,
    spectra: Sequence[Drawn],
    curves: Sequence[Sequence[dict[str, Any]]],
) -> Markup:
    """All plots as JSON that can stand inside a script element; curves by analysis, in order."""
    return as_script({
        "time": time_plot(record, dataset),
        "nyquist": nyquist_plot(dataset, spectra),
        "curves": curves,
    })  # fmt: skip


def as_script(content: Mapping[str, Any]) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 ("<" is the only way out of a script)


def nyquist_plot(dataset: Dataset, spectra: Sequence[Drawn]) -> dict[str, Any]:
    """The spectra with their places on one scale of colours."""
    found = colours(dataset, [drawn.spectrum for drawn in spectra])
    drawn = [plot_data(one, along) for one, along in zip(spectra, found.along, strict=True)]
    return {"spectra": drawn, "scale": list(found.scale)}


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
