"""Going through a program, lazily: one walk, which planner and engine share.

The engine pulls one item after the other, runs it, and tells the walk what came of it; loops, the
values of expressions and ``if`` follow from that. Walks are deterministic: a host that resumes
walks again from the start and hands in the results that its journal holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from cellbench.protocol import until
from cellbench.protocol.arithmetic import ResultMissing
from cellbench.protocol.errors import Problem, ProtocolError
from cellbench.protocol.expressions import looks_like_text
from cellbench.protocol.fields import common
from cellbench.protocol.program import (
    AnyStep,
    ForEachNode,
    GroupNode,
    IfNode,
    LaterStep,
    Node,
    PassEnded,
    Program,
    RepeatNode,
    StepNode,
)
from cellbench.protocol.resolve import resolve_step
from cellbench.protocol.scope import (
    RESULTS,
    Results,
    Scope,
    evaluate_bindings,
    is_unknown,
    text_of,
)
from cellbench.protocol.size import MAX_ITEMS, TOO_MANY, refuse_too_many
from cellbench.quantities import PLAIN, Quantity

#: In a loop, ``$cycle`` is the number of the pass, from 1; of nested loops, of the innermost.
CYCLE = "cycle"

_Item = AnyStep | PassEnded


class Walk:
    """An iterator over the steps of a program, with the end of each loop's passes between them.

    Args:
        program: What to walk.
        planning: Results are not known: steps that use them come as `LaterStep`, both branches
            of an ``if`` over them are walked, loops run to their bound, and what is wrong is
            collected in ``problems`` instead of being raised.

    Raises (while iterating):
        ProtocolError: A step cannot be carried out as written.
    """

    def __init__(self, program: Program, *, planning: bool = False) -> None:
        self.problems: list[Problem] = []
        self._planning = planning
        self._results: Results = {}
        self._leave = False
        self._count = 0
        values = {name: each.value for name, each in program.parameters.items()}
        unknown: set[str] | None = set() if planning else None
        scope = Scope(program.card, values, self._results, program.saved, unknown)
        self._items = self._all(program.nodes, scope)

    def __iter__(self) -> Iterator[_Item]:
        """Return itself."""
        return self

    def __next__(self) -> _Item:
        """Resolve and return the next step or end of a pass."""
        return next(self._items)

    def record(self, name: str, results: Mapping[str, float]) -> None:
        """Keep the results of the step saved as ``name``; keys end in their unit (``R_ohm``).

        A charge is a magnitude to expressions, as it is to conditions: of a discharge, the negative
        one would be below any part of another.
        """
        kept = {key: abs(value) if key == "charge_C" else value for key, value in results.items()}
        self._results[name] = kept

    def forget(self, name: str) -> None:
        """While planning: the step saved as ``name`` is left out on this bench."""
        self._results.pop(name, None)

    def leave(self) -> None:
        """After `PassEnded`: leave that loop."""
        self._leave = True

    # --- The tree -------------------------------------------------------------------------------

    def _all(self, nodes: Sequence[Node], scope: Scope) -> Iterator[_Item]:
        try:
            refuse_too_many(nodes, scope)
        except ProtocolError as error:
            self._note(error)
            return
        yield from self._walk(nodes, "", scope, {})

    def _walk(
        self, nodes: Sequence[Node], prefix: str, scope: Scope, bindings: Mapping[str, str]
    ) -> Iterator[_Item]:
        for node in nodes:
            path = f"{prefix}{node.name}"
            try:
                yield from self._node(node, path, scope, bindings)
            except ProtocolError as error:
                self._note(error)
            except ResultMissing as missing:
                node.source.fail(f'"${missing}" has no value: that step gave no results')
            if self._count > MAX_ITEMS:
                return

    def _note(self, error: ProtocolError) -> None:
        if not self._planning:
            raise error
        # A mistake within a loop comes with each pass; it is one mistake.
        places = {(each.file, each.line, each.column) for each in self.problems}
        self.problems.extend(
            each for each in error.problems if (each.file, each.line, each.column) not in places
        )

    def _node(
        self, node: Node, path: str, scope: Scope, bindings: Mapping[str, str]
    ) -> Iterator[_Item]:
        match node:
            case StepNode():
                step = self._step(node, path, scope, bindings)
                if self._planning and node.body.save_as is not None:
                    fields = RESULTS.get(node.verb, ())
                    self._results[node.body.save_as] = dict.fromkeys(fields, math.nan)
                yield step
            case GroupNode():
                yield from self._group(node, path, scope, bindings)
            case RepeatNode():
                yield from self._repeat(node, path, scope, bindings)
            case ForEachNode():
                yield from self._for_each(node, path, scope, bindings)
            case IfNode():
                yield from self._branch(node, path, scope, bindings)

    def _step(
        self, node: StepNode, path: str, scope: Scope, bindings: Mapping[str, str]
    ) -> AnyStep:
        self._count += 1
        if self._count > MAX_ITEMS:
            node.source.fail(TOO_MANY)
        try:
            return resolve_step(node, path, scope, bindings)
        except ResultMissing as missing:
            if not self._planning:
                node.source.fail(f'"${missing}" has no value: that step gave no results')
            what = f"{node.verb}, by the results of an earlier step"
            return LaterStep(**common(node, path, bindings), what=what, uses=missing.names)

    def _group(
        self, node: GroupNode, path: str, scope: Scope, bindings: Mapping[str, str]
    ) -> Iterator[_Item]:
        if node.parameters is not None:
            scope = evaluate_bindings(node.parameters, scope.isolated({}), scope)
        yield from self._walk(node.nodes, f"{path}/", scope, bindings)

    def _branch(
        self, node: IfNode, path: str, scope: Scope, bindings: Mapping[str, str]
    ) -> Iterator[_Item]:
        chosen = self._test(node, scope)
        before = dict(self._results)
        if chosen is not False:
            yield from self._walk(node.nodes, f"{path}/", scope, bindings)
        after = dict(self._results)
        if chosen is None:
            self._restore(before)
        if chosen is not True:
            yield from self._walk(node.otherwise, f"{path}/else/", scope, bindings)
        if chosen is None:  # what only one of the branches gives may never come
            self._restore({k: v for k, v in self._results.items() if k in after})

    def _restore(self, results: Results) -> None:
        self._results.clear()
        self._results.update(results)

    def _test(self, node: IfNode, scope: Scope) -> bool | None:
        """Return the outcome of an ``if``, None when only the run will tell."""
        if scope.unknown is not None:
            scope.unknown.clear()
        try:
            value = scope.value(node.test)
        except ResultMissing as missing:
            node.test.fail(f'"${missing}" has no value: that step gave no results')
        if not isinstance(value, bool):
            node.test.fail('"if" needs a comparison, like "$first.R_low > 100 Ohm"')
        return None if scope.unknown else value

    # --- Loops ----------------------------------------------------------------------------------

    def _repeat(
        self, node: RepeatNode, path: str, scope: Scope, bindings: Mapping[str, str]
    ) -> Iterator[_Item]:
        times = _times(node, scope)
        for index in range(1, times + 1):
            here = f"{path}[{index}]"
            inner = scope.inner({CYCLE: Quantity(float(index))})
            yield from self._walk(node.nodes, f"{here}/", inner, bindings)
            unmet = index == times and bool(node.conditions)
            yield self._ended(node, here, inner, last=index == times, unmet=unmet)
            if self._left():
                return

    def _for_each(
        self, node: ForEachNode, path: str, scope: Scope, bindings: Mapping[str, str]
    ) -> Iterator[_Item]:
        lists = [scope.quantities(source) for source in node.variables.values()]
        count = math.prod(len(each) for each in lists)
        for index, values in enumerate(itertools.product(*lists), start=1):
            here = f"{path}[{index}]"
            chosen = dict(zip(node.variables, values, strict=True))
            shown = {**bindings, **{name: str(value) for name, value in chosen.items()}}
            inner = scope.inner({CYCLE: Quantity(float(index)), **chosen})
            yield from self._walk(node.nodes, f"{here}/", inner, shown)
            yield self._ended(node, here, inner, last=index == count, unmet=False)
            if self._left():
                return

    def _ended(
        self, node: RepeatNode | ForEachNode, path: str, scope: Scope, *, last: bool, unmet: bool
    ) -> PassEnded:
        self._count += 1
        if self._count > MAX_ITEMS:
            node.source.fail(TOO_MANY)
        try:
            conditions = until.resolve_for_passes(node.conditions, scope)
        except ResultMissing:
            conditions = ()
        return PassEnded(path=path, until=conditions, last=last, unmet=unmet)

    def _left(self) -> bool:
        left, self._leave = self._leave, False
        return left or self._count > MAX_ITEMS


def _times(node: RepeatNode, scope: Scope) -> int:
    source, text = node.times, text_of(node.times)
    quantity = Quantity(0.0) if looks_like_text(text) else scope.quantity(source)
    if is_unknown(quantity) and quantity.exponents == PLAIN:
        return 1  # how many passes there are, only the run will tell
    if not _is_count(quantity):
        source.fail(
            f'"{text[:40]}" is not how often to repeat: a whole number from 1 to {MAX_ITEMS}',
            'A loop has to end: write "repeat: 500", with "until" it is at most so often.',
        )
    return int(quantity.value)


def _is_count(quantity: Quantity) -> bool:
    whole = quantity.value % 1 == 0
    return quantity.exponents == PLAIN and whole and 1 <= quantity.value <= MAX_ITEMS
