"""Self-discharge at open circuit: the voltage that sinks, and the charge that is missing after it.

The charged cell rests and is then discharged. Loss = 1 - Q_after / Q_before, with Q_before the
discharge of the cycle before the storage where there is one (else the charge before the storage, in
which its coulombic efficiency is not told from self-discharge). Part of the loss comes back with
the next full charge, and is named apart as reversible (IEC 61960-3, charge retention and recovery).
The slope is that of the second half of the rest, when relaxation is over.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.capacity import capacity_columns
from cellbench.analysis.cycles import HalfCycle, half_cycles
from cellbench.analysis.dataset import Dataset, Result, StepData
from cellbench.analysis.regression import line


def analyse(dataset: Dataset) -> Result:
    """Self-discharge during the longest rest of a run.

    Raises:
        ValueError: if the run has no rest with samples.
    """
    rests = [step for step in dataset.steps_of("rest") if step.duration_s > 0]
    if not rests:
        raise ValueError("No self-discharge: the run has no rest.")
    rest = max(rests, key=lambda step: step.duration_s)
    rows = dataset.samples.of((rest,))
    known = np.isfinite(rows.voltage_V)
    time_s, voltage_V = rows.time_s[known], rows.voltage_V[known]
    if len(time_s) < 4:
        raise ValueError("No self-discharge: the rest has no samples.")
    late = time_s >= (time_s[0] + time_s[-1]) / 2
    slope, half_width = line(time_s[late] - time_s[-1], voltage_V[late], dependent=True)[1]
    geometry, count = dataset.geometry, max(1, len(voltage_V) // 100)
    return {
        "rest_h": reported.number(rest.duration_s / 3600),
        "voltage_loss_mV": reported.scaled(float(voltage_V[0] - voltage_V[-1]), 1e3),
        "slope_mV_per_h": reported.scaled(slope, 3.6e6),
        "slope_interval_mV_per_h": reported.scaled(half_width, 3.6e6),
        "first_V": reported.number(geometry.potential_V(float(voltage_V[0]))),
        "last_V": reported.number(geometry.potential_V(float(np.median(voltage_V[-count:])))),
        "potential_reference": geometry.reference,
        **_charges(dataset, rest),
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The loss in lines for people."""
    lines = [
        f"{result['first_V']:.4g} V {result['potential_reference']}   "
        f"open circuit for {result['rest_h']:.4g} h",
        f"voltage       lost {result['voltage_loss_mV']:.3g} mV, at the end "
        f"{result['slope_mV_per_h']:+.2g} mV/h",
    ]
    if result["loss_percent"] is not None:
        lines.append(
            f"charge        lost {result['loss_percent']:.3g} % of the {result['loss_of']}"
        )
        lines.append(f"current       {result['current_uA_cm2']:.3g} uA/cm2 on average")
    if result["lasting_loss_percent"] is not None:
        lines.append(f"lasting       {result['lasting_loss_percent']:.3g} % after a full recharge")
    return lines


def _charges(dataset: Dataset, rest: StepData) -> Result:
    halves = half_cycles(dataset)
    before = [half for half in halves if half.start_s < rest.start_s]
    after = [half for half in halves if half.start_s >= rest.end_s - 1]
    names = ("before", "after", "recovered")
    reference, what = _reference(before)
    returned = after[0] if after and after[0].direction == "discharge" and before else None
    again = _next_discharge(after[1:]) if returned else None
    sizes = [half.capacity_C if half else None for half in (reference, returned, again)]
    loss_C = sizes[0] - sizes[1] if sizes[0] and sizes[1] is not None else None
    columns: Result = {}
    for name, charge_C in zip(names, sizes, strict=True):
        columns |= capacity_columns(dataset, charge_C, name)
    areal_A_m2 = loss_C / rest.duration_s / dataset.geometry.area_m2 if loss_C is not None else None
    lasting = 1 - sizes[2] / sizes[0] if sizes[0] and sizes[2] is not None else None
    return columns | {
        "loss_percent": reported.percent(loss_C / sizes[0] if loss_C and sizes[0] else None),
        "loss_of": what,
        "lasting_loss_percent": reported.percent(lasting),
        "current_uA_cm2": reported.scaled(areal_A_m2, 1e2),
    }


def _reference(before: Sequence[HalfCycle]) -> tuple[HalfCycle | None, str | None]:
    earlier = [half for half in before if half.direction == "discharge"]
    if earlier:
        return earlier[-1], "discharge before"
    return (before[-1], "charge before") if before else (None, None)


def _next_discharge(later: Sequence[HalfCycle]) -> HalfCycle | None:
    return next((half for half in later if half.direction == "discharge"), None)
