"""A run's data as files for other programs: plain CSV, spectra, and the Battery Data Format.

The Battery Data Format (Battery Data Alliance, ontology 1.2) names columns machine-readably, holds
the rows of one cell's channel, and counts current as positive when the cell is charged. Readings
of slower instruments stand beside a row as the last one before it, unless that one is stale.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cellbench.analysis.dataset import Dataset, FloatArray, Series
from cellbench.errors import InputError
from cellbench.instruments.readings import Flag
from cellbench.report.record import Record
from cellbench.report.wording import as_utc
from cellbench.store import Run, RunReader

#: Sampling intervals of a slow instrument after which its last reading counts as stale.
STALE_INTERVALS = 2.0
_COULOMB_PER_AH = 3600.0
_Cell = float | int | str | None
_Rows = Iterator[Sequence[_Cell]]

_CSV_HEADER = (
    "time_s", "utc", "source", "step", "technique", "voltage_V", "current_A",
    "current_density_mA_cm2", "charge_C", "force_N", "stack_pressure_MPa", "temperature_degC",
    "flags",
)  # fmt: skip
_SPECTRA_HEADER = (
    "spectrum", "time_s", "step", "stack_pressure_MPa", "temperature_degC", "bias_V",
    "frequency_Hz", "impedance_real_ohm", "impedance_imag_ohm", "flags",
)  # fmt: skip
_BDF_HEADER = (
    "test_time_second", "voltage_volt", "current_ampere", "unix_time_second", "cycle_count",
    "step_count", "step_id", "step_type", "ambient_temperature_celsius", "applied_pressure_pa",
    "charging_capacity_ah", "discharging_capacity_ah",
)  # fmt: skip


def export(
    reader: RunReader, dataset: Dataset, run: Run, file_format: str, out: Path | TextIO
) -> tuple[Path, ...]:
    """Write a run's data.

    Args:
        reader: The run's file.
        dataset: Its data, seen through the card that areas and pressures follow.
        run: Its entry in the catalogue.
        file_format: "csv": every sample of every instrument; "bdf": the channel in the Battery Data
            Format, with a metadata file beside it where ``out`` is a path; "spectra": every
            point of every spectrum; "impedance": what fitting programs read, a file per
            spectrum (where ``out`` is a path, numbered before its suffix).
        out: A file's path, or an open text stream (opened with ``newline=""``).

    Returns:
        The files that were written.

    Raises:
        InputError: There is no such format, or the file cannot be written.
    """
    if file_format not in FORMATS:
        raise InputError(f'there is no export format "{file_format}": choose {", ".join(FORMATS)}')
    record = Record(reader, run)
    try:
        if file_format == "impedance":
            return _write_each_spectrum(out, reader)
        header, rows = _TABLES[file_format]
        _write(out, header, rows(record, dataset))
        if file_format == "bdf" and isinstance(out, Path):
            return out, _write_metadata(out, record)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    return (out,) if isinstance(out, Path) else ()


def _write(out: Path | TextIO, header: Sequence[str], rows: _Rows) -> None:
    opened = (
        out.open("w", encoding="utf-8", newline="") if isinstance(out, Path) else nullcontext(out)
    )
    with opened as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


# --- Every sample -------------------------------------------------------------------------------


def _csv_rows(record: Record, dataset: Dataset) -> _Rows:
    """All instruments' rows in order of time."""
    reader = record.reader
    sources, tables = list(record.tables), list(record.tables.values())
    time_s = _joined(tables, "time_s")
    order = np.argsort(time_s, kind="stable")
    names = np.repeat(np.arange(len(sources)), [len(table["time_s"]) for table in tables])
    columns = {name: _joined(tables, name) for name in tables[0]} if tables else {}
    pressure_Pa = held(dataset.samples.stack_pressure, time_s)
    temperature_K = held(dataset.samples.temperature, time_s)
    start = as_utc(record.run.started)
    for row in order.tolist():
        path, technique = reader.steps.get(int(columns["step"][row]), ("", ""))
        current_A = columns["current_A"][row]
        yield (
            _number(time_s[row], 9),
            (start + timedelta(seconds=float(time_s[row]))).isoformat(timespec="milliseconds"),
            sources[names[row]], path, technique,
            _number(columns["voltage_V"][row]), _number(current_A),
            _number(current_A / dataset.geometry.area_m2 / 10),
            _number(columns["charge_C"][row]), _number(columns["force_N"][row]),
            _number(pressure_Pa[row] / 1e6, 6), _number(temperature_K[row] - 273.15, 6),
            flags_in_words(int(columns["flags"][row])),
        )  # fmt: skip


def _joined(tables: Sequence[Mapping[str, FloatArray]], name: str) -> FloatArray:
    return np.concatenate([table[name] for table in tables]) if tables else np.empty(0)


def held(series: Series, time_s: FloatArray) -> FloatArray:
    """The last reading at or before each time; NaN before the first and where it is stale.

    Stale is what is older than two of the series' own intervals around it.
    """
    if not len(series):
        return np.full(len(time_s), np.nan)
    last = np.searchsorted(series.time_s, time_s, "right") - 1
    age_s = time_s - series.time_s[last]
    sound = (last >= 0) & (age_s <= STALE_INTERVALS * _usual_interval_s(series.time_s))
    return np.where(sound, series.value[last], np.nan)


def _usual_interval_s(time_s: FloatArray) -> float:
    """How often a slow instrument is read at its usual pace; sometimes it is read faster."""
    intervals = np.diff(time_s)
    return float(np.quantile(intervals, 0.9)) if len(intervals) else 0.0


def flags_in_words(flags: int) -> str:
    """The flags of a row as words, several with a space between: "late missing"."""
    return " ".join(str(flag.name).lower().replace("_", "-") for flag in Flag if flags & flag)


def _number(value: float, digits: int = 9) -> str:
    """So many significant digits, nothing for what was not measured.

    Always with a point or an exponent: readers that guess a column's type from its first rows would
    take a current of 0 for an integer.
    """
    if np.isnan(value):
        return ""
    text = f"{value:.{digits}g}"
    return text if set(text) & set(".ef") else f"{text}.0"


# --- Spectra ------------------------------------------------------------------------------------


def _spectra_rows(record: Record, _: Dataset) -> _Rows:
    reader = record.reader
    for spectrum in reader.spectra():
        path = reader.steps.get(spectrum.step, ("", ""))[0]
        pressure_MPa = _scaled(spectrum.stack_pressure_Pa, 1e-6, 0.0)
        temperature_degC = _scaled(spectrum.temperature_K, 1.0, -273.15)
        for row, frequency_Hz in enumerate(spectrum.frequency_Hz):
            impedance_ohm = spectrum.impedance_ohm[row]
            yield (
                spectrum.id, _number(spectrum.point_time_s[row]), path, pressure_MPa,
                temperature_degC, _scaled(spectrum.bias_V, 1.0, 0.0), _number(frequency_Hz),
                _number(impedance_ohm.real), _number(impedance_ohm.imag),
                flags_in_words(int(spectrum.flags[row])),
            )  # fmt: skip


def _write_each_spectrum(out: Path | TextIO, reader: RunReader) -> tuple[Path, ...]:
    """Three columns without a header: frequency, real and imaginary part; remarks begin with "#".

    This is what impedance.py's ``readCSV`` and most fitting programs open as it is.
    """
    written = []
    whole = [one for one in reader.spectra() if np.isfinite(one.impedance_ohm).any()]
    for number, spectrum in enumerate(whole, start=1):
        file = out
        if isinstance(out, Path):
            file = out.with_name(f"{out.stem}-{number:03d}{out.suffix}")
            written.append(file)
        step = reader.steps.get(spectrum.step, ("", ""))[0]
        remark = (f"# spectrum {spectrum.id} at {spectrum.point_time_s[0]:.0f} s: {step}",)
        measured = np.isfinite(spectrum.impedance_ohm)
        columns = (spectrum.frequency_Hz[measured], spectrum.impedance_ohm[measured])
        points = zip(*columns, strict=True)
        _write(file, remark, ((_number(f), _number(z.real), _number(z.imag)) for f, z in points))
    return tuple(written)


def _scaled(value: float | None, scale: float, offset: float) -> str:
    return "" if value is None else _number(value * scale + offset, 6)


# --- Battery Data Format ------------------------------------------------------------------------


def _bdf_rows(record: Record, dataset: Dataset) -> _Rows:
    table = record.channel
    sign = _charge_sign(record)
    time_s, step = table["time_s"], table["step"].astype(int)
    pressure_Pa = held(dataset.samples.stack_pressure, time_s)
    temperature_K = held(dataset.samples.temperature, time_s)
    charged_Ah, discharged_Ah = capacities_Ah(sign * table["charge_C"], step)
    cycles = _cycle_counts(record.reader.steps)
    start_s = as_utc(record.run.started).timestamp()
    for row in range(len(time_s)):
        path, technique = record.reader.steps.get(int(step[row]), ("", ""))
        yield (
            _number(time_s[row]), _number(table["voltage_V"][row]),
            _number(sign * table["current_A"][row]), f"{start_s + time_s[row]:.6f}",
            cycles.get(int(step[row]), 0), int(step[row]), path, technique,
            _number(temperature_K[row] - 273.15, 6), _number(pressure_Pa[row], 7),
            _number(charged_Ah[row]), _number(discharged_Ah[row]),
        )  # fmt: skip


def _charge_sign(record: Record) -> float:
    """+1 where positive current (oxidation at the working electrode) charges the cell, else -1."""
    return -1.0 if record.card is not None and record.card.charge_current == "negative" else 1.0


def capacities_Ah(
    charge_C: FloatArray, step: np.ndarray[Any, np.dtype[np.int_]]
) -> tuple[FloatArray, FloatArray]:
    """Charge put in and taken out since the start, from a charge that begins anew in each step."""
    change_C = np.diff(charge_C, prepend=0.0)
    begins = np.diff(step, prepend=-1) != 0
    change_C = np.nan_to_num(np.where(begins, charge_C, change_C))
    return (
        np.cumsum(np.maximum(change_C, 0)) / _COULOMB_PER_AH,
        np.cumsum(np.maximum(-change_C, 0)) / _COULOMB_PER_AH,
    )


def _cycle_counts(steps: Mapping[int, tuple[str, str]]) -> dict[int, int]:
    """Passes of the innermost loops begun so far, at each step; 0 before the first."""
    counts: dict[int, int] = {}
    now, seen = "", 0
    for step_id, (path, _) in sorted(steps.items()):
        within = path[: path.rfind("]") + 1]
        if within and within != now:
            now, seen = within, seen + 1
        counts[step_id] = seen
    return counts


def _write_metadata(out: Path, record: Record) -> Path:
    """The file beside the data: who, what, when, and which sign charge has."""
    path = out.with_name(f"{out.name}.metadata.json")
    text = json.dumps(_metadata(out, record), ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _metadata(out: Path, record: Record) -> dict[str, Any]:
    run, card = record.run, record.card
    reverse = _charge_sign(record) < 0
    return {
        "format": "Battery Data Format",
        "data": out.name,
        "cell": run.cell,
        "layout": record.layout,
        "protocol": run.protocol,
        "run": run.id,
        "simulated": run.simulated,
        "seed": run.seed,
        "started_utc": as_utc(run.started).isoformat(),
        "state": run.state,
        "electrode_area_cm2": None if card is None else round(card.area_m2 * 1e4, 6),
        "positive_current": "charges the cell; it is "
        + ("reduction" if reverse else "oxidation")
        + " at the working electrode"
        + (" (sign reversed from the recorded one)" if reverse else ""),
        "voltage_volt": "at the terminals, working against counter electrode",
        "applied_pressure_pa": "stack pressure, last reading before the row; empty where stale",
        "ambient_temperature_celsius": "chamber, last reading before the row; empty where stale",
        "cycle_count": "passes of the protocol's innermost loops begun so far",
        "step_id": "path of the step in the expanded protocol",
        "environment": record.environment,
        "documents": dict(record.reader.documents),
    }


_RowMaker = Callable[[Record, Dataset], _Rows]
#: Formats that are one table: header and rows.
_TABLES: Mapping[str, tuple[Sequence[str], _RowMaker]] = {
    "csv": (_CSV_HEADER, _csv_rows),
    "bdf": (_BDF_HEADER, _bdf_rows),
    "spectra": (_SPECTRA_HEADER, _spectra_rows),
}
#: What can be exported.
FORMATS = (*_TABLES, "impedance")
