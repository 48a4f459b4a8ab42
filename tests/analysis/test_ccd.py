"""The verdict on a ramp: each criterion on its own, and every trap that must not fake one."""

import json
from typing import Any

import numpy as np
import pytest

from cellbench.analysis import ccd
from cellbench.analysis.dataset import Dataset, FloatArray, Geometry
from cellbench.analysis.half_cycle import half_cycle_verdict
from cellbench.analysis.ramp import judge, levels

Ramp = Any  # the class SyntheticRamp of conftest


def level(result: dict[str, Any], j: float) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in result["steps"] if s["current_density_mA_cm2"] == j)
    return found


def unsteady(j: float, sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
    rng = np.random.default_rng(int(100 * j + sign))
    return v * (1 + 0.04 * rng.normal(size=len(t))) if j >= 1 else v


def test_a_cell_that_stays_sound_has_not_reached_its_critical_current(ramp: Ramp) -> None:
    result = ccd.analyse(ramp().build())
    assert result["verdict"] == "not_reached"
    assert result["beyond_mA_cm2"] == result["last_stable_mA_cm2"] == 2.0
    assert result["irregular_at_mA_cm2"] is None
    assert result["short_at_mA_cm2"] is None
    assert result["stack_pressure_MPa"] == 5.0
    assert result["temperature_degC"] == 25.0
    assert result["areal_capacity_mAh_cm2"] == pytest.approx(2 / 3, rel=1e-3)
    assert result["R_electrolyte_ohm"] == pytest.approx(284, rel=0.01)
    assert level(result, 1.0)["ASR_apparent_ohm_cm2"] == pytest.approx(324 * 0.7854, rel=0.01)


def test_the_result_is_json(ramp: Ramp) -> None:
    result = ccd.analyse(ramp(alter=unsteady).build())
    assert json.loads(json.dumps(result, allow_nan=False)) == result


# Criteria


def test_unsteady_voltage_is_irregular(ramp: Ramp) -> None:
    result = ccd.analyse(ramp(alter=unsteady).build())
    assert (result["verdict"], result["last_stable_mA_cm2"]) == ("irregular", 0.5)
    assert result["irregular_at_mA_cm2"] == 1.0
    assert level(result, 1.0)["reason"].startswith("voltage unsteady by 4")


def test_unsteady_voltage_is_seen_even_if_the_noise_of_the_rest_is_unknown(ramp: Ramp) -> None:
    result = ccd.analyse(ramp(alter=unsteady, rest_s=0).build())
    assert result["irregular_at_mA_cm2"] == 1.0


def test_uncommanded_steps_are_irregular_and_their_time_is_told(ramp: Ramp) -> None:
    def alter(j: float, _sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * np.where((j >= 1) & (t > 600), 1.14, 1.0)

    result = ccd.analyse(ramp(alter=alter).build())
    assert result["irregular_at_mA_cm2"] == 1.0
    assert result["irregular_reason"] == "10 min into the step: voltage steps of 14 %"


def test_asymmetry_is_irregular(ramp: Ramp) -> None:
    def alter(j: float, sign: float, _t: FloatArray, v: FloatArray) -> FloatArray:
        return v * (1.3 if j >= 1 and sign > 0 else 1.0)

    result = ccd.analyse(ramp(alter=alter).build())
    assert result["irregular_at_mA_cm2"] == 1.0
    assert level(result, 1.0)["asymmetry_percent"] == pytest.approx(26.1, abs=0.2)


def test_a_voltage_that_rises_after_having_been_flat_is_irregular(ramp: Ramp) -> None:
    def alter(j: float, _sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * (1 + 0.6 * t / 1200) if j >= 1 else v

    result = ccd.analyse(ramp(alter=alter).build())
    assert (result["verdict"], result["irregular_at_mA_cm2"]) == ("irregular", 1.0)
    assert "at the end" in result["irregular_reason"]


def test_a_voltage_that_sags_below_the_electrolytes_is_a_soft_short(ramp: Ramp) -> None:
    def alter(j: float, _sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * (1 - 0.35 * t / 1200) if j >= 1 else v

    result = ccd.analyse(ramp(alter=alter).build())
    assert (result["verdict"], result["irregular_at_mA_cm2"]) == ("irregular", 1.0)
    assert result["irregular_reason"].endswith("not recovering")


def test_a_rising_voltage_is_never_a_short(ramp: Ramp) -> None:
    def alter(j: float, _sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * np.exp(3 * t / 1200) if j >= 1 else v

    assert ccd.analyse(ramp(alter=alter).build())["short_at_mA_cm2"] is None


def collapsing(j: float, sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
    if j < 1.5:
        return v
    return np.asarray(v * np.where((j > 1.5) | (sign < 0) | (t > 500), 0.25, 1.0))


def test_a_collapse_that_persists_and_shows_in_the_spectrum_is_a_short(ramp: Ramp) -> None:
    result = ccd.analyse(ramp(alter=collapsing, shunt_ohm={1.5: 80.0, 2.0: 80.0}).build())
    assert (result["verdict"], result["short_at_mA_cm2"]) == ("short", 1.5)
    assert result["last_stable_mA_cm2"] == 1.0
    assert result["short_reason"].endswith("of the electrolyte's; confirmed by spectrum")


def test_without_spectra_a_short_is_seen_against_earlier_half_cycles_and_that_is_said(
    ramp: Ramp,
) -> None:
    result = ccd.analyse(ramp(alter=collapsing, with_spectra=False).build())
    assert (result["verdict"], result["short_at_mA_cm2"]) == ("short", 1.5)
    assert "no spectrum" in result["short_reason"]
    assert result["short_seen_against"].endswith("half-cycles before (no spectrum)")
    assert result["R_electrolyte_ohm"] is None


def test_a_bridge_as_resistive_as_the_electrolyte_is_a_short_that_the_spectrum_proves(
    ramp: Ramp,
) -> None:
    """Its apparent resistance is the electrolyte's or more, and says nothing."""
    result = ccd.analyse(ramp(shunt_ohm={1.5: 150.0, 2.0: 150.0}).build())
    assert (result["verdict"], result["short_at_mA_cm2"]) == ("short", 1.5)
    assert result["last_stable_mA_cm2"] == 1.0
    assert "spectrum after it" in result["short_reason"]
    assert [row["verdict"] for row in result["steps"]][-2:] == ["short", "stable"]


def test_a_collapse_that_the_spectrum_refutes_is_a_soft_short(ramp: Ramp) -> None:
    result = ccd.analyse(ramp(alter=collapsing).build())
    assert (result["verdict"], result["irregular_at_mA_cm2"]) == ("irregular", 1.5)
    assert "soft short" in result["irregular_reason"]


def test_a_dip_that_recovers_is_a_soft_short(ramp: Ramp) -> None:
    def alter(j: float, sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * np.where((j == 1) & (sign > 0) & (t > 500) & (t < 560), 0.6, 1.0)

    result = ccd.analyse(ramp(alter=alter).build())
    assert (result["verdict"], result["irregular_at_mA_cm2"]) == ("irregular", 1.0)
    assert result["irregular_reason"].endswith("recovering")
    assert level(result, 1.5)["verdict"] == "stable"


def test_irregular_then_short_reports_both_levels(ramp: Ramp) -> None:
    def alter(j: float, sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return collapsing(j, sign, t, unsteady(j, sign, t, v))

    result = ccd.analyse(ramp(alter=alter, shunt_ohm={1.5: 80.0, 2.0: 80.0}).build())
    assert result["verdict"] == "short"
    assert result["last_stable_mA_cm2"] == 0.5
    assert result["irregular_at_mA_cm2"] == 1.0
    assert result["short_at_mA_cm2"] == 1.5
    lines = ccd.describe(result)
    assert lines[1] == "last stable   0.5 mA/cm2"
    assert lines[2].startswith("irregular at  1 mA/cm2 (")
    assert lines[3].startswith("short at      1.5 mA/cm2 (apparent resistance 0.")


def test_a_cell_bad_from_the_first_level_has_no_last_stable_one(ramp: Ramp) -> None:
    result = ccd.analyse(ramp(alter=unsteady, currents_mA_cm2=(1.0, 2.0)).build(), noise_V=5e-5)
    assert result["last_stable_mA_cm2"] is None
    assert result["irregular_at_mA_cm2"] == 1.0
    assert ccd.describe(result)[1] == "last stable   none"


def test_thresholds_are_options(ramp: Ramp) -> None:
    dataset = ramp(alter=unsteady).build()
    assert ccd.analyse(dataset, rms=0.05)["verdict"] == "not_reached"
    with pytest.raises(TypeError):
        ccd.analyse(dataset, no_such_threshold=1.0)


# Traps


TRAPS: dict[str, dict[str, Any]] = {
    "noise": {"noise_V": 5e-4},
    "noise and offset": {"noise_V": 5e-4, "offset_V": 5e-4},
    "noise and no rest": {"noise_V": 1e-3, "rest_s": 0},
    "coarse resolution": {"noise_V": 0.0, "resolution_V": 3e-4},
    "coarse resolution with noise": {"noise_V": 1e-5, "resolution_V": 3e-4},
    "offset": {"noise_V": 0.0, "offset_V": 2e-3},
    "slow samples": {"period_s": 10.0},
    "short half-cycles": {"half_cycle_s": 120.0},
    "no spectra": {"with_spectra": False},
    "wrong card": {"area_m2": 3 * 7.85e-5},
    "swinging room": {"warming_K": lambda t: 6 * np.sin(2 * np.pi * t / 21600)},
    "warming room": {"warming_K": lambda t: t / 3600 * 2},
}


@pytest.mark.long
@pytest.mark.parametrize("trap", list(TRAPS.values()), ids=list(TRAPS))
def test_instrument_and_room_do_not_fake_a_verdict(ramp: Ramp, trap: dict[str, Any]) -> None:
    for seed in range(3):
        result = ccd.analyse(ramp(seed=seed, **trap).build())
        assert result["verdict"] == "not_reached", result["irregular_reason"]


@pytest.mark.parametrize("tau_s", [2.0, 10.0, 60.0])
def test_a_slow_interface_does_not_fake_a_verdict(ramp: Ramp, tau_s: float) -> None:
    def alter(_j: float, _sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * (1 - 0.4 * np.exp(-t / tau_s))

    assert ccd.analyse(ramp(alter=alter).build())["verdict"] == "not_reached"


def test_one_irregular_half_cycle_alone_is_no_verdict(ramp: Ramp) -> None:
    def alter(j: float, sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * np.where((j == 1) & (sign > 0) & (t > 1100), 1.14, 1.0)

    result = ccd.analyse(ramp(alter=alter).build())
    assert result["verdict"] == "not_reached"
    assert level(result, 1.0)["reason"] == "voltage steps of 14 %"


def test_a_cell_that_was_never_flat_is_not_called_irregular_for_its_slope(ramp: Ramp) -> None:
    def alter(_j: float, _sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * (1 + 0.5 * t / 1200)

    assert ccd.analyse(ramp(alter=alter).build())["verdict"] == "not_reached"


def test_the_verdict_does_not_depend_on_the_area_of_the_card(ramp: Ramp) -> None:
    right = ccd.analyse(ramp(alter=unsteady).build())
    wrong = ccd.analyse(ramp(alter=unsteady, area_m2=2 * np.pi * 5e-3**2).build())
    assert wrong["verdict"] == right["verdict"]
    assert wrong["last_stable_mA_cm2"] == pytest.approx(right["last_stable_mA_cm2"] / 2)


# Ramps that end early, and the engine's view


def cut(dataset: Dataset, time_s: float) -> Dataset:
    """The dataset as it was when the run was stopped at a time."""
    steps = tuple(
        step if step.end_s <= time_s else type(step)(**{**vars(step), "end_s": time_s})
        for step in dataset.steps
        if step.start_s < time_s
    )
    spectra = tuple(one for one in dataset.spectra if one.time_s < time_s)
    samples = dataset.samples.between(0, time_s)
    return Dataset(dataset.geometry, steps, samples, spectra)


def test_a_level_that_was_cut_off_is_not_stable(ramp: Ramp) -> None:
    whole = ramp(currents_mA_cm2=(0.5, 1.0)).build()
    result = ccd.analyse(cut(whole, list(whole.steps_of("current"))[-1].start_s + 600))
    assert result["verdict"] == "not_reached"
    assert result["beyond_mA_cm2"] == 0.5
    assert level(result, 1.0)["verdict"] == "cut off"


def test_a_level_in_one_direction_only_is_not_stable(ramp: Ramp) -> None:
    whole = ramp(currents_mA_cm2=(0.5, 1.0)).build()
    result = ccd.analyse(cut(whole, list(whole.steps_of("current"))[-1].start_s))
    assert result["beyond_mA_cm2"] == 0.5


def test_a_half_cycle_that_polarised_until_it_was_cut_off_is_irregular(ramp: Ramp) -> None:
    def alter(j: float, _sign: float, t: FloatArray, v: FloatArray) -> FloatArray:
        return v * (1 + 2 * t / 1200) if j >= 1 else v

    whole = ramp(currents_mA_cm2=(0.2, 0.5, 1.0), alter=alter).build()
    stopped = cut(whole, list(whole.steps_of("current"))[-2].start_s + 900)
    result = ccd.analyse(stopped)
    assert (result["verdict"], result["irregular_at_mA_cm2"]) == ("irregular", 1.0)


def test_a_run_without_half_cycles_is_refused() -> None:
    with pytest.raises(ValueError, match="No half-cycle"):
        ccd.analyse(Dataset(Geometry(1e-4, "symmetric")))


def test_the_engine_sees_in_time_what_the_analysis_says_afterwards(ramp: Ramp) -> None:
    dataset = ramp(alter=unsteady).build()
    half_cycles = []
    verdicts = []
    for step in dataset.steps_of("current"):
        rows = dataset.samples.between(step.start_s, step.end_s)
        half_cycles.append(
            half_cycle_verdict(rows.time_s, rows.voltage_V, rows.current_A, 7.854e-5, 284.0)
        )
        verdicts.append([one.verdict for one in judge(half_cycles, rest_noise_V=5e-5)])
    first = next(i for i, so_far in enumerate(verdicts) if "irregular" in so_far)
    assert dataset.steps[1 + first].settings["current_A"] == pytest.approx(-10 * 7.854e-5, rel=1e-3)
    final = verdicts[-1]
    assert all(final[:k] == so_far[:k] for k, so_far in enumerate(verdicts))


def test_half_cycles_of_one_current_are_one_level(ramp: Ramp) -> None:
    t = np.arange(0.0, 100.0)
    ramped = [
        half_cycle_verdict(t, current_A * 300 + 0 * t, current_A + 0 * t, 1e-4, None)
        for current_A in (1e-4, -1e-4, 1e-4, 2e-4, -2e-4, 1e-4)
    ]
    assert [list(one) for one in levels(ramped)] == [[0, 1, 2], [3, 4], [5]]
