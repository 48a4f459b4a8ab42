"""Files that come in: a run on which all works, or one line that says what is wrong with them."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cellbench.analysis import analyse
from cellbench.analysis.dataset import Dataset
from cellbench.analysis.stored import stored_dataset
from cellbench.cli.app import app
from cellbench.errors import InputError
from cellbench.exchange.export import FORMATS, export
from cellbench.exchange.importing import import_file, read
from cellbench.exchange.incoming import Incoming, Origin, step_charge_C
from cellbench.exchange.read_eclab import GALVANI
from cellbench.protocol import load_card
from cellbench.store import Run, RunReader, Store

CELL = "NCM85_InLi"

#: Two cycles of a full cell at 1 mA, 1 h each way, as another cycler's program writes them.
_TIME_S = np.arange(0.0, 4 * 3600.0, 10.0)
_CURRENT_A = np.where(_TIME_S % 7200 < 3600, 1e-3, -1e-3)
_VOLTAGE_V = 3.5 + _CURRENT_A * 100


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "the store") as opened:
        yield opened


def dataset_of(store: Store, run: Run) -> Dataset:
    return stored_dataset(RunReader(store.run_path(run.id)), load_card(None, CELL)[0])


def passed_mAh(store: Store, run: Run) -> list[float]:
    rows = analyse("capacity", dataset_of(store, run))["rows"]
    return [row[f"{half}_mAh"] for row in rows for half in ("charge", "discharge")]


def write_bdf(path: Path, header: str, *columns: Any) -> Path:
    text = "\n".join([header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))])
    data = f"\ufeff{text}\n".encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# --- Battery Data Format ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cell.bdf", "cell.bdf.csv", "cell.bdf.gz"])
def test_names_for_people_are_understood_and_steps_found(
    store: Store, tmp_path: Path, name: str
) -> None:
    header = "Test Time / s,Voltage / V,Current / A,Unix Time / s,Weather"
    columns = _TIME_S, _VOLTAGE_V, _CURRENT_A, 1.7e9 + _TIME_S, ["fine"] * len(_TIME_S)
    path = write_bdf(tmp_path / name, header, *columns)
    run = import_file(store, path, CELL, None, None)
    assert (run.state, run.reason, run.cell) == ("imported", f"from {name}", CELL)
    assert run.id.startswith("2023-11-14-")
    kinds = [step.kind for step in dataset_of(store, run).steps]
    assert kinds == ["charge", "discharge"] * 2
    assert passed_mAh(store, run) == pytest.approx([1.0] * 4, rel=3e-3)
    origin = json.loads(RunReader(store.run_path(run.id)).documents["origin"])
    assert origin["remarks"] == ["charge: integrated from the current"]


def test_its_own_capacities_steps_and_cycles_are_kept(store: Store, tmp_path: Path) -> None:
    header = (
        "test_time_second,voltage_volt,current_ampere,cycle_count,step_count,"
        "charging_capacity_ah,discharging_capacity_ah,ambient_temperature_celsius,"
        "applied_pressure_pa"
    )
    cycle = 1 + _TIME_S // 7200
    step = 1 + (_TIME_S % 7200 >= 3600)  # of the schedule: again 1 in the second cycle
    charging, discharging = (
        1.1e-3 * np.cumsum(np.maximum(sign * _CURRENT_A, 0)) * 10 / 3.6 for sign in (1, -1)
    )
    temperature = np.where(_TIME_S < 100, np.nan, 25.0)
    path = write_bdf(
        tmp_path / "cell.csv", header, _TIME_S, _VOLTAGE_V, _CURRENT_A, cycle, step, charging,
        discharging, temperature, np.full(len(_TIME_S), 5e6),
    )  # fmt: skip
    run = import_file(store, path, CELL, "cycling", None)
    assert run.protocol == "cycling"
    assert passed_mAh(store, run) == pytest.approx([1.1] * 4, rel=1e-3)
    found = dataset_of(store, run)
    assert [step.path.partition("/")[0] for step in found.steps] == [
        "cycle[1]", "cycle[1]", "cycle[2]", "cycle[2]",
    ]  # fmt: skip
    assert np.isnan(found.samples.temperature.value[:10]).all()
    assert found.temperature_K(200, 300) == pytest.approx(298.15)
    assert found.stack_pressure_Pa(200, 300) == pytest.approx(5e6)


def test_positive_current_charges_whatever_the_card_calls_positive(
    store: Store, tmp_path: Path
) -> None:
    header = "test_time_second,voltage_volt,current_ampere"
    path = write_bdf(tmp_path / "cell.bdf", header, _TIME_S, _VOLTAGE_V, _CURRENT_A)
    card = tmp_path / "card.yaml"
    card.write_text(load_card(None, CELL)[1] + "\ncharge current: negative\n", encoding="utf-8")
    run = import_file(store, path, str(card), None, None)
    kept = RunReader(store.run_path(run.id)).samples("channel")
    assert np.array_equal(kept["current_A"], -_CURRENT_A)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.bdf", "time,voltage\n1,2\n", "no column test_time_second"),
        ("a.bdf", "", "no column"),
        ("a.bdf", "test_time_second,voltage_volt,current_ampere\n", "has no rows"),
        ("a.bdf", "test_time_second,voltage_volt,current_ampere\n1,2\n", "near line 2: 2 cells"),
        ("a.bdf", "test_time_second,voltage_volt,current_ampere\n1,2,x\n", "column current_ampere"),
        ("a.bdf", "test_time_second,voltage_volt,current_ampere\n2,2,0\n1,2,0\n", "time goes back"),
        ("a.bdf", "test_time_second,voltage_volt,current_ampere\n1,2,0\n,2,0\n", "at row 2"),
        ("a.gz", "no gzip", "no CSV file"),
        ("a.parquet", "no parquet", "no Parquet file"),
        ("a.mpt", "no EC-Lab", "does not begin with"),
        ("a.mpt", "EC-Lab ASCII FILE\nNb header lines : 3\ntime/s\tEwe/V\n1\n", "1 cells of 2"),
        ("a.mpt", "EC-Lab ASCII FILE\nNb header lines : 3\ntime/s\tfun\n1\t2\n", "no rows of"),
        ("a.mpt", "EC-Lab ASCII FILE\nNb header lines : 3\ntime/s\tEwe/V\n1\tx\n", "column Ewe/V"),
        ("a.nda", "no Neware", "cannot be read as a file of Neware's"),
        ("a.ndax", "no Neware", "cannot be read as a file of Neware's"),
        ("a.xlsx", "no", "ends in none of"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    for suffix, module in ((".parquet", "pyarrow"), (".nda", "NewareNDA"), (".ndax", "NewareNDA")):
        if name.endswith(suffix):
            pytest.importorskip(module, reason=f"{module} is not installed")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words) as raised:
        read(tmp_path / name)
    assert name in str(raised.value)


def test_without_a_card_nothing_is_guessed(store: Store, tmp_path: Path) -> None:
    header = "test_time_second,voltage_volt,current_ampere"
    path = write_bdf(tmp_path / "cell.bdf", header, _TIME_S, _VOLTAGE_V, _CURRENT_A)
    with pytest.raises(InputError, match="name a cell card by --cell"):
        import_file(store, path, None, None, None)
    assert list((store.directory / "runs").iterdir()) == []
    assert store.runs() == []


# --- EC-Lab -----------------------------------------------------------------------------------


def write_mpt(path: Path, names: str, *columns: Any, comma: bool = False) -> Path:
    rows = ["\t".join(f"{cell:.7E}" for cell in row) for row in zip(*columns, strict=True)]
    text = "\n".join(rows)
    head = (
        "EC-Lab ASCII FILE\nNb header lines : 6\n\nUser : \xb5\n"
        "Acquisition started on : 04/30/2021 10:11:12.250\n"
    )
    text = f"{head}{names}\n{text.replace('.', ',') if comma else text}\n"
    path.write_text(text, encoding="latin-1")
    return path


@pytest.mark.parametrize("comma", [False, True])
def test_an_eclab_text_is_read_with_points_or_commas(
    store: Store, tmp_path: Path, comma: bool
) -> None:
    names = "mode\ttime/s\tEwe/V\t<I>/mA\tcycle number"
    mode, cycle = np.ones(len(_TIME_S)), _TIME_S // 7200
    columns = mode, _TIME_S, _VOLTAGE_V, 1e3 * _CURRENT_A, cycle
    path = write_mpt(tmp_path / "cell.mpt", names, *columns, comma=comma)
    run = import_file(store, path, CELL, None, None)
    assert f"{run.started:%Y-%m-%dT%H:%M:%S.%f}" == "2021-04-30T10:11:12.250000"
    assert passed_mAh(store, run) == pytest.approx([1.0] * 4, rel=3e-3)


def test_impedance_between_other_techniques_becomes_spectra(store: Store, tmp_path: Path) -> None:
    names = "mode\ttime/s\tEwe/V\tI/mA\tfreq/Hz\tRe(Z)/Ohm\t-Im(Z)/Ohm\tNs"
    frequency = [0, 0, 0, 1e5, 1e4, 1e3, 1e5, 1e4, 1e3, 0, 0]
    count = len(frequency)
    current = [0, 1, 1, *[0] * 6, -1, -1]
    mode = [3, 1, 1, *[2] * 6, 1, 1]
    step = [0, 1, 1, *[2] * 6, 3, 3]
    columns = mode, np.arange(count), [3.5] * count, current, frequency, [10] * count, [2] * count
    path = write_mpt(tmp_path / "cell.mpt", names, *columns, step)
    run = import_file(store, path, CELL, None, [])
    found = dataset_of(store, run)
    assert [len(each) for each in found.spectra] == [3, 3]
    assert found.spectra[1].time_s == 6.0
    assert found.spectra[1].impedance_ohm.tolist() == [10 - 2j] * 3
    assert [step.kind for step in found.steps] == ["rest", "charge", "eis", "eis", "discharge"]
    assert len(found.samples) == 5


@pytest.mark.long
def test_our_own_mpt_files_come_in_again(ramp: Any, store: Store, tmp_path: Path) -> None:
    export(ramp.reader, ramp.run, "mpt", tmp_path)
    run = import_file(store, next(tmp_path.glob("*simulated.mpt")), "LYC_PMMA", None, ["ccd"])
    kept, before = (
        RunReader(store.run_path(run.id)).samples("channel"),
        ramp.reader.samples("potentiostat"),
    )
    for name in ("time_s", "voltage_V"):
        assert np.array_equal(kept[name], before[name])
    assert kept["current_A"] == pytest.approx(before["current_A"], rel=1e-12)
    measured = next(tmp_path.glob("*-spectrum-003.mpt"))
    run = import_file(store, measured, "LYC_PMMA", None, ["conductivity"])
    reader = RunReader(store.run_path(run.id))
    (spectrum,), third = reader.spectra(), ramp.reader.spectra()[2]
    assert spectrum.impedance_ohm.tolist() == third.impedance_ohm.tolist()
    for to in FORMATS:
        assert export(reader, run, to, tmp_path / "out")


@pytest.mark.skipif(find_spec("galvani") is not None, reason="galvani is in this environment")
def test_without_galvani_the_message_says_how_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cell.mpr"
    path.write_bytes(b"BIO-LOGIC MODULAR FILE\x1a")
    monkeypatch.setenv(GALVANI, sys.executable)
    with pytest.raises(InputError, match=r"needs galvani \(GPL-3\).*CELLBENCH_GALVANI"):
        read(path)
    monkeypatch.setenv(GALVANI, str(tmp_path / "no python"))
    with pytest.raises(InputError, match="cannot be run"):
        read(path)


# --- Charge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ([0.0, 9, 18, 16, 14, 12], [0.0, 9, 18, -2, -4, -6]),  # goes on
        ([0.0, 9, 18, -2, -4, -6], [0.0, 9, 18, -2, -4, -6]),  # begins anew, one interval before
        ([0.0, 9, 18, 0, -2, -4], [0.0, 9, 18, 0, -2, -4]),  # at the first row
        (None, [0.0, 9, 18, -2, -4, -6]),
    ],
)
def test_a_count_that_goes_on_or_begins_anew_is_the_charge_of_each_step(
    counted: list[float] | None, expected: list[float]
) -> None:
    nothing = np.zeros(6)
    step = np.array([1, 1, 1, 2, 2, 2])
    incoming = Incoming(
        origin=Origin("a", "", "", ""), positive="charge", time_s=np.arange(6.0),
        voltage_V=nothing, current_A=np.array([9.0, 9, 9, -2, -2, -2]), step=step,
        kind=nothing.astype(object), counted_C=None if counted is None else np.array(counted),
    )  # fmt: skip
    found = step_charge_C(incoming, step)
    assert found.tolist() == expected


# --- The command ------------------------------------------------------------------------------


def test_an_imported_run_is_listed_shown_reported_and_not_resumed(tmp_path: Path) -> None:
    header = "test_time_second,voltage_volt,current_ampere"
    path = write_bdf(tmp_path / "cell.bdf", header, _TIME_S, _VOLTAGE_V, _CURRENT_A)

    def cellbench(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(arguments))
        return done.exit_code, done.output

    code, out = cellbench("import", str(path), "--cell", CELL, "--json")
    assert code == 0
    run = json.loads(out)["run"]
    assert "imported" in cellbench("runs")[1]
    shown = cellbench("show", run)[1]
    assert "imported from cell.bdf (Battery Data Format)" in shown
    assert "SAFE" not in shown
    assert cellbench("report", run, "-o", str(tmp_path / "report.html"))[0] == 0
    assert "cell.bdf" in (tmp_path / "report.html").read_text(encoding="utf-8")
    code, out = cellbench("resume", run)
    assert code == 2
    assert "it ran elsewhere" in out
    assert cellbench("export", run, "--to", "crate", "-o", str(tmp_path))[0] == 0
    crate = json.loads((tmp_path / f"{run}-crate" / "ro-crate-metadata.json").read_text("utf-8"))
    assert "SIMULATED" not in json.dumps(crate)
