"""Long plating and stripping of a symmetric cell: cycles until polarisation rises, and to a short.

The polarisation of a cycle is half the difference of its two median voltages, which an offset does
not touch. It has *risen* from the first cycle on from which it stays above 1.5 times its reference
(median of cycles 2 to 11). A *short* is told as in the critical-current ramp, by the same
judgement that ends a running test: apparent resistance below half the electrolyte's (without a
spectrum: below half that of the half-cycles before) for 60 s, again after reversal, and not
refuted by the next spectrum. Interphases and voids raise the voltage, dendrites lower it: loss of
contact and short circuits are the two ways in which such cells fail (Lu et al., Adv. Funct. Mater.
31 (2021) 2009925).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.ccd import judged_half_cycles
from cellbench.analysis.cycles import Cycle, HalfCycle, cycles
from cellbench.analysis.dataset import Dataset, Result

_REFERENCE_CYCLES = slice(1, 11)


def analyse(dataset: Dataset, *, risen: float = 1.5) -> Result:
    """Polarisation per cycle and the cycles to failure.

    Args:
        dataset: a run that plates and strips in turn.
        risen: multiple of the reference polarisation that counts as risen.

    Raises:
        ValueError: if no cycle is complete.
    """
    begun = cycles(dataset)
    ran = [cycle for cycle in begun if cycle.complete]
    if not ran:
        raise ValueError("No symmetric cycling: no cycle ran in both directions.")
    levels_V = [_polarisation_V(cycle) for cycle in ran]
    reference_V = float(np.median(levels_V[_REFERENCE_CYCLES] or levels_V))
    rise = _risen_from(ran, levels_V, risen * reference_V)
    short, reason = _shorted_at(dataset, begun)
    start_s, end_s = _halves(ran)[0].start_s, _halves(ran)[-1].end_s
    return {
        "verdict": "short" if short else "polarisation risen" if rise else "not_reached",
        "cycles": len(ran),
        "risen_at_cycle": rise,
        "short_at_cycle": short,
        "short_reason": reason,
        "survived_cycles": (short - 1) if short else len(ran),
        "hours": reported.number((end_s - start_s) / 3600),
        "polarisation_reference_V": reported.number(reference_V),
        "polarisation_last_V": reported.number(levels_V[-1]),
        "polarisation_growth_percent": reported.percent(_growth(levels_V, short, reference_V)),
        **_conditions(dataset, ran),
        "rows": [_row(cycle, level_V) for cycle, level_V in zip(ran, levels_V, strict=True)],
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """The cycles to failure in lines for people."""
    density, capacity = result["current_density_mA_cm2"], result["areal_capacity_mAh_cm2"]
    lines = [f"{density:.3g} mA/cm2   {capacity:.3g} mAh/cm2 per half-cycle"]
    more = "" if result["short_at_cycle"] else "more than "
    lines.append(f"cycles        {more}{result['survived_cycles']} ({result['hours']:.4g} h)")
    if result["risen_at_cycle"]:
        lines.append(f"polarisation  rose for good from cycle {result['risen_at_cycle']} on")
    if result["short_at_cycle"]:
        why = result["short_reason"]
        lines.append(f"short         in cycle {result['short_at_cycle']} ({why})")
    reference, last = result["polarisation_reference_V"], result["polarisation_last_V"]
    lines.append(f"voltage       {reference:.3g} V at first, {last:.3g} V in the last cycle")
    return lines


def _median_V(half: HalfCycle) -> float:
    flowing = np.abs(half.current_A) > 0.8 * (half.set_A or 0.0)
    values = half.voltage_V[flowing] if flowing.any() else half.voltage_V
    return float(np.median(values)) if len(values) else 0.0


def _polarisation_V(cycle: Cycle) -> float:
    levels = [_median_V(half) for half in (cycle.first, cycle.second) if half]
    return abs(levels[0] - levels[-1]) / 2


def _risen_from(ran: Sequence[Cycle], levels_V: Sequence[float], limit_V: float) -> int | None:
    """The first of five cycles in a row above the limit; a short afterwards does not undo it."""
    above = [level_V > limit_V for level_V in levels_V]
    for index in range(len(ran)):
        if all(above[index : index + 5]):
            return ran[index].number if len(ran) - index >= 2 else None
    return None


def _shorted_at(dataset: Dataset, begun: Sequence[Cycle]) -> tuple[int | None, str | None]:
    """The first cycle with a hard short, whole or not, and why it is one."""
    pieces = [
        (cycle.number, piece.step)
        for cycle in begun
        for half in (cycle.first, cycle.second)
        if half
        for piece in half.pieces
    ]
    cycle_of = {step.path: number for number, step in pieces}
    steps = dataset.steps or tuple(step for _, step in pieces)
    judged = judged_half_cycles(replace(dataset, steps=steps))
    for step, judgement in zip(judged.steps, judged.judgements, strict=True):
        if judgement.verdict == "short" and step.path in cycle_of:
            return cycle_of[step.path], judgement.reasons[0]
    return None, None


def _growth(levels_V: Sequence[float], short: int | None, reference_V: float) -> float | None:
    """Of the last sound tenth over the reference."""
    sound = levels_V[: short - 1] if short else levels_V
    late = sound[-max(1, len(sound) // 10) :]
    return float(np.median(late)) / reference_V - 1 if late and reference_V else None


def _conditions(dataset: Dataset, ran: Sequence[Cycle]) -> Result:
    halves = _halves(ran)
    area_m2, start_s, end_s = dataset.geometry.area_m2, halves[0].start_s, halves[-1].end_s
    capacity = float(np.median([half.capacity_C for half in halves]))
    set_A = float(np.median([half.set_A or 0.0 for half in halves]))
    return {
        "current_density_mA_cm2": reported.milliampere_per_cm2(set_A / area_m2),
        "areal_capacity_mAh_cm2": reported.milliampere_hour_per_cm2(capacity / area_m2),
        "stack_pressure_MPa": reported.megapascal(dataset.stack_pressure_Pa(start_s, end_s)),
        "temperature_degC": reported.degree_celsius(dataset.temperature_K(start_s, end_s)),
    }


def _halves(ran: Sequence[Cycle]) -> list[HalfCycle]:
    return [half for cycle in ran for half in (cycle.first, cycle.second) if half]


def _row(cycle: Cycle, level_V: float) -> Result:
    first = cycle.first
    return {
        "cycle": cycle.number,
        "time_h": reported.number(first.start_s / 3600 if first else None),
        "polarisation_V": reported.number(level_V),
    }
