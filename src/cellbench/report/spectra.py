"""The spectra of a run on their way into one Nyquist plot: points, fitted lines, labels.

The lines are the analyses' own circuits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellbench.analysis.circuits import ConstantPhase, Element, Fit
from cellbench.analysis.dataset import Dataset, Spectrum
from cellbench.analysis.equivalents import followed
from cellbench.analysis.kramers_kronig import residual_percent
from cellbench.report.tables import Table
from cellbench.report.wording import number, with_error

_LINE_POINTS = 120
#: The element that is known without its arc: it is the high-frequency intercept.
_INTERCEPT = "bulk"


@dataclass(frozen=True, eq=False)
class Drawn:
    """One spectrum with its label, its fit (None where it is too short) and its test in percent."""

    spectrum: Spectrum
    label: str
    fit: Fit | None
    residual_percent: float | None


def drawn_spectra(dataset: Dataset) -> list[Drawn]:
    """The spectra in order of time, fitted and labelled."""
    spectra = sorted(dataset.spectra, key=lambda one: one.time_s)
    return [
        Drawn(spectrum, label, found, residual_percent(spectrum))
        for spectrum, label, found in zip(
            spectra, _labels(dataset, spectra), _fits(dataset, spectra), strict=True
        )
    ]


def plot_data(drawn: Drawn) -> dict[str, Any]:
    """Points and fitted line as a plot takes them: Z' and -Z'' in ohm, frequencies in Hz."""
    frequency_Hz, impedance_ohm = drawn.spectrum.descending()
    data: dict[str, Any] = {
        "label": drawn.label,
        "frequency": _rounded(frequency_Hz),
        "re": _rounded(impedance_ohm.real),
        "im": _rounded(-impedance_ohm.imag),
    }
    if drawn.fit is not None and len(frequency_Hz):
        line_Hz = np.geomspace(frequency_Hz[0], frequency_Hz[-1], _LINE_POINTS)
        line_ohm = drawn.fit.impedance_ohm(line_Hz)
        data |= {"fit_re": _rounded(line_ohm.real), "fit_im": _rounded(-line_ohm.imag)}
        data |= {"spike_beyond": _spike_beyond_ohm(drawn.fit)}
    return data


def _spike_beyond_ohm(found: Fit) -> float | None:
    """Resistance at whose end a blocking electrode's spike begins, None where there is none."""
    resistive = [e.name for e in found.circuit if not isinstance(e, ConstantPhase)]
    return None if len(resistive) == len(found.circuit) else found.resistance_ohm(*resistive)


def spectra_table(spectra: Sequence[Drawn]) -> Table:
    """One row per spectrum: conditions, the fitted elements with their uncertainty, the tests."""
    return Table(
        "Spectra",
        ("spectrum", "MPa", "°C", "bias / V", "circuit", "fit residual / %", "Kramers-Kronig / %"),
        [
            (
                drawn.label,
                number(_scaled(drawn.spectrum.stack_pressure_Pa, 1e-6, 0.0), 3),
                number(_scaled(drawn.spectrum.temperature_K, 1.0, -273.15), 3),
                number(drawn.spectrum.bias_V, 3),
                "too short to fit" if drawn.fit is None else _elements(drawn.fit),
                number(None if drawn.fit is None else 100 * drawn.fit.rms, 2),
                number(drawn.residual_percent, 2),
            )
            for drawn in spectra
        ],
    )


def _scaled(value: float | None, scale: float, offset: float) -> float | None:
    return None if value is None else value * scale + offset


def _elements(found: Fit) -> str:
    return ", ".join(
        _element(found, element)
        for element in found.circuit
        if not isinstance(element, ConstantPhase)
    )


def _element(found: Fit, element: Element) -> str:
    name, ohm = element.name, found.resistance_ohm(element.name)
    value = f"{name} {with_error(ohm, found.uncertainty_ohm(name))} Ω"
    reason = None if name == _INTERCEPT else found.why_not_identified(name)
    return f"{value} (not identified: {reason})" if reason else value


def _fits(dataset: Dataset, spectra: Sequence[Spectrum]) -> Iterator[Fit | None]:
    for found in followed(spectra, dataset.geometry.layout):
        yield None if found is None else found.fit


def _labels(dataset: Dataset, spectra: Sequence[Spectrum]) -> list[str]:
    """What tells the spectra apart: the current before each, and what varies between them."""
    names = ("stack_pressure_Pa", "temperature_K")
    varying = {name for name, share in zip(names, (0.1, 0.01), strict=True)
               if _varies([getattr(one, name) for one in spectra], share)}  # fmt: skip
    labels = [_label(dataset, one, varying) for one in spectra]
    alike = len(set(labels)) < len(labels)
    return [_timed(label, one) if alike else label
            for label, one in zip(labels, spectra, strict=True)]  # fmt: skip


def _timed(label: str, spectrum: Spectrum) -> str:
    """Where nothing else tells two spectra apart, their time does."""
    return f"{label}, {spectrum.time_s / 3600:.4g} h"


def _varies(values: Sequence[float | None], share: float) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and max(known) - min(known) > share * max(known)


def _label(dataset: Dataset, spectrum: Spectrum, varying: set[str]) -> str:
    parts = [_current_before(dataset, spectrum)]
    if "stack_pressure_Pa" in varying and spectrum.stack_pressure_Pa is not None:
        parts.append(f"{spectrum.stack_pressure_Pa / 1e6:.1f} MPa")
    if "temperature_K" in varying and spectrum.temperature_K is not None:
        parts.append(f"{spectrum.temperature_K - 273.15:.1f} °C")
    return ", ".join(part for part in parts if part) or _place_of(spectrum.step)


def _place_of(path: str) -> str:
    """A step's name without the passes of its loops, which its time tells better."""
    looped = re.search(r"\[\d+\]", path)
    return re.sub(r"\[\d+\]", "", path).rpartition("/")[2] if looped else path


def _current_before(dataset: Dataset, spectrum: Spectrum) -> str:
    currents = [step for step in dataset.steps_of("current") if step.number("current_A")]
    if not currents:
        return ""
    before = [step for step in currents if step.start_s < spectrum.time_s]
    if not before:
        return "before the first current"
    density_A_m2 = abs(before[-1].number("current_A") or 0.0) / dataset.geometry.area_m2
    return f"after {number(density_A_m2 / 10, 3)} mA/cm²"


def _rounded(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
