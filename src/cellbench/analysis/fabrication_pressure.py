"""What pressing does to a pellet: how far it densifies, and where it cracks.

After each pressing the resistance is measured at one low pressure, so that only what stays is seen:
a pellet remembers the highest pressure. Densification lowers bulk and grain boundaries together,
cracks add to what spectra show as boundaries alone (on telling them from bulk: Irvine, Sinclair,
West, Adv. Mater. 2 (1990) 132); so their ratio tells the one from the other, whatever has become of
the thickness. A ratio that falls is no crack: it sinters, or warms.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellbench.analysis import conductivity, reported
from cellbench.analysis.dataset import Dataset, Result

_SIGMA = 5.0


def analyse(dataset: Dataset, *, rise: float = 0.08) -> Result:
    """Resistance after each pressing, where it is lowest, and where the pellet cracks.

    Args:
        dataset: a run with a spectrum after each of several pressings, each higher than the last.
        rise: fraction by which boundary over bulk has to exceed that of the pressings before for
            a crack; also five standard errors of the fits.

    Raises:
        ValueError: as `conductivity.analyse`, and if there are fewer than two pressings.
    """
    rows = _rows(dataset)
    if len(rows) < 2:
        raise ValueError("No fabrication pressure: it takes spectra after two pressings or more.")
    cracked = _cracked(rows, rise)
    lowest = min(rows, key=_total_ohm)
    return {
        "lowest_at_MPa": lowest["pressed_MPa"],
        "lowest_ohm_cm2": lowest["R_total_ohm_cm2"],
        "first_over_lowest": reported.number(_total_ohm(rows[0]) / _total_ohm(lowest)),
        "cracked_at_MPa": None if cracked is None else rows[cracked]["pressed_MPa"],
        "whole_until_MPa": rows[-1 if cracked is None else cracked - 1]["pressed_MPa"],
        "gain_after_crack": _gain(rows, cracked),
        "pressings": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The ladder in lines for people."""
    lines = [
        f"{row['pressed_MPa']:<7.4g}MPa    {row['R_total_ohm_cm2']:.4g} Ω cm2{_ratio(row)}"
        for row in result["pressings"]
    ]
    lines.append(
        f"lowest        after {result['lowest_at_MPa']:.4g} MPa, "
        f"{result['first_over_lowest']:.2f} times below the first"
    )
    if result["cracked_at_MPa"] is None:
        return [*lines, f"whole         up to {result['whole_until_MPa']:.4g} MPa"]
    lines.append(
        f"cracks        at {result['cracked_at_MPa']:.4g} MPa, whole until "
        f"{result['whole_until_MPa']:.4g} MPa"
    )
    gain = result["gain_after_crack"]
    return lines if gain is None else [*lines, f"then gains    {gain:.2f} times by more pressure"]


def _ratio(row: Mapping[str, Any]) -> str:
    ratio = row["boundary_over_bulk"]
    return "" if ratio is None else f", boundaries {ratio:.2f} of bulk"


def _rows(dataset: Dataset) -> list[Result]:
    """One row per pressing: of several spectra the last, when the pellet has relaxed."""
    by_pressing: dict[float, Result] = {}
    for spectrum in conductivity.analyse(dataset)["spectra"]:
        pressed_MPa = spectrum["highest_pressure_MPa"]
        if pressed_MPa is not None:
            by_pressing[pressed_MPa] = _row(dataset, spectrum)
    return [by_pressing[pressed_MPa] for pressed_MPa in sorted(by_pressing)]


def _row(dataset: Dataset, spectrum: Mapping[str, Any]) -> Result:
    area_m2 = dataset.geometry.electrolyte_area_m2 or dataset.geometry.area_m2
    bulk, boundary = (_with_error(spectrum, name) for name in ("bulk", "grain_boundary"))
    ratio = error = None
    if bulk and boundary:
        ratio = boundary[0] / bulk[0]
        error = ratio * float(np.hypot(bulk[1] / bulk[0], boundary[1] / boundary[0]))
    return {
        "step": spectrum["step"],
        "pressed_MPa": spectrum["highest_pressure_MPa"],
        "measured_at_MPa": spectrum["stack_pressure_MPa"],
        "R_total_ohm_cm2": reported.ohm_cm2(spectrum["R_total_ohm"] * area_m2),
        "boundary_over_bulk": reported.number(ratio),
        "boundary_over_bulk_uncertainty": reported.number(error),
    }


def _with_error(spectrum: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    ohm = spectrum[f"R_{name}_ohm"]
    return None if not ohm else (ohm, spectrum[f"R_{name}_uncertainty_ohm"] or 0.0)


def _cracked(rows: Sequence[Result], rise: float) -> int | None:
    """Index of the first pressing after which the boundaries stand out of those before."""
    for index in range(1, len(rows)):
        ratio, error = (
            rows[index]["boundary_over_bulk"],
            rows[index]["boundary_over_bulk_uncertainty"],
        )
        before = [r["boundary_over_bulk"] for r in rows[:index] if r["boundary_over_bulk"]]
        if ratio is None or not before:
            continue
        usual = float(np.median(before))
        if ratio - usual > max(rise * usual, _SIGMA * error):
            return index
    return None


def _gain(rows: Sequence[Result], cracked: int | None) -> float | None:
    """Resistance at the crack over the lowest after it, None where nothing was pressed higher."""
    if cracked is None or cracked + 1 == len(rows):
        return None
    return reported.number(
        _total_ohm(rows[cracked]) / min(_total_ohm(row) for row in rows[cracked + 1 :])
    )


def _total_ohm(row: Result) -> float:
    return float(row["R_total_ohm_cm2"])
