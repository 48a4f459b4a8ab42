"""A run's channel in the Battery Data Format, as CSV or Parquet, with its metadata beside it.

The Battery Data Format (Battery Data Alliance, ontology 1.2) names columns machine-readably, holds
the rows of one cell's channel, and counts current as positive when the cell is charged. Numbers are
written so that they read back bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench import __version__
from cellbench.analysis.stored import stored_steps
from cellbench.exchange.outgoing import Columns, Outgoing, as_rows
from cellbench.exchange.plain_csv import write_rows
from cellbench.store.files import sha256
from cellbench.store.needed import needed

#: Ending of the metadata's name, after that of the data.
METADATA = ".metadata.json"
_Made = Callable[[Outgoing, Columns], NDArray[Any]]


def _signed(outgoing: Outgoing, block: Columns) -> NDArray[Any]:
    return outgoing.charge_sign * np.asarray(block["current_A"])


def _unix_s(outgoing: Outgoing, block: Columns) -> NDArray[Any]:
    return outgoing.started.timestamp() + np.asarray(block["time_s"])


#: Every column: what it is made of, and what it means. Names without "bdf" are additions.
_COLUMNS: dict[str, tuple[_Made, str]] = {
    "test_time_second": (lambda _, block: block["time_s"], "since the start of the run"),
    "voltage_volt": (
        lambda _, block: block["voltage_V"],
        "at the terminals, working against counter electrode",
    ),
    "current_ampere": (_signed, "positive when the cell is charged"),
    "unix_time_second": (_unix_s, "since 1970-01-01, UTC"),
    "cycle_count": (
        lambda _, block: block["cycle"],
        "passes of the protocol's innermost loops begun so far",
    ),
    "step_count": (lambda _, block: block["step"], "number of the step"),
    "ambient_temperature_celsius": (
        lambda _, block: block["temperature_K"] - 273.15,
        "chamber, last reading before the row; empty where stale",
    ),
    "applied_pressure_pa": (
        lambda _, block: block["stack_pressure_Pa"],
        "stack pressure, last reading before the row; empty where stale",
    ),
    "charging_capacity_ah": (
        lambda _, block: block["charged_Ah"],
        "charge put in since the start of the run",
    ),
    "discharging_capacity_ah": (
        lambda _, block: block["discharged_Ah"],
        "charge taken out since the start of the run",
    ),
    "net_capacity_ah": (
        lambda _, block: block["charged_Ah"] - block["discharged_Ah"],
        "put in less taken out",
    ),
    "cumulative_capacity_ah": (
        lambda _, block: block["charged_Ah"] + block["discharged_Ah"],
        "put in and taken out together",
    ),
    "cycle_charging_capacity_ah": (
        lambda _, block: block["cycle_charged_Ah"],
        "charge put in since this cycle_count began",
    ),
    "cycle_discharging_capacity_ah": (
        lambda _, block: block["cycle_discharged_Ah"],
        "charge taken out since this cycle_count began",
    ),
    "step_id": (lambda _, block: block["path"], "path of the step in the expanded protocol"),
    "step_type": (lambda _, block: block["technique"], "the step's word in the protocol"),
    "flags": (
        lambda _, block: block["flag"],
        "what is wrong with the row: late, saturated, underrange, missing (rows before it did not "
        "arrive), stale, after-crossing (after the condition that ended its step)",
    ),
}
#: Columns beyond those that the format defines.
ADDITIONS = (
    "cycle_charging_capacity_ah", "cycle_discharging_capacity_ah", "step_id", "step_type", "flags",
)  # fmt: skip


def write_bdf(outgoing: Outgoing, path: Path) -> None:
    """Write the CSV file, and its metadata beside it."""
    rows = (row for block in _blocks(outgoing) for row in as_rows(list(block.values())))
    write_rows(path, tuple(_COLUMNS), rows)
    _write_metadata(outgoing, path)


def write_parquet(outgoing: Outgoing, path: Path) -> None:
    """Write the same columns as Parquet, and the metadata beside it.

    Raises:
        InputError: pyarrow is not installed.
    """
    arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    schema = arrow.schema([(name, getattr(arrow, _kind(name))()) for name in _COLUMNS])
    schema = schema.with_metadata({"cellbench": json.dumps(_metadata(outgoing))})
    with parquet.ParquetWriter(path, schema) as writer:
        for block in _blocks(outgoing):
            arrays = [
                arrow.array(column, field.type, from_pandas=True)  # NaN is not a value
                for column, field in zip(block.values(), schema, strict=True)
            ]
            writer.write_batch(arrow.record_batch(arrays, schema))
    _write_metadata(outgoing, path)


def _kind(name: str) -> str:
    match name:
        case "cycle_count" | "step_count":
            return "int64"
        case "step_id" | "step_type" | "flags":
            return "string"
        case _:
            return "float64"


def _blocks(outgoing: Outgoing) -> Iterator[dict[str, NDArray[Any]]]:
    for block in outgoing.channel():
        yield {name: made(outgoing, block) for name, (made, _) in _COLUMNS.items()}


def _write_metadata(outgoing: Outgoing, data: Path) -> None:
    content = {"data": data.name, "sha256": sha256(data)} | _metadata(outgoing)
    text = json.dumps(content, ensure_ascii=False, indent=2)
    data.with_name(data.name + METADATA).write_text(text + "\n", encoding="utf-8")


def _metadata(outgoing: Outgoing) -> dict[str, Any]:
    """Who, what, when, what was not as it should be, and which sign charge has."""
    run, card = outgoing.run, outgoing.card
    reverse = outgoing.charge_sign < 0
    return {
        "simulated": run.simulated,
        "remark": "SIMULATED: no cell was measured" if run.simulated else "",
        "format": "Battery Data Format",
        "written_by": f"cellbench {__version__}",
        "run": run.id,
        "state": run.state,
        "reason": run.reason,
        "protocol": run.protocol,
        "cell": run.cell,
        "layout": card.layout,
        "bench": run.bench,
        "seed": run.seed,
        "started_utc": outgoing.started.isoformat(),
        "electrode_area_cm2": round(card.area_m2 * 1e4, 6),
        "positive_current": "charges the cell; it is "
        + ("reduction" if reverse else "oxidation")
        + " at the working electrode"
        + (" (sign reversed from the recorded one)" if reverse else ""),
        "columns": {name: meaning for name, (_, meaning) in _COLUMNS.items()},
        "not_of_the_format": list(ADDITIONS),
        "steps": _steps(outgoing),
        "gaps": [
            {"step": entry.step, "text": entry.text} | entry.data
            for entry in outgoing.entries("gap")
        ],
        "remarks": [
            {"time_s": entry.time_s, "kind": entry.kind, "step": entry.step, "text": entry.text}
            for entry in outgoing.entries("deviation", "warning", "trip", "note")
        ],
        "environment": outgoing.environment,
        "documents": dict(outgoing.reader.documents),
    }


def _steps(outgoing: Outgoing) -> list[dict[str, Any]]:
    """Every step by its number, those without a row of the channel included."""
    ran = {step.path: step for step in stored_steps(outgoing.reader)}
    return [
        {"number": number, "path": path, "kind": kind} | (asdict(ran[path]) if path in ran else {})
        for number, (path, kind) in outgoing.reader.steps.items()
    ]
