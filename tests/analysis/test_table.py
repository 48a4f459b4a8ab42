"""Every analysis of samples works on a plain table: columns in, numbers with a known answer out."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from cellbench.analysis import analyse, available
from cellbench.analysis.dataset import ComplexArray, Dataset, FloatArray, Geometry, Spectrum
from cellbench.analysis.table import dataset_of

AREA_M2, MASS_KG = 1e-4, 5e-6
PELLET = Geometry(AREA_M2, "blocking", "SE", 1e-3, AREA_M2)
SYMMETRIC = Geometry(AREA_M2, "symmetric", "SE", 1e-3, AREA_M2)
FULL = Geometry(AREA_M2, "full", "SE", 1e-3, AREA_M2, MASS_KG, 3.6, counter_potential_V=0.62)
HALF = Geometry(AREA_M2, "half", "SE", 1e-3, AREA_M2, counter_potential_V=0.0)
Table = dict[str, FloatArray]
Build = Callable[[], Dataset]


class Columns:
    """Puts a table together, stretch by stretch."""

    def __init__(self, period_s: float = 10.0) -> None:
        self.period_s, self.now_s, self.number = period_s, 0.0, 0
        self.parts: list[Table] = []

    def add(
        self, lasts_s: float, volts: Any, amperes: Any, period_s: float | None = None
    ) -> "Columns":
        period_s = period_s or self.period_s
        t = np.arange(period_s, lasts_s + period_s / 2, period_s)
        v, i = (f(t) if callable(f) else np.full(len(t), float(f)) for f in (volts, amperes))
        self.number += 1
        step = np.full(len(t), float(self.number))
        part = {"time_s": self.now_s + t, "voltage_V": v, "current_A": i, "step": step}
        self.parts.append(part)
        self.now_s += lasts_s
        return self

    def table(self) -> Table:
        return {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}


def cycled(rates_A: tuple[float, ...] = (1e-3, 1e-3, 2e-3, 1e-3)) -> Table:
    """Cycles that give back 3.4, 3.3, 2.8 and 3.2 C; in the middle, a peak of dQ/dV at 3.62 V."""
    made = Columns()
    for set_A, passed_C in zip(rates_A, (3.4, 3.3, 2.8, 3.2), strict=True):
        for sign, charge_C in ((1, 3.5), (-1, passed_C)):
            lasts_s = charge_C / set_A
            rise = lambda t, s=sign, T=lasts_s: 3.0 + s * 0.5 * _plateau(2 * t / T - 1)  # noqa: E731
            made.add(lasts_s, rise, sign * set_A)
    return made.table()


def _plateau(x: FloatArray) -> FloatArray:
    return np.asarray((x + 4 * x**3) / 5)


def held() -> Table:
    """A hold whose current falls to 2 uA as t^-1/2."""
    tail = lambda t: 2e-6 + 1e-4 / np.sqrt(t)  # noqa: E731
    return Columns(20).add(600, lambda t: 3 + t / 1e3, 1e-3).add(36e3, 3.68, tail).table()


def polarised() -> Table:
    """Electronic currents of 10 GOhm, with an offset of 0.1 nA."""
    made = Columns(60)
    for volts in (0.0, 0.1, 0.2, 0.4):
        made.add(36e3, volts, volts / 1e10 + 1e-10)
    return made.table()


def titrated() -> Table:
    """One pulse, short against R^2/D = 2000 s: dE_t = 2 sqrt(theta/pi)/(3 theta) dE_s."""
    theta = 1 / 2000.0
    rise_V = 0.01 * 2 * np.sqrt(theta / np.pi) / (3 * theta)
    made = Columns(10).add(600, 3.0, 0.0)
    made.add(1.0, lambda t: 3.05 + rise_V * np.sqrt(t), 1e-3, 0.02)
    return made.add(7200, 3.01, 0.0).table()


def stripped() -> Table:
    """0.2 V until 5 mAh/cm2, then the voltage runs away."""
    volts = lambda t: 0.2 + 5 * np.clip(t / 18e3 - 1, 0, None) * 50  # noqa: E731
    return Columns(20).add(600, 0.0, 0.0).add(18.6e3, volts, 1e-3).table()


def plated() -> Table:
    made = Columns(10)
    for _ in range(30):
        made.add(1800, 0.05, 5e-4).add(1800, -0.05, -5e-4)
    return made.table()


def pulsed() -> Table:
    return Columns(10).add(600, 3.0, 0.0).add(30, 3.04, 1e-3, 0.5).add(600, 3.0, 0.0).table()


def stored() -> Table:
    """3.5 C in, 100 h of rest, 3.15 C out: 10 % are lost, 1 mV per hour."""
    made = Columns(10).add(3500, lambda t: 2.5 + t / 3500, 1e-3)
    made.add(36e4, lambda t: 3.5 - t / 3.6e6, 0.0)
    return made.add(3150, lambda t: 3.4 - t / 3150, -1e-3).table()


def breathed() -> Table:
    """0.5 MPa per mAh/cm2 on a drift of 0.01 MPa/h."""
    table = cycled((1e-3,) * 4)
    charge_C = np.concatenate(([0.0], np.cumsum(np.diff(table["time_s"]) * table["current_A"][1:])))
    areal = charge_C / AREA_M2 / 3.6e4
    pressure = 5e6 + 0.5e6 * areal + 0.01e6 * table["time_s"] / 3600
    return table | {"stack_pressure_Pa": pressure}


def swept() -> Table:
    """An oxidation from 4.2 V on, 10 mV per decade of current, limited at 0.05 mA/cm2."""
    wave = lambda t: 5e-5 / (1 + np.exp((4.3 - (3 + 5e-4 * t)) / 0.02))  # noqa: E731
    return Columns(2).add(4000, lambda t: 3 + 5e-4 * t, wave).table()


def circuit(f: FloatArray, bulk: float = 90.0, arc: float = 40.0) -> ComplexArray:
    return np.asarray(bulk + arc / (1 + (2j * np.pi * f * arc * 5e-6) ** 0.9))


def spectrum(z: Callable[[FloatArray], ComplexArray], hour: float = 0.0, **fields: Any) -> Spectrum:
    f = np.geomspace(1e6, 0.1, 61)
    return Spectrum(hour * 3600, f"eis at {hour:g} h", f, z(f), **fields)


def blocking(kelvin: float) -> Spectrum:
    """A pellet of 1 mS/cm at 25 degC and 0.35 eV, in the form of sigma T."""
    ohm = 100 * kelvin / 298.15 * np.exp(0.35 / 8.617333e-5 * (1 / kelvin - 1 / 298.15))
    spike = lambda f: ohm + 1 / (2e-6 * (2j * np.pi * f) ** 0.9)  # noqa: E731
    return spectrum(spike, kelvin, temperature_K=kelvin)


def grown() -> Dataset:
    """An interface that grows by 10 Ohm per root hour."""
    hours = range(0, 50, 2)
    spectra = [spectrum(partial(circuit, arc=40 + 10 * hour**0.5), hour) for hour in hours]
    return dataset_of(Columns().add(180e3, 3.0, 0.0).table(), SYMMETRIC, spectra)


def pressed() -> Dataset:
    """Pressed at 100, 250 and 500 MPa: it densifies, and then its boundaries crack."""
    made, spectra = Columns(), []
    pressure_Pa: list[FloatArray] = []
    for hour, (MPa, bulk, arc) in enumerate(((100, 100, 50), (250, 80, 40), (500, 80, 60)), 1):
        made.add(3600, 0.0, 0.0)
        pressure_Pa.append(np.full(360, MPa * 1e6))
        z = lambda f, b=bulk, a=arc: (  # noqa: E731
            b + a / (1 + 2j * np.pi * f * a * 2e-8) + 1 / (2e-6 * (2j * np.pi * f) ** 0.9)
        )
        spectra.append(spectrum(z, hour, stack_pressure_Pa=5e6))
    table = made.table() | {"stack_pressure_Pa": np.concatenate(pressure_Pa)}
    return dataset_of(table, PELLET, spectra)


def ramped() -> Table:
    made = Columns(2).add(600, 0.0, 0.0)
    for density in (0.1, 0.2, 0.5, 1.0):
        for sign in (1, -1):
            made.add(600, sign * density * 1e-3 * 100, sign * density * 1e-3)
    return made.table()


def table_of(make: Callable[[], Mapping[str, Any]], geometry: Geometry) -> Build:
    return lambda: dataset_of(make(), geometry)


def spectra_of(geometry: Geometry, *made: Spectrum) -> Build:
    return lambda: dataset_of(Columns().add(100, 0.0, 0.0).table(), geometry, made)


RAMP = tuple(blocking(kelvin) for kelvin in (293.15, 303.15, 313.15, 323.15, 333.15))
ROOM = spectrum(circuit, 0.0, stack_pressure_Pa=5e6)
#: Analysis, data, option, what has to come out, and how near.
KNOWN: tuple[tuple[str, Build, dict[str, Any], dict[str, float], float], ...] = (
    ("arrhenius", spectra_of(PELLET, *RAMP), {},
     {"Ea_sigma_T_eV": 0.35, "Ea_sigma_eV": 0.323}, 0.01),
    ("capacity", table_of(cycled, FULL), {}, {"discharge_max_mAh_g": 3.4 / 3.6 / 5e-3}, 0.01),
    ("ccd", lambda: dataset_of(ramped(), SYMMETRIC), {}, {"beyond_mA_cm2": 1.0}, 0.01),
    ("conductivity", spectra_of(PELLET, blocking(298.15)), {}, {"conductivity_mS_cm": 1.0}, 0.01),
    ("coulombic_efficiency", table_of(cycled, FULL), {}, {"first_percent": 97.14}, 0.01),
    ("cyclic_voltammetry", table_of(swept, HALF), {}, {"scan_rate_mV_s": 0.5}, 0.01),
    ("distribution_of_relaxation_times", spectra_of(SYMMETRIC, ROOM), {}, {}, 0.0),
    ("dq_dv", table_of(cycled, FULL), {}, {}, 0.0),
    ("electronic_conductivity", table_of(polarised, PELLET), {},
     {"electronic_conductivity_S_cm": 1e-11, "offset_nA": 0.1}, 0.01),
    ("fabrication_pressure", pressed, {},
     {"lowest_at_MPa": 250.0, "first_over_lowest": 1.25, "cracked_at_MPa": 500.0}, 0.01),
    ("gitt", table_of(titrated, FULL), {"radius_m": 2.5e-6}, {"D_median_cm2_s": 3.125e-11}, 0.03),
    ("interface_resistance", spectra_of(SYMMETRIC, ROOM), {}, {"R_electrolyte_ohm": 90.0}, 0.01),
    ("kramers_kronig", spectra_of(SYMMETRIC, ROOM), {}, {}, 0.0),
    ("leakage", table_of(held, FULL), {}, {"leakage_limit_uA": 2.0, "B_uA_s_half": 100.0}, 0.02),
    ("lsv_onset", table_of(swept, HALF), {}, {"onset_potential_V": 4.26}, 0.01),
    ("pressure_breathing", table_of(breathed, FULL), {},
     {"breathing_MPa_per_mAh_cm2": 0.5, "drift_MPa_per_h": 0.01}, 0.02),
    ("pulse_resistance", table_of(pulsed, FULL), {}, {"R_10s_ohm": 40.0}, 0.01),
    ("rate_table", table_of(cycled, FULL), {}, {"return_percent": 100 * 3.2 / 3.35}, 0.01),
    ("resistance_growth", grown, {}, {"exponent": 0.5, "first_ohm": 40.0}, 0.06),
    ("retention", table_of(cycled, FULL), {}, {"retention_percent": 100 * 3.2 / 3.4}, 0.01),
    ("self_discharge", table_of(stored, FULL), {},
     {"loss_percent": 10.0, "slope_mV_per_h": -1.0}, 0.02),
    ("stripping", table_of(stripped, SYMMETRIC), {},
     {"stripping_capacity_mAh_cm2": 5.0, "polarisation_V": 0.2}, 0.01),
    ("symmetric_cycling", table_of(plated, SYMMETRIC), {},
     {"polarisation_reference_V": 0.05, "survived_cycles": 30, "areal_capacity_mAh_cm2": 0.25},
     0.01),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "build", "options", "known", "near"), KNOWN, ids=[case[0] for case in KNOWN]
)
def test_a_plain_table_gives_the_known_answer(
    name: str, build: Build, options: dict[str, Any], known: dict[str, float], near: float
) -> None:
    result = analyse(name, build(), **options)
    for key, value in known.items():
        assert result[key] == pytest.approx(value, rel=near), key


def test_no_analysis_is_left_out() -> None:
    assert {case[0] for case in KNOWN} == set(available()) - {"replicates"}


@pytest.mark.parametrize(
    ("name", "build", "margin"),
    [
        ("arrhenius", spectra_of(PELLET, *RAMP), "Ea_sigma_interval_eV"),
        ("arrhenius", spectra_of(PELLET, *RAMP), "Ea_sigma_T_interval_eV"),
        ("conductivity", spectra_of(PELLET, blocking(298.15)), "conductivity_uncertainty_mS_cm"),
        ("leakage", table_of(held, FULL), "leakage_limit_interval_uA"),
        ("electronic_conductivity", table_of(polarised, PELLET),
         "electronic_conductivity_interval_S_cm"),
        ("pressure_breathing", table_of(breathed, FULL), "breathing_interval_MPa_per_mAh_cm2"),
        ("resistance_growth", grown, "exponent_interval"),
    ],
)  # fmt: skip
def test_uncertainties_are_given(name: str, build: Build, margin: str) -> None:
    value = analyse(name, build())[margin]
    assert value is not None
    assert value >= 0


def test_a_peak_of_dq_dv_lies_on_the_plateau() -> None:
    tracks = analyse("dq_dv", dataset_of(cycled(), FULL))["tracks"]
    assert tracks[0]["first_potential_V"] == pytest.approx(3.62, abs=0.01)


def test_the_processes_of_a_spectrum_are_found_without_a_circuit() -> None:
    found = analyse("distribution of relaxation times", spectra_of(SYMMETRIC, ROOM)())
    assert found["spectra"][0]["R_polarisation_ohm"] == pytest.approx(40, rel=0.03)
    assert found["spectra"][0]["R_inf_ohm"] == pytest.approx(90, rel=0.01)
    assert analyse("kramers kronig", spectra_of(SYMMETRIC, ROOM)())["consistent"]


def test_a_data_frame_is_a_table_too() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(cycled())
    plain = analyse("capacity", dataset_of(cycled(), FULL))
    assert analyse("capacity", dataset_of(frame, FULL)) == plain


@pytest.mark.parametrize("make", [cycled, stored, pulsed, ramped])
def test_without_a_column_of_steps_they_are_found_in_the_current(
    make: Callable[[], Table],
) -> None:
    table = make()
    told = dataset_of(table, FULL)
    found = dataset_of({k: v for k, v in table.items() if k != "step"}, FULL)
    assert [step.kind for step in found.steps] == [step.kind for step in told.steps]
    for one, other in zip(found.steps, told.steps, strict=True):
        assert one.end_s == other.end_s


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"missing: \['current_A'\]"):
        dataset_of({"time_s": [1.0], "voltage_V": [1.0]}, FULL)


def test_conductivities_on_no_line_give_no_activation_energy() -> None:
    kelvins = (298.15, 308.15, 318.15, 328.15)
    scattered = [
        spectrum(partial(circuit, bulk=ohm), kelvin, temperature_K=kelvin)
        for kelvin, ohm in zip(kelvins, (90.0, 20.0, 300.0, 60.0), strict=True)
    ]
    with pytest.raises(ValueError, match="on no line"):
        analyse("arrhenius", spectra_of(SYMMETRIC, *scattered)())
