"""A cell on two instruments gives the results of a cell on one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cellbench.cli.app import app

pytestmark = pytest.mark.long


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        app([*arguments, "--json"])
    out = capsys.readouterr().out
    assert ended.value.code == code, out
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.mark.parametrize(
    "bench", ["two_on_a_switch", pytest.param("two_by_hand", marks=pytest.mark.slow)]
)
def test_ccd_has_the_verdicts_of_the_potentiostat_alone(
    capsys: pytest.CaptureFixture[str], bench: str
) -> None:
    alone = answer(capsys, "run", "ccd")["results"]["ccd"]
    wired = answer(capsys, "run", "ccd", "--bench", bench)["results"]["ccd"]
    for name in ("verdict", "last_stable_mA_cm2", "irregular_at_mA_cm2", "short_at_mA_cm2"):
        assert wired[name] == alone[name]
    assert wired["last_stable_mA_cm2"] == 1.5


@pytest.mark.parametrize("bench", ["two_on_a_switch", "two_by_hand"])
def test_a_pellets_conductivity_is_that_of_the_potentiostat_alone(
    capsys: pytest.CaptureFixture[str], bench: str
) -> None:
    key = "conductivity_mS_cm"
    alone = answer(capsys, "run", "pellet_conductivity")["results"]["conductivity"]
    wired = answer(capsys, "run", "pellet_conductivity", "--bench", bench)
    assert wired["results"]["conductivity"][key] == pytest.approx(alone[key], rel=0.01)


def test_a_rate_has_the_capacity_of_the_potentiostat_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("run", "rate_test", "--set", "break_in_cycles=1", "--set", "cycles=1",
                 "--set", "rates=1C", "--set", "return_to=1C", "--set", "break_in=1C")  # fmt: skip
    alone = answer(capsys, *arguments)["results"]["capacity"]["first"]
    wired = answer(capsys, *arguments, "--bench", "two_on_a_switch")["results"]["capacity"]["first"]
    for key in ("charge_mAh_g", "discharge_mAh_g"):
        assert wired[key] == pytest.approx(alone[key], rel=0.01)


def test_plan_says_how_often_the_cell_changes_hands(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "plan", "ccd", "--bench", "two_by_hand")["handovers"] == 32
    assert answer(capsys, "plan", "ccd")["handovers"] == 0


def test_a_hold_with_spectra_is_a_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "check", "ageing_hold", "--bench", "two_on_a_switch")
    assert found["ok"]
    assert any("potentiostat takes its spectra" in text for text in found["deviations"])
