"""MethodSCRIPT programs out of techniques: each bounds itself, whatever becomes of the host.

Every program measures before it closes the cell, has its own end, carries the technique's cut-offs
and the electrical limits in its loop, and opens the cell when it is finished. The sweep of a
spectrum is no loop: while one runs, within a hold too, only the instrument's own compliance bounds
the cell.

* a cut-off sends ``CUT <its index>`` and breaks the loop;
* a limit sends ``TRIP <which>`` and aborts.

The working electrode goes to the positive electrode of the cell. Source: MethodSCRIPT manual 1.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench_drivers.methodscript import (
    CURRENT,
    FREQUENCY,
    IMPEDANCE_IMAG,
    IMPEDANCE_REAL,
    TIME,
    VOLTAGE,
    Layout,
    literal,
)
from cellbench_drivers.palmsens_lines import (
    BANDWIDTH_MAX_HZ,
    GALVANOSTAT,
    POTENTIOSTAT,
    around,
    bandwidth,
    bandwidth_for,
    cut_off_lines,
    dc_body,
    declare,
    galvanostat_range,
    if_above,
    loop_over,
    measure_open_circuit,
    mode,
    mode_with_bandwidth,
    package,
    potentiostat_range,
    program,
    select,
    time_left,
    voltage_range,
    voltage_trips,
    window,
)
from cellbench_drivers.palmsens_models import Model

#: The one line that opens the cell.
CELL_OFF = "cell_off\n"

_SET_UP_S = 2.0
_MARGIN_S = 5.0
#: A point of a spectrum takes a few periods; each change of range takes them again.
_PERIODS_PER_POINT = 40.0
_DC_LAYOUT, _DC_COLUMNS = (VOLTAGE, CURRENT, TIME), ("voltage_V", "current_A")
#: A set value equal to a limit is allowed; this much accuracy of the instrument is not a trip.
_CURRENT_ACCURACY = 0.02
#: The first intervals at a voltage, in which the current may fall by decades, are sampled more
#: densely: samples in an interval, up to how many intervals; unless a sample would be this short.
_DENSE = ((200, 0.1), (50, 1.0), (10, 3.0))
_DENSE_MIN_S = 5e-3
#: Less than this part of an interval, before a spectrum is due, is not measured.
_LEFT_OVER = 0.01


@dataclass(frozen=True, slots=True)
class Script:
    """A program and what it will print.

    Attributes:
        text: Lines, each ended by a line feed.
        layout: Variable types of one package; time is the last.
        columns: Names of the values before the time.
        duration_s: When the loop ends by itself, None where the number of points decides.
        rows: How many packages the loop prints if nothing ends it.
        timeout_s: How long the given row (from 0) may take to arrive.
        within: The packages of the spectra that its loops are interrupted by, if they are.
    """

    text: str
    layout: Layout
    columns: tuple[str, ...]
    duration_s: float | None
    interval_s: float
    rows: int
    timeout_s: Callable[[int], float] = field(repr=False)
    within: Script | None = None


def script_for(technique: Technique, limits: ElectricalLimits, model: Model) -> Script:
    """Write the program of a technique.

    Raises:
        ValueError: A number cannot be written, or is beyond instrument or limits.
    """
    match technique:
        case Rest():
            return _rest(technique, limits, model)
        case ConstantCurrent():
            return _constant_current(technique, limits, model)
        case ConstantVoltage():
            return _constant_voltage(technique, limits, model)
        case Sweep():
            return _sweep(technique, limits, model)
        case Impedance():
            return _impedance(technique, limits, model)


def _rest(technique: Rest, limits: ElectricalLimits, model: Model) -> Script:
    interval_s, duration_s = _interval_s(technique), technique.duration_s
    head = [*declare("p", "t"), *mode(POTENTIOSTAT, interval_s), *voltage_range(limits, model)]
    loop = f"meas_loop_ocp p {literal(interval_s)} {literal(duration_s)}"
    body = [*package("p", "t"), *cut_off_lines(technique.cut_offs, ("voltage",))]
    body += voltage_trips(limits.voltage_min_V, limits.voltage_max_V)
    text = program([*head, "cell_off", "timer_start"], (loop, body))
    return _timed(text, (VOLTAGE, TIME), ("voltage_V",), duration_s, interval_s)


def _constant_current(technique: ConstantCurrent, limits: ElectricalLimits, model: Model) -> Script:
    current_A = technique.current_A
    _check("current", abs(current_A), 0.0, min(limits.current_max_A, model.current_max_A))
    head = [
        *declare("p", "c", "t"),
        *mode(GALVANOSTAT, technique.interval_s),
        *voltage_range(limits, model),
        *galvanostat_range(model.range_for(current_A)),
        *measure_open_circuit(limits),
        "cell_on ocp(p)",
        "timer_start",
    ]
    loop = f"meas_loop_cp p c {literal(current_A)} {_pace(technique)}"
    current_max_A = max(limits.current_max_A, abs(current_A) * (1 + _CURRENT_ACCURACY))
    trips = limits.model_copy(update={"current_max_A": current_max_A})
    return _dc(program(head, (loop, dc_body(technique.cut_offs, trips))), technique)


def _constant_voltage(technique: ConstantVoltage, limits: ElectricalLimits, model: Model) -> Script:
    """Hold a voltage, sampled densely at first.

    What passes before the first sample (of 5 ms, where the interval is 1 s) is counted as if the
    current had been the sample's. The spike that charges the double layers within milliseconds is
    thus left out: at most their capacitance times the step of the voltage.
    """
    if technique.spectra is not None:
        return _hold_with_spectra(technique, technique.spectra, limits, model)
    head = _hold_head(technique, limits, model)
    interval_s, left_s = technique.interval_s, technique.duration_s - _dense_s(technique)
    interval_s = _dividing(left_s, interval_s)
    text = program([*head, *_hold_loop(technique, limits, literal(interval_s), literal(left_s))])
    return _timed(text, _DC_LAYOUT, _DC_COLUMNS, technique.duration_s, interval_s)


def _hold_head(hold: ConstantVoltage, limits: ElectricalLimits, model: Model) -> list[str]:
    """Set up, close the cell, and measure the first intervals densely."""
    paces = _dense_paces(hold)
    first_s = paces[0][0] if paces else hold.interval_s
    lines = _potentiostat_head((hold.voltage_V,), first_s, hold, limits, model)
    for interval_s, duration_s in paces:
        lines += _hold_loop(hold, limits, literal(interval_s), literal(duration_s))
    return [*lines, *_slow_ranges(hold, hold.interval_s, limits, model)] if paces else lines


def _hold_loop(
    hold: ConstantVoltage, limits: ElectricalLimits, interval: str, duration: str
) -> list[str]:
    # A cut-off ends the whole script: leaving one loop would begin the next.
    body = dc_body(hold.cut_offs, around(limits, hold.voltage_V), "abort")
    return loop_over(f"meas_loop_ca p c {literal(hold.voltage_V)} {interval} {duration}", body)


def _dense_paces(hold: ConstantVoltage) -> list[tuple[float, float]]:
    """Return interval and duration of each loop within the first intervals of a longer hold."""
    interval_s, paces, done_s = hold.interval_s, [], 0.0
    for samples, intervals in _DENSE:
        long_enough = hold.duration_s > (intervals + 0.5) * interval_s
        if long_enough and interval_s / samples >= _DENSE_MIN_S:
            duration_s = intervals * interval_s - done_s
            paces.append((_dividing(duration_s, interval_s / samples), duration_s))
            done_s += duration_s
    return paces


def _dense_s(hold: ConstantVoltage) -> float:
    return sum(duration_s for _, duration_s in _dense_paces(hold))


def _hold_with_spectra(
    hold: ConstantVoltage, spectra: Impedance, limits: ElectricalLimits, model: Model
) -> Script:
    """One program for a hold and the spectra in it: the cell is on from its start to its end.

    It ends when the hold's time is over, whatever becomes of the host, or with the spectrum that
    has begun before; spectra whose time has passed are left out.
    """
    if spectra.amplitude_V is None or spectra.bias_V != hold.voltage_V:
        raise ValueError("spectra within a hold are potentiostatic, at its voltage")
    every_s, end_s = literal(hold.spectra_every_s or hold.duration_s), literal(hold.duration_s)
    _check("frequency", spectra.frequency_max_Hz, 0.0, model.frequency_max_Hz)
    lines = [
        *declare("f", "zr", "zi", "d", "due", "end"),
        *_hold_head(hold, limits, model),
        *(f"store_var {name} {value} eb" for name, value in (("due", every_s), ("end", end_s))),
        *loop_over(
            "loop due < end",
            [
                *_hold_until("due", hold, limits),
                *_high_speed_ranges(limits, model),
                *_spectrum_lines(spectra),
                *_slow_ranges(hold, hold.interval_s, limits, model),
                "timer_get t",
                *loop_over("loop due <= t", [f"add_var due {every_s}"]),
            ],
        ),
        *_hold_until("end", hold, limits),
    ]
    within = _spectrum_script("", spectra)
    script = _timed(program(lines), _DC_LAYOUT, _DC_COLUMNS, hold.duration_s, hold.interval_s)
    return replace(script, within=within)


def _hold_until(until: str, hold: ConstantVoltage, limits: ElectricalLimits) -> list[str]:
    """Measure a hold until a variable's time: whole intervals, and one shorter one."""
    whole = _hold_loop(hold, limits, literal(hold.interval_s), "d")
    rest = _hold_loop(hold, limits, "d", "d")
    return [
        *time_left(until),
        *if_above("d", hold.interval_s, whole),
        *time_left(until),
        *if_above("d", _LEFT_OVER * hold.interval_s, rest),
    ]


def _sweep(technique: Sweep, limits: ElectricalLimits, model: Model) -> Script:
    voltages = technique.voltages_V
    interval_s = technique.interval_s
    head = _potentiostat_head(voltages, interval_s, technique, limits, model)
    # A cut-off ends the whole script: leaving one loop would begin the next.
    leave = "abort" if technique.vertices_V else "breakloop"
    body = dc_body(technique.cut_offs, around(limits, *voltages), leave)
    pace = f"{literal(technique.step_V)} {literal(technique.rate_V_per_s)}"
    loops = [
        (f"meas_loop_lsv p c {literal(start_V)} {literal(end_V)} {pace}", body)
        for start_V, end_V in pairwise(voltages)
    ]
    text = program(head, *loops)
    return _timed(text, _DC_LAYOUT, _DC_COLUMNS, technique.duration_s, interval_s)


def _impedance(technique: Impedance, limits: ElectricalLimits, model: Model) -> Script:
    _check("frequency", technique.frequency_max_Hz, 0.0, model.frequency_max_Hz)
    head = [*declare("p", "f", "zr", "zi", "t")]
    if technique.galvanostatic:
        head += _galvanostatic_head(technique, limits, model)
    else:
        head += _potentiostatic_head(technique, limits, model)
    return _spectrum_script(
        program([*head, "cell_on", "timer_start", *_spectrum_lines(technique)]), technique
    )


def _spectrum_script(text: str, technique: Impedance) -> Script:
    frequencies = technique.frequencies_Hz
    return Script(
        text=text,
        layout=(FREQUENCY, IMPEDANCE_REAL, IMPEDANCE_IMAG, TIME),
        columns=("frequency_Hz", "impedance_real_ohm", "impedance_imag_ohm"),
        duration_s=None,
        interval_s=math.inf,
        rows=len(frequencies),
        timeout_s=lambda row: (
            _SET_UP_S + _MARGIN_S + _PERIODS_PER_POINT / frequencies[min(row, len(frequencies) - 1)]
        ),
    )


def _spectrum_lines(technique: Impedance) -> list[str]:
    return loop_over(_spectrum_loop(technique), package("f", "zr", "zi", "t"))


def _spectrum_loop(technique: Impedance) -> str:
    points = len(technique.frequencies_Hz)
    span = f"{literal(technique.frequency_max_Hz)} {literal(technique.frequency_min_Hz)} {points}i"
    if technique.amplitude_A is not None:
        amplitude, bias = literal(technique.amplitude_A), literal(technique.bias_A)
        return f"meas_loop_geis f zr zi {amplitude} {span} {bias}"
    amplitude = literal(technique.amplitude_V or 0.0)
    bias = "p" if technique.bias_V is None else literal(technique.bias_V)
    return f"meas_loop_eis f zr zi {amplitude} {span} {bias}"


def _potentiostatic_head(technique: Impedance, limits: ElectricalLimits, model: Model) -> list[str]:
    if technique.amplitude_V is None:
        raise ValueError("a spectrum needs an amplitude")
    lines = [*select(POTENTIOSTAT), *_high_speed_ranges(limits, model), *window(limits, model)]
    lines += [*voltage_range(limits, model), *measure_open_circuit(limits, printed=True)]
    if technique.bias_V is None:
        return [*lines, "set_e p"]
    _check_voltage(technique.bias_V, limits, model)
    return [*lines, f"set_e {literal(technique.bias_V)}"]


def _galvanostatic_head(technique: Impedance, limits: ElectricalLimits, model: Model) -> list[str]:
    expected_A = abs(technique.bias_A) + math.sqrt(2) * (technique.amplitude_A or 0.0)
    _check("current", expected_A, 0.0, min(limits.current_max_A, model.current_max_A))
    return [
        *mode_with_bandwidth(GALVANOSTAT, BANDWIDTH_MAX_HZ),
        *voltage_range(limits, model),
        *galvanostat_range(model.range_for(expected_A)),
        *measure_open_circuit(limits, printed=True),
        f"set_i {literal(technique.bias_A)}",
    ]


def _potentiostat_head(
    voltages_V: tuple[float, ...],
    interval_s: float,
    technique: ConstantVoltage | Sweep,
    limits: ElectricalLimits,
    model: Model,
) -> list[str]:
    for voltage_V in voltages_V:
        _check_voltage(voltage_V, limits, model)
    return [
        *declare("p", "c", "t"),
        *select(POTENTIOSTAT),
        *_slow_ranges(technique, interval_s, limits, model),
        *window(limits, model),
        *voltage_range(limits, model),
        *measure_open_circuit(limits),
        f"set_e {literal(voltages_V[0])}",
        "cell_on",
        "timer_start",
    ]


def _slow_ranges(
    technique: ConstantVoltage | Sweep, interval_s: float, limits: ElectricalLimits, model: Model
) -> list[str]:
    """Bandwidth and current ranges for rows that are this far apart."""
    top_A = model.range_for(technique.current_range_A or limits.current_max_A)
    smallest_A = min(model.slow_range_min(interval_s), top_A)
    return [bandwidth_for(interval_s), *potentiostat_range(smallest_A, top_A)]


def _high_speed_ranges(limits: ElectricalLimits, model: Model) -> list[str]:
    """Bandwidth and current ranges for a spectrum."""
    top_A = model.range_for(min(limits.current_max_A, model.current_max_A))
    smallest_A = min(model.spectrum_range_min(), top_A)
    return [bandwidth(BANDWIDTH_MAX_HZ), *potentiostat_range(smallest_A, top_A)]


def _pace(technique: ConstantCurrent) -> str:
    return f"{literal(_interval_s(technique))} {literal(technique.duration_s)}"


def _interval_s(technique: Rest | ConstantCurrent) -> float:
    return _dividing(technique.duration_s, technique.interval_s)


def _dividing(duration_s: float, interval_s: float) -> float:
    """Return an interval that divides the duration: an instrument skips what is left over.

    It is rounded down to the digits that a literal holds, so that no interval is lost to rounding.
    """
    duration_s = float(f"{duration_s:.5e}")
    exact = duration_s / interval_s
    count = math.ceil(exact - 1e-6)
    if abs(exact - count) < 1e-6:
        return interval_s
    digits = 5 - math.floor(math.log10(duration_s / count))
    return math.floor(duration_s / count * 10.0**digits) / 10.0**digits


def _dc(text: str, technique: ConstantCurrent) -> Script:
    return _timed(text, _DC_LAYOUT, _DC_COLUMNS, technique.duration_s, _interval_s(technique))


def _timed(
    text: str, layout: Layout, columns: tuple[str, ...], duration_s: float, interval_s: float
) -> Script:
    timeout_s = interval_s + _SET_UP_S + _MARGIN_S
    rows = round(duration_s / interval_s)
    return Script(text, layout, columns, duration_s, interval_s, rows, lambda _row: timeout_s)


def _check_voltage(voltage_V: float, limits: ElectricalLimits, model: Model) -> None:
    lowest_V = max(limits.voltage_min_V, model.voltage_min_V)
    highest_V = min(limits.voltage_max_V, model.voltage_max_V)
    _check("voltage", voltage_V, lowest_V, highest_V)


def _check(what: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest * (1 + 1e-9):
        raise ValueError(f"{what} {value:g} is outside {lowest:g} to {highest:g}")
