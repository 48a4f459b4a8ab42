"""Stack pressure while cycling: what the fixture makes of it, with real drivers on the bench."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.conftest import Runner

from cellbench import library
from cellbench.analysis import analyse
from cellbench.analysis.stored import stored_dataset
from cellbench.protocol import load_card

pytestmark = pytest.mark.long

CELL = "NMC811_InLi_single"
AREA_M2 = 78.54e-6
#: What the cell's stack grows by on charge: indium swells more than the cathode shrinks.
GROWTH_M_PER_MAH_CM2 = (2.9 - 0.25) * 1e-6


def breathing(run: Runner, text: str, stiffness_N_per_m: float) -> tuple[dict[str, Any], float]:
    """What the analysis finds, and what it has to find (MPa per mAh/cm2)."""
    text = text.replace("cycles: 3", "cycles: 1").replace("rate: C/10", "rate: C/5")
    ran = run(text, cell=CELL)
    assert ran.end.reason == "every step has ended"
    card, _ = load_card(None, CELL)
    found = analyse("pressure_breathing", stored_dataset(ran.reader, card))
    return found, stiffness_N_per_m * GROWTH_M_PER_MAH_CM2 / AREA_M2 / 1e6


def test_a_temperature_that_moves_is_told_from_breathing(run: Runner) -> None:
    text = library.find_protocol("operando_pressure").read_text(encoding="utf-8")
    warmer = "      - temperature: 35 degC\n      - discharge:"
    result, expected = breathing(run, text.replace("      - discharge:", warmer), 10e6)
    assert result["left_out"] == []
    assert result["breathing_MPa_per_mAh_cm2"] == pytest.approx(expected, rel=0.02)
    # Rods and stack grow 0.2 um/K more than the frame, and the load cell drifts by 0.5 N/K.
    expected_Pa = (0.2e-6 * 10e6 + 0.5) / AREA_M2
    assert result["temperature_MPa_per_K"] * 1e6 == pytest.approx(expected_Pa, rel=0.05)
    assert result["temperature_lag_s"] == 300.0


def test_a_spring_keeps_the_pressure_nearly(run: Runner) -> None:
    text = library.find_protocol("operando_pressure").read_text(encoding="utf-8")
    result, expected = breathing(run, text.replace("[screw, spring]", "spring"), 50e3)
    interval = result["breathing_interval_MPa_per_mAh_cm2"]
    assert abs(result["breathing_MPa_per_mAh_cm2"] - expected) < 2 * interval
    assert interval < 0.003
