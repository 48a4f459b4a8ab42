"""The plots of symmetric cells and of lithium: ramps, stack pressure, stripping, long cycling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from cellbench.analysis.cycles import half_cycles
from cellbench.analysis.dataset import Dataset, Result
from cellbench.report.curves import CYCLE, Axis, Curve, Mark, Plot, column, thin

Rows: TypeAlias = Sequence[Mapping[str, Any]]
#: Verdict, mark, colour that means it.
_VERDICTS: tuple[tuple[str, Mark, str], ...] = (
    ("stable", "hollow", "good"),
    ("irregular", "points", "warn-fill"),
    ("soft short", "points", "warn-fill"),
    ("short", "points", "bad"),
    ("cut off", "hollow", "soft"),
    ("unjudged", "hollow", "soft"),
)


def ramp(_: Dataset, result: Result) -> Iterable[Plot]:
    """Voltage and apparent resistance of every level of a current ramp, with their verdicts."""
    rows = [row for row in result["steps"] if row["current_density_mA_cm2"]]
    rows.sort(key=lambda row: float(row["current_density_mA_cm2"]))
    density = Axis("current density", "mA/cm²", log=True)
    voltages = [_magnitude_V(row) for row in rows]
    resistances = [row["ASR_apparent_ohm_cm2"] for row in rows]
    for title, axis, values in (
        ("Voltage of every level", Axis("|voltage|", "V", from_zero=True), voltages),
        ("Apparent resistance", Axis("apparent ASR", "Ω cm²", from_zero=True), resistances),
    ):
        yield Plot(title, density, axis, _judged(rows, values))


def _judged(rows: Rows, values: Sequence[float | None]) -> list[Curve]:
    densities = [row["current_density_mA_cm2"] for row in rows]
    curves = [Curve("", densities, values, tone="line")]
    for verdict, mark, tone in _VERDICTS:
        chosen = [k for k, row in enumerate(rows) if row["verdict"] == verdict]
        x, y = ([every[k] for k in chosen] for every in (densities, values))
        curves.append(Curve(verdict, x, y, mark, tone=tone))
    return curves


def _magnitude_V(row: Mapping[str, Any]) -> float | None:
    known = [row[f"voltage_{sign}_V"] for sign in ("positive", "negative")]
    values = [abs(value) for value in known if value is not None]
    return sum(values) / len(values) if values else None


def against_pressure(_: Dataset, result: Result) -> Iterable[Plot]:
    """Resistances against stack pressure, and the interface's where a power law is straight."""
    rows = [row for row in result["spectra"] if row["stack_pressure_MPa"] is not None]
    rows.sort(key=lambda row: float(row["stack_pressure_MPa"]))
    pressures = column(rows, "stack_pressure_MPa")
    yield Plot(
        "Resistances against stack pressure",
        Axis("stack pressure", "MPa", from_zero=True),
        Axis("resistance", "Ω", from_zero=True),
        [
            Curve(name, pressures, column(rows, f"R_{name}_ohm"), "both",
                  errors=column(rows, f"R_{name}_uncertainty_ohm"))
            for name in ("total", "electrolyte", "interface")
        ],
    )  # fmt: skip
    squeezed = [row for row in rows if row["stack_pressure_MPa"] > 0]
    yield Plot(
        f"Interface, {result['ASR_is']}",
        Axis("stack pressure", "MPa", log=True),
        Axis("ASR of the interface", "Ω cm²", log=True),
        [Curve("", column(squeezed, "stack_pressure_MPa"),
               column(squeezed, "ASR_interface_ohm_cm2"), "both")],
    )  # fmt: skip


def stripping(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """Voltage over the capacity stripped, with the plateau and the end that were read off."""
    half = max(half_cycles(dataset), key=lambda one: one.capacity_C)
    areal, volts = thin(
        half.charge_C / dataset.geometry.area_m2 / 3.6e4,
        np.abs(half.voltage_V - (result["offset_V"] or 0.0)),
    )
    end, level_V = result["stripping_capacity_mAh_cm2"], result["polarisation_V"]
    yield Plot(
        "Stripping",
        Axis("stripped", "mAh/cm²", from_zero=True),
        Axis("|voltage|", "V", from_zero=True),
        [
            Curve("measured", areal, volts),
            Curve("polarisation", [0.05 * end, 0.25 * end], [level_V, level_V], "dashed"),
            Curve("end of stripping", [end], [result["voltage_at_end_V"]], "points"),
        ],
    )


def symmetric(_: Dataset, result: Result) -> Iterable[Plot]:
    """Polarisation of every cycle, with the cycles of its rise and of the short."""
    rows = result["rows"]
    levels = {row["cycle"]: row["polarisation_V"] for row in rows}
    events = (("risen", "risen_at_cycle", "warn-fill"), ("short", "short_at_cycle", "bad"))
    yield Plot(
        "Polarisation of every cycle",
        CYCLE,
        Axis("polarisation", "V", from_zero=True),
        [
            Curve("polarisation", column(rows, "cycle"), column(rows, "polarisation_V")),
            *(
                Curve(name, [float(result[key])], [levels[result[key]]], "points", tone=tone)
                for name, key, tone in events
                if result[key] in levels
            ),
        ],
    )
