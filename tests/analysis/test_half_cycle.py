"""Measuring one half-cycle, and what a spectrum says of a short."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench.analysis.dataset import ComplexArray, FloatArray, Spectrum
from cellbench.analysis.half_cycle import (
    HalfCycle,
    estimate_noise_V,
    half_cycle_verdict,
    is_hard_short,
    spectrum_shows_short,
)

AREA_M2 = 7.854e-5
CURRENT_A = 4e-4
SOUND_V = 0.13  # 325 ohm
R_HF_OHM = 284.0
T = np.arange(0.0, 1200.0)


def measured(voltage_V: FloatArray, time_s: FloatArray = T, noise_V: float = 5e-5) -> HalfCycle:
    noise = noise_V * np.random.default_rng(0).normal(size=len(time_s))
    current_A = np.full(len(time_s), CURRENT_A)
    return half_cycle_verdict(time_s, voltage_V + noise, current_A, AREA_M2, R_HF_OHM)


def test_a_flat_half_cycle_is_measured_as_flat() -> None:
    flat = measured(np.full(1200, SOUND_V))
    assert flat.voltage_V == pytest.approx(SOUND_V, rel=1e-3)
    assert flat.asr_ohm_m2 == pytest.approx(325 * AREA_M2, rel=1e-3)
    assert flat.noise_V == pytest.approx(5e-5, rel=0.15)
    assert flat.rms_V == pytest.approx(5e-5, rel=0.15)
    assert flat.end_ratio == pytest.approx(1.0, abs=1e-3)
    assert flat.resistance_ratio == pytest.approx(325 / R_HF_OHM, rel=1e-3)
    assert flat.step < 0.01
    assert (flat.shorted_s, flat.soft_shorted_s, flat.recovered) == (0.0, 0.0, True)


def test_a_negative_half_cycle_measures_as_its_mirror_image() -> None:
    v = SOUND_V * (1 + 1e-4 * T)
    positive = half_cycle_verdict(T, v, np.full(1200, CURRENT_A), AREA_M2, R_HF_OHM)
    negative = half_cycle_verdict(T, -v, np.full(1200, -CURRENT_A), AREA_M2, R_HF_OHM)
    mirrored = replace(
        negative,
        current_A=-negative.current_A,
        current_density_A_m2=-negative.current_density_A_m2,
    )
    assert mirrored == positive


@given(st.floats(0.12, 0.6), st.integers(100, 1100), st.sampled_from([-1, 1]))
def test_a_step_is_found_with_its_height_and_time(height: float, at: int, sign: int) -> None:
    found = measured(SOUND_V * np.where(at <= T, 1 + sign * height, 1.0))
    assert found.step == pytest.approx(height, rel=0.05)
    assert found.step_after_s == pytest.approx(at, abs=8)


@given(st.floats(-0.5, 4.0))
def test_a_steady_slope_has_no_step(rise: float) -> None:
    assert measured(SOUND_V * (1 + rise * T / 1200)).step < 0.02


@given(st.floats(0.0, 0.9), st.floats(0.5, 10.0))
def test_the_charging_of_a_double_layer_is_neither_step_nor_noise_nor_short(
    missing: float, tau_s: float
) -> None:
    found = measured(SOUND_V * (1 - missing * np.exp(-T / tau_s)))
    assert found.step < 0.05
    assert found.rms_V is not None
    assert found.rms_V < 0.002 * SOUND_V
    assert found.soft_shorted_s == 0.0


def test_single_wild_samples_are_no_step() -> None:
    v = np.full(1200, SOUND_V)
    v[[300, 301, 700]] *= 3
    assert measured(v).step < 0.01


def test_a_gap_in_the_samples_hides_what_happened_in_it() -> None:
    kept = (T < 400) | (T > 800)
    v = SOUND_V * np.where(T < 600, 1.0, 1.3)
    assert measured(v[kept], T[kept]).step < 0.01


def test_samples_without_the_set_current_are_left_out() -> None:
    current_A = np.full(1200, CURRENT_A)
    v = np.full(1200, SOUND_V)
    current_A[600:620], v[600:620] = 0.0, 0.0
    found = half_cycle_verdict(T, v, current_A, AREA_M2, R_HF_OHM)
    assert found.step == 0.0
    assert found.soft_shorted_s == 0.0


def test_missing_values_do_not_disturb() -> None:
    v = np.where(T % 3 == 0, np.nan, SOUND_V)
    found = half_cycle_verdict(T, v, np.full(1200, np.nan), AREA_M2, None, set_current_A=CURRENT_A)
    assert found.voltage_V == SOUND_V
    assert found.resistance_ratio is None


def test_the_time_below_the_limits_is_measured() -> None:
    dipped = measured(SOUND_V * np.where((T > 300) & (T < 500), 0.3, 1.0))
    assert dipped.shorted_s == pytest.approx(200, abs=5)
    assert dipped.recovered
    fallen = measured(SOUND_V * np.where(T > 300, 0.7, 1.0))
    assert (fallen.shorted_s, fallen.recovered) == (0.0, False)
    assert fallen.soft_shorted_s == pytest.approx(900, abs=5)


def test_a_half_cycle_of_a_few_samples_is_not_measured() -> None:
    few = measured(np.full(5, SOUND_V), T[:5])
    assert few.voltage_V is None
    assert few.samples < 10


def test_without_any_current_the_half_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="no current"):
        half_cycle_verdict(T, T, np.full(1200, np.nan), AREA_M2, None)


def test_fast_samples_are_measured_like_slow_ones() -> None:
    t = np.arange(0.0, 1200.0, 0.1)
    found = measured(SOUND_V * np.where(t > 600, 1.2, 1.0), t)
    assert found.step == pytest.approx(0.2, rel=0.05)
    assert found.step_after_s == pytest.approx(600, abs=8)


def test_the_noise_is_blind_to_drift_and_steps() -> None:
    noise = 1e-4 * np.random.default_rng(0).normal(size=1200)
    assert estimate_noise_V(noise + 1e-5 * T + (T > 500)) == pytest.approx(1e-4, rel=0.1)


def test_a_quantised_signal_has_at_least_the_noise_of_its_resolution() -> None:
    toggling = np.where(np.arange(1200) % 100 < 2, 1e-3, 0.0)
    assert estimate_noise_V(toggling) == pytest.approx(1e-3 / np.sqrt(12))


def test_a_hard_short_persists_after_reversal_and_is_not_refuted_by_the_spectrum() -> None:
    low, sound = measured(np.full(1200, 0.3 * SOUND_V)), measured(np.full(1200, SOUND_V))
    assert is_hard_short(low, low, confirmed=True)
    assert is_hard_short(low, low)
    assert is_hard_short(low)
    assert not is_hard_short(low, sound)
    assert not is_hard_short(low, low, confirmed=False)
    assert not is_hard_short(sound, low)


def spectrum(impedance_ohm: ComplexArray, frequency_Hz: FloatArray) -> Spectrum:
    return Spectrum(0.0, "eis", frequency_Hz, impedance_ohm)


def test_a_shunt_collapses_the_spectrum_and_its_arc() -> None:
    f = np.geomspace(1e6, 0.1, 71)
    z = 91 + 192 / (1 + 2j * np.pi * f * 4e-6) + 40 / (1 + 2j * np.pi * f * 2e-4)
    sound = spectrum(z, f)
    assert spectrum_shows_short(spectrum(z * 100 / (z + 100), f), sound)
    assert not spectrum_shows_short(spectrum(z * 2000 / (z + 2000), f), sound)
    assert not spectrum_shows_short(spectrum(0.4 * z.real + 1j * z.imag, f), sound)
    assert not spectrum_shows_short(sound, sound)


def test_spectra_of_different_bands_are_compared_in_the_common_one() -> None:
    f = np.geomspace(1e6, 0.1, 71)
    z = 91 + 192 / (1 + 2j * np.pi * f * 4e-6) + 300 / (1 + 2j * np.pi * f * 1.0)
    part = f > 100
    assert not spectrum_shows_short(spectrum(z[part], f[part]), spectrum(z, f))


def test_an_empty_spectrum_shows_nothing() -> None:
    empty = spectrum(np.empty(0, dtype=np.complex128), np.empty(0))
    with pytest.raises(ValueError, match="without points"):
        spectrum_shows_short(empty, empty)
