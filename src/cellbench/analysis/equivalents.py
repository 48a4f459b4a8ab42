"""Which circuit a cell's spectrum shows, and which of its resistances stand for what.

Physically named candidates are fitted and compared by Bayes' information criterion; the simplest
one that explains the spectrum wins. Arcs are then named by their effective capacitance (Irvine,
Sinclair and West, Adv. Mater. 2 (1990) 132): bulk some 10 pF, grain boundaries 10 pF to 10 nF,
electrode interfaces 0.1 to 10 uF. A part that the band does not identify is said to be so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cellbench.analysis.candidates import (
    BLOCKING,
    BULK,
    BULK_BELOW_F,
    DIFFUSION_ABOVE_F,
    INSERTING,
    INTERFACE_ABOVE_F,
    REVERSIBLE,
    TAIL,
    range_F,
)
from cellbench.analysis.circuits import Arc, Circuit, Fit, fit
from cellbench.analysis.dataset import ComplexArray, FloatArray, Spectrum
from cellbench.analysis.starts import starts

#: A spectrum is fitted once, whoever asks again: the running verdict, the analysis, the report.
_FITS_KEPT = 256
LEAST_POINTS = 8
_MARGIN = 10.0  # in BIC: "very strong" evidence for the circuit with more elements
_WORSE, _GOOD_RMS = 1.5, 0.004  # a continued fit may leave this much more unexplained, or this much
FOLLOWS_RMS = 0.05  # a circuit that leaves more than this unexplained is not the spectrum's
_LEAST_SHARE = 0.003  # an arc of less than that of the whole resistance is a wiggle


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
        if self.fit.rms > FOLLOWS_RMS:
            why = f"the circuit leaves {100 * self.fit.rms:.0f} % of the spectrum unexplained"
            return dict.fromkeys(("bulk", "grain_boundary", "interface"), why)
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
    return _named(_choose(BLOCKING, spectrum))


@lru_cache(maxsize=_FITS_KEPT)
def reversible(spectrum: Spectrum) -> Equivalent:
    """Electrolyte between reversible electrodes (Li | electrolyte | Li), shorted or sound.

    Raises:
        ValueError: if the spectrum has fewer than 8 usable points.
    """
    return _named(_choose(REVERSIBLE, spectrum))


@lru_cache(maxsize=_FITS_KEPT)
def inserting(spectrum: Spectrum) -> Equivalent:
    """A full or half cell: electrolyte, arcs of its interfaces, and diffusion in the particles.

    Raises:
        ValueError: if the spectrum has fewer than 8 usable points.
    """
    return _named(_choose(INSERTING, spectrum, DIFFUSION_ABOVE_F))


def of_layout(layout: str) -> Callable[[Spectrum], Equivalent]:
    """How the spectra of cells of a layout ("symmetric", "blocking", "half", "full") are fitted."""
    if layout == "blocking":
        return blocking
    return reversible if layout == "symmetric" else inserting


def followed(spectra: Sequence[Spectrum], layout: str) -> Iterator[Equivalent | None]:
    """Fits of a series, in its order; None for a spectrum that is too short.

    Which circuit a spectrum shows is chosen for the first one; the next is fitted with the same
    circuit from the parameters of the one before, and only where that no longer follows the
    points the choice is made afresh: a tenth of the time.
    """
    choose, last = of_layout(layout), None
    for spectrum in spectra:
        if len(spectrum.descending()[0]) < LEAST_POINTS:
            yield None
            continue
        last = _continued(last, spectrum, layout) or choose(spectrum)
        yield last


def _continued(last: Equivalent | None, spectrum: Spectrum, layout: str) -> Equivalent | None:
    """The fit of the circuit before, if it follows this spectrum too."""
    if last is None:
        return None
    found = fit(last.fit.circuit, last.fit.parameters, *usable_points(spectrum))
    most_F = DIFFUSION_ABOVE_F if layout in {"full", "half"} else np.inf
    follows = found.rms <= max(_WORSE * last.fit.rms, _GOOD_RMS) and _sensible(found, most_F)
    return _named(found) if follows else None


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
    return Equivalent(chosen, (BULK.name, *bulk), tuple(boundary), tuple(interface))


def _arcs(chosen: Fit) -> list[str]:
    """Names of the arcs that are not the bulk's by construction."""
    arcs = [element.name for element in chosen.circuit if isinstance(element, Arc)]
    return [name for name in arcs if name != BULK.name]


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


def _choose(candidates: Sequence[Circuit], spectrum: Spectrum, most_F: float = np.inf) -> Fit:
    frequency_Hz, impedance_ohm = usable_points(spectrum)
    fits = [_best_fit(circuit, frequency_Hz, impedance_ohm) for circuit in candidates]
    best = fits[0]
    for tried in fits[1:]:
        if tried.bic < best.bic - _MARGIN and _sensible(tried, most_F):
            best = tried
    return best


def _sensible(found: Fit, most_F: float = np.inf) -> bool:
    arcs = [element for element in found.circuit if isinstance(element, Arc)]
    if min(found.exponents().values(), default=1) < _least_exponent(found.circuit):
        return False
    if _least_share(found, [arc.name for arc in arcs]) < _LEAST_SHARE:
        return False
    ranges_F = [range_F(found.circuit, arc) for arc in arcs]
    capacitances_F = [found.capacitance_F(arc.name) for arc in arcs]
    within = (low <= c <= top for c, (low, top) in zip(capacitances_F, ranges_F, strict=True))
    return all(within) and max(capacitances_F, default=0.0) <= most_F


def _least_exponent(circuit: Circuit) -> float:
    return 0.25 if TAIL in circuit else 0.4


def _least_share(found: Fit, arcs: Sequence[str]) -> float:
    """The smallest arc, as a share of what is in series with it where its top lies, or above.

    Against the whole, the electrolyte of an empty cathode of some 10 kOhm would be a wiggle.
    """
    names = sorted(dict.fromkeys((BULK.name, *arcs)), key=lambda name: -_top_Hz(found, name))
    ohms = np.array([found.resistance_ohm(name) for name in names])
    shares = ohms / np.cumsum(ohms)
    electrolyte = [
        ohm for name, ohm in zip(names, ohms, strict=True)
        if name == BULK.name or found.capacitance_F(name) < INTERFACE_ABOVE_F
    ]  # fmt: skip
    return float(min(shares.min(), ohms[names.index(BULK.name)] / sum(electrolyte)))


def _top_Hz(found: Fit, name: str) -> float:
    arcs = {element.name for element in found.circuit if isinstance(element, Arc)}
    return found.top_Hz(name) if name in arcs else float("inf")


def _best_fit(circuit: Circuit, frequency_Hz: FloatArray, impedance_ohm: ComplexArray) -> Fit:
    begun = starts(circuit, frequency_Hz, impedance_ohm)
    fits = [fit(circuit, start, frequency_Hz, impedance_ohm) for start in begun]
    return min(fits, key=lambda found: found.rms)
