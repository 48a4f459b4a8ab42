"""A finished (or running) run's file as the `Dataset` that analyses, report and export look at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from cellbench.analysis.dataset import (
    INTERRUPTED,
    NOT_ENDED,
    Dataset,
    FloatArray,
    Geometry,
    Samples,
    Series,
    Spectrum,
    StepData,
)
from cellbench.cell import CardError, CellCard
from cellbench.store import JournalEntry, RunReader

#: Between two rows of one instant that are of different steps.
_INSTANT_S = 1e-6


def geometry(card: CellCard) -> Geometry:
    """What analyses need of a card's sizes."""
    return Geometry(
        area_m2=card.area_m2,
        layout=card.kind,
        electrolyte=card.electrolyte.name,
        electrolyte_thickness_m=card.electrolyte.thickness_m,
        electrolyte_area_m2=card.electrolyte_area_m2,
        active_mass_kg=card.active_mass_kg,
        nominal_capacity_C=_nominal_capacity_C(card),
        counter_potential_V=card.counter.potential_V,
        charge_sign=1.0 if card.charge_current == "positive" else -1.0,
        particle_radius_m=card.working.particle_radius_m,
    )


def _nominal_capacity_C(card: CellCard) -> float | None:
    try:
        return card.nominal_capacity_C
    except CardError:  # nobody has to say what 1C is
        return None


def environment(reader: RunReader) -> dict[str, Any]:
    """What was kept of the run's surroundings: versions, roles, identities, seed."""
    content: dict[str, Any] = json.loads(reader.documents["environment"])
    return content


def channel_names(surroundings: Mapping[str, Any]) -> list[str]:
    """Names of the instruments that measured the cell's voltage and current."""
    one: str = surroundings.get("roles", {}).get("channel", "")
    several: list[str] = surroundings.get("channels", [])
    return several or [one]


def stored_dataset(reader: RunReader, card: CellCard) -> Dataset:
    """Return a run's data, seen through a cell card (the run's own, or a corrected one)."""
    surroundings = environment(reader)
    roles: Mapping[str, str] = surroundings["roles"]
    paths = {step_id: path for step_id, (path, _) in reader.steps.items()}
    channel = reader.samples(*channel_names(surroundings))
    step_ids, times_s = channel["step"].astype(int).tolist(), channel["time_s"].tolist()
    last_rows_s = {
        paths.get(step_id, ""): around_s
        for step_id, around_s in zip(step_ids, pairwise([*times_s, math.inf]), strict=True)
    }
    return Dataset(
        geometry=geometry(card),
        steps=_holding_their_rows(stored_steps(reader), last_rows_s),
        samples=_samples(reader, channel, roles, card.stack_area_m2),
        spectra=tuple(
            Spectrum(
                time_s=stored.time_s,
                step=paths.get(stored.step, ""),
                frequency_Hz=stored.frequency_Hz,
                impedance_ohm=stored.impedance_ohm,
                temperature_K=stored.temperature_K,
                stack_pressure_Pa=stored.stack_pressure_Pa,
                bias_V=stored.bias_V,
            )
            for stored in reader.spectra()
        ),
        cell_name=card.cell,
    )


def _samples(
    reader: RunReader,
    channel: Mapping[str, FloatArray],
    roles: Mapping[str, str],
    stack_area_m2: float,
) -> Samples:
    force = reader.samples(roles.get("gauge") or roles.get("press", ""))
    chamber = reader.samples(roles.get("chamber", ""))
    return Samples(
        time_s=_apart(channel["time_s"], channel["step"]),
        voltage_V=channel["voltage_V"],
        current_A=channel["current_A"],
        stack_pressure=Series(force["time_s"], force["force_N"] / stack_area_m2),
        temperature=Series(chamber["time_s"], chamber["temperature_K"]),
        charge_C=channel["charge_C"],
    )


def _apart(time_s: FloatArray, step: FloatArray) -> FloatArray:
    """Times in which the first row of a step comes after the last one of the step before.

    A cycler tells both of one instant; to which step a row belongs is told by its time.
    """
    apart = time_s.copy()
    # Equal but for rounding, where the rows were fetched by two hosts.
    close = np.abs(np.diff(time_s)) < _INSTANT_S
    together = np.flatnonzero(close & (np.diff(step) != 0))
    apart[together + 1] = time_s[together] + _INSTANT_S
    return apart


def stored_steps(reader: RunReader) -> tuple[StepData, ...]:
    """The steps of a run as its journal tells them, in the order of their starts."""
    started: dict[str, JournalEntry] = {}
    steps = []
    for entry in reader.journal:
        if entry.kind == "step started":
            started[entry.step] = entry
        elif entry.kind == "step ended" and entry.step in started:
            end_s = entry.data.get("ended_s", entry.time_s)
            step = _step(started.pop(entry.step), end_s, entry.data["ending"])
            if step.ending != INTERRUPTED:
                steps.append(step)
    end_s = reader.journal[-1].time_s if reader.journal else np.nan
    steps += [_step(entry, end_s, NOT_ENDED) for entry in started.values()]
    return tuple(sorted(steps, key=lambda step: step.start_s))


def _holding_their_rows(
    steps: Iterable[StepData], last_rows_s: Mapping[str, tuple[float, float]]
) -> tuple[StepData, ...]:
    """Let every step reach to its last row but not to a row of the next, which begins there.

    Rows carry the instrument's time and the journal the host's: a step's last row may lie a little
    after its end, where analyses would not look for it, and the first of the next at its very end.

    Args:
        steps: In the order of their starts.
        last_rows_s: Times of each step's last row, and of the row that follows it.
    """
    held: list[StepData] = []
    under_way: list[tuple[float, float]] = []  # ends of steps, of which one can be within another
    held_until_s = -math.inf
    for step in steps:
        while under_way and under_way[-1][0] <= step.start_s:
            held_until_s = max(held_until_s, under_way.pop()[1])
        start_s = max(step.start_s, held_until_s)
        last_s, next_s = last_rows_s.get(step.path, (-math.inf, math.inf))
        end_s = max(step.end_s, last_s, start_s)
        if next_s <= end_s:
            end_s = max(last_s, start_s)
        under_way.append((step.end_s, end_s))
        held.append(replace(step, start_s=start_s, end_s=end_s))
    return tuple(held)


def _step(entry: JournalEntry, end_s: float, ending: str) -> StepData:
    return StepData(
        path=entry.step,
        kind=entry.data["verb"],
        # Of a step that a cycler ran by itself, the journal tells when that was by its rows.
        start_s=entry.data.get("began_s", entry.time_s),
        end_s=end_s,
        settings=entry.data["settings"],
        ending=ending,
    )
