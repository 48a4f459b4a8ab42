"""Cycles are found from steps or from currents alone, and their charge is right."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench.analysis import capacity, coulombic_efficiency, rate_table, retention
from cellbench.analysis.cycles import cycles, half_cycles, passed_C, rate_text
from cellbench.analysis.dataset import Dataset, Geometry, Samples, StepData

Make = Any  # the class SyntheticTest of conftest
AREA_M2 = np.pi * 5e-3**2


def test_a_charge_is_its_current_times_its_time(new_test: Make) -> None:
    (cycle,) = cycles(new_test().cycle(3.6, 3.2).build())
    assert cycle.charge
    assert cycle.discharge
    assert cycle.charge.capacity_C == pytest.approx(3.6, rel=1e-9)
    assert cycle.discharge.capacity_C == pytest.approx(3.2, rel=1e-9)


@given(st.floats(0.5, 30.0), st.floats(100.0, 5000.0), st.sampled_from([-1.0, 1.0]))
def test_charge_balances_whatever_the_sampling(
    period_s: float, lasts_s: float, sign: float
) -> None:
    t = np.arange(period_s, lasts_s + period_s / 2, period_s)
    passed = passed_C(t, np.full(len(t), sign * 1e-3), 0.0)
    assert passed[-1] == pytest.approx(sign * 1e-3 * t[-1], rel=1e-9)


def test_the_ledger_counts_what_the_kept_rows_do_not_show() -> None:
    t = np.array([0.0, 1000.0])
    current_A, ledger_C = np.array([1e-3, 1e-3]), np.array([0.0, 0.8])
    assert passed_C(t, current_A, 0.0, ledger_C)[-1] == pytest.approx(0.8)


def test_a_ledger_that_begins_anew_is_bridged() -> None:
    t = np.arange(0.0, 50.0, 10.0)
    ledger_C = np.array([0.0, 0.01, 0.02, 0.0, 0.01])
    passed = passed_C(t, np.full(5, 1e-3), 0.0, ledger_C)
    assert passed[-1] == pytest.approx(0.04)


def test_a_hold_belongs_to_the_charge_before_it(new_test: Make) -> None:
    taper = lambda t: 1e-3 * np.exp(-t / 600)  # noqa: E731
    test = new_test().step("charge", 3000, 3.6, 1e-3).step("hold", 1800, 3.6, taper)
    test.step("discharge", 3000, 2.5, -1e-3)
    charge, discharge = half_cycles(test.build())
    assert charge.capacity_C == pytest.approx(3.0 + 0.6 * (1 - np.exp(-3)), rel=2e-3)
    assert discharge.direction == "discharge"
    assert charge.set_A == 1e-3
    assert len(charge.driven()[0]) == 300


def test_pieces_between_rests_and_spectra_are_one_half_cycle(new_test: Make) -> None:
    test = new_test()
    for _ in range(5):
        test.step("charge", 720, 3.2, 1e-3).step("rest", 600, 3.1)
    (half,) = half_cycles(test.build())
    assert half.capacity_C == pytest.approx(3.6)
    assert len(half.pieces) == 5
    assert np.all(np.diff(half.charge_C) > 0)


def test_a_pulse_between_charges_is_no_half_cycle(new_test: Make) -> None:
    test = new_test().step("charge", 1800, 3.2, 1e-3).step("rest", 60, 3.1)
    test.step("current", 10, 3.0, -1e-3, period_s=1).step("charge", 1800, 3.3, 1e-3)
    assert len(half_cycles(test.build())) == 1


def test_where_paths_do_not_tell_the_current_does(new_test: Make) -> None:
    test = new_test().cycle(3.6, 3.4).step("rest", 600, 2.4).cycle(3.5, 3.3)
    whole = test.build()
    bare = replace(whole, steps=())
    sizes = [half.capacity_C for half in half_cycles(bare)]
    assert sizes == pytest.approx([3.6, 3.4, 3.5, 3.3], rel=0.01)
    assert len(cycles(bare)) == 2


def test_a_card_may_call_a_negative_current_charge(new_test: Make) -> None:
    turned = replace(new_test().geometry, charge_sign=-1.0)
    test = new_test(turned).step("current", 100, 1.0, -1e-3).step("current", 100, 1.0, 1e-3)
    assert [half.direction for half in half_cycles(test.build())] == ["charge", "discharge"]


def test_a_discharge_before_the_first_charge_of_a_full_cell_is_cycle_zero(new_test: Make) -> None:
    test = new_test().step("discharge", 600, 2.5, -1e-3).cycle(3.6, 3.5)
    assert [cycle.number for cycle in cycles(test.build())] == [0, 1]
    assert capacity.analyse(test.build())["rows"][1]["charge_mAh"] == pytest.approx(1.0)


def test_without_charge_there_is_no_cycle(new_test: Make) -> None:
    with pytest.raises(ValueError, match="passed charge"):
        cycles(new_test().step("rest", 100, 1.0).build())
    with pytest.raises(ValueError, match="passed charge"):
        cycles(Dataset(Geometry(1e-4, "full")))


@pytest.mark.parametrize(
    ("rate", "text"), [(0.1, "C/10"), (1 / 3, "C/3"), (1.0, "1C"), (0.05, "C/20"), (3.0, "3C")]
)
def test_rates_are_written_as_people_write_them(rate: float, text: str) -> None:
    assert rate_text(rate) == text


# --- Capacity -----------------------------------------------------------------------------------


def test_capacities_are_per_gram_and_per_area(new_test: Make) -> None:
    result = capacity.analyse(new_test().cycle(3.6, 3.2).build())
    row = result["rows"][0]
    assert row["charge_mAh_g"] == pytest.approx(1 / 4.9e-3, rel=1e-5)
    assert row["discharge_mAh_cm2"] == pytest.approx(3.2 / 3.6 / 0.785398, rel=1e-5)
    assert row["coulombic_efficiency_percent"] == pytest.approx(100 * 3.2 / 3.6, rel=1e-5)
    assert row["charge_mean_V"] == pytest.approx(2.8, rel=0.003)
    assert row["charge_end_potential_V"] == pytest.approx(3.6 + 0.62)
    assert row["rate_C"] == pytest.approx(1.0)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert capacity.describe(result)[0].startswith("first cycle")


def test_without_a_loading_there_is_no_capacity_per_gram(new_test: Make) -> None:
    bare = Geometry(AREA_M2, "full")
    result = capacity.analyse(new_test(bare).cycle(3.6, 3.2).build())
    assert result["rows"][0]["charge_mAh_g"] is None
    assert "mAh/cm2" in capacity.describe(result)[0]


def test_the_energy_of_a_line_is_its_mean_times_its_charge(new_test: Make) -> None:
    test = new_test(period_s=1.0).cycle(3.6, 3.6, low_V=2.0, high_V=4.0)
    row = capacity.analyse(test.build())["rows"][0]
    assert row["discharge_mWh"] == pytest.approx(3.0 * 1.0, rel=1e-3)
    assert row["energy_efficiency_percent"] == pytest.approx(100, rel=2e-3)


# --- Efficiency ---------------------------------------------------------------------------------


def test_what_is_stripped_over_what_was_plated(new_test: Make) -> None:
    copper = Geometry(AREA_M2, "half")
    test = new_test(copper)
    for share in (0.61, 0.35, 0.15, 0.0):
        test.step("current", 3600, -0.05, -4e-4)
        test.step("current", max(3600 * share, 10), 0.05, 4e-4 if share else 0.0)
        test.steps[-1] = replace(test.steps[-1], settings={"current_A": 4e-4})
    result = coulombic_efficiency.analyse(test.build())
    values = [row["coulombic_efficiency_percent"] for row in result["rows"]]
    assert values == pytest.approx([61, 35, 15, 0], abs=0.1)
    assert result["definition"] == "Q strip / Q plate"
    assert result["exhausted_at_cycle"] == 4
    assert any("exhausted" in line for line in coulombic_efficiency.describe(result))


def test_the_mean_leaves_the_first_cycle_out(new_test: Make) -> None:
    test = new_test().cycle(4.0, 3.0)
    for _ in range(5):
        test.cycle(3.0, 2.985)
    result = coulombic_efficiency.analyse(test.build())
    assert result["first_percent"] == pytest.approx(75.0)
    assert result["mean_percent"] == pytest.approx(99.5)
    assert result["definition"] == "Q discharge / Q charge"


# --- Retention and rates ------------------------------------------------------------------------


def fading(new_test: Make, cycles_: int = 20, fade: float = 0.01) -> Dataset:
    test = new_test().cycle(4.0, 3.6, 1e-4)
    for number in range(cycles_):
        test.cycle(3.4 * (1 - fade * number), 3.4 * (1 - fade * number))
    dataset: Dataset = test.build()
    return dataset


def test_retention_compares_cycles_at_one_rate(new_test: Make) -> None:
    result = retention.analyse(fading(new_test, 26))
    assert result["reference_cycle"] == 2
    assert result["retention_percent"] == pytest.approx(75.0, abs=0.5)
    assert result["fade_percent_per_cycle"] == pytest.approx(1.0, rel=0.02)
    assert result["end_reached_at_cycle"] in (22, 23)  # 80 % exactly, give or take a bit
    assert "cycle 2 (first at this rate)" in "\n".join(retention.describe(result))


def test_the_reference_may_be_the_maximum_after_break_in(new_test: Make) -> None:
    test = new_test()
    for size_C in (2.4, 2.9, 3.2, 3.3, 3.3, 3.25, 3.2):
        test.cycle(size_C, size_C)
    result = retention.analyse(test.build(), reference="maximum")
    assert result["reference_cycle"] == 4
    assert result["retention_percent"] == pytest.approx(100 * 3.2 / 3.3, abs=0.3)


def test_a_discharge_that_a_check_up_goes_on_with_is_not_compared(new_test: Make) -> None:
    test = new_test()
    for _ in range(4):
        test.cycle(3.6, 3.2)
    test.step("discharge", 1000.0, 2.0, -1e-4)
    result = retention.analyse(test.build())
    assert result["last_cycle"] == 3
    assert result["retention_percent"] == pytest.approx(100.0, abs=0.1)


def test_an_unknown_reference_cycle_is_refused(new_test: Make) -> None:
    with pytest.raises(ValueError, match="cycle 99"):
        retention.analyse(fading(new_test), reference=99)


def test_a_staircase_gives_one_row_per_rate_and_its_return(new_test: Make) -> None:
    test = new_test()
    for rate, size_C, count in ((0.1, 3.6, 3), (0.5, 3.0, 3), (1.0, 2.4, 3), (0.1, 3.5, 2)):
        for _ in range(count):
            test.cycle(size_C, size_C, rate * 1e-3)
    result = rate_table.analyse(test.build())
    assert [row["rate_C"] for row in result["rates"]] == pytest.approx([0.1, 0.5, 1.0, 0.1])
    assert result["rates"][2]["discharge_mAh_g"] == pytest.approx(2.4 / 3.6 / 4.9e-3, rel=5e-3)
    assert result["return_percent"] == pytest.approx(100 * 3.5 / 3.6, rel=1e-3)
    assert rate_table.describe(result)[0].startswith("at C/10")


def test_what_interrupts_a_charge_is_not_counted_with_it() -> None:
    time_s = np.arange(1.0, 301.0)
    resting = (time_s > 100) & (time_s <= 200)
    current_A = np.where(resting, 0.0, 1e-3)
    ledger_C = np.where(resting, 0.0, np.where(time_s <= 100, time_s, time_s - 100) * 1e-3)
    dataset = Dataset(
        Geometry(area_m2=1e-4, layout="full"),
        (
            StepData("charge", "charge", 0.0, 300.0, {"current_A": 1e-3}),
            StepData("charge/every[1]/rest", "rest", 100.0, 200.0),
        ),
        Samples(time_s, np.full(300, 3.7), current_A, charge_C=ledger_C),
    )
    (half,) = half_cycles(dataset)
    assert half.capacity_C == pytest.approx(0.2, rel=0.01)


def test_the_residual_discharge_of_a_check_up_is_none_of_the_cycle(new_test: Make) -> None:
    test = new_test()
    for number in range(3):
        test.step("charge", 3600, lambda t: 2 + 1.6 * t / 3600, 1e-3)
        test.step("discharge", 3500, lambda t: 3.6 - 1.6 * t / 3500, -1e-3,
                  ending="voltage at or below 2 V")  # fmt: skip
        test.step("rest", 300, 2.4)
        if number == 1:
            test.step("discharge", 900, 2.1, -1e-4, ending="voltage at or below 2 V")
            test.step("rest", 300, 2.3)
    ran = cycles(test.build())
    assert [cycle.number for cycle in ran] == [1, 2, 3]
    capacities = [one.discharge.capacity_C if one.discharge else 0.0 for one in ran]
    assert capacities == pytest.approx([3.5, 3.5, 3.5], rel=0.01)


def test_a_discharge_in_pieces_at_one_current_stays_one(new_test: Make) -> None:
    test = new_test().step("charge", 3600, 3.0, 1e-3)
    for _ in range(3):
        test.step("discharge", 1000, 2.5, -1e-3).step("rest", 100, 2.6)
    (cycle,) = cycles(test.build())
    assert cycle.discharge is not None
    assert cycle.discharge.capacity_C == pytest.approx(3.0, rel=0.01)
