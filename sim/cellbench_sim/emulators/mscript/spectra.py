"""Measurement loops over frequency: impedance spectra at a potential or at a current."""

from __future__ import annotations

from collections.abc import Callable

from cellbench_sim.emulators.mscript.machine import SyncCode, Timed
from cellbench_sim.emulators.mscript.measurement import (
    GALVANOSTAT,
    HIGH_SPEED,
    Points,
    measurement,
)
from cellbench_sim.emulators.mscript.parser import Statement
from cellbench_sim.emulators.mscript.scope import Scope
from cellbench_sim.emulators.refusal import Refusal

#: A point of a spectrum: shortest time, and the periods that it averages over.
_EIS_INTERVAL_S, _EIS_PERIODS = 0.05, 2.0
_EIS_AMPLITUDE_V = (1e-3, 0.25)
_EIS_POINTS_MAX = 1000

# ---------------------------------------------------------------------------------- impedance


@measurement("meas_loop_eis", "000D", HIGH_SPEED)
def _eis(scope: Scope, statement: Statement) -> Points:
    front = scope.machine.front

    def prepare(amplitude_V: float, bias_V: float) -> None:
        smallest_V, largest_V = _EIS_AMPLITUDE_V
        if not smallest_V <= amplitude_V <= largest_V:
            raise Refusal(0x0012)
        front.set_potential(bias_V)

    return _spectrum(scope, statement, prepare)


@measurement("meas_loop_geis", "000E", GALVANOSTAT)
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
