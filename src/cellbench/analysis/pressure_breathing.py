"""Breathing: how far the stack pressure rises per charge, with drift and temperature taken off.

P = a + b Q + c t + d T by least squares, Q the areal charge since the start, positive on charge, so
that b > 0 says that the stack thickens while it is charged (Koerver et al., Energy Environ. Sci. 11
(2018) 2142, on the chemomechanics of cells at constant volume). Drift can be told from breathing
only if charge goes both ways, temperature only if it moves; a term that the data do not identify
is left out and named. The stack lags the air whose temperature is measured: T is low-passed by that
of several time constants which explains most. Rows count by time, however densely they were taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.cycles import half_cycles
from cellbench.analysis.dataset import Dataset, FloatArray, Result, Series
from cellbench.analysis.regression import Regression, regress

_LEAST_ROWS = 20
_LEAST_SPAN_K = 0.3
_ALIKE = 0.995  # correlation above which two columns are not told apart
_MAH_CM2 = 3.6e4  # C/m2
_AWAY_S = 600.0
_LAGS_S = (0.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0)


def analyse(dataset: Dataset) -> Result:
    """MPa per mAh/cm2 over the cycles of a run.

    Raises:
        ValueError: if no charge passed, or the stack pressure was not measured meanwhile.
    """
    time_s, pressure_Pa, areal = _evenly(*_table(dataset))
    warmth = dataset.samples.temperature
    fits = [_fit(warmth, time_s, areal, pressure_Pa, lag_s) for lag_s in _LAGS_S]
    best = max(fits, key=lambda fit: fit.found.r2)
    found, names = best.found, best.names
    slope, half_width = found[names.index("charge")]
    return {
        "breathing_MPa_per_mAh_cm2": reported.megapascal(slope),
        "breathing_interval_MPa_per_mAh_cm2": reported.megapascal(half_width),
        "drift_MPa_per_h": _coefficient(found, names, "drift", 3600.0),
        "temperature_MPa_per_K": _coefficient(found, names, "temperature", 1.0),
        "temperature_lag_s": best.lag_s if "temperature" in names else None,
        "left_out": best.left_out,
        "amplitude_MPa": reported.megapascal(abs(slope) * float(np.ptp(areal))),
        "areal_capacity_mAh_cm2": reported.number(float(np.ptp(areal))),
        "stack_pressure_MPa": reported.megapascal(float(np.median(pressure_Pa))),
        "residual_MPa": reported.megapascal(float(np.std(found.residuals))),
        "r2": reported.number(found.r2),
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The breathing in lines for people."""
    value, half_width = (
        result["breathing_MPa_per_mAh_cm2"],
        result["breathing_interval_MPa_per_mAh_cm2"],
    )
    interval = "" if half_width is None else f" ± {half_width:.2g}"
    kind = "thickens on charge" if value > 0 else "thins on charge"
    lines = [f"breathing     {value:+.3g}{interval} MPa per mAh/cm2 (the stack {kind})"]
    drift, thermal = result["drift_MPa_per_h"], result["temperature_MPa_per_K"]
    taken = [f"{drift:+.2g} MPa/h of drift"] if drift is not None else []
    if thermal is not None:
        taken.append(f"{thermal:+.2g} MPa/K of temperature, lag {result['temperature_lag_s']:g} s")
    if taken:
        lines.append(f"taken off     {', '.join(taken)}")
    return lines + [f"not taken off {text}" for text in result["left_out"]]


def breathing_rows(dataset: Dataset) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Times (s), stack pressure (Pa) and areal charge (mAh/cm2), as a plot needs them.

    Raises:
        ValueError: as `analyse`.
    """
    return _table(dataset)


def _table(dataset: Dataset) -> tuple[FloatArray, FloatArray, FloatArray]:
    halves = half_cycles(dataset)
    if not halves:
        raise ValueError("No breathing: no step of this run passed charge.")
    series = dataset.samples.stack_pressure
    inside = (series.time_s >= halves[0].start_s - _AWAY_S) & np.isfinite(series.value)
    inside &= series.time_s <= halves[-1].end_s + _AWAY_S
    inside &= ~_pressing(dataset, series.time_s)
    if np.count_nonzero(inside) < _LEAST_ROWS:
        raise ValueError("No breathing: the stack pressure was not measured during the cycles.")
    time_s = series.time_s[inside]
    return time_s, series.value[inside], _areal_charge(dataset, time_s)


def _pressing(dataset: Dataset, time_s: FloatArray) -> Any:
    moving = np.zeros(len(time_s), dtype=np.bool_)
    for step in dataset.steps_of("press"):
        moving |= (time_s >= step.start_s) & (time_s <= step.end_s)
    return moving


def _areal_charge(dataset: Dataset, at_s: FloatArray) -> FloatArray:
    """Net charge (mAh/cm2) at any times, constant between half-cycles."""
    times, values, so_far = [np.empty(0)], [np.empty(0)], 0.0
    for half in half_cycles(dataset):
        sign = 1.0 if half.direction == "charge" else -1.0
        times.append(half.time_s)
        values.append(so_far + sign * half.charge_C)
        so_far += sign * half.capacity_C
    known_s, known_C = np.concatenate(times), np.concatenate(values)
    return np.interp(at_s, known_s, known_C, left=0.0) / dataset.geometry.area_m2 / _MAH_CM2


def _evenly(
    time_s: FloatArray, pressure_Pa: FloatArray, areal: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows no closer than they usually are: while a step waits, gauges are read more often."""
    slots = np.floor((time_s - time_s[0]) / max(float(np.median(np.diff(time_s))), 1e-9) + 1e-6)
    _, first = np.unique(slots, return_index=True)
    return time_s[first], pressure_Pa[first], areal[first]


@dataclass(frozen=True, eq=False)
class _Fit:
    """One fit: the lag of the temperature (s), the terms in their order, those left out."""

    lag_s: float
    names: list[str]
    left_out: list[str]
    found: Regression


def _fit(
    series: Series, time_s: FloatArray, areal: FloatArray, pressure_Pa: FloatArray, lag_s: float
) -> _Fit:
    columns, left_out = _columns(time_s, areal, _lagged(series, time_s, lag_s))
    found = regress(np.column_stack(list(columns.values())), pressure_Pa, dependent=True)
    return _Fit(lag_s, list(columns), left_out, found)


def _lagged(series: Series, time_s: FloatArray, lag_s: float) -> FloatArray | None:
    """What follows a series with a time constant, at any times; None where it was not measured."""
    known = np.isfinite(series.value)
    if np.count_nonzero(known) < 2:
        return None
    at_s, value = series.time_s[known], series.value[known].copy()
    kept = np.exp(-np.diff(at_s) / lag_s) if lag_s else np.zeros(len(at_s) - 1)
    for index, share in enumerate(kept.tolist(), start=1):
        value[index] += share * (value[index - 1] - value[index])
    return np.interp(time_s, at_s, value)


def _columns(
    time_s: FloatArray, areal: FloatArray, kelvin: FloatArray | None
) -> tuple[dict[str, FloatArray], list[str]]:
    columns = {"constant": np.ones(len(time_s)), "charge": areal}
    left_out = []
    if _alike(time_s, areal):
        left_out.append("drift: charge went one way only")
    else:
        columns["drift"] = time_s - time_s[0]
    if kelvin is None or np.ptp(kelvin) < _LEAST_SPAN_K:
        left_out.append("temperature: it was constant, or not measured")
    elif _alike(kelvin, areal):
        left_out.append("temperature: it moved with the charge")
    else:
        columns["temperature"] = kelvin - kelvin.mean()
    return columns, left_out


def _alike(one: FloatArray, other: FloatArray) -> bool:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return True
    return bool(abs(np.corrcoef(one, other)[0, 1]) > _ALIKE)


def _coefficient(found: Regression, names: list[str], name: str, scale: float) -> float | None:
    if name not in names:
        return None
    return reported.megapascal(found[names.index(name)][0] * scale)
