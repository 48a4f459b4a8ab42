"""What the results say does not depend on the instruments: three protocols on four benches."""

from __future__ import annotations

import json
import runpy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cellbench.cli.app import app
from cellbench.store import RunReader

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

BENCHES = (
    "neware_with_palmsens",
    pytest.param("keithley", marks=pytest.mark.slow),
    pytest.param("maccor", marks=pytest.mark.slow),
)
WITHOUT_SPECTRA = {"keithley", "maccor"}
SHORTER_RATES = ("cycles=1", "break_in_cycles=1", "break_in=1C", "rates=C/2, 2C", "return_to=C/2")
SHORTER_HOLD = ("duration=2 h", "cycles=1", "rate=C/2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("four benches")


@lru_cache
def ran(store: Path, protocol: str, bench: str, *settings: str) -> dict[str, Any]:
    sets = [text for setting in settings for text in ("--set", setting)]
    chosen = [] if bench == "palmsens" else ["--bench", bench]
    answer = called("run", protocol, *chosen, *sets, "--store", str(store))
    assert answer["reason"] == "every step has ended"
    return answer


def called(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def deviations(store: Path, answer: dict[str, Any]) -> list[str]:
    reader = RunReader(store / "runs" / f"{answer['run']}.sqlite")
    return [entry.text for entry in reader.journal if entry.kind == "deviation"]


@pytest.mark.parametrize("bench", BENCHES)
def test_the_levels_of_a_ramp_are_those_of_the_potentiostat(store: Path, bench: str) -> None:
    expected = ran(store, "ccd", "palmsens")["results"]["ccd"]
    answer = ran(store, "ccd", bench)
    found = answer["results"]["ccd"]
    for name in ("verdict", "last_stable_mA_cm2", "irregular_at_mA_cm2", "short_at_mA_cm2"):
        assert found[name] == expected[name]
    assert [row["verdict"] for row in found["steps"]] == [
        row["verdict"] for row in expected["steps"]
    ]
    # A half-cycle of 20 min, in rows of 1 s.
    assert found["areal_capacity_mAh_cm2"] == pytest.approx(
        expected["areal_capacity_mAh_cm2"], rel=1 / 1200
    )
    if bench in WITHOUT_SPECTRA:
        assert found["R_electrolyte_ohm"] is None
        assert any("no instrument that measures impedance" in text
                   for text in deviations(store, answer))  # fmt: skip
    else:
        assert found["R_electrolyte_ohm"] == pytest.approx(expected["R_electrolyte_ohm"], rel=0.01)
        assert deviations(store, answer) == []


@pytest.mark.parametrize("bench", BENCHES)
def test_capacities_are_those_of_the_potentiostat(store: Path, bench: str) -> None:
    expected = ran(store, "rate_test", "palmsens", *SHORTER_RATES)["results"]["rate_table"]
    found = ran(store, "rate_test", bench, *SHORTER_RATES)["results"]["rate_table"]
    assert [row["rate_C"] for row in found["rates"]] == pytest.approx([1, 0.5, 2, 0.5])
    for here, there in zip(found["rates"], expected["rates"], strict=True):
        assert here["discharge_mAh_g"] == pytest.approx(there["discharge_mAh_g"], rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("bench", BENCHES)
def test_leakage_is_that_of_the_potentiostat_within_resolution(store: Path, bench: str) -> None:
    leakages = {}
    for name in ("palmsens", bench):
        answer = ran(store, "ageing_hold", name, *SHORTER_HOLD)
        again = called("analyze", answer["run"], "leakage within hold", "--store", str(store))
        leakages[name] = again["results"]["leakage within hold"]
    found, expected = leakages[bench], leakages["palmsens"]
    assert found["hold_h"] == pytest.approx(2, abs=0.01)
    # The Maccor's range of 150 mA reads in steps of 0.15 uA, with a noise of 0.75 uA.
    resolution_uA = 0.3 if bench == "maccor" else 0.0
    assert found["leakage_uA"] == pytest.approx(expected["leakage_uA"], rel=0.05, abs=resolution_uA)
    texts = deviations(store, ran(store, "ageing_hold", bench, *SHORTER_HOLD))
    needed = "no instrument that measures impedance" if bench in WITHOUT_SPECTRA else "its spectra"
    assert any(needed in text for text in texts)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_agree_in_full_length(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "docs" / "make_four_benches.py"
    page = tmp_path / "four_benches.md"
    main = runpy.run_path(str(script))["main"]
    assert main(tmp_path, page) == 0, page.read_text(encoding="utf-8")
