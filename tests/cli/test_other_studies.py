"""Campaigns that are not in the library, written from the documentation alone, without Python.

Their author had never seen a shipped protocol. The files are his, with what he found missing since
then put in (an analysis of a part of a run). One electrolyte each, temperatures, windows and rates
of their own; the simulated cell that plays them is the shipped one whose chemistry comes nearest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cellbench.cli.app import app

pytestmark = pytest.mark.slow

STUDIES = Path(__file__).parent / "other_studies"
SHORTER = {
    "argyrodite": (
        "cycles=3", "cycles_per_rate=1", "formation_cycles=1", "checkup_every=2",
        "rates=C/10, 1C", "formation_rate=C/5", "checkup_rate=C/5", "temperatures=45, 30 degC",
    ),
    "borohydride": ("pressures=6, 12 MPa", "currents=0.2 to 0.6 by 0.2 mA/cm2"),
}  # fmt: skip


def _run(study: str, store: Path, *settings: str) -> dict[str, Any]:
    sets = [text for setting in settings for text in ("--set", setting)]
    call = ["run", str(STUDIES / f"{study}.yaml"), *sets, "--store", str(store), "--json"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("study", SHORTER)
@pytest.mark.parametrize("command", ["check", "plan"])
def test_the_whole_campaign_is_sound_before_anything_runs(command: str, study: str) -> None:
    done = CliRunner().invoke(app, [command, str(STUDIES / f"{study}.yaml")])
    assert done.exit_code == 0, done.output


def test_a_full_cell_from_formation_to_ageing(tmp_path: Path) -> None:
    results = _run("argyrodite", tmp_path, *SHORTER["argyrodite"])["results"]
    assert results["coulombic_efficiency within formation"]["first_percent"] < 95
    rates = results["rate_table within rate_test"]["rates"]
    assert [row["rate_C"] for row in rates] == pytest.approx([0.1, 1.0])
    assert results["retention within cycling"]["retention_percent"] == pytest.approx(100, abs=1)


def test_a_symmetric_cell_is_warmed_and_ramped_at_two_pressures(tmp_path: Path) -> None:
    answer = _run("borohydride", tmp_path, *SHORTER["borohydride"])
    results = answer["results"]
    assert results["arrhenius within ladder"]["Ea_sigma_eV"] == pytest.approx(0.394, rel=0.01)
    ramps = [results[f"ccd within pressures[{number}]"] for number in (1, 2)]
    assert [ramp["stack_pressure_MPa"] for ramp in ramps] == pytest.approx([6, 12], rel=0.03)
    assert list(answer["failures"]) == ["ccd within pressures[3]"]


@pytest.mark.slow
def test_a_short_at_its_second_pressure_ends_the_whole_of_it(tmp_path: Path) -> None:
    results = _run("borohydride", tmp_path)["results"]
    assert results["ccd within pressures[1]"]["verdict"] == "not_reached"
    assert results["ccd within pressures[3]"]["verdict"] == "short"
    assert results["ccd within pressures[3]"]["short_at_mA_cm2"] == pytest.approx(0.45)
