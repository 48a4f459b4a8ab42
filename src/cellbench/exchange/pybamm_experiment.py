"""Protocols of ours as experiments of PyBaMM: a Python file that makes a `pybamm.Experiment`.

Steps are PyBaMM's own sentences ("Charge at 0.5 mA for 2 hours or until 4.2 V"); a pass of a loop
is a cycle. Currents are those of the cell: its capacity has to be the model's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from cellbench import __version__
from cellbench.exchange.cycling import (
    Cycling,
    Doing,
    Flow,
    Holding,
    Loop,
    Misfit,
    Origin,
    Passing,
    Resting,
    Scanning,
    Spectrum,
    refuse_fatal,
)

_UNITS_OF_TIME = (("hours", 3600.0), ("minutes", 60.0))


def written(cycling: Cycling, misfits: Sequence[Misfit] = ()) -> tuple[str, list[Misfit]]:
    """Write a protocol as a Python file; tells what does not fit.

    Args:
        cycling: What it does.
        misfits: What was found not to fit before; stands in the file with the rest.

    Raises:
        InputError: PyBaMM cannot say it.
    """
    found = [*misfits, Misfit(Origin(), "its limits: left out, the model has its own")]
    found += dict.fromkeys(_spectra(cycling.steps))
    cycles = list(_cycles(cycling.steps, "        "))
    if not cycles:
        found.append(Misfit(Origin(), "no step of it can be said there", fatal=True))
    refuse_fatal("PyBaMM", found)
    return "\n".join(_file(cycling, found, cycles)), found


def _spectra(steps: Sequence[Doing]) -> Iterator[Misfit]:
    for each in steps:
        if isinstance(each, Loop):
            yield from _spectra(each.steps)
        elif isinstance(each, Spectrum):
            yield Misfit(each.origin, "a spectrum, which no experiment measures: left out")


def _file(cycling: Cycling, misfits: Sequence[Misfit], cycles: Sequence[str]) -> Iterator[str]:
    made = f"Made by cellbench {__version__} for cell {cycling.cell}."
    told = [cycling.name, made, *(str(each) for each in misfits)]
    yield from (f"# {''.join(filter(str.isprintable, line))}" for line in told)
    yield ""
    if any("np.array" in line for line in cycles):
        yield "import numpy as np"
    yield from ["import pybamm", "", "experiment = pybamm.Experiment(", "    ["]
    yield from cycles
    yield "    ],"
    yield f'    period="{_number(cycling.record.every_s or 1.0)} seconds",'
    yield from [")", ""]


def _cycles(steps: Sequence[Doing], indent: str) -> Iterator[str]:
    """Lines of a list of cycles: single steps, and loops, whose passes are a cycle each."""
    for each in steps:
        if not isinstance(each, Loop):
            yield from (f"{indent}{step}," for step in _steps([each]))
        elif any(isinstance(inner, Loop) for inner in each.steps):
            yield f"{indent}*["
            yield from _cycles(each.steps, f"{indent}    ")
            yield f"{indent}] * {each.times},"
        else:
            yield from _passes(each, indent)


def _passes(loop: Loop, indent: str) -> Iterator[str]:
    inside = list(_steps(loop.steps))
    if inside:
        yield f"{indent}*[("
        yield from (f"{indent}    {step}," for step in inside)
        yield f"{indent})] * {loop.times},"


def _steps(steps: Sequence[Doing]) -> Iterator[str]:
    """Each step as an expression of Python."""
    for step in steps:
        match step:
            case Resting(duration_s=duration_s):
                yield json.dumps(f"Rest for {_time(duration_s)}")
            case Passing(current=current, until_V=until_V):
                verb = "Charge" if current.value > 0 else "Discharge"
                until = None if until_V is None else f"{_number(until_V)} V"
                yield json.dumps(f"{verb} at {_flow(current)}{_ends(step.duration_s, until)}")
            case Holding(voltage_V=voltage_V, until=flow):
                until = None if flow is None else _flow(flow)
                ends = _ends(step.duration_s, until)
                yield json.dumps(f"Hold at {_number(voltage_V)} V{ends}")
            case Scanning(start_V=start_V, end_V=end_V, rate_V_per_s=rate_V_per_s):
                duration_s = abs(end_V - start_V) / rate_V_per_s
                points = f"[0, {_number(start_V)}], [{_number(duration_s)}, {_number(end_V)}]"
                yield f"pybamm.step.voltage(np.array([{points}]))"
            case _:
                pass  # spectra are told of; loops have steps of their own


def _ends(duration_s: float | None, until: str | None) -> str:
    """What ends a step: " for 2 hours or until 4.2 V"."""
    time = "" if duration_s is None else f" for {_time(duration_s)}"
    if until is None:
        return time
    return f"{time} or until {until}" if time else f" until {until}"


def _flow(flow: Flow) -> str:
    value = abs(flow.value)
    return f"{_number(value)}C" if flow.is_rate else f"{_number(value * 1e3)} mA"


def _time(seconds: float) -> str:
    for unit, size in _UNITS_OF_TIME:
        if seconds % size == 0:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds)} seconds"


def _number(value: float) -> str:
    return f"{value:.12g}"
