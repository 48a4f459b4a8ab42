"""The measurement loops of MethodSCRIPT: what each applies, when it samples, what it reports.

A measurement compiles to a generator of its own: it sets the output up, yields the time at which
each point is due, stores the point's values, and runs the loop's body.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cellbench_sim.emulators.analog import Reading
from cellbench_sim.emulators.mscript.machine import Machine, Signal, SyncCode, Timed, TimedCode
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.scope import Scope
from cellbench_sim.emulators.mscript.values import ScriptError
from cellbench_sim.emulators.refusal import Refusal

#: Between two samples that lie further apart, the output stage looks at its limits this often.
_REGULATE_EVERY_S = 10.0
#: A point of a spectrum: shortest time, and the periods that it averages over.
_EIS_INTERVAL_S, _EIS_PERIODS = 0.05, 2.0
_EIS_AMPLITUDE_V = (1e-3, 0.25)
_EIS_POINTS_MAX = 1000
_POTENTIOSTAT, _HIGH_SPEED, _GALVANOSTAT = frozenset({2, 3, 4}), frozenset({3, 4}), frozenset({6})
_MODELESS = frozenset(range(7))

#: Given what to do after each point, measures until the last one or until that says to leave.
Points = Callable[[SyncCode], Timed]


@dataclass(frozen=True)
class Measurement:
    """A compiled measurement loop, without its body.

    Attributes:
        technique: Four hexadecimal digits, as printed when the loop starts.
        modes: The potentiostat modes in which it can run.
    """

    technique: str
    line: int
    modes: frozenset[int]
    points: Points

    def check(self, machine: Machine) -> None:
        """Raise Refusal unless the instrument is in the state that the loop needs."""
        front = machine.front
        if self.modes is _MODELESS:
            if front.cell_is_on:
                raise Refusal(0x4028)
        elif front.mode not in self.modes:
            raise Refusal(0x0023)
        elif not front.cell_is_on:
            raise Refusal(0x4027)


MEASUREMENTS: dict[str, Callable[[Scope, Statement], Measurement]] = {}


def measure(machine: Machine, measurement: Measurement, body: SyncCode) -> TimedCode:
    """Return the code of a measurement loop that runs ``body`` after every point."""
    after_point = _after_point(machine, body)

    def run() -> Timed:
        try:
            measurement.check(machine)
            machine.emit(f"M{measurement.technique}\n")
            machine.skip_requested = False
            signal = yield from measurement.points(after_point)
        except Refusal as fault:
            raise ScriptError(fault.code, measurement.line) from fault
        machine.emit("*\n")
        return Signal.ABORT if signal == Signal.ABORT else Signal.GO_ON

    return run


def _after_point(machine: Machine, body: SyncCode) -> SyncCode:
    def run() -> int:
        signal = body()
        if machine.abort_requested:
            return Signal.ABORT
        if machine.skip_requested:
            return Signal.BREAK
        return signal

    return run


def _measurement(
    command: str, technique: str, modes: frozenset[int]
) -> Callable[[Callable[[Scope, Statement], Points]], Callable[[Scope, Statement], Points]]:
    def register(
        compile_points: Callable[[Scope, Statement], Points],
    ) -> Callable[[Scope, Statement], Points]:
        def compile_it(scope: Scope, statement: Statement) -> Measurement:
            points = compile_points(scope, statement)
            return Measurement(technique, statement.line, modes, points)

        MEASUREMENTS[command] = compile_it
        return compile_points

    return register


# ---------------------------------------------------------------------------------- in time


@_measurement("meas_loop_ca", "0007", _POTENTIOSTAT)
def _ca(scope: Scope, statement: Statement) -> Points:
    p, c, level, interval, duration = scope.arguments(statement, 5)
    potential = scope.quantity(statement, level)
    timing = _timing(scope, statement, interval, duration)
    report = _report_applied(scope, statement, p, c)
    machine = scope.machine

    def points(after: SyncCode) -> Timed:
        potential_V, (interval_s, count) = potential(), timing()
        machine.front.set_potential(potential_V)
        return (yield from _sampled(machine, interval_s, count, lambda: report(potential_V), after))

    return points


@_measurement("meas_loop_cp", "000A", _GALVANOSTAT)
def _cp(scope: Scope, statement: Statement) -> Points:
    p, c, level, interval, duration = scope.arguments(statement, 5)
    current = scope.quantity(statement, level)
    timing = _timing(scope, statement, interval, duration)
    report = _report_measured(scope, statement, p, c)
    machine = scope.machine

    def points(after: SyncCode) -> Timed:
        interval_s, count = timing()
        machine.front.set_current(current())
        return (yield from _sampled(machine, interval_s, count, report, after))

    return points


@_measurement("meas_loop_ocp", "000B", _MODELESS)
def _ocp(scope: Scope, statement: Statement) -> Points:
    p, interval, duration = scope.arguments(statement, 3)
    timing = _timing(scope, statement, interval, duration)
    slot, machine = scope.variable(statement, p), scope.machine
    extra = _extra(scope, statement)

    def report() -> None:
        voltage, current = machine.front.sample()
        scope.store(slot, voltage.value, "ab", voltage.metadata)
        extra(voltage, current)

    def points(after: SyncCode) -> Timed:
        interval_s, count = timing()
        return (yield from _sampled(machine, interval_s, count, report, after))

    return points


def _sampled(
    machine: Machine, interval_s: float, count: int, report: Callable[[], None], after: SyncCode
) -> Timed:
    """Report at whole multiples of the interval, the first one interval after the start."""
    start_s = machine.time_s
    for index in range(1, count + 1):
        due_s = start_s + index * interval_s
        if interval_s > _REGULATE_EVERY_S:
            yield from _regulated(machine, due_s)
        yield due_s
        report()
        if signal := after():
            return signal
    return 0


def _regulated(machine: Machine, due_s: float) -> Iterator[float]:
    while due_s - machine.time_s > _REGULATE_EVERY_S:
        yield machine.time_s + _REGULATE_EVERY_S
        machine.front.regulate()


def _timing(
    scope: Scope, statement: Statement, interval: str, duration: str
) -> Callable[[], tuple[float, int]]:
    """Return a function for a loop's interval in s and its number of points."""
    read_interval, read_duration = (
        scope.quantity(statement, interval),
        scope.quantity(statement, duration),
    )
    shortest_s = scope.machine.front.profile.interval_min_s

    def read() -> tuple[float, int]:
        interval_s, duration_s = read_interval(), read_duration()
        if not (0 < interval_s < math.inf and 0 < duration_s < math.inf):
            raise Refusal(0x4204)
        if interval_s < shortest_s:
            raise Refusal(0x0058)
        # A whole number of intervals must not lose its last point to rounding.
        return interval_s, max(1, math.floor(duration_s / interval_s + 1e-6))

    return read


# ---------------------------------------------------------------------------------- sweeps


@_measurement("meas_loop_lsv", "0000", _POTENTIOSTAT)
def _lsv(scope: Scope, statement: Statement) -> Points:
    p, c, *sweep = scope.arguments(statement, 6)
    steps = _steps(scope, statement, sweep)
    report = _report_applied(scope, statement, p, c)
    front = scope.machine.front

    def points(after: SyncCode) -> Timed:
        levels, interval_s = steps()
        for level_V in (levels[0], levels[-1]):
            front.check_potential(level_V)
        return (yield from _swept(scope.machine, levels, interval_s, front.set_potential,
                                  report, after))  # fmt: skip

    return points


@_measurement("meas_loop_lsp", "000F", _GALVANOSTAT)
def _lsp(scope: Scope, statement: Statement) -> Points:
    p, c, *sweep = scope.arguments(statement, 6)
    steps = _steps(scope, statement, sweep)
    report = _report_measured(scope, statement, p, c)
    front = scope.machine.front

    def points(after: SyncCode) -> Timed:
        levels, interval_s = steps()
        for level_A in (levels[0], levels[-1]):
            front.check_current(level_A)
        return (yield from _swept(scope.machine, levels, interval_s, front.set_current,
                                  lambda _: report(), after))  # fmt: skip

    return points


def _swept(
    machine: Machine,
    levels: list[float],
    interval_s: float,
    apply: Callable[[float], None],
    report: Callable[[float], None],
    after: SyncCode,
) -> Timed:
    """Climb a staircase; each step is reported at its end."""
    start_s = machine.time_s
    for index, level in enumerate(levels, 1):
        apply(level)
        yield start_s + index * interval_s
        report(level)
        if signal := after():
            return signal
    return 0


def _steps(
    scope: Scope, statement: Statement, sweep: list[str]
) -> Callable[[], tuple[list[float], float]]:
    """Return a function for a staircase's levels and the time that each takes, in s."""
    begin, end, step, rate = (scope.quantity(statement, token) for token in sweep)
    shortest_s = scope.machine.front.profile.interval_min_s

    def read() -> tuple[list[float], float]:
        first, last, height, slope = begin(), end(), abs(step()), rate()
        if not (height > 0 and slope > 0):
            raise Refusal(0x4204)
        count = math.floor(abs(last - first) / height + 1e-6)
        if count < 1:
            raise Refusal(0x4029)
        if height / slope < shortest_s:
            raise Refusal(0x0058)
        signed = math.copysign(height, last - first)
        return [first + index * signed for index in range(count + 1)], height / slope

    return read


# ---------------------------------------------------------------------------------- impedance


@_measurement("meas_loop_eis", "000D", _HIGH_SPEED)
def _eis(scope: Scope, statement: Statement) -> Points:
    front = scope.machine.front

    def prepare(amplitude_V: float, bias_V: float) -> None:
        smallest_V, largest_V = _EIS_AMPLITUDE_V
        if not smallest_V <= amplitude_V <= largest_V:
            raise Refusal(0x0012)
        front.set_potential(bias_V)

    return _spectrum(scope, statement, prepare)


@_measurement("meas_loop_geis", "000E", _GALVANOSTAT)
def _geis(scope: Scope, statement: Statement) -> Points:
    front = scope.machine.front

    def prepare(amplitude_A: float, bias_A: float) -> None:
        if not 0 < amplitude_A <= front.currents.largest_chosen * (1 + 1e-9):
            raise Refusal(0x0012)
        front.set_current(bias_A)

    return _spectrum(scope, statement, prepare)


def _spectrum(
    scope: Scope, statement: Statement, prepare: Callable[[float, float], None]
) -> Points:
    f, zr, zi, *rest = scope.arguments(statement, 8)
    slots = [scope.variable(statement, name) for name in (f, zr, zi)]
    read_amplitude, bias = (scope.quantity(statement, rest[i]) for i in (0, 4))
    grid = _frequencies(scope, statement, rest[1:4])
    settling = _eis_options(scope, statement)
    machine = scope.machine

    def points(after: SyncCode) -> Timed:
        amplitude, frequencies_Hz, (interval_s, periods) = read_amplitude(), grid(), settling()
        prepare(amplitude, bias())
        for frequency_Hz in frequencies_Hz:
            yield machine.time_s + max(interval_s, periods / frequency_Hz)
            _measure_point(scope, slots, frequency_Hz, amplitude)
            if signal := after():
                return signal
        return 0

    return points


def _measure_point(scope: Scope, slots: list[int], frequency_Hz: float, amplitude: float) -> None:
    z_ohm, voltage, current = scope.machine.front.impedance(frequency_Hz, amplitude)
    scope.store(slots[0], frequency_Hz, "dc")
    scope.store(slots[1], z_ohm.real, "cc", current.metadata)
    scope.store(slots[2], z_ohm.imag, "cd", voltage.metadata)


def _frequencies(
    scope: Scope, statement: Statement, tokens: list[str]
) -> Callable[[], list[float]]:
    """Return a function for a logarithmic grid, first and last frequency included."""
    read_first, read_last = (scope.quantity(statement, token) for token in tokens[:2])
    read_count = scope.count(statement, tokens[2])
    profile = scope.machine.front.profile

    def read() -> list[float]:
        first, last, count = read_first(), read_last(), read_count()
        for frequency_Hz in (first, last):
            if not profile.frequency_min_Hz <= frequency_Hz <= profile.frequency_max_Hz:
                raise Refusal(0x0011)
        if not 1 <= count <= _EIS_POINTS_MAX:
            raise Refusal(0x4205)
        ratio = last / first
        return [first * ratio ** (index / max(1, count - 1)) for index in range(count)]

    return read


def _eis_options(scope: Scope, statement: Statement) -> Callable[[], tuple[float, float]]:
    """Return a function for the least time of a point in s and its least number of periods."""
    unknown = set(statement.options) - {"eis_opt", "eis_tdd", "eis_acdc"}
    if unknown:
        raise statement.error(0x4008)
    if set(statement.options) - {"eis_opt"}:
        raise statement.error(0x001B)
    if "eis_opt" not in statement.options:
        return lambda: (_EIS_INTERVAL_S, _EIS_PERIODS)
    arguments = statement.options["eis_opt"]
    if len(arguments) != 2:
        raise statement.error(0x4008)
    slots = [scope.operand(statement, token) for token in arguments]
    values = scope.machine.values

    def read() -> tuple[float, float]:
        interval_s, periods = (float(values[slot]) for slot in slots)
        if not (interval_s >= 0 and periods >= 1):
            raise Refusal(0x4205)
        return max(interval_s, 1e-3), periods

    return read


# ---------------------------------------------------------------------------------- reports


def _report_applied(scope: Scope, statement: Statement, p: str, c: str) -> Callable[[float], None]:
    """Report the potential that was set, and the current that was measured."""
    p_slot, c_slot = scope.variable(statement, p), scope.variable(statement, c)
    extra, front = _extra(scope, statement), scope.machine.front

    def report(level_V: float) -> None:
        voltage, current = front.sample()
        scope.store(p_slot, level_V, "da")
        scope.store(c_slot, current.value, "ba", current.metadata)
        extra(voltage, current)

    return report


def _report_measured(scope: Scope, statement: Statement, p: str, c: str) -> Callable[[], None]:
    """Report potential and current as measured."""
    p_slot, c_slot = scope.variable(statement, p), scope.variable(statement, c)
    extra, front = _extra(scope, statement), scope.machine.front

    def report() -> None:
        voltage, current = front.sample()
        scope.store(p_slot, voltage.value, "ab", voltage.metadata)
        scope.store(c_slot, current.value, "ba", current.metadata)
        extra(voltage, current)

    return report


def _no_extra(voltage: Reading, current: Reading) -> None:
    """Report nothing more."""


def _extra(scope: Scope, statement: Statement) -> Callable[[Reading, Reading], None]:
    """Return what the option ``add_meas(variable type ...)`` stores: ``ab`` or ``ba``."""
    if set(statement.options) - {"add_meas"}:
        raise statement.error(0x4008)
    if "add_meas" not in statement.options:
        return _no_extra
    tokens = statement.options["add_meas"]
    pairs = list(zip(tokens[::2], tokens[1::2], strict=False))
    if len(tokens) % 2 or {kind for _, kind in pairs} - {"ab", "ba"}:
        raise statement.error(0x4209)
    wanted = [(scope.variable(statement, name), kind) for name, kind in pairs]

    def store(voltage: Reading, current: Reading) -> None:
        for slot, kind in wanted:
            reading = voltage if kind == "ab" else current
            scope.store(slot, reading.value, kind, reading.metadata)

    return store
