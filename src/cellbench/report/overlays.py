"""Series of several cells in one plot, each cell its own colour, with mean and spread over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellbench.analysis.dataset import Result
from cellbench.report.curves import CYCLE, Axis, Curve, Plot, column

Results = Sequence[Mapping[str, Any] | None]


@dataclass(frozen=True)
class Series:
    """Where a series stands in a result: its rows, the columns of x and y (the first there is)."""

    title: str
    rows: str
    x_key: str
    x: Axis
    ys: tuple[tuple[str, Axis], ...]


_SIZE = (
    ("discharge_mAh_g", Axis("discharge capacity", "mAh/g")),
    ("discharge_mAh_cm2", Axis("discharge capacity", "mAh/cm²")),
)
_EFFICIENCY = (("coulombic_efficiency_percent", Axis("coulombic efficiency", "%")),)
_ASR = (("ASR_interface_ohm_cm2", Axis("ASR of the interface", "Ω cm²")),)
_SERIES: dict[str, Series] = {
    "arrhenius": Series(
        "Arrhenius", "spectra", "inverse_temperature_1000_per_K", Axis("1000 / T", "1/K"),
        (("conductivity_mS_cm", Axis("conductivity", "mS/cm", log=True)),),
    ),
    "capacity": Series("Capacity", "rows", "cycle", CYCLE, _SIZE),
    "ccd": Series(
        "Apparent resistance", "steps", "current_density_mA_cm2",
        Axis("current density", "mA/cm²", log=True),
        (("ASR_apparent_ohm_cm2", Axis("apparent ASR", "Ω cm²")),),
    ),
    "coulombic_efficiency": Series("Coulombic efficiency", "rows", "cycle", CYCLE, _EFFICIENCY),
    "interface_resistance": Series(
        "Interface", "spectra", "stack_pressure_MPa", Axis("stack pressure", "MPa"), _ASR
    ),
    "rate_table": Series("Rate capability", "rates", "rate_C", Axis("rate", "C", log=True), _SIZE),
    "resistance_growth": Series("Resistance", "spectra", "time_h", Axis("time", "h"), _ASR),
    "retention": Series(
        "Retention", "rows", "cycle", CYCLE, (("retention_percent", Axis("retention", "%")),)
    ),
    "symmetric_cycling": Series(
        "Polarisation", "rows", "cycle", CYCLE, (("polarisation_V", Axis("polarisation", "V")),)
    ),
}  # fmt: skip


def overlays(name: str, results: Results, failed: Sequence[bool]) -> list[dict[str, Any]]:
    """The plots of one analysis over several cells; None for a cell without a result.

    Failed cells are drawn hollow, and are not in the mean.
    """
    series = _SERIES.get(name)
    if series is None or not any(results):
        return []
    for key, axis in series.ys:
        curves = [
            _curve(series, key, result, number, broken)
            for number, (result, broken) in enumerate(zip(results, failed, strict=True), start=1)
            if result is not None
        ]
        if any(curve.data()["x"] for curve in curves):
            sound = [one for one, broken in zip(results, failed, strict=True) if one and not broken]
            mean = _mean(series, key, sound)
            return [Plot(series.title, series.x, axis, [*curves, *mean]).data()]
    return []


def _curve(series: Series, key: str, result: Mapping[str, Any], number: int, broken: bool) -> Curve:
    rows: Sequence[Result] = result[series.rows]
    label = f"cell {number}, failed" if broken else f"cell {number}"
    mark = "hollow" if broken else "points"
    return Curve(label, column(rows, series.x_key), column(rows, key), mark)  # type: ignore[arg-type]


def _mean(series: Series, key: str, sound: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Mean and standard deviation, row by row, as far as all sound cells have come."""
    columns = [
        [(row[series.x_key], row[key]) for row in result[series.rows] if None not in
         (row[series.x_key], row[key])]
        for result in sound
    ]  # fmt: skip
    count = min(map(len, columns), default=0)
    if len(columns) < 2 or not count:
        return []
    table = np.array([rows[:count] for rows in columns])
    mean, spread = table.mean(axis=0), table.std(axis=0, ddof=1)[:, 1]
    label = f"mean of {len(columns)} ± standard deviation"
    return [Curve(label, mean[:, 0], mean[:, 1], "line", errors=spread, tone="soft")]
