"""Techniques as a step file of Neware BTS 8: the program that a channel runs without any computer.

Values in the file: V x 10000, ms, mA, mAs; magnitudes, the direction being the type of the step.
Steps count from 1, the last one is the end. A cycle step follows the steps that it repeats. What
the whole test must not exceed is in ``Whole_Prt``; crossing it brings the channel to ``protect``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as ET

from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Repeat,
    Rest,
    StepList,
    Technique,
)
from cellbench_drivers.channels import holds_by_charging

#: Limits are programmed as wide as the host watches them: a hold at a limit is no trip.
VOLTAGE_TOLERANCE_V = 5e-3
CURRENT_TOLERANCE = 0.02
#: How long the cycler lets a limit be crossed before it acts.
_PROTECT_DELAY_S = 1.0
#: Step types of the file.
_CC_CHARGE, _CC_DISCHARGE, _CV_CHARGE, _REST, _CYCLE, _END, _CV_DISCHARGE = 1, 2, 3, 4, 5, 6, 19
#: A step file carries a date. It is the same in every file, so that recordings of a run replay.
_DATE = "20260101120000"
_CLIENT = "BTS Client 8.0.0.478(2024.06.24)(R3)"

Step = Rest | ConstantCurrent | ConstantVoltage


@dataclass(frozen=True, slots=True)
class Cycle:
    """Go back to ``start`` until the steps from there on have run ``times`` times."""

    start: int
    times: int


@dataclass(frozen=True, slots=True)
class Program:
    """A list of techniques as the lines of a step file.

    Attributes:
        lines: Techniques and cycle steps, the first one has number 1.
        numbers: Number of the line for each technique of the expanded list.
        techniques: The expanded list.
    """

    lines: tuple[Step | Cycle, ...]
    numbers: tuple[int, ...]
    techniques: tuple[Step, ...]

    @property
    def host_cut_offs(self) -> tuple[CutOff, ...]:
        """Cut-offs that a step file cannot express."""
        steps = [line for line in self.lines if not isinstance(line, Cycle)]
        return tuple(c for step in steps for c in step.cut_offs if not _expressible(step, c))


@dataclass(frozen=True, slots=True)
class _Past:
    """What came before a step: the voltage that was reached (nan: unknown), the last direction."""

    voltage_V: float
    direction: int
    current_A: float = 0.0
    stopped_V: float = math.nan


def program_of(steps: StepList) -> Program:
    """Return the lines of the step file for a list."""
    lines, numbers = _numbered(steps.steps, 1)
    return Program(tuple(lines), numbers, tuple(steps.expanded))


def step_file(
    program: Program,
    limits: ElectricalLimits,
    test: str,
    *,
    open_circuit_V: float = math.nan,
    capacity_C: float | None = None,
) -> str:
    """Return the text of a step file; it records at the shortest interval of all its steps.

    Args:
        program: What the channel is to do.
        limits: What the cycler is to watch over the whole test.
        test: Name of the test, from which the file's id is made.
        open_circuit_V: Voltage before it, to tell whether a hold begins with charge or discharge.
        capacity_C: Nominal capacity, where it is known.

    Raises:
        ValueError: A hold would be of one direction in one cycle and of the other in another.
    """
    kinds = _kinds(program, _Past(open_circuit_V, 0))
    root = ET.Element("root")
    config = _add(
        root,
        "config",
        type="Step File",
        version="17",
        client_version=_CLIENT,
        date=_DATE,
        Guid=str(uuid5(NAMESPACE_URL, f"cellbench:{test}")),
    )
    _head(config, test, capacity_C)
    _whole(config, limits, min(each.interval_s for each in program.techniques))
    end = len(program.lines) + 1
    info = _add(config, "Step_Info", Num=str(end))
    for number, line in enumerate(program.lines, start=1):
        _step(info, number, line, kinds.get(number), limits)
    _add(info, f"Step{end}", Step_ID=str(end), Step_Type=str(_END))
    _add(_add(config, "SMBUS"), "SMBUS_Info", Num="0", AdjacentInterval="0")
    ET.indent(root)
    return '<?xml version="1.0" ?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def stop_voltage(step: ConstantCurrent) -> float | None:
    """Return the voltage at which the cycler ends a current, None where it watches none."""
    values = [c.value for c in step.cut_offs if _expressible(step, c)]
    if not values:
        return None
    return min(values) if step.current_A > 0 else max(values)


def device_cut_offs(step: Step) -> tuple[CutOff, ...]:
    """Return the cut-offs that a step of the file expresses."""
    return tuple(c for c in step.cut_offs if _expressible(step, c))


def is_expressible(technique: Technique) -> bool:
    """Return whether a step of the file can be this technique and nothing but it."""
    match technique:
        case ConstantVoltage(spectra=None) | ConstantCurrent() | Rest():
            return device_cut_offs(technique) == technique.cut_offs
    return False


def _expressible(step: Step, cut_off: CutOff) -> bool:
    """Whether a step of the file can end on it, at once and in the direction that it goes."""
    match step:
        case ConstantCurrent() if step.current_A != 0 and cut_off.quantity == "voltage":
            return cut_off.above == (step.current_A > 0) and cut_off.after_s == 0
        case ConstantVoltage() if cut_off.quantity == "current":
            return not cut_off.above and cut_off.after_s == 0
    return False


def _numbered(
    steps: Sequence[Step | Repeat], first: int
) -> tuple[list[Step | Cycle], tuple[int, ...]]:
    """Return the lines of the file from number ``first`` on, and the order in which they run."""
    lines: list[Step | Cycle] = []
    order: tuple[int, ...] = ()
    for step in steps:
        number = first + len(lines)
        if not isinstance(step, Repeat):
            lines.append(step)
            order += (number,)
            continue
        inner, once = _numbered(step.steps, number)
        lines += inner
        order += once * step.times
        if step.times > 1:
            lines.append(Cycle(number, step.times))
    return lines, order


@dataclass(frozen=True, slots=True)
class _Kind:
    """Type of a step, and the current that a hold goes on with."""

    code: int
    current_A: float | None = None


def _kinds(program: Program, past: _Past) -> dict[int, _Kind]:
    """Return what each technique of the file is, whichever cycle it is in."""
    kinds: dict[int, _Kind] = {}
    for number, technique in zip(program.numbers, program.techniques, strict=True):
        kind, past = _kind(technique, past)
        known = kinds.setdefault(number, kind)
        if known.code != kind.code:
            raise ValueError(
                f"the hold at {getattr(technique, 'voltage_V', math.nan):g} V (step {number}) "
                "would begin with charge in one cycle and with discharge in another: write the "
                "first cycle out"
            )
        if known != kind:
            kinds[number] = replace(known, current_A=None)
    return kinds


def _kind(technique: Step, past: _Past) -> tuple[_Kind, _Past]:
    match technique:
        case ConstantCurrent() if technique.current_A != 0:
            direction = 1 if technique.current_A > 0 else -1
            stop_V = stop_voltage(technique)
            reached_V = math.nan if stop_V is None else stop_V
            code = _CC_CHARGE if direction > 0 else _CC_DISCHARGE
            return _Kind(code), _Past(reached_V, direction, technique.current_A, reached_V)
        case ConstantVoltage():
            direction = _direction(technique, past)
            code = _CV_CHARGE if direction > 0 else _CV_DISCHARGE
            goes_on = past.stopped_V == technique.voltage_V
            kind = _Kind(code, abs(past.current_A) if goes_on else None)
            return kind, _Past(technique.voltage_V, direction)
    return _Kind(_REST), _Past(past.voltage_V, past.direction)


def _direction(hold: ConstantVoltage, past: _Past) -> int:
    """Whether a hold is one of charge (1) or of discharge (-1): it takes current that way only."""
    undecided = math.isnan(past.voltage_V) or hold.voltage_V == past.voltage_V
    if undecided and hold.rest_V is None:
        return past.direction or 1
    return 1 if holds_by_charging(hold, past.voltage_V) else -1


def _head(config: ET.Element, test: str, capacity_C: float | None) -> None:
    head = _add(config, "Head_Info")
    _value(head, "Operate", "66")
    _value(head, "Scale", "1")
    _add(head, "Start_Step", Value="1", Hide_Ctrl_Step="0")
    _value(head, "Creator", "cellbench")
    _value(head, "Remark", test)
    _value(head, "RateType", "103")
    if capacity_C is not None:
        _value(head, "MultCap", _number(capacity_C * 1e3))


def _whole(config: ET.Element, limits: ElectricalLimits, interval_s: float) -> None:
    """What the cycler watches over the whole test, and how often it records."""
    whole = _add(config, "Whole_Prt")
    protect = _add(_add(whole, "Protect"), "Main")
    voltage = _add(protect, "Volt")
    _value(voltage, "Upper", _volts(limits.voltage_max_V + VOLTAGE_TOLERANCE_V))
    _value(voltage, "Lower", _volts(limits.voltage_min_V - VOLTAGE_TOLERANCE_V))
    current = _add(protect, "Curr")
    most_A = limits.current_max_A * (1 + CURRENT_TOLERANCE)
    _value(current, "Upper", _milliamperes(most_A))
    _value(current, "Lower", _milliamperes(-most_A))
    _value(protect, "Delay_Time", _milliseconds(_PROTECT_DELAY_S))
    _add(protect, "Cap")
    _value(_add(_add(whole, "Record"), "Main"), "Time", _milliseconds(interval_s))


def _step(
    info: ET.Element,
    number: int,
    line: Step | Cycle,
    kind: _Kind | None,
    limits: ElectricalLimits,
) -> None:
    code = _CYCLE if kind is None else kind.code
    step = _add(info, f"Step{number}", Step_ID=str(number), Step_Type=str(code))
    limit = _add(step, "Limit")
    if isinstance(line, Cycle):
        other = _add(limit, "Other")
        _value(other, "Start_Step", str(line.start))
        _value(other, "Cycle_Count", str(line.times))
        return
    main = _add(limit, "Main")
    if isinstance(line, ConstantVoltage):
        _value(main, "Volt", _volts(line.voltage_V))
    if isinstance(line, ConstantCurrent) and code != _REST:
        _value(main, "Curr", _milliamperes(abs(line.current_A)))
    _value(main, "Time", _milliseconds(line.duration_s))
    if isinstance(line, ConstantCurrent) and (stop_V := stop_voltage(line)) is not None:
        _value(main, "Stop_Volt", _volts(stop_V))
    if isinstance(line, ConstantVoltage):
        if tapers := [c.value for c in device_cut_offs(line)]:
            _value(main, "Stop_Curr", _milliamperes(max(tapers)))
        carried_A = None if kind is None else kind.current_A
        _value(main, "Curr", _milliamperes(carried_A or limits.current_max_A))


def _volts(value_V: float) -> str:
    return _number(value_V * 1e4)


def _milliseconds(value_s: float) -> str:
    return _number(value_s * 1e3)


def _milliamperes(value_A: float) -> str:
    return _number(value_A * 1e3)


def _number(value: float) -> str:
    """A number as the file has it: six decimals, trailing zeros left out."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _value(parent: ET.Element, tag: str, value: str) -> None:
    ET.SubElement(parent, tag, Value=value)
