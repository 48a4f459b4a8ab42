"""Which circuit a cell's spectrum shows, and which of its resistances stand for what.

Physically named candidates are fitted and compared by Bayes' information criterion; the simplest
one that explains the spectrum wins. Arcs are then named by their effective capacitance (Irvine,
Sinclair and West, Adv. Mater. 2 (1990) 132): bulk some 10 pF, grain boundaries 10 pF to 10 nF,
electrode interfaces 0.1 to 10 uF. A part that the band does not identify is said to be so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.circuits import Arc, Circuit, ConstantPhase, Element, Fit, Resistor, fit
from cellbench.analysis.dataset import ComplexArray, FloatArray, Spectrum

BULK_BELOW_F = 1.5e-10  # effective capacitances of cells of about 1 cm2
INTERFACE_ABOVE_F = 5e-8
#: A spectrum is fitted once, whoever asks again: the running verdict, the analysis, the report.
_FITS_KEPT = 256
LEAST_POINTS = 8
_MARGIN = 10.0  # in BIC: "very strong" evidence for the circuit with more elements
_ARC_ALPHA, _SPIKE_ALPHAS = 0.9, (0.7, 0.76, 0.82, 0.88, 0.94, 0.99)  # of the grid for starts
_STARTS = 2
_LEAST_SHARE = 0.003  # an arc of less than that of the whole resistance is a wiggle

_BULK = Resistor("bulk")
# At tens of MHz the bulk is its own arc, whose foot reaches down into the band of many instruments.
_BULK_ARC = Arc("bulk", ideal=True)
_ARC, _SECOND, _THIRD = Arc("arc"), Arc("second arc"), Arc("third arc")
_SPIKE = ConstantPhase("spike")
_BLOCKING: tuple[Circuit, ...] = (
    (_BULK, _SPIKE),
    (_BULK_ARC, _SPIKE),
    (_BULK, _ARC, _SPIKE),
    (_BULK_ARC, _ARC, _SPIKE),
)
_REVERSIBLE: tuple[Circuit, ...] = (
    (_BULK,),
    (_BULK, _ARC),
    (_BULK_ARC, _ARC),
    (_BULK, _ARC, _SECOND),
    (_BULK_ARC, _ARC, _SECOND),
    (_BULK, _ARC, _SECOND, _THIRD),
)


@dataclass(frozen=True, eq=False)
class Equivalent:
    """A chosen circuit and the names of its elements that make up each part of the cell."""

    fit: Fit
    bulk: tuple[str, ...]
    grain_boundary: tuple[str, ...]
    interface: tuple[str, ...]

    @property
    def electrolyte(self) -> tuple[str, ...]:
        """Elements of bulk and grain boundaries together."""
        return (*self.bulk, *self.grain_boundary)

    def unidentified(self) -> dict[str, str]:
        """Parts that this band does not tell apart or does not show, with the reason.

        The bulk needs no arc, its resistance is the high-frequency intercept; but what belongs to
        a grain boundary that is not identified is then in that intercept, or the other way round.
        """
        reasons = {
            "grain_boundary": self._why_not(self.grain_boundary),
            "interface": self._why_not(self.interface),
        }
        if self.fit.uncertainty_ohm(*self.bulk) > 0.5 * self.fit.resistance_ohm(*self.bulk):
            reasons["bulk"] = "its standard error is above 50 %"
        elif reasons["grain_boundary"]:
            reasons["bulk"] = "not told apart from the grain boundary"
        return {part: reason for part, reason in reasons.items() if reason}

    def _why_not(self, arcs: Sequence[str]) -> str | None:
        if not arcs:
            return "no arc of its own"
        reasons = [self.fit.why_not_identified(name) for name in arcs]
        return next((reason for reason in reasons if reason), None)


@lru_cache(maxsize=_FITS_KEPT)
def blocking(spectrum: Spectrum) -> Equivalent:
    """Electrolyte between blocking electrodes: bulk, grain boundaries if seen, and a spike.

    Raises:
        ValueError: if the spectrum has fewer than 8 usable points.
    """
    return _named(_choose(_BLOCKING, spectrum))


@lru_cache(maxsize=_FITS_KEPT)
def reversible(spectrum: Spectrum) -> Equivalent:
    """Electrolyte between reversible electrodes (Li | electrolyte | Li), shorted or sound.

    Raises:
        ValueError: if the spectrum has fewer than 8 usable points.
    """
    return _named(_choose(_REVERSIBLE, spectrum))


def electrolyte_resistance_ohm(spectrum: Spectrum) -> float | None:
    """Bulk and grain boundaries of a cell with reversible electrodes; None if not to be had."""
    if len(spectrum.descending()[0]) < LEAST_POINTS:
        return None
    found = reversible(spectrum)
    return found.fit.resistance_ohm(*found.electrolyte)


def _named(chosen: Fit) -> Equivalent:
    capacitance_F = {name: chosen.capacitance_F(name) for name in _arcs(chosen)}
    bulk = [name for name, c in capacitance_F.items() if c < BULK_BELOW_F]
    interface = [name for name, c in capacitance_F.items() if c > INTERFACE_ABOVE_F]
    boundary = [name for name in capacitance_F if name not in (*bulk, *interface)]
    return Equivalent(chosen, (_BULK.name, *bulk), tuple(boundary), tuple(interface))


def _arcs(chosen: Fit) -> list[str]:
    """Names of the arcs that are not the bulk's by construction."""
    arcs = [element.name for element in chosen.circuit if isinstance(element, Arc)]
    return [name for name in arcs if name != _BULK.name]


def usable_points(spectrum: Spectrum) -> tuple[FloatArray, ComplexArray]:
    """The points from high to low frequency, without those in which the cables' inductance shows.

    Raises:
        ValueError: if fewer than 8 are left.
    """
    frequency_Hz, impedance_ohm = spectrum.descending()
    capacitive = impedance_ohm.imag <= 0.01 * np.abs(impedance_ohm)
    first = int(np.argmax(capacitive))
    kept = slice(first if len(frequency_Hz) - first >= LEAST_POINTS else 0, None)
    frequency_Hz, impedance_ohm = frequency_Hz[kept], impedance_ohm[kept]
    if len(frequency_Hz) < LEAST_POINTS or not np.all(np.abs(impedance_ohm) > 0):
        raise ValueError(f"The spectrum {spectrum.step or spectrum.name!r} is too short to fit.")
    return frequency_Hz, impedance_ohm


def _choose(candidates: Sequence[Circuit], spectrum: Spectrum) -> Fit:
    frequency_Hz, impedance_ohm = usable_points(spectrum)
    fits = [_best_fit(circuit, frequency_Hz, impedance_ohm) for circuit in candidates]
    best = fits[0]
    for tried in fits[1:]:
        if tried.bic < best.bic - _MARGIN and _sensible(tried):
            best = tried
    return best


def _sensible(found: Fit) -> bool:
    arcs = [element for element in found.circuit if isinstance(element, Arc)]
    names = dict.fromkeys((_BULK.name, *(arc.name for arc in arcs)))
    ohms = [found.resistance_ohm(name) for name in names]
    if min(ohms) < _LEAST_SHARE * sum(ohms) or min(found.exponents().values(), default=1) < 0.4:
        return False
    ranges_F = [_range_F(found.circuit, arc) for arc in arcs]
    capacitances_F = [found.capacitance_F(arc.name) for arc in arcs]
    return all(low <= c <= top for c, (low, top) in zip(capacitances_F, ranges_F, strict=True))


def _best_fit(circuit: Circuit, frequency_Hz: FloatArray, impedance_ohm: ComplexArray) -> Fit:
    starts = _starts(circuit, frequency_Hz, impedance_ohm)
    fits = [fit(circuit, start, frequency_Hz, impedance_ohm) for start in starts]
    return min(fits, key=lambda found: found.rms)


def _starts(
    circuit: Circuit,
    frequency_Hz: FloatArray,
    impedance_ohm: ComplexArray,
) -> list[list[float]]:
    """The best points of a coarse grid of time constants and spikes; all else is linear."""
    tau_s = _grid_s(frequency_Hz)
    columns = _selections(circuit, len(tau_s))
    basis = _basis(tau_s, frequency_Hz) / np.abs(impedance_ohm)
    amplitudes, misfit = _solve(basis, columns, impedance_ohm / np.abs(impedance_ohm))
    misfit = misfit + len(basis.T) * _implausible(circuit, amplitudes, columns, tau_s)
    best = np.argsort(misfit)[:_STARTS]
    return [_start(circuit, amplitudes[k], columns[k], tau_s) for k in best]


def _grid_s(frequency_Hz: FloatArray) -> FloatArray:
    """Time constants, two per decade, from one decade above the band to its low end."""
    top, bottom = 10 * frequency_Hz.max(), frequency_Hz.min()
    count = max(4, round(2 * np.log10(top / bottom)))
    return np.asarray(1 / (2 * np.pi * np.geomspace(top, bottom, count)))


def _basis(tau_s: FloatArray, frequency_Hz: FloatArray) -> ComplexArray:
    """Rows of unit arcs, then a unit resistance, then unit spikes."""
    s = 2j * np.pi * frequency_Hz
    arcs = 1 / (1 + (s * tau_s[:, np.newaxis]) ** _ARC_ALPHA)
    spikes = s ** -np.array(_SPIKE_ALPHAS)[:, np.newaxis]
    return np.vstack((arcs, np.ones((1, len(s))), spikes))


def _selections(circuit: Circuit, taus: int) -> NDArray[np.intp]:
    """Every choice of one row of the basis per element, in the elements' order."""
    arcs = sum(isinstance(element, Arc) for element in circuit)
    spikes = len(_SPIKE_ALPHAS) if _SPIKE in circuit else 1
    chosen = np.array(list(combinations(range(taus), arcs)), dtype=np.intp)
    of_arcs = iter(np.repeat(chosen, spikes, axis=0).T)
    of_spike = np.tile(taus + 1 + np.arange(spikes), len(chosen))
    columns = []
    for element in circuit:
        if isinstance(element, Arc):
            columns.append(next(of_arcs))
        else:
            columns.append(of_spike if element == _SPIKE else np.full_like(of_spike, taus))
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
            least_F, most_F = _range_F(circuit, element)
            count += (capacitance_F < least_F) | (capacitance_F > most_F)
    return count


def _range_F(circuit: Circuit, arc: Element) -> tuple[float, float]:
    """Between which capacitances an arc can be what its place in the circuit says.

    Between blocking electrodes an arc of an interface's capacitance is a part of the spike.
    """
    if arc == _BULK_ARC:
        return 0.0, BULK_BELOW_F
    return (
        BULK_BELOW_F if _BULK_ARC in circuit else 0.0,
        INTERFACE_ABOVE_F if _SPIKE in circuit else np.inf,
    )


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
            values = [-amplitude, _SPIKE_ALPHAS[row - len(tau_s) - 1]]
        start += [float(value) for value in values[: element.columns]]
    return start
