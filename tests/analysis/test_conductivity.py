"""Conductivity from spectra of blocking cells, as two studies print theirs."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from cellbench.analysis import conductivity
from cellbench.analysis.dataset import ComplexArray, Dataset, FloatArray, Geometry, Spectrum

Make = Callable[..., Spectrum]
AREA_M2 = np.pi * 5e-3**2
PELLET = Geometry(AREA_M2, "blocking", "LYC", 0.354e-3)


def pellet(
    bulk_ohm: float, gb_ohm: float, gb_F: float = 2e-8
) -> Callable[[FloatArray], ComplexArray]:
    def impedance(f: FloatArray) -> ComplexArray:
        s = 2j * np.pi * f
        bulk = bulk_ohm / (1 + s * bulk_ohm * 39e-12)
        boundary = gb_ohm / (1 + (s * gb_ohm * gb_F) ** 0.95)
        return np.asarray(bulk + boundary + 1 / (2e-6 * s**0.9))

    return impedance


@pytest.mark.parametrize(("gb_ohm", "expected_mS_cm"), [(38.1, 0.349), (192.7, 0.159)])
def test_the_pellets_of_the_study_give_its_conductivities(
    make_spectrum: Make, gb_ohm: float, expected_mS_cm: float
) -> None:
    spectrum = make_spectrum(pellet(91.2, gb_ohm), 7e6, temperature_K=293.15, stack_pressure_Pa=5e6)
    result = conductivity.analyse(Dataset(PELLET, spectra=(spectrum,)))
    assert result["conductivity_mS_cm"] == pytest.approx(expected_mS_cm, abs=0.002)
    assert result["R_bulk_ohm"] == pytest.approx(91.2, rel=0.02)
    assert result["R_grain_boundary_ohm"] == pytest.approx(gb_ohm, rel=0.03)
    assert result["not_identified"] == []
    assert result["temperature_degC"] == pytest.approx(20.0)
    assert result["stack_pressure_MPa"] == 5.0
    assert 0 < result["conductivity_uncertainty_mS_cm"] < 0.01 * expected_mS_cm
    assert result["kramers_kronig_residual_percent"] < 0.5
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_boundary_beyond_the_band_is_none_and_the_total_is_given(make_spectrum: Make) -> None:
    spectrum = make_spectrum(pellet(91.2, 38.1, 1e-9), 1e6)
    result = conductivity.analyse(Dataset(PELLET, spectra=(spectrum,)))
    assert set(result["not_identified"]) == {"R_bulk_ohm", "R_grain_boundary_ohm"}
    assert result["R_bulk_ohm"] is None
    assert result["R_total_ohm"] == pytest.approx(129.3, rel=0.01)
    assert "not told apart" in conductivity.describe(result)[1]


def test_a_cell_that_is_not_the_card_s_is_told_instead_of_a_number_to_be_believed(
    make_spectrum: Make,
) -> None:
    def symmetric(f: FloatArray) -> ComplexArray:
        s = 2j * np.pi * f
        arcs = 192.7 / (1 + (s * 192.7 * 2e-8) ** 0.95) + 50 / (1 + (s * 50 * 5e-6) ** 0.85)
        return np.asarray(91.2 + arcs)

    spectrum = make_spectrum(symmetric, 1e6)
    result = conductivity.analyse(Dataset(PELLET, spectra=(spectrum,)))
    assert result["fit_residual_percent"] > 5
    assert set(result["not_identified"]) == {"R_bulk_ohm", "R_grain_boundary_ohm"}
    assert "% of the spectrum unexplained" in result["why_not_identified"][0]
    assert any(line.startswith("NOT TO BE TRUSTED") for line in conductivity.describe(result))


def test_a_wrong_card_gives_a_proportionally_wrong_conductivity(make_spectrum: Make) -> None:
    spectra = (make_spectrum(pellet(91.2, 192.7)),)
    right = conductivity.analyse(Dataset(PELLET, spectra=spectra))
    wrong_card = Geometry(AREA_M2 / 10, "blocking", "LYC", 0.354e-3)
    wrong = conductivity.analyse(Dataset(wrong_card, spectra=spectra))
    ratio = wrong["conductivity_mS_cm"] / right["conductivity_mS_cm"]
    assert ratio == pytest.approx(10, rel=1e-4)


def test_the_area_of_the_pellet_goes_before_that_of_the_electrode(make_spectrum: Make) -> None:
    card = Geometry(np.pi * 4.5e-3**2, "blocking", "LYC", 0.354e-3, AREA_M2)
    result = conductivity.analyse(Dataset(card, spectra=(make_spectrum(pellet(91.2, 38.1)),)))
    assert result["area_cm2"] == pytest.approx(0.7854, rel=1e-3)
    assert result["conductivity_mS_cm"] == pytest.approx(0.349, abs=0.003)


def test_both_forms_of_the_activation_energy_come_from_a_temperature_series(
    make_spectrum: Make,
) -> None:
    def at(T: float) -> Spectrum:
        factor = np.exp(0.394 / 8.617333e-5 * (1 / T - 1 / 293.15))
        return make_spectrum(
            pellet(91.2 * factor, 38.1 * factor), noise=1e-3, time_s=T, temperature_K=T
        )

    temperatures_K = (303.15, 313.15, 323.15, 333.15)
    result = conductivity.analyse(Dataset(PELLET, spectra=tuple(map(at, temperatures_K))))
    assert result["Ea_sigma_eV"] == pytest.approx(0.394, abs=0.003)
    assert result["Ea_sigma_T_eV"] - result["Ea_sigma_eV"] == pytest.approx(0.0274, abs=0.001)
    assert result["temperature_degC"] == pytest.approx(30.0)
    assert len(conductivity.describe(result)) == 3


def test_a_symmetric_cell_tells_the_conductivity_of_its_electrolyte(make_spectrum: Make) -> None:
    def impedance(f: FloatArray) -> ComplexArray:
        s = 2j * np.pi * f
        arcs = 192.7 / (1 + (s * 192.7 * 2e-8) ** 0.95) + 40 / (1 + (s * 2e-4) ** 0.85)
        return np.asarray(91.2 + arcs)

    card = Geometry(AREA_M2, "symmetric", "LYC", 0.354e-3)
    result = conductivity.analyse(Dataset(card, spectra=(make_spectrum(impedance),)))
    assert result["conductivity_mS_cm"] == pytest.approx(0.159, rel=0.02)


def test_without_thickness_or_spectrum_there_is_no_conductivity(make_spectrum: Make) -> None:
    bare = Geometry(AREA_M2, "blocking")
    with pytest.raises(ValueError, match="thickness"):
        conductivity.analyse(Dataset(bare, spectra=(make_spectrum(pellet(91.2, 38.1)),)))
    with pytest.raises(ValueError, match="without a spectrum"):
        conductivity.analyse(Dataset(PELLET))
