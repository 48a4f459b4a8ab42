"""Several runs of one protocol become one benchmark record, failed cells included."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellbench.cli.app import app

PROTOCOL = """
cellbench: 1
name: Spectra of a symmetric cell
cell: LYC_PMMA
parameters: {dwell: 1 min}
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - check: {open circuit: -10 mV to 10 mV, contact: at most 10 kOhm}
  - rest: $dwell
  - eis: {from: 1 MHz, to: 1 Hz, points: 10 per decade, amplitude: 10 mV}
  - press: release
analyses: [interface_resistance]
"""
RUNS = (("--seed", "1"), ("--seed", "2"), ("--seed", "3"), ("--sim-cell", "NCM85_InLi"))


def call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sound cells, one that its screening refuses, and one under another protocol."""
    directory = tmp_path_factory.mktemp("replicates")
    protocol = directory / "spectra.yaml"
    protocol.write_text(PROTOCOL)
    for options in (*RUNS, ("--set", "dwell=2 min")):
        call("run", str(protocol), "--store", str(directory), *options)
    return directory


def record_of(store: Path, *runs: str) -> dict[str, object]:
    code, output = call("replicates", *runs, "--store", str(store), "--json")
    assert code == 0, output
    found: dict[str, object] = json.loads(output)
    return found


@pytest.mark.long
def test_failed_cells_are_counted_shown_and_not_in_the_mean(store: Path) -> None:
    found = record_of(store, "001", "002", "003", "004")
    assert (found["replicates"], found["failed"]) == (4, 1)
    assert found["failure_rate_percent"] == 25.0
    cells = found["cells"]
    assert isinstance(cells, list)
    assert [bool(cell["failed"]) for cell in cells] == [False, False, False, True]
    assert [cell["seed"] for cell in cells[:3]] == [1, 2, 3]
    assert cells[0]["contact_ohm"] > 0
    assert cells[0]["stack_pressure_MPa"] == pytest.approx(5, abs=0.2)
    assert isinstance(found["analyses"], dict)
    rows = {row["quantity"]: row for row in found["analyses"]["interface_resistance"]}
    assert rows["R_electrolyte_ohm"]["n"] == 3
    assert rows["R_electrolyte_ohm"]["mean"] == pytest.approx(210.6, rel=0.01)
    assert 0 < rows["R_electrolyte_ohm"]["standard_deviation"] < 1


def test_one_simulated_cell_has_no_scatter_of_its_own_and_the_record_says_so(store: Path) -> None:
    found = record_of(store, "001", "002", "003")
    assert "the simulated cell is the same" in str(found["spread_is_of"])


def test_two_cells_are_said_to_be_too_few(store: Path) -> None:
    _, output = call("replicates", "001", "002", "--store", str(store))
    assert "2 cells, 0 failed" in output
    assert "fewer than 3 cells: no benchmark" in output


def test_the_page_stands_alone_and_has_every_cell(store: Path) -> None:
    page = store / "record.html"
    code, output = call("replicates", "001", "002", "003", "004", "--store", str(store),
                        "--report", str(page))  # fmt: skip
    assert code == 0, output
    html = page.read_text(encoding="utf-8")
    for number in (1, 2, 3, 4):
        assert f"-00{number}</td>" in html
    assert "SIMULATED BENCH" in html
    assert "1 of 4 (25 %)" in html
    assert not re.search(r"@import|url\(|\bfetch\(|src=|https?://", re.sub(r"<script.*?</script>",
                         "", html, flags=re.DOTALL))  # fmt: skip
    data = json.loads(re.findall(r'id="data">(.*?)</script>', html, re.DOTALL)[0])
    (plot,) = data["curves"][0]
    labels = [curve["label"] for curve in plot["curves"]]
    assert labels == ["cell 1", "cell 2", "cell 3", "mean of 3 ± standard deviation"]


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        (("001",), "two different runs or more"),
        (("001", "001"), "two different runs or more"),
        (("001", "005"), "dwell was 1 min in .*-001, 2 min in .*-005"),
    ],
)
def test_runs_that_are_no_replicates_are_refused(
    store: Path, runs: tuple[str, ...], why: str
) -> None:
    code, output = call("replicates", *runs, "--store", str(store))
    assert code == 2
    assert re.search(why, output)
