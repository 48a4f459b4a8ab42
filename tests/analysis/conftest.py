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


MASS_KG = 4.9e-6
NOMINAL_C = 3.6  # 1 mAh
FULL = Geometry(
    AREA_M2, "full", "halide", 0.9e-3, AREA_M2, MASS_KG, NOMINAL_C, counter_potential_V=0.62
)


@dataclass
class SyntheticTest:
    """A test that is put together step by step; currents are positive on charge."""

    geometry: Geometry = FULL
    period_s: float = 10.0
    with_ledger: bool = False
    noise_V: float = 0.0
    noise_A: float = 0.0
    now_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._rows: list[tuple[FloatArray, ...]] = []
        self.steps: list[StepData] = []
        self.spectra: list[Spectrum] = []
        self.pressure: Series = Series()
        self.temperature: Series = Series()

    def step(
        self,
        kind: str,
        duration_s: float,
        voltage_V: Callable[[FloatArray], FloatArray] | float,
        current_A: Callable[[FloatArray], FloatArray] | float = 0.0,
        *,
        path: str = "",
        ending: str = "completed",
        period_s: float | None = None,
        **settings: float,
    ) -> "SyntheticTest":
        """One step; voltage and current are numbers or functions of the time since its start."""
        period_s = period_s or self.period_s
        t = np.append(np.arange(period_s, duration_s - 1e-6, period_s), duration_s)
        v, i = (f(t) if callable(f) else np.full(len(t), f) for f in (voltage_V, current_A))
        charge_C = np.cumsum(np.append(t[0] * i[0], (i[1:] + i[:-1]) / 2 * np.diff(t)))
        v = v + self.noise_V * self._rng.normal(size=len(t))
        i = i + self.noise_A * self._rng.normal(size=len(t))
        self._rows.append((self.now_s + t, v, i, charge_C))
        if kind in {"charge", "discharge", "current"} and not callable(current_A):
            settings = {"current_A": float(current_A), **settings}
        name = path or f"{kind}_{len(self.steps)}"
        end_s = self.now_s + duration_s
        self.steps.append(StepData(name, kind, self.now_s, end_s, settings, ending))
        self.now_s = end_s
        return self

    def cycle(
        self,
        charge_C: float,
        discharge_C: float,
        current_A: float = 1e-3,
        low_V: float = 2.0,
        high_V: float = 3.6,
    ) -> "SyntheticTest":
        """A charge and a discharge along a straight line of voltage."""
        for kind, passed_C, sign in (("charge", charge_C, 1), ("discharge", discharge_C, -1)):
            lasts_s = passed_C / current_A
            start_V, end_V = (low_V, high_V) if sign > 0 else (high_V, low_V)
            ramp = lambda t, a=start_V, b=end_V, T=lasts_s: a + (b - a) * t / T  # noqa: E731
            self.step(kind, lasts_s, ramp, sign * current_A)
        return self

    def spectrum(
        self, impedance: Callable[[FloatArray], ComplexArray], noise: float = 1e-3, **fields: float
    ) -> "SyntheticTest":
        f = np.geomspace(1e6, 0.1, 61)
        z = noisy(impedance(f), noise, len(self.spectra))
        name = f"eis_{len(self.spectra)}"
        self.spectra.append(Spectrum(self.now_s + 1, name, f, z, **fields))  # type: ignore[arg-type]
        self.steps.append(StepData(name, "eis", self.now_s, self.now_s + 120))
        self.now_s += 120
        return self

    def build(self) -> Dataset:
        columns = [np.concatenate(column) for column in zip(*self._rows, strict=True)]
        if not columns:
            columns = [np.empty(0)] * 4
        time_s, voltage_V, current_A, charge_C = columns
        ledger = charge_C if self.with_ledger else np.empty(0)
        samples = Samples(time_s, voltage_V, current_A, self.pressure, self.temperature, ledger)
        return Dataset(self.geometry, tuple(self.steps), samples, tuple(self.spectra), "synthetic")


@pytest.fixture
def new_test() -> type[SyntheticTest]:
    return SyntheticTest
