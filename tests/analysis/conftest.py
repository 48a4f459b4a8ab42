"""Synthetic cells for the analyses: spectra of known circuits and ramps of known behaviour."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from cellbench.analysis.dataset import (
    ComplexArray,
    Dataset,
    FloatArray,
    Geometry,
    Samples,
    Series,
    Spectrum,
    StepData,
)

AREA_M2 = np.pi * 5e-3**2
ELECTROLYTE_OHM = 284.0
INTERFACE_OHM = 40.0
Alter = Callable[[float, float, FloatArray, FloatArray], FloatArray]


def zarc(
    frequency_Hz: FloatArray,
    resistance_ohm: float,
    capacitance_F: float,
    alpha: float,
) -> ComplexArray:
    tau_s = resistance_ohm * capacitance_F
    return np.asarray(resistance_ohm / (1 + (2j * np.pi * frequency_Hz * tau_s) ** alpha))


def spike(frequency_Hz: FloatArray, q: float = 2e-6, alpha: float = 0.9) -> ComplexArray:
    return np.asarray(1 / (q * (2j * np.pi * frequency_Hz) ** alpha))


def noisy(impedance_ohm: ComplexArray, relative: float, seed: int = 1) -> ComplexArray:
    rng = np.random.default_rng(seed)
    real, imag = rng.normal(size=(2, len(impedance_ohm)))
    return np.asarray(impedance_ohm * (1 + relative * (real + 1j * imag)))


def symmetric_impedance(
    frequency_Hz: FloatArray,
    interface_ohm: float = INTERFACE_OHM,
    shunt_ohm: float | None = None,
) -> ComplexArray:
    z = zarc(frequency_Hz, 91.2, 39e-12, 1.0) + zarc(frequency_Hz, 192.8, 20e-9, 0.95)
    z = z + zarc(frequency_Hz, interface_ohm, 5e-6, 0.85)
    return z if shunt_ohm is None else z * shunt_ohm / (z + shunt_ohm)


@dataclass
class SyntheticRamp:
    """A symmetric cell on a ramp; `alter(j, sign, t, v)` bends the voltage along the current.

    `j` is in mA/cm2, `t` in seconds from the start of the half-cycle, `v` positive.
    """

    currents_mA_cm2: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0)
    alter: Alter | None = None
    noise_V: float = 5e-5
    offset_V: float = 0.0
    resolution_V: float = 0.0
    half_cycle_s: float = 1200.0
    period_s: float = 1.0
    rest_s: float = 600.0
    with_spectra: bool = True
    shunt_ohm: dict[float, float] = field(default_factory=dict)
    warming_K: Callable[[float], float] | None = None
    area_m2: float = AREA_M2
    seed: int = 0

    def build(self) -> Dataset:
        self._rng = np.random.default_rng(self.seed)
        self._rows: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        self._steps: list[StepData] = []
        self._spectra: list[Spectrum] = []
        self._now_s = 0.0
        if self.rest_s:
            self._rest()
        self._eis(None)
        for index, j in enumerate(self.currents_mA_cm2):
            for sign in (1.0, -1.0):
                self._half_cycle(index, j, sign)
            self._eis(j)
        return self._dataset()

    def _measured(self, voltage_V: FloatArray) -> FloatArray:
        read = voltage_V + self.offset_V + self.noise_V * self._rng.normal(size=len(voltage_V))
        return np.round(read / self.resolution_V) * self.resolution_V if self.resolution_V else read

    def _rest(self) -> None:
        t = np.arange(0, self.rest_s, self.period_s)
        self._rows.append((t, self._measured(np.zeros(len(t))), np.zeros(len(t))))
        self._steps.append(StepData("rest", "rest", 0.0, self.rest_s))
        self._now_s = self.rest_s

    def _half_cycle(self, index: int, j: float, sign: float) -> None:
        t = np.arange(self.period_s, self.half_cycle_s + self.period_s / 2, self.period_s)
        current_A = sign * j * 10 * AREA_M2
        interface_ohm = INTERFACE_OHM * (1 - np.exp(-t / 4.0))
        v = abs(current_A) * (ELECTROLYTE_OHM * self._softening(t) + interface_ohm)
        if self.alter is not None:
            v = self.alter(j, sign, t, v)
        start_s, self._now_s = self._now_s, self._now_s + self.half_cycle_s
        settings = {"current_A": current_A, "duration_s": self.half_cycle_s}
        path = f"for_each[{index + 1}]/current"
        self._rows.append((start_s + t, self._measured(sign * v), np.full(len(t), current_A)))
        self._steps.append(StepData(path, "current", start_s, self._now_s, settings))

    def _softening(self, t: FloatArray) -> FloatArray | float:
        if self.warming_K is None:
            return 1.0
        kelvin = 298.15 + np.array([self.warming_K(self._now_s + float(one)) for one in t])
        return np.asarray(np.exp(0.45 / 8.617e-5 * (1 / kelvin - 1 / 298.15)))

    def _eis(self, j: float | None) -> None:
        if not self.with_spectra:
            return
        f = np.geomspace(1e6, 0.1, 71)
        shunt_ohm = None if j is None else self.shunt_ohm.get(j)
        z = noisy(symmetric_impedance(f, shunt_ohm=shunt_ohm), 0.002, len(self._spectra))
        self._spectra.append(Spectrum(self._now_s + 1, "eis", f, z, stack_pressure_Pa=5e6))
        self._now_s += 120.0

    def _dataset(self) -> Dataset:
        time_s, voltage_V, current_A = (
            np.concatenate(column) for column in zip(*self._rows, strict=True)
        )
        gauge_s = np.arange(0, self._now_s, 10.0)
        rise_K = [self.warming_K(float(t)) if self.warming_K else 0.0 for t in gauge_s]
        pressure = Series(gauge_s, np.full(len(gauge_s), 5.0e6))
        temperature = Series(gauge_s, 298.15 + np.array(rise_K))
        return Dataset(
            Geometry(self.area_m2, "symmetric", "LYC_PMMA", 0.354e-3, AREA_M2),
            tuple(self._steps),
            Samples(time_s, voltage_V, current_A, pressure, temperature),
            tuple(self._spectra),
            "synthetic",
        )


@pytest.fixture
def ramp() -> type[SyntheticRamp]:
    return SyntheticRamp


@pytest.fixture
def make_spectrum() -> Callable[..., Spectrum]:
    """Builds a spectrum: make_spectrum(impedance, top_Hz, noise, **fields of Spectrum)."""

    def build(
        impedance: Callable[[FloatArray], ComplexArray],
        top_Hz: float = 1e6,
        noise: float = 0.003,
        *,
        seed: int = 1,
        time_s: float = 0.0,
        stack_pressure_Pa: float | None = None,
        temperature_K: float | None = None,
    ) -> Spectrum:
        f = np.geomspace(top_Hz, 0.1, round(10 * np.log10(top_Hz / 0.1)) + 1)
        return Spectrum(
            time_s,
            "eis",
            f,
            noisy(impedance(f), noise, seed),
            temperature_K=temperature_K,
            stack_pressure_Pa=stack_pressure_Pa,
        )

    return build
