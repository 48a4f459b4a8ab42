"""Data in programs of other people, as they are: no adapter, no renaming; and theirs in ours.

batterydf is the Battery Data Alliance's own program, ionworksdata one of a company; both read the
Battery Data Format. impedance.py reads the spectra. Where PARTNERS_PYTHON names the Python of an
environment with tests/partners-beside.txt, galvani (GPL, never imported here) reads EC-Lab's files,
ours and a potentiostat's, and ro-crate-py and its validator judge a crate. Files that real cyclers
wrote come with the source distributions that NAVANI_SOURCE and AURORA_CYCLER_SOURCE name.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from impedance.models.circuits import CustomCircuit
from impedance.preprocessing import readCSV
from typer.testing import CliRunner

from cellbench.cli.app import app
from cellbench.exchange.read_eclab import GALVANI

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
RATE = "C/2"  # formation takes C/10: shorter, and no less a cycle


def _cellbench(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def formation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The capacities that cellbench finds in two formation cycles, and all files of them."""
    place = tmp_path_factory.mktemp("formation")
    store = str(place / "store")
    settings = ("--set", "cycles=2", "--set", f"rate={RATE}")
    _cellbench("run", "formation", *settings, "--store", store, "--json")
    for to in ("bdf", "mpt", "crate"):
        _cellbench("export", "last", "--to", to, "-o", str(place), "--store", store)
    analysed = json.loads(_cellbench("analyze", "last", "capacity", "--json", "--store", store))
    return {"place": place, "cycles": analysed["results"]["capacity"]["rows"]}


def _only(formation: dict[str, Any], pattern: str) -> Path:
    (found,) = formation["place"].glob(pattern)
    return Path(found)


def _total(formation: dict[str, Any], name: str) -> float:
    return float(sum(cycle[name] for cycle in formation["cycles"])) / 1e3


# --- Ours in theirs -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of its own dependencies
def test_the_battery_data_alliance_finds_nothing_missing(formation: dict[str, Any]) -> None:
    bdf = pytest.importorskip("bdf", reason="batterydf is not installed")
    table = pytest.importorskip("bdf.io").load(_only(formation, "*.bdf.csv"))
    report = bdf.validate(table)
    assert report["ok"], report
    assert report["time_stats"]["monotonic"]
    assert report["extras"] == [
        "cycle_charging_capacity_ah", "cycle_discharging_capacity_ah", "step_id", "step_type",
        "flags",
    ]  # fmt: skip
    charged = table["Charging Capacity / Ah"].iloc[-1]
    assert charged == pytest.approx(_total(formation, "charge_mAh"), rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_ionworksdata_integrates_the_capacities_that_we_report(formation: dict[str, Any]) -> None:
    read = pytest.importorskip("ionworksdata.read", reason="ionworksdata is not installed")
    file = _only(formation, "*.bdf.csv")
    assert read.detect_reader(file) == "bdf"
    _, steps = read.time_series_and_steps(file, "bdf")
    cycles = steps.group_by("Cycle from cycler", maintain_order=True).last()
    discharged_Ah = cycles["Cycle discharge capacity [A.h]"].to_numpy()[1:]
    ours_Ah = [cycle["discharge_mAh"] / 1e3 for cycle in formation["cycles"]]
    assert discharged_Ah == pytest.approx(ours_Ah, rel=2e-3)


@pytest.mark.filterwarnings("ignore")
def test_ionworksdata_reads_our_mpt_file_too(formation: dict[str, Any]) -> None:
    read = pytest.importorskip("ionworksdata.read", reason="ionworksdata is not installed")
    rows, _ = read.time_series_and_steps(_only(formation, "*simulated.mpt"), "biologic")
    lines = _only(formation, "*.bdf.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(lines) - 1


def test_impedance_py_reads_and_fits_a_spectrum(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    _cellbench("run", "pellet_conductivity", "--store", store, "--json")
    _cellbench("export", "last", "--to", "spectra", "-o", str(tmp_path), "--store", store)
    answer = json.loads(_cellbench("analyze", "last", "--json", "--store", store))
    ours = answer["results"]["conductivity"]
    frequency_Hz, impedance_ohm = readCSV(next(tmp_path.glob("*-spectrum-001.csv")))
    seen = frequency_Hz >= 1e3
    circuit = CustomCircuit("R0-p(R1,CPE1)-CPE2", initial_guess=[90, 190, 1e-8, 1, 1e-5, 0.9])
    circuit.fit(frequency_Hz[seen], impedance_ohm[seen])
    total_ohm = float(np.sum(circuit.parameters_[:2]))
    assert total_ohm == pytest.approx(ours["R_total_ohm"], rel=0.02)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a script by the Python of the environment beside, and returns the JSON that it says."""
    python = os.environ.get("PARTNERS_PYTHON")
    if not python:
        pytest.skip("PARTNERS_PYTHON names no Python with tests/partners-beside.txt")
    monkeypatch.setenv(GALVANI, python)

    def run(script: str, *arguments: object) -> Any:
        command = [python, str(HERE / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_galvani_reads_our_mpt_files(formation: dict[str, Any], beside: Callable[..., Any]) -> None:
    read = beside("galvani_reader.py", _only(formation, "*simulated.mpt"))
    assert {"mode", "time/s", "Ewe/V", "I/mA", "(Q-Qo)/mA.h", "cycle number"} <= read.keys()
    net_Ah = _total(formation, "charge_mAh") - _total(formation, "discharge_mAh")
    assert read["(Q-Qo)/mA.h"][-1] == pytest.approx(net_Ah * 1e3, rel=1e-3)
    spectrum = next(formation["place"].glob("*-spectrum-001.mpt"))
    read = beside("galvani_reader.py", spectrum)
    _, impedance_ohm = readCSV(_spectrum_csv(formation))
    assert read["Re(Z)/Ohm"] == impedance_ohm.real.tolist()
    assert read["-Im(Z)/Ohm"] == (-impedance_ohm.imag).tolist()


def _spectrum_csv(formation: dict[str, Any]) -> Path:
    place = formation["place"]
    store = str(place / "store")
    _cellbench("export", "last", "--to", "spectra", "-o", str(place), "--store", store)
    return _only(formation, "*-spectrum-001.csv")


def test_a_validator_finds_nothing_wrong_with_a_crate(
    formation: dict[str, Any], beside: Callable[..., Any]
) -> None:
    crate = _only(formation, "*-crate")
    found = beside("crate_checker.py", crate)
    # Who publishes it, and for whom, is known when it is deposited.
    assert [issue for issue in found["issues"] if not issue.startswith("ro-crate-1.1_22")] == []
    assert found["name"].startswith("SIMULATED")
    present = {path.name for path in crate.iterdir()} - {"ro-crate-metadata.json"}
    assert found["files"].keys() == present
    assert {"potentiostat", "load cell"} <= set(found["instruments"])


# --- Theirs in ours -------------------------------------------------------------------------------


def _source(variable: str, *path: str) -> Path:
    place = os.environ.get(variable)
    if not place:
        pytest.skip(f"{variable} names no source distribution with data of real cyclers")
    return Path(place).joinpath(*path)


NEWARE = (
    ("NAVANI_SOURCE", "Example_data/test.nda"),
    ("NAVANI_SOURCE", "Example_data/test.ndax"),
    (
        "AURORA_CYCLER_SOURCE",
        "tests/test_data/local_snapshots/neware_snapshots/nw4-120-6-1-36.ndax",
    ),
)
ECLAB = (
    (
        "NAVANI_SOURCE",
        "Example_data/jdb11-1_c3_gcpl_5cycles_2V-3p8V_C-24_data_C09.mpr",
    ),
    (
        "AURORA_CYCLER_SOURCE",
        "tests/test_data/local_snapshots/eclab_snapshots/250116_kigr_gen6/1/"
        "250116_kigr_gen6_01_02_GCPL_CD8.mpr",
    ),
)


def _imported(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the import says, and the rows of the analysis of its capacity."""
    answer = json.loads(_cellbench("import", str(path), "--cell", "NCM85_InLi", "--json"))
    analysed = json.loads(_cellbench("analyze", answer["run"], "capacity", "--json"))
    return answer, analysed["results"]["capacity"]["rows"]


def _charges(rows: list[dict[str, Any]]) -> list[float]:
    """What passed in each half-cycle (mAh)."""
    both = [(row.get("charge_mAh"), row.get("discharge_mAh")) for row in rows]
    return [each for pair in both for each in pair if each is not None]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pandas', of its reader
@pytest.mark.parametrize(("variable", "file"), NEWARE)
def test_a_neware_file_has_the_capacities_of_its_reader(variable: str, file: str) -> None:
    library = pytest.importorskip("NewareNDA", reason="NewareNDA is not installed")
    path = _source(variable, file)
    frame = library.read(str(path), log_level="CRITICAL")
    columns = ["Charge_Capacity(mAh)", "Discharge_Capacity(mAh)"]
    steps = frame.groupby(["Cycle", "Step"])[columns].max()
    theirs = steps.groupby("Cycle").sum().to_numpy().ravel()
    answer, rows = _imported(path)
    assert answer["state"] == "imported"
    assert _charges(rows) == pytest.approx([each for each in theirs if each], rel=1e-5)


@pytest.mark.parametrize(("variable", "file"), ECLAB)
def test_an_eclab_file_has_the_capacities_of_its_reader(
    beside: Callable[..., Any], variable: str, file: str
) -> None:
    path = _source(variable, file)
    read = beside("galvani_reader.py", path)
    passed = np.abs(read["Q charge/discharge/mA.h"])
    half = np.array(read["half cycle"])
    theirs = [passed[half == number].max() for number in np.unique(half)]
    _, rows = _imported(path)
    # EC-Lab counts on while it rests; a half-cycle here is what was driven.
    assert _charges(rows) == pytest.approx(theirs, rel=2e-5)


@pytest.mark.filterwarnings("ignore")
def test_the_other_reader_of_neware_files_agrees(beside: Callable[..., Any]) -> None:
    path = _source("AURORA_CYCLER_SOURCE", NEWARE[2][1])
    theirs = beside("fastnda_reader.py", path)
    _, rows = _imported(path)
    assert _charges(rows) == pytest.approx(theirs, rel=1e-5)


def test_files_of_the_format_by_others_are_read(tmp_path: Path) -> None:
    for name in ("machine_readable.bdf", "with_capacity.bdf", "with_capacity.bdf.gz"):
        path = _source("NAVANI_SOURCE", "Example_data", f"test_{name}")
        answer = json.loads(_cellbench("import", str(path), "--cell", "NCM85_InLi", "--json"))
        assert answer["state"] == "imported"
    lacking = _source("NAVANI_SOURCE", "Example_data", "test_missing_required.bdf")
    done = CliRunner().invoke(app, ["import", str(lacking), "--cell", "NCM85_InLi"])
    assert done.exit_code == 2
    assert "has no column current_ampere" in done.output
