"""Arrhenius lines, electronic conductivity, growth of resistances, relaxation times, pulses."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellbench.analysis import (
    arrhenius,
    electronic_conductivity,
    interface_resistance,
    pulse_resistance,
    resistance_growth,
)
from cellbench.analysis import distribution_of_relaxation_times as drt
from cellbench.analysis.circuits import Arc, Circuit, ConstantPhase, Resistor, evaluate, fit
from cellbench.analysis.dataset import ComplexArray, Dataset, FloatArray, Geometry, Spectrum
from cellbench.analysis.regression import line, regress

Make = Any
AREA_M2 = np.pi * 5e-3**2
PELLET = Geometry(AREA_M2, "blocking", "chlorospinel", 1.2e-3, AREA_M2)
K_EV = 8.617333262e-5


# --- Regression ---------------------------------------------------------------------------------


@given(st.floats(-100, 100), st.floats(-1e-6, 1e6), st.integers(3, 40))
def test_a_line_without_scatter_is_found_exactly(a: float, b: float, count: int) -> None:
    x = np.linspace(1.0, 2.0, count)
    found = line(x, a + b * x)
    np.testing.assert_allclose(found.coefficients, [a, b], rtol=1e-6, atol=1e-6 * (1 + abs(b)))


def test_the_interval_holds_the_truth_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 8)
    hits = 0
    for _ in range(1000):
        slope, half_width = line(x, 1 + 2 * x + 0.1 * rng.normal(size=8))[1]
        hits += abs(slope - 2) < half_width
    assert 930 <= hits <= 970


def test_neighbours_that_are_alike_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 400)
    wander = np.cumsum(rng.normal(size=400)) * 0.1
    assert line(x, wander, dependent=True)[1][1] > 3 * line(x, wander)[1][1]


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 points"):
        regress(np.ones((1, 2)), np.ones(1))


# --- Arrhenius ----------------------------------------------------------------------------------


def ladder(energy_eV: float, noise: float = 1e-3, scale: float = 1.0) -> Dataset:
    f = np.geomspace(1e6, 0.1, 71)
    s = 2j * np.pi * f
    spectra = []
    for index, T in enumerate((303.15, 313.15, 323.15, 333.15)):
        ohm = 76.0 * scale * np.exp(energy_eV / K_EV * (1 / T - 1 / 298.15))
        rng = np.random.default_rng(index)
        clean = ohm + 1 / (2e-6 * s**0.9)
        z = clean * (1 + noise * (rng.normal(size=71) + 1j * rng.normal(size=71)))
        spectra.append(Spectrum(1000.0 * index, f"eis_{index}", f, z, temperature_K=T))
    return Dataset(PELLET, spectra=tuple(spectra))


@pytest.mark.parametrize("energy_eV", [0.33, 0.394, 0.452])
def test_the_activation_energy_comes_in_both_forms(energy_eV: float) -> None:
    result = arrhenius.analyse(ladder(energy_eV))
    assert result["Ea_sigma_eV"] == pytest.approx(energy_eV, abs=0.002)
    assert abs(result["Ea_sigma_eV"] - energy_eV) < result["Ea_sigma_interval_eV"]
    assert 0.026 < result["Ea_sigma_T_eV"] - result["Ea_sigma_eV"] < 0.029
    assert result["conductivity_mS_cm"] == pytest.approx(2.01, rel=0.01)
    assert result["r2"] > 0.999
    assert len(arrhenius.describe(result)) == 4
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_line_goes_through_the_points() -> None:
    result = arrhenius.analyse(ladder(0.33))
    x, y = arrhenius.line_points(result)
    last = result["spectra"][-1]
    assert x[0] == last["inverse_temperature_1000_per_K"]
    assert y[0] == pytest.approx(last["conductivity_mS_cm"], rel=0.01)


def test_one_temperature_gives_no_activation_energy() -> None:
    whole = ladder(0.33)
    with pytest.raises(ValueError, match="three temperatures"):
        arrhenius.analyse(Dataset(PELLET, spectra=whole.spectra[:2]))


# --- Electronic conductivity --------------------------------------------------------------------

G_S = 4.7e-10 * 100 * AREA_M2 / 1.2e-3  # of 4.7e-10 S/cm


def polarised(
    new_test: Make, voltages: tuple[float, ...], offset_A: float = 0.0, decay: float = 1.0,
    hours: float = 12.0, noise_A: float = 1e-12,
) -> Dataset:  # fmt: skip
    test = new_test(PELLET, noise_A=noise_A)
    for volts in voltages:
        ions = lambda t, v=volts: offset_A + v * G_S * (1 + 200 * decay * np.exp(-t / 400))  # noqa: E731
        test.step("hold", hours * 3600, volts, ions)
    dataset: Dataset = test.build()
    return dataset


def test_the_steady_current_gives_the_electronic_conductivity(new_test: Make) -> None:
    result = electronic_conductivity.analyse(polarised(new_test, (0.1, 0.2, 0.3, 0.4, 0.5)))
    assert result["electronic_conductivity_S_cm"] == pytest.approx(4.7e-10, rel=0.02)
    assert not result["is_upper_bound"]
    assert all(row["steady"] for row in result["steps"])
    assert "4.7" in electronic_conductivity.describe(result)[0]


def test_an_offset_of_the_range_does_not_count(new_test: Make) -> None:
    result = electronic_conductivity.analyse(
        polarised(new_test, (0.0, 0.1, 0.3, 0.5), offset_A=2e-10)
    )
    assert result["electronic_conductivity_S_cm"] == pytest.approx(4.7e-10, rel=0.02)
    assert result["offset_nA"] == pytest.approx(0.2, rel=0.05)


def test_a_current_that_still_decays_is_an_upper_bound(new_test: Make) -> None:
    dataset = polarised(new_test, (0.1, 0.3, 0.5), hours=0.5)
    result = electronic_conductivity.analyse(dataset)
    assert result["is_upper_bound"]
    assert result["electronic_conductivity_S_cm"] > 4.7e-10
    assert electronic_conductivity.describe(result)[0].split()[1] == "<"


def test_two_voltages_are_too_few(new_test: Make) -> None:
    result = electronic_conductivity.analyse(polarised(new_test, (0.1, 0.5)))
    assert result["is_upper_bound"]
    assert "2 of 3" in result["why_bound"]


def test_noise_alone_is_an_upper_bound(new_test: Make) -> None:
    test = new_test(PELLET, noise_A=1e-10)
    for volts in (0.1, 0.3, 0.5):
        test.step("hold", 7200, volts, 0.0)
    assert electronic_conductivity.analyse(test.build())["is_upper_bound"]


# --- Growth of resistances ----------------------------------------------------------------------


def full_cell(transfer_ohm: float, transfer_F: float = 5e-5, tail: bool = True) -> Any:
    def impedance(f: FloatArray) -> ComplexArray:
        s = 2j * np.pi * f
        z = 60 + 25 / (1 + (s * 25 * 2e-6) ** 0.95)
        z = z + transfer_ohm / (1 + (s * transfer_ohm * transfer_F) ** 0.9)
        return np.asarray(z + (1 / (0.3 * s**0.5) if tail else 0))

    return impedance


def test_the_arcs_of_a_full_cell_are_told_from_diffusion(new_test: Make) -> None:
    test = new_test().step("rest", 60, 2.0).spectrum(full_cell(200.0))
    (row,) = resistance_growth.analyse(test.build())["spectra"]
    assert row["R_interface_ohm"] == pytest.approx(225, rel=0.03)
    assert row["R_slowest_ohm"] == pytest.approx(200, rel=0.05)
    assert row["R_electrolyte_ohm"] == pytest.approx(60, rel=0.02)


def test_an_arc_below_the_band_is_an_extrapolation_with_an_interval(new_test: Make) -> None:
    test = new_test().step("charge", 600, 4.0, 1e-3)
    test.spectrum(full_cell(31e3, 8e-5, tail=False))
    result = resistance_growth.analyse(test.build())
    (row,) = result["spectra"]
    assert row["extrapolated"]
    assert result["extrapolated_high_ohm"] == row["R_slowest_high_ohm"]
    assert any(line.startswith("extrapolated") for line in resistance_growth.describe(result))
    assert row["R_slowest_low_ohm"] < 31e3 < row["R_slowest_high_ohm"]
    assert row["R_slowest_ohm"] == pytest.approx(31e3, rel=0.1)


def test_what_is_gone_after_discharge_is_no_damage(new_test: Make) -> None:
    test = new_test().spectrum(full_cell(80)).cycle(3.6, 3.4).spectrum(full_cell(90))
    test.step("charge", 3600, 4.0, 1e-3)
    test.spectrum(full_cell(5000, tail=False))
    test.step("discharge", 3400, 2.2, -1e-3).spectrum(full_cell(95))
    result = resistance_growth.analyse(test.build())
    assert [row["state"] for row in result["spectra"]] == [
        "fresh", "discharged", "charged", "discharged",
    ]  # fmt: skip
    assert result["lasting_ohm"] == pytest.approx(5, abs=3)
    assert result["reversible_ohm"] == pytest.approx(4905, rel=0.03)


def test_damage_is_judged_against_a_spectrum_from_before_the_charge(new_test: Make) -> None:
    test = new_test().spectrum(full_cell(80))
    test.step("charge", 3600, 4.0, 1e-3).spectrum(full_cell(5000, tail=False))
    test.step("discharge", 3400, 2.2, -1e-3).spectrum(full_cell(95))
    test.step("hold", 3600, 2.2, -1e-6).spectrum(full_cell(95))
    result = resistance_growth.analyse(test.build())
    assert result["lasting_against"] == result["spectra"][0]["step"]
    assert result["lasting_ohm"] == pytest.approx(15, abs=3)


def test_the_modulus_at_the_lowest_frequency_holds_the_tail_of_diffusion(new_test: Make) -> None:
    test = new_test().spectrum(full_cell(80))
    test.step("charge", 3600, 4.0, 1e-3).spectrum(full_cell(80, tail=False))
    full, empty = resistance_growth.analyse(test.build())["spectra"]
    assert full["lowest_Hz"] == pytest.approx(0.1)
    assert full["Z_lowest_ohm"] > empty["Z_lowest_ohm"]
    assert full["R_interface_ohm"] == pytest.approx(empty["R_interface_ohm"], rel=0.05)


def test_a_hold_at_the_end_of_a_discharge_leaves_the_cell_discharged(new_test: Make) -> None:
    test = new_test().step("charge", 3600, 4.0, 1e-3).spectrum(full_cell(900, tail=False))
    test.step("discharge", 1700, 2.5, -1e-3).spectrum(full_cell(200))
    test.step("discharge", 1700, 2.2, -1e-3).spectrum(full_cell(90))
    test.step("hold", 3600, 2.2, -1e-6).spectrum(full_cell(91))
    states = [row["state"] for row in resistance_growth.analyse(test.build())["spectra"]]
    assert states == ["charged", "during discharge", "discharged", "discharged"]


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_the_exponent_of_growth_is_found(new_test: Make, exponent: float) -> None:
    test = new_test().step("rest", 10, 2.0)
    for hour in range(24):
        test.now_s = hour * 3600.0 + 100
        test.spectrum(full_cell(50 + 40 * hour**exponent), noise=5e-4)
    result = resistance_growth.analyse(test.build())
    assert result["exponent"] == pytest.approx(exponent, abs=0.08)
    assert abs(result["exponent"] - exponent) <= result["exponent_interval"] + 0.02
    assert result["onset_h"] is None


def test_a_resistance_that_is_flat_at_first_has_an_onset(new_test: Make) -> None:
    test = new_test().step("rest", 10, 2.0)
    for hour in range(40):
        test.now_s = hour * 3600.0 + 100
        test.spectrum(full_cell(80 + 6.0 * max(hour - 16, 0)), noise=5e-4)
    result = resistance_growth.analyse(test.build())
    assert result["onset_h"] == pytest.approx(16, abs=1)
    assert "onset" in "\n".join(resistance_growth.describe(result))


def test_a_resistance_that_does_not_change_has_no_exponent(new_test: Make) -> None:
    test = new_test().step("rest", 10, 2.0)
    for hour in range(12):
        test.now_s = hour * 3600.0 + 100
        test.spectrum(full_cell(80))
    result = resistance_growth.analyse(test.build())
    assert result["exponent"] is None
    assert result["onset_h"] is None


def test_a_ladder_of_cut_offs_shows_where_the_resistance_breaks(new_test: Make) -> None:
    test = new_test()
    for cut_off_V in np.arange(4.0, 5.01, 0.1):
        damage = 400 * max(0.0, cut_off_V - 4.3)
        test.cycle(3.0, 3.0, high_V=cut_off_V - 0.62).spectrum(full_cell(100 + damage), 5e-4)
    result = resistance_growth.analyse(test.build())
    assert result["break_potential_V"] == pytest.approx(4.3, abs=0.07)
    assert "vs Li+/Li" in "\n".join(resistance_growth.describe(result))


def test_without_spectra_nothing_grows(new_test: Make) -> None:
    with pytest.raises(ValueError, match="without a spectrum"):
        resistance_growth.analyse(new_test().cycle(1.0, 1.0).build())


def test_a_full_cell_has_one_interface_resistance_of_both(new_test: Make) -> None:
    test = new_test().step("rest", 60, 2.0)
    test.spectrum(full_cell(200.0), stack_pressure_Pa=5e6)
    result = interface_resistance.analyse(test.build())
    assert result["ASR_is"] == "of both"
    asr = result["spectra"][0]["ASR_interface_ohm_cm2"]
    assert asr == pytest.approx(225 * 0.7854, rel=0.03)


# --- Fits ---------------------------------------------------------------------------------------


def test_a_fit_of_eight_parameters_agrees_with_an_independent_package_to_four_digits() -> None:
    pytest.importorskip("pandas", reason="impedance needs it, and does not declare it")
    from impedance.models.circuits import CustomCircuit

    circuit: Circuit = (
        Resistor("bulk"),
        Arc("arc"),
        Arc("second arc"),
        ConstantPhase("tail", True),
    )
    f = np.geomspace(1e6, 0.1, 61)
    values = [60.0, 120.0, 120 * 2e-6, 0.95, 300.0, 300 * 5e-4, 0.85, 0.2]
    truth = np.array([np.log(v) if k not in (3, 6) else v for k, v in enumerate(values)])
    z, _ = evaluate(circuit, truth, f)
    rng = np.random.default_rng(3)
    z = z * (1 + 1e-3 * (rng.normal(size=61) + 1j * rng.normal(size=61)))
    start = truth + np.array([0.1, -0.1, 0.2, -0.03, 0.1, -0.2, 0.03, 0.1])
    found = fit(circuit, start, f, z)
    guess = [55, 110, 2e-6, 0.9, 320, 4e-4, 0.9, 0.2]
    oracle = CustomCircuit("R0-p(R1,CPE1)-p(R2,CPE2)-C3", initial_guess=guess)
    oracle.fit(f, z, weight_by_modulus=True)
    theirs = dict(zip(("bulk", "arc", "second arc"), oracle.parameters_[[0, 1, 4]], strict=True))
    for name, ohm in theirs.items():
        assert found.resistance_ohm(name) == pytest.approx(ohm, rel=1e-4)


# --- Relaxation times ---------------------------------------------------------------------------


def spectrum_of(impedance: Any, noise: float = 1e-3, seed: int = 0, points: int = 71) -> Spectrum:
    f = np.geomspace(1e6, 0.1, points)
    rng = np.random.default_rng(seed)
    z = impedance(f)
    factor = 1 + noise * (rng.normal(size=points) + 1j * rng.normal(size=points))
    return Spectrum(0.0, "eis", f, z * factor)


def two_arcs(f: FloatArray) -> ComplexArray:
    s = 2j * np.pi * f
    arcs = 190 / (1 + (s * 190 * 20e-9) ** 0.95) + 40 / (1 + (s * 40 * 5e-6) ** 0.9)
    return np.asarray(91 + arcs)


def test_every_process_is_a_peak_with_its_resistance_and_time() -> None:
    card = Geometry(AREA_M2, "symmetric")
    result = drt.analyse(Dataset(card, spectra=(spectrum_of(two_arcs),)))
    (row,) = result["spectra"]
    large = [peak for peak in row["peaks"] if peak["R_ohm"] > 20]
    assert [peak["R_ohm"] for peak in large] == pytest.approx([190, 40], rel=0.12)
    assert [peak["tau_s"] for peak in large] == pytest.approx([3.8e-6, 2e-4], rel=0.15)
    assert row["R_polarisation_ohm"] == pytest.approx(230, rel=0.02)
    assert row["R_inf_ohm"] == pytest.approx(91, rel=0.03)
    assert row["residual_percent"] < 0.2
    assert result["chosen_by"] == "generalised cross-validation"
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@settings(max_examples=10)
@given(st.floats(10, 1000), st.floats(1e-5, 1e-2))
def test_the_area_of_a_single_process_is_its_resistance(ohm: float, tau_s: float) -> None:
    def one(f: FloatArray) -> ComplexArray:
        return np.asarray(50 + ohm / (1 + (2j * np.pi * f * tau_s) ** 0.9))

    found = drt.distribution(spectrum_of(one, 1e-3))
    assert found.polarisation_ohm == pytest.approx(ohm, rel=0.05)
    assert np.all(found.gamma_ohm >= 0)


def test_a_fixed_weight_is_said_to_be_fixed() -> None:
    card = Geometry(AREA_M2, "symmetric")
    result = drt.analyse(Dataset(card, spectra=(spectrum_of(two_arcs),)), weight=1e-3)
    assert result["chosen_by"] == "fixed"
    assert result["spectra"][0]["weight"] == 1e-3


def test_a_blocking_electrode_is_a_capacity_and_no_process() -> None:
    def blocked(f: FloatArray) -> ComplexArray:
        s = 2j * np.pi * f
        return np.asarray(91 + 190 / (1 + s * 190 * 20e-9) + 1 / (2e-6 * s))

    found = drt.distribution(spectrum_of(blocked), None, True)
    assert 1 / found.elastance_per_F == pytest.approx(2e-6, rel=0.02)
    result = drt.analyse(Dataset(PELLET, spectra=(spectrum_of(blocked),)))
    fastest = result["spectra"][0]["peaks"][0]
    assert fastest["R_ohm"] == pytest.approx(190, rel=0.15)


# --- Pulses -------------------------------------------------------------------------------------


def test_a_pulse_shows_its_resistance_at_each_time(new_test: Make) -> None:
    step_V = lambda t: 3.0 + 1e-3 * (100 + 50 * (1 - np.exp(-t / 2)) + 5 * np.sqrt(t))  # noqa: E731
    test = new_test(period_s=0.1).step("rest", 60, 3.0).step("current", 30, step_V, 1e-3)
    test.step("rest", 60, 3.0)
    result = pulse_resistance.analyse(test.build())
    assert result["R_1s_ohm"] == pytest.approx(100 + 50 * (1 - np.exp(-0.5)) + 5, rel=1e-3)
    assert result["R_end_ohm"] == pytest.approx(150 + 5 * np.sqrt(30), rel=1e-3)
    assert result["rows"][0]["direction"] == "charge"
    assert result["rows"][0]["potential_V"] == pytest.approx(3.62)
    assert "at 10 s" in "\n".join(pulse_resistance.describe(result))


def test_a_long_charge_is_no_pulse(new_test: Make) -> None:
    test = new_test().step("rest", 60, 3.0).step("charge", 3600, 3.1, 1e-3)
    with pytest.raises(ValueError, match="No pulse resistance"):
        pulse_resistance.analyse(test.build())


def test_arcs_that_change_their_names_leave_only_the_total(new_test: Make) -> None:
    """An electrolyte's arc near the limit of capacitance is called an interface now and then."""

    def cell(boundary_F: float, transfer_ohm: float) -> Any:
        def impedance(f: FloatArray) -> ComplexArray:
            s = 2j * np.pi * f
            boundary = 500 / (1 + (s * 500 * boundary_F) ** 0.95)
            return np.asarray(80 + boundary + transfer_ohm / (1 + (s * transfer_ohm * 2e-5) ** 0.9))

        return impedance

    test = new_test().step("rest", 10, 2.0)
    for hour in range(30):
        test.now_s = hour * 3600.0 + 100
        grown_ohm = 100 + 40 * np.sqrt(max(hour - 16, 0))
        test.spectrum(cell(4e-8 if hour % 3 else 6e-8, grown_ohm), noise=5e-4)
    result = resistance_growth.analyse(test.build())
    assert result["part"] == "total"
    assert result["onset_h"] == pytest.approx(16, abs=1)


def test_blocking_electrodes_leave_the_growth_of_the_electrolyte(new_test: Make) -> None:
    def pellet(hour: int) -> Any:
        def impedance(f: FloatArray) -> ComplexArray:
            s, ohm = 2j * np.pi * f, 40 * (1 + (hour / 8) ** 1.3)
            return np.asarray(2 * ohm + ohm / (1 + (s * ohm * 2e-8) ** 0.9) + 1 / (2e-6 * s**0.9))

        return impedance

    test = new_test().step("rest", 10, 0.0)
    for hour in range(12):
        test.now_s = hour * 3600.0 + 100
        test.spectrum(pellet(hour), noise=5e-4)
    result = resistance_growth.analyse(replace(test.build(), geometry=PELLET))
    assert result["part"] == "total"
    assert result["growth_percent"] == pytest.approx(100 * (11 / 8) ** 1.3, rel=0.03)
    assert result["exponent"] == pytest.approx(1.3, abs=0.1)
