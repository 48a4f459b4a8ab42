"""Electronic conductivity by d.c. polarisation between blocking electrodes.

Ions stop at the electrodes, what still flows is electronic: sigma_e = slope of I(V) x L / A
(Hebb, J. Chem. Phys. 20 (1952) 185; Wagner, Z. Elektrochem. 60 (1956) 4; with one reversible side
it is Hebb-Wagner's cell). A current counts as steady when |d ln I / d ln t| < 0.05 over the last
decade of time and it drifts less than 1 % in 10 min. At least three voltages; the current at zero
volts is subtracted. What does not meet this is an upper bound and is written with "<".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.cycles import Piece, piece_of
from cellbench.analysis.dataset import Dataset, FloatArray, Result
from cellbench.analysis.regression import line

_KINDS = ("voltage", "hold")
_DRIFT_WINDOW_S = 600.0
_LEAST_ROWS = 10
_S_CM = 0.01  # S/cm in one S/m


def analyse(
    dataset: Dataset,
    *,
    slope_limit: float = 0.05,
    drift_limit: float = 0.01,
    least_voltages: int = 3,
) -> Result:
    """Electronic conductivity, or its upper bound.

    Args:
        dataset: a run with constant-voltage steps on a pellet of known thickness.
        slope_limit: of |d ln I / d ln t| over the last decade of time.
        drift_limit: relative change between the last 10 min and the 10 min before.
        least_voltages: how many steady ones it takes.

    Raises:
        ValueError: if there is no voltage step, or the card gives no thickness.
    """
    thickness_m = dataset.geometry.electrolyte_thickness_m
    if thickness_m is None:
        raise ValueError("The cell card gives no electrolyte thickness: no conductivity.")
    pieces = [piece_of(dataset.samples, step) for step in dataset.steps if step.kind in _KINDS]
    pieces = [piece for piece in pieces if len(piece.time_s) >= _LEAST_ROWS]
    if not pieces:
        raise ValueError("No electronic conductivity: the run has no step of constant voltage.")
    rows = [_row(piece, slope_limit, drift_limit) for piece in pieces]
    area_m2 = dataset.geometry.electrolyte_area_m2 or dataset.geometry.area_m2
    per_ohm = thickness_m / area_m2 * _S_CM
    start_s, end_s = pieces[0].time_s[0], pieces[-1].time_s[-1]
    return {
        **_conductivity(rows, per_ohm, least_voltages),
        "thickness_um": reported.scaled(thickness_m, 1e6),
        "area_cm2": reported.scaled(area_m2, 1e4),
        "temperature_degC": reported.degree_celsius(dataset.temperature_K(start_s, end_s)),
        "stack_pressure_MPa": reported.megapascal(dataset.stack_pressure_Pa(start_s, end_s)),
        "criterion": f"|dlnI/dlnt| < {slope_limit:g} over the last decade, "
        f"drift < {100 * drift_limit:g} % in 10 min",
        "steps": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The conductivity, or its bound, in lines for people."""
    at = result["temperature_degC"]
    where = f" at {at:.1f} °C" if at is not None else ""
    bound = "< " if result["is_upper_bound"] else ""
    value = f"{bound}{result['electronic_conductivity_S_cm']:.2e} S/cm{where}"
    half_width = result["electronic_conductivity_interval_S_cm"]
    interval = f" (± {half_width:.1e})" if half_width is not None and not bound else ""
    lines = [f"electronic    {value}{interval}"]
    if result["why_bound"]:
        lines.append(f"upper bound   {result['why_bound']}")
    steady = sum(row["steady"] for row in result["steps"])
    lines.append(f"steady        {steady} of {len(result['steps'])} steps ({result['criterion']})")
    return lines


def _row(piece: Piece, slope_limit: float, drift_limit: float) -> Result:
    time_s = piece.time_s - piece.step.start_s
    voltage_V = float(np.median(piece.voltage_V))
    late = time_s >= 0.9 * time_s[-1]
    current_A = float(np.median(piece.current_A[late]))
    slope, doubt = _log_slope(time_s, piece.current_A)
    drift, drift_doubt = _drift(time_s, piece.current_A)
    calm = slope is not None and abs(slope) < slope_limit + doubt
    steady = calm and drift is not None and abs(drift) < drift_limit + drift_doubt
    # At zero volts only an offset flows, and its logarithm means nothing.
    at_zero = abs(voltage_V) < 1e-3
    return {
        "step": piece.step.path,
        "voltage_V": reported.number(voltage_V),
        "current_nA": reported.scaled(current_A, 1e9),
        "noise_nA": reported.scaled(float(np.std(piece.current_A[late])), 1e9),
        "duration_s": reported.number(float(time_s[-1])),
        "log_slope": reported.number(slope),
        "drift_percent": reported.percent(drift),
        "steady": bool(steady or at_zero),
    }


def _log_slope(time_s: FloatArray, current_A: FloatArray) -> tuple[float | None, float]:
    """Slope d ln I / d ln t over the last decade of time, and twice its standard error."""
    last = (time_s >= time_s[-1] / 10) & (time_s > 0)
    time_s, current_A = time_s[last], current_A[last] * np.sign(np.median(current_A[last]))
    if len(time_s) < _LEAST_ROWS or np.median(current_A) <= 0:
        return None, 0.0
    # Bins of equal width in ln t, so that noise may change sign where a logarithm may not.
    edges = np.geomspace(time_s[0], time_s[-1] * (1 + 1e-9), 11)
    places = np.clip(np.searchsorted(edges, time_s, "right") - 1, 0, 9)
    used = np.unique(places)
    mean_A = np.array([current_A[places == place].mean() for place in used])
    middle_s = np.array([time_s[places == place].mean() for place in used])
    if len(used) < 3 or mean_A.min() <= 0:
        return None, 0.0
    found = line(np.log(middle_s), np.log(mean_A))
    slope, half_width = found[1]
    return slope, half_width if _is_noise(found.residuals) else 0.0


def _is_noise(residuals: FloatArray) -> bool:
    """Whether what a line leaves scatters, rather than bends: signs change often."""
    changes = np.count_nonzero(np.diff(np.sign(residuals)))
    return bool(changes >= (len(residuals) - 1) / 2)


def _drift(time_s: FloatArray, current_A: FloatArray) -> tuple[float | None, float]:
    """Change between the last 10 min and those before, over the mean; twice its standard error."""
    window_s = min(_DRIFT_WINDOW_S, time_s[-1] / 3)
    late = current_A[time_s > time_s[-1] - window_s]
    early = current_A[(time_s > time_s[-1] - 2 * window_s) & (time_s <= time_s[-1] - window_s)]
    mean_A = float(late.mean()) if len(late) else 0.0
    if not len(early) or mean_A == 0:
        return None, 0.0
    error_A = np.hypot(late.std() / np.sqrt(len(late)), early.std() / np.sqrt(len(early)))
    noisy = np.abs(np.diff(late)).mean() > abs(late.mean() - early.mean()) if len(late) > 1 else 0
    drift = (late.mean() - early.mean()) / mean_A
    return float(drift * _DRIFT_WINDOW_S / window_s), 2 * float(error_A / abs(mean_A)) * bool(noisy)


def _conductivity(rows: Sequence[Result], per_ohm: float, least_voltages: int) -> Result:
    steady = [row for row in rows if row["steady"]]
    voltage_V = np.array([row["voltage_V"] for row in steady])
    current_A = np.array([row["current_nA"] for row in steady]) * 1e-9
    driven = {round(float(value), 3) for value in voltage_V if abs(value) >= 1e-3}
    slope_S, half_width_S, offset_A = None, None, None
    if len(driven) >= max(least_voltages, 2):
        found = line(voltage_V, current_A)
        (offset_A, _), (slope_S, half_width_S) = found[0], found[1]
    why = _why_bound(len(driven), least_voltages, slope_S, half_width_S)
    value = _bound_S(rows) if why else slope_S
    return {
        "electronic_conductivity_S_cm": reported.scaled(value, per_ohm),
        "electronic_conductivity_interval_S_cm": reported.scaled(half_width_S, per_ohm),
        "is_upper_bound": why is not None,
        "why_bound": why,
        "offset_nA": reported.scaled(offset_A, 1e9),
        "steady_voltages": len(driven),
    }


def _why_bound(
    driven: int, least: int, slope_S: float | None, half_width_S: float | None
) -> str | None:
    if slope_S is None or half_width_S is None:
        return f"only {driven} of {least} voltages reached a steady current"
    if slope_S <= 0 or half_width_S >= slope_S:
        return "the slope is not told from zero"
    return None


def _bound_S(rows: Sequence[Result]) -> float:
    """The smallest conductance that the voltages allow: what still decays flows at most."""
    offsets = [row["current_nA"] for row in rows if abs(row["voltage_V"]) < 1e-3]
    offset_nA = float(np.median(offsets)) if offsets else 0.0
    conductances = [
        (abs(row["current_nA"] - offset_nA) + 2 * row["noise_nA"]) * 1e-9 / abs(row["voltage_V"])
        for row in rows
        if abs(row["voltage_V"]) >= 1e-3
    ]
    return min(conductances, default=float("nan"))
