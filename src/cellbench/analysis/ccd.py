"""Critical current density of a symmetric cell: a verdict with two levels, irregular and short.

It is the largest current density that the cell bears without failure (Lu et al., Adv. Funct. Mater.
31 (2021) 2009925): the last level before the first bad one, which a ramp brackets by its steps.
The half-cycles are the steps of kind "current". Each is measured by `half_cycle_verdict`, judged
against its neighbours by `ramp.judge`, and the ramp's verdict is that of its first bad level. A
CCD means little without areal capacity, stack pressure and temperature: they are always reported.

*Irregular* is what two half-cycles running show: unsteady by more than 2 % rms about their trend
(and five times the noise), more than 20 % between the two directions, an end outside 0.8 to 1.25 of
the beginning where the cell was flat before, or a step of more than 10 %. A *soft short* leaves 0.5
to 0.9 of the electrolyte's resistance, a *short* less than half of it for 60 s, in the next
half-cycle too, and not refuted by the next spectrum; a spectrum proves one by itself where the arc
is gone and a quarter of the electrolyte's resistance with it. A rising voltage is never a short.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from cellbench.analysis import reported
from cellbench.analysis.dataset import Dataset, Result, Spectrum, StepData
from cellbench.analysis.equivalents import electrolyte_resistance_ohm
from cellbench.analysis.half_cycle import (
    DEFAULT,
    HalfCycle,
    Thresholds,
    estimate_noise_V,
    half_cycle_verdict,
    is_hard_short,
    spectrum_proves_short,
    spectrum_shows_short,
)
from cellbench.analysis.ramp import Judgement, asymmetry, judge, levels
from cellbench.analysis.warming import USUAL_ENERGY_EV, warming

__all__ = [
    "HalfCycle",
    "Thresholds",
    "analyse",
    "describe",
    "half_cycle_verdict",
    "is_hard_short",
    "judge",
    "spectrum_shows_short",
]

_FAILED = ("short", "soft short", "irregular")
_WORST_FIRST = ("short", "soft short", "irregular", "unjudged", "cut off", "stable")


def analyse(
    dataset: Dataset,
    *,
    noise_V: float | None = None,
    offset_V: float | None = None,
    activation_energy_eV: float = USUAL_ENERGY_EV,
    **thresholds: float,
) -> Result:
    """The critical current density of a ramp, with what every level looked like.

    Args:
        dataset: a run with steps of kind "current", on a symmetric cell.
        noise_V: standard deviation of the instrument's noise; by default that of the quietest
            half-cycle so far, and at least that of the rest before the ramp.
        offset_V: voltage at rest, subtracted; by default measured before the ramp, else 0.
        activation_energy_eV: of the electrolyte, to follow its resistance while the cell warms
            or cools (only where the temperature is known).
        **thresholds: any field of `Thresholds`.

    Raises:
        ValueError: if the run has no half-cycle.
    """
    limits = replace(DEFAULT, **thresholds)
    judged = judged_half_cycles(
        dataset,
        noise_V=noise_V,
        offset_V=offset_V,
        activation_energy_eV=activation_energy_eV,
        limits=limits,
    )
    rows = [_row(judged.ramp, judged.judgements, level) for level in levels(judged.ramp)]
    return _summary(dataset, rows) | {
        "R_electrolyte_ohm": reported.number(judged.reference.resistance_ohm),
        "short_seen_against": judged.reference.text,
        "noise_V": reported.number(judged.rest_noise_V if noise_V is None else noise_V),
        "offset_V": reported.number(judged.offset_V),
        "steps": rows,
    }


@dataclass(frozen=True)
class Judged:
    """Every half-cycle of a run with its verdict; one entry per step in the first three."""

    steps: Sequence[StepData]
    ramp: Sequence[HalfCycle]
    judgements: Sequence[Judgement]
    reference: "_Reference"
    offset_V: float
    rest_noise_V: float


def judged_half_cycles(
    dataset: Dataset,
    *,
    noise_V: float | None = None,
    offset_V: float | None = None,
    activation_energy_eV: float = USUAL_ENERGY_EV,
    limits: Thresholds = DEFAULT,
) -> Judged:
    """Measure and judge all half-cycles of a run, a ramp or a long test; arguments as `analyse`.

    Raises:
        ValueError: if the run has no half-cycle.
    """
    steps = _half_cycle_steps(dataset)
    rest_V, rest_noise_V = _at_rest(dataset, steps[0].start_s)
    offset = rest_V if offset_V is None else offset_V
    reference = _Reference.before(dataset, steps[0].start_s, activation_energy_eV)
    ramp = _measure(dataset, steps, reference, offset, limits)
    judgements = judge(
        ramp,
        noise_V=noise_V,
        rest_noise_V=rest_noise_V,
        confirmed=[_confirmed(dataset, step, reference.spectrum, limits) for step in steps],
        proven=_proven(dataset, steps, activation_energy_eV, limits),
        thresholds=limits,
    )
    return Judged(steps, ramp, judgements, reference, offset, rest_noise_V)


def describe(result: Mapping[str, Any]) -> list[str]:
    """The verdict in lines for people."""
    lines = [_conditions(result), f"last stable   {_current(result['last_stable_mA_cm2'])}"]
    for name in ("irregular", "short"):
        if result[f"{name}_at_mA_cm2"] is not None:
            at = _current(result[f"{name}_at_mA_cm2"])
            lines.append(f"{name + ' at':<14}{at} ({result[f'{name}_reason']})")
    if result["beyond_mA_cm2"] is not None:
        lines.append(f"not reached, > {_current(result['beyond_mA_cm2'])}")
    return lines


@dataclass(frozen=True)
class _Reference:
    """The resistance that a short is seen against: the electrolyte's before the ramp, if known."""

    spectrum: Spectrum | None
    resistance_ohm: float | None
    temperature_K: float | None
    activation_energy_eV: float

    @classmethod
    def before(cls, dataset: Dataset, time_s: float, activation_energy_eV: float) -> "_Reference":
        earlier = [spectrum for spectrum in dataset.spectra if spectrum.time_s < time_s]
        if not earlier:
            return cls(None, None, None, activation_energy_eV)
        spectrum = max(earlier, key=lambda one: one.time_s)
        temperature_K = spectrum.temperature_K
        if temperature_K is None:
            temperature_K = dataset.temperature_K(spectrum.time_s, spectrum.time_s)
        ohm = electrolyte_resistance_ohm(spectrum)
        return cls(spectrum, ohm, temperature_K, activation_energy_eV)

    @property
    def text(self) -> str:
        if self.resistance_ohm is None:
            return "median apparent resistance of the stable half-cycles before (no spectrum)"
        return "electrolyte resistance of the spectrum before the ramp"

    def at(self, temperature_K: float | None) -> float | None:
        """The resistance at another temperature."""
        ohm = self.resistance_ohm
        if ohm is None:
            return None
        return ohm * warming(self.temperature_K, temperature_K, self.activation_energy_eV)


def _half_cycle_steps(dataset: Dataset) -> list[StepData]:
    steps = [step for step in dataset.steps_of("current") if step.number("current_A") != 0]
    if not steps:
        raise ValueError("No half-cycle to judge: the run has no step of constant current.")
    return steps


def _at_rest(dataset: Dataset, before_s: float) -> tuple[float, float]:
    """Voltage (V) and noise (V) in the second half of the last rest before the ramp."""
    rests = [step for step in dataset.steps_of("rest") if step.end_s <= before_s + 1]
    if not rests:
        return 0.0, 0.0
    last = rests[-1]
    rows = dataset.samples.between(last.start_s + last.duration_s / 2, last.end_s)
    voltage_V = rows.voltage_V[np.isfinite(rows.voltage_V)]
    noise_V = estimate_noise_V(voltage_V)
    offset_V = float(np.median(voltage_V)) if len(voltage_V) else 0.0
    return offset_V, noise_V if noise_V > 0 else 0.0


def _measure(
    dataset: Dataset,
    steps: Sequence[StepData],
    reference: _Reference,
    offset_V: float,
    limits: Thresholds,
) -> list[HalfCycle]:
    ramp: list[HalfCycle] = []
    for step in steps:
        ohm = reference.at(dataset.temperature_K(step.start_s, step.end_s))
        ours = limits
        if ohm is None:
            # Interfaces are in this reference, and theirs falls with current: no soft limit.
            ohm, ours = _earlier_ohm(ramp, limits), replace(limits, soft=limits.hard)
        ramp.append(_measure_one(dataset, step, ohm, offset_V, ours))
    return ramp


def _measure_one(
    dataset: Dataset,
    step: StepData,
    ohm: float | None,
    offset_V: float,
    limits: Thresholds,
) -> HalfCycle:
    rows = dataset.samples.of((step,))
    asked_s = step.number("duration_s")
    return half_cycle_verdict(
        rows.time_s,
        rows.voltage_V,
        rows.current_A,
        dataset.geometry.area_m2,
        ohm,
        set_current_A=step.number("current_A"),
        start_s=step.start_s,
        offset_V=offset_V,
        complete=asked_s is None or step.duration_s >= 0.98 * asked_s,
        thresholds=limits,
    )


def _earlier_ohm(ramp: Sequence[HalfCycle], limits: Thresholds) -> float | None:
    sound = [
        one.voltage_V / abs(one.current_A)
        for one in ramp
        if one.voltage_V is not None and one.shorted_s < limits.hard_short_s
    ]
    return float(np.median(sound)) if sound else None


def _confirmed(
    dataset: Dataset,
    step: StepData,
    reference: Spectrum | None,
    limits: Thresholds,
) -> bool | None:
    first = _spectrum_after(dataset, step)
    if reference is None or first is None:
        return None
    return spectrum_shows_short(first, reference, limits)


def _proven(
    dataset: Dataset, steps: Sequence[StepData], energy_eV: float, limits: Thresholds
) -> list[bool]:
    """Which half-cycles are followed by a spectrum that, against the one before, proves a short."""
    spectra = sorted(dataset.spectra, key=lambda one: one.time_s)
    ends_s = np.array([step.end_s for step in steps])
    proven = [False] * len(steps)
    for sound, spectrum in pairwise(spectra):
        warmer = warming(sound.temperature_K, spectrum.temperature_K, energy_eV)
        last = int(np.searchsorted(ends_s, spectrum.time_s + 1, "right")) - 1
        between = last >= 0 and ends_s[last] > sound.time_s
        if between and spectrum_proves_short(spectrum, sound, warmer, limits):
            proven[last] = True
    return proven


def _spectrum_after(dataset: Dataset, step: StepData) -> Spectrum | None:
    later = [one for one in dataset.spectra if one.time_s >= step.end_s - 1]
    return min(later, key=lambda one: one.time_s, default=None)


def _row(ramp: Sequence[HalfCycle], judgements: Sequence[Judgement], level: range) -> Result:
    here = [ramp[index] for index in level]
    worst = min(level, key=lambda index: _WORST_FIRST.index(judgements[index].verdict))
    judgement = judgements[worst]
    seen_s = None
    if judgement.after_s is not None:
        seen_s = ramp[worst].start_s - here[0].start_s + judgement.after_s
    return {
        "current_density_mA_cm2": reported.milliampere_per_cm2(abs(here[0].current_density_A_m2)),
        "verdict": judgement.verdict,
        "reason": judgement.reasons[0] if judgement.reasons else None,
        "seen_after_s": reported.number(seen_s),
        "start_s": reported.number(here[0].start_s),
        "end_s": reported.number(here[-1].start_s + here[-1].duration_s),
        "half_cycles": len(here),
        "both_directions": len({one.current_A > 0 for one in here}) == 2,
        "areal_capacity_mAh_cm2": reported.median(_areal_capacity(one) for one in here),
    } | _measured_of(here)


def _measured_of(here: Sequence[HalfCycle]) -> Result:
    pairs = pairwise(here)
    return {
        "voltage_positive_V": reported.median(one.voltage_V for one in here if one.current_A > 0),
        "voltage_negative_V": reported.median(
            -one.voltage_V for one in here if one.current_A < 0 and one.voltage_V is not None
        ),
        "rms_percent": reported.largest(_rms_percent(one) for one in here),
        "asymmetry_percent": reported.largest(
            reported.percent(asymmetry(one, other)) for one, other in pairs
        ),
        "end_ratio": _farthest_from_one([one.end_ratio for one in here]),
        "largest_step_percent": reported.largest(reported.percent(one.step) for one in here),
        "ASR_apparent_ohm_cm2": reported.ohm_cm2(reported.median(one.asr_ohm_m2 for one in here)),
        "apparent_over_electrolyte": reported.smallest(one.resistance_ratio for one in here),
    }


def _areal_capacity(one: HalfCycle) -> float | None:
    return reported.milliampere_hour_per_cm2(abs(one.current_density_A_m2) * one.duration_s)


def _rms_percent(one: HalfCycle) -> float | None:
    if one.rms_V is None or not one.voltage_V:
        return None
    return reported.percent(one.rms_V / abs(one.voltage_V))


def _farthest_from_one(ratios: Sequence[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return reported.number(max(known, key=lambda ratio: abs(ratio - 1))) if known else None


def _summary(dataset: Dataset, rows: Sequence[Result]) -> Result:
    bad = next((index for index, row in enumerate(rows) if row["verdict"] in _FAILED), len(rows))
    last_stable = _last_stable(rows[:bad])
    irregular = next((row for row in rows if row["verdict"] in ("irregular", "soft short")), None)
    short = next((row for row in rows if row["verdict"] == "short"), None)
    if short and irregular and irregular["start_s"] > short["start_s"]:
        irregular = None
    verdict = "short" if short else "irregular" if irregular else "not_reached"
    density = "current_density_mA_cm2"
    shown = last_stable or rows[0]
    return {
        "verdict": verdict,
        "last_stable_mA_cm2": last_stable[density] if last_stable else None,
        "irregular_at_mA_cm2": irregular[density] if irregular else None,
        "irregular_reason": _why(irregular),
        "short_at_mA_cm2": short[density] if short else None,
        "short_reason": _why(short),
        "beyond_mA_cm2": last_stable[density]
        if last_stable and not short and not irregular
        else None,
        "areal_capacity_mAh_cm2": shown["areal_capacity_mAh_cm2"],
        "stack_pressure_MPa": reported.megapascal(
            dataset.stack_pressure_Pa(shown["start_s"], shown["end_s"])
        ),
        "temperature_degC": reported.degree_celsius(
            dataset.temperature_K(shown["start_s"], shown["end_s"])
        ),
    }


def _last_stable(rows: Sequence[Result]) -> Result | None:
    """The last level that ran whole; if any ran in both directions, one that did so too."""
    reversing = any(row["both_directions"] for row in rows)
    whole = [
        row
        for row in rows
        if row["verdict"] == "stable" and (row["both_directions"] or not reversing)
    ]
    return whole[-1] if whole else None


def _why(row: Mapping[str, Any] | None) -> str | None:
    if row is None:
        return None
    if row["seen_after_s"] is None:
        return str(row["reason"])
    return f"{row['seen_after_s'] / 60:.0f} min into the step: {row['reason']}"


def _current(density_mA_cm2: float | None) -> str:
    return "none" if density_mA_cm2 is None else f"{density_mA_cm2:g} mA/cm2"


def _conditions(result: Mapping[str, Any]) -> str:
    parts = (
        ("stack_pressure_MPa", "{:.1f} MPa"),
        ("temperature_degC", "{:.1f} °C"),
        ("areal_capacity_mAh_cm2", "{:.2g} mAh/cm2 per half-cycle"),
    )
    known = [form.format(result[name]) for name, form in parts if result[name] is not None]
    return "   ".join(known)
