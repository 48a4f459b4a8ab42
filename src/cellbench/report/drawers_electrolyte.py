"""The plots of electrolytes: conductivities, spectra without a circuit, sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from cellbench.analysis import lsv_onset
from cellbench.analysis.arrhenius import Form, line_points
from cellbench.analysis.cycles import Piece, piece_of
from cellbench.analysis.dataset import Dataset, Result
from cellbench.analysis.kramers_kronig import LEAST_POINTS, kramers_kronig
from cellbench.analysis.regression import line
from cellbench.analysis.sweeps import Scan, scans
from cellbench.report.curves import (
    Axis,
    Curve,
    Plot,
    column,
    place,
    potential_axis,
    spread,
    thin,
)
from cellbench.report.spectra import colours

Rows: TypeAlias = Sequence[Mapping[str, Any]]
_CONDUCTIVITY = Axis("conductivity", "mS/cm", from_zero=True)
#: What conductivities stand against: key, axis, by how much of the largest value it has to vary.
_AGAINST = (
    ("highest_pressure_MPa", Axis("pressed with", "MPa", from_zero=True), 0.05),
    ("temperature_degC", Axis("temperature", "°C"), 0.1),
    ("time_h", Axis("time", "h", from_zero=True), 0.0),
)

_POINTS: Any = "points"
_HOLLOW: Any = "hollow"


# --- Conductivity -------------------------------------------------------------------------------


def conductivities(_: Dataset, result: Result) -> Iterable[Plot]:
    """Conductivity against what varies between the spectra: pressure, temperature, else time."""
    rows = result["spectra"]
    if len(rows) < 2:
        return
    key, axis = next((key, axis) for key, axis, share in _AGAINST if _varies(rows, key, share))
    errors = column(rows, "conductivity_uncertainty_mS_cm")
    values = column(rows, "conductivity_mS_cm")
    yield Plot("Conductivity", axis, _CONDUCTIVITY,
               [Curve("", column(rows, key), values, "both", errors=errors)])  # fmt: skip


def _varies(rows: Rows, key: str, share: float) -> bool:
    values = [row[key] for row in rows]
    return None not in values and max(values) - min(values) >= share * max(values)


_SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
_FORMS: tuple[tuple[str, Axis, str, Form], ...] = (
    (f"Arrhenius, {_SIGMA}", Axis(f"conductivity {_SIGMA}", "mS/cm", log=True),
     "conductivity_mS_cm", "sigma"),
    (f"Arrhenius, {_SIGMA}T", Axis(f"{_SIGMA}T", "S K/cm", log=True), "sigma_T_S_K_cm", "sigma_T"),
)  # fmt: skip


def arrhenius(_: Dataset, result: Result) -> Iterable[Plot]:
    """Both forms of the conductivity against inverse temperature, with the fitted lines."""
    rows = result["spectra"]
    inverse = column(rows, "inverse_temperature_1000_per_K")
    celsius = sorted({round(row["temperature_degC"]) for row in rows})[:: max(1, len(rows) // 7)]
    top = (
        "temperature / °C",
        [1000 / (one + 273.15) for one in celsius],
        [f"{one:g}" for one in celsius],
    )
    for title, axis, key, form in _FORMS:
        energy, half_width = result[f"Ea_{form}_eV"], result[f"Ea_{form}_interval_eV"]
        interval = "" if half_width is None else f" ± {half_width:.3f}"
        errors = column(rows, "conductivity_uncertainty_mS_cm") if form == "sigma" else None
        yield Plot(
            title,
            Axis("1000 / T", "1/K"),
            axis,
            [
                Curve("measured", inverse, column(rows, key), "points", errors=errors),
                Curve(f"fit: Ea = {energy:.3f}{interval} eV", *line_points(result, form), "dashed"),
            ],
            top=top,
        )


# --- Electronic conductivity --------------------------------------------------------------------


def pressings(_: Dataset, result: Result) -> Iterable[Plot]:
    """Resistance against fabrication pressure, and where the pellet has cracked."""
    rows, cracked_MPa = result["pressings"], result["cracked_at_MPa"]
    damaged = [cracked_MPa is not None and row["pressed_MPa"] >= cracked_MPa for row in rows]
    yield Plot(
        "Fabrication pressure",
        Axis("pressed with", "MPa"),
        Axis("resistance at the measuring pressure", "Ω cm²", log=True),
        [
            Curve(name, [row["pressed_MPa"] for row in chosen],
                  [row["R_total_ohm_cm2"] for row in chosen], mark)
            for name, mark, chosen in (
                ("whole", _POINTS, [r for r, bad in zip(rows, damaged, strict=True) if not bad]),
                ("cracked", _HOLLOW, [r for r, bad in zip(rows, damaged, strict=True) if bad]),
            )
            if chosen
        ],
    )  # fmt: skip


def electronic(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """Steady currents against voltage with their slope, and how they became steady."""
    rows: Rows = result["steps"]
    yield Plot(
        "Current at the end of each step",
        Axis("voltage", "V", from_zero=True),
        Axis("current", "nA", from_zero=True),
        [
            *(_steady(rows, name, steady, mark) for name, steady, mark in _STEADY),
            *([] if result["is_upper_bound"] else [_slope(rows)]),
        ],
    )
    driven = {row["step"] for row in rows if abs(row["voltage_V"]) >= 1e-3}
    pieces = [piece_of(dataset.samples, step) for step in dataset.steps if step.path in driven]
    curves = [_decay(piece, place(index, len(pieces))) for index, piece in enumerate(pieces)]
    yield Plot(
        "Polarisation", Axis("time", "s", log=True), Axis("|current|", "nA", log=True), curves
    )


_STEADY: tuple[tuple[str, bool, Any], ...] = (
    ("steady", True, _POINTS),
    ("not steady", False, _HOLLOW),
)


def _steady(rows: Rows, name: str, steady: bool, mark: Any) -> Curve:
    own = [row for row in rows if row["steady"] == steady]
    noise = [row["noise_nA"] for row in own]
    return Curve(name, [row["voltage_V"] for row in own], [row["current_nA"] for row in own], mark,
                 errors=noise)  # fmt: skip


def _slope(rows: Rows) -> Curve:
    steady = [row for row in rows if row["steady"]]
    volts = np.array([row["voltage_V"] for row in steady])
    found = line(volts, np.array([row["current_nA"] for row in steady]))
    ends = np.array([min(volts.min(), 0.0), volts.max()])
    return Curve("fit", ends, found.coefficients[0] + found.coefficients[1] * ends, "dashed")


def _decay(piece: Piece, along: float) -> Curve:
    kept = np.unique(np.geomspace(1, len(piece.time_s), 200).astype(int) - 1)
    x = (piece.time_s - piece.step.start_s)[kept]
    y = np.abs(piece.current_A[kept]) * 1e9
    return Curve(f"{np.median(piece.voltage_V):.2g} V", x[y > 0], y[y > 0], along=along)


# --- Spectra without a circuit ------------------------------------------------------------------


def relaxation(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """Distributions of relaxation times, coloured as their spectra are."""
    rows = result["spectra"]
    used = [one for one in dataset.spectra if one.step in {row["step"] for row in rows}]
    found = colours(dataset, used)
    chosen = spread(len(rows))
    yield Plot(
        "Distribution of relaxation times",
        Axis("relaxation time", "s", log=True),
        Axis("\N{GREEK SMALL LETTER GAMMA}", "Ω", from_zero=True),
        [
            Curve(rows[k]["step"], rows[k]["tau_s"], rows[k]["gamma_ohm"], along=found.along[k])
            for k in chosen
        ],
        scale=found.scale if len(chosen) > 1 else None,
    )


def consistency(dataset: Dataset, _: Result) -> Iterable[Plot]:
    """Residuals of the Kramers-Kronig test over frequency, real and imaginary parts apart."""
    usable = [one for one in dataset.spectra if len(one.descending()[0]) >= LEAST_POINTS]
    found = colours(dataset, usable)
    chosen = spread(len(usable), 6)
    tested = [kramers_kronig(usable[k]) for k in chosen]
    for name, part in (("real", np.real), ("imaginary", np.imag)):
        yield Plot(
            f"Kramers-Kronig residuals, {name} part",
            Axis("frequency", "Hz", log=True),
            Axis(f"residual of the {name} part", "% of |Z|"),
            [
                Curve(usable[k].step, one.frequency_Hz, 100 * part(one.residual), "both",
                      along=found.along[k])
                for k, one in zip(chosen, tested, strict=True)
            ],
            scale=found.scale if len(chosen) > 1 else None,
        )  # fmt: skip


# --- Sweeps -------------------------------------------------------------------------------------


def voltammogram(dataset: Dataset, _: Result) -> Iterable[Plot]:
    """Current density against potential, scan by scan."""
    found = scans(dataset)
    chosen = [found[index] for index in spread(len(found), 12)]
    curves = []
    for index, scan in enumerate(chosen):
        x, y = thin(scan.potential_V, scan.density_A_m2 / 10)
        direction = "oxidation" if scan.anodic else "reduction"
        label = f"scan {scan.number}, {direction}"
        curves.append(Curve(label, x, y, along=place(index, len(chosen))))
    ends = ("scan", str(chosen[0].number), str(chosen[-1].number))
    yield Plot(
        "Voltammogram", potential_axis(dataset), Axis("current density", "mA/cm²"), curves,
        scale=ends if len(chosen) > 1 else None,
    )  # fmt: skip


def onset(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """A linear sweep with its onset, and the tangent that gives it."""
    scan = lsv_onset.scan_of(dataset)
    x, y = thin(scan.potential_V, scan.density_A_m2 / 10)
    yield Plot(
        "Linear sweep",
        potential_axis(dataset),
        Axis("current density", "mA/cm²"),
        [Curve("measured", x, y), *_onset_marks(scan, result)],
    )


def _onset_marks(scan: Scan, result: Result) -> list[Curve]:
    onset_V = result["onset_potential_V"]
    if onset_V is None:
        return []
    order = np.argsort(scan.potential_V)
    x, y = scan.potential_V[order], scan.density_A_m2[order] / 10
    label = f"onset by {result['method']}, {onset_V:.2f} V"
    if result["method"] == "tangent":
        tangent = _tangent(x, y, onset_V, anodic=scan.anodic)
        return [tangent, Curve(label, [onset_V], [tangent.y[0]], "points")]
    return [Curve(label, [onset_V], [float(np.interp(onset_V, x, y))], "points")]


def _tangent(x: Any, y: Any, onset_V: float, *, anodic: bool) -> Curve:
    """The line from the onset on the baseline that touches the curve from above."""
    sign = 1.0 if anodic else -1.0
    count = max(3, len(x) // 4)
    early = slice(0, count) if anodic else slice(-count, None)
    foot = float(np.polyval(np.polyfit(x[early], y[early], 1), onset_V))
    beyond = sign * (x - onset_V) > 0.02 * float(np.ptp(x))
    slopes = (y[beyond] - foot) / (x[beyond] - onset_V)
    touched = int(np.argmax(slopes))
    ends = [onset_V, float(x[beyond][touched])]
    return Curve("tangent", ends, [foot, float(y[beyond][touched])], "dashed")
