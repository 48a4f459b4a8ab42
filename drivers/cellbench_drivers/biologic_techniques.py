"""Techniques as chains of the vendor's technique files (``.ecc``) with their parameters.

A current is ``cplimit`` and a voltage ``calimit``: their three tests, joined by OR, carry cut-offs
and limits on the device; a cut-off that waits makes a new step of the same current or voltage. A
sweep is one ``cv`` for each three of its segments, which has no tests; a spectrum is ``peis`` or
``geis``, which have none either. Around the open circuit it follows an ``ocv`` in the same chain.
Sources: the manual page of this driver; EC-Lab Development Package user's guide, chapters 5.3 and 7
(ranges, format of the tests).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Literal

from cellbench.instruments.readings import EndingKind
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench_drivers.biologic_library import Parameter
from cellbench_drivers.biologic_program import (
    AUTO_RANGE,
    RATE_ROWS,
    Loaded,
    Program,
    Settings,
    Watch,
)

_E_RANGES_V = (2.5, 5.0, 10.0)
#: A limit at the very end of a voltage range would never be seen.
_E_HEADROOM = 1.02
_STEPS_MAX = 20
_TESTS = 3
#: "Stop the experiment" on a crossing.
_STOP = 2
#: Double layers are charged within milliseconds; their spike is no current of the cell.
_SPIKE_S = 0.01
#: Changes that are never reached: rows come in time only.
_NEVER_V, _NEVER_A = 20.0, 100.0
#: Rest before a spectrum around the open circuit, and the rows of it.
_REST_S, _REST_ROW_S = 1.0, 0.1
#: Segments that one ``cv`` can do, and the part of each step of which the current is averaged.
_CV_SEGMENTS = 3
_CV_BEGIN, _CV_END = 0.5, 1.0
_GEIS_FRACTION = 0.5
#: A frequency takes about so many of its periods, and so long besides.
_PERIODS, _POINT_S = 4.0, 2.0
#: How much longer anything may take before it counts as stuck.
_PATIENCE_INTERVALS, _PATIENCE_S, _PATIENCE_SPECTRUM = 20.0, 30.0, 5.0


def program_for(
    technique: Technique, limits: ElectricalLimits, settings: Settings, open_circuit_V: float
) -> Program:
    """Return the chain that does a technique.

    Args:
        technique: What to do.
        limits: What must not be exceeded.
        settings: The channel's.
        open_circuit_V: Voltage at rest before, by which the direction of a current is foreseen.

    Raises:
        ValueError: The channel or the limits do not allow it.
    """
    match technique:
        case Rest():
            return _rest(technique, limits, settings)
        case ConstantCurrent():
            return _constant_current(technique, limits, settings)
        case ConstantVoltage():
            return _constant_voltage(technique, limits, settings, open_circuit_V)
        case Sweep():
            return _sweep(technique, limits, settings)
        case Impedance():
            return _spectrum(technique, limits, settings)


def _rest(rest: Rest, limits: ElectricalLimits, settings: Settings) -> Program:
    loaded = _ocv(rest.duration_s, rest.interval_s, limits, settings)
    watches = tuple(_cut_off(each, on_device=False) for each in rest.cut_offs)
    return _in_time((loaded,), rest.interval_s, watches)


def _constant_current(
    technique: ConstantCurrent, limits: ElectricalLimits, settings: Settings
) -> Program:
    _within(limits, current_A=technique.current_A)
    high = _limit("voltage", limits.voltage_max_V, above=True)
    low = _limit("voltage", limits.voltage_min_V, above=False)
    cut_offs = [_cut_off(each, on_device=each.quantity == "voltage") for each in technique.cut_offs]
    watches = [high, low, *cut_offs]
    steps = _steps(technique.duration_s, watches)
    tests = [
        [_test("voltage", watch.value, above=watch.above) for watch in _tightest(watches, start_s)]
        for start_s, _ in steps
    ]
    parameters = (
        *_per_step("Current_step", technique.current_A, steps),
        *_limited(steps, tests, technique.interval_s, ("Record_every_dE", _NEVER_V)),
        *_hardware(settings.range_for(technique.current_A), limits, settings),
    )
    loaded = Loaded("cplimit", parameters, technique.duration_s)
    return _in_time((loaded,), technique.interval_s, tuple(watches))


def _constant_voltage(
    technique: ConstantVoltage,
    limits: ElectricalLimits,
    settings: Settings,
    open_circuit_V: float,
) -> Program:
    if technique.spectra is not None:
        raise ValueError("spectra within a hold: it would have to leave the hold for them")
    _within(limits, voltages_V=(technique.voltage_V,))
    overcurrent = _limit("current", limits.current_max_A, above=True, after_s=_SPIKE_S)
    cut_offs = [_cut_off(each, on_device=each.quantity == "current") for each in technique.cut_offs]
    watches = [overcurrent, *cut_offs]
    steps = _steps(technique.duration_s, watches)
    outward = technique.voltage_V >= open_circuit_V
    tests = [_current_tests(_tightest(watches, start_s), outward=outward) for start_s, _ in steps]
    parameters = (
        *_per_step("Voltage_step", technique.voltage_V, steps),
        *_limited(steps, tests, technique.interval_s, ("Record_every_dI", _NEVER_A)),
        *_hardware(_range_or_auto(technique.current_range_A, settings), limits, settings),
    )
    loaded = Loaded("calimit", parameters, technique.duration_s)
    return _in_time((loaded,), technique.interval_s, tuple(watches))


def _current_tests(watches: Sequence[Watch], *, outward: bool) -> list[tuple[int, float]]:
    """Tests of a current's magnitude, which the device knows with its sign.

    A current that has fallen lies between two bounds, which takes two tests joined by AND; the
    third then guards the side on which the current flows.
    """
    fallen = [watch.value for watch in watches if not watch.above]
    risen = [watch.value for watch in watches if watch.above]
    tests = []
    for value in fallen:
        tests.append(_test("current", value, above=False, joined_by_and=True))
        tests.append(_test("current", -value, above=True))
    for value in risen:
        sides = (outward, not outward)[: (_TESTS - len(tests))]
        tests += [_test("current", value if above else -value, above=above) for above in sides]
    return tests


def _sweep(sweep: Sweep, limits: ElectricalLimits, settings: Settings) -> Program:
    _within(limits, voltages_V=sweep.voltages_V)
    unit = 1.0 if settings.scan_rate_unit == "V/s" else 1e3
    hardware = _hardware(_range_or_auto(sweep.current_range_A, settings), limits, settings)
    loaded = []
    voltages_V = sweep.voltages_V
    for first in range(0, len(voltages_V) - 1, _CV_SEGMENTS):
        part_V = voltages_V[first : first + _CV_SEGMENTS + 1]
        # The fourth is the return to the start between cycles; there is one cycle, and whether it
        # is gone to all the same, guides differ: as the end, it is right in both.
        padded_V = (*part_V, *[part_V[-1]] * (5 - len(part_V)))
        parameters = (
            *(Parameter("vs_initial", False, index) for index in range(5)),
            *(Parameter("Voltage_step", each_V, index) for index, each_V in enumerate(padded_V)),
            *(Parameter("Scan_Rate", sweep.rate_V_per_s * unit, index) for index in range(5)),
            Parameter("Scan_number", 2),
            Parameter("Record_every_dE", sweep.step_V),
            Parameter("Average_over_dE", False),
            Parameter("N_Cycles", 0),
            Parameter("Begin_measuring_I", _CV_BEGIN),
            Parameter("End_measuring_I", _CV_END),
            *hardware,
        )
        way_V = sum(abs(b - a) for a, b in itertools.pairwise(part_V))
        loaded.append(Loaded("cv", parameters, way_V / sweep.rate_V_per_s))
    watches = (
        _limit("current", limits.current_max_A, above=True, after_s=_SPIKE_S, on_device=False),
        *(_cut_off(each, on_device=False) for each in sweep.cut_offs),
    )
    shown = abs(voltages_V[1] - voltages_V[0]) > (RATE_ROWS + 1) * sweep.step_V
    return Program(
        tuple(loaded),
        interval_s=sweep.interval_s,
        tolerance_s=0.02 * sweep.duration_s + 2 * sweep.interval_s,
        patience_s=_PATIENCE_INTERVALS * sweep.interval_s + _PATIENCE_S,
        watches=watches,
        is_sweep=True,
        rate_V_per_s=sweep.rate_V_per_s if shown else 0.0,
    )


def _spectrum(technique: Impedance, limits: ElectricalLimits, settings: Settings) -> Program:
    frequencies_Hz = technique.frequencies_Hz
    duration_s = sum(_PERIODS / each + _POINT_S for each in frequencies_Hz)
    loaded = (_geis if technique.galvanostatic else _peis)(technique, limits, settings, duration_s)
    at_rest = technique.bias_V is None
    before = (_ocv(_REST_S, _REST_ROW_S, limits, settings),) if at_rest else ()
    return Program(
        (*before, loaded),
        interval_s=1.0,
        tolerance_s=0.0,
        patience_s=_PATIENCE_S + _PATIENCE_SPECTRUM * (_PERIODS / frequencies_Hz[-1] + _POINT_S),
        main=len(before),
        points=len(frequencies_Hz),
    )


def _peis(
    technique: Impedance, limits: ElectricalLimits, settings: Settings, duration_s: float
) -> Loaded:
    at_rest, bias_V = technique.bias_V is None, technique.bias_V or 0.0
    amplitude_V = technique.amplitude_V
    if amplitude_V is None:
        raise ValueError("a spectrum needs an amplitude")
    if not at_rest:
        _within(limits, voltages_V=(bias_V - amplitude_V, bias_V + amplitude_V))
    parameters = (
        Parameter("vs_initial", at_rest),
        Parameter("vs_final", at_rest),
        Parameter("Initial_Voltage_step", bias_V),
        Parameter("Final_Voltage_step", bias_V),
        Parameter("Amplitude_Voltage", amplitude_V),
        Parameter("Record_every_dI", _NEVER_A),
        *_frequencies(technique),
        *_hardware(AUTO_RANGE, limits, settings),
    )
    return Loaded("peis", parameters, duration_s)


def _geis(
    technique: Impedance, limits: ElectricalLimits, settings: Settings, duration_s: float
) -> Loaded:
    amplitude_A = technique.amplitude_A or 0.0
    peak_A = abs(technique.bias_A) + amplitude_A
    _within(limits, current_A=peak_A)
    # The amplitude may take half of the range.
    code = max(settings.range_for(peak_A), settings.range_for(amplitude_A / _GEIS_FRACTION))
    parameters = (
        Parameter("vs_initial", False),
        Parameter("vs_final", False),
        Parameter("Initial_Current_step", technique.bias_A),
        Parameter("Final_Current_step", technique.bias_A),
        Parameter("Amplitude_Current", amplitude_A),
        Parameter("Record_every_dE", _NEVER_V),
        *_frequencies(technique),
        *_hardware(code, limits, settings),
    )
    return Loaded("geis", parameters, duration_s)


def _frequencies(technique: Impedance) -> tuple[Parameter, ...]:
    return (
        Parameter("Duration_step", 0.0),
        Parameter("Step_number", 0),
        Parameter("Record_every_dT", 1.0),
        Parameter("Initial_frequency", technique.frequency_max_Hz),
        Parameter("Final_frequency", technique.frequency_min_Hz),
        Parameter("sweep", False),
        Parameter("Frequency_number", len(technique.frequencies_Hz)),
        Parameter("Average_N_times", 1),
        Parameter("Correction", False),
        Parameter("Wait_for_steady", 1.0),
    )


def _ocv(
    duration_s: float, interval_s: float, limits: ElectricalLimits, settings: Settings
) -> Loaded:
    parameters = (
        Parameter("Rest_time_T", duration_s),
        Parameter("Record_every_dE", _NEVER_V),
        Parameter("Record_every_dT", interval_s),
        Parameter("E_Range", _e_range(limits)),
        Parameter("Bandwidth", settings.bandwidth),
    )
    return Loaded("ocv", parameters, duration_s)


def _in_time(loaded: tuple[Loaded, ...], interval_s: float, watches: tuple[Watch, ...]) -> Program:
    """A program with a row each interval."""
    return Program(
        loaded,
        interval_s=interval_s,
        tolerance_s=1.5 * interval_s,
        patience_s=_PATIENCE_INTERVALS * interval_s + _PATIENCE_S,
        watches=watches,
    )


# --- Cut-offs and limits as tests ---------------------------------------------------------------


def _cut_off(cut_off: CutOff, *, on_device: bool) -> Watch:
    after_s = cut_off.after_s
    if on_device and cut_off.quantity == "current":
        after_s = max(after_s, _SPIKE_S)
    return Watch(
        cut_off.quantity, cut_off.above, cut_off.value, after_s, EndingKind.CUT_OFF, on_device
    )


def _limit(
    quantity: Literal["voltage", "current"],
    value: float,
    *,
    above: bool,
    after_s: float = 0.0,
    on_device: bool = True,
) -> Watch:
    return Watch(quantity, above, value, after_s, EndingKind.TRIPPED, on_device)


def _steps(duration_s: float, watches: Iterable[Watch]) -> list[tuple[float, float]]:
    """Start and duration of the steps between which another test begins to count."""
    waits = {watch.after_s for watch in watches if watch.on_device and watch.after_s < duration_s}
    starts = sorted({0.0, *waits})
    if len(starts) > _STEPS_MAX:
        raise ValueError(f"{len(starts)} steps with cut-offs of their own; {_STEPS_MAX} can be")
    return [(a, b - a) for a, b in itertools.pairwise([*starts, duration_s])]


def _tightest(watches: Iterable[Watch], time_s: float) -> list[Watch]:
    """Of each side the innermost that the device watches at this time, the upper side first."""
    active = [watch for watch in watches if watch.on_device and watch.after_s <= time_s]
    above = [watch for watch in active if watch.above]
    below = [watch for watch in active if not watch.above]
    return [
        *([min(above, key=lambda watch: watch.value)] if above else []),
        *([max(below, key=lambda watch: watch.value)] if below else []),
    ]


def _test(
    quantity: Literal["voltage", "current"],
    value: float,
    *,
    above: bool,
    joined_by_and: bool = False,
) -> tuple[int, float]:
    """Configuration and value of a test.

    Bit 0: active; bit 1: how it is joined with the next one (0 OR, 1 AND); bits 2 to 4: 0 at or
    below, 1 at or above; from bit 5: 0 the voltage, 3 the current.
    """
    variable = 0 if quantity == "voltage" else 3
    return 1 | joined_by_and << 1 | above << 2 | variable << 5, value


def _limited(
    steps: Sequence[tuple[float, float]],
    tests: Sequence[Sequence[tuple[int, float]]],
    interval_s: float,
    every: tuple[str, float],
) -> Iterable[Parameter]:
    """Parameters that ``cplimit`` and ``calimit`` share."""
    yield from _per_step("vs_initial", False, steps)
    for index, (_, duration_s) in enumerate(steps):
        yield Parameter("Duration_step", duration_s, index)
    yield Parameter("Step_number", len(steps) - 1)
    yield Parameter("Record_every_dT", interval_s)
    yield Parameter(*every)
    yield Parameter("N_Cycles", 0)
    for index, given in enumerate(tests):
        padded = [*given, *[(0, 0.0)] * (_TESTS - len(given))]
        for number, (configuration, value) in enumerate(padded, start=1):
            yield Parameter(f"Test{number}_Config", configuration, index)
            yield Parameter(f"Test{number}_Value", value, index)
    yield from _per_step("Exit_Cond", _STOP, steps)


def _per_step(
    label: str, value: bool | int | float, steps: Sequence[tuple[float, float]]
) -> Iterable[Parameter]:
    return (Parameter(label, value, index) for index in range(len(steps)))


def _hardware(code: int, limits: ElectricalLimits, settings: Settings) -> tuple[Parameter, ...]:
    return (
        Parameter("I_Range", code),
        Parameter("E_Range", _e_range(limits)),
        Parameter("Bandwidth", settings.bandwidth),
    )


def _range_or_auto(expected_A: float | None, settings: Settings) -> int:
    return AUTO_RANGE if expected_A is None else settings.range_for(expected_A)


def _e_range(limits: ElectricalLimits) -> int:
    """Code of the smallest voltage range in which both limits can be seen."""
    reach_V = _E_HEADROOM * max(abs(limits.voltage_min_V), abs(limits.voltage_max_V))
    inside = [code for code, top_V in enumerate(_E_RANGES_V) if top_V >= reach_V]
    return inside[0] if inside else len(_E_RANGES_V) - 1


def _within(
    limits: ElectricalLimits, voltages_V: Sequence[float] = (), current_A: float = 0.0
) -> None:
    for voltage_V in voltages_V:
        if not limits.voltage_min_V <= voltage_V <= limits.voltage_max_V:
            raise ValueError(
                f"{voltage_V:.4g} V is outside the limits, {limits.voltage_min_V:g} V to "
                f"{limits.voltage_max_V:g} V"
            )
    if abs(current_A) > limits.current_max_A:
        raise ValueError(f"{current_A:.4g} A is beyond the limit, {limits.current_max_A:g} A")
