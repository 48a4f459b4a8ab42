"""Growth of a cell's resistance over time, cycles or cut-off, reversible and lasting parts apart.

Charge transfer soars while a cathode is nearly empty of lithium and falls back on discharge; only
what is left at the discharged state is damage. So each spectrum is given the state of the cell
(fresh, charged, discharged) from the half-cycle before it, and lasting growth = last discharged -
first discharged (or fresh) before the highest charged one, reversible = highest charged - last
discharged. Growth in time follows R = R0 + k t^n, with n = 1/2 for an interphase that diffusion
limits and 1 for one that does not passivate (Broussely et al., J. Power Sources 97-98 (2001) 13). A
series that is flat at first has an onset, where a hinge explains it better. An arc whose top lies
below the lowest frequency is an extrapolation: its 95 % interval is given. |Z| at the lowest
frequency is told too, and is no interface: it holds the tail of diffusion.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.cycles import half_cycles
from cellbench.analysis.dataset import Dataset, FloatArray, Result, Spectrum
from cellbench.analysis.equivalents import Equivalent, followed
from cellbench.analysis.regression import line, t_quantile

Part = Literal["interface", "slowest", "total"]
_PARTS = {"interface": "R_interface_ohm", "slowest": "R_slowest_ohm", "total": "R_total_ohm"}
_HINGES = (0.5, 0.75, 1.0)  # exponents after an onset
_EXPONENTS = np.arange(0.1, 3.001, 0.01)
_MARGIN = 6.0  # in BIC: "strong" evidence for the hinge
_LEAST_POINTS = 5
_GROWTH = ("exponent", "exponent_interval", "onset_h", "growth_percent")
_STEADY_ELECTROLYTE = 1.3  # in a series of one state; a temperature that moves does more


def analyse(dataset: Dataset, *, part: Part = "interface") -> Result:
    """Resistances of every spectrum with the state of the cell, and their growth.

    Args:
        dataset: a run with spectra.
        part: what grows: all "interface" arcs together, the "slowest" one of them (the charge
            transfer), or the "total" without diffusion. Where the fits do not tell electrolyte
            and interfaces apart all along the series, or blocking electrodes have no interface,
            it is the total, and the result says so.

    Raises:
        ValueError: if no spectrum is long enough to be fitted.
    """
    spectra = sorted(dataset.spectra, key=lambda one: one.time_s)
    fits = followed(spectra, dataset.geometry.layout)
    rows = [
        _row(dataset, spectrum, found)
        for spectrum, found in zip(spectra, fits, strict=True)
        if found is not None
    ]
    if not rows:
        raise ValueError("No resistance growth without a spectrum.")
    series = _series(rows, _PARTS[part])
    if dataset.geometry.layout == "blocking" or not _is_told_apart(series):
        part, series = "total", _series(rows, _PARTS["total"])
    key = _PARTS[part]
    return {
        "part": part,
        "first_ohm": rows[0][key],
        "last_ohm": rows[-1][key],
        "highest_ohm": reported.largest(row[key] for row in rows),
        "lowest_ohm": reported.smallest(row[key] for row in rows),
        **_beyond_the_band(rows, key),
        "area_cm2": reported.scaled(dataset.geometry.area_m2, 1e4),
        **_parts(dataset, rows, key),
        "series_state": series[0]["state"] if series else None,
        **_growth_or_break(rows, series, key),
        "potential_reference": dataset.geometry.reference,
        "spectra": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The growth in lines for people."""
    low, high = result["lowest_ohm"], result["highest_ohm"]
    if high is None:
        return [f"resistance    the {result['part']} has no arc of its own"]
    area = result["area_cm2"]
    lines = [
        f"{result['part']:<13} {reported.plain(low)} to {reported.plain(high)} Ω "
        f"({reported.plain(low * area)} to {reported.plain(high * area)} Ω cm2) "
        f"in {len(result['spectra'])} spectra"
    ]
    if result["extrapolated_low_ohm"] is not None:
        low, high = result["extrapolated_low_ohm"], result["extrapolated_high_ohm"]
        interval = f"{reported.plain(low)} to {reported.plain(high)} Ω (95 %)"
        lines.append(f"extrapolated  the top of the highest arc is below the band: {interval}")
    if result["exponent"] is not None:
        lines.append(f"growth        t^{_with(result['exponent'], result['exponent_interval'])}")
    if result["onset_h"] is not None:
        lines.append(f"onset         after {result['onset_h']:.3g} h")
    if result["break_potential_V"] is not None:
        at = f"{result['break_potential_V']:.3g} V {result['potential_reference']}"
        lines.append(f"break         at an upper cut-off of {at}")
    if result["lasting_ohm"] is not None:
        lines.append(f"lasting       {result['lasting_ohm']:+.4g} Ω at the discharged state")
    if result["reversible_ohm"] is not None:
        lines.append(
            f"reversible    {reported.plain(result['reversible_ohm'])} Ω gone after discharge"
        )
    return lines


def _with(value: float, half_width: float | None) -> str:
    return f"{value:.2f}" if half_width is None else f"{value:.2f} ± {half_width:.2f}"


def _row(dataset: Dataset, spectrum: Spectrum, found: Equivalent) -> Result:
    fit, arcs = found.fit, found.interface
    slowest = min(arcs, key=fit.top_Hz, default=None)
    interface_ohm = fit.resistance_ohm(*arcs) if arcs else None
    whole = (*found.electrolyte, *arcs)
    below = slowest is not None and fit.top_Hz(slowest) < float(fit.frequency_Hz.min())
    frequency_Hz, impedance_ohm = spectrum.descending()
    return {
        "step": spectrum.step,
        "time_h": reported.number(spectrum.time_s / 3600),
        "state": _state(dataset, spectrum),
        "potential_V": reported.number(dataset.geometry.potential_V(spectrum.bias_V)),
        "reached_V": reported.number(_reached_V(dataset, spectrum)),
        "R_electrolyte_ohm": reported.number(fit.resistance_ohm(*found.electrolyte)),
        "R_interface_ohm": reported.number(interface_ohm),
        "R_interface_uncertainty_ohm": reported.number(fit.uncertainty_ohm(*arcs)),
        "ASR_interface_ohm_cm2": reported.ohm_cm2(
            None if interface_ohm is None else interface_ohm * dataset.geometry.area_m2
        ),
        "R_slowest_ohm": reported.number(fit.resistance_ohm(slowest) if slowest else None),
        **_interval(found, slowest),
        "slowest_top_Hz": reported.number(fit.top_Hz(slowest) if slowest else None),
        "extrapolated": below,
        "lowest_Hz": reported.number(frequency_Hz[-1]),
        "Z_lowest_ohm": reported.number(abs(impedance_ohm[-1])),
        "R_total_ohm": reported.number(fit.resistance_ohm(*whole)),
        "R_total_uncertainty_ohm": reported.number(fit.uncertainty_ohm(*whole)),
        "fit_residual_percent": reported.percent(fit.rms),
    }


def _interval(found: Equivalent, slowest: str | None) -> Result:
    """95 % interval of the slowest arc, in its logarithm: an extrapolated arc is lopsided."""
    low = high = None
    if slowest is not None:
        ohm, error_ohm = found.fit.resistance_ohm(slowest), found.fit.uncertainty_ohm(slowest)
        factor = float(np.exp(min(1.96 * error_ohm / ohm, 50.0)))
        low, high = ohm / factor, ohm * factor
    return {"R_slowest_low_ohm": reported.number(low), "R_slowest_high_ohm": reported.number(high)}


def _state(dataset: Dataset, spectrum: Spectrum) -> str:
    before = [half for half in half_cycles(dataset) if half.start_s < spectrum.time_s]
    if not before:
        return "fresh"
    # Between the pieces of a half-cycle the cell is somewhere in between; a hold at the end is not.
    last = before[-1]
    if any(piece.step.end_s > spectrum.time_s + 1 for piece in last.pieces if not piece.held):
        return f"during {last.direction}"
    return "charged" if last.direction == "charge" else "discharged"


def _reached_V(dataset: Dataset, spectrum: Spectrum) -> float | None:
    """The highest potential in the charge before a spectrum: the cut-off that it stands for."""
    charges = [
        half
        for half in half_cycles(dataset)
        if half.direction == "charge" and half.start_s < spectrum.time_s and len(half.time_s)
    ]
    if not charges:
        return None
    reached_V = charges[-1].voltage_V[charges[-1].time_s <= spectrum.time_s]
    return dataset.geometry.potential_V(float(reached_V.max())) if len(reached_V) else None


def _parts(dataset: Dataset, rows: Sequence[Result], key: str) -> Result:
    low = [row for row in rows if row["state"] == "discharged" and row[key] is not None]
    fresh = [row for row in rows if row["state"] == "fresh" and row[key] is not None]
    high = [row for row in rows if row["state"] in {"charged", "during charge"} and row[key]]
    highest = max(high, key=lambda row: float(row[key]), default=None)
    # What a charge has done is judged against a spectrum from before it.
    earlier = [row for row in low[:-1] if highest is None or row["time_h"] < highest["time_h"]]
    reference = next(iter([*earlier[:1], *fresh[-1:]]), None)
    lasting = low[-1][key] - reference[key] if low and reference else None
    reversible = highest[key] - low[-1][key] if low and highest else None
    area_m2 = dataset.geometry.area_m2
    return {
        "lasting_ohm": reported.number(lasting),
        "lasting_ohm_cm2": reported.ohm_cm2(None if lasting is None else lasting * area_m2),
        "reversible_ohm": reported.number(reversible),
        "lasting_against": reference["step"] if low and reference else None,
    }


def _beyond_the_band(rows: Sequence[Result], key: str) -> Result:
    """The interval of the slowest arc where the highest resistance is extrapolated, else None."""
    highest = max(
        (row for row in rows if row[key] is not None), key=lambda row: float(row[key]), default=None
    )
    told = highest is not None and highest["extrapolated"]
    return {
        "extrapolated_low_ohm": highest["R_slowest_low_ohm"] if highest and told else None,
        "extrapolated_high_ohm": highest["R_slowest_high_ohm"] if highest and told else None,
    }


def _series(rows: Sequence[Result], key: str) -> list[Result]:
    """The rows that belong together: all of one state, of the state that has most of them."""
    groups: dict[str, list[Result]] = {}
    for row in rows:
        if row[key] is not None:
            groups.setdefault(row["state"], []).append(row)
    return max(groups.values(), key=len, default=[])


def _growth_or_break(rows: Sequence[Result], series: Sequence[Result], key: str) -> Result:
    """A ladder of cut-offs grows with the cut-off, and its exponent in time means nothing."""
    found = _break(rows, key)
    if found["break_potential_V"] is None:
        return _growth(series, key) | found
    return dict.fromkeys(_GROWTH) | found


def _is_told_apart(series: Sequence[Result]) -> bool:
    """Whether the electrolyte stays what it was; else its arcs go by other names now and then."""
    ohms = [row["R_electrolyte_ohm"] for row in series]
    return not ohms or max(ohms) < _STEADY_ELECTROLYTE * min(ohms)


def _growth(series: Sequence[Result], key: str) -> Result:
    nothing: Result = dict.fromkeys(_GROWTH)
    if len(series) < _LEAST_POINTS:
        return nothing
    time_h = np.array([row["time_h"] for row in series])
    ohm = np.array([row[key] for row in series])
    grown = float(ohm[-1] / ohm[0] - 1)
    nothing["growth_percent"] = reported.percent(grown)
    exponent, half_width, power_square = _power(time_h - time_h[0], ohm)
    onset_h, hinge_square = _hinge(time_h, ohm)
    count = len(ohm)
    margin = count * np.log(max(power_square, 1e-30) / max(hinge_square, 1e-30))
    has_onset = margin > _MARGIN and time_h[2] <= onset_h <= time_h[-2]
    if not _is_above_scatter(ohm):
        return nothing
    if has_onset:
        return nothing | {"onset_h": reported.number(onset_h)}
    return nothing | {
        "exponent": reported.number(exponent),
        "exponent_interval": reported.number(half_width),
    }


def _is_above_scatter(ohm: FloatArray) -> bool:
    """Whether the change over the series stands out of what neighbours differ by."""
    scatter = float(np.median(np.abs(np.diff(ohm, 2)))) / np.sqrt(6) * 1.4826
    return bool(abs(np.median(ohm[-3:]) - np.median(ohm[:3])) > 5 * scatter)


def _power(time_h: FloatArray, ohm: FloatArray) -> tuple[float, float | None, float]:
    """Exponent of R0 + k t^n with its 95 % half-width, and the sum of squares left."""
    squares = np.array([_left(time_h**n, ohm) for n in _EXPONENTS])
    best = int(np.argmin(squares))
    degrees = len(ohm) - 3
    if degrees < 1:
        return float(_EXPONENTS[best]), None, float(squares[best])
    # Profile likelihood: all exponents whose misfit the data do not tell from the best one.
    limit = squares[best] * (1 + t_quantile(degrees) ** 2 / degrees)
    inside = _EXPONENTS[squares <= limit]
    return float(_EXPONENTS[best]), float(np.ptp(inside)) / 2, float(squares[best])


def _left(x: FloatArray, y: FloatArray) -> float:
    residuals = line(x, y).residuals if np.ptp(x) > 0 else y - y.mean()
    return float(residuals @ residuals)


def _hinge(
    x: FloatArray, y: FloatArray, exponents: Sequence[float] = _HINGES
) -> tuple[float, float]:
    """Where a flat line begins to rise, by a power that does not accelerate; squares it leaves."""
    places = np.linspace(x[0], x[-1], 201)[1:-1].tolist()
    squares = {
        (place, n): _left(np.maximum(x - place, 0.0) ** n, y) for place in places for n in exponents
    }
    best = min(squares, key=lambda one: squares[one])
    return best[0], squares[best]


def _break(rows: Sequence[Result], key: str) -> Result:
    """Upper cut-off above which the resistance rises, from a ladder of cut-offs."""
    known = [row for row in rows if row["reached_V"] is not None and row[key] is not None]
    known = [row for row in known if not row["state"].startswith("during")]
    known = [row for row in known if row["state"] == _most_common([r["state"] for r in known])]
    reached_V = np.array([row["reached_V"] for row in known])
    if len(known) < _LEAST_POINTS or np.ptp(reached_V) < 0.2:
        return {"break_potential_V": None}
    ohm = np.array([row[key] for row in known])
    order = np.argsort(reached_V)
    place, square = _hinge(reached_V[order], np.log(ohm[order]), (1.0,))
    straight = _left(reached_V[order], np.log(ohm[order]))
    rises = float(ohm[order][-1]) > 1.2 * float(ohm[order][0])
    found = rises and square < straight
    return {"break_potential_V": reported.number(place) if found else None}


def _most_common(states: Sequence[str]) -> str | None:
    return max(states, key=states.count, default=None)
