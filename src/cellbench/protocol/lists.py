"""What a cycler can be handed as one list of steps, to run them by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

from cellbench.instruments.roles import Cycler
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    Repeat,
    Rest,
    StepList,
    Sweep,
)
from cellbench.protocol.program import AnyStep, ChannelStep, PassEnded

#: One technique of a list, or several that are repeated.
Listed: TypeAlias = Rest | ConstantCurrent | ConstantVoltage | Repeat


def can_be_listed(step: AnyStep, channel: object) -> bool:
    """Whether a channel can run a step by itself: nothing of it needs the computer."""
    if not isinstance(channel, Cycler) or not isinstance(step, ChannelStep):
        return False
    if step.until or step.stop_if or step.every is not None:
        return False
    # A constant current reaches its charge in a known time; what a hold has passed, rows tell.
    if step.charge_max_C is not None and not isinstance(step.technique, ConstantCurrent):
        return False
    if step.when_interrupted not in {None, "continue"}:
        return False
    return channel.can_list(step.technique)


def ends_a_list(item: AnyStep | PassEnded) -> bool:
    """Whether a list goes no further than this: what follows may depend on what came of it."""
    if isinstance(item, PassEnded):
        return bool(item.until) or item.unmet
    return item.save_as is not None


def step_list(steps: Sequence[ChannelStep]) -> StepList:
    """Return the techniques of steps as one list, in which passes that are alike are repeated.

    Args:
        steps: Steps that can be listed, as they follow each other in the expanded program.
    """
    return StepList(steps=_folded([(step.path.split("/"), step) for step in steps]))


def _folded(steps: Sequence[tuple[list[str], ChannelStep]]) -> tuple[Listed, ...]:
    """Fold steps by the first part of their paths: a pass of a loop, a group, a step itself."""
    found: list[Listed] = []
    loop = ""
    for place, group in groupby(steps, key=lambda step: step[0][0]):
        inner = [(path[1:], step) for path, step in group]
        if inner[0][0]:
            content = _folded(inner)
            name, bracket, _ = place.partition("[")
        else:
            content, name, bracket = _techniques(inner), "", ""
        again = found[-1] if found and bracket and name == loop else None
        if isinstance(again, Repeat) and again.steps == content:
            found[-1] = again.model_copy(update={"times": again.times + 1})
        elif bracket:
            found.append(Repeat(times=1, steps=content))
        else:
            found.extend(content)
        loop = name if bracket else ""
    return tuple(found)


def _techniques(steps: Sequence[tuple[list[str], ChannelStep]]) -> tuple[Listed, ...]:
    techniques = [step.technique for _, step in steps]
    return tuple(each for each in techniques if not isinstance(each, Sweep))
