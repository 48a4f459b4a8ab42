"""Equivalent circuits in series, and their complex least-squares fit.

A circuit is a tuple of elements. Each gives its impedance and the derivatives with respect to its
own parameters in closed form; resistances, capacitances and time constants are fitted as their
logarithms, so that they stay positive and their standard errors are relative ones. Residuals are
weighted by the modulus (Boukamp, Solid State Ionics 20 (1986) 31). Nothing here knows what an
element stands for: `equivalents` does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import ClassVar, TypeAlias

import numpy as np

from cellbench.analysis.dataset import ComplexArray, FloatArray

_EVALUATIONS = 60
_FARTHEST = 40.0  # no logarithm of ohms, farads or seconds leaves this range
_LARGEST = 100.0  # nor does a product of an exponent and a logarithm, lest its square overflow


def _exponential(z: ComplexArray) -> ComplexArray:
    return np.asarray(np.exp(np.minimum(z.real, _LARGEST) + 1j * z.imag))


@dataclass(frozen=True)
class Resistor:
    """Z = R. Parameter: ln R."""

    name: str
    columns: ClassVar[int] = 1

    def evaluate(self, p: FloatArray, s: ComplexArray) -> tuple[ComplexArray, list[ComplexArray]]:
        """Impedance (ohm) and derivatives at the complex angular frequencies `s` = j omega."""
        z = np.full(len(s), np.exp(p[0]), dtype=np.complex128)
        return z, [z]


@dataclass(frozen=True)
class Arc:
    """ZARC: Z = R / (1 + (s tau)^alpha). Parameters: ln R, ln tau, and alpha unless `ideal`.

    It is R parallel to a CPE of Q = tau^alpha / R. Its top lies at 1 / (2 pi tau), and tau / R is
    its effective capacitance (Hsu and Mansfeld, Corrosion 57 (2001) 747).
    """

    name: str
    ideal: bool = False

    @property
    def columns(self) -> int:
        """How many parameters are fitted."""
        return 2 if self.ideal else 3

    def evaluate(self, p: FloatArray, s: ComplexArray) -> tuple[ComplexArray, list[ComplexArray]]:
        """Impedance (ohm) and derivatives at the complex angular frequencies `s` = j omega."""
        alpha = 1.0 if self.ideal else p[2]
        log_s_tau = np.log(s) + p[1]
        share = 1 / (1 + _exponential(alpha * log_s_tau))
        z = np.exp(p[0]) * share
        bend = z * (share - 1)
        return z, [z, alpha * bend] + ([] if self.ideal else [bend * log_s_tau])


@dataclass(frozen=True)
class ConstantPhase:
    """CPE: Z = 1 / (Q s^alpha). Parameters: ln Q, and alpha unless `ideal` (a capacitor)."""

    name: str
    ideal: bool = False

    @property
    def columns(self) -> int:
        """How many parameters are fitted."""
        return 1 if self.ideal else 2

    def evaluate(self, p: FloatArray, s: ComplexArray) -> tuple[ComplexArray, list[ComplexArray]]:
        """Impedance (ohm) and derivatives at the complex angular frequencies `s` = j omega."""
        log_s = np.log(s)
        z = _exponential(-p[0] - (1.0 if self.ideal else p[1]) * log_s)
        return z, [-z] + ([] if self.ideal else [-z * log_s])


Element: TypeAlias = Resistor | Arc | ConstantPhase
Circuit: TypeAlias = tuple[Element, ...]


def evaluate(
    circuit: Circuit,
    parameters: FloatArray,
    frequency_Hz: FloatArray,
) -> tuple[ComplexArray, ComplexArray]:
    """Impedance (n) in ohm and its derivatives (n, parameters)."""
    s = (2j * np.pi * frequency_Hz).astype(np.complex128)
    total, slopes, first = np.zeros(len(s), dtype=np.complex128), [], 0
    for element in circuit:
        z, dz = element.evaluate(parameters[first : first + element.columns], s)
        total, first = total + z, first + element.columns
        slopes += dz
    return total, np.stack(slopes, axis=1)


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted circuit: parameters in the elements' order, their covariance, and its quality.

    `rms` is the relative residual per real or imaginary part; `bic` Bayes' information criterion.
    """

    circuit: Circuit
    parameters: FloatArray
    covariance: FloatArray
    rms: float
    bic: float
    frequency_Hz: FloatArray

    @cached_property
    def _first(self) -> dict[str, int]:
        starts = np.cumsum([0, *(element.columns for element in self.circuit)])
        return {e.name: int(k) for e, k in zip(self.circuit, starts, strict=False)}

    def resistance_ohm(self, *names: str) -> float:
        """Sum of the resistances of some elements."""
        return float(sum(math.exp(self.parameters[self._first[name]]) for name in names))

    def uncertainty_ohm(self, *names: str) -> float:
        """Standard error (68 %) of that sum, correlations included."""
        gradient = np.zeros(len(self.parameters))
        for name in names:
            gradient[self._first[name]] = np.exp(self.parameters[self._first[name]])
        variance = float(gradient @ self.covariance @ gradient)
        return math.sqrt(max(variance, 0.0))

    def top_Hz(self, arc: str) -> float:
        """Frequency of an arc's top."""
        return float(np.exp(-self.parameters[self._first[arc] + 1]) / (2 * np.pi))

    def capacitance_F(self, arc: str) -> float:
        """Effective capacitance of an arc, tau / R."""
        first = self._first[arc]
        return float(np.exp(self.parameters[first + 1] - self.parameters[first]))

    def exponents(self) -> dict[str, float]:
        """The exponents that were fitted, by element."""
        return {
            element.name: float(self.parameters[self._first[element.name] + element.columns - 1])
            for element in self.circuit
            if not isinstance(element, Resistor) and not element.ideal
        }

    def why_not_identified(self, name: str) -> str | None:
        """Why the resistance of an element is not known from this band, or None if it is."""
        if self.uncertainty_ohm(name) > 0.5 * self.resistance_ohm(name):
            return "its standard error is above 50 %"
        if not isinstance(self._element(name), Arc):
            return None
        if self.top_Hz(name) > self.frequency_Hz.max():
            return f"its arc's top, {self.top_Hz(name):.2g} Hz, lies above the band"
        if self.top_Hz(name) < self.frequency_Hz.min():
            return f"its arc's top, {self.top_Hz(name):.2g} Hz, lies below the band"
        return None

    def impedance_ohm(self, frequency_Hz: FloatArray) -> ComplexArray:
        """The model at any frequencies."""
        return evaluate(self.circuit, self.parameters, frequency_Hz)[0]

    def _element(self, name: str) -> Element:
        return next(element for element in self.circuit if element.name == name)


def fit(
    circuit: Circuit,
    start: Sequence[float] | FloatArray,
    frequency_Hz: FloatArray,
    impedance_ohm: ComplexArray,
) -> Fit:
    """Least squares from a start; an exponent that passes 1 is held there and the rest refitted.

    Args:
        circuit: elements in series.
        start: parameters in the elements' order, logarithms as the elements say.
        frequency_Hz: n frequencies, at least as many as half the parameters.
        impedance_ohm: n impedances, none of them zero.
    """
    found = _fit_once(circuit, np.asarray(start, dtype=float), frequency_Hz, impedance_ohm)
    beyond = {name for name, alpha in found.exponents().items() if alpha > 1}
    if not beyond:
        return found
    held, kept = _with_ideal(found, beyond)
    return fit(held, kept, frequency_Hz, impedance_ohm)


def _with_ideal(found: Fit, names: set[str]) -> tuple[Circuit, FloatArray]:
    elements: list[Element] = []
    kept: list[float] = []
    first = 0
    for element in found.circuit:
        values = found.parameters[first : first + element.columns]
        first += element.columns
        if element.name in names and not isinstance(element, Resistor):
            elements.append(replace(element, ideal=True))
            kept += list(values[:-1])
        else:
            elements.append(element)
            kept += list(values)
    return tuple(elements), np.array(kept)


def _fit_once(
    circuit: Circuit,
    start: FloatArray,
    frequency_Hz: FloatArray,
    impedance_ohm: ComplexArray,
) -> Fit:
    from scipy.optimize import least_squares  # noqa: PLC0415 - 0.25 s that only a fit should cost

    weight = 1 / np.abs(impedance_ohm)

    model = lru_cache(maxsize=1)(lambda p: evaluate(circuit, np.frombuffer(p), frequency_Hz))

    def at(p: FloatArray) -> tuple[ComplexArray, ComplexArray]:
        return model(np.clip(p, -_FARTHEST, _FARTHEST).tobytes())

    def residuals(p: FloatArray) -> FloatArray:
        return _stacked((at(p)[0] - impedance_ohm) * weight)

    def jacobian(p: FloatArray) -> FloatArray:
        return _stacked(at(p)[1] * weight[:, np.newaxis])

    found = least_squares(residuals, start, jac=jacobian, method="lm", max_nfev=_EVALUATIONS)
    parameters = np.clip(found.x, -_FARTHEST, _FARTHEST)
    return _assessed(circuit, parameters, found.fun, found.jac, frequency_Hz)


def _assessed(
    circuit: Circuit,
    parameters: FloatArray,
    residuals: FloatArray,
    jacobian: FloatArray,
    frequency_Hz: FloatArray,
) -> Fit:
    count, free = len(residuals), len(parameters)
    square = float(residuals @ residuals)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * square / max(count - free, 1)
    # No instrument is better than 0.01 %; below that a better fit is no evidence for anything.
    evidence = max(square / count, 1e-8)
    bic = count * np.log(evidence) + free * np.log(count)
    rms = float(np.sqrt(square / count))
    return Fit(circuit, parameters, covariance, rms, float(bic), frequency_Hz)


def _stacked(values: ComplexArray) -> FloatArray:
    return np.concatenate((values.real, values.imag))
