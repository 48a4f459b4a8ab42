"""The spectra of a run on their way into one Nyquist plot: points, fitted lines, labels.

The lines are the analyses' own circuits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellbench.analysis.circuits import ConstantPhase, Element, Fit
from cellbench.analysis.dataset import Dataset, Spectrum
from cellbench.analysis.equivalents import followed
from cellbench.analysis.kramers_kronig import residual_percent
from cellbench.report.curves import place
from cellbench.report.tables import Table
from cellbench.report.wording import number, with_error

_LINE_POINTS = 120
_BIAS_V = 0.02
#: By heading: attribute of a spectrum, by what share it has to vary, scale and offset to its unit.
_CONDITIONS = {
    "stack pressure / MPa": ("stack_pressure_Pa", 0.1, 1e-6, 0.0),
    "temperature / °C": ("temperature_K", 0.01, 1.0, -273.15),
}
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


@dataclass(frozen=True)
class Colours:
    """What the colours of a series of spectra stand for: a heading, both ends, a place for each."""

    name: str
    first: str
    last: str
    along: list[float]

    @property
    def scale(self) -> tuple[str, str, str]:
        """As a plot's legend takes it."""
        return self.name, self.first, self.last


def colours(dataset: Dataset, spectra: Sequence[Spectrum]) -> Colours:
    """What a series is coloured by: stack pressure or temperature where they vary, else time.

    A ramp of currents is coloured in its order.
    """
    known = _coloured_by(dataset, spectra)
    if known is None or not spectra:
        places = [place(index, len(spectra)) for index in range(len(spectra))]
        return Colours("spectrum", "1", str(len(spectra)), places)
    name, values = known
    low, high = min(values), max(values)
    along = _ranked(values) if _uneven(values) else _scaled_places(values)
    return Colours(name, number(low, 3), number(high, 3), along)


def _uneven(values: Sequence[float]) -> bool:
    """Whether most values crowd at one end, so that they would all look alike."""
    return not 0.2 < float(np.median(_scaled_places(values))) < 0.8


def _scaled_places(values: Sequence[float]) -> list[float]:
    low, wide = min(values), (max(values) - min(values)) or 1.0
    return [round((value - low) / wide, 4) for value in values]


def _ranked(values: Sequence[float]) -> list[float]:
    ordered = sorted(set(values))
    return [round(place(ordered.index(value), len(ordered)), 4) for value in values]


def _coloured_by(dataset: Dataset, spectra: Sequence[Spectrum]) -> tuple[str, list[float]] | None:
    if any(_current_before(dataset, one) for one in spectra) and not _same_current(dataset):
        return None
    for name, (attribute, share, scale, offset) in _CONDITIONS.items():
        values = [getattr(one, attribute) for one in spectra]
        if None not in values and _varies(values, share):
            return name, [value * scale + offset for value in values]
    return "time / h", [one.time_s / 3600 for one in spectra]


def plot_data(drawn: Drawn, along: float = 0.0) -> dict[str, Any]:
    """Points and fitted line as a plot takes them: Z' and -Z'' in ohm, frequencies in Hz.

    ``along`` from 0 to 1 is the place on the colour scale.
    """
    frequency_Hz, impedance_ohm = drawn.spectrum.descending()
    data: dict[str, Any] = {
        "label": drawn.label,
        "along": along,
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
    varying = {
        attribute
        for attribute, share, _, _ in _CONDITIONS.values()
        if _varies([getattr(one, attribute) for one in spectra], share)
    }
    if dataset.geometry.layout in {"full", "half"} and _moves([one.bias_V for one in spectra]):
        varying.add("bias_V")
    labels = [_label(dataset, one, varying) for one in spectra]
    if len(spectra) == 1:
        return [labels[0] or spectra[0].step]
    if all(labels) and len(set(labels)) == len(labels):
        return labels
    # Where nothing else tells two spectra apart, their time does.
    times = [f"{one.time_s / 3600:.4g} h" for one in spectra]
    return [f"{label}, {at}" if label else at for label, at in zip(labels, times, strict=True)]


def _moves(volts: Sequence[float | None]) -> bool:
    known = [value for value in volts if value is not None]
    return bool(known) and max(known) - min(known) > _BIAS_V


def _same_current(dataset: Dataset) -> bool:
    """Whether all plain currents of the run are alike, as in cycling: then they tell nothing."""
    amperes = {abs(step.number("current_A") or 0.0) for step in dataset.steps_of("current")}
    return len({round(value, 9) for value in amperes} - {0.0}) < 2


def _varies(values: Sequence[float | None], share: float) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and max(known) - min(known) > share * max(known)


def _label(dataset: Dataset, spectrum: Spectrum, varying: set[str]) -> str:
    parts = [_current_before(dataset, spectrum)]
    if "stack_pressure_Pa" in varying and spectrum.stack_pressure_Pa is not None:
        parts.append(f"{spectrum.stack_pressure_Pa / 1e6:.1f} MPa")
    if "temperature_K" in varying and spectrum.temperature_K is not None:
        parts.append(f"{spectrum.temperature_K - 273.15:.1f} °C")
    if "bias_V" in varying and spectrum.bias_V is not None:
        parts.append(f"{dataset.geometry.potential_V(spectrum.bias_V):.2f} V")
    return ", ".join(part for part in parts if part)


def _current_before(dataset: Dataset, spectrum: Spectrum) -> str:
    if _same_current(dataset):
        return ""
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
