"""A run's data open in programs of other people, as they are: no adapter, no renaming.

batterydf is the Battery Data Alliance's own program, ionworksdata one of a company; both read the
Battery Data Format. impedance.py reads the spectra.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from impedance.models.circuits import CustomCircuit
from impedance.preprocessing import readCSV
from typer.testing import CliRunner

from cellbench.cli.app import app

pytestmark = pytest.mark.long

RATE = "C/2"  # formation takes C/10: shorter, and no less a cycle


def _cellbench(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def formation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The capacities that cellbench finds in two formation cycles, and their file."""
    place = tmp_path_factory.mktemp("formation")
    store, out = str(place / "store"), place / "formation.bdf.csv"
    settings = ("--set", "cycles=2", "--set", f"rate={RATE}")
    _cellbench("run", "formation", *settings, "--store", store, "--json")
    _cellbench("export", "last", "--format", "bdf", "-o", str(out), "--store", store)
    analysed = json.loads(_cellbench("analyze", "last", "capacity", "--json", "--store", store))
    return {"file": out, "cycles": analysed["results"]["capacity"]["rows"]}


@pytest.mark.filterwarnings("ignore")  # of its own dependencies
def test_the_battery_data_alliance_finds_nothing_missing(formation: dict[str, Any]) -> None:
    bdf = pytest.importorskip("bdf", reason="batterydf is not installed")
    table = pytest.importorskip("bdf.io").load(formation["file"])
    report = bdf.validate(table)
    assert report["ok"], report
    assert report["time_stats"]["monotonic"]
    assert report["extras"] == ["step_id", "step_type"]
    charged = table["Charging Capacity / Ah"].iloc[-1]
    assert charged == pytest.approx(_total(formation, "charge_mAh"), rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_ionworksdata_integrates_the_capacities_that_we_report(formation: dict[str, Any]) -> None:
    read = pytest.importorskip("ionworksdata.read", reason="ionworksdata is not installed")
    assert read.detect_reader(formation["file"]) == "bdf"
    _, steps = read.time_series_and_steps(formation["file"], "bdf")
    cycles = steps.group_by("Cycle from cycler", maintain_order=True).last()
    discharged_Ah = cycles["Cycle discharge capacity [A.h]"].to_numpy()[1:]
    ours_Ah = [cycle["discharge_mAh"] / 1e3 for cycle in formation["cycles"]]
    assert discharged_Ah == pytest.approx(ours_Ah, rel=2e-3)


def _total(formation: dict[str, Any], name: str) -> float:
    return float(sum(cycle[name] for cycle in formation["cycles"])) / 1e3


def test_impedance_py_reads_and_fits_a_spectrum(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    _cellbench("run", "pellet_conductivity", "--store", store, "--json")
    out = tmp_path / "spectrum.csv"
    _cellbench("export", "last", "--format", "impedance", "-o", str(out), "--store", store)
    answer = json.loads(_cellbench("analyze", "last", "--json", "--store", store))
    ours = answer["results"]["conductivity"]
    frequency_Hz, impedance_ohm = readCSV(tmp_path / "spectrum-001.csv")
    seen = frequency_Hz >= 1e3
    circuit = CustomCircuit("R0-p(R1,CPE1)-CPE2", initial_guess=[90, 190, 1e-8, 1, 1e-5, 0.9])
    circuit.fit(frequency_Hz[seen], impedance_ohm[seen])
    total_ohm = float(np.sum(circuit.parameters_[:2]))
    assert total_ohm == pytest.approx(ours["R_total_ohm"], rel=0.02)
