"""What can be found wrong with a protocol without energising anything.

Every step is resolved and compared with the limits of cell, protocol, fixture and instruments. What
a step allows to be left out or clipped is a deviation; everything else that does not fit is a
problem at its line.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cellbench.instruments.wired import WiredChannel
from cellbench.places import WITHIN, any_pass, is_within
from cellbench.protocol.abilities import (
    BenchLike,
    able_for,
    accepted_for,
    adapt,
    fixture_die_m,
    missing_role,
    objections,
)
from cellbench.protocol.check_channel import check_bounded, check_channel, check_eis
from cellbench.protocol.check_standing import check_press, check_temperature
from cellbench.protocol.conditions import AllOf, AnyOf, Change, Condition, Slope, Threshold
from cellbench.protocol.errors import Problem, ProtocolError
from cellbench.protocol.planning import interruption_s
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    EisStep,
    IfNode,
    Node,
    PassEnded,
    PressStep,
    Program,
    StepNode,
    TemperatureStep,
    WaitStep,
)
from cellbench.protocol.source import SourceNode, document_of, load
from cellbench.protocol.walk import Walk
from cellbench.quantities import format_quantity

__all__ = ["Found", "adapt", "check", "problems_of"]


#: Steps of which an analysis needs at least one, and what they are called.
_NEEDS: dict[str, tuple[set[str], str]] = {
    "ccd": ({"current", "charge", "discharge"}, "a current step"),
    "conductivity": ({"eis"}, "a spectrum (eis)"),
    "fabrication_pressure": ({"eis"}, "a spectrum (eis)"),
    "interface_resistance": ({"eis"}, "a spectrum (eis)"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found. ``deviations`` are what the bench cannot do and the protocol allows."""

    problems: tuple[Problem, ...]
    deviations: tuple[str, ...]

    def raise_problems(self) -> None:
        """Raise a `ProtocolError` if there are problems."""
        if self.problems:
            raise ProtocolError(self.problems)

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "ok": not self.problems,
            "problems": [
                {
                    "file": each.file or None,
                    "line": each.line or None,
                    "message": each.message,
                    "cure": each.cure or None,
                }
                for each in self.problems
            ],
            "deviations": list(self.deviations),
        }


def check(program: Program, bench: BenchLike, analyses: Collection[str] | None = None) -> Found:
    """Check a program against its card and a bench.

    Args:
        program: What is to be run.
        bench: Who plays which role; nothing needs to be connected.
        analyses: Names of the analyses that are installed; None leaves them unchecked.
    """
    walk = Walk(program, planning=True)
    problems: dict[tuple[str, int, str], Problem] = {}
    deviations: dict[str, None] = {}
    paths: list[str] = []
    for item in walk:
        if isinstance(item, PassEnded):
            continue
        paths.append(item.path)
        adapted, texts = adapt(item, bench)
        deviations.update(dict.fromkeys(texts))
        if adapted is None and item.save_as is not None:
            walk.forget(item.save_as)
        for problem in () if adapted is None else problems_of(adapted, program, bench):
            problems.setdefault((problem.file, problem.line, problem.message), problem)
    found = [*walk.problems, *problems.values(), *_die(program, bench), *_fixture(program, bench)]
    found.extend(_analyses(program, analyses, paths))
    return Found(tuple(_one_per_place(found)), tuple(deviations))


def _one_per_place(problems: list[Problem]) -> Iterator[Problem]:
    """A loop meets a mistake with each value: of one kind and line the first is shown."""
    seen = set()
    for problem in problems:
        kind = (problem.file, problem.line, problem.column, problem.cure or problem.message[:12])
        if kind not in seen:
            seen.add(kind)
            yield problem


def problems_of(step: AnyStep, program: Program, bench: BenchLike) -> Iterator[Problem]:
    """Check one step, after `adapt`; in a run, one that was computed from results."""
    reasons = objections(step, bench) if isinstance(step, ChannelStep | EisStep) else ""
    if reasons:
        yield step.source.problem(f"no instrument that the cell is wired to can do this: {reasons}")
        return
    missing = missing_role(step, bench)
    if missing:
        yield step.source.problem(
            f"the bench has no {missing}",
            'Choose another bench with --bench, or add "when: available" to leave the step out.',
        )
        return
    match step:
        case ChannelStep() if able := able_for(step.technique, bench):
            yield from check_channel(step, program, able)
            yield from check_bounded(step, able, *accepted_for(step.technique, bench))
            yield from _watched(step, (*step.until, *step.stop_if), bench)
            yield from _interrupted(step, program, bench)
        case EisStep() if able := able_for(step.technique, bench):
            yield from check_eis(step, program, able)
            yield from check_bounded(step, able, *accepted_for(step.technique, bench))
        case PressStep() if bench.press:
            yield from check_press(step, program, bench, bench.press.capabilities)
        case TemperatureStep() if bench.chamber:
            yield from check_temperature(step, program, bench.chamber.capabilities)
        case WaitStep():
            yield from _watched(step, step.until, bench)


def _interrupted(step: ChannelStep, program: Program, bench: BenchLike) -> Iterator[Problem]:
    """What interrupts a step has to be possible, and to fit between two interruptions."""
    every = step.every
    if every is None:
        return
    for each in every.steps:
        yield from problems_of(each, program, bench)
    duration_s = interruption_s(every)
    if duration_s is not None:
        duration_s += _handovers_s(step, bench)
    place = step.source.at(("every", "interval"))
    if every.clock_runs and duration_s is not None and duration_s >= every.period_s:
        yield place.problem(
            f"what is done every {format_quantity(every.period_s, 'time')} takes up to "
            f"{format_quantity(duration_s, 'time')}",
            "Choose a longer interval, or a spectrum that ends at a higher frequency.",
        )
    if every.period_s >= step.technique.duration_s:
        yield step.source.at(("every",)).problem(
            "the step ends before it is interrupted for the first time"
        )


def _handovers_s(step: ChannelStep, bench: BenchLike) -> float:
    """Time that a cell needs to go to another instrument and back, in each interruption."""
    channel = bench.channel
    if not isinstance(channel, WiredChannel) or step.every is None:
        return 0.0
    hands = [
        channel.serving(each.technique).name
        for each in (step, *step.every.steps, step)
        if isinstance(each, ChannelStep | EisStep)
    ]
    return channel.changeover.duration_s * sum(a != b for a, b in pairwise(hands))


def _watched(
    step: AnyStep, conditions: Collection[Condition], bench: BenchLike
) -> Iterator[Problem]:
    """A condition needs an instrument that sees its quantity."""
    for condition in conditions:
        match condition:
            case AnyOf(inner) | AllOf(inner):
                yield from _watched(step, inner, bench)
            case (
                Threshold(quantity=quantity) | Slope(quantity=quantity) | Change(quantity=quantity)
            ):
                blind = {
                    "stack pressure": bench.gauge is None and bench.press is None,
                    "temperature": bench.chamber is None,
                }
                if blind.get(quantity):
                    yield step.source.problem(f"nothing on this bench measures the {quantity}")


def _die(program: Program, bench: BenchLike) -> Iterator[Problem]:
    fixture_m, card_m = fixture_die_m(bench.fixture), program.card.die_m
    if fixture_m is not None and card_m is not None and abs(fixture_m - card_m) > 1e-6:
        yield Problem(
            f"the card of {program.card.cell} says die {card_m * 1e3:g} mm, the bench's fixture "
            f"has {fixture_m * 1e3:g} mm",
            cure="Every pressure would be wrong: correct the card or the bench file.",
        )


def _fixture(program: Program, bench: BenchLike) -> Iterator[Problem]:
    allowed = program.fixtures
    if bench.fixture is None or not allowed or bench.fixture.kind in allowed:
        return
    file = program.sources[0]
    place = load(document_of(file.text, file.name)).at(("fixture",))
    yield place.problem(
        f"this test is meant for {' or '.join(allowed)}, and the bench's fixture is "
        f"{bench.fixture.kind}",
        'Choose another bench, or change "fixture" if yours serves as well.',
    )


def _analyses(
    program: Program, known: Collection[str] | None, paths: Sequence[str]
) -> Iterator[Problem]:
    verbs = set(_verbs(program.nodes))
    for index, order in enumerate(program.analyses):
        name, _, place = (part.strip() for part in order.partition(WITHIN))
        # How many passes there are can be a parameter's, or the run's.
        if place and not any(is_within(any_pass(path), any_pass(place)) for path in paths):
            yield _analysis_place(program, index).problem(
                f'nothing is within "{place}"',
                "Write the name of a loop, a group or a step, or one pass of a loop: ladder[2].",
            )
        needed, what = _NEEDS.get(name, (verbs, ""))
        if known is not None and name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(known)}"
            message = f'there is no analysis "{name}"; {hint}'
            yield _analysis_place(program, index).problem(message)
        elif not verbs & needed:
            message = f'the analysis "{name}" needs {what}, and there is none'
            yield _analysis_place(program, index).problem(message)


def _analysis_place(program: Program, index: int) -> SourceNode:
    file = program.sources[0]
    return load(document_of(file.text, file.name)).at(("analyses", index))


def _verbs(nodes: Sequence[Node]) -> Iterator[str]:
    for node in nodes:
        match node:
            case StepNode(verb=verb):
                yield verb
            case IfNode(nodes=inner, otherwise=otherwise):
                yield from _verbs((*inner, *otherwise))
            case _:
                yield from _verbs(node.nodes)
