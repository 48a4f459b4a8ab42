"""Judging the half-cycles of a symmetric cell one against another: levels, and a verdict for each.

A half-cycle's verdict looks only at itself, at those before it and at the one after it, so that
the engine (which has no later ones yet) and the analysis of the finished run say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from cellbench.analysis.cycles import same_current
from cellbench.analysis.half_cycle import DEFAULT, HalfCycle, Thresholds, is_hard_short

Verdict: TypeAlias = Literal["stable", "irregular", "soft short", "short", "cut off", "unjudged"]


@dataclass(frozen=True)
class Judgement:
    """A verdict, why, and how many seconds into the half-cycle its cause was seen (if known).

    A stable half-cycle may have reasons too: an irregularity that did not last is not a verdict.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    after_s: float | None = None


def judge(
    half_cycles: Sequence[HalfCycle],
    *,
    noise_V: float | None = None,
    rest_noise_V: float = 0.0,
    confirmed: Sequence[bool | None] | None = None,
    proven: Sequence[bool] | None = None,
    thresholds: Thresholds = DEFAULT,
) -> list[Judgement]:
    """Judge each half-cycle of a ramp or of a long test, in the order in which they ran.

    Args:
        half_cycles: the finished ones, in order.
        noise_V: standard deviation of the instrument's noise. Where None, that of the quietest
            half-cycle so far is taken: a half-cycle's own may be the cell's irregularity.
        rest_noise_V: what it is at rest, and hence at least.
        confirmed: for each, what `spectrum_shows_short` said of the next spectrum; None: unknown.
        proven: for each, whether `spectrum_proves_short` said so of the spectrum right after it.
        thresholds: the limits.
    """
    known = list(confirmed) if confirmed is not None else [None] * len(half_cycles)
    noises_V = _noise_so_far(half_cycles, noise_V, rest_noise_V)
    signs = _signs_of_irregularity(half_cycles, noises_V, thresholds)
    return [
        _proven(half_cycles[index])
        if proven is not None and proven[index]
        else _verdict(half_cycles, signs, known[index], index, thresholds)
        for index in range(len(half_cycles))
    ]


def _proven(half_cycle: HalfCycle) -> Judgement:
    text = "the spectrum after it has lost its arc and part of the electrolyte's resistance"
    return Judgement("short", (text,), half_cycle.step_after_s)


def levels(half_cycles: Sequence[HalfCycle]) -> list[range]:
    """Indices of neighbouring half-cycles with the same current density, whatever its sign."""
    starts = [
        index
        for index in range(len(half_cycles))
        if index == 0
        or not same_current(half_cycles[index - 1].current_A, half_cycles[index].current_A)
    ]
    ends = [*starts[1:], len(half_cycles)]
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]


def asymmetry(one: HalfCycle, other: HalfCycle) -> float | None:
    """| |V+| - |V-| | over their mean; None unless both ran at one current, in both directions."""
    opposite = one.current_A * other.current_A < 0 and same_current(one.current_A, other.current_A)
    if not opposite or one.voltage_V is None or other.voltage_V is None:
        return None
    mean_V = (abs(one.voltage_V) + abs(other.voltage_V)) / 2
    return abs(one.voltage_V - other.voltage_V) / mean_V if mean_V else None


def _noise_so_far(
    half_cycles: Sequence[HalfCycle],
    noise_V: float | None,
    rest_noise_V: float,
) -> list[float]:
    if noise_V is not None:
        return [noise_V] * len(half_cycles)
    own = np.array([half_cycle.noise_V or np.inf for half_cycle in half_cycles])
    quietest = np.minimum.accumulate(own)
    return [
        max(float(own_V), rest_noise_V) if own_V < np.inf else rest_noise_V for own_V in quietest
    ]


def _signs_of_irregularity(
    half_cycles: Sequence[HalfCycle],
    noises_V: Sequence[float],
    thresholds: Thresholds,
) -> list[list[str]]:
    signs: list[list[str]] = []
    flat, counted = 0, 0
    for index, (half_cycle, noise_V) in enumerate(zip(half_cycles, noises_V, strict=True)):
        drifted = _drifted(half_cycle, noise_V, thresholds)
        was_flat = counted >= 2 and 2 * flat > counted
        signs.append(_own_signs(half_cycle, noise_V, thresholds, drifted and was_flat))
        if index and _asymmetric(half_cycles[index - 1], half_cycle, noise_V, thresholds):
            text = f"asymmetry of {_percent(asymmetry(half_cycles[index - 1], half_cycle))}"
            signs[index - 1].append(text)
            signs[index].append(text)
        if half_cycle.end_ratio is not None:
            counted, flat = counted + 1, flat + (not drifted)
    return signs


def _own_signs(
    half_cycle: HalfCycle,
    noise_V: float,
    thresholds: Thresholds,
    bent: bool,
) -> list[str]:
    if half_cycle.voltage_V is None or half_cycle.rms_V is None:
        return []
    level_V, floor_V = abs(half_cycle.voltage_V), thresholds.sigmas * noise_V
    signs = []
    if half_cycle.step > thresholds.step and half_cycle.step_V > floor_V:
        signs.append(f"voltage steps of {_percent(half_cycle.step)}")
    if half_cycle.rms_V > max(thresholds.rms * level_V, floor_V):
        signs.append(f"voltage unsteady by {_percent(half_cycle.rms_V / level_V)} rms")
    if bent and half_cycle.end_ratio is not None:
        signs.append(f"voltage at the end {half_cycle.end_ratio:.2f} of that at 10 %")
    return signs


def _drifted(half_cycle: HalfCycle, noise_V: float, thresholds: Thresholds) -> bool:
    if half_cycle.end_ratio is None or half_cycle.end_change_V is None:
        return False
    within = thresholds.end_ratio_low <= half_cycle.end_ratio <= thresholds.end_ratio_high
    return not within and abs(half_cycle.end_change_V) > thresholds.sigmas * noise_V


def _asymmetric(
    one: HalfCycle,
    other: HalfCycle,
    noise_V: float,
    thresholds: Thresholds,
) -> bool:
    relative = asymmetry(one, other)
    if relative is None or one.voltage_V is None or other.voltage_V is None:
        return False
    above_noise = abs(one.voltage_V - other.voltage_V) > thresholds.sigmas * noise_V
    return relative > thresholds.asymmetry and above_noise


def _verdict(
    half_cycles: Sequence[HalfCycle],
    signs: Sequence[list[str]],
    confirmed: bool | None,
    index: int,
    thresholds: Thresholds,
) -> Judgement:
    half_cycle, own = half_cycles[index], tuple(signs[index])
    following = half_cycles[index + 1] if index + 1 < len(half_cycles) else None
    if half_cycle.voltage_V is None:
        return Judgement("unjudged", (f"only {half_cycle.samples} usable samples",))
    if is_hard_short(half_cycle, following, confirmed, thresholds):
        return Judgement("short", (_short_text(half_cycle, confirmed, thresholds), *own))
    after_s = half_cycle.step_after_s if half_cycle.step > thresholds.step else None
    if half_cycle.soft_shorted_s > thresholds.soft_short_s:
        return Judgement("soft short", (_soft_text(half_cycle), *own), after_s)
    neighbours = (*signs[max(index - 1, 0) : index], *signs[index + 1 : index + 2])
    if own and (any(neighbours) or not half_cycle.complete):
        return Judgement("irregular", own, after_s if "steps" in own[0] else None)
    if not half_cycle.complete:
        return Judgement("cut off", (f"ended after {half_cycle.duration_s:.0f} s",))
    return Judgement("stable", own)


def _short_text(half_cycle: HalfCycle, confirmed: bool | None, thresholds: Thresholds) -> str:
    proof = "confirmed by spectrum" if confirmed else "no spectrum to confirm it"
    ratio = half_cycle.resistance_ratio
    if ratio is not None and ratio < thresholds.hard:
        return f"apparent resistance {ratio:.2f} of the electrolyte's; {proof}"
    return (
        f"apparent resistance below {thresholds.hard:g} of the electrolyte's for "
        f"{half_cycle.shorted_s:.0f} s; {proof}"
    )


def _soft_text(half_cycle: HalfCycle) -> str:
    end = "recovering" if half_cycle.recovered else "not recovering"
    return (
        f"soft short: apparent resistance below the electrolyte's for "
        f"{half_cycle.soft_shorted_s:.0f} s, {end}"
    )


def _percent(fraction: float | None) -> str:
    return f"{100 * (fraction or 0):.2g} %"
