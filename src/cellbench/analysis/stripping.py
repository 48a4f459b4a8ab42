"""Unidirectional stripping of a symmetric cell: how much lithium comes off, at what polarisation.

Lithium is stripped from one electrode until contact is lost (Krauskopf et al., ACS Appl. Mater.
Interfaces 11 (2019) 14463; Kasemchainan et al., Nat. Mater. 18 (2019) 1105). Studies seldom define
their numbers; ours are: capacity = charge per area until |V| reaches the cut-off, or where none is
given until it has risen to five times its plateau; polarisation = median |V| between 5 and 25 % of
that capacity, rest voltage subtracted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.cycles import HalfCycle, half_cycles
from cellbench.analysis.dataset import Dataset, FloatArray, Result

_SHORTED = 0.5


def analyse(
    dataset: Dataset,
    *,
    cutoff_V: float | None = None,
    rise: float = 5.0,
    plateau: Sequence[float] = (0.05, 0.25),
) -> Result:
    """Stripping capacity and polarisation of the longest half-cycle.

    Args:
        dataset: a run with a constant current on a symmetric cell.
        cutoff_V: magnitude of the voltage at which stripping counts as ended.
        rise: without a cut-off, multiple of the plateau at which it counts as ended.
        plateau: share of the capacity over which the polarisation is taken.

    Raises:
        ValueError: if no current flowed.
    """
    halves = [half for half in half_cycles(dataset) if len(half.time_s) >= 3]
    if not halves:
        raise ValueError("No stripping: the run has no step of constant current.")
    half = max(halves, key=lambda one: one.capacity_C)
    offset_V = _rest_V(dataset, half.start_s)
    level_V = np.abs(half.voltage_V - offset_V)
    end, failure = _end(half, level_V, cutoff_V, rise)
    charge_C = float(half.charge_C[end])
    polarisation_V = _plateau_V(half.charge_C[: end + 1], level_V[: end + 1], plateau)
    start_s, end_s = half.start_s, float(half.time_s[end])
    area_m2 = dataset.geometry.area_m2
    density = (half.set_A or 0.0) / area_m2
    return {
        "stripping_capacity_mAh_cm2": reported.milliampere_hour_per_cm2(charge_C / area_m2),
        "polarisation_V": reported.number(polarisation_V),
        "ended_by": failure,
        "is_lower_bound": failure.startswith("not reached"),
        "voltage_at_end_V": reported.number(float(level_V[end])),
        "current_density_mA_cm2": reported.milliampere_per_cm2(density),
        "ASR_plateau_ohm_cm2": reported.ohm_cm2(polarisation_V / density if density else None),
        "offset_V": reported.number(offset_V),
        "stack_pressure_MPa": reported.megapascal(dataset.stack_pressure_Pa(start_s, end_s)),
        "temperature_degC": reported.degree_celsius(dataset.temperature_K(start_s, end_s)),
        "definition": _definition(cutoff_V, rise, plateau),
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The capacity in lines for people."""
    parts = [f"{result['current_density_mA_cm2']:.3g} mA/cm2"]
    for key, form in (("stack_pressure_MPa", "{:.1f} MPa"), ("temperature_degC", "{:.1f} °C")):
        if result[key] is not None:
            parts.append(form.format(result[key]))
    bound = "> " if result["is_lower_bound"] else ""
    return [
        "   ".join(parts),
        f"stripped      {bound}{result['stripping_capacity_mAh_cm2']:.4g} mAh/cm2 "
        f"({result['ended_by']})",
        f"polarisation  {result['polarisation_V']:.3g} V",
        f"definition    {result['definition']}",
    ]


def _rest_V(dataset: Dataset, before_s: float) -> float:
    rests = [step for step in dataset.steps_of("rest") if step.end_s <= before_s + 1]
    if not rests:
        return 0.0
    last = rests[-1]
    rows = dataset.samples.between(last.start_s + last.duration_s / 2, last.end_s)
    known = rows.voltage_V[np.isfinite(rows.voltage_V)]
    return float(np.median(known)) if len(known) else 0.0


def _end(
    half: HalfCycle, level_V: FloatArray, cutoff_V: float | None, rise: float
) -> tuple[int, str]:
    """Row at which stripping ended, and why."""
    plateau_V = float(np.median(level_V[: max(3, len(level_V) // 3)]))
    limit_V = rise * plateau_V if cutoff_V is None else cutoff_V
    over = np.flatnonzero(level_V >= limit_V * (1 - 1e-3))
    # A late rise is the end; a first instant above it is the double layer, or a spike.
    lasting = [row for row in over.tolist() if (level_V[row:] >= 0.9 * limit_V).mean() > 0.5]
    if lasting:
        return lasting[0], "contact lost: the voltage rose to its cut-off"
    if half.ending.startswith("voltage") or "cut-off" in half.ending:
        return len(level_V) - 1, "contact lost: the voltage rose to its cut-off"
    if np.median(level_V[-max(3, len(level_V) // 50) :]) < _SHORTED * plateau_V:
        fell = np.flatnonzero(level_V >= _SHORTED * plateau_V)
        return int(fell[-1]), "short: the voltage fell"
    return len(level_V) - 1, "not reached: the test ended first"


def _plateau_V(charge_C: FloatArray, level_V: FloatArray, plateau: Sequence[float]) -> float:
    low, high = (share * charge_C[-1] for share in plateau)
    inside = (charge_C >= low) & (charge_C <= high)
    return float(np.median(level_V[inside] if inside.any() else level_V))


def _definition(cutoff_V: float | None, rise: float, plateau: Sequence[float]) -> str:
    limit = f"{rise:g} times the plateau" if cutoff_V is None else f"{cutoff_V:g} V"
    low, high = (100 * share for share in plateau)
    return f"until {limit} or the step's own cut-off; median |V| from {low:g} to {high:g} %"
