"""The main job through the command line: what the shipped protocols must show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cellbench.cli.app import app

REVIEWS_RAMP = "currents=0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7 mA/cm2"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        app([*arguments, "--json"])
    out = capsys.readouterr().out
    assert ended.value.code == code, out
    result: dict[str, Any] = json.loads(out)
    return result


def ccd(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = answer(capsys, "run", "ccd", *arguments)["results"]["ccd"]
    return found


@pytest.mark.long
def test_ccd_of_the_coated_electrolyte_is_well_over_one(capsys: pytest.CaptureFixture[str]) -> None:
    found = ccd(capsys)
    assert found["verdict"] == "short"
    assert found["last_stable_mA_cm2"] == 1.5
    assert found["irregular_at_mA_cm2"] == 2
    assert found["short_at_mA_cm2"] == 3
    assert found["stack_pressure_MPa"] == pytest.approx(5, abs=0.1)


@pytest.mark.long
def test_ccd_of_the_bare_electrolyte_is_irregular_beyond_a_half(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = ccd(capsys, "--cell", "LYC", "--seed", "3")
    assert found["last_stable_mA_cm2"] == 0.5
    assert found["irregular_at_mA_cm2"] == 0.6
    assert found["short_at_mA_cm2"] > 0.6


@pytest.mark.long
def test_the_reviews_ramp_tells_irregular_and_short_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = ccd(capsys, "--cell", "Li2ZrCl6", "--set", REVIEWS_RAMP)
    assert (found["irregular_at_mA_cm2"], found["short_at_mA_cm2"]) == (0.6, 0.7)


@pytest.mark.long
def test_a_cell_that_does_not_fail_is_not_reached(capsys: pytest.CaptureFixture[str]) -> None:
    found = ccd(capsys, "--cell", "Li2ZrCl5.5F0.5", "--set", REVIEWS_RAMP)
    assert found["verdict"] == "not_reached"
    assert found["beyond_mA_cm2"] == 0.7
    assert found["short_at_mA_cm2"] is None


@pytest.mark.parametrize(
    ("cell", "expected"), [("LYC_blocking", 0.349), ("LYC_PMMA_blocking", 0.159)]
)
def test_conductivity_is_recovered_through_press_wire_spectrum_and_fit(
    capsys: pytest.CaptureFixture[str], cell: str, expected: float
) -> None:
    result = answer(capsys, "run", "pellet_conductivity", "--cell", cell)
    found = result["results"]["conductivity"]
    assert found["conductivity_mS_cm"] == pytest.approx(expected, rel=0.03)
    assert found["R_bulk_ohm"] == pytest.approx(91.2, rel=0.05)


def test_the_interface_falls_with_pressure_and_the_electrolyte_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = answer(capsys, "run", "stack_pressure_eis")
    rows = result["results"]["interface_resistance"]["spectra"]
    electrolyte = [row["R_electrolyte_ohm"] for row in rows]
    interface = [row["R_interface_ohm"] for row in rows]
    assert max(electrolyte) < 1.02 * min(electrolyte)
    assert interface == sorted(interface, reverse=True)
    assert interface[0] > 2 * interface[-1]


def test_thirty_megapascal_shorts_the_cell_and_ends_the_run_safely(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pressures = "pressures=2, 5, 8, 14, 22, 30 MPa"
    result = answer(capsys, "run", "stack_pressure_eis", "--set", pressures, code=1)
    assert result["state"] == "stopped"
    assert "short circuit at 30 MPa" in result["reason"]


def card(directory: Path, *changes: tuple[str, str]) -> str:
    """The card of the coated pellet between steel, with something wrong on it."""
    shipped = Path(__file__).parents[2] / "protocols" / "cells" / "LYC_PMMA_blocking.yaml"
    text = shipped.read_text(encoding="utf-8")
    for right, wrong in changes:
        assert right in text
        text = text.replace(right, wrong)
    path = directory / "wrong_card.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.long
def test_analyses_follow_a_wrong_card_and_the_truth_does_not_move(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    right = answer(capsys, "run", "pellet_conductivity")["results"]["conductivity"]
    thick = card(tmp_path, ("0.354 mm", "0.708 mm"))
    wrong = answer(capsys, "run", "pellet_conductivity", "--cell", thick)["results"]["conductivity"]
    assert wrong["R_total_ohm"] == pytest.approx(right["R_total_ohm"], rel=1e-3)
    assert wrong["conductivity_mS_cm"] == pytest.approx(2 * right["conductivity_mS_cm"], rel=1e-3)


@pytest.mark.long
def test_a_wrong_diameter_scales_the_areas_and_nothing_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    right = answer(capsys, "run", "pellet_conductivity")["results"]["conductivity"]
    narrow = card(tmp_path, ("diameter: 10 mm", "diameter: 9 mm"))
    wrong = answer(capsys, "run", "pellet_conductivity", "--cell", narrow)
    found = wrong["results"]["conductivity"]
    assert found["R_total_ohm"] == pytest.approx(right["R_total_ohm"], rel=0.01)
    ratio = found["conductivity_mS_cm"] / right["conductivity_mS_cm"]
    assert ratio == pytest.approx((10 / 9) ** 2, rel=0.01)


def test_a_card_whose_die_is_not_the_benchs_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = card(tmp_path, ("die: 10 mm", "die: 13 mm"))
    with pytest.raises(SystemExit) as ended:
        app(["run", "pellet_conductivity", "--cell", other])
    assert ended.value.code == 2
    assert "die 13 mm" in capsys.readouterr().err


def test_a_run_can_be_analysed_again_with_a_corrected_card(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    thick = card(tmp_path, ("0.354 mm", "0.708 mm"))
    run = answer(capsys, "run", "pellet_conductivity", "--cell", thick)["run"]
    again = answer(capsys, "analyze", run, "--cell", "LYC_PMMA_blocking")
    assert again["results"]["conductivity"]["conductivity_mS_cm"] == pytest.approx(0.159, rel=0.03)


def test_a_run_can_be_shown_reported_and_exported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = answer(capsys, "run", "pellet_conductivity")["run"]
    assert answer(capsys, "show", run)["journal"][0]["kind"] == "run started"
    assert answer(capsys, "runs")["runs"][0]["id"] == run
    for arguments, written in [
        (["report", run, "-o", str(tmp_path / "a.html")], "a.html"),
        (["export", run, "--to", "csv", "-o", str(tmp_path)], f"{run}-simulated.csv"),
        (["export", run, "--to", "bdf", "-o", str(tmp_path)], f"{run}-simulated.bdf.csv"),
    ]:
        with pytest.raises(SystemExit) as ended:
            app(arguments)
        assert ended.value.code == 0
        assert (tmp_path / written).stat().st_size > 1000


def test_the_plan_says_when_the_run_will_end_and_the_simulation_agrees(
    capsys: pytest.CaptureFixture[str],
) -> None:
    planned = answer(capsys, "plan", "stack_pressure_eis", "--simulate")
    simulated_s = planned["simulation"]["duration_h"] * 3600
    assert planned["duration_min_s"] <= simulated_s * 1.1
    assert simulated_s <= planned["duration_max_s"]


def test_what_there_is_to_choose_from_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert {row["name"] for row in answer(capsys, "protocols")["protocols"]} >= {"ccd"}
    assert {row["name"] for row in answer(capsys, "cells")["cells"]} >= {"LYC", "LYC_PMMA"}
    assert {row["name"] for row in answer(capsys, "drivers")["drivers"]} >= {"palmsens"}


@pytest.mark.long
def test_every_shipped_protocol_passes_its_check(capsys: pytest.CaptureFixture[str]) -> None:
    for row in answer(capsys, "protocols")["protocols"]:
        assert answer(capsys, "check", row["name"])["ok"]
