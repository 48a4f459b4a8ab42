"""Statements of MethodSCRIPT for variables, packages, time, and the script's end."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from cellbench_sim.emulators.mscript.machine import Machine, Signal, SyncCode, Timed, TimedCode
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.registry import sync, timed
from cellbench_sim.emulators.mscript.scope import Scope, at_line
from cellbench_sim.emulators.mscript.values import (
    Number,
    ScriptError,
    encode,
    encode_time,
)
from cellbench_sim.emulators.refusal import Refusal

_PACKAGE_MAX = 33
#: While it waits, a device looks this often whether it shall abort; and what it takes for no time.
_ABORT_LATENCY_S, _INSTANT_S = 1.0, 1e-5
_TIME = "eb"
_SUBSTITUTION = re.compile(r"\{([a-z][a-z0-9_]*)\}")

# ---------------------------------------------------------------------------------- variables


@sync("var")
def _var(scope: Scope, statement: Statement) -> SyncCode:
    (name,) = scope.arguments(statement, 1)
    scope.declare(statement, name)
    return lambda: 0


@sync("store_var")
def _store_var(scope: Scope, statement: Statement) -> SyncCode:
    name, token, type_name = scope.arguments(statement, 3)
    target, source = scope.variable(statement, name), scope.operand(statement, token)
    var_type, values = scope.var_type(statement, type_name), scope.machine.values

    def run() -> int:
        scope.store(target, values[source], var_type)
        return 0

    return run


@sync("copy_var")
def _copy_var(scope: Scope, statement: Statement) -> SyncCode:
    source, target = (scope.variable(statement, name) for name in scope.arguments(statement, 2))
    machine = scope.machine

    def run() -> int:
        scope.store(target, machine.values[source], machine.types[source], machine.metadata[source])
        return 0

    return run


def _divide(x: Number, y: Number) -> Number:
    if y == 0:
        raise Refusal(0x0028)
    return int(x / y) if isinstance(x, int) else x / y


_ARITHMETIC: dict[str, Callable[[Number, Number], Number]] = {
    "add_var": lambda x, y: x + y,
    "sub_var": lambda x, y: x - y,
    "mul_var": lambda x, y: x * y,
    "div_var": _divide,
}


@sync(*_ARITHMETIC)
def _arithmetic(scope: Scope, statement: Statement) -> SyncCode:
    name, token = scope.arguments(statement, 2)
    target, other = scope.variable(statement, name), scope.operand(statement, token)
    values, combine = scope.machine.values, _ARITHMETIC[statement.command]

    def run() -> None:
        x, y = values[target], values[other]
        if type(x) is not type(y):
            raise Refusal(0x4207)
        result = combine(x, y)
        if abs(result) == math.inf:
            raise Refusal(0x4037)
        values[target] = result

    return at_line(statement.line, run)


# ---------------------------------------------------------------------------------- output


@sync("pck_start")
def _pck_start(scope: Scope, statement: Statement) -> SyncCode:
    machine, line = scope.machine, statement.line

    def run() -> int:
        if machine.package is not None:
            raise ScriptError(0x401B, line)
        machine.package = []
        return 0

    return run


@sync("pck_add")
def _pck_add(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    slot, machine, line = scope.operand(statement, token), scope.machine, statement.line

    def run() -> int:
        package = machine.package
        if package is None:
            raise ScriptError(0x401B, line)
        if len(package) == _PACKAGE_MAX:
            raise ScriptError(0x401C, line)
        package.append(_packed(machine, slot))
        return 0

    return run


@sync("pck_end")
def _pck_end(scope: Scope, statement: Statement) -> SyncCode:
    machine, line = scope.machine, statement.line

    def run() -> int:
        package = machine.package
        if package is None:
            raise ScriptError(0x401B, line)
        machine.package = None
        machine.emit(f"P{';'.join(package)}\n")
        return 0

    return run


def whole_package(scope: Scope, statements: Sequence[Statement]) -> SyncCode:
    """Compile the statements of one package, as `package_size` finds it, to one."""
    start, *adds, _ = statements
    machine, line = scope.machine, start.line
    slots = [scope.operand(each, *scope.arguments(each, 1)) for each in adds]

    def run() -> int:
        if machine.package is not None:
            raise ScriptError(0x401B, line)
        machine.emit(f"P{';'.join([_packed(machine, slot) for slot in slots])}\n")
        return 0

    return run


def package_size(statements: Sequence[Statement]) -> int:
    """Return how many statements make a whole package at the start of these; 0 if none do."""
    size = 1
    while size < len(statements) and statements[size].command == "pck_add":
        size += 1
    ends = size < len(statements) and statements[size].command == "pck_end"
    whole = statements[0].command == "pck_start" and ends and size <= _PACKAGE_MAX + 1
    return size + 1 if whole else 0


def _packed(machine: Machine, slot: int) -> str:
    var_type, value = machine.types[slot], machine.values[slot]
    number = encode_time(value) if var_type == _TIME else encode(value)
    return f"{var_type}{number}{machine.metadata[slot]}"


@sync("send_string")
def _send_string(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    prefix, quote, text = token.partition('"')
    if not quote or not text.endswith('"'):
        raise statement.error(0x4004)
    machine, text = scope.machine, text[:-1]
    names = _SUBSTITUTION.findall(text) if prefix else []
    slots = {name: scope.variable(statement, name) for name in names}

    def run() -> int:
        said = text
        for name, slot in slots.items():
            said = said.replace(f"{{{name}}}", f"{machine.values[slot]:g}")
        machine.emit(f"T{said}\n")
        return 0

    return run


@sync("set_script_output")
def _set_script_output(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    output, machine = scope.operand(statement, token), scope.machine

    def run() -> None:
        mode = machine.values[output]
        if mode not in (0, 1, 3):
            raise Refusal(0x403C)
        machine.muted = mode == 0

    return at_line(statement.line, run)


# ---------------------------------------------------------------------------------- time, end


@sync("timer_start")
def _timer_start(scope: Scope, statement: Statement) -> SyncCode:
    scope.arguments(statement, 0)
    machine = scope.machine

    def run() -> int:
        machine.timer_started_s = machine.time_s
        return 0

    return run


@sync("timer_get")
def _timer_get(scope: Scope, statement: Statement) -> SyncCode:
    (name,) = scope.arguments(statement, 1)
    slot, machine = scope.variable(statement, name), scope.machine

    def run() -> int:
        machine.values[slot] = machine.time_s - machine.timer_started_s
        machine.types[slot] = _TIME
        machine.metadata[slot] = ""
        return 0

    return run


@sync("set_int")
def _set_int(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    read, machine = scope.quantity(statement, token), scope.machine

    def run() -> None:
        machine.interval_s, machine.interval_started_s = read(), machine.time_s
        if not machine.interval_s > 0:
            raise Refusal(0x4204)

    return at_line(statement.line, run)


@sync("breakloop")
def _breakloop(scope: Scope, statement: Statement) -> SyncCode:
    scope.arguments(statement, 0)
    if not scope.in_loop:
        raise statement.error(0x400C)
    return lambda: Signal.BREAK


@sync("abort")
def _abort(scope: Scope, statement: Statement) -> SyncCode:
    scope.arguments(statement, 0)
    return lambda: Signal.ABORT


@timed("wait")
def _wait(scope: Scope, statement: Statement) -> TimedCode:
    (token,) = scope.arguments(statement, 1)
    read, machine, line = scope.quantity(statement, token), scope.machine, statement.line

    def run() -> Timed:
        duration_s = read()
        if not 0 <= duration_s < math.inf:
            raise ScriptError(0x4200, line)
        end_s = machine.time_s + duration_s
        while (left_s := end_s - machine.time_s) > _INSTANT_S and not machine.abort_requested:
            yield machine.time_s + min(left_s, _ABORT_LATENCY_S)
        return 0

    return run


@timed("await_int")
def _await_int(scope: Scope, statement: Statement) -> TimedCode:
    scope.arguments(statement, 0)
    machine, line = scope.machine, statement.line

    def run() -> Timed:
        if not machine.interval_s:
            raise ScriptError(0x002E, line)
        passed = math.floor(
            (machine.time_s - machine.interval_started_s) / machine.interval_s + 1e-6
        )
        yield machine.interval_started_s + (passed + 1) * machine.interval_s
        return 0

    return run


@timed("meas")
def _meas(scope: Scope, statement: Statement) -> TimedCode:
    duration, name, type_name = scope.arguments(statement, 3)
    read, slot = scope.quantity(statement, duration), scope.variable(statement, name)
    if type_name not in ("ab", "ba"):
        raise statement.error(0x4209)
    machine, line = scope.machine, statement.line

    def run() -> Timed:
        duration_s = read()
        if not 0 < duration_s < math.inf:
            raise ScriptError(0x4204, line)
        yield machine.time_s + duration_s
        voltage, current = machine.front.sample()
        reading = voltage if type_name == "ab" else current
        scope.store(slot, reading.value, type_name, reading.metadata)
        return 0

    return run
