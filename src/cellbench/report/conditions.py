"""What a test's numbers depend on: its cell, pressure, temperature, instruments, and its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellbench.analysis.dataset import Dataset, Series
from cellbench.analysis.stored import channel_names, geometry
from cellbench.cell import CellCard
from cellbench.quantities import format_quantity
from cellbench.report.record import Record
from cellbench.report.tables import Table
from cellbench.report.wording import clock, duration, powers, utc


@dataclass(frozen=True)
class StepRow:
    """One step as it ran, times in seconds."""

    path: str
    what: str
    start_s: float
    end_s: float
    start: str
    duration: str
    ending: str


def step_rows(record: Record, dataset: Dataset) -> list[StepRow]:
    """The steps in the order in which they ran."""
    what = {entry.step: str(entry.data.get("what", "")) for entry in record.entries("step started")}
    return [
        StepRow(
            path=step.path,
            what=powers(what.get(step.path, step.kind)),
            start_s=step.start_s,
            end_s=step.end_s,
            start=clock(step.start_s),
            duration=duration(step.duration_s),
            ending=powers(step.ending),
        )
        for step in dataset.steps
    ]


def measured_interval_s(dataset: Dataset) -> tuple[float, float]:
    """From the first to the last moment at which the channel measured; pressing is not part."""
    times = dataset.samples.time_s
    starts = [*times[:1].tolist(), *(one.time_s for one in dataset.spectra)]
    ends = [*times[-1:].tolist(), *(one.time_s for one in dataset.spectra)]
    return (min(starts), max(ends)) if starts else (-np.inf, np.inf)


def mean_and_range(series: Series, interval_s: tuple[float, float]) -> tuple[float, ...] | None:
    """Mean, lowest and highest of the readings in an interval, None without any."""
    inside = (series.time_s >= interval_s[0]) & (series.time_s <= interval_s[1])
    values = series.value[inside & np.isfinite(series.value)]
    if not len(values):
        return None
    return float(values.mean()), float(values.min()), float(values.max())


def condition_rows(record: Record, dataset: Dataset) -> list[tuple[str, str]]:
    """What the test's numbers depend on, by name."""
    rows = [*_cell_rows(record, dataset), *_gauge_rows(dataset), *_run_rows(record)]
    return [(name, powers(text)) for name, text in rows if text]


def _cell_rows(record: Record, dataset: Dataset) -> list[tuple[str, str]]:
    card = record.card
    if card is None:
        area = format_quantity(dataset.geometry.area_m2, "area")
        return [("cell", record.run.cell), ("electrode area", area)]
    return [
        ("cell", f"{card.cell}: {card.layout} ({card.kind})"),
        ("electrolyte", _electrolyte(card)),
        ("areas", card.describe_area()),
        ("charge", f"{card.charge_current} current (oxidation at the working electrode is +)"),
        ("analysed as", _other_card(card, dataset)),
    ]


def _other_card(card: CellCard, dataset: Dataset) -> str:
    """What the analyses followed where it was another card than the run's own."""
    sizes = dataset.geometry
    if sizes == geometry(card):
        return ""
    thickness = "thickness unknown"
    if sizes.electrolyte_thickness_m is not None:
        thickness = f"{format_quantity(sizes.electrolyte_thickness_m, 'length')} thick"
    area = format_quantity(sizes.area_m2, "area")
    return f"{dataset.cell_name}, {sizes.layout}: {area}, {thickness}; not the card of the run"


def _electrolyte(card: CellCard) -> str:
    electrolyte = card.electrolyte
    parts = [
        electrolyte.name or "",
        f"{format_quantity(electrolyte.thickness_m, 'length')} thick",
        f"{format_quantity(electrolyte.diameter_m, 'length')} across",
    ]
    if electrolyte.fabrication_pressure_Pa is not None:
        parts.append(
            f"pressed with {format_quantity(electrolyte.fabrication_pressure_Pa, 'pressure')}"
        )
    return ", ".join(part for part in parts if part)


def _gauge_rows(dataset: Dataset) -> list[tuple[str, str]]:
    interval_s, samples = measured_interval_s(dataset), dataset.samples
    pressure = mean_and_range(samples.stack_pressure, interval_s)
    temperature = mean_and_range(samples.temperature, interval_s)
    return [
        ("stack pressure", _mean_text(pressure, "MPa", 1e-6, 0.0)),
        ("temperature", _mean_text(temperature, "°C", 1.0, -273.15)),
    ]


def _mean_text(found: tuple[float, ...] | None, unit: str, scale: float, offset: float) -> str:
    if found is None:
        return "not measured"
    mean, low, high = (value * scale + offset for value in found)
    return (
        f"{mean:.2f} {unit} on average, {low:.2f} to {high:.2f} {unit} while the cell was measured"
    )


def _run_rows(record: Record) -> list[tuple[str, str]]:
    run, environment = record.run, record.environment
    version = environment.get("cellbench")
    return [
        ("bench", run.bench),
        ("started", utc(run.started)),
        ("ended", utc(run.ended)),
        ("test time", duration(record.duration_s)),
        ("parameters", _parameters(environment.get("parameters", {}))),
        ("run", run.id),
        ("seed", "" if run.seed is None else str(run.seed)),
        ("software", f"cellbench {version}" if version else ""),
    ]


def _parameters(parameters: Mapping[str, str]) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in parameters.items())


def instrument_table(record: Record) -> Table:
    """Who measured: role, name, model, serial number, firmware, remarks."""
    identities: Mapping[str, Mapping[str, Any]] = record.environment.get("instruments", {})
    roles = dict.fromkeys(channel_names(record.environment), "channel")
    roles |= {name: role for role, name in record.environment.get("roles", {}).items()}
    return Table(
        "Instruments",
        ("role", "name", "model", "serial number", "firmware", "remarks"),
        [
            (
                roles.get(name, ""),
                name,
                *(str(identity.get(key, "")) for key in ("model", "serial", "firmware")),
                "; ".join(identity.get("remarks", ())),
            )
            for name, identity in identities.items()
        ],
    )
