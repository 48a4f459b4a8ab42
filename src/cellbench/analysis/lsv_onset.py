"""Onset of decomposition from a linear sweep, by tangent intercept or by threshold, as declared.

There is no onset without a definition (Han et al., Adv. Energy Mater. 6 (2016) 1501590, show how
far surface and scan rate move it): the method, its threshold, scan rate and electrode area are
reported beside it. Both numbers are always given; `method` says which one counts. The current
before the onset is a straight baseline, subtracted.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.dataset import Dataset, FloatArray, Result
from cellbench.analysis.sweeps import Scan, along, scans, tangent_intercept

Method = Literal["threshold", "tangent"]


def analyse(
    dataset: Dataset,
    *,
    method: Method = "tangent",
    threshold_mA_cm2: float = 0.01,
    baseline: float = 0.25,
    tangent_at_mA_cm2: float | None = None,
) -> Result:
    """Onset potential of the longest sweep.

    Args:
        dataset: a run with a linear sweep.
        method: which of the two onsets is the result.
        threshold_mA_cm2: current density above the baseline that counts as onset.
        baseline: share of the sweep's range, from its start, that shows the baseline.
        tangent_at_mA_cm2: where the tangent is laid; by default at the steepest point, which on
            a current that grows exponentially and is limited by nothing is the sweep's end.

    Raises:
        ValueError: if nothing was swept.
    """
    scan = max(scans(dataset), key=lambda one: float(np.ptp(one.potential_V)))
    forward_V, rise = along(scan)
    net, noise = _above_baseline(forward_V, rise, baseline)
    sign = 1.0 if scan.anodic else -1.0
    by_threshold = _crossing(forward_V, net, max(threshold_mA_cm2 * 10, 5 * noise))
    by_tangent = None
    if by_threshold is not None:  # without a current above the threshold there is nothing to touch
        by_tangent = _tangent(forward_V, net, tangent_at_mA_cm2)
    chosen = by_threshold if method == "threshold" else by_tangent
    found = {"by_threshold": by_threshold, "by_tangent": by_tangent, "potential": chosen}
    return {
        **{f"onset_{k}_V": reported.number(None if v is None else sign * v)
           for k, v in found.items()},
        "method": method,
        "threshold_mA_cm2": threshold_mA_cm2,
        "noise_mA_cm2": reported.milliampere_per_cm2(noise),
        "direction": "oxidation" if scan.anodic else "reduction",
        "swept_to_V": reported.number(float(scan.potential_V[-1])),
        "current_at_end_mA_cm2": reported.milliampere_per_cm2(float(scan.density_A_m2[-1])),
        "scan_rate_mV_s": reported.scaled(scan.rate_V_per_s, 1e3),
        "area_cm2": reported.scaled(dataset.geometry.area_m2, 1e4),
        "potential_reference": dataset.geometry.reference,
    }  # fmt: skip


def describe(result: Mapping[str, Any]) -> list[str]:
    """The onset and its definition in lines for people."""
    reference = result["potential_reference"]
    onset = result["onset_potential_V"]
    value = f"{onset:.3g} V" if onset is not None else f"none up to {result['swept_to_V']:.3g} V"
    by = (
        f"current density above {result['threshold_mA_cm2']:g} mA/cm2"
        if result["method"] == "threshold"
        else "tangent intercept"
    )
    return [
        f"onset         {value} {reference} ({result['direction']}, {by})",
        f"conditions    {result['scan_rate_mV_s']:.3g} mV/s on {result['area_cm2']:.3g} cm2",
    ]


def _above_baseline(
    forward_V: FloatArray, rise: FloatArray, share: float
) -> tuple[FloatArray, float]:
    """Current above the straight line through the beginning; its scatter there."""
    early = forward_V <= forward_V[0] + share * (forward_V[-1] - forward_V[0])
    if np.count_nonzero(early) < 3:
        return rise, 0.0
    line = np.polynomial.Polynomial.fit(forward_V[early], rise[early], 1)
    net = rise - line(forward_V)
    return net, float(1.4826 * np.median(np.abs(net[early])))


def _crossing(forward_V: FloatArray, net: FloatArray, level: float) -> float | None:
    """Where the current passes a level for good, between two rows."""
    below = np.flatnonzero(net < level)
    if not len(below) or below[-1] == len(net) - 1:
        return None
    row = int(below[-1])
    low, high = net[row], net[row + 1]
    share = (level - low) / (high - low) if high > low else 0.0
    return float(forward_V[row] + share * (forward_V[row + 1] - forward_V[row]))


def _tangent(forward_V: FloatArray, net: FloatArray, at_mA_cm2: float | None) -> float | None:
    if at_mA_cm2 is not None:
        place = _crossing(forward_V, net, at_mA_cm2 * 10)
        if place is None:
            return None
        upto = forward_V <= place + (forward_V[-1] - forward_V[0]) / 100
        forward_V, net = forward_V[upto], net[upto]
    width = max(3, len(net) // 100)
    kernel = np.ones(width) / width
    smooth_V, smooth = (np.convolve(x, kernel, "valid") for x in (forward_V, net))
    rising = np.concatenate(([True], np.diff(smooth_V) > 0))
    found = tangent_intercept(smooth_V[rising], smooth[rising])
    return found if np.isfinite(found) else None


def scan_of(dataset: Dataset) -> Scan:
    """The sweep that the onset is read from, for a plot.

    Raises:
        ValueError: if nothing was swept.
    """
    return max(scans(dataset), key=lambda one: float(np.ptp(one.potential_V)))
