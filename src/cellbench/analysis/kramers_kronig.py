"""Whether a spectrum obeys the Kramers-Kronig relations: the linear test with automatic order.

Method: Schoenleber, Klotz and Ivers-Tiffee, Electrochim. Acta 131 (2014) 20. A chain of RC
elements with fixed time constants, which is consistent by construction, is fitted by plain linear
least squares; its number grows until mu (how much of the resistance is positive) falls to 0.85,
where it would begin to follow noise. A series inductance and capacitance are fitted with it. What
the chain cannot follow is drift, nonlinearity or disturbance.

One thing is ours: the chain starts with three elements per decade, because below that mu also
falls for want of elements, and a sound spectrum with sharp arcs would be called inconsistent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.dataset import ComplexArray, Dataset, FloatArray, Result, Spectrum

LEAST_POINTS = 8
MOST_ELEMENTS = 60


@dataclass(frozen=True, eq=False)
class KramersKronig:
    """The test of one spectrum; residuals are complex fractions of |Z|, from high to low frequency.

    `rms` is over real and imaginary parts; `elements` the number of RC elements, `mu` their mu.
    """

    frequency_Hz: FloatArray
    residual: ComplexArray
    elements: int
    mu: float

    @property
    def rms(self) -> float:
        """Root mean square of the residuals, real and imaginary parts alike."""
        return float(np.sqrt(np.mean(np.abs(self.residual) ** 2) / 2))

    @property
    def worst(self) -> float:
        """Largest modulus of a residual."""
        return float(np.max(np.abs(self.residual)))


def kramers_kronig(
    spectrum: Spectrum,
    mu: float = 0.85,
    most_elements: int = MOST_ELEMENTS,
) -> KramersKronig:
    """Test one spectrum.

    Raises:
        ValueError: if it has fewer than 8 usable points.
    """
    frequency_Hz, impedance_ohm = spectrum.descending()
    if len(frequency_Hz) < LEAST_POINTS:
        raise ValueError(f"The spectrum {spectrum.step or spectrum.name!r} is too short to test.")
    weight = 1 / np.abs(impedance_ohm)
    most = min(most_elements, len(frequency_Hz))
    least = min(most, _least_elements(frequency_Hz))
    for elements in range(least, most + 1):
        basis = _basis(frequency_Hz, elements)
        amplitudes, residual = _solve(basis * weight[:, np.newaxis], impedance_ohm * weight)
        reached = _mu(amplitudes[:elements])
        if reached <= mu:
            break
    return KramersKronig(frequency_Hz, residual, elements, reached)


def analyse(
    dataset: Dataset,
    *,
    limit_percent: float = 1.0,
    worst_percent: float = 3.0,
) -> Result:
    """Test every spectrum of a run.

    Args:
        dataset: a run with spectra.
        limit_percent: rms residual up to which a spectrum is called consistent.
        worst_percent: the same for its largest residual.
    """
    rows = [_row(spectrum, limit_percent, worst_percent) for spectrum in dataset.spectra]
    return {
        "consistent": all(row["consistent"] for row in rows) if rows else None,
        "rms_residual_percent": reported.largest(row["rms_residual_percent"] for row in rows),
        "spectra": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The verdict in lines for people."""
    rows = result["spectra"]
    bad = [row for row in rows if not row["consistent"]]
    if not rows:
        return ["no spectrum to test"]
    worst = f"Kramers-Kronig residual {result['rms_residual_percent']:.2g} %"
    return [f"{worst} at most, {len(rows) - len(bad)} of {len(rows)} spectra consistent"]


def _row(spectrum: Spectrum, limit_percent: float, worst_percent: float) -> Result:
    tested = kramers_kronig(spectrum)
    consistent = 100 * tested.rms <= limit_percent and 100 * tested.worst <= worst_percent
    return {
        "step": spectrum.step,
        "time_s": reported.number(spectrum.time_s),
        "rms_residual_percent": reported.percent(tested.rms),
        "worst_residual_percent": reported.percent(tested.worst),
        "elements": tested.elements,
        "mu": reported.number(tested.mu),
        "consistent": consistent,
    }


def residual_percent(spectrum: Spectrum) -> float | None:
    """Rms residual of one spectrum in percent; None if it is too short to be tested."""
    if len(spectrum.descending()[0]) < LEAST_POINTS:
        return None
    return reported.percent(kramers_kronig(spectrum).rms)


def _least_elements(frequency_Hz: FloatArray) -> int:
    return max(2, round(3 * float(np.log10(frequency_Hz[0] / frequency_Hz[-1]))))


def _basis(frequency_Hz: FloatArray, elements: int) -> ComplexArray:
    """Columns: RC elements from the top of the band to its bottom, then R, L and 1/C."""
    s = 2j * np.pi * frequency_Hz[:, np.newaxis]
    shortest_s, longest_s = (1 / (2 * np.pi * float(end_Hz)) for end_Hz in frequency_Hz[[0, -1]])
    tau_s = np.geomspace(shortest_s, longest_s, elements)
    chain = 1 / (1 + s * tau_s)
    return np.hstack((chain, np.ones_like(s), s, 1 / s))


def _solve(basis: ComplexArray, target: ComplexArray) -> tuple[FloatArray, ComplexArray]:
    rows = np.vstack((basis.real, basis.imag))
    scale = np.linalg.norm(rows, axis=0)
    wanted = np.concatenate((target.real, target.imag))
    amplitudes = np.linalg.lstsq(rows / scale, wanted, rcond=None)[0] / scale
    return amplitudes, np.asarray(target - basis @ amplitudes)


def _mu(resistances_ohm: FloatArray) -> float:
    positive = float(resistances_ohm[resistances_ohm >= 0].sum())
    negative = -float(resistances_ohm[resistances_ohm < 0].sum())
    return 1 - negative / positive if positive else 0.0
