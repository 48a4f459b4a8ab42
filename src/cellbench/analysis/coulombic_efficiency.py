"""Coulombic efficiency: what comes back of the charge that was passed first.

Full cells Q_discharge / Q_charge; lithium plated on copper and stripped again Q_strip / Q_plate
(Adams et al., Adv. Energy Mater. 8 (2018) 1702097, method 1: every cycle by itself). Plating comes
first. The initial efficiency is that of cycle 1; the typical one leaves it out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.capacity import capacity_columns, efficiency_percent
from cellbench.analysis.cycles import Cycle, cycles, longest_series
from cellbench.analysis.dataset import Dataset, Result


def analyse(dataset: Dataset, *, last: int = 10, exhausted_percent: float = 1.0) -> Result:
    """Efficiency of every complete cycle.

    Args:
        dataset: a run with cycles.
        last: over how many of the last cycles at the usual current the mean is taken; the first
            cycle is never among them, nor are check-ups at another current.
        exhausted_percent: below it a cycle counts as one that gave nothing back.

    Raises:
        ValueError: if no cycle is complete.
    """
    complete = [cycle for cycle in cycles(dataset) if cycle.complete and cycle.number > 0]
    if not complete:
        raise ValueError("No coulombic efficiency: no cycle ran in both directions.")
    rows = [_row(dataset, cycle) for cycle in complete]
    values = [row["coulombic_efficiency_percent"] for row in rows]
    usual = {cycle.number for cycle in longest_series(complete)}
    later = [row["coulombic_efficiency_percent"] for row in rows[1:] if row["cycle"] in usual]
    tail = [value for value in later[-last:] if value is not None]
    return {
        "definition": _definition(dataset, complete[0]),
        "first_percent": values[0],
        "last_percent": values[-1],
        "mean_percent": reported.number(float(np.mean(tail)) if tail else None),
        "mean_over_cycles": len(tail),
        "lowest_percent": reported.smallest(values),
        "highest_percent": reported.largest(values),
        "cycles": len(rows),
        "exhausted_at_cycle": _exhausted(rows, exhausted_percent),
        "rows": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The efficiencies in lines for people."""
    lines = [f"first cycle   {_percent(result['first_percent'])} ({result['definition']})"]
    if result["mean_percent"] is not None:
        count = result["mean_over_cycles"]
        lines.append(f"mean          {_percent(result['mean_percent'])} over {count} later cycles")
    if result["cycles"] > 1:
        lines.append(f"last cycle    {_percent(result['last_percent'])} (of {result['cycles']})")
    if result["exhausted_at_cycle"] is not None:
        lines.append(f"exhausted     nothing came back in cycle {result['exhausted_at_cycle']}")
    return lines


def _row(dataset: Dataset, cycle: Cycle) -> Result:
    first, second = cycle.first, cycle.second
    return {
        "cycle": cycle.number,
        **capacity_columns(dataset, first.capacity_C if first else None, "passed"),
        **capacity_columns(dataset, second.capacity_C if second else None, "returned"),
        "coulombic_efficiency_percent": efficiency_percent(cycle),
    }


def _definition(dataset: Dataset, cycle: Cycle) -> str:
    plates = dataset.geometry.layout == "half" and dataset.geometry.active_mass_kg is None
    if plates or (cycle.first and cycle.first.direction == "discharge"):
        return "Q strip / Q plate"
    return "Q discharge / Q charge"


def _exhausted(rows: list[Result], below_percent: float) -> int | None:
    values = ((row["cycle"], row["coulombic_efficiency_percent"]) for row in rows)
    return next((cycle for cycle, value in values if value is not None and value < below_percent),
                None)  # fmt: skip


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g} %"
