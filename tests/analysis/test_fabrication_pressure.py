"""What pressing does to a pellet: densification seen apart from cracks."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from cellbench.analysis import fabrication_pressure
from cellbench.analysis.dataset import (
    ComplexArray,
    Dataset,
    FloatArray,
    Geometry,
    Samples,
    Series,
    Spectrum,
)

Make = Callable[..., Spectrum]
AREA_M2 = np.pi * 5e-3**2
#: Bulk and boundaries (Ohm) after pressings (MPa): dense at 380, cracked at 500, denser at 1000.
SULFIDE = {100: (60.0, 40.0), 250: (45.0, 30.0), 380: (30.0, 20.0), 500: (27.0, 45.0),
           1000: (20.0, 33.0)}  # fmt: skip


def ladder(make_spectrum: Make, ohms: Mapping[int, tuple[float, float]]) -> Dataset:
    def cell(bulk_ohm: float, boundary_ohm: float) -> Callable[[FloatArray], ComplexArray]:
        def impedance(f: FloatArray) -> ComplexArray:
            s = 2j * np.pi * f
            arcs = bulk_ohm / (1 + s * bulk_ohm * 4e-11)
            arcs = arcs + boundary_ohm / (1 + (s * boundary_ohm * 2e-8) ** 0.9)
            return np.asarray(arcs + 1 / (2e-6 * s**0.9))

        return impedance

    spectra = tuple(
        make_spectrum(cell(*pair), noise=5e-4, seed=k, time_s=100.0 * k + 50, stack_pressure_Pa=5e7)
        for k, pair in enumerate(ohms.values())
    )
    pressed_Pa = np.array([*ohms], dtype=np.float64) * 1e6
    pressed = Series(np.arange(len(ohms), dtype=np.float64) * 100.0, pressed_Pa)
    sizes = Geometry(AREA_M2, "blocking", "Li6PS5Cl", 1.2e-3)
    return Dataset(sizes, samples=Samples(stack_pressure=pressed), spectra=spectra)


def test_boundaries_that_stand_out_of_the_bulk_are_a_crack(make_spectrum: Make) -> None:
    result = fabrication_pressure.analyse(ladder(make_spectrum, SULFIDE))
    assert (result["whole_until_MPa"], result["cracked_at_MPa"]) == (380, 500)
    assert result["lowest_at_MPa"] == 380
    assert result["first_over_lowest"] == pytest.approx(2.0, rel=0.01)
    assert result["gain_after_crack"] == pytest.approx(72 / 53, rel=0.01)
    assert result["lowest_ohm_cm2"] == pytest.approx(50 * 0.7854, rel=0.01)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_pellet_that_only_densifies_is_whole(make_spectrum: Make) -> None:
    whole = {pressed: (bulk, 2 / 3 * bulk) for pressed, (bulk, _) in SULFIDE.items()}
    result = fabrication_pressure.analyse(ladder(make_spectrum, whole))
    assert result["cracked_at_MPa"] is None
    assert result["gain_after_crack"] is None
    assert result["lowest_at_MPa"] == result["whole_until_MPa"] == 1000
    assert "whole         up to 1000 MPa" in fabrication_pressure.describe(result)


def test_of_spectra_after_one_pressing_the_last_counts(make_spectrum: Make) -> None:
    once = ladder(make_spectrum, {100: (60.0, 40.0), 250: (45.0, 30.0)})
    again = make_spectrum(lambda f: np.full(len(f), 30.0 + 0j), time_s=200.0)
    rows = fabrication_pressure.analyse(
        Dataset(once.geometry, samples=once.samples, spectra=(*once.spectra, again))
    )["pressings"]
    assert len(rows) == 2
    assert rows[1]["R_total_ohm_cm2"] == pytest.approx(30 * 0.7854, rel=0.02)


def test_one_pressing_says_nothing(make_spectrum: Make) -> None:
    with pytest.raises(ValueError, match="two pressings"):
        fabrication_pressure.analyse(ladder(make_spectrum, {100: (60.0, 40.0)}))
