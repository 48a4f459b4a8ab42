"""Distribution of relaxation times of a spectrum: which processes there are, without a circuit.

Z = R_inf + j w L + 1/(j w C) + integral of gamma(ln tau) / (1 + j w tau) d ln tau, with gamma >= 0
piecewise linear on an even grid of ln tau. The ill-posed inversion is regularised by Tikhonov's
method on the second derivative of gamma (Wan et al., Electrochim. Acta 184 (2015) 483; the
non-negative fit as in Saccoccio et al., ibid. 147 (2014) 470). Its weight is chosen by generalised
cross-validation (Golub, Heath and Wahba, Technometrics 21 (1979) 215), or fixed by the caller: the
result says which. Residuals are weighted by the modulus. Inductance and capacity are left out where
the spectrum shows none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.dataset import ComplexArray, Dataset, FloatArray, Result, Spectrum
from cellbench.analysis.equivalents import LEAST_POINTS

_PER_DECADE = 10
_BEYOND = 1.0  # decades of tau on either side of the band
_LAMBDAS = np.geomspace(1e-6, 1.0, 37)
_LEAST_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Distribution:
    """`gamma_ohm` over `tau_s` (one length); its integral over ln tau is the polarisation."""

    tau_s: FloatArray
    gamma_ohm: FloatArray
    r_inf_ohm: float
    inductance_H: float
    elastance_per_F: float
    weight: float
    chosen_by: str
    rms: float
    frequency_Hz: FloatArray

    @property
    def polarisation_ohm(self) -> float:
        """Resistance of all processes together."""
        return float(_widths(self.tau_s) @ self.gamma_ohm)

    def impedance_ohm(self, frequency_Hz: FloatArray) -> ComplexArray:
        """The spectrum that the distribution stands for."""
        s = 2j * np.pi * frequency_Hz
        chain = _kernel(frequency_Hz, self.tau_s) @ self.gamma_ohm
        z = self.r_inf_ohm + s * self.inductance_H + self.elastance_per_F / s + chain
        return np.asarray(z)


def analyse(dataset: Dataset, *, weight: float | None = None) -> Result:
    """Processes of every spectrum, and the distribution of each.

    Args:
        dataset: a run with spectra.
        weight: of the regularisation, relative; by default chosen by cross-validation.

    Raises:
        ValueError: if no spectrum is long enough.
    """
    spectra = [one for one in dataset.spectra if len(one.descending()[0]) >= LEAST_POINTS]
    if not spectra:
        raise ValueError("No distribution of relaxation times without a spectrum of 8 points.")
    blocked = dataset.geometry.layout != "symmetric"
    rows = [_row(spectrum, distribution(spectrum, weight, blocked)) for spectrum in spectra]
    return {
        "chosen_by": "fixed" if weight is not None else "generalised cross-validation",
        "spectra": rows,
        "processes": [
            {"step": row["step"], "time_s": row["time_s"], **peak}
            for row in rows
            for peak in row["peaks"]
        ],
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The processes of the last spectrum in lines for people."""
    row = result["spectra"][-1]
    lines = [
        f"{'at ' + _frequency(peak):<13} {peak['R_ohm']:.4g} Ω, {peak['C_F']:.2g} F"
        for peak in row["peaks"]
    ]
    lines.append(
        f"intercept     {row['R_inf_ohm']:.4g} Ω, residual {row['residual_percent']:.2g} %, "
        f"weight {row['weight']:.1e} ({result['chosen_by']})"
    )
    return lines


@lru_cache(maxsize=256)
def distribution(
    spectrum: Spectrum, weight: float | None = None, blocked: bool = False
) -> Distribution:
    """Distribution of relaxation times of one spectrum.

    Args:
        spectrum: eight points or more.
        weight: of the regularisation; None: generalised cross-validation chooses.
        blocked: whether a series capacity (blocking electrode, filling particles) is allowed for.
    """
    frequency_Hz, impedance_ohm = spectrum.descending()
    tau_s = _grid_s(frequency_Hz)
    matrix, scale, wanted = _system(frequency_Hz, impedance_ohm, tau_s, blocked)
    penalty = _penalty(len(tau_s), matrix.shape[1])
    chosen = _cross_validated(matrix, wanted, penalty) if weight is None else weight
    solved = _non_negative(matrix, wanted, penalty, chosen)
    residual = matrix @ solved - wanted
    values = solved / scale
    return Distribution(
        tau_s,
        values[: len(tau_s)],
        float(values[len(tau_s)]),
        float(values[len(tau_s) + 1]),
        float(values[len(tau_s) + 2]) if blocked else 0.0,
        float(chosen),
        "fixed" if weight is not None else "generalised cross-validation",
        float(np.sqrt(np.mean(residual**2))),
        frequency_Hz,
    )


def _grid_s(frequency_Hz: FloatArray) -> FloatArray:
    shortest, longest = (float(1 / (2 * np.pi * f)) for f in frequency_Hz[[0, -1]])
    low, high = np.log10(shortest) - _BEYOND, np.log10(longest) + _BEYOND
    return np.asarray(np.logspace(low, high, round((high - low) * _PER_DECADE) + 1))


def _widths(tau_s: FloatArray) -> FloatArray:
    """Weights of the trapezoidal rule in ln tau."""
    step = float(np.log(tau_s[1] / tau_s[0]))
    widths = np.full(len(tau_s), step)
    widths[[0, -1]] /= 2
    return widths


def _kernel(frequency_Hz: FloatArray, tau_s: FloatArray) -> ComplexArray:
    s = 2j * np.pi * frequency_Hz[:, np.newaxis]
    return np.asarray(_widths(tau_s) / (1 + s * tau_s))


def _system(
    frequency_Hz: FloatArray, impedance_ohm: ComplexArray, tau_s: FloatArray, blocked: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows (real, then imaginary) weighted by the modulus; columns scaled; the measured values."""
    s = 2j * np.pi * frequency_Hz[:, np.newaxis]
    others = [np.ones_like(s), s] + ([1 / s] if blocked else [])
    weight = 1 / np.abs(impedance_ohm)[:, np.newaxis]
    columns = np.hstack((_kernel(frequency_Hz, tau_s), *others)) * weight
    matrix = np.vstack((columns.real, columns.imag))
    unit = impedance_ohm * weight[:, 0]
    # One scale for all of gamma, lest the penalty mix different units of curvature.
    chain = float(np.linalg.norm(matrix[:, : len(tau_s)], axis=0).max())
    scale = np.concatenate(
        (np.full(len(tau_s), chain), np.linalg.norm(matrix[:, len(tau_s) :], axis=0))
    )
    return matrix / scale, scale, np.concatenate((unit.real, unit.imag))


def _penalty(count: int, columns: int) -> FloatArray:
    """Second differences of gamma, with zero beyond both ends; nothing else is penalised."""
    rows = np.zeros((count, columns))
    rows[:, :count] = np.diff(np.eye(count + 2), 2, axis=0)[:, 1:-1]
    return rows


def _cross_validated(matrix: FloatArray, wanted: FloatArray, penalty: FloatArray) -> float:
    """Weight with the least generalised cross-validation score of the unconstrained problem."""
    normal, curved = matrix.T @ matrix, penalty.T @ penalty
    projected, count = matrix.T @ wanted, len(wanted)
    tiny = 1e-12 * np.trace(normal) * np.eye(len(normal)) / len(normal)
    scores = []
    for weight in _LAMBDAS:
        inverse = np.linalg.solve(normal + weight * curved + tiny, np.eye(len(normal)))
        residual = wanted - matrix @ (inverse @ projected)
        freedom = count - float(np.sum(inverse * normal))
        # Below 1e-4 a better fit is no evidence: no instrument is that good.
        square = float(residual @ residual) + count * 1e-8
        scores.append(square / max(freedom, 1e-9) ** 2)
    return float(_LAMBDAS[int(np.argmin(scores))])


def _non_negative(
    matrix: FloatArray, wanted: FloatArray, penalty: FloatArray, weight: float
) -> FloatArray:
    from scipy.optimize import nnls  # noqa: PLC0415 - slow to import

    stacked = np.vstack((matrix, np.sqrt(weight) * penalty))
    target = np.concatenate((wanted, np.zeros(len(penalty))))
    return np.asarray(nnls(stacked, target, maxiter=50 * stacked.shape[1])[0])


def _row(spectrum: Spectrum, found: Distribution) -> Result:
    return {
        "step": spectrum.step,
        "time_s": reported.number(spectrum.time_s),
        "R_inf_ohm": reported.number(found.r_inf_ohm),
        "R_polarisation_ohm": reported.number(found.polarisation_ohm),
        "weight": reported.number(found.weight),
        "residual_percent": reported.percent(found.rms),
        "peaks": _peaks(found),
        "tau_s": [reported.number(float(value)) for value in found.tau_s],
        "gamma_ohm": [reported.number(float(value)) for value in found.gamma_ohm],
    }


def _peaks(found: Distribution) -> list[Result]:
    """Every hill between two valleys: its top, and its area as a resistance."""
    gamma, widths = found.gamma_ohm, _widths(found.tau_s)
    padded = np.concatenate(([0.0], gamma, [0.0]))
    tops = np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))
    edges = _valleys(gamma, tops.tolist())
    total = found.polarisation_ohm
    return [
        _peak(found, slice(first, end), widths)
        for first, end in pairwise(edges)
        if float(widths[first:end] @ gamma[first:end]) > _LEAST_SHARE * total
    ]


def _valleys(gamma: FloatArray, tops: Sequence[int]) -> list[int]:
    lowest = [one + int(np.argmin(gamma[one : other + 1])) for one, other in pairwise(tops)]
    return [0, *lowest, len(gamma)]


def _peak(found: Distribution, rows: slice, widths: FloatArray) -> Result:
    gamma, tau_s = found.gamma_ohm[rows], found.tau_s[rows]
    ohm = float(widths[rows] @ gamma)
    mean_s = float(np.exp(np.average(np.log(tau_s), weights=gamma * widths[rows])))
    top_Hz = 1 / (2 * np.pi * mean_s)
    inside = bool(found.frequency_Hz[-1] <= top_Hz <= found.frequency_Hz[0])
    return {
        "R_ohm": reported.number(ohm),
        "tau_s": reported.number(mean_s),
        "frequency_Hz": reported.number(top_Hz),
        "C_F": reported.number(mean_s / ohm),
        "in_band": inside,
    }


def _frequency(peak: Mapping[str, Any]) -> str:
    hertz = peak["frequency_Hz"]
    known = ((1e6, "MHz"), (1e3, "kHz"), (1.0, "Hz"), (1e-3, "mHz"))
    scale, unit = next(pair for pair in known if hertz >= pair[0] or pair[0] < 1)
    return f"{hertz / scale:.3g} {unit}"
