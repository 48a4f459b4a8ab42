"""The statements of MethodSCRIPT other than measurement loops and control flow."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from cellbench_sim.emulators.mscript.machine import Signal, SyncCode, Timed, TimedCode
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.scope import Scope, at_line
from cellbench_sim.emulators.mscript.values import (
    Number,
    ScriptError,
    encode,
    encode_time,
)
from cellbench_sim.emulators.refusal import Refusal

#: Commands that instruments have and that are not emulated.
NOT_EMULATED = frozenset(
    ["array", "meas_loop_acv", "meas_loop_cv", "meas_loop_dpv", "meas_loop_fca", "meas_loop_npv", "meas_loop_pad", "meas_loop_swv", "meas_loop_eis_dual", "meas_fast_ca", "meas_fast_cv", "set_gpio_cfg", "set_gpio", "get_gpio", "set_gpio_pullup", "i2c_config", "i2c_read", "i2c_write", "i2c_write_read", "file_open", "file_close", "hibernate", "rtc_get", "beep", "alter_vartype", "int_to_float", "float_to_int", "log_var", "pow_var", "mod_var", "abs_var", "bit_and_var", "bit_or_var", "bit_xor_var", "smooth", "peak_detect", "mux_config", "mux_set_channel", "set_ir_comp", "set_poly_we_mode", "set_scan_dir"]
)
_PACKAGE_MAX = 33
#: While it waits, a device looks this often whether it shall abort; and what it takes for no time.
_ABORT_LATENCY_S, _INSTANT_S = 1.0, 1e-5
_TIME = "eb"
_SUBSTITUTION = re.compile(r"\{([a-z][a-z0-9_]*)\}")

SYNC: dict[str, Callable[[Scope, Statement], SyncCode]] = {}
TIMED: dict[str, Callable[[Scope, Statement], TimedCode]] = {}


def _sync(
    *names: str,
) -> Callable[[Callable[[Scope, Statement], SyncCode]], Callable[[Scope, Statement], SyncCode]]:
    def register(
        compile_it: Callable[[Scope, Statement], SyncCode],
    ) -> Callable[[Scope, Statement], SyncCode]:
        SYNC.update(dict.fromkeys(names, compile_it))
        return compile_it

    return register


def _timed(
    name: str,
) -> Callable[[Callable[[Scope, Statement], TimedCode]], Callable[[Scope, Statement], TimedCode]]:
    def register(
        compile_it: Callable[[Scope, Statement], TimedCode],
    ) -> Callable[[Scope, Statement], TimedCode]:
        TIMED[name] = compile_it
        return compile_it

    return register


# ---------------------------------------------------------------------------------- variables


@_sync("var")
def _var(scope: Scope, statement: Statement) -> SyncCode:
    (name,) = scope.arguments(statement, 1)
    scope.declare(statement, name)
    return lambda: 0


@_sync("store_var")
def _store_var(scope: Scope, statement: Statement) -> SyncCode:
    name, token, type_name = scope.arguments(statement, 3)
    target, source = scope.variable(statement, name), scope.operand(statement, token)
    var_type, values = scope.var_type(statement, type_name), scope.machine.values

    def run() -> int:
        scope.store(target, values[source], var_type)
        return 0

    return run


@_sync("copy_var")
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


@_sync(*_ARITHMETIC)
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


# ---------------------------------------------------------------------------------- settings


@_sync("set_pgstat_chan")
def _set_pgstat_chan(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    channel = scope.operand(statement, token)

    def run() -> None:
        if scope.machine.values[channel] != 0:
            raise Refusal(0x002F)

    return at_line(statement.line, run)


@_sync("set_pgstat_mode")
def _set_pgstat_mode(scope: Scope, statement: Statement) -> SyncCode:
    scope.refuse_in_measurement(statement)
    (token,) = scope.arguments(statement, 1)
    mode, machine = scope.operand(statement, token), scope.machine
    return at_line(statement.line, lambda: machine.front.set_mode(int(machine.values[mode])))


@_sync("set_max_bandwidth", "set_acquisition_frac", "set_acquisition_frac_autoadjust")
def _setting_without_effect(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    scope.operand(statement, token)
    return lambda: 0


def _refuse_range_in_active_loop(scope: Scope, statement: Statement, var_type: str) -> None:
    if scope.measurement in ("meas_loop_ca", "meas_loop_lsv", "meas_loop_eis") and var_type == "da":
        raise statement.error(0x4032)
    if scope.measurement in ("meas_loop_cp", "meas_loop_lsp", "meas_loop_geis") and (
        var_type == "db"
    ):
        raise statement.error(0x4033)


def _range_type(scope: Scope, statement: Statement, token: str) -> str:
    var_type = scope.var_type(statement, token)
    if var_type not in ("ab", "ba", "da", "db"):
        raise statement.error(0x4209)
    _refuse_range_in_active_loop(scope, statement, var_type)
    return var_type


@_sync("set_range")
def _set_range(scope: Scope, statement: Statement) -> SyncCode:
    token, expected = scope.arguments(statement, 2)
    var_type, front = _range_type(scope, statement, token), scope.machine.front
    read = scope.quantity(statement, expected)

    def run() -> None:
        value = read()
        if var_type == "ab":
            front.potentials.fix(value)
        elif var_type == "da":
            front.check_potential(value)
        elif abs(value) > front.profile.current_max_A * (1 + 1e-9):
            raise Refusal(0x4206)
        else:
            front.currents.fix(value)

    return at_line(statement.line, run)


@_sync("set_autoranging")
def _set_autoranging(scope: Scope, statement: Statement) -> SyncCode:
    token, low, high = scope.arguments(statement, 3)
    var_type, front = _range_type(scope, statement, token), scope.machine.front
    read_low, read_high = scope.quantity(statement, low), scope.quantity(statement, high)

    def run() -> None:
        smallest, largest = sorted((abs(read_low()), abs(read_high())))
        if var_type == "ab":
            front.potentials.auto(smallest, largest)
        elif var_type != "da":
            front.currents.auto(smallest, largest)

    return at_line(statement.line, run)


@_sync("set_range_minmax")
def _set_range_minmax(scope: Scope, statement: Statement) -> SyncCode:
    token, low, high = scope.arguments(statement, 3)
    var_type, front = _range_type(scope, statement, token), scope.machine.front
    read_low, read_high = scope.quantity(statement, low), scope.quantity(statement, high)

    def run() -> None:
        lowest, highest = sorted((read_low(), read_high()))
        largest = max(abs(lowest), abs(highest))
        if var_type == "da":
            front.limit_potential(lowest, highest)
        elif var_type == "ab":
            front.potentials.fix(largest)
        else:
            front.currents.fix(largest)

    return at_line(statement.line, run)


# ---------------------------------------------------------------------------------- the cell


@_sync("set_e")
def _set_e(scope: Scope, statement: Statement) -> SyncCode:
    if scope.measurement is not None:
        raise statement.error(0x4032)
    (token,) = scope.arguments(statement, 1)
    read, front = scope.quantity(statement, token), scope.machine.front

    def run() -> None:
        if front.galvanostat or not front.mode:
            raise Refusal(0x0023)
        front.set_potential(read())

    return at_line(statement.line, run)


@_sync("set_i")
def _set_i(scope: Scope, statement: Statement) -> SyncCode:
    if scope.measurement is not None:
        raise statement.error(0x4033)
    (token,) = scope.arguments(statement, 1)
    read, front = scope.quantity(statement, token), scope.machine.front

    def run() -> None:
        if not front.galvanostat:
            raise Refusal(0x0023)
        front.set_current(read())

    return at_line(statement.line, run)


@_sync("cell_on")
def _cell_on(scope: Scope, statement: Statement) -> SyncCode:
    scope.refuse_in_measurement(statement)
    scope.arguments(statement, 0)
    front = scope.machine.front
    at_potential = _ocp_option(scope, statement)

    def run() -> None:
        if not front.mode:
            raise Refusal(0x0023)
        if at_potential is not None and not front.galvanostat:
            front.set_potential(at_potential())
        front.switch_on()

    return at_line(statement.line, run)


def _ocp_option(scope: Scope, statement: Statement) -> Callable[[], float] | None:
    if set(statement.options) - {"ocp"}:
        raise statement.error(0x4008)
    if "ocp" not in statement.options:
        return None
    arguments = statement.options["ocp"]
    if len(arguments) != 1:
        raise statement.error(0x4008)
    return scope.quantity(statement, arguments[0])


@_sync("cell_off")
def _cell_off(scope: Scope, statement: Statement) -> SyncCode:
    scope.refuse_in_measurement(statement)
    scope.arguments(statement, 0)
    return at_line(statement.line, scope.machine.front.switch_off)


# ---------------------------------------------------------------------------------- output


@_sync("pck_start")
def _pck_start(scope: Scope, statement: Statement) -> SyncCode:
    machine, line = scope.machine, statement.line

    def run() -> int:
        if machine.package is not None:
            raise ScriptError(0x401B, line)
        machine.package = []
        return 0

    return run


@_sync("pck_add")
def _pck_add(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    slot, machine, line = scope.operand(statement, token), scope.machine, statement.line
    values, types, metadata = machine.values, machine.types, machine.metadata

    def run() -> int:
        package = machine.package
        if package is None:
            raise ScriptError(0x401B, line)
        if len(package) == _PACKAGE_MAX:
            raise ScriptError(0x401C, line)
        var_type, value = types[slot], values[slot]
        number = encode_time(value) if var_type == _TIME else encode(value)
        package.append(f"{var_type}{number}{metadata[slot]}")
        return 0

    return run


@_sync("pck_end")
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


@_sync("send_string")
def _send_string(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    prefix, quote, text = token.partition('"')
    if not quote or not text.endswith('"'):
        raise statement.error(0x4004)
    machine, text = scope.machine, text[:-1]
    if not prefix:
        return lambda: machine.emit(f"T{text}\n") or 0
    slots = {name: scope.variable(statement, name) for name in _SUBSTITUTION.findall(text)}

    def run() -> int:
        said = _SUBSTITUTION.sub(lambda match: f"{machine.values[slots[match[1]]]:g}", text)
        machine.emit(f"T{said}\n")
        return 0

    return run


@_sync("set_script_output")
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


@_sync("timer_start")
def _timer_start(scope: Scope, statement: Statement) -> SyncCode:
    scope.arguments(statement, 0)
    machine = scope.machine

    def run() -> int:
        machine.timer_started_s = machine.time_s
        return 0

    return run


@_sync("timer_get")
def _timer_get(scope: Scope, statement: Statement) -> SyncCode:
    (name,) = scope.arguments(statement, 1)
    slot, machine = scope.variable(statement, name), scope.machine

    def run() -> int:
        machine.values[slot] = machine.time_s - machine.timer_started_s
        machine.types[slot] = _TIME
        machine.metadata[slot] = ""
        return 0

    return run


@_sync("set_int")
def _set_int(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    read, machine = scope.quantity(statement, token), scope.machine

    def run() -> None:
        machine.interval_s, machine.interval_started_s = read(), machine.time_s
        if not machine.interval_s > 0:
            raise Refusal(0x4204)

    return at_line(statement.line, run)


@_sync("breakloop")
def _breakloop(scope: Scope, statement: Statement) -> SyncCode:
    scope.arguments(statement, 0)
    if not scope.in_loop:
        raise statement.error(0x400C)
    return lambda: Signal.BREAK


@_sync("abort")
def _abort(scope: Scope, statement: Statement) -> SyncCode:
    scope.arguments(statement, 0)
    return lambda: Signal.ABORT


@_timed("wait")
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


@_timed("await_int")
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


@_timed("meas")
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
