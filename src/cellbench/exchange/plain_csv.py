"""Every sample of every instrument as one CSV file, in order of time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench.exchange.outgoing import Columns, Outgoing, as_rows

_HEADER = (
    "time_s", "utc", "source", "step", "technique", "voltage_V", "current_A",
    "current_density_mA_cm2", "charge_C", "force_N", "stack_pressure_MPa", "temperature_degC",
    "flags",
)  # fmt: skip


def write_csv(outgoing: Outgoing, path: Path) -> None:
    """Write the file; what an instrument does not measure is empty in its rows."""
    write_rows(path, _HEADER, _rows(outgoing))


def write_rows(path: Path, header: tuple[str, ...], rows: Iterator[Any]) -> None:
    """Write a header and rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _rows(outgoing: Outgoing) -> Iterator[Any]:
    for block in outgoing.reader.blocks(by_time=True):
        yield from as_rows(_columns(outgoing, block))


def _columns(outgoing: Outgoing, block: Columns) -> list[NDArray[Any]]:
    time_s, current_A = block["time_s"], block["current_A"]
    words = outgoing.named(block["step"], block["flags"])
    return [
        time_s, _utc(outgoing, time_s), block["source"], words["path"], words["technique"],
        block["voltage_V"], current_A, current_A / outgoing.card.area_m2 / 10, block["charge_C"],
        block["force_N"], outgoing.stack_pressure_Pa.at(time_s) / 1e6,
        outgoing.temperature_K.at(time_s) - 273.15, words["flag"],
    ]  # fmt: skip


def _utc(outgoing: Outgoing, time_s: NDArray[Any]) -> NDArray[Any]:
    start = np.datetime64(outgoing.started.replace(tzinfo=None), "us")
    moments = start + np.round(time_s * 1e6).astype("timedelta64[us]")
    return np.char.add(np.datetime_as_string(moments, unit="ms"), "+00:00")
