"""Data files: every sample is in them, stale readings are not, and charge is positive."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from impedance.preprocessing import readCSV

from cellbench.analysis.dataset import Series
from cellbench.errors import InputError
from cellbench.instruments.readings import Flag
from cellbench.report import export
from cellbench.report.export import capacities_Ah, flags_in_words, held

Stored = Any  # the class StoredRun of conftest


def rows_of(stored: Stored, file_format: str) -> list[dict[str, str]]:
    stream = io.StringIO(newline="")
    assert export(stored.reader, stored.dataset, stored.run, file_format, stream) == ()
    stream.seek(0)
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


@pytest.fixture(scope="module")
def stored(make_run: Any) -> Stored:
    return make_run(_two_half_cycles, analyses=())


def test_csv_has_every_sample_of_every_instrument_in_order_of_time(stored: Stored) -> None:
    rows = rows_of(stored, "csv")
    expected = sum(len(stored.reader.samples(name)["time_s"]) for name in stored.reader.sources())
    assert len(rows) == expected
    assert {row["source"] for row in rows} == {"potentiostat", "load cell", "chamber"}
    times = [float(row["time_s"]) for row in rows]
    assert times == sorted(times)


def test_csv_rows_name_their_step_flags_and_current_density(stored: Stored) -> None:
    row = next(row for row in rows_of(stored, "csv") if row["technique"] == "current"
               and row["source"] == "potentiostat")  # fmt: skip
    assert row["step"] == "repeat[0]/current"
    assert row["flags"] == "late after-crossing"
    assert float(row["current_density_mA_cm2"]) == pytest.approx(1.27324)
    assert float(row["stack_pressure_MPa"]) == pytest.approx(5, rel=0.02)
    assert row["utc"].endswith("+00:00")
    assert row["force_N"] == ""


def test_bdf_has_the_machine_readable_columns(stored: Stored) -> None:
    row = rows_of(stored, "bdf")[0]
    assert list(row)[:4] == [
        "test_time_second", "voltage_volt", "current_ampere", "unix_time_second",
    ]  # fmt: skip
    assert "applied_pressure_pa" in row


def test_bdf_counts_steps_and_passes_and_accumulates_charge(stored: Stored) -> None:
    rows = rows_of(stored, "bdf")
    assert [row["cycle_count"] for row in rows[::100]] == ["0", "1", "2"]
    assert [row["step_count"] for row in rows[::100]] == ["1", "2", "3"]
    assert float(rows[-1]["charging_capacity_ah"]) == pytest.approx(99e-3 / 3600)
    assert float(rows[-1]["discharging_capacity_ah"]) == pytest.approx(198e-3 / 3600)


def test_bdf_current_is_positive_on_charge_whatever_the_layout(make_run: Any) -> None:
    stored = make_run(_two_half_cycles, charge="negative", analyses=())
    rows = rows_of(stored, "bdf")
    assert float(rows[60]["current_ampere"]) == -1e-3
    assert float(rows[-1]["charging_capacity_ah"]) == pytest.approx(198e-3 / 3600)


def test_bdf_has_its_metadata_beside_it(stored: Stored, tmp_path: Path) -> None:
    out = tmp_path / "run.bdf.csv"
    written = export(stored.reader, stored.dataset, stored.run, "bdf", out)
    assert written == (out, tmp_path / "run.bdf.csv.metadata.json")
    metadata = json.loads(written[1].read_text(encoding="utf-8"))
    assert metadata["simulated"] is True
    assert metadata["positive_current"].startswith("charges the cell; it is oxidation")
    assert metadata["documents"]["cell"].startswith("cell:")


def test_unix_time_is_the_start_plus_test_time(stored: Stored) -> None:
    row = rows_of(stored, "bdf")[0]
    csv_row = next(row for row in rows_of(stored, "csv") if row["source"] == "potentiostat")
    seconds = np.datetime64(csv_row["utc"].removesuffix("+00:00")).astype("datetime64[ms]")
    assert float(row["unix_time_second"]) == pytest.approx(float(seconds.astype(float)) / 1e3)


def test_spectra_have_one_row_per_point(ramp: Stored) -> None:
    rows = rows_of(ramp, "spectra")
    assert len(rows) == 14 * 71
    assert float(rows[0]["impedance_imag_ohm"]) < 0
    assert rows[0]["step"] == "eis"


def test_each_spectrum_is_a_file_of_three_columns(ramp: Stored, tmp_path: Path) -> None:
    out = tmp_path / "spectra.csv"
    written = export(ramp.reader, ramp.dataset, ramp.run, "impedance", out)
    assert [path.name for path in written[:2]] == ["spectra-001.csv", "spectra-002.csv"]
    assert len(written) == 14
    for path, spectrum in zip(written, ramp.reader.spectra(), strict=True):
        frequency_Hz, impedance_ohm = readCSV(path)
        assert frequency_Hz == pytest.approx(spectrum.frequency_Hz, rel=1e-6)
        assert impedance_ohm == pytest.approx(spectrum.impedance_ohm, rel=1e-6)


def test_a_column_of_numbers_never_begins_as_integers(stored: Stored) -> None:
    row = rows_of(stored, "bdf")[0]
    assert row["current_ampere"] == "0.0"


def test_a_slow_reading_is_held_until_it_is_stale() -> None:
    series = Series(np.arange(10.0, 110.0, 5.0), np.arange(20.0))
    at = np.array([9.0, 10.0, 14.9, 15.0, 105.0, 114.9, 115.1])
    values = held(series, at)
    assert values[1:6].tolist() == [0.0, 0.0, 1.0, 19.0, 19.0]
    assert np.isnan(values[[0, 6]]).all()


def test_a_reading_is_not_repeated_across_a_gap() -> None:
    time_s = np.concatenate((np.arange(0.0, 100.0, 5.0), np.arange(200.0, 300.0, 5.0)))
    values = held(Series(time_s, np.ones(len(time_s))), np.array([104.0, 150.0, 200.0]))
    assert np.isnan(values).tolist() == [False, True, False]


def test_no_series_gives_nothing() -> None:
    assert np.isnan(held(Series(), np.array([1.0, 2.0]))).all()


def test_charge_that_begins_anew_in_each_step_adds_up() -> None:
    charge_C = np.array([0.0, 3600.0, np.nan, 0.0, -1800.0])
    put_in, taken_out = capacities_Ah(charge_C, np.array([1, 1, 1, 2, 2]))
    assert put_in.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert taken_out.tolist() == [0.0, 0.0, 0.0, 0.0, 0.5]


def test_flags_read_as_words() -> None:
    assert flags_in_words(0) == ""
    assert flags_in_words(Flag.SATURATED | Flag.MISSING) == "saturated missing"


def test_an_unknown_format_is_refused_with_those_that_exist(stored: Stored) -> None:
    with pytest.raises(InputError, match="choose csv, bdf, spectra"):
        export(stored.reader, stored.dataset, stored.run, "xlsx", io.StringIO())


def test_a_file_that_cannot_be_written_is_an_input_error(stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        export(stored.reader, stored.dataset, stored.run, "csv", tmp_path / "no" / "run.csv")
