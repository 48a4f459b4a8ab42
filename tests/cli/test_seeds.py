"""The verdicts do not depend on luck: every shipped cell, seed after seed."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from cellbench.cli.app import app

pytestmark = pytest.mark.slow

SEEDS = range(int(os.environ.get("CELLBENCH_SEEDS", "20")))
REVIEWS_RAMP = "currents=0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7 mA/cm2"


def results(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        app(["run", *arguments, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, answer
    found: dict[str, Any] = answer["results"]
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("cell", "ramp", "stable", "irregular", "short"),
    [
        ("LYC_PMMA", (), 1.5, 2, 3),
        ("LYC", (), 0.5, 0.6, 0.8),
        ("Li2ZrCl6", ("--set", REVIEWS_RAMP), 0.5, 0.6, 0.7),
        ("Li2ZrCl5.5F0.5", ("--set", REVIEWS_RAMP), 0.7, None, None),
    ],
)
def test_the_critical_current_of_a_cell_is_the_same_with_every_seed(
    capsys: pytest.CaptureFixture[str],
    seed: int,
    cell: str,
    ramp: tuple[str, ...],
    stable: float,
    irregular: float | None,
    short: float | None,
) -> None:
    found = results(capsys, "ccd", "--cell", cell, *ramp, "--seed", str(seed))["ccd"]
    assert found["last_stable_mA_cm2"] == stable
    assert found["irregular_at_mA_cm2"] == irregular
    assert found["short_at_mA_cm2"] == short


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("cell", "expected"), [("LYC_blocking", 0.349), ("LYC_PMMA_blocking", 0.159)]
)
def test_the_conductivity_of_a_pellet_is_recovered_with_every_seed(
    capsys: pytest.CaptureFixture[str], seed: int, cell: str, expected: float
) -> None:
    found = results(capsys, "pellet_conductivity", "--cell", cell, "--seed", str(seed))
    assert found["conductivity"]["conductivity_mS_cm"] == pytest.approx(expected, rel=0.03)
