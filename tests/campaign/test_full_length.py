"""Everyday protocols that no study's number stands for, run to their full length as they ship."""

from __future__ import annotations

from typing import Any

import pytest

from cellbench.campaign.reference.run import Job, run_job
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

pytestmark = pytest.mark.slow


def results(protocol: str, cell: str, *sets: str) -> dict[str, Any]:
    outcome = run_job(Job(protocol, cell, sets), ())
    assert outcome.failure is None
    assert outcome.failures == {}
    assert outcome.document["run"]["reason"] == "every step has ended"
    return outcome.document


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_standing_cell_loses_is_what_leaks_through_its_electrolyte() -> None:
    found = results("self_discharge", "NCM85_InLi")["self_discharge"]
    world = World(load_preset("NCM85_InLi"), seed=0)
    separator = world.cell.separator
    leak_A = (4.3 - 0.62) * separator.electronic_conductance_S
    leak_uA_cm2 = leak_A * 1e6 / (separator.area_m2 * 1e4)
    assert found["rest_h"] == pytest.approx(72, abs=0.1)
    assert found["current_uA_cm2"] == pytest.approx(leak_uA_cm2, rel=0.15)
    assert found["slope_mV_per_h"] < 0
    assert abs(found["lasting_loss_percent"]) < 0.2 * found["loss_percent"]


@pytest.mark.timeout(300)
def test_pulses_show_the_kinetics_over_the_state_of_charge() -> None:
    found = results("pulse_resistance", "NCM85_InLi")["pulse_resistance"]
    rows = found["rows"]
    assert [row["direction"] for row in rows] == ["discharge", "charge"] * 9
    assert found["pulse_s"] == pytest.approx(10, abs=0.2)
    for row in rows:
        assert row["R_10s_ohm"] > row["R_1s_ohm"]
    at_1s = [row["R_1s_ohm"] for row in rows if row["direction"] == "discharge"]
    # 25 Ohm cm2 [4x(1-x)]^-0.5 is smallest half full, and soars towards a full cathode.
    assert max(at_1s) == at_1s[-1]
    assert min(range(9), key=at_1s.__getitem__) in {2, 3, 4}
    both = zip(
        at_1s, (row["R_1s_ohm"] for row in rows if row["direction"] == "charge"), strict=True
    )
    assert all(one == pytest.approx(other, rel=0.01) for one, other in both)


@pytest.mark.timeout(300)
def test_sulfide_and_halide_that_touch_grow_as_diffusion_lets_them() -> None:
    found = results("electrolyte_compatibility", "LPSCl_halide_blocking")["resistance_growth"]
    assert found["part"] == "total"
    assert found["spectra"][-1]["time_h"] - found["spectra"][0]["time_h"] == pytest.approx(
        72, abs=1
    )
    assert 5 < found["growth_percent"] < 30
    assert found["exponent"] == pytest.approx(0.5, abs=0.1)
    assert found["onset_h"] is None
