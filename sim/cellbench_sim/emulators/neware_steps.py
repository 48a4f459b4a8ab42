"""The step file of a Neware BTS 8 cycler: XML in, a checked list of steps out.

Values are volts x 10000, milliseconds, mA and mAh x 3600. A file is refused as a whole when it asks
for anything that this cycler does not know: a limit that is silently left out is a cell that is not
protected.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from enum import IntEnum

from cellbench_sim.emulators.cycler import Demand, Ratings

_VOLTS, _SECONDS, _AMPERES, _AMPERE_HOURS = 1e-4, 1e-3, 1e-3, 1e-3 / 3600


class StepFileError(Exception):
    """A step file that the cycler cannot carry out."""


class StepType(IntEnum):
    """Codes of ``Step_Type``; a file with another one is refused."""

    CC_CHARGE = 1
    CC_DISCHARGE = 2
    CV_CHARGE = 3
    REST = 4
    CYCLE = 5
    END = 6
    CCCV_CHARGE = 7
    PAUSE = 13
    CV_DISCHARGE = 19
    CCCV_DISCHARGE = 20

    @property
    def word(self) -> str:
        """What data rows call it."""
        return _WORDS[self]

    @property
    def charges(self) -> bool:
        """Whether its current is positive."""
        return self in {StepType.CC_CHARGE, StepType.CV_CHARGE, StepType.CCCV_CHARGE}


_WORDS = {
    StepType.CC_CHARGE: "cc",
    StepType.CC_DISCHARGE: "dc",
    StepType.CV_CHARGE: "cv",
    StepType.REST: "rest",
    StepType.CYCLE: "cycle",
    StepType.END: "end",
    StepType.CCCV_CHARGE: "cccv",
    StepType.PAUSE: "pause",
    StepType.CV_DISCHARGE: "dv",
    StepType.CCCV_DISCHARGE: "cccd",
}
_CONSTANT_CURRENT = {StepType.CC_CHARGE, StepType.CC_DISCHARGE}
_CONSTANT_VOLTAGE = {StepType.CV_CHARGE, StepType.CV_DISCHARGE}
_LIMITS = {"Time", "Curr", "Rate", "Volt", "Stop_Volt", "Stop_Curr", "Stop_Rate", "Cap"}


@dataclass(frozen=True)
class Protection:
    """Limits beyond which the test is stopped; all inclusive, currents signed as they flow."""

    voltage_min_V: float = -math.inf
    voltage_max_V: float = math.inf
    current_min_A: float = -math.inf
    current_max_A: float = math.inf
    capacity_max_Ah: float = math.inf
    delay_s: float = 0.0

    def is_hit(self, voltage_V: float, current_A: float, capacity_Ah: float) -> bool:
        """Whether a reading lies outside."""
        return not (
            self.voltage_min_V <= voltage_V <= self.voltage_max_V
            and self.current_min_A <= current_A <= self.current_max_A
            and capacity_Ah <= self.capacity_max_Ah
        )


@dataclass(frozen=True)
class Recording:
    """When a row is kept: at the end of each interval, and at each change; inf for never."""

    interval_s: float = 1.0
    voltage_V: float = math.inf
    current_A: float = math.inf


@dataclass(frozen=True)
class Step:
    """One step; what it does not limit is infinite.

    Attributes:
        number: Its place in the file, from 1.
        stop_voltage_V: Constant current ends here, from whichever side it comes.
        stop_current_A: Constant voltage ends when the magnitude of the current has come down here.
        first_step: For a cycle, where it goes back to.
        passes: For a cycle, how often its steps are gone through in all.
    """

    number: int
    type: StepType
    demand: Demand | None = None
    duration_s: float = math.inf
    capacity_Ah: float = math.inf
    stop_voltage_V: float | None = None
    stop_current_A: float = -math.inf
    protection: Protection = Protection()
    first_step: int = 0
    passes: int = 0


@dataclass(frozen=True)
class StepFile:
    """What a step file asks for."""

    steps: tuple[Step, ...]
    protection: Protection
    recording: Recording
    first_step: int = 1


def read_step_file(content: bytes, ratings: Ratings) -> StepFile:
    """Read a step file for a channel of these ratings.

    Raises:
        StepFileError: It is no step file, or asks for what the channel cannot do.
    """
    if b"<!DOCTYPE" in content:
        raise StepFileError("a step file has no document type")
    try:
        root = ET.fromstring(content)  # noqa: S314 (no document type: no entities to expand)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise StepFileError(f"not XML: {error}") from error
    config = root if root.tag == "config" else root.find("config")
    if config is None or config.get("type") != "Step File":
        raise StepFileError("not a step file")
    reader = _Reader(ratings, _number(config, "Head_Info/MultCap", 0.0) * _AMPERE_HOURS)
    steps = reader.steps(config)
    first = int(_number(config, "Head_Info/Start_Step", 1))
    if not 1 <= first <= len(steps):
        raise StepFileError(f"there is no step {first} to begin with")
    return StepFile(
        steps,
        _protection(config.find("Whole_Prt/Protect/Main")),
        _recording(config.find("Whole_Prt/Record/Main")),
        first,
    )


@dataclass(frozen=True)
class _Reader:
    """Reads steps for one channel and one nominal capacity."""

    ratings: Ratings
    nominal_Ah: float

    def steps(self, config: ET.Element) -> tuple[Step, ...]:
        info = config.find("Step_Info")
        if info is None:
            raise StepFileError("no Step_Info")
        elements = [element for element in info if element.tag.startswith("Step")]
        if info.get("Num") != str(len(elements)):
            raise StepFileError(f"Num says {info.get('Num')}, there are {len(elements)} steps")
        steps = tuple(self._step(element, at) for at, element in enumerate(elements, start=1))
        if not steps or steps[-1].type is not StepType.END:
            raise StepFileError("the last step must be the end, type 6")
        _check_cycles(steps)
        return steps

    def _step(self, element: ET.Element, number: int) -> Step:
        if element.tag != f"Step{number}" or element.get("Step_ID") != str(number):
            raise StepFileError(f"step {number} is called {element.tag}, {element.get('Step_ID')}")
        code = element.get("Step_Type", "")
        try:
            kind = StepType(int(code))
        except ValueError as error:
            raise StepFileError(f"step {number}: type {code!r} is not known") from error
        if kind is StepType.CYCLE:
            return Step(
                number,
                kind,
                first_step=int(_number(element, "Limit/Other/Start_Step", 0)),
                passes=int(_number(element, "Limit/Other/Cycle_Count", 0)),
            )
        if kind in {StepType.END, StepType.PAUSE}:
            return Step(number, kind)
        return self._timed_step(element, number, kind)

    def _timed_step(self, element: ET.Element, number: int, kind: StepType) -> Step:
        main = element.find("Limit/Main")
        limits = main if main is not None else ET.Element("Main")
        unknown = {limit.tag for limit in limits} - _LIMITS
        if unknown:
            raise StepFileError(f"step {number}: limits {sorted(unknown)} are not known")
        stop_V = _number(limits, "Stop_Volt", math.nan) * _VOLTS
        if kind not in _CONSTANT_CURRENT and not math.isnan(stop_V):
            raise StepFileError(f"step {number}: Stop_Volt belongs to constant current")
        step = Step(
            number,
            kind,
            demand=None if kind is StepType.REST else self._demand(limits, number, kind),
            duration_s=_number(limits, "Time", math.inf) * _SECONDS,
            capacity_Ah=_number(limits, "Cap", math.inf) * _AMPERE_HOURS,
            stop_voltage_V=None if math.isnan(stop_V) else stop_V,
            stop_current_A=self._current_A(limits, "Stop_Curr", "Stop_Rate", -math.inf),
            protection=_protection(element.find("Protect/Main")),
        )
        if kind is StepType.REST and math.isinf(step.duration_s):
            raise StepFileError(f"step {number}: a rest needs a time")
        return step

    def _demand(self, limits: ET.Element, number: int, kind: StepType) -> Demand:
        largest_A = self.ratings.current_max_A
        current_A = self._current_A(limits, "Curr", "Rate", math.nan)
        if math.isnan(current_A) and kind in _CONSTANT_VOLTAGE:
            current_A = largest_A
        if not (current_A > 0 and self.ratings.covers_current(current_A)):
            raise StepFileError(f"step {number}: its current must be above 0, up to {largest_A} A")
        charges = kind.charges
        reach_V = self.ratings.voltage_max_V if charges else self.ratings.voltage_min_V
        if kind not in _CONSTANT_CURRENT:
            reach_V = _number(limits, "Volt", math.nan) * _VOLTS
        if not self.ratings.covers_voltage(reach_V):
            raise StepFileError(f"step {number}: its voltage is missing or out of range")
        limit = Demand.charge if charges else Demand.discharge
        return limit(current_A, reach_V)

    def _current_A(self, limits: ET.Element, name: str, rate: str, missing: float) -> float:
        current_mA = _number(limits, name, math.nan)
        if not math.isnan(current_mA):
            return current_mA * _AMPERES
        per_hour = _number(limits, rate, math.nan)
        return missing if math.isnan(per_hour) else per_hour * self.nominal_Ah


def _check_cycles(steps: tuple[Step, ...]) -> None:
    """Refuse cycles that lead nowhere, or that would go round without any time passing."""
    for step in steps:
        if step.type is not StepType.CYCLE:
            continue
        inner = steps[step.first_step - 1 : step.number - 1] if step.first_step >= 1 else ()
        if step.passes < 1 or all(
            entry.demand is None and not _takes_time(entry) for entry in inner
        ):
            raise StepFileError(f"step {step.number}: a cycle of nothing")


def _takes_time(step: Step) -> bool:
    return step.type is StepType.REST and step.duration_s > 0


def _protection(main: ET.Element | None) -> Protection:
    if main is None:
        return Protection()
    return Protection(
        voltage_min_V=_number(main, "Volt/Lower", -math.inf) * _VOLTS,
        voltage_max_V=_number(main, "Volt/Upper", math.inf) * _VOLTS,
        current_min_A=_number(main, "Curr/Lower", -math.inf) * _AMPERES,
        current_max_A=_number(main, "Curr/Upper", math.inf) * _AMPERES,
        capacity_max_Ah=_number(main, "Cap/Upper", math.inf) * _AMPERE_HOURS,
        delay_s=_number(main, "Delay_Time", 0.0) * _SECONDS,
    )


def _recording(main: ET.Element | None) -> Recording:
    if main is None:
        return Recording()
    return Recording(
        interval_s=_number(main, "Time", math.inf) * _SECONDS,
        voltage_V=_number(main, "Volt", math.inf) * _VOLTS,
        current_A=_number(main, "Curr", math.inf) * _AMPERES,
    )


def _number(parent: ET.Element, path: str, missing: float) -> float:
    """Return the ``Value`` of an element; one without a value counts as missing."""
    text = getattr(parent.find(path), "attrib", {}).get("Value", "")
    if not text.strip():
        return missing
    try:
        value = float(text)
    except ValueError as error:
        raise StepFileError(f"{path}: {text!r} is not a number") from error
    if not math.isfinite(value):
        raise StepFileError(f"{path}: {text!r} is not a number")
    return value
