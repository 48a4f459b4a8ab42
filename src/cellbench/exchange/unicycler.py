"""Protocols of aurora-unicycler, read and written: its JSON format as of version 0.4.

Fields, signs and defaults as in its documentation and its models (Empa, MIT). There a positive
current charges, an empty text is no value, a C-rate goes before a current, a cut-off of 0 is none,
and steps are counted from 1, tags among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    ValidationError,
)

from cellbench.errors import InputError
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
    refuse_fatal,
)
from cellbench.protocol.program import Recording

#: The version that is written, and that this was read from.
VERSION = "0.4.6"
#: A constant current without a time ends after this part of the nominal capacity at the latest.
CHARGE_OF_NOMINAL = 1.3
_FREQUENCIES_Hz = (1e-5, 1e7)


def _absent_if_empty(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _rate(value: object) -> object:
    """A rate as a number: "C/5" is 0.2, "2D/3" is -2/3, "1/5" is 0.2."""
    value = _absent_if_empty(value)
    if not isinstance(value, str) or "/" not in value:
        return value
    over, _, under = value.replace(" ", "").partition("/")
    sign = -1.0 if "D" in over else 1.0
    number = over.replace("C", "", 1).replace("D", "", 1) or "1"
    try:
        return sign * float(number) / float(under)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f'"{value[:20]}" is no C-rate such as "C/5"') from error


_Number = Annotated[FiniteFloat, BeforeValidator(_absent_if_empty)]
_Maybe = Annotated[FiniteFloat | None, BeforeValidator(_absent_if_empty)]
_Rate = Annotated[FiniteFloat | None, BeforeValidator(_rate)]
_Positive = Annotated[FiniteFloat, BeforeValidator(_absent_if_empty), Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Technique(_Part):
    id: str | None = None


class _OpenCircuit(_Technique):
    step: Literal["open_circuit_voltage"]
    until_time_s: _Positive


class _ConstantCurrent(_Technique):
    step: Literal["constant_current"]
    rate_C: _Rate = None
    current_mA: _Maybe = None
    until_time_s: _Maybe = None
    until_voltage_V: _Maybe = None


class _ConstantVoltage(_Technique):
    step: Literal["constant_voltage"]
    voltage_V: _Number
    until_time_s: _Maybe = None
    until_rate_C: _Rate = None
    until_current_mA: _Maybe = None


class _Impedance(_Technique):
    step: Literal["impedance_spectroscopy"]
    amplitude_V: _Maybe = None
    amplitude_mA: _Maybe = None
    start_frequency_Hz: _Positive
    end_frequency_Hz: _Positive
    points_per_decade: PositiveInt = 10
    measures_per_point: PositiveInt = 1
    drift_correction: bool | None = False


class _VoltageScan(_Technique):
    step: Literal["voltage_scan"]
    start_voltage_V: _Number
    end_voltage_V: _Number
    scan_rate_mV_per_s: _Positive


class _Loop(_Technique):
    step: Literal["loop"]
    loop_to: int | str = 1
    cycle_count: PositiveInt


class _Tag(_Technique):
    step: Literal["tag"]
    tag: str


_AnyTechnique: TypeAlias = (
    _OpenCircuit | _ConstantCurrent | _ConstantVoltage | _Impedance | _VoltageScan | _Loop | _Tag
)


class _Sample(_Part):
    name: str = "$NAME"
    capacity_mAh: _Maybe = None


class _Record(_Part):
    current_mA: _Maybe = None
    voltage_V: _Maybe = None
    time_s: _Positive


class _Safety(_Part):
    max_voltage_V: _Maybe = None
    min_voltage_V: _Maybe = None
    max_current_mA: _Maybe = None
    min_current_mA: _Maybe = None
    max_capacity_mAh: _Maybe = None
    delay_s: _Maybe = None


class _Protocol(_Part):
    unicycler: dict[str, Any] = {}
    sample: _Sample = _Sample()
    record: _Record
    safety: _Safety = _Safety()
    method: Annotated[
        tuple[Annotated[_AnyTechnique, Field(discriminator="step")], ...], Field(min_length=1)
    ]


# --- In -------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[Cycling, list[Misfit]]:
    """Read a protocol's file.

    Returns:
        The protocol, and what of it does not fit.

    Raises:
        InputError: It cannot be read, is none, or cannot be said in other words.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is no text file") from error
    try:
        protocol = _Protocol.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name}, line {error.lineno}: no JSON: {error.msg}") from error
    except ValidationError as error:
        raise InputError(_told(path.name, error)) from error
    return _Reading(protocol).cycling(path.stem)


def _told(name: str, error: ValidationError) -> str:
    """What is wrong, in lines that name the step."""
    lines = [f"{name} is no protocol of aurora-unicycler:"]
    for each in error.errors(include_url=False):
        place = [str(part) for part in each["loc"]]
        if len(place) > 1 and place[0] == "method":
            place[:2] = [f"step {int(place[1]) + 1}"]
        message = each["msg"].removeprefix("Value error, ")
        lines.append(f"  {', '.join(place) or 'all of it'}: {message}")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Entry:
    """A step or loop that was read, from which to which step of the file."""

    first: int
    last: int
    doing: Doing


class _Reading:
    """Reads one protocol, and keeps what does not fit."""

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self._misfits: list[Misfit] = []
        self._origin = Origin()

    def cycling(self, name: str) -> tuple[Cycling, list[Misfit]]:
        protocol, capacity_mAh = self._protocol, self._protocol.sample.capacity_mAh
        cycling = Cycling(
            name=name.replace("_", " "),
            record=Recording(
                every_s=protocol.record.time_s,
                dV_V=protocol.record.voltage_V,
                dI_A=_milli(protocol.record.current_mA),
            ),
            safety=self._safety(protocol.safety),
            steps=self._steps(protocol.method),
            capacity_C=None if capacity_mAh is None else capacity_mAh * 3.6,
        )
        refuse_fatal("cellbench", self._misfits)
        return cycling, self._misfits

    def _note(self, text: str, *, fatal: bool = False) -> None:
        self._misfits.append(Misfit(self._origin, text, fatal))

    def _safety(self, safety: _Safety) -> Safety:
        currents_mA = [safety.max_current_mA, safety.min_current_mA]
        given_mA = [abs(each) for each in currents_mA if each is not None]
        if len({*given_mA}) > 1:
            self._note(f"limits of the current: {min(given_mA):g} mA now counts in both directions")
        if len(given_mA) == 1:
            self._note("the limit of the current now counts in both directions")
        if safety.delay_s:
            self._note(f"limits act at once here, not after {safety.delay_s:g} s")
        if not any([*given_mA, safety.max_voltage_V, safety.min_voltage_V]):
            self._note("it has no limits of its own: those of the cell card hold")
        return Safety(
            voltage_min_V=safety.min_voltage_V,
            voltage_max_V=safety.max_voltage_V,
            current_max_A=_milli(min(given_mA, default=None)),
            charge_max_C=None if not safety.max_capacity_mAh else safety.max_capacity_mAh * 3.6,
        )

    # --- Steps and loops ------------------------------------------------------------------------

    def _steps(self, method: Sequence[_AnyTechnique]) -> tuple[Doing, ...]:
        entries: list[_Entry] = []
        tags = {each.tag: i for i, each in enumerate(method, 1) if isinstance(each, _Tag)}
        looped = {each.loop_to for each in method if isinstance(each, _Loop)}
        for number, each in enumerate(method, start=1):
            self._origin = Origin(number, each.step)
            match each:
                case _Loop():
                    self._loop(each, number, tags, entries)
                case _Tag(tag=tag):
                    if tag not in looped:
                        self._note(f'the tag "{tag}", to which no loop goes: left out')
                case _:
                    entries.append(_Entry(number, number, self._step(each)))
        self._origin = Origin()
        return tuple(each.doing for each in entries)

    def _loop(
        self, loop: _Loop, number: int, tags: Mapping[str, int], entries: list[_Entry]
    ) -> None:
        """Make one of the steps back to where a loop goes."""
        to = tags.get(loop.loop_to) if isinstance(loop.loop_to, str) else loop.loop_to
        if to is None or not 0 < to < number:
            self._note(f'it goes to "{loop.loop_to}", which is no step before it', fatal=True)
            return
        first = len(entries)
        while first and entries[first - 1].first >= to:
            first -= 1
        if first and entries[first - 1].last >= to:
            self._note("it goes into the middle of another loop", fatal=True)
        steps = tuple(each.doing for each in entries[first:])
        if not steps:
            self._note("there is nothing in it: left out")
            return
        name = loop.loop_to if isinstance(loop.loop_to, str) else ""
        entries[first:] = [_Entry(to, number, Loop(loop.cycle_count, steps, name))]

    def _step(self, step: _AnyTechnique) -> Doing:
        match step:
            case _OpenCircuit():
                return Resting(step.until_time_s, origin=self._origin)
            case _ConstantCurrent():
                return self._current(step)
            case _ConstantVoltage():
                return self._hold(step)
            case _VoltageScan(start_voltage_V=start_V, end_voltage_V=end_V):
                if start_V == end_V:
                    self._note("it ends where it starts", fatal=True)
                rate_V_per_s = step.scan_rate_mV_per_s * 1e-3
                return Scanning(start_V, end_V, rate_V_per_s, origin=self._origin)
            case _Impedance():
                return self._spectrum(step)
            case _:
                raise AssertionError(step.step)  # loops and tags are no steps of their own

    def _current(self, step: _ConstantCurrent) -> Doing:
        current = _flow(step.rate_C, step.current_mA)
        if current is None:
            self._note("it has neither rate_C nor current_mA", fatal=True)
            current = Flow(0.0)
        if step.rate_C and step.current_mA:
            self._note("its current_mA beside its rate_C: left out, as unicycler does")
        if step.until_voltage_V == 0:
            self._note("a cut-off of 0 V is none to unicycler: left out")
        until_V, duration_s = step.until_voltage_V or None, step.until_time_s or None
        if until_V is None and duration_s is None:
            self._note("nothing ends it", fatal=True)
        if duration_s is None:
            duration_s = self._longest_s(current)
        return Passing(current, duration_s, until_V, origin=self._origin)

    def _longest_s(self, current: Flow) -> float | None:
        """The time of a current that has none of its own; None where only a parameter can say."""
        capacity_mAh = self._protocol.sample.capacity_mAh
        if current.is_rate:
            hours = CHARGE_OF_NOMINAL / abs(current.value)
        elif capacity_mAh is not None and current.value:
            hours = CHARGE_OF_NOMINAL * capacity_mAh * 1e-3 / abs(current.value)
        else:
            self._note('no time bounds it: the parameter "longest" does')
            return None
        self._note(f"no time bounds it: {CHARGE_OF_NOMINAL:g} of the nominal capacity does")
        return hours * 3600

    def _hold(self, step: _ConstantVoltage) -> Doing:
        until = _flow(step.until_rate_C, step.until_current_mA)
        if step.until_rate_C and step.until_current_mA:
            self._note("its until_current_mA beside its until_rate_C: left out, as unicycler does")
        duration_s = step.until_time_s or None
        if duration_s is None:
            self._note(
                'no time bounds it: the parameter "longest" does'
                if until is not None
                else "nothing ends it",
                fatal=until is None,
            )
        taper = None if until is None else Flow(abs(until.value), until.is_rate)
        return Holding(step.voltage_V, duration_s, taper, origin=self._origin)

    def _spectrum(self, step: _Impedance) -> Doing:
        if (step.amplitude_V is None) == (step.amplitude_mA is None):
            self._note("it needs one amplitude: amplitude_V or amplitude_mA", fatal=True)
        if step.start_frequency_Hz < step.end_frequency_Hz:
            self._note("it is measured from the highest to the lowest frequency here")
        if step.measures_per_point > 1:
            self._note(f"its {step.measures_per_point} measures per point: left out")
        if step.drift_correction:
            self._note("its drift correction: left out")
        low_Hz, high_Hz = sorted((step.start_frequency_Hz, step.end_frequency_Hz))
        return Spectrum(
            high_Hz,
            low_Hz,
            step.points_per_decade,
            amplitude_V=step.amplitude_V,
            amplitude_A=_milli(step.amplitude_mA),
            origin=self._origin,
        )


def _flow(rate: float | None, current_mA: float | None) -> Flow | None:
    if rate:
        return Flow(rate, is_rate=True)
    return Flow(current_mA * 1e-3) if current_mA else None


def _milli(value: float | None) -> float | None:
    return None if value is None else value * 1e-3


# --- Out ------------------------------------------------------------------------------------------


def written(cycling: Cycling) -> tuple[str, list[Misfit]]:
    """Write a protocol as the text of a file; tells what does not fit.

    Raises:
        InputError: unicycler cannot say it.
    """
    writing = _Writing()
    method = list(writing.steps(cycling.steps))
    if not method:
        writing.misfits.append(Misfit(Origin(), "no step of it can be said there", fatal=True))
    refuse_fatal("aurora-unicycler", writing.misfits)
    safety, record, capacity_C = cycling.safety, cycling.record, cycling.capacity_C
    current_mA = _scaled(safety.current_max_A, 1e3)
    content = {
        "unicycler": {"version": VERSION},
        "sample": {"name": cycling.cell or "$NAME", "capacity_mAh": _scaled(capacity_C, 1 / 3.6)},
        "record": {
            "current_mA": _scaled(record.dI_A, 1e3),
            "voltage_V": record.dV_V,
            "time_s": record.every_s or 1.0,
        },
        "safety": {
            "max_voltage_V": _scaled(safety.voltage_max_V),
            "min_voltage_V": _scaled(safety.voltage_min_V),
            "max_current_mA": current_mA,
            "min_current_mA": None if current_mA is None else -current_mA,
            "max_capacity_mAh": _scaled(safety.charge_max_C, 1 / 3.6),
            "delay_s": None,
        },
        "method": method,
    }
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n", writing.misfits


class _Writing:
    """Writes steps, and keeps what does not fit."""

    def __init__(self) -> None:
        self.misfits: list[Misfit] = []
        self._tags: set[str] = set()

    def steps(self, steps: Sequence[Doing]) -> Iterator[dict[str, Any]]:
        """The steps of a file, loops as tags and steps back to them."""
        for each in steps:
            if isinstance(each, Loop):
                tag = self._tag(each.name or "loop")
                yield {"step": "tag", "tag": tag}
                yield from self.steps(each.steps)
                yield {"step": "loop", "loop_to": tag, "cycle_count": each.times}
            else:
                yield self._step(each)

    def _tag(self, name: str) -> str:
        number, tag = 1, name
        while tag in self._tags:
            number, tag = number + 1, f"{name}_{number + 1}"
        self._tags.add(tag)
        return tag

    def _step(self, step: Resting | Passing | Holding | Scanning | Spectrum) -> dict[str, Any]:
        match step:
            case Resting():
                return {"step": "open_circuit_voltage", "until_time_s": _scaled(step.duration_s)}
            case Passing(current=current, until_V=until_V):
                if until_V == 0:
                    text = "its cut-off of 0 V, which is none to unicycler"
                    self.misfits.append(Misfit(step.origin, text, fatal=True))
                return {
                    "step": "constant_current",
                    **_current(current, "rate_C", "current_mA"),
                    "until_time_s": _scaled(step.duration_s),
                    "until_voltage_V": _scaled(until_V),
                }
            case Holding(until=until):
                return {
                    "step": "constant_voltage",
                    "voltage_V": _scaled(step.voltage_V),
                    "until_time_s": _scaled(step.duration_s),
                    **_current(until, "until_rate_C", "until_current_mA"),
                }
            case Scanning():
                return {
                    "step": "voltage_scan",
                    "start_voltage_V": _scaled(step.start_V),
                    "end_voltage_V": _scaled(step.end_V),
                    "scan_rate_mV_per_s": _scaled(step.rate_V_per_s, 1e3),
                }
            case Spectrum():
                return self._spectrum(step)

    def _spectrum(self, step: Spectrum) -> dict[str, Any]:
        low_Hz, high_Hz = _FREQUENCIES_Hz
        if step.frequency_min_Hz < low_Hz or step.frequency_max_Hz > high_Hz:
            text = f"its frequencies, which there are from {low_Hz:g} to {high_Hz:g} Hz"
            self.misfits.append(Misfit(step.origin, text, fatal=True))
        return {
            "step": "impedance_spectroscopy",
            "amplitude_V": _scaled(step.amplitude_V),
            "amplitude_mA": _scaled(step.amplitude_A, 1e3),
            "start_frequency_Hz": _scaled(step.frequency_max_Hz),
            "end_frequency_Hz": _scaled(step.frequency_min_Hz),
            "points_per_decade": step.points_per_decade,
        }


def _current(current: Flow | None, rate: str, absolute_mA: str) -> dict[str, float | None]:
    if current is None:
        return {rate: None, absolute_mA: None}
    if current.is_rate:
        return {rate: _scaled(current.value), absolute_mA: None}
    return {rate: None, absolute_mA: _scaled(current.value, 1e3)}


def _scaled(value: float | None, factor: float = 1.0) -> float | None:
    """In another unit, without the last digits that the conversion leaves behind."""
    return None if value is None else float(f"{value * factor:.12g}")
