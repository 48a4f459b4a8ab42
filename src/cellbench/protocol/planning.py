"""Planning: a walk through a program without running anything, adding up what will happen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from cellbench.instruments.techniques import ConstantCurrent, ConstantVoltage, Impedance, Sweep
from cellbench.protocol.abilities import BenchLike, adapt
from cellbench.protocol.conditions import AllOf, AnyOf, Condition, Decided, Verdict
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.plan import Plan, PlanRow
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    EisStep,
    MarkStep,
    PassEnded,
    PressStep,
    Program,
    TemperatureStep,
    WaitStep,
)
from cellbench.protocol.walk import Walk

#: Bytes that one sample takes in the store, its share of indices included.
_BYTES_PER_ROW = 60
#: A spectrum takes this many periods of each frequency, and this much time besides. With it a
#: sweep from 1 MHz to 100 mHz at 10 points per decade takes 1.7 min, as instruments do.
_PERIODS = 2.0
_SETTLING_PER_POINT_S = 0.07
#: Environment (pressure, force, temperature) is kept every 5 s.
_ENVIRONMENT_ROWS_PER_S = 3 / 5


def plan(program: Program, bench: BenchLike) -> Plan:
    """Plan a program that has been checked.

    Raises:
        ProtocolError: A step cannot be resolved.
    """
    planner = _Planner(program, bench)
    walk = Walk(program, planning=True)
    for item in walk:
        if isinstance(item, PassEnded):
            planner.pass_ended(item)
        else:
            planner.add(item)
    if walk.problems:
        raise ProtocolError(walk.problems)
    return planner.plan()


class _Planner:
    """Adds up steps; remembers the press's standing order and which loops may end early."""

    def __init__(self, program: Program, bench: BenchLike) -> None:
        self._program = program
        self._bench = bench
        self._rows: list[PlanRow] = []
        self._deviations: dict[str, None] = {}
        self._early: set[str] = set()
        self._pressure_Pa = 0.0
        self._end_s: float | None = 0.0

    def pass_ended(self, item: PassEnded) -> None:
        if item.until:
            self._early.add(item.path.rpartition("[")[0])

    def add(self, step: AnyStep) -> None:
        adapted, texts = adapt(step, self._bench)
        self._deviations.update(dict.fromkeys(texts))
        if adapted is None:
            return
        low_s, high_s = self._duration(adapted)
        if self._end_s is not None:
            self._end_s = None if high_s is None else self._end_s + high_s
        self._rows.append(self._row(adapted, low_s, high_s))
        if isinstance(adapted, PressStep) and adapted.kind != "hold":
            self._pressure_Pa = adapted.pressure_Pa or 0.0

    def plan(self) -> Plan:
        samples = sum(row.rows or 0 for row in self._rows)
        certain = [row.duration_min_s or 0.0 for row in self._rows if not row.optional]
        return Plan(
            name=self._program.name,
            rows=tuple(self._rows),
            deviations=tuple(self._deviations),
            duration_min_s=sum(certain),
            duration_max_s=self._end_s,
            samples=samples,
            bytes=samples * _BYTES_PER_ROW,
        )

    def _row(self, step: AnyStep, low_s: float | None, high_s: float | None) -> PlanRow:
        voltages, places = self._voltages(step), self._places(step)
        pressure_Pa = step.pressure_Pa if isinstance(step, PressStep) else self._pressure_Pa
        return PlanRow(
            path=step.path,
            what=step.what,
            optional=self._optional(step),
            duration_min_s=low_s,
            duration_max_s=high_s,
            charge_max_C=_charge_C(step),
            voltage_min_V=voltages[0],
            voltage_max_V=voltages[1],
            current_max_A=self._current_A(step),
            pressure_Pa=pressure_Pa or None,
            on_device=places[0],
            on_host=places[1],
            reaction_s=self._reaction_s(step),
            rows=_rows(step, high_s),
            end_max_s=self._end_s,
        )

    def _optional(self, step: AnyStep) -> bool:
        in_branch = "if" in step.path.split("/") or "else" in step.path.split("/")
        return in_branch or any(step.path.startswith(f"{loop}[") for loop in self._early)

    def _duration(self, step: AnyStep) -> tuple[float | None, float | None]:
        match step:
            case ChannelStep(technique=technique):
                early = step.until or technique.cut_offs or step.charge_max_C
                sure = isinstance(technique, ConstantCurrent) and not (
                    step.until or technique.cut_offs
                )
                return technique.duration_s if sure or not early else 0.0, technique.duration_s
            case EisStep(technique=technique):
                duration_s = spectrum_duration_s(technique)
                return duration_s, duration_s
            case PressStep():
                return self._press_duration(step)
            case TemperatureStep(settle=settle):
                return (0.0, 0.0) if settle is None else (settle.for_s, settle.timeout_s)
            case WaitStep():
                return (0.0 if step.until else step.timeout_s), step.timeout_s
            case MarkStep():
                return 0.0, 0.0
        return 0.0, None

    def _press_duration(self, step: PressStep) -> tuple[float, float]:
        distance = abs((step.pressure_Pa or 0.0) - self._pressure_Pa)
        moving = step.kind != "hold" and step.rate_Pa_per_s
        ramp_s = distance / step.rate_Pa_per_s if moving and step.rate_Pa_per_s else 0.0
        if step.settle is None:
            return ramp_s, ramp_s
        return ramp_s + step.settle.for_s, ramp_s + step.settle.timeout_s

    def _voltages(self, step: AnyStep) -> tuple[float | None, float | None]:
        limits = self._program.limits
        match step:
            case ChannelStep(technique=ConstantVoltage(voltage_V=voltage_V)):
                return voltage_V, voltage_V
            case ChannelStep(technique=Sweep(start_V=start_V, end_V=end_V)):
                return min(start_V, end_V), max(start_V, end_V)
            case ChannelStep(technique=technique):
                cuts = [c for c in technique.cut_offs if c.quantity == "voltage"]
                highest = min([limits.voltage_max_V, *(c.value for c in cuts if c.above)])
                lowest = max([limits.voltage_min_V, *(c.value for c in cuts if not c.above)])
                return lowest, highest
            case EisStep():
                return limits.voltage_min_V, limits.voltage_max_V
        return None, None

    def _current_A(self, step: AnyStep) -> float | None:
        match step:
            case ChannelStep(technique=ConstantCurrent(current_A=current_A)):
                return abs(current_A)
            case ChannelStep(technique=ConstantVoltage() | Sweep()) | EisStep():
                return self._program.limits.current_max_A
            case ChannelStep():
                return 0.0
        return None

    def _places(self, step: AnyStep) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what the instrument watches by itself, and what only the host does."""
        host = ["stack pressure"] if self._bench.press or self._bench.gauge else []
        device: list[str] = []
        if isinstance(step, ChannelStep) and self._bench.channel:
            able = self._bench.channel.capabilities.on_device
            device = [each for each in ("voltage", "current") if each in able]
            host += [each for each in ("voltage", "current") if each not in able]
        if isinstance(step, ChannelStep | WaitStep):
            host += [each for each in _watched(step.until) if each not in host]
        return tuple(device), tuple(host)

    def _reaction_s(self, step: AnyStep) -> float | None:
        if isinstance(step, ChannelStep | EisStep) and self._bench.channel is not None:
            return self._bench.channel.capabilities.reaction.total_s
        if isinstance(step, PressStep) and self._bench.press is not None:
            return self._bench.press.capabilities.reaction.total_s
        return None


def spectrum_points(technique: Impedance) -> int:
    """Number of frequencies of a spectrum, both ends included."""
    decades = math.log10(technique.frequency_max_Hz / technique.frequency_min_Hz)
    return round(decades * technique.points_per_decade) + 1


def spectrum_duration_s(technique: Impedance) -> float:
    """Time of a spectrum: some periods of each frequency, most of it in the lowest decade."""
    count = spectrum_points(technique)
    ratio = technique.frequency_max_Hz / technique.frequency_min_Hz
    step = math.pow(ratio, 1 / max(1, count - 1))
    periods_s = sum(step**-index for index in range(count)) / technique.frequency_min_Hz
    return _PERIODS * periods_s + _SETTLING_PER_POINT_S * count


def _watched(conditions: Iterable[Condition]) -> Iterator[str]:
    """Return the names of what conditions depend on."""
    for condition in conditions:
        match condition:
            case AnyOf(inner) | AllOf(inner):
                yield from _watched(inner)
            case Verdict(name):
                yield name
            case Decided():
                pass
            case _:
                yield condition.quantity


def _charge_C(step: AnyStep) -> float | None:
    match step:
        case ChannelStep(technique=ConstantCurrent() as technique):
            return abs(technique.current_A) * technique.duration_s
        case ChannelStep(technique=ConstantVoltage() | Sweep()):
            return step.charge_max_C
        case EisStep():
            return None
    return 0.0


def _rows(step: AnyStep, duration_s: float | None) -> int | None:
    """Number of rows at most, those of pressure and temperature included."""
    if duration_s is None:
        return None
    environment = duration_s * _ENVIRONMENT_ROWS_PER_S
    if isinstance(step, EisStep):
        return round(environment) + spectrum_points(step.technique)
    if not isinstance(step, ChannelStep):
        return round(environment)
    record, technique = step.record, step.technique
    deltas = record.every_s is None or record.dV_V or record.dI_A or record.dP_Pa
    interval_s = getattr(technique, "interval_s", 1.0)
    gap_s = interval_s if deltas else record.every_s or interval_s
    return round(environment + duration_s / gap_s) + 2
