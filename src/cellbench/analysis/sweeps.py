"""Voltage sweeps of a run: joined, smoothed, and their waves with onset and peak.

An onset is where the tangent at the steepest point of a wave meets the baseline before it (Bard and
Faulkner, Electrochemical Methods, 2nd ed., sec. 6.2; for electrolytes Han et al., Adv. Energy
Mater. 6 (2016) 1501590), or where the current density passes a threshold: which is always said.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cellbench.analysis.cycles import Piece, piece_of
from cellbench.analysis.dataset import Dataset, FloatArray

LEAST_ROWS = 20


@dataclass(frozen=True, eq=False)
class Scan:
    """One sweep in one direction: potentials (V), current densities (A/m2), charges (C/m2)."""

    path: str
    number: int
    anodic: bool
    rate_V_per_s: float
    potential_V: FloatArray
    density_A_m2: FloatArray
    charge_C_m2: FloatArray


@dataclass(frozen=True)
class Wave:
    """One wave of a scan: its onset by the tangent, its peak, and whether the scan ended on it."""

    onset_V: float
    peak_V: float
    peak_A_m2: float
    at_edge: bool


def scans(dataset: Dataset) -> list[Scan]:
    """All sweeps of the run in order, cut where they turn.

    Raises:
        ValueError: if there is none.
    """
    found = list(_scans(dataset))
    if not found:
        raise ValueError("No sweep: the run has no step that swept the voltage.")
    return found


def waves(
    scan: Scan, *, width_V: float = 0.01, prominence: float = 0.05, least_A_m2: float = 0.0
) -> list[Wave]:
    """Peaks in the scan's own direction, each with the onset of its rise, in order of time.

    Args:
        scan: the sweep.
        width_V: standard deviation of the smoothing before slopes are taken.
        prominence: of a wave, over the largest current of the scan.
        least_A_m2: of any wave, whatever else the scan shows; at least six times its noise.
    """
    from scipy.signal import find_peaks  # noqa: PLC0415 - slow to import

    forward_V, rise = along(scan)
    grid_V, smooth = _even(forward_V, rise, width_V)
    noise = float(np.median(np.abs(np.diff(rise)))) * 1.4826 / np.sqrt(2)
    least = max(prominence * float(np.ptp(smooth)), least_A_m2, 6 * noise)
    if least <= 0:
        return []
    # A wave that the scan ends on has its peak at the edge.
    padded = np.concatenate(([smooth.min()], smooth, [smooth.min()]))
    tops = [int(place) - 1 for place in find_peaks(padded, prominence=least)[0] if place > 1]
    feet = [0, *(_foot(smooth, one, other) for one, other in pairwise(tops))]
    sign = 1.0 if scan.anodic else -1.0
    return [
        Wave(
            sign * tangent_intercept(grid_V[foot : top + 1], smooth[foot : top + 1]),
            sign * float(grid_V[top]),
            sign * float(smooth[top]),
            top >= len(smooth) - 2,
        )
        for foot, top in zip(feet, tops, strict=False)
        if top - foot >= 3
    ]


def along(scan: Scan) -> tuple[FloatArray, FloatArray]:
    """Potential and current density counted along the scan, so that both rise in a wave."""
    sign = 1.0 if scan.anodic else -1.0
    return sign * scan.potential_V, sign * scan.density_A_m2


def tangent_intercept(forward_V: FloatArray, rise: FloatArray) -> float:
    """Where the tangent at the steepest point meets the level at the foot of the wave."""
    slope = np.gradient(rise, forward_V)
    place = int(np.argmax(slope))
    foot = float(np.median(rise[: max(1, place // 10)]))
    steepest = float(slope[place])
    return float(forward_V[place] - (rise[place] - foot) / steepest) if steepest > 0 else np.nan


def _foot(values: FloatArray, one: int, other: int) -> int:
    return one + int(np.argmin(values[one : other + 1]))


def _even(x: FloatArray, y: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """On an even grid, smoothed by a Gaussian."""
    rising = np.maximum.accumulate(x)
    keep = np.concatenate(([True], np.diff(rising) > 0))
    step = min(width / 4, float(np.ptp(x)) / 50)
    grid = np.arange(rising[0], rising[-1] + step / 2, step)
    values = np.interp(grid, rising[keep], y[keep])
    reach = min(int(4 * width / step), len(grid) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    padded = np.pad(values, reach, mode="reflect", reflect_type="odd")
    return grid, np.convolve(padded, kernel / kernel.sum(), "valid")


def _scans(dataset: Dataset) -> Iterator[Scan]:
    number = 0
    for step in dataset.steps:
        if step.kind not in {"sweep", "cv", "lsv"}:
            continue
        piece = piece_of(dataset.samples, step)
        for first, end in _legs(piece.voltage_V):
            if end - first >= LEAST_ROWS:
                number += 1
                yield _scan(dataset, piece, slice(first, end), number)


def _legs(voltage_V: FloatArray) -> Iterator[tuple[int, int]]:
    """Stretches between turning points, of at least a fiftieth of the whole range."""
    least_V, first, sign = np.ptp(voltage_V) / 50 if len(voltage_V) else 0.0, 0, 0
    low = high = 0
    for row, value in enumerate(voltage_V.tolist()):
        high = row if value >= voltage_V[high] else high
        low = row if value <= voltage_V[low] else low
        turned = high if sign >= 0 and voltage_V[high] - value > least_V and sign else None
        if sign < 0 and value - voltage_V[low] > least_V:
            turned = low
        if sign == 0 and voltage_V[high] - voltage_V[low] > least_V:
            sign = 1 if high > low else -1
        elif turned is not None:
            yield first, turned + 1
            first, sign, low, high = turned, -sign, row, row
    yield first, len(voltage_V)


def _scan(dataset: Dataset, piece: Piece, rows: slice, number: int) -> Scan:
    voltage_V, time_s = piece.voltage_V[rows], piece.time_s[rows]
    area_m2, shift_V = dataset.geometry.area_m2, dataset.geometry.potential_V(0.0) or 0.0
    charge_C = piece.charge_C[rows]
    return Scan(
        piece.step.path,
        number,
        bool(voltage_V[-1] > voltage_V[0]),
        float(abs(voltage_V[-1] - voltage_V[0]) / (time_s[-1] - time_s[0])),
        voltage_V + shift_V,
        piece.current_A[rows] / area_m2,
        (charge_C - charge_C[0]) / area_m2,
    )
