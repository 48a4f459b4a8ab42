"""Resistance from current pulses: the voltage step over the current step, at declared times.

R(t) = (V(t) - V0) / (I - I0), with V0 and I0 the last readings before the pulse, as in hybrid pulse
power characterisation (Christophersen, Battery Test Manual for Electric Vehicles, INL/EXT-15-34184,
2015, ch. 3). A time without its unit of pulse means little: 1 s shows electrolyte and charge
transfer, 10 s and more diffusion as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.cycles import Piece, piece_of
from cellbench.analysis.dataset import Dataset, Result, StepData

_DRIVEN = ("charge", "discharge", "current")


def analyse(
    dataset: Dataset,
    *,
    times_s: Sequence[float] = (1.0, 10.0, 30.0),
    longest_s: float = 300.0,
) -> Result:
    """Resistance of every pulse.

    Args:
        dataset: a run with short steps of constant current after rests or other currents.
        times_s: after the step of current, at which the resistance is read.
        longest_s: how long a step may be to be a pulse.

    Raises:
        ValueError: if the run has no pulse.
    """
    rows = [
        row
        for before, pulse in _pulses(dataset, longest_s)
        if (row := _row(dataset, before, pulse, times_s)) is not None
    ]
    if not rows:
        raise ValueError(
            f"No pulse resistance: no current of at most {longest_s:g} s after a rest."
        )
    return {
        "times_s": [float(time_s) for time_s in times_s],
        "pulses": len(rows),
        **{
            name: reported.median(row[name] for row in rows)
            for name in ("R_end_ohm", "R_end_ohm_cm2", *(f"R_{t:g}s_ohm" for t in times_s))
        },
        "pulse_s": reported.median(row["pulse_s"] for row in rows),
        "potential_reference": dataset.geometry.reference,
        "rows": rows,
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The resistances in lines for people."""
    lines = [
        f"{f'at {time_s:g} s':<13} {result[f'R_{time_s:g}s_ohm']:.4g} Ω"
        for time_s in result["times_s"]
        if result[f"R_{time_s:g}s_ohm"] is not None
    ]
    lines.append(
        f"at the end    {result['R_end_ohm']:.4g} Ω ({result['R_end_ohm_cm2']:.4g} Ω cm2) "
        f"after {result['pulse_s']:.3g} s, median of {result['pulses']} pulses"
    )
    return lines


def _pulses(dataset: Dataset, longest_s: float) -> Iterator[tuple[StepData, StepData]]:
    steps = [step for step in dataset.steps if step.kind in (*_DRIVEN, "rest")]
    for before, step in pairwise(steps):
        if step.kind in _DRIVEN and step.duration_s <= longest_s and before.kind == "rest":
            yield before, step


def _row(
    dataset: Dataset, before: StepData, step: StepData, times_s: Sequence[float]
) -> Result | None:
    rest, pulse = piece_of(dataset.samples, before), piece_of(dataset.samples, step)
    set_A = pulse.set_A
    if not len(rest.time_s) or len(pulse.time_s) < 2 or not set_A:
        return None
    rested_V, area_m2 = float(rest.voltage_V[-1]), dataset.geometry.area_m2
    last_s = float(pulse.time_s[-1] - step.start_s)
    end_ohm = (float(pulse.voltage_V[-1]) - rested_V) / set_A
    sign = set_A * dataset.geometry.charge_sign
    return {
        "step": step.path,
        "direction": "charge" if sign > 0 else "discharge",
        "potential_V": reported.number(dataset.geometry.potential_V(rested_V)),
        "current_density_mA_cm2": reported.milliampere_per_cm2(abs(set_A) / area_m2),
        **{f"R_{t:g}s_ohm": reported.number(_at(pulse, t, rested_V, set_A)) for t in times_s},
        "R_end_ohm": reported.number(end_ohm),
        "R_end_ohm_cm2": reported.ohm_cm2(end_ohm * area_m2),
        "pulse_s": reported.number(last_s),
    }


def _at(pulse: Piece, time_s: float, rested_V: float, set_A: float) -> float | None:
    """Between the two readings around a time; None where there is none close enough."""
    elapsed_s = pulse.time_s - pulse.step.start_s
    if time_s > elapsed_s[-1] * 1.01 or time_s < 0.5 * elapsed_s[0]:
        return None
    return (float(np.interp(time_s, elapsed_s, pulse.voltage_V)) - rested_V) / set_A
