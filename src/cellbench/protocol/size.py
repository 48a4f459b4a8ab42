"""How large a program can become: the number of its steps, the duration of one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cellbench.protocol.arithmetic import ResultMissing
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    EisStep,
    ForEachNode,
    GroupNode,
    IfNode,
    Node,
    PressStep,
    RepeatNode,
    TemperatureStep,
    WaitStep,
)
from cellbench.protocol.scope import Scope, evaluate_bindings

#: What a program can expand to before it counts as endless.
MAX_ITEMS = 100_000
TOO_MANY = f"the protocol expands to more than {MAX_ITEMS:,} steps"
#: No step of a test lasts longer, in years of 365 days.
MAX_YEARS = 10
_MAX_STEP_S = MAX_YEARS * 365 * 86400.0


def refuse_endless(step: AnyStep) -> None:
    """Refuse a step that lasts longer than any test.

    Raises:
        ProtocolError: It lasts longer than ten years.
    """
    duration_s = _longest_s(step)
    if duration_s > _MAX_STEP_S:
        years = duration_s / (365 * 86400)
        step.source.fail(
            f"this step would last {years:.3g} years; more than {MAX_YEARS} years make no sense"
        )


def _longest_s(step: AnyStep) -> float:
    match step:
        case ChannelStep(technique=technique):
            return technique.duration_s
        case EisStep(technique=technique):
            return 1 / technique.frequency_min_Hz
        case WaitStep(timeout_s=timeout_s):
            return timeout_s
        case PressStep(settle=settle, pressure_Pa=pressure_Pa, rate_Pa_per_s=rate):
            ramp_s = (pressure_Pa or 0.0) / (rate or math.inf)
            return ramp_s + (settle.timeout_s if settle else 0.0)
        case TemperatureStep(settle=settle) if settle is not None:
            return settle.timeout_s
    return 0.0


def refuse_too_many(nodes: Sequence[Node], scope: Scope) -> None:
    """Refuse a program that would expand beyond all bounds, without expanding it.

    Raises:
        ProtocolError: It has more than `MAX_ITEMS` steps and passes of loops.
    """
    total = 0
    for node in nodes:
        total += _count(node, scope)
        if total > MAX_ITEMS:
            node.source.fail(TOO_MANY)


def _count(node: Node, scope: Scope) -> int:
    """Count what a node expands to; what cannot be told before the run counts least."""
    match node:
        case GroupNode():
            return _all(node.nodes, _inside(node, scope))
        case IfNode():
            return min(_all(node.nodes, scope), _all(node.otherwise, scope))
        case RepeatNode() | ForEachNode():
            passes, inner = _passes(node, scope)
            return passes * (1 + _all(node.nodes, inner))
    return 1


def _all(nodes: Sequence[Node], scope: Scope) -> int:
    return sum(_count(node, scope) for node in nodes)


def _inside(node: GroupNode, scope: Scope) -> Scope:
    if node.parameters is None:
        return scope
    try:
        return evaluate_bindings(node.parameters, scope.isolated({}), scope)
    except (ProtocolError, ResultMissing):  # the walk tells, with the line
        return scope


def _passes(node: RepeatNode | ForEachNode, scope: Scope) -> tuple[int, Scope]:
    """Return how often a loop is done, and the names of its first pass."""
    try:
        if isinstance(node, RepeatNode):
            times = scope.quantity(node.times).value
            return (int(times) if 1 <= times < math.inf else 1), scope
        lists = {name: scope.quantities(each) for name, each in node.variables.items()}
    except (ProtocolError, ResultMissing):  # as above
        return 1, scope
    first = {name: values[0] for name, values in lists.items()}
    return math.prod(len(values) for values in lists.values()), scope.inner(first)
