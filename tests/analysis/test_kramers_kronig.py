"""The linear Kramers-Kronig test: sound spectra pass, drifting and disturbed ones do not."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.analysis import kramers_kronig as kk
from cellbench.analysis.dataset import ComplexArray, Dataset, FloatArray, Geometry, Spectrum

Make = Callable[..., Spectrum]


def sound(f: FloatArray) -> ComplexArray:
    s = 2j * np.pi * f
    return np.asarray(
        91.2 / (1 + s * 3.6e-9) + 192.7 / (1 + (s * 4e-6) ** 0.95) + 40 / (1 + (s * 2e-4) ** 0.85)
    )


def blocked(f: FloatArray, alpha: float = 0.9) -> ComplexArray:
    s = 2j * np.pi * f
    return np.asarray(91.2 + 192.7 / (1 + (s * 4e-6) ** 0.95) + 1 / (2e-6 * s**alpha))


def of(spectrum: Spectrum) -> Dataset:
    return Dataset(Geometry(7.85e-5, "symmetric"), spectra=(spectrum,))


@pytest.mark.parametrize("impedance", [sound, blocked, lambda f: 50 + 0j * f])
@pytest.mark.parametrize("noise", [1e-4, 1e-3, 5e-3])
def test_the_residual_of_a_sound_spectrum_is_its_noise(
    make_spectrum: Make, impedance: Callable[[FloatArray], ComplexArray], noise: float
) -> None:
    tested = kk.kramers_kronig(make_spectrum(impedance, noise=noise))
    assert tested.rms < 1.3 * noise + 1.2e-3
    assert kk.analyse(of(make_spectrum(impedance, noise=noise)))["consistent"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(1e-8, 1e-5),
    st.floats(1e-4, 1.0),
    st.floats(0.7, 1.0),
    st.sampled_from([1e6, 7e6]),
)
def test_any_two_arcs_are_consistent(
    make_spectrum: Make, fast_s: float, slow_s: float, alpha: float, top_Hz: float
) -> None:
    def impedance(f: FloatArray) -> ComplexArray:
        s = 2j * np.pi * f
        return np.asarray(50 + 100 / (1 + (s * fast_s) ** alpha) + 80 / (1 + (s * slow_s) ** alpha))

    assert kk.analyse(of(make_spectrum(impedance, top_Hz, noise=1e-3)))["consistent"]


def test_a_cell_that_drifts_during_the_sweep_is_found_out(make_spectrum: Make) -> None:
    def drifting(f: FloatArray) -> ComplexArray:
        return sound(f) * (1 + 0.3 * np.linspace(0, 1, len(f)) ** 4)

    result = kk.analyse(of(make_spectrum(drifting, noise=1e-3)))
    assert not result["consistent"]


def test_a_range_change_that_scales_part_of_the_sweep_is_found_out(make_spectrum: Make) -> None:
    result = kk.analyse(of(make_spectrum(lambda f: sound(f) * np.where(f < 100, 1.08, 1.0))))
    assert not result["consistent"]


def test_a_single_wild_point_is_found_out(make_spectrum: Make) -> None:
    def wild(f: FloatArray) -> ComplexArray:
        z = sound(f)
        z[40] *= 1.1
        return z

    assert not kk.analyse(of(make_spectrum(wild, noise=1e-3)))["consistent"]


def test_the_verdict_agrees_with_an_independent_package(make_spectrum: Make) -> None:
    pytest.importorskip("pandas", reason="impedance needs it, and does not declare it")
    from impedance.validation import linKK

    for impedance in (sound, lambda f: sound(f) * np.where(f < 100, 1.1, 1.0)):
        spectrum = make_spectrum(impedance, noise=1e-3)
        f, z = spectrum.descending()
        # It evaluates the text of its numbers, which must therefore not say "np.float64(...)".
        with np.printoptions(legacy="1.25"):
            *_, real, imag = linKK(f, z, c=0.5, max_M=60, fit_type="complex")
        theirs = float(np.sqrt(np.mean(real**2 + imag**2) / 2))
        assert (kk.kramers_kronig(spectrum).rms > 0.01) == (theirs > 0.01)


def test_a_spectrum_of_a_few_points_is_refused() -> None:
    short = Spectrum(0.0, "eis", np.array([1e3, 1e2]), np.array([1 + 0j, 2 + 0j]))
    with pytest.raises(ValueError, match="too short"):
        kk.kramers_kronig(short)
    assert kk.residual_percent(short) is None


def test_a_run_without_spectra_has_no_verdict() -> None:
    result = kk.analyse(Dataset(Geometry(1e-4, "symmetric")))
    assert result["consistent"] is None
    assert kk.describe(result) == ["no spectrum to test"]
