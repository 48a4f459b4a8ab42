"""Rate capability: discharge capacity at each rate of a staircase, and what returns at the end.

One row per block of neighbouring cycles at one discharge current; the block's capacity is the
median of its cycles (the usual staircase, as analysed by Tian et al., Nat. Commun. 10 (2019) 1933).
Return is the capacity of a later block at a rate that came before, over that of the earlier block:
it tells lasting loss from polarisation.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.capacity import capacity_columns, capacity_text, efficiency_percent
from cellbench.analysis.cycles import Cycle, HalfCycle, cycles, rate_C, rate_text, same_current
from cellbench.analysis.dataset import Dataset, Result


def analyse(dataset: Dataset, *, skip: int = 0) -> Result:
    """Capacity per rate.

    Args:
        dataset: a run with cycles at several rates.
        skip: how many cycles at the beginning (break-in) are left out.

    Raises:
        ValueError: if nothing was discharged.
    """
    ran = [cycle for cycle in cycles(dataset) if cycle.discharge is not None][skip:]
    if not ran:
        raise ValueError("No rate table: the run has no discharge.")
    rows = [_row(dataset, block) for block in _blocks(ran)]
    for index, row in enumerate(rows):
        row["return_percent"] = _return(rows[:index], row)
    returns = [row["return_percent"] for row in rows if row["return_percent"] is not None]
    return {
        "lowest_rate_C": reported.smallest(row["rate_C"] for row in rows),
        "highest_rate_C": reported.largest(row["rate_C"] for row in rows),
        "return_percent": returns[-1] if returns else None,
        "rates": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """One line per rate."""
    lines = [
        f"{'at ' + _name(row):<13} {capacity_text(row, 'discharge')}" for row in result["rates"]
    ]
    if result["return_percent"] is not None:
        lines.append(f"return        {result['return_percent']:.4g} % at {_name(_last(result))}")
    return lines


def _last(result: Mapping[str, Any]) -> Mapping[str, Any]:
    rows: Sequence[Mapping[str, Any]] = result["rates"]
    return [row for row in rows if row["return_percent"] is not None][-1]


def _name(row: Mapping[str, Any]) -> str:
    if row["rate_C"] is not None:
        return rate_text(row["rate_C"])
    return f"{row['current_density_mA_cm2']:.3g} mA/cm2"


def _half(cycle: Cycle) -> HalfCycle:
    assert cycle.discharge is not None  # noqa: S101 - those without were left out
    return cycle.discharge


def _blocks(ran: Sequence[Cycle]) -> list[list[Cycle]]:
    blocks = [[ran[0]]]
    for before, cycle in pairwise(ran):
        if same_current(_half(before).set_A, _half(cycle).set_A):
            blocks[-1].append(cycle)
        else:
            blocks.append([cycle])
    return blocks


def _row(dataset: Dataset, block: Sequence[Cycle]) -> Result:
    set_A = _half(block[0]).set_A
    capacities_C = [_half(cycle).capacity_C for cycle in block]
    return {
        "rate_C": reported.number(rate_C(dataset, set_A)),
        "current_density_mA_cm2": reported.milliampere_per_cm2(
            None if set_A is None else set_A / dataset.geometry.area_m2
        ),
        "first_cycle": block[0].number,
        "last_cycle": block[-1].number,
        **capacity_columns(dataset, float(np.median(capacities_C)), "discharge"),
        "coulombic_efficiency_percent": reported.median(map(efficiency_percent, block)),
        "mean_V": reported.median(
            _half(cycle).energy_J / charge_C if charge_C else None
            for cycle, charge_C in zip(block, capacities_C, strict=True)
        ),
    }


def _return(earlier: Sequence[Result], row: Result) -> float | None:
    """Against the first block at the same rate; neighbouring blocks are never at one rate."""
    now = row["current_density_mA_cm2"]
    for before in earlier:
        then = before["current_density_mA_cm2"]
        if now is not None and same_current(now, then) and before["discharge_mAh"]:
            return reported.percent(row["discharge_mAh"] / before["discharge_mAh"])
    return None
