"""A cycling protocol of another program, written as a protocol of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from cellbench import __version__
from cellbench.cell import CardError, CellCard
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
    Safety,
    Scanning,
    Spectrum,
)

_TERMINALS = "V at the terminals"
_PLAIN = re.compile(r"[A-Za-z][\w ()/.-]*")
_UNITS_OF_TIME = (("h", 3600.0), ("min", 60.0))
#: What bounds a step of which the other program says nothing, and no charge can.
_LONGEST = "24 h"
#: Capacities that differ by less are the same.
_SAME = 0.01


def protocol_text(
    cycling: Cycling,
    misfits: Sequence[Misfit],
    source: str,
    card: CellCard | None = None,
    card_file: str = "",
) -> tuple[str, list[Misfit]]:
    """Write a protocol of ours, with what does not fit as remarks on top.

    Args:
        cycling: What it does.
        misfits: What was found not to fit when it was read.
        source: The file that it comes from.
        card: The cell that it is for; without one, currents have signs and nothing charges.
        card_file: Its file or shipped name, which the protocol then names.

    Returns:
        The text, and all that does not fit.
    """
    found = [*misfits, *_of_capacity(cycling, card), *_of_window(cycling.safety, card)]
    return "\n".join([*_head(cycling, found, source, card_file), *_body(cycling, card), ""]), found


def _of_capacity(cycling: Cycling, card: CellCard | None) -> Iterator[Misfit]:
    """C-rates refer to the card here, whatever capacity the file gives."""
    given_C = cycling.capacity_C
    if given_C is None or not _has_rates(cycling.steps):
        return
    given = f"its capacity of {given_C / 3.6:.6g} mAh"
    if card is None:
        yield Misfit(Origin(), f"{given}: C-rates refer to that of the cell card")
        return
    try:
        known_C = card.nominal_capacity_C
    except CardError:
        return  # check says so, at each C-rate
    if abs(known_C - given_C) > _SAME * given_C:
        text = f"{given}: C-rates refer to {known_C / 3.6:.6g} mAh, as the card of {card.cell} says"
        yield Misfit(Origin(), text)


def _of_window(safety: Safety, card: CellCard | None) -> Iterator[Misfit]:
    """A card's limits are never widened."""
    if card is None:
        return
    low_V, high_V = card.voltage_window_V
    if (safety.voltage_max_V or high_V) > high_V or (safety.voltage_min_V or low_V) < low_V:
        text = f"limits of the voltage: those of the card count, {low_V:g} to {high_V:g} V"
        yield Misfit(Origin(), text)


def _has_rates(steps: Sequence[Doing]) -> bool:
    return any(
        _has_rates(each.steps)
        if isinstance(each, Loop)
        else (isinstance(each, Passing) and each.current.is_rate)
        or (isinstance(each, Holding) and each.until is not None and each.until.is_rate)
        for each in steps
    )


# --- The parts of the file ------------------------------------------------------------------------


def _head(
    cycling: Cycling, misfits: Sequence[Misfit], source: str, card_file: str
) -> Iterator[str]:
    yield f"# From {_one_line(source)}, by cellbench {__version__}."
    for each in misfits:
        yield f"# {_one_line(str(each))}"
    yield "cellbench: 1"
    yield f"name: {_quoted(cycling.name)}"
    if card_file:
        yield f"cell: {_quoted(card_file)}"


def _body(cycling: Cycling, card: CellCard | None) -> Iterator[str]:
    limits = list(_limits(cycling.safety))
    if limits:
        yield from ["", "limits:", *(f"  {line}" for line in limits)]
    steps = list(_Writer(card).lines(cycling.steps, "  "))
    if any("$longest" in line for line in steps):
        yield from ["", "parameters:", f"  longest: {_LONGEST}"]
    yield from ["", "define:", f"  rows: {{{', '.join(_record(cycling))}}}"]
    yield from ["", "steps:", *steps]


def _limits(safety: Safety) -> Iterator[str]:
    low_V, high_V = safety.voltage_min_V, safety.voltage_max_V
    if low_V is not None and high_V is not None:
        yield f"voltage: {_number(low_V)} V to {_number(high_V)} {_TERMINALS}"
    elif high_V is not None:
        yield f"voltage: at most {_number(high_V)} {_TERMINALS}"
    elif low_V is not None:
        yield f"voltage: at least {_number(low_V)} {_TERMINALS}"
    if safety.current_max_A is not None:
        yield f"current: at most {_milli(safety.current_max_A)} mA"
    if safety.charge_max_C is not None:
        yield f"charge: at most {_number(safety.charge_max_C / 3.6)} mAh"


def _record(cycling: Cycling) -> Iterator[str]:
    record = cycling.record
    yield f"every: {_time(record.every_s or 1.0)}"
    if record.dV_V is not None:
        yield f"dV: {_milli(record.dV_V)} mV"
    if record.dI_A is not None:
        yield f"dI: {_milli(record.dI_A)} mA"


class _Writer:
    """Writes steps.

    Args:
        card: Whether a positive current charges its cell; without one, nobody knows.
    """

    def __init__(self, card: CellCard | None) -> None:
        positive = card is not None and card.charge_current == "positive"
        self._says_charge = card is not None and card.knows_charge and positive
        self._names: set[str] = set()

    def lines(self, steps: Sequence[Doing], indent: str) -> Iterator[str]:
        """The lines of some steps."""
        for each in steps:
            if isinstance(each, Loop):
                yield f"{indent}- repeat: {each.times}"
                name = self._name(each.name)
                if name:
                    yield f"{indent}  name: {name}"
                yield f"{indent}  steps:"
                yield from self.lines(each.steps, f"{indent}    ")
            else:
                yield f"{indent}- {self._step(each)}"

    def _name(self, name: str) -> str:
        """A loop's name as a path can hold it, if nothing else has it."""
        clean = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        if not clean[:1].isalpha() or clean in self._names:
            return ""
        self._names.add(clean)
        return clean

    def _step(self, step: Resting | Passing | Holding | Scanning | Spectrum) -> str:
        match step:
            case Resting(duration_s=duration_s):
                return f"rest: {{for: {_time(duration_s)}, record: $rows}}"
            case Passing():
                return self._current(step)
            case Holding(voltage_V=voltage_V, until=until):
                at = f"at: {_number(voltage_V)} {_TERMINALS}"
                condition = "" if until is None else f"current <= {_flow(until)}"
                return f"hold: {{{at}, {_ends(condition, step.duration_s)}, record: $rows}}"
            case Scanning():
                ends = (f"{_number(each)} {_TERMINALS}" for each in (step.start_V, step.end_V))
                rate = f"{_milli(step.rate_V_per_s)} mV/s"
                return "sweep: {{from: {}, to: {}, rate: {}, record: $rows}}".format(*ends, rate)
            case Spectrum():
                return _spectrum(step)

    def _current(self, step: Passing) -> str:
        rises = step.current.value > 0
        if self._says_charge:
            verb, at = ("charge" if rises else "discharge"), _flow(step.current)
        else:
            verb, at = "current", ("" if rises else "-") + _flow(step.current)
        condition = ""
        if step.until_V is not None:
            condition = f"voltage {'>=' if rises else '<='} {_number(step.until_V)} {_TERMINALS}"
        return f"{verb}: {{at: {at}, {_ends(condition, step.duration_s)}, record: $rows}}"


def _spectrum(step: Spectrum) -> str:
    amplitude = f"{_milli(step.amplitude_V)} mV" if step.amplitude_V else ""
    if step.amplitude_A:
        amplitude = f"{_milli(step.amplitude_A)} mA"
    return (
        f"eis: {{from: {_number(step.frequency_max_Hz)} Hz, to: {_number(step.frequency_min_Hz)} "
        f"Hz, points: {step.points_per_decade} per decade, amplitude: {amplitude}}}"
    )


def _ends(condition: str, duration_s: float | None) -> str:
    time = "$longest" if duration_s is None else _time(duration_s)
    return f"until: {condition}, at most: {time}" if condition else f"for: {time}"


def _flow(flow: Flow) -> str:
    """The magnitude of a current: C/10, 2C, 0.5 mA."""
    value = abs(flow.value)
    if not flow.is_rate:
        return f"{_milli(value)} mA"
    hours = 1 / value
    return f"C/{round(hours)}" if hours > 1 and hours == round(hours) else f"{_number(value)}C"


def _time(seconds: float) -> str:
    """Write a time in the largest unit that leaves it whole."""
    for unit, size in _UNITS_OF_TIME:
        if seconds % size == 0:
            return f"{_number(seconds / size)} {unit}"
    return f"{_number(seconds)} s"


def _milli(value: float) -> str:
    return _number(value * 1e3)


def _number(value: float) -> str:
    """A number without the last digits that conversions leave behind."""
    return f"{value:.12g}"


def _quoted(text: str) -> str:
    line = _one_line(text)
    return line if _PLAIN.fullmatch(line) else json.dumps(line, ensure_ascii=False)


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
