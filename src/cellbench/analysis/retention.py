"""Capacity retention: discharge capacity against that of a reference cycle, which is named.

Retention without its reference cycle and rate says nothing; a benchmark states both (as Harlow et
al., J. Electrochem. Soc. 166 (2019) A3031, normalise theirs). Only cycles at one rate are compared;
the reference is the first of them, or the maximum after break-in, or a cycle given by number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.capacity import capacity_columns, capacity_text
from cellbench.analysis.cycles import Cycle, cycles, longest_series, rate_C, rate_text
from cellbench.analysis.dataset import Dataset, Result

Reference = int | Literal["first", "maximum"]


def analyse(
    dataset: Dataset,
    *,
    reference: Reference = "first",
    skip: int = 0,
    end_percent: float = 80.0,
) -> Result:
    """Retention of the longest series of cycles at one discharge current.

    Args:
        dataset: a run with cycles.
        reference: "first" cycle at that rate, "maximum" (after break-in), or a cycle's number.
        skip: how many cycles of the series are left out first (formation at the same rate).
        end_percent: the end of life whose first cycle is told.

    Raises:
        ValueError: if there is no discharge, or not the reference cycle.
    """
    series = longest_series(cycles(dataset))[skip:]
    if not series:
        raise ValueError("No retention: the run has no discharge to compare.")
    capacities_C = np.array([one.discharge.capacity_C if one.discharge else 0.0 for one in series])
    place = _reference_place(series, capacities_C.tolist(), reference)
    if not capacities_C[place]:
        raise ValueError("No retention: the reference cycle has no capacity.")
    percent = 100 * capacities_C / capacities_C[place]
    set_A = series[place].discharge.set_A if series[place].discharge else None  # type: ignore[union-attr]
    return {
        "retention_percent": reported.number(float(percent[-1])),
        "percent_of_maximum": reported.percent(float(capacities_C[-1] / capacities_C.max())),
        "reference_cycle": series[place].number,
        "reference_is": reference if isinstance(reference, str) else "given",
        "last_cycle": series[-1].number,
        "cycles": len(series),
        "cycles_since_reference": len(series) - 1 - place,
        "rate_C": reported.number(rate_C(dataset, set_A)),
        **capacity_columns(dataset, float(capacities_C[place]), "reference"),
        **capacity_columns(dataset, float(capacities_C[-1]), "last"),
        "fade_percent_per_cycle": reported.number(_fade(percent[place:])),
        "end_percent": end_percent,
        "end_reached_at_cycle": _end(series[place:], percent[place:].tolist(), end_percent),
        "rows": [
            {"cycle": one.number, "retention_percent": reported.number(float(value)),
             **capacity_columns(dataset, float(capacity_C), "discharge")}
            for one, value, capacity_C in zip(series, percent, capacities_C, strict=True)
        ],
    }  # fmt: skip


def describe(result: Mapping[str, Any]) -> list[str]:
    """The retention in lines for people."""
    rate = f" at {rate_text(result['rate_C'])}" if result["rate_C"] else ""
    kind = {"first": "first at this rate", "maximum": "maximum after break-in"}
    named = kind.get(result["reference_is"], "as given")
    lines = [
        f"retention     {result['retention_percent']:.4g} % in cycle {result['last_cycle']}{rate}"
        f" ({result['percent_of_maximum']:.4g} % of the maximum)",
        f"reference     cycle {result['reference_cycle']} ({named}): "
        f"{capacity_text(result, 'reference')}",
    ]
    if result["end_reached_at_cycle"] is not None:
        end = f"below {result['end_percent']:g} % from cycle {result['end_reached_at_cycle']} on"
        lines.append(f"end of life   {end}")
    return lines


def _reference_place(
    series: Sequence[Cycle], capacities_C: Sequence[float], reference: Reference
) -> int:
    if reference == "first":
        return 0
    if reference == "maximum":
        return int(np.argmax(capacities_C))
    numbers = [cycle.number for cycle in series]
    if reference not in numbers:
        raise ValueError(f"No retention: cycle {reference} is not among those at this rate.")
    return numbers.index(int(reference))


def _fade(percent: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    """Loss per cycle in percent of the reference, from a straight line; None for one cycle."""
    if len(percent) < 2:
        return None
    return -float(np.polyfit(np.arange(len(percent)), percent, 1)[0])


def _end(series: Sequence[Cycle], percent: Sequence[float], end_percent: float) -> int | None:
    """The first cycle from which on the capacity stays below the end of life."""
    below = None
    for cycle, value in zip(series, percent, strict=True):
        if value >= end_percent:
            below = None
        elif below is None:
            below = cycle.number
    return below
