"""What all measurement loops of MethodSCRIPT have in common: frame, conditions, reports.

A measurement compiles to a generator of its own: it sets the output up, yields the time at which
each point is due, stores the point's values, and runs the loop's body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cellbench_sim.emulators.analog import Reading
from cellbench_sim.emulators.mscript.machine import Machine, Signal, SyncCode, Timed, TimedCode
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.scope import Scope
from cellbench_sim.emulators.mscript.values import ScriptError
from cellbench_sim.emulators.refusal import Refusal

#: Potentiostat modes that a measurement may need; an open circuit needs none, and the cell off.
POTENTIOSTAT, HIGH_SPEED, GALVANOSTAT = frozenset({2, 3, 4}), frozenset({3, 4}), frozenset({6})
MODELESS = frozenset(range(7))

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
        if self.modes is MODELESS:
            if front.cell_is_on:
                raise Refusal(0x0014)
        elif front.mode not in self.modes:
            raise Refusal(0x0023)
        elif not front.cell_is_on:
            raise Refusal(0x4027)


MEASUREMENTS: dict[str, Callable[[Scope, Statement], Measurement]] = {}


def measure(machine: Machine, loop: Measurement, body: SyncCode) -> TimedCode:
    """Return the code of a measurement loop that runs ``body`` after every point."""
    after_point = _after_point(machine, body)

    def run() -> Timed:
        try:
            loop.check(machine)
            machine.emit(f"M{loop.technique}\n")
            machine.skip_requested = False
            signal = yield from loop.points(after_point)
        except Refusal as fault:
            raise ScriptError(fault.code, loop.line) from fault
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


def measurement(
    command: str, technique: str, modes: frozenset[int]
) -> Callable[[Callable[[Scope, Statement], Points]], Callable[[Scope, Statement], Points]]:
    """Register the decorated function as the compiler of a measurement loop's points."""

    def register(
        compile_points: Callable[[Scope, Statement], Points],
    ) -> Callable[[Scope, Statement], Points]:
        def compile_it(scope: Scope, statement: Statement) -> Measurement:
            points = compile_points(scope, statement)
            return Measurement(technique, statement.line, modes, points)

        MEASUREMENTS[command] = compile_it
        return compile_points

    return register


# ---------------------------------------------------------------------------------- reports


def report_applied(scope: Scope, statement: Statement, p: str, c: str) -> Callable[[float], None]:
    """Report the potential that was set, and the current that was measured."""
    p_slot, c_slot = scope.variable(statement, p), scope.variable(statement, c)
    extra, front = extra_readings(scope, statement), scope.machine.front

    def report(level_V: float) -> None:
        voltage, current = front.sample()
        scope.store(p_slot, level_V, "da")
        scope.store(c_slot, current.value, "ba", current.metadata)
        extra(voltage, current)

    return report


def report_measured(scope: Scope, statement: Statement, p: str, c: str) -> Callable[[], None]:
    """Report potential and current as measured."""
    p_slot, c_slot = scope.variable(statement, p), scope.variable(statement, c)
    extra, front = extra_readings(scope, statement), scope.machine.front

    def report() -> None:
        voltage, current = front.sample()
        scope.store(p_slot, voltage.value, "ab", voltage.metadata)
        scope.store(c_slot, current.value, "ba", current.metadata)
        extra(voltage, current)

    return report


def _no_extra(voltage: Reading, current: Reading) -> None:
    """Report nothing more."""


def extra_readings(scope: Scope, statement: Statement) -> Callable[[Reading, Reading], None]:
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
