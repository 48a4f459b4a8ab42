"""Interface resistance against stack pressure: the electrolyte stays, the interfaces fall."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from cellbench.analysis import interface_resistance
from cellbench.analysis.dataset import ComplexArray, Dataset, FloatArray, Geometry, Spectrum

Make = Callable[..., Spectrum]
AREA_M2 = np.pi * 5e-3**2
LADDER_MPA = (2.0, 5.0, 8.0, 14.0, 22.0)


def interfaces_ohm(pressure_MPa: float) -> float:
    return float(2 * 12.5 * (pressure_MPa / 5) ** -0.5 / 0.7854)


def ladder(make_spectrum: Make, ohm: Callable[[float], float] = interfaces_ohm) -> Dataset:
    def cell(pressure_MPa: float) -> Callable[[FloatArray], ComplexArray]:
        def impedance(f: FloatArray) -> ComplexArray:
            s = 2j * np.pi * f
            electrolyte = 91.2 / (1 + s * 3.6e-9) + 192.7 / (1 + (s * 192.7 * 2e-8) ** 0.95)
            R = ohm(pressure_MPa)
            return np.asarray(electrolyte + R / (1 + (s * R * 5e-6) ** 0.9))

        return impedance

    spectra = tuple(
        make_spectrum(cell(P), noise=0.002, seed=k, time_s=100.0 * k, stack_pressure_Pa=P * 1e6)
        for k, P in enumerate(LADDER_MPA)
    )
    return Dataset(Geometry(AREA_M2, "symmetric", "LYC_PMMA", 0.354e-3), spectra=spectra)


def test_the_interfaces_fall_with_pressure_and_the_electrolyte_does_not(
    make_spectrum: Make,
) -> None:
    result = interface_resistance.analyse(ladder(make_spectrum))
    assert result["R_interface_falls_with_pressure"] is True
    assert result["R_total_falls_with_pressure"] is True
    assert result["R_electrolyte_ohm"] == pytest.approx(283.9, rel=0.01)
    assert result["R_electrolyte_spread_percent"] < 3
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_area_specific_resistance_is_per_interface(make_spectrum: Make) -> None:
    result = interface_resistance.analyse(ladder(make_spectrum))
    for row in result["spectra"]:
        expected = 12.5 * (row["stack_pressure_MPa"] / 5) ** -0.5
        error = row["R_interface_uncertainty_ohm"] * 0.7854 / 2
        assert abs(row["ASR_interface_ohm_cm2"] - expected) < 4 * error + 0.05


def test_an_interface_that_rises_again_is_not_monotonic(make_spectrum: Make) -> None:
    rising = ladder(make_spectrum, lambda P: 30.0 if P == 5.0 else 60.0)
    result = interface_resistance.analyse(rising)
    assert result["R_interface_falls_with_pressure"] is False
    assert "interface resistance does not fall monotonically" in interface_resistance.describe(
        result
    )


def test_an_interface_without_an_arc_is_none(make_spectrum: Make) -> None:
    result = interface_resistance.analyse(ladder(make_spectrum, lambda _P: 1e-3))
    assert all(row["R_interface_ohm"] is None for row in result["spectra"])
    assert result["R_interface_falls_with_pressure"] is None
    assert "interface not seen" in interface_resistance.describe(result)[0]


def test_each_spectrum_is_a_line(make_spectrum: Make) -> None:
    lines = interface_resistance.describe(interface_resistance.analyse(ladder(make_spectrum)))
    assert len(lines) == len(LADDER_MPA) + 2
    assert lines[0].startswith("2.0 MPa   electrolyte 28")


def test_without_a_spectrum_there_is_no_table() -> None:
    with pytest.raises(ValueError, match="without a spectrum"):
        interface_resistance.analyse(Dataset(Geometry(AREA_M2, "symmetric")))
