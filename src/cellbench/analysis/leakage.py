"""Leakage current of a cell that is held at a potential, from the tail of its current.

Two readings, which bracket it: the median of the last hour (each spectrum and five minutes after it
left out; float currents: Theiler et al., Batteries 7 (2021) 22), and I_inf of I = I_inf + B t^-1/2,
whose second term is the tail of diffusion (Cottrell, Z. Phys. Chem. 42 (1903) 385). The
range's own offset is subtracted. In uA, and in uA/cm2 of the working electrode.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis import reported
from cellbench.analysis.cycles import Piece, piece_of
from cellbench.analysis.dataset import Dataset, Result
from cellbench.analysis.regression import line

_KINDS = ("hold", "voltage")
_SPECTRUM_S = 120.0
_SAME_V = 2e-3


def analyse(
    dataset: Dataset,
    *,
    offset_A: float = 0.0,
    last_s: float = 3600.0,
    after_spectrum_s: float = 300.0,
    fit_from: float = 0.5,
) -> Result:
    """Leakage during the longest hold of the run.

    Args:
        dataset: a run with a step of constant potential.
        offset_A: of the current range, as measured with the cell off.
        last_s: the stretch at the end over which the median is taken.
        after_spectrum_s: left out after each spectrum, for the cell to settle.
        fit_from: share of the hold from which the tail is fitted.

    Raises:
        ValueError: if the run has no hold with enough samples.
    """
    piece = _longest_hold(dataset)
    elapsed_s = piece.time_s - piece.step.start_s
    quiet = _outside_spectra(dataset, piece, after_spectrum_s)
    current_A = piece.current_A - offset_A
    last = quiet & (elapsed_s >= elapsed_s[-1] - last_s)
    tail = quiet & (elapsed_s >= max(fit_from * elapsed_s[-1], 1.0))
    if np.count_nonzero(last) < 3 or np.count_nonzero(tail) < 5:
        raise ValueError("No leakage: too few samples of the hold lie outside its spectra.")
    found = line(elapsed_s[tail] ** -0.5, current_A[tail], dependent=True)
    (limit_A, half_width_A), (slope, _) = found[0], found[1]
    median_A, area_m2 = float(np.median(current_A[last])), dataset.geometry.area_m2
    held_V = float(np.median(piece.voltage_V[quiet]))
    return {
        **_currents("leakage", median_A, area_m2),
        **_currents("leakage_limit", limit_A, area_m2),
        "leakage_limit_interval_uA": reported.scaled(half_width_A, 1e6),
        "B_uA_s_half": reported.scaled(slope, 1e6),
        "trend": "falling" if slope * np.sign(median_A or 1.0) > 0 else "rising",
        "peak_uA": reported.scaled(float(np.abs(current_A).max()), 1e6),
        **_charge(piece, dataset),
        "potential_V": reported.number(dataset.geometry.potential_V(held_V)),
        "potential_reference": dataset.geometry.reference,
        "hold_h": reported.number(float(elapsed_s[-1]) / 3600),
        "offset_uA": reported.scaled(offset_A, 1e6),
        "left_out_percent": reported.percent(1 - float(np.mean(quiet))),
        "temperature_degC": reported.degree_celsius(
            dataset.temperature_K(piece.step.start_s, piece.step.end_s)
        ),
    }  # fmt: skip


def describe(result: Mapping[str, Any]) -> list[str]:
    """The leakage in lines for people."""
    reference = result["potential_reference"]
    return [
        f"{result['potential_V']:.3g} V {reference}   held for {result['hold_h']:.3g} h",
        f"leakage       {result['leakage_uA']:.3g} uA "
        f"({result['leakage_uA_cm2']:.3g} uA/cm2), median of the last hour, {result['trend']}",
        f"limit         {_limit(result)}",
        f"charge        {result['charge_mAh_cm2']:.3g} mAh/cm2 during the hold",
    ]


def _limit(result: Mapping[str, Any]) -> str:
    value, half_width = result["leakage_limit_uA"], result["leakage_limit_interval_uA"] or 0.0
    if abs(value) <= half_width or value * result["leakage_uA"] <= 0:
        return "not identified: the current still falls faster than t^-1/2"
    return f"{value:.3g} ± {half_width:.2g} uA, of I_inf + B t^-1/2"


def held_current(dataset: Dataset, after_spectrum_s: float = 300.0) -> Piece:
    """The longest hold without its spectra, as a plot of the leakage needs it.

    Raises:
        ValueError: if the run has no hold.
    """
    piece = _longest_hold(dataset)
    quiet = _outside_spectra(dataset, piece, after_spectrum_s)
    return Piece(
        piece.step,
        piece.time_s[quiet],
        piece.voltage_V[quiet],
        piece.current_A[quiet],
        piece.charge_C[quiet],
    )


def _currents(name: str, current_A: float, area_m2: float) -> Result:
    return {
        f"{name}_uA": reported.scaled(current_A, 1e6),
        f"{name}_uA_cm2": reported.scaled(current_A / area_m2, 1e2),
    }


def _charge(piece: Piece, dataset: Dataset) -> Result:
    areal = piece.passed_C / dataset.geometry.area_m2
    return {"charge_mAh_cm2": reported.milliampere_hour_per_cm2(areal)}


def _longest_hold(dataset: Dataset) -> Piece:
    pieces = [piece_of(dataset.samples, step) for step in dataset.steps if step.kind in _KINDS]
    pieces = [piece for piece in pieces if len(piece.time_s) >= 5]
    if not pieces:
        raise ValueError("No leakage: the run has no hold.")
    merged = list(_merged(pieces))
    return max(merged, key=lambda piece: float(np.ptp(piece.time_s)))


def _merged(pieces: list[Piece]) -> Iterator[Piece]:
    """Neighbouring pieces at one potential are one hold, interrupted by spectra."""
    current = pieces[0]
    for piece in pieces[1:]:
        apart_V = abs(np.median(piece.voltage_V) - np.median(current.voltage_V))
        if apart_V < _SAME_V and piece.time_s[0] - current.time_s[-1] < 3600:
            charge_C = np.concatenate((current.charge_C, current.passed_C + piece.charge_C))
            current = Piece(
                current.step,
                np.concatenate((current.time_s, piece.time_s)),
                np.concatenate((current.voltage_V, piece.voltage_V)),
                np.concatenate((current.current_A, piece.current_A)),
                charge_C,
            )
        else:
            yield current
            current = piece
    yield current


def _outside_spectra(dataset: Dataset, piece: Piece, after_s: float) -> NDArray[np.bool_]:
    windows = [(step.start_s, step.end_s) for step in dataset.steps_of("eis")]
    covered = [any(a <= one.time_s <= b for a, b in windows) for one in dataset.spectra]
    windows += [
        (one.time_s, one.time_s + _SPECTRUM_S)
        for one, known in zip(dataset.spectra, covered, strict=True)
        if not known
    ]
    quiet = np.ones(len(piece.time_s), dtype=np.bool_)
    for start_s, end_s in windows:
        quiet &= (piece.time_s < start_s) | (piece.time_s > end_s + after_s)
    return quiet
