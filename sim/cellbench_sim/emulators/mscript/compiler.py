"""From parsed statements to closures: blocks, control flow, variables.

Every variable and literal becomes a numbered slot, so that a statement is a closure over lists and
small integers. Code without waiting becomes plain calls; only code that waits becomes generators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cellbench_sim.emulators.analog import FrontEnd
from cellbench_sim.emulators.mscript.machine import (
    Machine,
    Program,
    Signal,
    SyncCode,
    Timed,
    TimedCode,
)
from cellbench_sim.emulators.mscript.measurement import MEASUREMENTS, measure
from cellbench_sim.emulators.mscript.parser import Statement, parse
from cellbench_sim.emulators.mscript.registry import NOT_EMULATED, SYNC, TIMED
from cellbench_sim.emulators.mscript.scope import Scope
from cellbench_sim.emulators.mscript.statements import package_size, whole_package
from cellbench_sim.emulators.mscript.values import ScriptError

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
#: Device time that one pass of a ``loop`` takes, so that none is free.
_PASS_S = 1e-3
#: Passes of a loop within one measured sample after which the device has lost its timing.
_PASSES_MAX = 100_000


@dataclass(frozen=True)
class _Code:
    """A compiled statement or block; exactly one of the two is set."""

    sync: SyncCode | None = None
    timed: TimedCode | None = None

    def as_timed(self) -> TimedCode:
        if self.timed is not None:
            return self.timed
        return _without_waiting(self.sync or _nothing)


def compile_script(lines: Sequence[str], front: FrontEnd) -> Program:
    """Compile the lines of a script for one instrument.

    Raises:
        ScriptError: The instrument would not accept the script.
    """
    machine = Machine(front)
    script = parse(lines)
    scope = Scope(machine)
    main = _block(script.main, scope).as_timed()
    return Program(machine, main, _block(script.on_finished, scope).as_timed())


def _block(block: Sequence[Statement], scope: Scope) -> _Code:
    codes = []
    at = 0
    while at < len(block):
        if size := package_size(block[at:]):
            # Most samples are one package: it comes sooner in one piece.
            codes.append(_Code(sync=whole_package(scope, block[at : at + size])))
        else:
            codes.append(_statement(block[at], scope))
        at += size or 1
    if all(code.sync is not None for code in codes):
        return _Code(sync=_sync_block([code.sync for code in codes if code.sync is not None]))
    return _Code(timed=_timed_block(codes, scope.machine))


def _statement(statement: Statement, scope: Scope) -> _Code:
    command = statement.command
    if command in SYNC:
        return _Code(sync=SYNC[command](scope, statement))
    if command == "if":
        return _if(statement, scope)
    if command == "loop":
        return _loop(statement, scope)
    if command in TIMED:
        scope.refuse_in_measurement(statement)
        return _Code(timed=TIMED[command](scope, statement))
    if command in MEASUREMENTS:
        return _measurement(statement, scope)
    known = command in NOT_EMULATED
    raise statement.error(0x001B if known else 0x4001)


def _measurement(statement: Statement, scope: Scope) -> _Code:
    if scope.measurement is not None:
        raise statement.error(0x400B)
    points = MEASUREMENTS[statement.command](scope, statement)
    body = _block(statement.body, scope.inside(statement.command)).sync
    return _Code(timed=measure(scope.machine, points, body or _nothing))


def _if(statement: Statement, scope: Scope) -> _Code:
    holds = _condition(statement, scope)
    then, otherwise = _block(statement.body, scope), _otherwise(statement, scope)
    if then.sync is not None and otherwise.sync is not None:
        return _Code(sync=_sync_if(holds, then.sync, otherwise.sync))
    return _Code(timed=_timed_if(holds, then.as_timed(), otherwise.as_timed()))


def _otherwise(statement: Statement, scope: Scope) -> _Code:
    if len(statement.otherwise) == 1 and statement.otherwise[0].command == "elseif":
        return _if(statement.otherwise[0], scope)
    return _block(statement.otherwise, scope)


def _loop(statement: Statement, scope: Scope) -> _Code:
    holds = _condition(statement, scope)
    body = _block(statement.body, scope.inside_loop())
    if scope.measurement is not None:
        return _Code(sync=_sync_loop(scope.machine, holds, body.sync or _nothing, statement))
    return _Code(timed=_timed_loop(scope.machine, holds, body.as_timed()))


def _condition(statement: Statement, scope: Scope) -> Callable[[], bool]:
    left, symbol, right = scope.arguments(statement, 3)
    if symbol not in _COMPARE:
        raise statement.error(0x4004)
    compare, values = _COMPARE[symbol], scope.machine.values
    a, b, line = scope.operand(statement, left), scope.operand(statement, right), statement.line

    def holds() -> bool:
        x, y = values[a], values[b]
        if type(x) is not type(y):
            raise ScriptError(0x4207, line)
        return compare(x, y)

    return holds


def _nothing() -> int:
    return Signal.GO_ON


def _sync_block(codes: list[SyncCode]) -> SyncCode:
    if not codes:
        return _nothing
    if len(codes) == 1:
        return codes[0]

    def run() -> int:
        for code in codes:
            if signal := code():
                return signal
        return 0

    return run


def _timed_block(codes: Sequence[_Code], machine: Machine) -> TimedCode:
    pairs = [(code.sync, code.timed) for code in codes]

    def run() -> Timed:
        for sync, timed in pairs:
            signal = sync() if sync is not None else (yield from timed()) if timed else 0
            if machine.abort_requested:
                return Signal.ABORT
            if signal:
                return signal
        return Signal.GO_ON

    return run


def _without_waiting(code: SyncCode) -> TimedCode:
    def run() -> Timed:
        return code()
        yield

    return run


def _sync_if(holds: Callable[[], bool], then: SyncCode, otherwise: SyncCode) -> SyncCode:
    if otherwise is _nothing:
        return lambda: then() if holds() else 0
    return lambda: then() if holds() else otherwise()


def _timed_if(holds: Callable[[], bool], then: TimedCode, otherwise: TimedCode) -> TimedCode:
    def run() -> Timed:
        return (yield from then() if holds() else otherwise())

    return run


def _sync_loop(
    machine: Machine, holds: Callable[[], bool], body: SyncCode, statement: Statement
) -> SyncCode:
    def run() -> int:
        machine.emit("L\n")
        signal, passes = 0, 0
        while not signal and holds():
            signal = body()
            passes += 1
            if passes > _PASSES_MAX:
                raise ScriptError(0x0058, statement.line)
        machine.emit("+\n")
        return signal if signal == Signal.ABORT else Signal.GO_ON

    return run


def _timed_loop(machine: Machine, holds: Callable[[], bool], body: TimedCode) -> TimedCode:
    def run() -> Timed:
        machine.emit("L\n")
        signal = 0
        while not signal and holds():
            signal = yield from body()
            yield machine.time_s + _PASS_S
            if machine.abort_requested:
                signal = Signal.ABORT
        machine.emit("+\n")
        return signal if signal == Signal.ABORT else Signal.GO_ON

    return run
