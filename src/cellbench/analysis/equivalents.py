"""Which circuit a cell's spectrum shows, and which of its resistances stand for what.

Physically named candidates are fitted and compared by Bayes' information criterion; the simplest
one that explains the spectrum wins. Arcs are then named by their effective capacitance (Irvine,
Sinclair and West, Adv. Mater. 2 (1990) 132): bulk some 10 pF, grain boundaries 10 pF to 10 nF,
electrode interfaces 0.1 to 10 uF. A part that the band does not identify is said to be so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.circuits import Arc, Circuit, ConstantPhase, Fit, Resistor, fit
from cellbench.analysis.dataset import ComplexArray, FloatArray, Spectrum

BULK_BELOW_F = 1.5e-10  # effective capacitances of cells of about 1 cm2
INTERFACE_ABOVE_F = 5e-8
LEAST_POINTS = 8
_MARGIN = 10.0  # in BIC: "very strong" evidence for the circuit with more elements
_START_ALPHA = 0.9
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


def blocking(spectrum: Spectrum) -> Equivalent:
    """Electrolyte between blocking electrodes: bulk, grain boundaries if seen, and a spike.

    Raises:
        ValueError: if the spectrum has fewer than 8 usable points.
    """
    return _named(_choose(_BLOCKING, spectrum))


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
    if _BULK_ARC in found.circuit and found.capacitance_F(_BULK.name) > BULK_BELOW_F:
        return False
    resistances = [found.resistance_ohm(name) for name in (_BULK.name, *_arcs(found))]
    exponents = found.exponents().values()
    return min(resistances) > _LEAST_SHARE * sum(resistances) and min(exponents, default=1) > 0.4


def _best_fit(circuit: Circuit, frequency_Hz: FloatArray, impedance_ohm: ComplexArray) -> Fit:
    starts = _starts(circuit, frequency_Hz, impedance_ohm)
    fits = [fit(circuit, start, frequency_Hz, impedance_ohm) for start in starts]
    return min(fits, key=lambda found: found.rms)


def _starts(
    circuit: Circuit,
    frequency_Hz: FloatArray,
    impedance_ohm: ComplexArray,
) -> list[list[float]]:
    """The two best of a coarse grid of time constants, on which all else is linear."""
    tau_s = _grid_s(frequency_Hz)
    arcs = sum(isinstance(element, Arc) for element in circuit)
    chosen = np.array(list(combinations(range(len(tau_s)), arcs)), dtype=int)
    others = {Resistor: len(tau_s), ConstantPhase: len(tau_s) + 1}
    fixed = [others[type(element)] for element in circuit if not isinstance(element, Arc)]
    columns = np.hstack((chosen, np.tile(np.array(fixed, dtype=int), (len(chosen), 1))))
    basis = _basis(tau_s, frequency_Hz) / np.abs(impedance_ohm)
    amplitudes, misfit = _solve(basis, columns, impedance_ohm / np.abs(impedance_ohm))
    return [_start(circuit, amplitudes[k], tau_s[chosen[k]]) for k in np.argsort(misfit)[:2]]


def _grid_s(frequency_Hz: FloatArray) -> FloatArray:
    """Time constants, two per decade, from one decade above the band to its low end."""
    top, bottom = 10 * frequency_Hz.max(), frequency_Hz.min()
    count = max(4, round(2 * np.log10(top / bottom)))
    return np.asarray(1 / (2 * np.pi * np.geomspace(top, bottom, count)))


def _basis(tau_s: FloatArray, frequency_Hz: FloatArray) -> ComplexArray:
    """Rows of unit arcs, then a unit resistance, then a unit spike."""
    s = 2j * np.pi * frequency_Hz
    arcs = 1 / (1 + (s * tau_s[:, np.newaxis]) ** _START_ALPHA)
    return np.vstack((arcs, np.ones((1, len(s))), s[np.newaxis] ** -_START_ALPHA))


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


def _start(circuit: Circuit, amplitudes: FloatArray, tau_s: FloatArray) -> list[float]:
    """Parameters in the elements' order from amplitudes, those of the arcs first."""
    of_arcs, of_others = list(zip(amplitudes, tau_s, strict=False)), list(amplitudes[len(tau_s) :])
    start: list[float] = []
    for element in circuit:
        if isinstance(element, Arc):
            ohm, arc_s = of_arcs.pop(0)
            values = [np.log(ohm), np.log(arc_s), _START_ALPHA]
        else:
            sign = 1 if isinstance(element, Resistor) else -1
            values = [sign * np.log(of_others.pop(0)), _START_ALPHA]
        start += [float(value) for value in values[: element.columns]]
    return start
