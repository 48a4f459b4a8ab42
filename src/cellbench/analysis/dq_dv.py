"""Incremental capacity dQ/dV of every half-cycle, with its peaks followed from cycle to cycle.

Charge is read as a function of voltage on an even grid, smoothed by a Gaussian of stated width, and
differentiated (Bloom et al., J. Power Sources 139 (2005) 295; smoothing as in Dubarry and Anseán,
Front. Energy Res. 10 (2022) 1023555). Holds are left out. Peaks are maxima that stand out by a
share of the largest; one of a later cycle at the same current continues the nearest one before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.cycles import Cycle, HalfCycle, cycles, most_alike, rate_C, rate_text
from cellbench.analysis.dataset import Dataset, FloatArray, Result

_LEAST_ROWS = 20
_KERNEL_SIGMAS = 4


@dataclass(frozen=True, eq=False)
class Curve:
    """dQ/dV of one half-cycle: potentials in V, values in mAh/g/V (mAh/cm2/V without a loading)."""

    cycle: int
    direction: str
    potential_V: FloatArray
    value: FloatArray


def analyse(
    dataset: Dataset,
    *,
    step_V: float = 2e-3,
    width_V: float = 8e-3,
    prominence: float = 0.08,
    reach_V: float = 0.05,
) -> Result:
    """Peaks of dQ/dV per half-cycle and their shift over the cycles.

    Args:
        dataset: a run with charges or discharges.
        step_V: of the grid of voltages.
        width_V: standard deviation of the smoothing; peaks closer than twice that are one.
        prominence: of a peak, over the largest value of its curve.
        reach_V: how far a peak may move from one cycle to the next.

    Raises:
        ValueError: if no half-cycle spans enough voltages.
    """
    found = curves(dataset, step_V=step_V, width_V=width_V)
    if not found:
        raise ValueError("No dQ/dV: no half-cycle spans a range of voltages.")
    rows = [row for curve in found for row in _peaks(curve, prominence, width_V / step_V)]
    alike = most_alike(cycles(dataset), _set_A)  # peaks move with the current
    numbers = {cycle.number for cycle in alike}
    tracks = _tracks([row for row in rows if row["cycle"] in numbers], reach_V)
    return {
        "unit": unit(dataset),
        "potential_reference": dataset.geometry.reference,
        "smoothing_mV": reported.scaled(width_V, 1e3),
        "rate_C": reported.number(rate_C(dataset, _set_A(alike[0]))),
        "tracks": tracks,
        "peaks": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """Peaks of the first cycle, and how far they moved, in lines for people."""
    lines = []
    for track in result["tracks"]:
        moved = ""
        if track["cycles"] > 1:
            shift, height = track["shift_mV"], track["height_percent"]
            moved = f", moved {shift:+.3g} mV by cycle {track['last_cycle']}, height {height:.3g} %"
        lines.append(f"{track['direction']:<13} {track['first_potential_V']:.3f} V{moved}")
    rate = f"{rate_text(result['rate_C'])}, " if result["rate_C"] else ""
    reference = result["potential_reference"]
    lines.append(f"conditions    {rate}{reference}, smoothed by {result['smoothing_mV']:g} mV")
    return lines


def unit(dataset: Dataset) -> str:
    """Unit of the values."""
    return "mAh/g/V" if dataset.geometry.active_mass_kg else "mAh/cm2/V"


def curves(dataset: Dataset, *, step_V: float = 2e-3, width_V: float = 8e-3) -> list[Curve]:
    """dQ/dV of every half-cycle of the run that spans enough voltages.

    Raises:
        ValueError: if no charge passed.
    """
    mass_kg = dataset.geometry.active_mass_kg
    per = 3600 * mass_kg if mass_kg else 3.6e4 * dataset.geometry.area_m2
    found = []
    for cycle in cycles(dataset):
        for half in (cycle.first, cycle.second):
            made = _curve(half, step_V, width_V) if half else None
            if half and made:
                shift_V = dataset.geometry.potential_V(0.0) or 0.0
                curve = Curve(cycle.number, half.direction, made[0] + shift_V, made[1] / per)
                found.append(curve)
    return found


def _curve(half: HalfCycle, step_V: float, width_V: float) -> tuple[FloatArray, FloatArray] | None:
    """Voltages (V) and |dQ/dV| (C/V) of one half-cycle, ascending."""
    voltage_V, charge_C = half.driven()
    if len(voltage_V) < _LEAST_ROWS or np.ptp(voltage_V) < 10 * width_V:
        return None
    sign = 1.0 if voltage_V[-1] >= voltage_V[0] else -1.0
    # Noise makes the voltage step back now and then: charge belongs to the highest one so far.
    rising_V = np.maximum.accumulate(sign * voltage_V)
    keep = np.concatenate((np.diff(rising_V) > 0, [True]))
    rising_V, charge_C = rising_V[keep], charge_C[keep]
    grid_V = np.arange(rising_V[0], rising_V[-1], step_V)
    if len(grid_V) < _LEAST_ROWS:
        return None
    slope = np.gradient(_smooth(np.interp(grid_V, rising_V, charge_C), width_V / step_V), step_V)
    return (grid_V, slope) if sign > 0 else (-grid_V[::-1], slope[::-1])


def _smooth(values: FloatArray, sigma: float) -> FloatArray:
    """Gaussian smoothing, continued at both ends by its mirror image through the end point."""
    reach = min(int(_KERNEL_SIGMAS * sigma) + 1, len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    before, after = (
        2 * values[0] - values[reach:0:-1],
        2 * values[-1] - values[-2 : -reach - 2 : -1],
    )
    padded = np.concatenate((before, values, after))
    return np.convolve(padded, kernel / kernel.sum(), "valid")


def _peaks(curve: Curve, prominence: float, sigma_rows: float) -> list[Result]:
    from scipy.signal import find_peaks  # noqa: PLC0415 - slow to import

    least = prominence * float(np.max(curve.value))
    places, facts = find_peaks(
        curve.value, prominence=least, distance=max(1.0, 2 * sigma_rows), width=1
    )
    return [
        {
            "cycle": curve.cycle,
            "direction": curve.direction,
            "potential_V": reported.number(_vertex(curve, int(place))),
            "height": reported.number(float(curve.value[place])),
            "width_mV": reported.number(
                1e3 * float(wide) * float(curve.potential_V[1] - curve.potential_V[0])
            ),
        }
        for place, wide in zip(places, facts["widths"], strict=True)
    ]


def _vertex(curve: Curve, place: int) -> float:
    """Top of the parabola through a maximum and its neighbours."""
    below, top, above = curve.value[place - 1 : place + 2]
    bend = below - 2 * top + above
    shift = 0.5 * (below - above) / bend if bend else 0.0
    return float(curve.potential_V[place] + shift * (curve.potential_V[1] - curve.potential_V[0]))


def _tracks(rows: Sequence[Result], reach_V: float) -> list[Result]:
    """Peaks of the same direction joined from cycle to cycle; lone late ones are left out."""
    chains: list[list[Result]] = []
    for row in rows:
        near = [
            chain
            for chain in chains
            if chain[-1]["direction"] == row["direction"]
            and chain[-1]["cycle"] < row["cycle"]
            and abs(chain[-1]["potential_V"] - row["potential_V"]) <= reach_V
        ]
        if near:
            away = lambda chain: abs(chain[-1]["potential_V"] - row["potential_V"])  # noqa: B023, E731
            min(near, key=away).append(row)
        else:
            chains.append([row])
    first = min((row["cycle"] for row in rows), default=0)
    return [_track(chain) for chain in chains if len(chain) > 1 or chain[0]["cycle"] == first]


def _track(chain: Sequence[Result]) -> Result:
    begin, end = chain[0], chain[-1]
    return {
        "direction": begin["direction"],
        "first_cycle": begin["cycle"],
        "last_cycle": end["cycle"],
        "cycles": len(chain),
        "first_potential_V": begin["potential_V"],
        "last_potential_V": end["potential_V"],
        "shift_mV": reported.number(1e3 * (end["potential_V"] - begin["potential_V"])),
        "height_percent": reported.percent(end["height"] / begin["height"]),
    }


def _set_A(cycle: Cycle) -> float | None:
    half = cycle.first or cycle.second
    return half.set_A if half else None
