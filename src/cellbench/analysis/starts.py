"""Where the fit of a circuit begins: the best points of a coarse grid of time constants."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.candidates import SPIKE, TAIL, range_F
from cellbench.analysis.circuits import Arc, Circuit, ConstantPhase, Resistor
from cellbench.analysis.dataset import ComplexArray, FloatArray

_ARC_ALPHA = 0.9  # of the grid, as are the exponents of spike and tail
_SPIKE_ALPHAS, _TAIL_ALPHAS = (0.7, 0.76, 0.82, 0.88, 0.94, 0.99), (0.4, 0.5, 0.6, 0.8)
_STARTS = 2


def starts(
    circuit: Circuit,
    frequency_Hz: FloatArray,
    impedance_ohm: ComplexArray,
) -> list[list[float]]:
    """Starts for a fit: points of a grid of time constants and exponents; all else is linear."""
    tau_s = _grid_s(frequency_Hz)
    columns = _selections(circuit, len(tau_s))
    basis = _basis(tau_s, frequency_Hz, _alphas(circuit)) / np.abs(impedance_ohm)
    amplitudes, misfit = _solve(basis, columns, impedance_ohm / np.abs(impedance_ohm))
    misfit = misfit + len(basis.T) * _implausible(circuit, amplitudes, columns, tau_s)
    best = np.argsort(misfit)[:_STARTS]
    return [_start(circuit, amplitudes[k], columns[k], tau_s) for k in best]


def _grid_s(frequency_Hz: FloatArray) -> FloatArray:
    """Time constants, two per decade, from one decade above the band to its low end."""
    top, bottom = 10 * frequency_Hz.max(), frequency_Hz.min()
    count = max(4, round(2 * np.log10(top / bottom)))
    return np.asarray(1 / (2 * np.pi * np.geomspace(top, bottom, count)))


def _alphas(circuit: Circuit) -> tuple[float, ...]:
    """Exponents that the grid tries for the constant-phase element of a circuit."""
    return _TAIL_ALPHAS if TAIL in circuit else _SPIKE_ALPHAS


def _basis(tau_s: FloatArray, frequency_Hz: FloatArray, alphas: tuple[float, ...]) -> ComplexArray:
    """Rows of unit arcs, then a unit resistance, then unit constant-phase elements."""
    s = 2j * np.pi * frequency_Hz
    arcs = 1 / (1 + (s * tau_s[:, np.newaxis]) ** _ARC_ALPHA)
    spikes = s ** -np.array(alphas)[:, np.newaxis]
    return np.vstack((arcs, np.ones((1, len(s))), spikes))


def _selections(circuit: Circuit, taus: int) -> NDArray[np.intp]:
    """Every choice of one row of the basis per element, in the elements' order."""
    arcs = sum(isinstance(element, Arc) for element in circuit)
    spikes = len(_alphas(circuit)) if {SPIKE, TAIL}.intersection(circuit) else 1
    chosen = np.array(list(combinations(range(taus), arcs)), dtype=np.intp)
    of_arcs = iter(np.repeat(chosen, spikes, axis=0).T)
    of_spike = np.tile(taus + 1 + np.arange(spikes), len(chosen))
    columns = []
    for element in circuit:
        if isinstance(element, Arc):
            columns.append(next(of_arcs))
        else:
            columns.append(
                of_spike if isinstance(element, ConstantPhase) else np.full_like(of_spike, taus)
            )
    return np.stack(columns, axis=1)


def _implausible(
    circuit: Circuit,
    amplitudes: FloatArray,
    columns: NDArray[np.intp],
    tau_s: FloatArray,
) -> NDArray[np.intp]:
    """How many arcs of each selection have a capacitance that their place does not allow."""
    count = np.zeros(len(columns), dtype=np.intp)
    for place, element in enumerate(circuit):
        if isinstance(element, Arc):
            capacitance_F = tau_s[columns[:, place]] / amplitudes[:, place]
            least_F, most_F = range_F(circuit, element)
            count += (capacitance_F < least_F) | (capacitance_F > most_F)
    return count


def _solve(
    basis: ComplexArray,
    columns: NDArray[np.intp],
    target: ComplexArray,
) -> tuple[FloatArray, FloatArray]:
    """Amplitudes and misfits of all selections of rows at once; negative ones are ruled out."""
    rows = np.hstack((basis.real, basis.imag))
    wanted = np.concatenate((target.real, target.imag))
    gram, projected = rows @ rows.T, rows @ wanted
    scale = np.sqrt(np.diag(gram))
    gram, projected = gram / np.outer(scale, scale) + 1e-9 * np.eye(len(scale)), projected / scale
    small = gram[columns[:, :, np.newaxis], columns[:, np.newaxis, :]]
    right = projected[columns]
    solved = np.linalg.solve(small, right[..., np.newaxis])[..., 0]
    misfit = wanted @ wanted - np.sum(solved * right, axis=1)
    misfit = np.where(np.any(solved < 0, axis=1), misfit + len(wanted), misfit)
    return np.maximum(solved, 1e-6) / scale[columns], misfit


def _start(
    circuit: Circuit,
    amplitudes: FloatArray,
    rows: NDArray[np.intp],
    tau_s: FloatArray,
) -> list[float]:
    """Parameters in the elements' order, from a point of the grid."""
    start: list[float] = []
    for element, amplitude, row in zip(circuit, np.log(amplitudes), rows, strict=True):
        if isinstance(element, Arc):
            values = [amplitude, np.log(tau_s[row]), _ARC_ALPHA]
        elif isinstance(element, Resistor):
            values = [amplitude]
        else:
            values = [-amplitude, _alphas(circuit)[row - len(tau_s) - 1]]
        start += [float(value) for value in values[: element.columns]]
    return start
