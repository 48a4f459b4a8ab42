"""The tables that analyses are given."""

import numpy as np
import pytest

from cellbench.analysis import analyse, bare
from cellbench.analysis.dataset import Dataset, Geometry, Samples, Series, Spectrum, StepData
from cellbench.analysis.reported import plain


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Samples(np.arange(3.0), np.arange(2.0), np.arange(3.0))


def test_a_series_gives_the_median_of_an_interval() -> None:
    series = Series(np.arange(10.0), np.arange(10.0))
    assert series.typical(2.0, 4.0) == 3.0


def test_a_series_reaches_out_for_an_interval_between_two_readings() -> None:
    series = Series(np.array([0.0, 60.0]), np.array([1.0, 3.0]))
    assert series.typical(20.0, 25.0) == 2.0


def test_a_series_does_not_repeat_a_stale_reading() -> None:
    series = Series(np.array([0.0]), np.array([298.0]))
    assert series.typical(1000.0, 1010.0) is None


def test_a_spectrum_is_ordered_from_high_to_low_without_missing_points() -> None:
    spectrum = Spectrum(0.0, "eis", np.array([1.0, 100.0, 10.0]), np.array([1, np.nan, 3 + 0j]))
    frequency_Hz, impedance_ohm = spectrum.descending()
    assert frequency_Hz.tolist() == [10.0, 1.0]
    assert impedance_ohm.tolist() == [3, 1]


def test_rows_between_two_times_include_both_ends() -> None:
    t = np.arange(5.0)
    assert Samples(t, t, t).between(1.0, 3.0).time_s.tolist() == [1.0, 2.0, 3.0]


def test_without_a_gauge_the_nearest_spectrum_tells_the_temperature() -> None:
    f, z = np.array([1.0]), np.array([1 + 0j])
    spectra = tuple(Spectrum(t, "eis", f, z, temperature_K=T) for t, T in ((0, 290), (100, 300)))
    dataset = Dataset(Geometry(1e-4, "symmetric"), spectra=spectra)
    assert dataset.temperature_K(90, 95) == 300.0
    assert dataset.stack_pressure_Pa(90, 95) is None


def test_only_a_number_is_a_numeric_setting() -> None:
    step = StepData("rest", "rest", 1.0, 3.0, {"duration_s": 2, "when": "available"})
    assert step.number("duration_s") == 2.0
    assert step.number("when") is None
    assert step.number("absent") is None
    assert step.duration_s == 2.0


@pytest.mark.parametrize(
    ("value", "text"), [(29076.2, "29080"), (0.00123456, "0.001235"), (1e9, "1e+09"), (12.0, "12")]
)
def test_large_resistances_are_written_without_an_exponent(value: float, text: str) -> None:
    assert plain(value) == text


def ladders() -> Dataset:
    """Two passes of a loop with a step and a spectrum each, and a step after them."""
    t = np.arange(1.0, 31.0)
    paths = ("ladder[1]/rest", "ladder[2]/rest", "rest")
    steps = [StepData(path, "rest", 10.0 * n, 10.0 * (n + 1)) for n, path in enumerate(paths)]
    spectra = [
        Spectrum(10.0 * n + 5, path.replace("rest", "eis"), np.ones(1), np.ones(1, complex))
        for n, path in enumerate(paths)
    ]
    return Dataset(Geometry(1e-4, "full"), tuple(steps), Samples(t, t, t), tuple(spectra))


@pytest.mark.parametrize(
    ("place", "first_s", "last_s", "spectra"),
    [("ladder", 1.0, 20.0, 2), ("ladder[2]", 11.0, 20.0, 1), ("rest", 1.0, 30.0, 0)],
)
def test_a_part_of_a_run_is_named_as_in_its_protocol(
    place: str, first_s: float, last_s: float, spectra: int
) -> None:
    part = ladders().within(place)
    assert (part.samples.time_s[0], part.samples.time_s[-1]) == (first_s, last_s)
    assert len(part.spectra) == spectra


@pytest.mark.parametrize("place", ["lad", "ladder[3]", "ladder[", "est"])
def test_a_part_that_did_not_run_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="Nothing ran within"):
        ladders().within(place)


def test_an_analysis_can_look_at_a_part_of_a_run() -> None:
    with pytest.raises(ValueError, match="Nothing ran within"):
        analyse("capacity within formation", ladders())
    assert bare("interface resistance within ladder[2]") == "interface_resistance"
