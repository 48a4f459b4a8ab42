"""Choosing the circuit that a spectrum shows and naming its parts."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.analysis.dataset import ComplexArray, FloatArray, Spectrum
from cellbench.analysis.equivalents import (
    blocking,
    electrolyte_resistance_ohm,
    inserting,
    reversible,
)

Make = Callable[..., Spectrum]
Impedance = Callable[[FloatArray], ComplexArray]
TOLERATED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def zarc(f: FloatArray, R: float, C: float, alpha: float) -> ComplexArray:
    return np.asarray(R / (1 + (2j * np.pi * f * R * C) ** alpha))


def cell(gb_ohm: float, gb_F: float, bulk_ohm: float = 91.2) -> Impedance:
    def impedance(f: FloatArray) -> ComplexArray:
        return zarc(f, bulk_ohm, 39e-12, 1.0) + zarc(f, gb_ohm, gb_F, 0.95)

    return impedance


def blocked(gb_ohm: float, gb_F: float) -> Impedance:
    return lambda f: cell(gb_ohm, gb_F)(f) + 1 / (2e-6 * (2j * np.pi * f) ** 0.9)


def symmetric(gb_ohm: float, gb_F: float, int_ohm: float, int_F: float) -> Impedance:
    return lambda f: cell(gb_ohm, gb_F)(f) + zarc(f, int_ohm, int_F, 0.85)


@pytest.mark.parametrize("top_Hz", [7e6, 1e6])
@pytest.mark.parametrize("gb_ohm", [38.1, 192.7])
def test_bulk_and_grain_boundary_of_a_pellet_are_told_apart(
    make_spectrum: Make, top_Hz: float, gb_ohm: float
) -> None:
    found = blocking(make_spectrum(blocked(gb_ohm, 20e-9), top_Hz))
    assert found.fit.resistance_ohm(*found.bulk) == pytest.approx(91.2, rel=0.02)
    assert found.fit.resistance_ohm(*found.grain_boundary) == pytest.approx(gb_ohm, rel=0.03)
    assert not {"bulk", "grain_boundary"} & set(found.unidentified())


def test_a_boundary_arc_above_the_band_leaves_only_the_total(make_spectrum: Make) -> None:
    found = blocking(make_spectrum(blocked(38.1, 1e-9), 1e6))
    assert {"bulk", "grain_boundary"} <= set(found.unidentified())
    assert found.fit.resistance_ohm(*found.electrolyte) == pytest.approx(129.3, rel=0.005)


def test_an_electrolyte_without_grain_boundaries_has_only_a_total(make_spectrum: Make) -> None:
    found = blocking(
        make_spectrum(lambda f: 76.0 + 0 * f + 1 / (2e-6 * (2j * np.pi * f) ** 0.9), 1e6)
    )
    assert found.grain_boundary == ()
    assert found.unidentified()["grain_boundary"] == "no arc of its own"
    assert found.fit.resistance_ohm(*found.electrolyte) == pytest.approx(76.0, rel=0.005)


@settings(max_examples=30, suppress_health_check=TOLERATED)
@given(
    bulk_ohm=st.floats(10, 500),
    ratio=st.floats(0.25, 4),
    gb_F=st.floats(1e-9, 2e-8),
    q=st.floats(5e-7, 1e-5),
    alpha=st.floats(0.75, 0.98),
    seed=st.integers(0, 1000),
)
def test_the_total_of_any_pellet_is_right_within_two_percent(
    make_spectrum: Make,
    bulk_ohm: float,
    ratio: float,
    gb_F: float,
    q: float,
    alpha: float,
    seed: int,
) -> None:
    electrolyte = cell(ratio * bulk_ohm, gb_F, bulk_ohm)
    spectrum = make_spectrum(
        lambda f: electrolyte(f) + 1 / (q * (2j * np.pi * f) ** alpha), seed=seed
    )
    found = blocking(spectrum)
    error_ohm = found.fit.uncertainty_ohm(*found.electrolyte)
    total_ohm = found.fit.resistance_ohm(*found.electrolyte)
    whole_ohm = bulk_ohm * (1 + ratio)
    assert abs(total_ohm - whole_ohm) < max(0.02 * whole_ohm, 5 * error_ohm)


@pytest.mark.parametrize("interface_ohm", [15.0, 40.0, 150.0])
def test_electrolyte_and_interfaces_of_a_symmetric_cell_are_told_apart(
    make_spectrum: Make, interface_ohm: float
) -> None:
    found = reversible(make_spectrum(symmetric(192.7, 20e-9, interface_ohm, 5e-6)))
    assert found.fit.resistance_ohm(*found.electrolyte) == pytest.approx(283.9, rel=0.02)
    assert found.fit.resistance_ohm(*found.interface) == pytest.approx(interface_ohm, rel=0.1)


def test_a_layer_next_to_a_large_boundary_arc_is_an_interface(make_spectrum: Make) -> None:
    # A pellet pressed beyond its limit: the boundary's arc leans on the bulk's foot and on the
    # layer's arc, one decade below; only all three and charge transfer explain the spectrum.
    def cracked(f: FloatArray) -> ComplexArray:
        pellet = zarc(f, 162.0, 40e-12, 1.0) + zarc(f, 407.0, 20e-9, 0.9)
        interface = zarc(f, 125.0, 0.785e-6, 0.9) + zarc(f, 34.0, 125e-6, 0.95)
        return np.asarray(pellet + interface + 1 / (2.0 * (2j * np.pi * f) ** 0.5))

    found = inserting(make_spectrum(cracked, 1e6))
    assert found.fit.resistance_ohm(*found.interface) == pytest.approx(159.0, rel=0.05)
    assert found.fit.resistance_ohm(*found.electrolyte) == pytest.approx(569.0, rel=0.02)


def test_the_electrolyte_alone_is_found_beside_an_interface(make_spectrum: Make) -> None:
    ohm = electrolyte_resistance_ohm(make_spectrum(symmetric(38.1, 20e-9, 60.0, 5e-6)))
    assert ohm == pytest.approx(129.3, rel=0.02)


def test_a_shorted_cell_is_a_resistor(make_spectrum: Make) -> None:
    found = reversible(make_spectrum(lambda f: 12.0 + 0j * f))
    assert found.fit.resistance_ohm(*found.electrolyte) == pytest.approx(12.0, rel=0.01)
    assert found.interface == ()


def test_points_with_the_inductance_of_the_cables_are_left_out(make_spectrum: Make) -> None:
    clean = symmetric(192.7, 20e-9, 40.0, 5e-6)
    spectrum = make_spectrum(lambda f: clean(f) + 2j * np.pi * f * 5e-6, noise=0.001)
    ohm = electrolyte_resistance_ohm(spectrum)
    assert ohm == pytest.approx(283.9, rel=0.1)


def test_a_spectrum_of_a_few_points_is_refused() -> None:
    short = Spectrum(0.0, "eis", np.array([1e3, 1e2]), np.array([1 + 0j, 2 + 0j]))
    with pytest.raises(ValueError, match="too short"):
        blocking(short)
    assert electrolyte_resistance_ohm(short) is None
