"""Diffusion coefficient from galvanostatic intermittent titration, for spheres.

D = 4 / (pi tau) (R / 3)^2 (dE_s / dE_t)^2 (Weppner and Huggins, J. Electrochem. Soc. 124 (1977)
1569, with volume over surface of a sphere): dE_s is the change of the relaxed potential from one
pulse to the next, dE_t the change during the pulse without its ohmic drop, which is read off by
carrying the early voltage back to time zero along a sqrt(t) + b t, the first two terms of diffusion
into a sphere. It holds for pulses much
shorter than R^2 / D; with R^2/D = 2000 s pulses of 20, 200 and 1800 s return 0.83, 0.54 and 0.14 of
D, so long pulses are warned of.

The formula is the short-time limit of diffusion into a sphere at constant flux. Its whole solution
(Crank, The Mathematics of Diffusion, 2nd ed., Oxford 1975, ch. 6) gives dE_t / dE_s for pulses up
to 0.5 R^2/D, and so a second D from the same two voltages, which has no such bias ("sphere").
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.cycles import Piece, piece_of
from cellbench.analysis.dataset import Dataset, FloatArray, Result, StepData
from cellbench.analysis.regression import regress

_DRIVEN = ("charge", "discharge", "current")
_LEAST_ROWS = 5
_DRIFT_V_PER_H = 1e-3
#: Of tau D / R^2, as found; the truth is then underestimated by a fifth or more.
_LONG = 0.01
_ASSUMED_RADIUS_M = 2.5e-6
_ROOTS = 800
_SHARES = (1e-5, 0.5)  # of tau D / R^2; beyond, the surface is hardly ahead of the mean


def analyse(
    dataset: Dataset,
    *,
    radius_m: float | None = None,
    early_share: float = 0.5,
) -> Result:
    """Diffusion coefficient at every pulse that lies between two rests.

    Args:
        dataset: a run with pulses of constant current and rests in turn.
        radius_m: of the particles, which D goes with squared; by default the card's, and without
            one 2.5 um are assumed.
        early_share: of a pulse from which the ohmic drop is extrapolated.

    Raises:
        ValueError: if no pulse lies between two rests.
    """
    known_m = radius_m or dataset.geometry.particle_radius_m
    used_m = known_m or _ASSUMED_RADIUS_M
    rows = [
        row
        for pulse in _pulses(dataset)
        if (row := _row(dataset, *pulse, used_m, early_share)) is not None
    ]
    if not rows:
        raise ValueError("No diffusion coefficient: no pulse of current lies between two rests.")
    known = [row["D_cm2_s"] for row in rows if row["D_cm2_s"]]
    long = sum(1 for row in rows if row["too_long"])
    return {
        "D_median_cm2_s": reported.median(known),
        "D_lowest_cm2_s": reported.smallest(known),
        "D_highest_cm2_s": reported.largest(known),
        "D_sphere_median_cm2_s": reported.median(row["D_sphere_cm2_s"] for row in rows),
        "radius_um": reported.scaled(used_m, 1e6),
        "radius_is": "known" if known_m else "assumed",
        "pulses": len(rows),
        "too_long": long,
        "not_relaxed": sum(1 for row in rows if not row["relaxed"]),
        "potential_reference": dataset.geometry.reference,
        "warnings": _warnings(rows, long),
        "rows": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The coefficient in lines for people."""
    low, high = result["D_lowest_cm2_s"], result["D_highest_cm2_s"]
    short, whole = result["D_median_cm2_s"], result["D_sphere_median_cm2_s"]
    if short is None:
        lines = ["diffusion     not found: no pulse changed the relaxed potential"]
    else:
        lines = [
            f"short pulses  {short:.2e} cm2/s by Weppner and Huggins' formula (median of "
            f"{result['pulses']} pulses, {low:.1e} to {high:.1e})"
        ]
        if whole is not None:
            lines.insert(0, f"diffusion     {whole:.2e} cm2/s, whole solution for a sphere")
    lines.append(
        f"radius        {result['radius_um']:g} um ({result['radius_is']}; D goes with its square)"
    )
    return lines + [f"warning       {text}" for text in result["warnings"]]


def _pulses(dataset: Dataset) -> Iterator[tuple[StepData, StepData, StepData]]:
    """Every rest, pulse, rest that follow one another; spectra in between do not matter."""
    steps = [step for step in dataset.steps if step.kind in (*_DRIVEN, "rest")]
    for (before, pulse), (_, after) in pairwise(pairwise(steps)):
        if before.kind == "rest" and pulse.kind in _DRIVEN and after.kind == "rest":
            yield before, pulse, after


def _row(
    dataset: Dataset,
    before: StepData,
    pulse: StepData,
    after: StepData,
    radius_m: float,
    early_share: float,
) -> Result | None:
    pieces = [piece_of(dataset.samples, step) for step in (before, pulse, after)]
    driven = pieces[1]
    if len(driven.time_s) < _LEAST_ROWS or not len(pieces[0].time_s) or not len(pieces[2].time_s):
        return None
    rested_V, relaxed_V = (float(piece.voltage_V[-1]) for piece in (pieces[0], pieces[2]))
    start_V, tau_s = _start_V(driven, early_share), float(driven.time_s[-1] - pulse.start_s)
    steady_V, transient_V = relaxed_V - rested_V, float(driven.voltage_V[-1]) - start_V
    same_way = steady_V * transient_V > 0
    D = _diffusion_m2_s(steady_V, transient_V, tau_s, radius_m) if same_way else None
    share = None if D is None else tau_s * D / radius_m**2
    whole = _sphere_share(transient_V / steady_V) if same_way else None
    exact = None if whole is None else whole * radius_m**2 / tau_s
    set_A = driven.set_A or 0.0
    return {
        "step": pulse.path,
        "direction": "charge" if set_A * dataset.geometry.charge_sign > 0 else "discharge",
        "potential_V": reported.number(dataset.geometry.potential_V(relaxed_V)),
        "D_cm2_s": reported.scaled(D, 1e4),
        "D_sphere_cm2_s": reported.scaled(exact, 1e4),
        "pulse_s": reported.number(tau_s),
        "steady_change_mV": reported.scaled(steady_V, 1e3),
        "transient_change_mV": reported.scaled(transient_V, 1e3),
        "ohmic_ohm": reported.number((start_V - rested_V) / set_A if set_A else None),
        "tau_D_over_R2": reported.number(share),
        "too_long": share is None or share > _LONG,
        "relaxed": _is_relaxed(pieces[2]),
    }


def _start_V(driven: Piece, early_share: float) -> float:
    """Voltage just after the ohmic drop: the early voltage, carried back to time zero."""
    time_s = driven.time_s - driven.step.start_s
    count = max(_LEAST_ROWS, int(np.count_nonzero(time_s <= early_share * time_s[-1])))
    root = np.sqrt(np.maximum(time_s[:count], 0.0))
    columns = np.column_stack((np.ones(len(root)), root, root**2))
    return float(regress(columns, driven.voltage_V[:count]).coefficients[0])


def _diffusion_m2_s(steady_V: float, transient_V: float, tau_s: float, radius_m: float) -> float:
    return 4 / (math.pi * tau_s) * (radius_m / 3) ** 2 * (steady_V / transient_V) ** 2


def _sphere_share(ratio: float) -> float | None:
    """The tau D / R^2 at which a sphere's surface is so far ahead of its mean; None if at none."""
    log_shares, log_excess = _sphere()
    if ratio <= 1 or not log_excess[0] <= math.log(ratio - 1) <= log_excess[-1]:
        return None
    return math.exp(float(np.interp(math.log(ratio - 1), log_excess, log_shares)))


@lru_cache(maxsize=1)
def _sphere() -> tuple[FloatArray, FloatArray]:
    """Logarithms of tau D / R^2, and of surface over mean less one; the second ascends."""
    shares = np.geomspace(*_SHARES, 400)
    roots = np.pi * np.arange(1, _ROOTS + 1) + np.pi / 2
    for _ in range(50):  # tan(l) = l
        roots = np.pi * np.arange(1, _ROOTS + 1) + np.arctan(roots)
    decays = np.exp(-np.outer(shares, roots**2)) / roots**2
    surface = 3 * shares + 0.2 - 2 * decays.sum(axis=1)
    excess = surface / (3 * shares) - 1
    return np.log(shares)[::-1], np.log(excess)[::-1]


def _is_relaxed(rest: Piece) -> bool:
    """Whether the last tenth of the rest drifts by less than 1 mV/h."""
    late = rest.time_s >= rest.time_s[-1] - 0.1 * (rest.time_s[-1] - rest.time_s[0])
    if np.count_nonzero(late) < 3:
        return False
    slope = np.polyfit(rest.time_s[late] - rest.time_s[-1], rest.voltage_V[late], 1)[0]
    return bool(abs(slope) * 3600 < _DRIFT_V_PER_H)


def _warnings(rows: Sequence[Result], long: int) -> list[str]:
    texts = []
    if long:
        texts.append(
            f"{long} of {len(rows)} pulses are too long for Weppner and Huggins' formula, "
            "whose D is too low"
        )
    restless = sum(1 for row in rows if not row["relaxed"])
    if restless:
        texts.append(f"{restless} of {len(rows)} rests ended before the voltage was steady")
    return texts
