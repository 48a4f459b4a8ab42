"""Statements that set the potentiostat up and switch the cell."""

from __future__ import annotations

from collections.abc import Callable

from cellbench_sim.emulators.mscript.machine import SyncCode
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.registry import sync
from cellbench_sim.emulators.mscript.scope import Scope, at_line
from cellbench_sim.emulators.refusal import Refusal

# ---------------------------------------------------------------------------------- settings


@sync("set_pgstat_chan")
def _set_pgstat_chan(scope: Scope, statement: Statement) -> SyncCode:
    (token,) = scope.arguments(statement, 1)
    channel = scope.operand(statement, token)

    def run() -> None:
        if scope.machine.values[channel] != 0:
            raise Refusal(0x002F)

    return at_line(statement.line, run)


@sync("set_pgstat_mode")
def _set_pgstat_mode(scope: Scope, statement: Statement) -> SyncCode:
    scope.refuse_in_measurement(statement)
    (token,) = scope.arguments(statement, 1)
    mode, machine = scope.operand(statement, token), scope.machine
    return at_line(statement.line, lambda: machine.front.set_mode(int(machine.values[mode])))


@sync("set_max_bandwidth", "set_acquisition_frac", "set_acquisition_frac_autoadjust")
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


@sync("set_range")
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


@sync("set_autoranging")
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


@sync("set_range_minmax")
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


@sync("set_e")
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


@sync("set_i")
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


@sync("cell_on")
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


@sync("cell_off")
def _cell_off(scope: Scope, statement: Statement) -> SyncCode:
    scope.refuse_in_measurement(statement)
    scope.arguments(statement, 0)
    return at_line(statement.line, scope.machine.front.switch_off)
