"""The plots of what happens in time: leakage, growth, breathing, rests, titration, pulses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from cellbench.analysis.dataset import Dataset, FloatArray, Result
from cellbench.analysis.leakage import held_current
from cellbench.analysis.pressure_breathing import breathing_rows
from cellbench.analysis.regression import line
from cellbench.report.curves import Axis, Curve, Plot, column, potential_axis, thin

Rows: TypeAlias = Sequence[Mapping[str, Any]]
_HOURS = Axis("time", "h")
_STATES = ("fresh", "during charge", "charged", "during discharge", "discharged")
_PARTS = {"interface": "R_interface_ohm", "slowest": "R_slowest_ohm"}
_MOST_POINTS = 1500
_SHORT = "short-pulse formula"
_BINS = 24


def leakage(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """The current of a hold on a logarithmic axis, with the fit of its tail."""
    piece = held_current(dataset)
    elapsed_s = piece.time_s - piece.step.start_s
    hours, micro = thin(elapsed_s / 3600, np.abs(piece.current_A) * 1e6)
    tail_h = np.linspace(hours[-1] / 2, hours[-1], 60)
    fitted = result["leakage_limit_uA"] + result["B_uA_s_half"] / np.sqrt(tail_h * 3600)
    yield Plot(
        "Current during the hold, spectra left out",
        _HOURS,
        Axis("|current|", "µA", log=True),
        [
            Curve("measured", hours, micro),
            Curve("fit of the tail: I∞ + B/√t", tail_h, np.abs(fitted), "dashed"),
        ],
    )


# --- Growth -------------------------------------------------------------------------------------


def growth(_: Dataset, result: Result) -> Iterable[Plot]:
    """Resistance over time, or over the cut-off of a ladder, by state of the cell."""
    key = _PARTS.get(result["part"], "R_total_ohm")
    rows = [row for row in result["spectra"] if row[key] is not None]
    over_cut_off = result["break_potential_V"] is not None
    rows = [row for row in rows if not over_cut_off or row["reached_V"] is not None]
    x_key = "reached_V" if over_cut_off else "time_h"
    values = [row[key] for row in rows]
    wide = bool(values) and max(values) > 20 * max(min(values), 1e-9)
    area = result["area_cm2"]
    title = "cell" if result["part"] == "total" else result["part"]
    yield Plot(
        f"Resistance of the {title}",
        Axis(f"upper cut-off {result['potential_reference']}", "V") if over_cut_off else _HOURS,
        Axis("resistance x area", "Ω cm²", log=wide, from_zero=not wide),
        [
            *(_of_state(rows, state, x_key, key, area) for state in _STATES),
            *_explained(rows, result, key, area),
        ],
    )


def _of_state(rows: Rows, state: str, x_key: str, key: str, area: float) -> Curve:
    own = [row for row in rows if row["state"] == state]
    errors = [row.get(key.replace("_ohm", "_uncertainty_ohm")) for row in own]
    return Curve(
        state, column(own, x_key), [row[key] * area for row in own], "points",
        errors=[None if error is None else error * area for error in errors],
    )  # fmt: skip


def _explained(rows: Rows, result: Result, key: str, area: float) -> list[Curve]:
    """What the analysis made of the series: a power of time, an onset, or a break."""
    own = [row for row in rows if row["state"] == result["series_state"]]
    if result["break_potential_V"] is not None:
        x = np.array([row["reached_V"] for row in rows])
        y = np.array([row[key] * area for row in rows])
        return [_mark("break", result["break_potential_V"], x, y)]
    hours = np.array([row["time_h"] for row in own])
    ohm_cm2 = np.array([row[key] * area for row in own])
    if result["onset_h"] is not None:
        return [_mark("onset", result["onset_h"], hours, ohm_cm2)]
    if result["exponent"] is None:
        return []
    exponent, grid = result["exponent"], np.linspace(hours[1], hours[-1], 80)
    start, slope = line((hours - hours[0]) ** exponent, ohm_cm2).coefficients
    fitted = start + slope * (grid - hours[0]) ** exponent
    return [Curve(f"fit: R0 + k t^{exponent:.2f}", grid, fitted, "dashed")]


def _mark(label: str, at: float, x: FloatArray, y: FloatArray) -> Curve:
    order = np.argsort(x)
    return Curve(label, [at], [float(np.interp(at, x[order], y[order]))], "hollow", tone="bad")


# --- Pressure, rest -----------------------------------------------------------------------------


def breathing(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """Stack pressure over charge with its slope, and both in time."""
    time_s, pressure_Pa, areal = breathing_rows(dataset)
    drift = (result["drift_MPa_per_h"] or 0.0) * (time_s - time_s[0]) / 3600
    level = pressure_Pa * 1e-6 - drift + drift.mean()
    charge, steady = thin(areal, level, most=_MOST_POINTS)
    ends = np.array([areal.min(), areal.max()])
    fitted = level.mean() + result["breathing_MPa_per_mAh_cm2"] * (ends - areal.mean())
    taken_off = ", drift taken off" if result["drift_MPa_per_h"] is not None else ""
    yield Plot(
        f"Stack pressure against charge{taken_off}",
        Axis("areal charge", "mAh/cm²"),
        Axis("stack pressure", "MPa"),
        [
            Curve("measured", charge, steady, "points", tone="line"),
            Curve("mean", *_binned(areal, level), "points"),
            Curve("fit", ends, fitted, "dashed"),
        ],
    )
    hours, megapascal, charge = thin(time_s / 3600, pressure_Pa * 1e-6, areal, most=_MOST_POINTS)
    yield Plot(
        "Stack pressure and charge in time",
        _HOURS,
        Axis("stack pressure", "MPa"),
        [
            Curve("stack pressure", hours, megapascal),
            Curve("areal charge", hours, charge, "dashed", right=True),
        ],
        right=Axis("areal charge", "mAh/cm²"),
    )


def _binned(x: FloatArray, y: FloatArray) -> tuple[list[float], list[float]]:
    """Means of y over even intervals of x."""
    edges = np.linspace(x.min(), x.max(), _BINS + 1)
    places = np.clip(np.searchsorted(edges, x, "right") - 1, 0, _BINS - 1)
    used = np.unique(places)
    return tuple([float(v[places == k].mean()) for k in used] for v in (x, y))  # type: ignore[return-value]


def open_circuit(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """The voltage of the longest rest, with the slope of its second half."""
    rest = max(dataset.steps_of("rest"), key=lambda step: step.duration_s)
    rows = dataset.samples.of((rest,))
    hours, volts = thin((rows.time_s - rest.start_s) / 3600, rows.voltage_V)
    shift_V = dataset.geometry.potential_V(0.0) or 0.0
    late = hours >= hours[-1] / 2
    x, middle_V = hours[late], float(np.median(volts[late])) + shift_V
    fitted = middle_V + result["slope_mV_per_h"] * 1e-3 * (x - x.mean())
    yield Plot(
        "Open circuit",
        _HOURS,
        potential_axis(dataset),
        [
            Curve("measured", hours, volts + shift_V),
            Curve("slope at the end", x, fitted, "dashed"),
        ],
    )


# --- Pulses -------------------------------------------------------------------------------------


def titration(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """Diffusion coefficients over the potential, and the titration that they are from."""
    curves = []
    for direction in ("charge", "discharge"):
        rows = [row for row in result["rows"] if row["direction"] == direction]
        x, whole = column(rows, "potential_V"), column(rows, "D_sphere_cm2_s")
        curves.append(Curve(direction, x, whole, "points"))
        short = Curve(_SHORT, x, column(rows, "D_cm2_s"), "points", tone="line")
        curves.insert(0, short)
    yield Plot(
        f"Diffusion coefficient for R = {result['radius_um']:g} µm",
        potential_axis(dataset), Axis("D", "cm²/s", log=True), curves,
    )  # fmt: skip
    kept = dataset.samples
    shift_V = dataset.geometry.potential_V(0.0) or 0.0
    hours, volts = thin(kept.time_s / 3600, kept.voltage_V + shift_V, most=3000)
    yield Plot("Titration", _HOURS, potential_axis(dataset), [Curve("measured", hours, volts)])


def pulses(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """Pulse resistances over the potential at every declared time, and at the pulse's end."""
    rows = result["rows"]
    reached_s = [time_s for time_s in result["times_s"] if result[f"R_{time_s:g}s_ohm"] is not None]
    names = [(f"R_{time_s:g}s_ohm", f"{time_s:g} s") for time_s in reached_s]
    ends_later = not reached_s or (result["pulse_s"] or 0.0) > 1.1 * reached_s[-1]
    names += [("R_end_ohm", f"end, {result['pulse_s']:.3g} s")] if ends_later else []
    yield Plot(
        "Pulse resistance",
        potential_axis(dataset),
        Axis("resistance", "Ω", from_zero=True),
        [
            Curve(label, column(rows, "potential_V"), column(rows, key), "points")
            for key, label in names
        ],
    )
