"""Measurement loops in time: constant potential or current, open circuit, and sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from cellbench_sim.emulators.mscript.machine import Machine, SyncCode, Timed
from cellbench_sim.emulators.mscript.measurement import (
    GALVANOSTAT,
    MODELESS,
    POTENTIOSTAT,
    Points,
    extra_readings,
    measurement,
    report_applied,
    report_measured,
)
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.scope import Scope
from cellbench_sim.emulators.refusal import Refusal

#: Between two samples that lie further apart, the output stage looks at its limits this often.
_REGULATE_EVERY_S = 10.0

# ---------------------------------------------------------------------------------- in time


@measurement("meas_loop_ca", "0007", POTENTIOSTAT)
def _ca(scope: Scope, statement: Statement) -> Points:
    p, c, level, interval, duration = scope.arguments(statement, 5)
    potential = scope.quantity(statement, level)
    timing = _timing(scope, statement, interval, duration)
    report = report_applied(scope, statement, p, c)
    machine = scope.machine

    def points(after: SyncCode) -> Timed:
        potential_V, (interval_s, count) = potential(), timing()
        machine.front.set_potential(potential_V)
        return _sampled(machine, interval_s, count, lambda: report(potential_V), after)

    return points


@measurement("meas_loop_cp", "000A", GALVANOSTAT)
def _cp(scope: Scope, statement: Statement) -> Points:
    p, c, level, interval, duration = scope.arguments(statement, 5)
    current = scope.quantity(statement, level)
    timing = _timing(scope, statement, interval, duration)
    report = report_measured(scope, statement, p, c)
    machine = scope.machine

    def points(after: SyncCode) -> Timed:
        interval_s, count = timing()
        machine.front.set_current(current())
        return _sampled(machine, interval_s, count, report, after)

    return points


@measurement("meas_loop_ocp", "000B", MODELESS)
def _ocp(scope: Scope, statement: Statement) -> Points:
    p, interval, duration = scope.arguments(statement, 3)
    timing = _timing(scope, statement, interval, duration)
    slot, machine = scope.variable(statement, p), scope.machine
    extra = extra_readings(scope, statement)

    def report() -> None:
        voltage, current = machine.front.sample()
        scope.store(slot, voltage.value, "ab", voltage.metadata)
        extra(voltage, current)

    def points(after: SyncCode) -> Timed:
        interval_s, count = timing()
        return _sampled(machine, interval_s, count, report, after)

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


@measurement("meas_loop_lsv", "0000", POTENTIOSTAT)
def _lsv(scope: Scope, statement: Statement) -> Points:
    p, c, *sweep = scope.arguments(statement, 6)
    steps = _steps(scope, statement, sweep)
    report = report_applied(scope, statement, p, c)
    front = scope.machine.front

    def points(after: SyncCode) -> Timed:
        levels, interval_s = steps()
        for level_V in (levels[0], levels[-1]):
            front.check_potential(level_V)
        return _swept(
            scope.machine,
            levels,
            interval_s,
            apply=front.set_potential,
            report=report,
            after=after,
        )

    return points


@measurement("meas_loop_lsp", "000F", GALVANOSTAT)
def _lsp(scope: Scope, statement: Statement) -> Points:
    p, c, *sweep = scope.arguments(statement, 6)
    steps = _steps(scope, statement, sweep)
    report = report_measured(scope, statement, p, c)
    front = scope.machine.front

    def points(after: SyncCode) -> Timed:
        levels, interval_s = steps()
        for level_A in (levels[0], levels[-1]):
            front.check_current(level_A)
        return _swept(
            scope.machine,
            levels,
            interval_s,
            apply=front.set_current,
            report=lambda _: report(),
            after=after,
        )

    return points


def _swept(
    machine: Machine,
    levels: list[float],
    interval_s: float,
    *,
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
