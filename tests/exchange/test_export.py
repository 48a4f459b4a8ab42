"""Data files: every sample is in them, stale readings are not, and charge is positive."""

from __future__ import annotations

import csv
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from impedance.preprocessing import readBioLogic, readCSV, readZPlot

from cellbench.analysis.dataset import Series
from cellbench.errors import InputError
from cellbench.exchange.export import FORMATS, export
from cellbench.exchange.outgoing import Held, Ledger, flags_in_words, flags_of_words
from cellbench.instruments.readings import Flag
from cellbench.store.files import sha256

Stored = Any  # the class StoredRun of tests/report/conftest.py


def exported(stored: Stored, to: str, place: Path, **options: Any) -> tuple[Path, ...]:
    return export(stored.reader, stored.run, to, place, **options)


def rows_of(stored: Stored, to: str, place: Path) -> list[dict[str, str]]:
    table = next(path for path in exported(stored, to, place) if path.suffix == ".csv")
    with table.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


async def _two_half_cycles(script: Any) -> None:
    await script.enter("run started")
    step = await script.step("rest", "rest", "rest", 60)
    script.rows(step, [0.0] * 60, 0.0)
    await script.end("rest", "rest", 60)
    for number, current_A in enumerate((1e-3, -2e-3)):
        path = f"repeat[{number}]/current"
        step = await script.step(path, "current", "current", 100, current_A=current_A)
        script.rows(step, [100 * current_A] * 100, current_A, Flag.LATE | Flag.AFTER_CROSSING)
        await script.end(path, "current", 100)
    await script.enter("gap", path, "not seen for 5 min", from_s=1.0, to_s=301.0, charge_C=0.1)


@pytest.fixture(scope="module")
def stored(make_run: Any) -> Stored:
    return make_run(_two_half_cycles, analyses=())


# --- Every sample ---------------------------------------------------------------------------------


def test_csv_has_every_sample_of_every_instrument_in_order_of_time(
    stored: Stored, tmp_path: Path
) -> None:
    rows = rows_of(stored, "csv", tmp_path)
    expected = sum(len(stored.reader.samples(name)["time_s"]) for name in stored.reader.sources())
    assert len(rows) == expected
    assert {row["source"] for row in rows} == {"potentiostat", "load cell", "chamber"}
    times = [float(row["time_s"]) for row in rows]
    assert times == sorted(times)


def test_csv_rows_name_their_step_flags_and_current_density(stored: Stored, tmp_path: Path) -> None:
    row = next(row for row in rows_of(stored, "csv", tmp_path) if row["technique"] == "current"
               and row["source"] == "potentiostat")  # fmt: skip
    assert row["step"] == "repeat[0]/current"
    assert row["flags"] == "late after-crossing"
    assert float(row["current_density_mA_cm2"]) == pytest.approx(1.27324)
    assert float(row["stack_pressure_MPa"]) == pytest.approx(5, rel=0.02)
    assert row["utc"].endswith("+00:00")
    assert row["force_N"] == ""


# --- Battery Data Format ------------------------------------------------------------------------


def test_bdf_has_the_machine_readable_columns(stored: Stored, tmp_path: Path) -> None:
    row = rows_of(stored, "bdf", tmp_path)[0]
    assert list(row)[:4] == [
        "test_time_second", "voltage_volt", "current_ampere", "unix_time_second",
    ]  # fmt: skip
    assert {"applied_pressure_pa", "net_capacity_ah", "cumulative_capacity_ah"} <= row.keys()


def test_bdf_counts_steps_and_passes_and_accumulates_charge(stored: Stored, tmp_path: Path) -> None:
    rows = rows_of(stored, "bdf", tmp_path)
    assert [row["cycle_count"] for row in rows[::100]] == ["0", "1", "2"]
    assert [row["step_count"] for row in rows[::100]] == ["1", "2", "3"]
    last = {name: float(value) for name, value in rows[-1].items() if name.endswith("capacity_ah")}
    assert last == pytest.approx({
        "charging_capacity_ah": 99e-3 / 3600, "discharging_capacity_ah": 198e-3 / 3600,
        "net_capacity_ah": -99e-3 / 3600, "cumulative_capacity_ah": 297e-3 / 3600,
        "cycle_charging_capacity_ah": 0, "cycle_discharging_capacity_ah": 198e-3 / 3600,
    })  # fmt: skip


def test_bdf_current_is_positive_on_charge_whatever_the_layout(
    make_run: Any, tmp_path: Path
) -> None:
    stored = make_run(_two_half_cycles, charge="negative", analyses=())
    rows = rows_of(stored, "bdf", tmp_path)
    assert float(rows[60]["current_ampere"]) == -1e-3
    assert rows[0]["current_ampere"] == "0.0"  # no "-0.0", and no integer either
    assert float(rows[-1]["charging_capacity_ah"]) == pytest.approx(198e-3 / 3600)


def test_bdf_has_its_metadata_beside_it(stored: Stored, tmp_path: Path) -> None:
    data, beside = exported(stored, "bdf", tmp_path)
    assert beside.name == f"{data.name}.metadata.json"
    metadata = json.loads(beside.read_text(encoding="utf-8"))
    assert metadata["sha256"] == sha256(data)
    assert metadata["positive_current"].startswith("charges the cell; it is oxidation")
    assert metadata["documents"]["cell"].startswith("cell:")
    assert metadata["gaps"][0]["charge_C"] == 0.1
    assert metadata["steps"][1]["settings"] == {"current_A": 1e-3}


@pytest.mark.parametrize("to", FORMATS)
def test_what_nobody_measured_says_so_in_its_name(stored: Stored, tmp_path: Path, to: str) -> None:
    if to == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    written = exported(stored, to, tmp_path)
    assert all("-simulated" in path.name for path in written)


def test_what_nobody_measured_says_so_in_its_metadata(
    make_run: Any, stored: Stored, tmp_path: Path
) -> None:
    exported(stored, "bdf", tmp_path)
    exported(stored, "mpt", tmp_path)
    beside = next(tmp_path.glob("*.bdf.csv.metadata.json")).read_text(encoding="utf-8")
    assert json.loads(beside)["remark"] == "SIMULATED: no cell was measured"
    assert "SIMULATED" in next(tmp_path.glob("*simulated.mpt")).read_text(encoding="latin-1")
    real = make_run(_two_half_cycles, simulated=False, analyses=())
    assert [path.name for path in exported(real, "csv", tmp_path)] == [f"{real.run.id}.csv"]


def test_unix_time_is_the_start_plus_test_time(stored: Stored, tmp_path: Path) -> None:
    row = rows_of(stored, "bdf", tmp_path)[0]
    every = rows_of(stored, "csv", tmp_path)
    csv_row = next(row for row in every if row["source"] == "potentiostat")
    seconds = np.datetime64(csv_row["utc"].removesuffix("+00:00")).astype("datetime64[ms]")
    assert float(row["unix_time_second"]) == pytest.approx(float(seconds.astype(float)) / 1e3)


def test_parquet_has_the_columns_of_the_csv_and_tells_of_itself(
    stored: Stored, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(exported(stored, "parquet", tmp_path)[0])
    rows = rows_of(stored, "bdf", tmp_path)
    assert table.column_names == list(rows[0])
    for name in ("test_time_second", "voltage_volt", "charging_capacity_ah", "step_count"):
        assert table[name].to_pylist() == [float(row[name]) for row in rows]
    assert table["flags"].to_pylist() == [row["flags"] for row in rows]
    assert json.loads(table.schema.metadata[b"cellbench"])["simulated"] is True


def test_without_pyarrow_the_message_says_what_to_install(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'pip install "cellbench\[data\]"'):
        exported(stored, "parquet", tmp_path)
    assert not list(tmp_path.iterdir())


# --- Spectra ------------------------------------------------------------------------------------


def test_spectra_have_one_row_per_point(ramp: Stored, tmp_path: Path) -> None:
    table = next(path for path in exported(ramp, "spectra", tmp_path) if "-spectra" in path.name)
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 14 * 71
    assert float(rows[0]["impedance_imag_ohm"]) < 0
    assert rows[0]["step"] == "eis"


@pytest.mark.long
def test_fitting_programs_read_each_spectrum_in_three_forms(ramp: Stored, tmp_path: Path) -> None:
    exported(ramp, "spectra", tmp_path)
    exported(ramp, "mpt", tmp_path)
    spectra = ramp.reader.spectra()
    for read, ending in ((readCSV, "csv"), (readZPlot, "z"), (readBioLogic, "mpt")):
        files = sorted(tmp_path.glob(f"*-spectrum-*.{ending}"))
        assert len(files) == len(spectra) == 14
        for path, spectrum in zip(files, spectra, strict=True):
            frequency_Hz, impedance_ohm = read(path)
            assert frequency_Hz.tolist() == spectrum.frequency_Hz.tolist()
            assert impedance_ohm.tolist() == spectrum.impedance_ohm.tolist()


# --- Whole files or none --------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept_unless_told_otherwise(stored: Stored, tmp_path: Path) -> None:
    (path,) = exported(stored, "csv", tmp_path)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is there already"):
        exported(stored, "csv", tmp_path)
    assert path.read_text(encoding="utf-8") == "mine"
    exported(stored, "csv", tmp_path, overwrite=True)
    assert path.stat().st_size > 1000
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_crate_is_replaced_as_a_whole(stored: Stored, tmp_path: Path) -> None:
    (crate,) = exported(stored, "crate", tmp_path)
    (crate / "left over").touch()
    exported(stored, "crate", tmp_path, overwrite=True)
    assert not (crate / "left over").exists()
    assert (crate / "ro-crate-metadata.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="files are limited in size by POSIX's setrlimit")
def test_an_export_that_fails_leaves_nothing_behind(ramp: Stored, tmp_path: Path) -> None:
    from resource import RLIMIT_FSIZE, getrlimit, setrlimit

    before = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (100_000, before[1]))  # as on a disk that is full
    try:
        with pytest.raises(InputError, match="cannot be written: File too large"):
            exported(ramp, "bdf", tmp_path / "new")
    finally:
        setrlimit(RLIMIT_FSIZE, before)
    assert not list((tmp_path / "new").iterdir())


def test_a_place_that_is_no_directory_is_an_input_error(stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        exported(stored, "csv", tmp_path / "file")


def test_an_unknown_format_is_refused_with_those_that_exist(stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose bdf, parquet"):
        exported(stored, "xlsx", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("to", ["bdf", "parquet"])
def test_a_long_run_takes_no_more_memory_than_a_short_one(
    make_run: Any, tmp_path: Path, to: str
) -> None:
    if to == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    peaks = []
    for count in (20_000, 60_000):
        long = make_run(lambda script, count=count: _one_rest(script, count), analyses=())
        tracemalloc.start()
        exported(long, to, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A row has 17 cells of 8 bytes or more. Only load cell and chamber are kept, every 5 s.
    assert peaks[1] - peaks[0] < 40_000 * 64


async def _one_rest(script: Any, count: int) -> None:
    await script.enter("run started")
    step = await script.step("rest", "rest", "rest", count)
    script.rows(step, np.linspace(3, 4, count), 0.0)
    await script.end("rest", "rest", count)


# --- Rows -----------------------------------------------------------------------------------------


def test_a_slow_reading_is_held_until_it_is_stale() -> None:
    series = Series(np.arange(10.0, 110.0, 5.0), np.arange(20.0))
    at = np.array([9.0, 10.0, 14.9, 15.0, 105.0, 114.9, 115.1])
    values = Held(series).at(at)
    assert values[1:6].tolist() == [0.0, 0.0, 1.0, 19.0, 19.0]
    assert np.isnan(values[[0, 6]]).all()


def test_a_reading_is_not_repeated_across_a_gap() -> None:
    time_s = np.concatenate((np.arange(0.0, 100.0, 5.0), np.arange(200.0, 300.0, 5.0)))
    values = Held(Series(time_s, np.ones(len(time_s)))).at(np.array([104.0, 150.0, 200.0]))
    assert np.isnan(values).tolist() == [False, True, False]


def test_no_series_gives_nothing() -> None:
    assert np.isnan(Held(Series()).at(np.array([1.0, 2.0]))).all()


def test_charge_that_begins_anew_in_each_step_adds_up_across_blocks() -> None:
    charge_C = np.array([0.0, 3600.0, np.nan, 7200.0, 0.0, -1800.0])
    step, cycle = np.array([1, 1, 1, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
    for cut in range(len(step) + 1):
        ledger = Ledger(1.0)
        parts = [
            ledger.add(charge_C[at], step[at], cycle[at]) for at in np.split(np.arange(6), [cut])
        ]
        columns = {
            name: np.concatenate([part[name] for part in parts]).tolist() for name in parts[0]
        }
        assert columns == {
            "charged_Ah": [0.0, 1.0, 1.0, 2.0, 2.0, 2.0],
            "discharged_Ah": [0.0, 0.0, 0.0, 0.0, 0.0, 0.5],
            "cycle_charged_Ah": [0.0, 1.0, 1.0, 2.0, 0.0, 0.0],
            "cycle_discharged_Ah": [0.0, 0.0, 0.0, 0.0, 0.0, 0.5],
        }


def test_a_hold_that_spectra_interrupt_is_counted_once() -> None:
    charge_C, step = np.array([3600.0, np.nan, 7200.0]), np.array([1, 2, 1])
    columns = Ledger(1.0).add(charge_C, step, np.zeros(3, int))
    assert columns["charged_Ah"].tolist() == [1.0, 1.0, 2.0]


def test_flags_read_as_words_and_back() -> None:
    assert flags_in_words(0) == ""
    assert flags_in_words(Flag.SATURATED | Flag.MISSING) == "saturated missing"
    assert all(flags_of_words(flags_in_words(flags)) == flags for flags in range(64))
