"""A protocol of ours, reduced to what cycling programs have in common; says what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

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
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    Rest,
    Sweep,
)
from cellbench.protocol import Program, Walk
from cellbench.protocol.conditions import describe
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    EisStep,
    ForEachNode,
    GroupNode,
    IfNode,
    Limits,
    Node,
    PassEnded,
    Recording,
    RepeatNode,
    WaitStep,
)
from cellbench.quantities import format_quantity


def reduced(program: Program) -> tuple[Cycling, list[Misfit]]:
    """Reduce a program to what cycling programs have in common.

    Returns:
        What they have in common, and what is left out or cannot be.

    Raises:
        ProtocolError: A step is wrong, or takes its numbers from the results of another.
    """
    reduction = _Reduction()
    steps = reduction.steps(list(Walk(program)))
    record, differ = _one_recording(reduction.recordings)
    misfits = [*_of_loops(program.nodes), *_of_limits(program.limits), *differ, *reduction.misfits]
    limits, card = program.limits, program.card
    safety = Safety(
        voltage_min_V=limits.voltage_min_V,
        voltage_max_V=limits.voltage_max_V,
        current_max_A=limits.current_max_A,
        charge_max_C=limits.charge_max_C,
    )
    capacity_C = _nominal_capacity_C(card)
    return Cycling(program.name, steps, record, safety, card.cell, capacity_C), misfits


def _nominal_capacity_C(card: CellCard) -> float | None:
    try:
        return card.nominal_capacity_C
    except CardError:  # nobody has to say what 1C is
        return None


def _of_loops(nodes: Sequence[Node]) -> Iterator[Misfit]:
    """The conditions of loops, which count their passes elsewhere."""
    for node in nodes:
        if isinstance(node, RepeatNode | ForEachNode):
            for each in node.until:
                text = f'loop {node.name} ends on "{each}", and there would go on'
                yield Misfit(Origin(), text, fatal=True)
        if isinstance(node, RepeatNode | ForEachNode | GroupNode | IfNode):
            yield from _of_loops(node.nodes)
        if isinstance(node, IfNode):
            yield from _of_loops(node.otherwise)


def _of_limits(limits: Limits) -> Iterator[Misfit]:
    if limits.pressure_min_Pa is not None or limits.pressure_max_Pa is not None:
        yield Misfit(Origin(), "the limits of the stack pressure: left out")
    if limits.temperature_min_K is not None or limits.temperature_max_K is not None:
        yield Misfit(Origin(), "the limits of the temperature: left out")
    if limits.soft_short == "trip":
        yield Misfit(Origin(), "a soft short no longer ends the run")


def _one_recording(recordings: Sequence[Recording]) -> tuple[Recording, list[Misfit]]:
    """One rule for all steps: of each kind the finest."""
    plain = [replace(each, every_s=each.every_s or 1.0) for each in recordings]
    one = Recording(
        every_s=min((each.every_s for each in plain if each.every_s), default=1.0),
        dV_V=min((each.dV_V for each in plain if each.dV_V), default=None),
        dI_A=min((each.dI_A for each in plain if each.dI_A), default=None),
    )
    text = "its steps are recorded by rules of their own: now all by one, the finest"
    return one, [] if all(each == one for each in plain) else [Misfit(Origin(), text)]


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass of a loop."""

    loop: str
    steps: tuple[Doing, ...]


class _Reduction:
    """Reduces the steps of a walk, and keeps what does not fit."""

    def __init__(self) -> None:
        self.misfits: list[Misfit] = []
        self.recordings: list[Recording] = []
        self._numbers: dict[str, int] = {}
        self._origin = Origin()

    def steps(self, items: Sequence[AnyStep | PassEnded]) -> tuple[Doing, ...]:
        """Steps and loops of a walk; passes of a loop that are alike become one loop again."""
        entries: list[tuple[str, Doing | _Pass]] = []
        for item in items:
            if isinstance(item, PassEnded):
                inside = f"{item.path}/"
                first = len(entries)
                while first and entries[first - 1][0].startswith(inside):
                    first -= 1
                loop = item.path.rpartition("[")[0]
                entries[first:] = [(item.path, _Pass(loop, _joined(entries[first:])))]
            else:
                self._origin = self._numbered(item.path)
                entries.extend((item.path, each) for each in self._reduced(item))
        return _joined(entries)

    # --- Each step ------------------------------------------------------------------------------

    def _reduced(self, step: AnyStep) -> Sequence[Doing]:
        match step:
            case ChannelStep():
                self.recordings.append(step.record)
                return self._channel(step)
            case EisStep():
                return self._spectrum(step)
            case WaitStep():
                for each in step.until:
                    self._left_out(f'its condition "{describe(each)}"')
                return [Resting(step.timeout_s, origin=self._origin)]
            case _:
                self._left_out(f"the whole step ({step.what})")
                return []

    def _channel(self, step: ChannelStep) -> Sequence[Doing]:
        if step.every is not None:
            self._cannot("it is interrupted on a schedule (every)")
        for each in (*step.until, *step.stop_if):
            self._left_out(f'its condition "{describe(each)}"')
        match step.technique:
            case Rest() as technique:
                self._conditions(technique.cut_offs)
                return [Resting(technique.duration_s, origin=self._origin)]
            case ConstantCurrent() as technique:
                return [self._current(technique)]
            case ConstantVoltage() as technique:
                return [self._hold(step, technique)]
            case Sweep() as technique:
                return self._scans(step, technique)

    def _current(self, technique: ConstantCurrent) -> Doing:
        towards_above = technique.current_A > 0
        ends = [each for each in technique.cut_offs if _is_end(each, towards_above)]
        self._conditions([each for each in technique.cut_offs if each not in ends])
        nearest = min if towards_above else max
        return Passing(
            current=Flow(technique.current_A),
            duration_s=technique.duration_s,
            until_V=nearest((each.value for each in ends), default=None),
            origin=self._origin,
        )

    def _hold(self, step: ChannelStep, technique: ConstantVoltage) -> Doing:
        if technique.spectra is not None:
            self._cannot("it takes spectra without leaving the hold")
        if step.charge_max_C is not None:
            self._left_out(f"its end at {format_quantity(step.charge_max_C, 'charge')}")
        tapers = [each for each in technique.cut_offs if _is_taper(each)]
        self._conditions([each for each in technique.cut_offs if each not in tapers])
        until_A = max((each.value for each in tapers), default=None)
        return Holding(
            voltage_V=technique.voltage_V,
            duration_s=technique.duration_s,
            until=None if until_A is None else Flow(until_A),
            origin=self._origin,
        )

    def _scans(self, step: ChannelStep, technique: Sweep) -> Sequence[Doing]:
        if step.from_rest:
            self._cannot("it starts at the open-circuit voltage, which only the run can tell")
        self._conditions(technique.cut_offs)
        return [
            Scanning(start_V, end_V, technique.rate_V_per_s, origin=self._origin)
            for start_V, end_V in pairwise(technique.voltages_V)
        ]

    def _spectrum(self, step: EisStep) -> Sequence[Doing]:
        technique = step.technique
        if technique.bias_V is not None:
            self._note(f"its bias of {technique.bias_V:g} V: now taken around open circuit")
        if technique.bias_A:
            self._left_out(f"its bias of {format_quantity(technique.bias_A, 'current')}")
        return [
            Spectrum(
                frequency_max_Hz=technique.frequency_max_Hz,
                frequency_min_Hz=technique.frequency_min_Hz,
                points_per_decade=technique.points_per_decade,
                amplitude_V=technique.amplitude_V,
                amplitude_A=technique.amplitude_A,
                origin=self._origin,
            )
        ]

    # --- What does not fit ----------------------------------------------------------------------

    def _numbered(self, path: str) -> Origin:
        """A step's name and number: in a loop, the same in all passes."""
        where = "/".join(part.partition("[")[0] for part in path.split("/"))
        return Origin(self._numbers.setdefault(where, len(self._numbers) + 1), where)

    def _conditions(self, cut_offs: Sequence[CutOff]) -> None:
        for each in cut_offs:
            sign = ">=" if each.above else "<="
            value = format_quantity(each.value, each.quantity)
            self._left_out(f'its condition "{each.quantity} {sign} {value}"')

    def _left_out(self, what: str) -> None:
        self._note(f"{what}: left out")

    def _cannot(self, why: str) -> None:
        self._note(why, fatal=True)

    def _note(self, text: str, *, fatal: bool = False) -> None:
        """Take note of a misfit; in a loop, once for all passes."""
        misfit = Misfit(self._origin, text, fatal)
        if misfit not in self.misfits:
            self.misfits.append(misfit)


def _is_end(cut_off: CutOff, above: bool) -> bool:
    return cut_off.quantity == "voltage" and cut_off.above == above


def _is_taper(cut_off: CutOff) -> bool:
    return cut_off.quantity == "current" and not cut_off.above


def _joined(entries: Sequence[tuple[str, Doing | _Pass]]) -> tuple[Doing, ...]:
    """Steps in a row: passes that are alike as a loop, others one after the other."""
    joined: list[Doing] = []
    for doing, alike in groupby(doing for _, doing in entries):
        if isinstance(doing, _Pass):
            joined += _loop(doing, sum(1 for _ in alike))
        else:
            joined += [each for each in alike if not isinstance(each, _Pass)]
    return tuple(joined)


def _loop(each: _Pass, times: int) -> Sequence[Doing]:
    if times == 1 or not each.steps:
        return each.steps
    return [Loop(times, each.steps, each.loop.rpartition("/")[2])]
