"""Planning: a walk through a program without running anything, adding up what will happen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench.instruments.wired import WiredChannel
from cellbench.protocol.abilities import BenchLike, able_for, adapt
from cellbench.protocol.conditions import AllOf, AnyOf, Condition, Decided, Verdict
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.lists import can_be_listed, ends_a_list
from cellbench.protocol.plan import Plan, PlannedList, PlanRow
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    CheckStep,
    EisStep,
    Every,
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
#: Force of press and gauge, and temperature, are kept at each look.
_CONDITIONS_ROWS = 3
#: With log spacing, rows per decade of the step's time.
_LOG_ROWS_PER_DECADE = 50
#: Time to look at the open circuit and at the contact of a cell.
_CHECK_S = 6.0
#: With what they are looked at; which instruments these need is all that matters here.
_LOOK = Rest(duration_s=_CHECK_S)
_CONTACT = Impedance(frequency_max_Hz=1e5, frequency_min_Hz=1e4, amplitude_V=10e-3)


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
        self._holder = ""
        self._handovers = 0
        self._listed: list[ChannelStep] = []
        self._lists: list[PlannedList] = []
        self._end_s: float | None = 0.0

    def pass_ended(self, item: PassEnded) -> None:
        if ends_a_list(item):
            self._end_list()
        if item.until:
            self._early.add(item.path.rpartition("[")[0])

    def add(self, step: AnyStep) -> None:
        adapted, texts = adapt(step, self._bench)
        self._deviations.update(dict.fromkeys(texts))
        if adapted is None:
            return
        self._hand_over(adapted)
        self._list(adapted)
        low_s, high_s = self._duration(adapted)
        if self._end_s is not None:
            self._end_s = None if high_s is None else self._end_s + high_s
        self._rows.append(self._row(adapted, low_s, high_s))
        if isinstance(adapted, PressStep) and adapted.kind != "hold":
            self._pressure_Pa = 0.0 if adapted.then_release else adapted.pressure_Pa or 0.0

    def _hand_over(self, step: AnyStep) -> None:
        """Count how often a cell that is wired to several instruments changes hands."""
        channel = self._bench.channel
        if not isinstance(channel, WiredChannel):
            return
        for technique in _techniques(step):
            # A run begins with a look at the cell at rest.
            for each in (technique,) if self._holder else (_LOOK, technique):
                server = channel.serving(each, self._holder).name
                self._handovers += server != self._holder
                self._holder = server

    def _list(self, step: AnyStep) -> None:
        """Take note of a step that a cycler is handed together with those before it."""
        if not isinstance(step, ChannelStep) or not can_be_listed(step, self._bench.channel):
            self._end_list()
            return
        self._listed.append(step)
        if ends_a_list(step):
            self._end_list()

    def _end_list(self) -> None:
        steps, self._listed = self._listed, []
        if steps:
            ends_on = ["time", *(cut.quantity for step in steps for cut in step.technique.cut_offs)]
            duration_s = sum(step.technique.duration_s for step in steps)
            found = PlannedList(
                steps[0].path, steps[-1].path, len(steps), duration_s, tuple(dict.fromkeys(ends_on))
            )
            self._lists.append(found)

    def plan(self) -> Plan:
        self._end_list()
        channel = self._bench.channel
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
            handovers=self._handovers,
            changeover=channel.changeover.means if isinstance(channel, WiredChannel) else "",
            lists=tuple(self._lists),
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
            rows=_rows(step, high_s, self._program.conditions_every_s),
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
                low_s = technique.duration_s if sure or not early else 0.0
                return (0.0 if step.stop_if else low_s), _interrupted_s(step)
            case EisStep(technique=technique):
                duration_s = spectrum_duration_s(technique)
                return duration_s, duration_s
            case PressStep():
                return self._press_duration(step)
            case TemperatureStep(settle=settle):
                return (0.0, 0.0) if settle is None else (settle.for_s, settle.timeout_s)
            case WaitStep():
                return (0.0 if step.until else step.timeout_s), step.timeout_s
            case CheckStep():
                return 0.0, _CHECK_S
            case MarkStep():
                return 0.0, 0.0
        return 0.0, None

    def _press_duration(self, step: PressStep) -> tuple[float, float]:
        distance = abs((step.pressure_Pa or 0.0) - self._pressure_Pa)
        moving = step.kind != "hold" and step.rate_Pa_per_s
        ramp_s = distance / step.rate_Pa_per_s if moving and step.rate_Pa_per_s else 0.0
        fixed_s = ramp_s + step.hold_s
        if step.then_release and step.rate_Pa_per_s:
            fixed_s += (step.pressure_Pa or 0.0) / step.rate_Pa_per_s
        if step.settle is None:
            return fixed_s, fixed_s
        return fixed_s + step.settle.for_s, fixed_s + step.settle.timeout_s

    def _voltages(self, step: AnyStep) -> tuple[float | None, float | None]:
        limits = self._program.limits
        match step:
            case ChannelStep(technique=ConstantVoltage(voltage_V=voltage_V)):
                return voltage_V, voltage_V
            case ChannelStep(technique=Sweep() as sweep):
                return min(sweep.voltages_V), max(sweep.voltages_V)
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
        if isinstance(step, ChannelStep) and (able := able_for(step.technique, self._bench)):
            device = [each for each in ("voltage", "current") if each in able.on_device]
            host += [each for each in ("voltage", "current") if each not in able.on_device]
        if isinstance(step, ChannelStep | WaitStep):
            watched = [*step.until, *(step.stop_if if isinstance(step, ChannelStep) else ())]
            host += [each for each in _watched(watched) if each not in host]
        return tuple(device), tuple(host)

    def _reaction_s(self, step: AnyStep) -> float | None:
        if isinstance(step, ChannelStep | EisStep):
            able = able_for(step.technique, self._bench)
            interval_s = getattr(step.technique, "interval_s", 0.0)
            return None if able is None else able.reaction.of_rows(interval_s)
        if isinstance(step, PressStep) and self._bench.press is not None:
            return self._bench.press.capabilities.reaction.total_s
        return None


def _techniques(step: AnyStep) -> Iterator[Technique]:
    """What the channel does in a step, in order, with all that interrupts it."""
    match step:
        case CheckStep():
            yield from [_LOOK] if step.voltage else []
            yield from [_CONTACT] if step.contact_ohm else []
        case EisStep(technique=spectrum):
            yield spectrum
        case ChannelStep(technique=technique):
            yield technique
            for _ in range(_interruptions(step)):
                for each in step.every.steps if step.every else ():
                    yield from _techniques(each)
                yield technique


def spectrum_duration_s(technique: Impedance) -> float:
    """Time of a spectrum: some periods of each frequency, most of it in the lowest decade."""
    frequencies_Hz = technique.frequencies_Hz
    periods_s = sum(1 / frequency_Hz for frequency_Hz in frequencies_Hz)
    return _PERIODS * periods_s + _SETTLING_PER_POINT_S * len(frequencies_Hz)


def interruption_s(every: Every) -> float | None:
    """Longest time that what interrupts a step takes; None when it is unknown."""
    total_s = 0.0
    for step in every.steps:
        match step:
            case ChannelStep(technique=technique):
                total_s += technique.duration_s
            case EisStep(technique=technique):
                total_s += spectrum_duration_s(technique)
            case WaitStep(timeout_s=timeout_s):
                total_s += timeout_s
            case CheckStep():
                total_s += _CHECK_S
            case MarkStep():
                pass
            case _:
                return None
    return total_s


def _interruptions(step: ChannelStep) -> int:
    """How often a step is interrupted at most: never right at its end."""
    if step.every is None:
        return 0
    return math.ceil(step.technique.duration_s / step.every.period_s - 1e-9) - 1


def _interrupted_s(step: ChannelStep) -> float | None:
    """Longest duration of a step with all that interrupts it."""
    if step.every is None:
        return step.technique.duration_s
    once_s = interruption_s(step.every)
    if once_s is None:
        return None
    # With a clock that runs on, only the last interruption can take longer than the step.
    count = 1 if step.every.clock_runs else _interruptions(step)
    return step.technique.duration_s + count * once_s


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


def _rows(step: AnyStep, duration_s: float | None, conditions_every_s: float) -> int | None:
    """Number of rows at most, those of pressure and temperature included."""
    if duration_s is None:
        return None
    own = _own_rows(step)
    if isinstance(step, ChannelStep) and step.every is not None:
        own += _interruptions(step) * sum(map(_own_rows, step.every.steps))
    return round(duration_s * _CONDITIONS_ROWS / conditions_every_s) + own


def _own_rows(step: AnyStep) -> int:
    """Rows and points of the channel alone."""
    if isinstance(step, EisStep):
        return len(step.technique.frequencies_Hz)
    if not isinstance(step, ChannelStep):
        return 0
    record, technique = step.record, step.technique
    deltas = record.every_s is None or record.dV_V or record.dI_A or record.dP_Pa
    gap_s = technique.interval_s
    if not deltas:
        gap_s = max(gap_s, record.every_s or 0.0)
    rows = round(technique.duration_s / gap_s) + 2
    if record.spacing == "log":
        decades = math.log10(max(10.0, technique.duration_s / technique.interval_s))
        rows += math.ceil(_LOG_ROWS_PER_DECADE * decades)
    return min(rows, round(technique.duration_s / technique.interval_s) + 2)
