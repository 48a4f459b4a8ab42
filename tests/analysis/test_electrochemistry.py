"""dQ/dV, GITT, leakage, breathing, self-discharge, sweeps, stripping, long cycling, replicates."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.analysis import (
    cyclic_voltammetry,
    dq_dv,
    gitt,
    leakage,
    lsv_onset,
    pressure_breathing,
    replicates,
    self_discharge,
    stripping,
    symmetric_cycling,
)
from cellbench.analysis.dataset import Dataset, FloatArray, Geometry, Series

Make = Any
AREA_M2 = np.pi * 5e-3**2
CARBON = Geometry(AREA_M2, "half", counter_potential_V=0.0)
SYMMETRIC = Geometry(AREA_M2, "symmetric", "LYC", 0.354e-3, AREA_M2, counter_potential_V=0.0)


# --- dQ/dV --------------------------------------------------------------------------------------


def two_plateaus(shift_V: float) -> Any:
    """Voltage against the share of the charge: dQ/dV peaks at 3.0 + shift and 3.4 V."""
    grid_V = np.linspace(2.4, 3.9, 4000)
    steps = (0.6, 3.0 + shift_V, 0.02), (0.35, 3.4, 0.03)
    share = sum(a / (1 + np.exp(-(grid_V - v) / w)) for a, v, w in steps)
    share = share + 0.05 * (grid_V - grid_V[0]) / np.ptp(grid_V)
    return lambda x: np.interp(x, share - share[0], grid_V)


def aged(new_test: Make, shifts_V: tuple[float, ...], noise_V: float = 0.0) -> Dataset:
    test = new_test(noise_V=noise_V)
    for shift_V in shifts_V:
        curve = two_plateaus(shift_V)
        test.step("charge", 18000, lambda t, c=curve: c(t / 18000), 2e-4)
        test.step("discharge", 18000, lambda t, c=curve: c(1 - t / 18000), -2e-4)
    dataset: Dataset = test.build()
    return dataset


def test_peaks_lie_where_the_plateaus_are(new_test: Make) -> None:
    result = dq_dv.analyse(aged(new_test, (0.0,)))
    found = [row["potential_V"] for row in result["peaks"] if row["direction"] == "charge"]
    assert found == pytest.approx([3.62, 4.02], abs=0.004)
    assert result["unit"] == "mAh/g/V"
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_peak_is_followed_from_cycle_to_cycle(new_test: Make) -> None:
    result = dq_dv.analyse(aged(new_test, (0.0, 0.01, 0.02, 0.03), noise_V=2e-4))
    moved = [track for track in result["tracks"] if track["direction"] == "charge"]
    assert [track["cycles"] for track in moved] == [4, 4]
    assert [track["shift_mV"] for track in moved] == pytest.approx([30, 0], abs=4)
    assert "moved" in dq_dv.describe(result)[0]


def test_the_area_below_the_curve_is_the_capacity(new_test: Make) -> None:
    charge = dq_dv.curves(aged(new_test, (0.0,)))[0]
    area = np.trapezoid(charge.value, charge.potential_V)
    assert area == pytest.approx(1.0 / 4.9e-3, rel=0.02)


# --- GITT ---------------------------------------------------------------------------------------

RADIUS_M, D_M2_S = 2.5e-6, 2.5e-6**2 / 2000


def sphere_surface(tau_s: float) -> Any:
    """Surface concentration (over the final mean) during a pulse into a sphere, exactly."""
    roots = []
    for k in range(1, 400):
        value = k * np.pi + np.pi / 2 - 0.1
        for _ in range(60):
            value = k * np.pi + np.arctan(value)
        roots.append(value)
    squares = np.array(roots) ** 2

    def surface(t: FloatArray) -> FloatArray:
        x = D_M2_S * np.asarray(t) / RADIUS_M**2
        decays = np.exp(-np.outer(x, squares)) / squares
        final = 3 * D_M2_S * tau_s / RADIUS_M**2
        return np.asarray((3 * x + 0.2 - 2 * decays.sum(axis=1)) / final)

    return surface


def titrated(new_test: Make, tau_s: float, pulses: int = 3) -> Dataset:
    surface = sphere_surface(tau_s)
    test = new_test(period_s=tau_s / 400).step("rest", 100, 2.5, period_s=10)
    for pulse in range(pulses):
        base_V = 2.5 + 0.01 * pulse
        rise = lambda t, b=base_V: b + 0.05 + 0.01 * surface(t)  # noqa: E731
        test.step("charge", tau_s, rise, 1e-4)
        test.step("rest", 36000, base_V + 0.01, period_s=60)
    dataset: Dataset = test.build()
    return dataset


@pytest.mark.parametrize(
    ("tau_s", "share"), [(20, 0.83), (60, 0.72), (200, 0.54), (600, 0.32), (1800, 0.14)]
)
def test_long_pulses_return_less_than_the_diffusion_coefficient(
    new_test: Make, tau_s: float, share: float
) -> None:
    result = gitt.analyse(titrated(new_test, tau_s), radius_m=RADIUS_M)
    assert result["D_median_cm2_s"] == pytest.approx(share * D_M2_S * 1e4, rel=0.06)
    whole = result["D_sphere_median_cm2_s"]  # which has no such bias, until the pulse tells nothing
    assert whole is None if tau_s > 0.5 * 2000 else whole == pytest.approx(D_M2_S * 1e4, rel=0.05)
    assert result["rows"][0]["ohmic_ohm"] == pytest.approx(500, rel=0.02)
    assert (result["too_long"] > 0) == (tau_s > 20)
    assert result["not_relaxed"] == 0


def test_the_radius_is_the_cards_and_said_to_be_assumed_without_one(new_test: Make) -> None:
    dataset = titrated(new_test, 20, pulses=1)
    assumed = gitt.analyse(dataset)
    declared = replace(dataset.geometry, particle_radius_m=5e-6)
    known = gitt.analyse(replace(dataset, geometry=declared))
    assert (assumed["radius_um"], assumed["radius_is"]) == (2.5, "assumed")
    assert (known["radius_um"], known["radius_is"]) == (5.0, "known")
    assert known["D_median_cm2_s"] == pytest.approx(4 * assumed["D_median_cm2_s"])


def test_a_rest_that_still_drifts_is_warned_of(new_test: Make) -> None:
    test = new_test(period_s=1).step("rest", 100, 2.5)
    test.step("charge", 20, lambda t: 2.55 + 0.01 * np.sqrt(t), 1e-4)
    test.step("rest", 600, lambda t: 2.51 + 0.01 * np.exp(-t / 600))
    result = gitt.analyse(test.build())
    assert result["not_relaxed"] == 1
    assert "rests ended before" in "\n".join(gitt.describe(result))


def test_without_rests_there_is_no_diffusion_coefficient(new_test: Make) -> None:
    with pytest.raises(ValueError, match="between two rests"):
        gitt.analyse(new_test().cycle(3.6, 3.5).build())


# --- Leakage ------------------------------------------------------------------------------------


def held(
    new_test: Make, hours: float = 30.0, leak_A: float = 4e-7, spectra: bool = True
) -> Dataset:
    test = new_test(period_s=30.0, noise_A=2e-9).step("charge", 3600, 4.0, 1e-3)
    tail = lambda t: leak_A + 2e-5 / np.sqrt(t)  # noqa: E731
    begins_s = test.now_s
    test.step("hold", hours * 3600, 4.18, tail)
    if spectra:  # every 20 min, and the current is wild in it and for some minutes afterwards
        starts_s = np.arange(begins_s + 1200, test.now_s, 1200.0)
        (t, v, i, q) = test._rows[-1]
        for start_s in starts_s:
            i = np.where((t >= start_s) & (t <= start_s + 100 + 240), i + 1e-5, i)
            window = replace(test.steps[-1], path=f"hold/eis[{start_s:g}]", kind="eis")
            window = replace(window, start_s=float(start_s), end_s=float(start_s) + 100)
            test.steps.append(window)
            test.steps.sort(key=lambda step: step.start_s)
        test._rows[-1] = (t, v, i, q)
    dataset: Dataset = test.build()
    return dataset


@pytest.mark.parametrize("spectra", [True, False])
def test_the_leakage_is_read_outside_the_spectra(new_test: Make, spectra: bool) -> None:
    result = leakage.analyse(held(new_test, spectra=spectra))
    assert result["leakage_uA"] == pytest.approx(0.4 + 20 / np.sqrt(29.5 * 3600), rel=0.03)
    assert result["leakage_limit_uA"] == pytest.approx(0.4, abs=0.01)
    assert result["leakage_uA_cm2"] == pytest.approx(result["leakage_uA"] / 0.7854, rel=1e-3)
    assert result["trend"] == "falling"
    assert result["potential_V"] == pytest.approx(4.8)
    assert result["hold_h"] == pytest.approx(30)
    assert (result["left_out_percent"] > 25) == spectra
    assert "uA/cm2" in "\n".join(leakage.describe(result))


def test_the_offset_of_the_range_is_subtracted(new_test: Make) -> None:
    result = leakage.analyse(held(new_test, spectra=False), offset_A=1e-7)
    assert result["leakage_limit_uA"] == pytest.approx(0.3, abs=0.01)


def test_a_tail_that_falls_faster_has_no_limit(new_test: Make) -> None:
    test = new_test(period_s=30.0).step("hold", 108000, 4.18, lambda t: 1e-5 * (t / 3600) ** -1.6)
    lines = leakage.describe(leakage.analyse(test.build()))
    assert "not identified" in "\n".join(lines)


def test_a_current_that_grows_is_said_to_rise(new_test: Make) -> None:
    test = new_test().step("hold", 36000, 4.0, lambda t: 1e-6 + 1e-11 * t)
    assert leakage.analyse(test.build())["trend"] == "rising"


# --- Breathing ----------------------------------------------------------------------------------


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(-1.0, 3.0), st.floats(-0.02, 0.02), st.floats(-0.05, 0.05))
def test_breathing_is_told_from_drift_and_temperature(
    new_test: Make, slope: float, drift: float, thermal: float
) -> None:
    test = new_test(period_s=60.0)
    for _ in range(2):
        test.cycle(3.6, 3.6, 2e-4)
    whole = test.build()
    t = np.arange(0.0, test.now_s, 60.0)
    areal = np.interp(t % 36000, [0, 18000, 36000], [0, 1 / 0.785398, 0])
    kelvin = 298 + 1.5 * np.sin(t / 5000)
    P = 5 + slope * areal + drift * t / 3600 + thermal * (kelvin - 298)
    P = P + 1e-3 * np.random.default_rng(0).normal(size=len(t))
    gauges = replace(
        whole.samples, stack_pressure=Series(t, 1e6 * P), temperature=Series(t, kelvin)
    )
    result = pressure_breathing.analyse(replace(whole, samples=gauges))
    assert result["breathing_MPa_per_mAh_cm2"] == pytest.approx(slope, abs=2e-3)
    assert result["drift_MPa_per_h"] == pytest.approx(drift, abs=1e-3)
    assert result["temperature_MPa_per_K"] == pytest.approx(thermal, abs=1e-3)


def test_after_one_charge_drift_is_not_told_from_breathing(new_test: Make) -> None:
    test = new_test().step("charge", 18000, 3.0, 2e-4)
    t = np.arange(0.0, 18000, 60.0)
    test.pressure = Series(t, 5e6 + 40.0 * t)
    result = pressure_breathing.analyse(test.build())
    assert result["drift_MPa_per_h"] is None
    assert "one way" in result["left_out"][0]


def test_breathing_needs_a_gauge(new_test: Make) -> None:
    with pytest.raises(ValueError, match="not measured"):
        pressure_breathing.analyse(new_test().cycle(3.6, 3.6).build())


# --- Self-discharge -----------------------------------------------------------------------------


def test_what_is_missing_after_the_rest_was_lost(new_test: Make) -> None:
    test = new_test().cycle(3.6, 3.4).step("charge", 3450, 3.0, 1e-3)
    test.step("rest", 100 * 3600, lambda t: 3.5 + 0.05 * np.exp(-t / 7200) - 1e-8 * t, period_s=600)
    test.step("discharge", 3200, 3.0, -1e-3).cycle(3.5, 3.36)
    result = self_discharge.analyse(test.build())
    assert result["loss_percent"] == pytest.approx(100 * 0.2 / 3.4, rel=1e-3)
    assert result["lasting_loss_percent"] == pytest.approx(100 * 0.04 / 3.4, rel=1e-2)
    assert result["slope_mV_per_h"] == pytest.approx(-0.036, rel=0.05)
    assert result["rest_h"] == pytest.approx(100)
    assert result["loss_of"] == "discharge before"
    assert result["current_uA_cm2"] == pytest.approx(0.2 / 3.6e5 * 1e6 / 0.7854, rel=1e-3)


def test_a_rest_alone_tells_its_voltage(new_test: Make) -> None:
    result = self_discharge.analyse(new_test().step("rest", 3600, 3.0).build())
    assert result["loss_percent"] is None
    assert result["voltage_loss_mV"] == 0.0


# --- Sweeps -------------------------------------------------------------------------------------


def wave(v: FloatArray, onset_V: float, height_A: float, width_V: float = 0.05) -> FloatArray:
    """A wave of finite charge on the way down: rises below its onset, and is used up."""
    depth = (onset_V - v) / width_V
    return np.asarray(-height_A * np.where(depth > 0, depth * np.exp(1 - depth), 0.0))


def voltammogram(new_test: Make) -> Dataset:
    test = new_test(CARBON, period_s=10.0, noise_A=1e-8)
    lasts_s = 2.5 / 1e-4

    def down_V(t: FloatArray) -> FloatArray:
        return np.asarray(2.5 - 1e-4 * t)

    def current_A(t: FloatArray) -> FloatArray:
        return wave(down_V(t), 1.8, 2e-5) + wave(down_V(t), 0.9, 8e-5)

    test.step("sweep", lasts_s, down_V, current_A)
    test.step("sweep", lasts_s, lambda t: 1e-4 * t, 1e-6)
    dataset: Dataset = test.build()
    return dataset


def test_every_wave_has_its_onset_and_its_peak(new_test: Make) -> None:
    result = cyclic_voltammetry.analyse(voltammogram(new_test))
    found = [row for row in result["waves"] if row["direction"] == "reduction"]
    assert [row["onset_V"] for row in found] == pytest.approx([1.8, 0.9], abs=0.03)
    assert [row["peak_V"] for row in found] == pytest.approx([1.75, 0.85], abs=0.02)
    assert found[1]["peak_mA_cm2"] == pytest.approx(-8e-2 / 0.785, rel=0.1)
    assert result["scan_rate_mV_s"] == pytest.approx(0.1, rel=0.01)
    charge = 0.05 * np.e * (2e-5 + 8e-5) / 1e-4 / 3.6 / 0.785398
    assert result["first_reduction_charge_mAh_cm2"] == pytest.approx(charge, rel=0.05)
    assert "from 1.8" in cyclic_voltammetry.describe(result)[1]


def test_one_step_that_turns_is_cut_into_scans(new_test: Make) -> None:
    there_and_back = lambda t: 2.5 - np.abs((t / 12500 + 1) % 2 - 1) * 2.5  # noqa: E731
    test = new_test(CARBON).step("sweep", 50000, there_and_back, -1e-6)
    result = cyclic_voltammetry.analyse(test.build())
    assert [row["direction"] for row in result["scans"]] == ["reduction", "oxidation"] * 2
    assert result["scans"][1]["to_V"] == pytest.approx(2.5, abs=0.01)


def swept(new_test: Make, onset_V: float, width_V: float = 0.06) -> Dataset:
    test = new_test(CARBON, period_s=2.0, noise_A=1e-8)
    current_A = lambda t: 7.854e-6 * np.exp((2.8 + 5e-4 * t - onset_V) / width_V) + 2e-8  # noqa: E731
    test.step("sweep", (onset_V + 0.4 - 2.8) / 5e-4, lambda t: 2.8 + 5e-4 * t, current_A)
    dataset: Dataset = test.build()
    return dataset


@pytest.mark.parametrize("onset_V", [4.20, 5.22])
def test_the_threshold_is_passed_where_the_current_says(new_test: Make, onset_V: float) -> None:
    result = lsv_onset.analyse(swept(new_test, onset_V), method="threshold", threshold_mA_cm2=0.01)
    assert result["onset_potential_V"] == pytest.approx(onset_V, abs=0.01)
    assert result["method"] == "threshold"
    assert result["scan_rate_mV_s"] == pytest.approx(0.5, rel=0.01)
    assert f"{onset_V:.3g} V vs Li+/Li" in lsv_onset.describe(result)[0]


def test_the_tangent_lies_where_it_is_told_to(new_test: Make) -> None:
    result = lsv_onset.analyse(swept(new_test, 4.2), method="tangent", tangent_at_mA_cm2=0.03)
    expected_V = 4.2 + 0.06 * np.log(3) - 0.06  # one w before the point it touches
    assert result["onset_potential_V"] == pytest.approx(expected_V, abs=0.04)


def test_a_current_with_a_limit_has_its_tangent_at_the_onset(new_test: Make) -> None:
    """i_ref exp((V - V_ox)/w) up to i_ref e^2: the steepest tangent meets zero at V_ox."""
    limited = lambda t: 1 / (2e5 * np.exp((1.4 - 5e-4 * t) / 0.1) + 1 / 3.7e-5)  # noqa: E731
    test = new_test(CARBON, period_s=2.0, noise_A=1e-9)
    test.step("sweep", 6000, lambda t: 2.8 + 5e-4 * t, limited)
    result = lsv_onset.analyse(test.build())
    assert result["method"] == "tangent"
    assert result["onset_potential_V"] == pytest.approx(4.2, abs=0.02)


def test_a_sweep_without_current_has_no_onset(new_test: Make) -> None:
    test = new_test(CARBON, noise_A=1e-9).step("sweep", 4000, lambda t: 3 + 5e-4 * t, 1e-8)
    result = lsv_onset.analyse(test.build())
    assert result["onset_potential_V"] is None
    assert "none up to 5" in lsv_onset.describe(result)[0]


# --- Stripping and long cycling -----------------------------------------------------------------


def stripped(new_test: Make, capacity_mAh_cm2: float, plateau_V: float = 0.44) -> Dataset:
    current_A, full_s = 10 * AREA_M2, capacity_mAh_cm2 * 3600.0
    level = lambda t: plateau_V * (1 + 0.02 * t / full_s) + 0.05 * np.exp((t - full_s) / 300.0)  # noqa: E731
    test = new_test(SYMMETRIC).step("rest", 600, 0.0)
    test.step("current", full_s + 900, level, current_A, ending="voltage >= 1.5 V")
    t = np.arange(0.0, test.now_s, 60.0)
    test.pressure = Series(t, np.full(len(t), 5e6))
    dataset: Dataset = test.build()
    return dataset


@pytest.mark.parametrize("capacity", [6.4, 13.6])
def test_stripping_ends_where_the_voltage_rises(new_test: Make, capacity: float) -> None:
    result = stripping.analyse(stripped(new_test, capacity), cutoff_V=1.0)
    assert result["stripping_capacity_mAh_cm2"] == pytest.approx(capacity, abs=0.3)
    assert result["polarisation_V"] == pytest.approx(0.44, rel=0.02)
    assert result["current_density_mA_cm2"] == pytest.approx(1.0)
    assert result["ended_by"].startswith("contact lost")
    assert not result["is_lower_bound"]
    assert "5.0 MPa" in stripping.describe(result)[0]


def test_a_voltage_that_falls_is_a_short(new_test: Make) -> None:
    fallen = lambda t: np.where(t < 7200, 0.44, 0.02)  # noqa: E731
    result = stripping.analyse(
        new_test(SYMMETRIC).step("current", 10800, fallen, 10 * AREA_M2).build()
    )
    assert result["ended_by"].startswith("short")
    assert result["stripping_capacity_mAh_cm2"] == pytest.approx(2.0, rel=0.01)


def test_a_stripping_that_was_only_stopped_is_a_lower_bound(new_test: Make) -> None:
    result = stripping.analyse(
        new_test(SYMMETRIC).step("current", 3600, 0.44, 10 * AREA_M2).build()
    )
    assert result["is_lower_bound"]
    assert "> 1 mAh/cm2" in "\n".join(stripping.describe(result))


def cycled(new_test: Make, levels_V: list[float]) -> Dataset:
    test = new_test(SYMMETRIC, noise_V=2e-5)
    for level_V in levels_V:
        for sign in (1, -1):
            test.step("current", 1800, sign * level_V, sign * 5 * AREA_M2)
    dataset: Dataset = test.build()
    return dataset


def test_cycles_to_the_rise_and_to_the_short(new_test: Make) -> None:
    levels_V = [0.1] * 60 + np.geomspace(0.1, 0.5, 30).tolist() + [0.02] * 3
    result = symmetric_cycling.analyse(cycled(new_test, levels_V))
    assert result["verdict"] == "short"
    assert result["short_at_cycle"] == 91
    assert result["survived_cycles"] == 90
    assert 67 <= result["risen_at_cycle"] <= 70
    assert result["areal_capacity_mAh_cm2"] == pytest.approx(0.25, rel=0.01)
    assert result["polarisation_growth_percent"] > 250


def late_short(test: Make) -> Make:
    """Ten sound cycles; the cell is shorted in the last minutes of the eleventh."""
    ohm = 0.1 / (5 * AREA_M2)
    test.spectrum(lambda f: np.full(len(f), 0.8 * ohm, complex))
    for sign in (1, -1) * 10 + (1,):
        test.step("current", 1800, sign * 0.1, sign * 5 * AREA_M2)
    return test.step(
        "current", 1800, lambda t: np.where(t < 1500, -0.1, -0.005), -5 * AREA_M2
    )  # fmt: skip


def test_a_short_late_in_the_last_half_cycle_is_a_short(new_test: Make) -> None:
    result = symmetric_cycling.analyse(late_short(new_test(SYMMETRIC, noise_V=2e-5)).build())
    assert (result["verdict"], result["short_at_cycle"]) == ("short", 11)
    assert "below 0.5 of the electrolyte's for" in result["short_reason"]


@pytest.mark.parametrize(("left", "verdict"), [(0.05, "short"), (0.8, "not_reached")])
def test_the_spectrum_that_follows_has_the_last_word(
    new_test: Make, left: float, verdict: str
) -> None:
    test = late_short(new_test(SYMMETRIC, noise_V=2e-5))
    ohm = 0.1 / (5 * AREA_M2)
    test.spectrum(lambda f: np.full(len(f), left * ohm, complex))
    assert symmetric_cycling.analyse(test.build())["verdict"] == verdict


def test_a_cell_that_lives_has_more_cycles_than_were_run(new_test: Make) -> None:
    result = symmetric_cycling.analyse(cycled(new_test, [0.1] * 50))
    assert result["verdict"] == "not_reached"
    assert "more than 50" in "\n".join(symmetric_cycling.describe(result))


def test_an_offset_is_no_polarisation(new_test: Make) -> None:
    test = new_test(SYMMETRIC)
    for sign in (1, -1) * 5:
        test.step("current", 1800, 0.03 + sign * 0.1, sign * 5 * AREA_M2)
    result = symmetric_cycling.analyse(test.build())
    assert result["polarisation_reference_V"] == pytest.approx(0.1)


# --- Replicates ---------------------------------------------------------------------------------


def test_replicates_have_mean_spread_and_failures() -> None:
    results = [{"capacity": value, "verdict": "ok"} for value in (150.0, 160.0, 170.0)]
    found = replicates.statistics([*results, {"capacity": 20.0, "verdict": "short"}, None])
    (row,) = found["quantities"]
    assert (row["n"], row["mean"], row["standard_deviation"]) == (3, 160.0, 10.0)
    assert row["interval"] == pytest.approx(4.3027 * 10 / np.sqrt(3), rel=1e-3)
    assert (found["failed"], found["replicates"]) == (2, 5)
    assert found["failure_rate_percent"] == pytest.approx(40.0)
    assert found["failure_rate_low_percent"] < 15
    assert found["failure_rate_high_percent"] > 70


def test_three_cells_without_failure_prove_little() -> None:
    found = replicates.statistics([{"x": 1.0}] * 3)
    assert found["failure_rate_percent"] == 0
    assert found["failure_rate_high_percent"] > 50


def test_an_analysis_is_run_on_every_replicate(new_test: Make) -> None:
    cells = [new_test().cycle(3.6, size_C).build() for size_C in (3.0, 3.1, 3.2)]
    broken = new_test().step("rest", 100, 2.0).build()
    result = replicates.analyse(cells[0], replicates=(*cells[1:], broken), analysis="capacity")
    largest = next(row for row in result["quantities"] if row["quantity"] == "discharge_max_mAh_g")
    assert largest["mean"] == pytest.approx(3.1 / 3.6 / 4.9e-3, rel=1e-3)
    assert result["failed"] == 1
    assert "1 of 4" in replicates.describe(result)[0]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9))
def test_the_mean_lies_between_the_extremes(values: list[float]) -> None:
    (row,) = replicates.statistics([{"x": value} for value in values])["quantities"]
    assert row["lowest"] - 1e-3 <= row["mean"] <= row["highest"] + 1e-3
