"""Reading the Battery Data Format: CSV (also .gz) and Parquet, ours and other people's."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from cellbench import __version__
from cellbench.errors import InputError
from cellbench.exchange.bdf import METADATA
from cellbench.exchange.incoming import FROM_CURRENT, FROM_FILE, Incoming, Metadata, Origin
from cellbench.exchange.outgoing import flags_of_words, mapped
from cellbench.store.files import sha256
from cellbench.store.needed import needed

_C_PER_AH = 3600.0
_ROWS_AT_ONCE = 10_000
_NEEDED = ("test_time_second", "voltage_volt", "current_ampere")
_TEXTS = ("step_id", "step_type", "flags")
#: The format's names for people, of the columns that are read.
_LABELS = {
    "Test Time / s": "test_time_second",
    "Voltage / V": "voltage_volt",
    "Current / A": "current_ampere",
    "Unix Time / s": "unix_time_second",
    "Cycle Count / 1": "cycle_count",
    "Step Count / 1": "step_count",
    "Ambient Temperature / degC": "ambient_temperature_celsius",
    "Surface Temperature T1 / degC": "temperature_t1_celsius",
    "Applied Pressure / Pa": "applied_pressure_pa",
    "Charging Capacity / Ah": "charging_capacity_ah",
    "Discharging Capacity / Ah": "discharging_capacity_ah",
    "Net Capacity / Ah": "net_capacity_ah",
}
_Table = dict[str, NDArray[Any]]


def read_bdf(path: Path) -> Incoming:
    """Read a file, and its metadata if they lie beside it.

    Raises:
        InputError: It is no such file, or a column is missing.
    """
    is_parquet = path.name.lower().endswith(".parquet")
    table, embedded = _parquet(path) if is_parquet else (_csv(path), None)
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        raise InputError(
            f"{path.name} has no column {' and no column '.join(missing)}: "
            "no file of the Battery Data Format"
        )
    if not len(table["test_time_second"]):
        raise InputError(f"{path.name} has no rows")
    return _incoming(path, table, _metadata(path, embedded))


def _incoming(path: Path, table: _Table, metadata: Metadata | None) -> Incoming:
    time_s, current_A = table["test_time_second"], table["current_ampere"]
    step = _numbers(table, "step_count", time_s)
    if "step_id" not in table:
        step = _counted(step, table)
    counted_C = _counted_C(table)
    read = Incoming(
        origin=Origin.of(
            path,
            "Battery Data Format" if metadata is None else metadata.written_by,
            f"cellbench {__version__}",
            FROM_CURRENT if counted_C is None else FROM_FILE,
        ),
        positive="charge",
        time_s=time_s,
        voltage_V=table["voltage_volt"],
        current_A=current_A,
        counted_C=counted_C,
        counting="start" if "step_id" in table else "",
        step=step,
        kind=table.get("step_type", np.full(len(time_s), "", dtype=object)),
        path=table.get("step_id"),
        cycle=_numbers(table, "cycle_count", time_s) if "cycle_count" in table else None,
        stack_pressure_Pa=table.get("applied_pressure_pa"),
        temperature_K=_kelvin(table),
        started=_started(table, metadata),
        metadata=metadata,
    )
    if "flags" in table:
        return replace(read, flags=mapped(table["flags"].astype(str), flags_of_words).astype(int))
    return read


def _counted(step: NDArray[np.int_], table: _Table) -> NDArray[np.int_]:
    """A number that changes where a step begins; where no step is told, where the current does.

    Other people's numbers are often those of the schedule, and come again in each cycle.
    """
    if "step_count" not in table:
        return np.zeros(len(step), dtype=int)
    return np.cumsum(np.diff(step, prepend=step[:1]) != 0) + 1


def _counted_C(table: _Table) -> NDArray[Any] | None:
    net_Ah = table.get("net_capacity_ah")
    if net_Ah is None and {"charging_capacity_ah", "discharging_capacity_ah"} <= table.keys():
        net_Ah = table["charging_capacity_ah"] - table["discharging_capacity_ah"]
    return None if net_Ah is None or np.isnan(net_Ah).any() else net_Ah * _C_PER_AH


def _kelvin(table: _Table) -> NDArray[Any] | None:
    for name in ("ambient_temperature_celsius", "temperature_t1_celsius"):
        if name in table:
            return cast("NDArray[Any]", table[name] + 273.15)
    return None


def _started(table: _Table, metadata: Metadata | None) -> datetime | None:
    if metadata is not None:
        return metadata.started_utc
    if "unix_time_second" not in table:
        return None
    start_s = float(table["unix_time_second"][0] - table["test_time_second"][0])
    try:
        return datetime.fromtimestamp(start_s, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _numbers(table: _Table, name: str, like: NDArray[Any]) -> NDArray[np.int_]:
    column = table.get(name)
    return np.zeros(len(like), int) if column is None else np.nan_to_num(column).astype(int)


def _metadata(path: Path, embedded: bytes | None) -> Metadata | None:
    """What lies beside the data, or is in them; other people's has another form, and is left."""
    beside = path.with_name(path.name + METADATA)
    text = beside.read_bytes() if beside.is_file() else embedded
    if text is None:
        return None
    try:
        content = json.loads(text)
        if not str(content.get("written_by", "")).startswith("cellbench"):
            return None
        metadata = Metadata.model_validate(content)
    except (ValueError, AttributeError) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"{beside.name} is not as cellbench writes it: {why}") from error
    if metadata.sha256 not in {None, sha256(path)}:
        raise InputError(
            f"{path.name} is not the file that {beside.name} was written for, or was changed "
            "since: move the metadata away to import it by itself, with --cell"
        )
    return metadata


# --- Files --------------------------------------------------------------------------------------


def _csv(path: Path) -> _Table:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            return _csv_table(path, cast("TextIO", stream))
    except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile) as error:
        raise InputError(f"{path.name} is no CSV file: {error}") from error


def _csv_table(path: Path, stream: TextIO) -> _Table:
    reader = csv.reader(stream)
    header = [_LABELS.get(name.strip(), name.strip()) for name in next(reader, [])]
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in header if _is_read(name)}
    while rows := list(islice(reader, _ROWS_AT_ONCE)):
        uneven = next((row for row in rows if len(row) != len(header)), None)
        if uneven is not None:
            raise InputError(
                f"{path.name}, near line {reader.line_num}: {len(uneven)} cells where the header "
                f"has {len(header)}"
            )
        for name, cells in zip(header, zip(*rows, strict=True), strict=True):
            if name in pieces:
                pieces[name].append(_column(path, name, cells))
    return {name: np.concatenate([[], *piece]) for name, piece in pieces.items()}


def _is_read(name: str) -> bool:
    return name in _LABELS.values() or name in _TEXTS


def _column(path: Path, name: str, cells: tuple[str, ...]) -> NDArray[Any]:
    if name in _TEXTS:
        return np.array([sys.intern(cell) for cell in cells], dtype=object)  # few are different
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError as error:
        raise InputError(f"{path.name}, column {name}: {error}") from error


def _parquet(path: Path) -> tuple[_Table, bytes | None]:
    parquet = needed("pyarrow.parquet")
    try:
        table = parquet.read_table(path)
    except Exception as error:
        if type(error).__module__.startswith("pyarrow"):
            raise InputError(f"{path.name} is no Parquet file: {error}") from error
        raise
    return dict(_arrays(table)), (table.schema.metadata or {}).get(b"cellbench")


def _arrays(table: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    for label in table.column_names:
        name = _LABELS.get(label, label)
        if name in _TEXTS:
            encoded = table[label].cast("string").fill_null("").combine_chunks().dictionary_encode()
            words = np.array(encoded.dictionary.to_pylist(), dtype=object)
            yield name, words[encoded.indices.to_numpy()]
        elif _is_read(name):
            yield name, np.asarray(table[label].cast("double").to_numpy(), dtype=float)
