"""Makes a scenario shorter that shows something wrong: fewer faults, fewer steps, rounder times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from tests.faults.checks import violations
from tests.faults.lab import play
from tests.faults.scenario import Fault, Kill, Line, Scenario

_LOOP = re.compile(r"^\{repeat: (\d+), name: (\w+)(.*?), steps: \[(.*)\]\}$")
_NUMBER = re.compile(r"\d+(\.\d+)?")


def wrong_with(scenario: Scenario) -> list[str]:
    """What is wrong with a scenario; one that cannot be played is wrong in no way."""
    try:
        return violations(play(scenario))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what is found)
        return [f"cannot be played: {type(error).__name__}: {error}"]


def kind_of(text: str) -> str:
    """What sort of thing is wrong, without its numbers and names."""
    return " ".join(_NUMBER.sub("#", text).split()[:6])


def shrunk(scenario: Scenario, *, most_plays: int = 150) -> tuple[Scenario, list[str]]:
    """Return the shortest scenario that was found which shows the same, and what it shows."""
    found = wrong_with(scenario)
    if not found:
        return scenario, found
    wanted, plays = kind_of(found[0]), 0
    progress = True
    while progress and plays < most_plays:
        progress = False
        for shorter in _shorter(scenario):
            plays += 1
            wrong = wrong_with(shorter)
            if wrong and kind_of(wrong[0]) == wanted:
                scenario, found, progress = shorter, wrong, True
                break
            if plays >= most_plays:
                break
    return scenario, found


def _shorter(scenario: Scenario) -> Iterator[Scenario]:
    for index in range(len(scenario.faults)):
        faults = scenario.faults[:index] + scenario.faults[index + 1 :]
        yield replace(scenario, faults=faults)
    for index in range(len(scenario.steps) - 1, -1, -1):
        yield replace(scenario, steps=scenario.steps[:index] + scenario.steps[index + 1 :])
    for index, step in enumerate(scenario.steps):
        loop = _LOOP.match(step)
        if loop is None:
            continue
        if int(loop[1]) > 1:
            fewer = f"{{repeat: 1, name: {loop[2]}, steps: [{loop[4]}]}}"
            yield _with_step(scenario, index, fewer)
    if scenario.limits:
        yield replace(scenario, limits="")
    if scenario.guarded:
        yield replace(scenario, guarded=False)
    for index, fault in enumerate(scenario.faults):
        for rounder in _rounder(fault):
            faults = (*scenario.faults[:index], rounder, *scenario.faults[index + 1 :])
            yield replace(scenario, faults=faults)


def _with_step(scenario: Scenario, index: int, step: str) -> Scenario:
    return replace(scenario, steps=(*scenario.steps[:index], step, *scenario.steps[index + 1 :]))


def _rounder(fault: Fault) -> Iterator[Fault]:
    if fault.at_s != round(fault.at_s):
        yield replace(fault, at_s=float(round(fault.at_s)))
    if isinstance(fault, Kill):
        if fault.turns:
            yield replace(fault, turns=0)
        if fault.clock_step_s:
            yield replace(fault, clock_step_s=0.0)
        if fault.late_s:
            yield replace(fault, late_s=0.0)
    if isinstance(fault, Line) and fault.duration_s != round(fault.duration_s):
        yield replace(fault, duration_s=float(round(fault.duration_s)))
