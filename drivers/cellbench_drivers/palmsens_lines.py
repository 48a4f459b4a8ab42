"""Lines of MethodSCRIPT that programs are put together from: ranges, limits, cut-offs, packages.

Source: MethodSCRIPT manual 1.8. In all of them ``p`` is the voltage, ``c`` the current and ``t``
the time since the loop began.
"""

from __future__ import annotations

from collections.abc import Sequence

from cellbench.instruments.techniques import CutOff, ElectricalLimits
from cellbench_drivers.methodscript import literal
from cellbench_drivers.palmsens_models import Model

POTENTIOSTAT, GALVANOSTAT = 3, 6
BANDWIDTH_MAX_HZ = 1e6
#: Low-pass of the measuring path, in samples: well above what the interval resolves.
_BANDWIDTH_INTERVALS = 10.0
#: A set voltage equal to a limit is allowed; the accuracy of the instrument is then no trip.
_VOLTAGE_ACCURACY_V = 5e-3


def program(head: Sequence[str], *loops: tuple[str, Sequence[str]]) -> str:
    """Put a program together: set-up, measurement loops, and the cell open at its end."""
    lines = [*head]
    for loop, body in loops:
        lines += loop_over(loop, body)
    lines += ["on_finished:", *_indent(["cell_off"])]
    return "".join(f"{line}\n" for line in lines)


def loop_over(loop: str, body: Sequence[str]) -> list[str]:
    """Write a loop: of measurement, or over a condition."""
    return [loop, *_indent(body), "endloop"]


def time_left(until: str) -> list[str]:
    """Put what is left of the time until a variable's into ``d``."""
    return [f"copy_var {until} d", "timer_get t", "sub_var d t"]


def if_above(variable: str, value: float, then: Sequence[str]) -> list[str]:
    """Do something where a variable is at or above a value."""
    return _if(variable, ">=", value, then)


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def declare(*names: str) -> list[str]:
    """Declare variables."""
    return [f"var {name}" for name in names]


def mode(number: int, interval_s: float) -> list[str]:
    """Choose the mode, and a bandwidth that suits the interval."""
    return [*select(number), bandwidth_for(interval_s)]


def mode_with_bandwidth(number: int, bandwidth_Hz: float) -> list[str]:
    """Choose mode and bandwidth."""
    return [*select(number), bandwidth(bandwidth_Hz)]


def select(number: int) -> list[str]:
    """Choose the mode; this opens the cell."""
    return ["set_pgstat_chan 0", f"set_pgstat_mode {number}"]


def bandwidth_for(interval_s: float) -> str:
    """Choose a bandwidth that suits the interval."""
    return bandwidth(_BANDWIDTH_INTERVALS / interval_s)


def bandwidth(bandwidth_Hz: float) -> str:
    """Choose a bandwidth."""
    return f"set_max_bandwidth {literal(min(bandwidth_Hz, BANDWIDTH_MAX_HZ))}"


def voltage_range(limits: ElectricalLimits, model: Model) -> list[str]:
    """Measure voltages up to the limits."""
    window_V = max(abs(limits.voltage_min_V), abs(limits.voltage_max_V))
    top_V = min(window_V, max(-model.voltage_min_V, model.voltage_max_V))
    return [
        f"set_range ab {literal(top_V)}",
        f"set_autoranging ab {literal(top_V / 10)} {literal(top_V)}",
    ]


def potentiostat_range(low_A: float, top_A: float) -> list[str]:
    """Measure currents in ranges from one to another."""
    return [
        f"set_range ba {literal(top_A)}",
        f"set_autoranging ba {literal(low_A)} {literal(top_A)}",
    ]


def galvanostat_range(top_A: float) -> list[str]:
    """Control currents in one range."""
    top = literal(top_A)
    return [f"set_range db {top}", f"set_autoranging db {top} {top}"]


def window(limits: ElectricalLimits, model: Model) -> list[str]:
    """Bound what may be applied at all, by the limits as far as the instrument reaches."""
    lowest_V = max(limits.voltage_min_V, model.voltage_min_V)
    highest_V = min(limits.voltage_max_V, model.voltage_max_V)
    return [f"set_range_minmax da {literal(lowest_V)} {literal(highest_V)}"]


def measure_open_circuit(limits: ElectricalLimits, *, printed: bool = False) -> list[str]:
    """Measure the open cell into ``p``; outside the limits it is never closed."""
    lines = ["cell_off", "meas 100m p ab"]
    if printed:
        lines += ["pck_start", "pck_add p", "pck_end"]
    return [*lines, *voltage_trips(limits.voltage_min_V, limits.voltage_max_V)]


def package(*names: str) -> list[str]:
    """Print variables and the time of the row."""
    return ["timer_get t", "pck_start", *(f"pck_add {name}" for name in names), "pck_end"]


def dc_body(
    cut_offs: Sequence[CutOff], limits: ElectricalLimits, leave: str = "breakloop"
) -> list[str]:
    """Write the body of a loop that measures voltage and current.

    Args:
        cut_offs: Those of the technique.
        limits: Those of the cell.
        leave: The statement that a cut-off ends with.
    """
    # Cut-offs first: a charge to exactly the limit then ends as it was meant to.
    return [
        *package("p", "c", "t"),
        *cut_off_lines(cut_offs, ("voltage", "current"), leave),
        *voltage_trips(limits.voltage_min_V, limits.voltage_max_V),
        *_if("c", ">=", limits.current_max_A, _trip("current max")),
        *_if("c", "<=", -limits.current_max_A, _trip("current max")),
    ]


def voltage_trips(voltage_min_V: float, voltage_max_V: float) -> list[str]:
    """Abort when the voltage is at a limit."""
    return [
        *_if("p", ">=", voltage_max_V, _trip("voltage max")),
        *_if("p", "<=", voltage_min_V, _trip("voltage min")),
    ]


def _trip(which: str) -> list[str]:
    return [f'send_string "TRIP {which}"', "abort"]


def cut_off_lines(
    cut_offs: Sequence[CutOff], measured: tuple[str, ...], leave: str = "breakloop"
) -> list[str]:
    """Leave the loop at those cut-offs whose quantity is measured."""
    lines: list[str] = []
    for index, cut_off in enumerate(cut_offs):
        if cut_off.quantity in measured:
            lines += _cut_off(cut_off, [f'send_string "CUT {index}"', leave])
    return lines


def _cut_off(cut_off: CutOff, then: list[str]) -> list[str]:
    value = cut_off.value
    if cut_off.quantity == "voltage":
        lines = _if("p", ">=" if cut_off.above else "<=", value, then)
    elif cut_off.above:
        lines = [*_if("c", ">=", value, then), *_if("c", "<=", -value, then)]
    else:
        lines = _if("c", "<=", value, _if("c", ">=", -value, then))
    return _if("t", ">=", cut_off.after_s, lines) if cut_off.after_s else lines


def _if(variable: str, comparison: str, value: float, then: Sequence[str]) -> list[str]:
    return [f"if {variable} {comparison} {literal(value)}", *_indent(then), "endif"]


def around(limits: ElectricalLimits, *voltages_V: float) -> ElectricalLimits:
    """Let a voltage that is set right at a limit be no trip."""
    lowest_V = min(voltages_V) - _VOLTAGE_ACCURACY_V
    highest_V = max(voltages_V) + _VOLTAGE_ACCURACY_V
    return limits.model_copy(
        update={
            "voltage_min_V": min(limits.voltage_min_V, lowest_V),
            "voltage_max_V": max(limits.voltage_max_V, highest_V),
        }
    )
