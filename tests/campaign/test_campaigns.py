"""Campaigns on a bench with one cell: carried out, cut short, gone on with, and reported."""

from __future__ import annotations

import json
import re
import sqlite3
import statistics
from contextlib import closing
from pathlib import Path

import pytest
from scipy import stats
from tests.campaign.processes import answer, begin_and_kill, call
from tests.serving import CYCLER, served
from typer.testing import CliRunner

from cellbench.campaign.conducting import alone_with
from cellbench.cli.app import app
from cellbench.store import RunReader, Store

#: It shorts an uncoated electrolyte, and leaves a coated one alone.
STRESS = """
name: Half an hour of current
cell: LYC_PMMA
parameters: {density: 1.2 mA/cm2}
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - current: {at: $density, for: 30 min}
"""
LOOK = """
name: A look at the cell
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - eis: {from: 1 MHz, to: 1 Hz, points: 10 per decade, amplitude: 10 mV}
analyses: [interface_resistance]
"""
CAMPAIGN = """\
cellbench campaign: 1
name: Which survive
cells: [a.yaml, b.yaml, c.yaml]
runs:
  - protocol: look.yaml
  - protocol: stress.yaml
  - protocol: look.yaml
"""
#: The cell that does.
SHORTS = "b"
RESTS = """\
cellbench campaign: 1
name: Two rests
cells: [LYC_PMMA]
runs:
  - protocol: rest.yaml
replicates: 2
"""


def write(directory: Path, campaign: str = CAMPAIGN) -> Path:
    """A campaign of three cells, of which one is made of what shorts."""
    card = CliRunner().invoke(app, ["cells", "LYC_PMMA"]).output
    for name in "abc":
        made = card if name != SHORTS else card.replace("simulate: LYC_PMMA", "simulate: LYC")
        made = re.sub("^cell: .*$", f"cell: cell {name}", made, flags=re.MULTILINE)
        (directory / f"{name}.yaml").write_text(made, encoding="utf-8")
    (directory / "look.yaml").write_text(LOOK, encoding="utf-8")
    (directory / "stress.yaml").write_text(STRESS, encoding="utf-8")
    path = directory / "campaign.yaml"
    path.write_text(campaign, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The campaign, the store that it was carried out in, and what was said meanwhile."""
    directory = tmp_path_factory.mktemp("campaign")
    path, store = write(directory), directory / "store"
    code, said = call("run", str(path), "--store", str(store))
    assert code == 1, said
    return path, store, said


@pytest.mark.long
def test_a_cell_that_shorts_ends_its_own_series_alone(
    carried_out: tuple[Path, Path, str],
) -> None:
    path, store, _ = carried_out
    found = answer("status", str(path), "--store", str(store))
    assert found["over"]
    states = {(each["cell"], each["protocol"]): each["state"] for each in found["runs"][1:]}
    assert states["b.yaml", "Half an hour of current"] == "stopped"
    assert states["b.yaml", "A look at the cell"] == "not begun"
    assert found["counts"] | {"completed": 7, "stopped": 1, "not begun": 1} == found["counts"]
    assert sum(found["counts"].values()) == 9
    assert "short circuit" in found["runs"][5]["why"]


@pytest.mark.long
def test_runs_say_to_which_campaign_they_belong(carried_out: tuple[Path, Path, str]) -> None:
    _, directory, _ = carried_out
    with Store(directory, make=False) as store:
        runs = store.search(campaign="Which survive", limit=None)
        assert len(runs) == 8
        assert {(run.cell, run.replicate) for run in runs} == {
            ("cell a", 1), ("cell b", 2), ("cell c", 3)
        }  # fmt: skip
        seeds = {run.cell: run.seed for run in runs}
    assert seeds == {"cell a": 0, "cell b": 1, "cell c": 2}


@pytest.mark.long
def test_the_report_is_what_the_runs_give_by_themselves(
    carried_out: tuple[Path, Path, str],
) -> None:
    _, store, _ = carried_out
    found = answer("report", "Which survive", "--store", str(store))
    first, stress, last = found["groups"]
    ids = [cell["run"] for cell in last["record"]["cells"]]
    values = [
        json.loads(CliRunner().invoke(app, ["analyze", each, "--store", str(store), "--json"])
                   .stdout)["results"]["interface_resistance"]["R_electrolyte_ohm"]
        for each in ids
    ]  # fmt: skip
    rows = {row["quantity"]: row for row in last["record"]["analyses"]["interface_resistance"]}
    row = rows["R_electrolyte_ohm"]
    assert row["n"] == len(values) == 2
    assert row["mean"] == pytest.approx(statistics.mean(values))
    assert row["standard_deviation"] == pytest.approx(statistics.stdev(values))
    error = statistics.stdev(values) / 2**0.5
    assert row["interval"] == pytest.approx(stats.t.ppf(0.975, 1) * error, rel=1e-4)
    with closing(sqlite3.connect(store / "catalogue.sqlite")) as catalogue:
        ((stopped,),) = catalogue.execute("SELECT id FROM run WHERE state = 'stopped'").fetchall()
    (failed,) = [cell for cell in stress["record"]["cells"] if cell["failed"]]
    assert (failed["run"], failed["cell"]) == (stopped, "cell b")
    assert stress["record"]["failure_rate_percent"] == pytest.approx(100 / 3, abs=0.1)
    assert first["record"]["failed"] == last["record"]["failed"] == 0
    assert [each["cell"] for each in last["left"]] == ["b.yaml"]
    assert (found["failed"], found["cells"]) == (1, 3)
    assert [each["run"] for each in found["ended_early"]] == [stopped]


@pytest.mark.long
def test_the_page_stands_alone_and_tells_of_every_protocol(
    carried_out: tuple[Path, Path, str], tmp_path: Path
) -> None:
    path, store, _ = carried_out
    page = tmp_path / "campaign.html"
    code, said = call("report", str(path), "--store", str(store), "--report", str(page))
    assert code == 0, said
    assert "ended early: 1 of 3 cells" in said
    html = page.read_text(encoding="utf-8")
    assert "SIMULATED BENCH" in html
    assert html.count("<h2>A look at the cell</h2>") == 2
    assert "b.yaml not begun: its cell ended with Half an hour of current" in html
    without_scripts = re.sub("<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"@import|url\(|src=|https?://", without_scripts)
    plots = [int(each) for each in re.findall(r'data-curves="(\d+)"', html)]
    data = json.loads(re.findall(r'id="data">(.*?)</script>', html, re.DOTALL)[0])
    assert plots == list(range(len(data["curves"]))) != []


def test_a_campaign_comes_along_when_its_store_is_merged(tmp_path: Path) -> None:
    (tmp_path / "rest.yaml").write_text("name: Rest\nsteps: [rest: 1 min]\n", encoding="utf-8")
    path = tmp_path / "rests.yaml"
    path.write_text(RESTS, encoding="utf-8")
    there, here = str(tmp_path / "there"), str(tmp_path / "here")
    assert call("run", str(path), "--store", there)[0] == 0
    code, said = merged(there, "--store", here)
    assert (code, said.splitlines()[-1]) == (0, "2 runs: 2 taken, 0 here already, 0 left there.")
    told = answer("status", "Two rests", "--store", here)
    assert told == answer("status", "Two rests", "--store", there)
    assert told["counts"]["completed"] == 2
    (outline,) = (tmp_path / "here" / "campaigns").glob("*.json")
    outline.write_text(outline.read_text("utf-8").replace("rests.yaml", "copied.yaml"), "utf-8")
    assert merged(there, "--store", here)[0] == 0


def test_another_campaign_of_the_same_name_is_refused_before_anything_is_merged(
    tmp_path: Path,
) -> None:
    (tmp_path / "rest.yaml").write_text("name: Rest\nsteps: [rest: 1 min]\n", encoding="utf-8")
    path, stores = tmp_path / "rests.yaml", [tmp_path / "there", tmp_path / "here"]
    for number, store in enumerate(stores, start=1):
        path.write_text(RESTS.replace("replicates: 2", f"replicates: {number}"), encoding="utf-8")
        assert call("run", str(path), "--store", str(store))[0] == 0
    there, here = stores
    before = sorted((here / "runs").iterdir())
    code, said = merged(str(there), "--store", str(here))
    assert code == 2
    assert "nothing was merged" in said
    assert sorted((here / "runs").iterdir()) == before
    (outline,) = (here / "campaigns").glob("*.json")
    outline.rename(tmp_path / outline.name)
    assert merged(str(there), "--store", str(here))[0] == 0
    assert len(answer("status", "Two rests", "--store", str(here))["runs"]) == 1


def merged(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["store", "merge", *arguments])
    return done.exit_code, done.output


@pytest.mark.long
def test_what_was_done_is_not_done_again(carried_out: tuple[Path, Path, str]) -> None:
    path, store, _ = carried_out
    before = sorted((store / "runs").iterdir())
    code, said = call("run", str(path), "--store", str(store))
    assert code == 1
    assert "begins" not in said
    assert sorted((store / "runs").iterdir()) == before


@pytest.mark.long
def test_a_file_that_has_changed_since_is_not_taken_for_the_same_campaign(
    carried_out: tuple[Path, Path, str],
) -> None:
    path, store, _ = carried_out
    changed = path.with_name("changed.yaml")
    text = path.read_text(encoding="utf-8")
    changed.write_text(
        text.replace("stress.yaml", "stress.yaml\n    set: {density: 0.1 mA/cm2}"), "utf-8"
    )
    code, said = call("run", str(changed), "--store", str(store))
    assert code == 2
    assert "give the campaign another name, or undo the change" in " ".join(said.split())


def test_no_two_processes_carry_a_campaign_out(tmp_path: Path, store_directory: Path) -> None:
    path = write(tmp_path)
    with Store(store_directory) as store, alone_with("Which survive", store.directory):
        code, said = call("run", str(path))
    assert code == 2
    assert 'the campaign "Which survive" is carried out by process' in said


def test_a_campaign_that_nobody_began_is_not_known(store_directory: Path) -> None:
    Store(store_directory).close()
    code, said = call("status", "Which survive")
    assert code == 2
    assert "no campaign of that name in" in said
    assert "none yet" in said


def test_on_a_real_bench_somebody_says_which_cell_is_there(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text(REAL, encoding="utf-8")
    (tmp_path / "rest.yaml").write_text("name: Rest\nsteps: [rest: 1 min]\n", encoding="utf-8")
    path = tmp_path / "real.yaml"
    path.write_text(ON_REAL, encoding="utf-8")
    code, said = call("run", str(path))
    assert code == 2
    assert 'say which with --cell; the next is --cell "LYC_PMMA 1"' in said
    code, said = call("run", str(path), "--cell", "LYC_PMMA 4")
    assert code == 2
    assert 'no cell "LYC_PMMA 4"; it has: LYC_PMMA 1, LYC_PMMA 2' in said
    # Nobody is at that address: the run cannot be begun, and the campaign says so.
    code, said = call("run", str(path), "--cell", "LYC_PMMA 2")
    assert code == 3, said
    assert "LYC_PMMA 2   cannot be run: potentiostat: " in said
    assert answer("status", str(path))["counts"]["to come"] == 2


REAL = """
bench: one place
instruments:
  potentiostat: {driver: palmsens, port: "tcp://127.0.0.1:9"}
"""
ON_REAL = """
cellbench campaign: 1
name: Two cells by hand
bench: bench.yaml
cells: [LYC_PMMA]
replicates: 2
runs: [protocol: rest.yaml]
"""


# --- A process that is killed -------------------------------------------------------------------


@pytest.mark.long
def test_a_campaign_whose_process_was_killed_goes_on_where_it_was(
    tmp_path: Path, store_directory: Path
) -> None:
    path = write(tmp_path, CAMPAIGN.replace(", b.yaml, c.yaml", ""))
    begin_and_kill(path, store_directory, at_run=2)
    assert answer("status", str(path))["counts"]["completed"] == 1
    code, said = call("run", str(path))
    assert code == 0, said
    assert said.count("begins") == 2
    found = answer("status", "Which survive")
    # The simulated bench of the second run went with its process: that one is begun again.
    assert [each["run"][-3:] for each in found["runs"]] == ["001", "003", "004"]
    assert found["over"]


CYCLES = """
name: Two cycles
cell: NMC811_LYC_PMMA_Li
steps:
  - repeat: 2
    name: cycle
    steps:
      - charge: {at: C/5, until: potential >= 4.2 V vs Li+/Li, for: 10 s}
      - discharge: {at: C/5, until: potential <= 2.6 V vs Li+/Li, for: 10 s}
"""
CYCLING = """
cellbench campaign: 1
name: Cycled
bench: bench.yaml
cells: [NMC811_LYC_PMMA_Li]
runs: [protocol: cycles.yaml, protocol: rest.yaml]
"""


@pytest.mark.long
def test_a_run_on_a_bench_that_outlives_its_host_is_resumed_and_not_begun_again(
    tmp_path: Path, store_directory: Path
) -> None:
    (tmp_path / "played.yaml").write_text(CYCLER, encoding="utf-8")
    (tmp_path / "cycles.yaml").write_text(CYCLES, encoding="utf-8")
    (tmp_path / "rest.yaml").write_text("name: Rest\nsteps: [rest: 2 s]\n", encoding="utf-8")
    path = tmp_path / "cycled.yaml"
    path.write_text(CYCLING, encoding="utf-8")
    options = ("--bench", str(tmp_path / "played.yaml"), "--cell", "NMC811_LYC_PMMA_Li")
    with served(*options, "--speed", "10") as bench:
        (tmp_path / "bench.yaml").write_text(json.dumps(bench["bench"]), encoding="utf-8")
        begin_and_kill(path, store_directory, at_run=1, reached="cycle[1]/charge")
        lost = answer("status", "Cycled")
        assert [each["state"] for each in lost["runs"]] == ["lost", "to come"]
        code, said = call("run", str(path))
    assert code == 0, said
    assert "goes on: Two cycles" in said
    assert [each["state"] for each in answer("status", str(path))["runs"]] == ["completed"] * 2
    first, second = sorted((store_directory / "runs").glob("*.sqlite"))
    kinds = [entry.kind for entry in RunReader(first).journal]
    assert kinds.count("run started") == 1
    assert "resumed" in kinds
    assert "resumed" not in [entry.kind for entry in RunReader(second).journal]
