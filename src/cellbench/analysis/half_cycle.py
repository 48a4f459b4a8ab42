"""One half-cycle of a symmetric cell, measured: signs of irregularity and of a short.

Pure functions on arrays, O(n), shared by the engine's rules "until: irregular" and "until:
short" and by the ccd analysis. Nothing is judged here that needs another half-cycle; that is
ccd's part.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.dataset import ComplexArray, FloatArray, Spectrum

Flags: TypeAlias = NDArray[np.bool_]

LEAST_SAMPLES = 10  # with fewer, neither noise nor trend can be told
_WINDOW = 7  # samples on either side of a step: outliers of up to three samples do not make one
_THINNED = 2400  # samples kept for steps and shorts: events of seconds, not of milliseconds


@dataclass(frozen=True)
class Thresholds:
    """Where a symmetric cell stops being called stable: fractions of one, seconds, sigmas."""

    rms: float = 0.02  # detrended rms over |V|
    sigmas: float = 5.0  # of the instrument's noise: nothing below is ever called irregular
    asymmetry: float = 0.20  # | |V+| - |V-| | over their mean
    end_ratio_low: float = 0.8  # voltage at the end over that at 10 % of the half-cycle
    end_ratio_high: float = 1.25
    step: float = 0.10  # a step that nobody commanded, over the voltage before it
    soft: float = 0.9  # apparent resistance over the electrolyte's, below it a soft short
    soft_short_s: float = 10.0
    hard: float = 0.5  # and below this a hard one
    hard_short_s: float = 60.0
    spectrum: float = 0.5  # real part, and height of the arc, over those of the reference spectrum
    electrolyte: float = 0.75  # real part at the high end, the electrolyte's, over the reference's
    settle_s: float = (
        30.0  # after a reversal, at most a tenth of the half-cycle: double layers charge
    )


DEFAULT = Thresholds()


@dataclass(frozen=True)
class HalfCycle:
    """What was measured in one half-cycle; voltages are positive in the direction of the current.

    None where there were too few samples, or no resistance to compare with. `step` is the
    largest sudden change over the level before it, `step_V` its height, and `step_after_s` when
    the first one above the threshold came. `shorted_s` and `soft_shorted_s` are the longest
    stretches with an apparent resistance below the hard and the soft limit; `recovered` says
    whether it ended above the soft one.
    """

    start_s: float
    duration_s: float
    current_A: float
    current_density_A_m2: float
    samples: int
    complete: bool = True
    voltage_V: float | None = None
    asr_ohm_m2: float | None = None
    rms_V: float | None = None
    noise_V: float | None = None
    end_ratio: float | None = None
    end_change_V: float | None = None
    step: float = 0.0
    step_V: float = 0.0
    step_after_s: float | None = None
    resistance_ratio: float | None = None
    shorted_s: float = 0.0
    soft_shorted_s: float = 0.0
    recovered: bool = True


@dataclass(frozen=True, eq=False)
class _Trace:
    """The settled part of a half-cycle: seconds from its start, volts along the current."""

    time_s: FloatArray
    voltage_V: FloatArray
    duration_s: float

    def __len__(self) -> int:
        return len(self.time_s)

    def level_V(self, start: float, end: float) -> float:
        """Median between two fractions of the half-cycle, of three samples at least."""
        first, last = np.searchsorted(self.time_s, [start * self.duration_s, end * self.duration_s])
        last = min(max(int(last), int(first) + 3), len(self))
        return float(np.median(self.voltage_V[min(int(first), last - 3) : last]))

    def thinned(self) -> "_Trace":
        block = -(-len(self) // _THINNED)
        if block == 1:
            return self
        whole = len(self) // block * block
        time_s, voltage_V = (x[:whole].reshape(-1, block) for x in (self.time_s, self.voltage_V))
        return _Trace(np.mean(time_s, axis=1), np.median(voltage_V, axis=1), self.duration_s)


def half_cycle_verdict(
    time_s: FloatArray,
    voltage_V: FloatArray,
    current_A: FloatArray,
    area_m2: float,
    r_hf_ohm: float | None,
    *,
    set_current_A: float | None = None,
    start_s: float | None = None,
    offset_V: float = 0.0,
    complete: bool = True,
    thresholds: Thresholds = DEFAULT,
) -> HalfCycle:
    """Measure one finished half-cycle.

    Args:
        time_s: times of its samples, ascending.
        voltage_V: terminal voltages; NaN where not measured.
        current_A: currents; NaN where not measured.
        area_m2: electrode area, for current density and ASR only: no verdict depends on it.
        r_hf_ohm: resistance of the electrolyte before the ramp, without which no short can be seen.
        set_current_A: commanded current; by default the median of the samples'.
        start_s: when the half-cycle began; by default at its first sample.
        offset_V: voltage of the cell and instrument at rest, subtracted.
        complete: whether the half-cycle ran as long as it was asked to.
        thresholds: limits for the short, and the settling time.

    Raises:
        ValueError: if neither `set_current_A` nor any sample tells the current.
    """
    set_A = _median_current(current_A) if set_current_A is None else set_current_A
    begin_s = (float(time_s[0]) if len(time_s) else 0.0) if start_s is None else start_s
    trace = _settled(time_s - begin_s, voltage_V - offset_V, current_A, set_A, thresholds)
    bare = HalfCycle(begin_s, trace.duration_s, set_A, set_A / area_m2, len(trace), complete)
    if len(trace) < LEAST_SAMPLES:
        return bare
    return _measured(bare, trace, area_m2, r_hf_ohm, thresholds)


def _measured(
    bare: HalfCycle,
    trace: _Trace,
    area_m2: float,
    r_hf_ohm: float | None,
    thresholds: Thresholds,
) -> HalfCycle:
    voltage_V = float(np.median(trace.voltage_V))
    noise_V = estimate_noise_V(trace.voltage_V)
    early_V, late_V = trace.level_V(0.10, 0.14), trace.level_V(0.96, 1.01)
    thinned = trace.thinned()
    smooth_V = _running_median(thinned.voltage_V)
    step, step_V, step_after_s = _largest_step(thinned, smooth_V, noise_V, thresholds.step)
    shorted_s, soft_s, recovered = 0.0, 0.0, True
    if r_hf_ohm is not None:
        ohmic_V = r_hf_ohm * abs(bare.current_A)
        shorted_s, soft_s, recovered = _shorted(thinned, smooth_V, ohmic_V, noise_V, thresholds)
    return HalfCycle(
        start_s=bare.start_s,
        duration_s=bare.duration_s,
        current_A=bare.current_A,
        current_density_A_m2=bare.current_density_A_m2,
        samples=bare.samples,
        complete=bare.complete,
        voltage_V=voltage_V,
        asr_ohm_m2=voltage_V / abs(bare.current_A) * area_m2,
        rms_V=_detrended_rms_V(trace),
        noise_V=noise_V,
        end_ratio=late_V / early_V if early_V > noise_V else None,
        end_change_V=late_V - early_V,
        step=step,
        step_V=step_V,
        step_after_s=step_after_s,
        resistance_ratio=voltage_V / ohmic_V if r_hf_ohm is not None else None,
        shorted_s=shorted_s,
        soft_shorted_s=soft_s,
        recovered=recovered,
    )


def estimate_noise_V(voltage_V: FloatArray) -> float:
    """Standard deviation of the sample-to-sample noise, blind to drift, steps and outliers.

    From the median absolute first difference; never below that of the converter's resolution,
    since a quantised quiet signal has no differences at all. NaN with too few samples.
    """
    finite = voltage_V[np.isfinite(voltage_V)]
    if len(finite) < LEAST_SAMPLES:
        return float("nan")
    scatter = 1.4826 * float(np.median(np.abs(np.diff(finite)))) / np.sqrt(2)
    levels = np.diff(np.unique(finite))
    resolution = float(np.min(levels)) / np.sqrt(12) if len(levels) else 0.0
    return float(max(scatter, resolution))


def _median_current(current_A: FloatArray) -> float:
    finite = current_A[np.isfinite(current_A)]
    if not len(finite):
        raise ValueError("The half-cycle has no current: give set_current_A, or samples of it.")
    return float(np.median(finite))


def _settled(
    after_s: FloatArray,
    voltage_V: FloatArray,
    current_A: FloatArray,
    set_A: float,
    thresholds: Thresholds,
) -> _Trace:
    # A pause, a range change or the neighbouring half-cycle's sample says nothing of this one.
    usable = np.isfinite(voltage_V) & ~(np.abs(current_A - set_A) > 0.2 * abs(set_A))
    duration_s = float(after_s[-1]) if len(after_s) else 0.0
    usable &= after_s >= min(thresholds.settle_s, 0.1 * duration_s)
    return _Trace(after_s[usable], np.sign(set_A) * voltage_V[usable], duration_s)


def _detrended_rms_V(trace: _Trace) -> float:
    """Rms about a cubic: polarisation, relaxation and warming are smooth and are not irregular.

    The first tenth is left out: a slow interface bends there more sharply than a cubic can.
    """
    late = trace.time_s >= 0.1 * trace.duration_s
    basis = np.vander(2 * trace.time_s[late] / trace.duration_s - 1, 4)
    voltage_V = trace.voltage_V[late]
    residual_V = voltage_V - basis @ np.linalg.lstsq(basis, voltage_V, rcond=None)[0]
    return float(np.sqrt(np.sum(residual_V**2) / max(len(residual_V) - 4, 1)))


def _running_median(values: FloatArray) -> FloatArray:
    return np.median(np.lib.stride_tricks.sliding_window_view(values, _WINDOW), axis=-1)


def _largest_step(
    trace: _Trace,
    smooth_V: FloatArray,
    noise_V: float,
    threshold: float,
) -> tuple[float, float, float | None]:
    """The largest sudden change: fraction of the level before, volts; when the first came.

    The medians of the samples before and after each point are compared; the change that goes on
    at the same pace one window earlier or later is slope, not step.
    """
    if len(trace) < 2 * _WINDOW:
        return 0.0, 0.0, None
    before, change = smooth_V[:-_WINDOW], smooth_V[_WINDOW:] - smooth_V[:-_WINDOW]
    height = np.where(_without_gap(trace.time_s), np.abs(change) - _slope(change), 0.0)
    fraction = height / np.maximum(np.abs(before), max(noise_V, 1e-12))
    largest = int(np.argmax(fraction))
    if fraction[largest] <= 0:
        return 0.0, 0.0, None
    first = int(np.argmax(fraction >= min(threshold, fraction[largest])))
    first += int(np.argmax(fraction[first : first + _WINDOW]))
    return (
        float(fraction[largest]),
        float(height[largest]),
        float(trace.time_s[first + _WINDOW]),
    )


def _slope(change: FloatArray) -> FloatArray:
    """How far the voltage moves the same way in the windows next to each point."""
    direction, padded = np.sign(change), np.pad(change, _WINDOW)
    earlier, later = padded[: len(change)], padded[2 * _WINDOW :]
    return np.maximum(np.maximum(direction * earlier, direction * later), 0.0)


def _without_gap(time_s: FloatArray) -> Flags:
    span_s = time_s[2 * _WINDOW - 1 :] - time_s[: len(time_s) - 2 * _WINDOW + 1]
    return np.asarray(span_s <= 3 * 2 * _WINDOW * np.median(np.diff(time_s)), dtype=np.bool_)


def _shorted(
    trace: _Trace,
    smooth_V: FloatArray,
    ohmic_V: float,
    noise_V: float,
    thresholds: Thresholds,
) -> tuple[float, float, bool]:
    """Longest stretches (s) below the hard and soft limits; whether it ends above the soft."""
    middle_s = trace.time_s[_WINDOW // 2 : _WINDOW // 2 + len(smooth_V)]
    doubt_V = 3 * noise_V / np.sqrt(_WINDOW)
    hard, soft = (
        _after_rise(smooth_V < fraction * ohmic_V - doubt_V)
        for fraction in (thresholds.hard, thresholds.soft)
    )
    return _longest_s(middle_s, hard), _longest_s(middle_s, soft), not bool(soft[-1])


def _after_rise(low: Flags) -> Flags:
    """Without a low beginning that ends: a voltage that only rises is never a short."""
    return low if low.all() else low & (np.cumsum(~low) > 0)


def _longest_s(time_s: FloatArray, where: Flags) -> float:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], where, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2] - 1
    return float(np.max(time_s[ends] - time_s[starts], initial=0.0))


def is_hard_short(
    half_cycle: HalfCycle,
    following: HalfCycle | None = None,
    confirmed: bool | None = None,
    thresholds: Thresholds = DEFAULT,
) -> bool:
    """Whether a half-cycle is a hard short: low for long, low after reversal, not refuted by EIS.

    Args:
        half_cycle: the half-cycle in question.
        following: the next one, of the other direction; None: persistence is not known.
        confirmed: what `spectrum_shows_short` said of the next spectrum; None if there was none.
        thresholds: the limits.
    """
    persists = following is None or following.shorted_s >= _enough_s(following, thresholds)
    low = half_cycle.shorted_s >= _enough_s(half_cycle, thresholds)
    return low and persists and confirmed is not False


def _enough_s(half_cycle: HalfCycle, thresholds: Thresholds) -> float:
    """The time a short must last; a half-cycle shorter than that must be low for most of it."""
    return min(thresholds.hard_short_s, 0.75 * half_cycle.duration_s)


def spectrum_shows_short(
    spectrum: Spectrum,
    reference: Spectrum,
    thresholds: Thresholds = DEFAULT,
) -> bool:
    """Whether, against the sound cell's spectrum, the real part fell by half and the arc is gone.

    Both are compared in the common band; a reference without an arc (below 5 % of its real
    part) decides by its real part alone.
    """
    real_ohm, arc_ohm = _foot_and_arc(spectrum, reference)
    sound_real_ohm, sound_arc_ohm = _foot_and_arc(reference, spectrum)
    fell = real_ohm < thresholds.spectrum * sound_real_ohm
    had_arc = sound_arc_ohm > 0.05 * sound_real_ohm
    return fell and (not had_arc or arc_ohm < thresholds.spectrum * sound_arc_ohm)


def spectrum_proves_short(
    spectrum: Spectrum,
    reference: Spectrum,
    warming: float = 1.0,
    thresholds: Thresholds = DEFAULT,
) -> bool:
    """Whether a spectrum shows a short that no change of the interfaces can explain.

    Interfaces may lose any part of their resistance; that of the electrolyte, which the high end
    shows, follows temperature alone, until something conducts beside it.

    Args:
        spectrum: the cell's.
        reference: the sound cell's.
        warming: the electrolyte's resistance over that at the reference, by temperature.
        thresholds: the limits.
    """
    if not spectrum_shows_short(spectrum, reference, thresholds):
        return False
    head_ohm, sound_head_ohm = _head(spectrum, reference), _head(reference, spectrum)
    return head_ohm < thresholds.electrolyte * warming * sound_head_ohm


def _head(spectrum: Spectrum, other: Spectrum) -> float:
    """Real part at the high end of the common band, median of three."""
    return float(np.median(_in_common(spectrum, other).real[:3]))


def _foot_and_arc(spectrum: Spectrum, other: Spectrum) -> tuple[float, float]:
    """Real part at the low end of the common band (median of three), largest -Im Z within it."""
    impedance_ohm = _in_common(spectrum, other)
    return float(np.median(impedance_ohm.real[-3:])), float(np.max(-impedance_ohm.imag))


def _in_common(spectrum: Spectrum, other: Spectrum) -> ComplexArray:
    """The impedance in the band that both spectra have; all of it where they have none."""
    frequency_Hz, impedance_ohm = spectrum.descending()
    other_Hz, _ = other.descending()
    if not len(frequency_Hz) or not len(other_Hz):
        raise ValueError("A spectrum without points shows nothing.")
    common = (frequency_Hz >= other_Hz[-1] * 0.99) & (frequency_Hz <= other_Hz[0] * 1.01)
    return impedance_ohm[common] if common.any() else impedance_ohm
