"""Cyclic voltammetry: waves of every scan with onset and peak, and the charge that passed.

Electrolytes are swept with carbon mixed into the working electrode, or else the little surface
hides their decomposition (Han et al., Adv. Energy Mater. 6 (2016) 1501590). Onsets are tangent
intercepts (see `sweeps`); they depend on scan rate and on the electrode's
surface, so both are reported. Charges are in mAh per cm2 of the working electrode; a decomposition
whose charge shrinks from cycle to cycle passivates.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.dataset import Dataset, Result
from cellbench.analysis.sweeps import Scan, scans, waves


def analyse(dataset: Dataset, *, width_V: float = 0.015, prominence: float = 0.05) -> Result:
    """Waves of all scans.

    Args:
        dataset: a run with voltage sweeps.
        width_V: of the smoothing.
        prominence: of a wave, over the largest current of all scans.

    Raises:
        ValueError: if nothing was swept.
    """
    found = scans(dataset)
    rows = [_row(scan) for scan in found]
    largest = max(float(np.abs(scan.density_A_m2).max()) for scan in found)
    peaks = [row for scan in found for row in _waves(scan, width_V, prominence, largest)]
    cathodic = [row for row in peaks if row["direction"] == "reduction"]
    anodic = [row for row in peaks if row["direction"] == "oxidation"]
    return {
        "scan_rate_mV_s": reported.scaled(float(np.median([s.rate_V_per_s for s in found])), 1e3),
        "area_cm2": reported.scaled(dataset.geometry.area_m2, 1e4),
        "potential_reference": dataset.geometry.reference,
        "reduction_onset_V": cathodic[0]["onset_V"] if cathodic else None,
        "oxidation_onset_V": anodic[0]["onset_V"] if anodic else None,
        "reduction_peak_mA_cm2": reported.smallest(row["peak_mA_cm2"] for row in cathodic),
        "oxidation_peak_mA_cm2": reported.largest(row["peak_mA_cm2"] for row in anodic),
        "first_reduction_charge_mAh_cm2": _first(rows, "cathodic_mAh_cm2"),
        "first_oxidation_charge_mAh_cm2": _first(rows, "anodic_mAh_cm2"),
        "scans": rows,
        "waves": peaks,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The waves of the first scans in lines for people."""
    reference, rate = result["potential_reference"], result["scan_rate_mV_s"]
    lines = [f"{rate:.3g} mV/s   {result['area_cm2']:.3g} cm2   potentials {reference}"]
    for direction in ("reduction", "oxidation"):
        found = [wave for wave in result["waves"] if wave["direction"] == direction]
        first = [wave for wave in found if wave["scan"] == found[0]["scan"]]
        lines += [f"{direction:<13} {_wave(wave)}" for wave in first]
        charge = result[f"first_{direction}_charge_mAh_cm2"]
        if charge is not None:
            lines.append(f"charge        {charge:.3g} mAh/cm2 in the first scan of {direction}")
    return lines


def _wave(wave: Mapping[str, Any]) -> str:
    peak = f"{wave['peak_mA_cm2']:.3g} mA/cm2 at {wave['peak_V']:.3g} V"
    end = ", where the scan ended" if wave["at_edge"] else ""
    return f"from {wave['onset_V']:.3g} V (tangent), peak {peak}{end}"


def _row(scan: Scan) -> Result:
    rises = np.diff(scan.charge_C_m2, prepend=scan.charge_C_m2[:1])
    return {
        "scan": scan.number,
        "step": scan.path,
        "direction": "oxidation" if scan.anodic else "reduction",
        "from_V": reported.number(float(scan.potential_V[0])),
        "to_V": reported.number(float(scan.potential_V[-1])),
        "cathodic_mAh_cm2": reported.milliampere_hour_per_cm2(-float(rises[rises < 0].sum())),
        "anodic_mAh_cm2": reported.milliampere_hour_per_cm2(float(rises[rises > 0].sum())),
        "lowest_mA_cm2": reported.milliampere_per_cm2(float(scan.density_A_m2.min())),
        "highest_mA_cm2": reported.milliampere_per_cm2(float(scan.density_A_m2.max())),
    }


def _waves(scan: Scan, width_V: float, prominence: float, largest: float) -> list[Result]:
    least = prominence * largest
    found = waves(scan, width_V=width_V, prominence=prominence, least_A_m2=least)
    sign = 1.0 if scan.anodic else -1.0
    return [
        {
            "scan": scan.number,
            "direction": "oxidation" if scan.anodic else "reduction",
            "onset_V": reported.number(wave.onset_V),
            "peak_V": reported.number(wave.peak_V),
            "peak_mA_cm2": reported.milliampere_per_cm2(wave.peak_A_m2),
            "at_edge": wave.at_edge,
        }
        for wave in found
        if sign * wave.peak_A_m2 > 0
    ]


def _first(rows: list[Result], key: str) -> float | None:
    """Charge of the first scan in its own direction."""
    direction = "reduction" if key.startswith("cathodic") else "oxidation"
    return next((row[key] for row in rows if row["direction"] == direction), None)
