"""The plots of electrolytes: conductivities, relaxation times, sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cellbench.analysis import lsv_onset
from cellbench.analysis.arrhenius import line_points
from cellbench.analysis.cycles import piece_of
from cellbench.analysis.dataset import Dataset, Result
from cellbench.analysis.sweeps import scans
from cellbench.report.curves import Axis, Curve, Plot, column, place, spread, thin

_POINTS: Any = "points"
_HOLLOW: Any = "hollow"


def potential_axis(dataset: Dataset) -> Axis:
    """The axis of the working electrode's potential, or of the plain voltage."""
    reference = dataset.geometry.reference
    if reference == "at the terminals":
        return Axis("voltage", "V")
    return Axis(f"potential {reference}", "V")


# --- Electrolytes -------------------------------------------------------------------------------


def arrhenius(_: Dataset, result: Result) -> Iterable[Plot]:
    """Conductivity against inverse temperature, with the fitted line."""
    rows = result["spectra"]
    x, y = line_points(result)
    yield Plot(
        "Arrhenius",
        Axis("1000 / T", "1/K"),
        Axis("conductivity", "mS/cm", log=True),
        [
            Curve("measured", column(rows, "inverse_temperature_1000_per_K"),
                  column(rows, "conductivity_mS_cm"), "points",
                  errors=column(rows, "conductivity_uncertainty_mS_cm")),
            Curve(f"Ea = {result['Ea_sigma_eV']:.3f} eV", x, y, "dashed"),
        ],
    )  # fmt: skip


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
    """Steady currents against voltage, and how they became steady."""
    rows: Sequence[Mapping[str, Any]] = result["steps"]
    yield Plot(
        "Current at the end of each step",
        Axis("voltage", "V", from_zero=True),
        Axis("current", "nA", from_zero=True),
        [
            Curve(name, [row["voltage_V"] for row in rows if row["steady"] == steady],
                  [row["current_nA"] for row in rows if row["steady"] == steady], mark)
            for name, steady, mark in _STEADY
        ],
    )  # fmt: skip
    pieces = [piece_of(dataset.samples, step) for step in dataset.steps
              if step.path in {row["step"] for row in rows}]  # fmt: skip
    curves = []
    for index, piece in enumerate(pieces):
        rows_kept = np.unique(np.geomspace(1, len(piece.time_s), 200).astype(int) - 1)
        x = (piece.time_s - piece.step.start_s)[rows_kept]
        y = np.abs(piece.current_A[rows_kept]) * 1e9
        along = place(index, len(pieces))
        label = f"{np.median(piece.voltage_V):.2g} V"
        curves.append(Curve(label, x[y > 0], y[y > 0], along=along))
    yield Plot(
        "Polarisation", Axis("time", "s", log=True), Axis("|current|", "nA", log=True), curves
    )


_STEADY: tuple[tuple[str, bool, Any], ...] = (
    ("steady", True, _POINTS),
    ("not steady", False, _HOLLOW),
)


def relaxation(_: Dataset, result: Result) -> Iterable[Plot]:
    """Distributions of relaxation times, spectrum by spectrum."""
    rows = result["spectra"]
    chosen = [rows[index] for index in spread(len(rows))]
    yield Plot(
        "Distribution of relaxation times",
        Axis("relaxation time", "s", log=True),
        Axis("\N{GREEK SMALL LETTER GAMMA}", "Ω", from_zero=True),
        [
            Curve(row["step"], row["tau_s"], row["gamma_ohm"], along=place(index, len(chosen)))
            for index, row in enumerate(chosen)
        ],
        scale=("spectrum", "first", "last") if len(chosen) > 1 else None,
    )


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
    yield Plot(
        "Voltammogram", potential_axis(dataset), Axis("current density", "mA/cm²"), curves,
        scale=("scan", "first", "last") if len(chosen) > 1 else None,
    )  # fmt: skip


def onset(dataset: Dataset, result: Result) -> Iterable[Plot]:
    """A linear sweep with its onset."""
    scan = lsv_onset.scan_of(dataset)
    x, y = thin(scan.potential_V, scan.density_A_m2 / 10)
    curves = [Curve("measured", x, y)]
    onset_V = result["onset_potential_V"]
    if onset_V is not None:
        order = np.argsort(scan.potential_V)
        at = np.interp(onset_V, scan.potential_V[order], scan.density_A_m2[order] / 10)
        curves.append(Curve(f"onset by {result['method']}", [onset_V], [float(at)], "points"))
    yield Plot("Linear sweep", potential_axis(dataset), Axis("current density", "mA/cm²"), curves)
