"""From validated files to the tree that is walked: names of blocks, includes, their parameters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cellbench.protocol.bodies import ChannelBody, StepBody
from cellbench.protocol.errors import ProtocolError
from cellbench.protocol.program import (
    Binding,
    ForEachNode,
    GroupNode,
    IfNode,
    Node,
    RepeatNode,
    StepNode,
)
from cellbench.protocol.schema import STRUCTURES, ProtocolFile, Step
from cellbench.protocol.scope import text_of
from cellbench.protocol.source import SourceNode
from cellbench.protocol.until import sources_of

#: Steps that can interrupt another.
_INTERRUPTING = frozenset(
    {"eis", "rest", "current", "charge", "discharge", "voltage", "hold", "wait", "mark", "check"}
)


class Includes(Protocol):
    """Reads included protocols."""

    def read(self, place: SourceNode) -> tuple[ProtocolFile, SourceNode]:
        """Read the protocol that is named at a place."""

    def done(self) -> None:
        """The protocol that was read last is built."""


@dataclass(slots=True)
class Tree:
    """The nodes of a protocol; names of saved results; the roots of included files."""

    nodes: tuple[Node, ...]
    saved: list[str] = field(default_factory=list)
    included: list[SourceNode] = field(default_factory=list)


def build(file: ProtocolFile, root: SourceNode, includes: Includes) -> Tree:
    """Build the tree of a protocol and of all that it includes.

    Raises:
        ProtocolError: An include is missing, includes itself, or does not know a parameter.
    """
    builder = _Builder(includes)
    nodes = builder.nodes(file.steps, root.at(("steps",)))
    return Tree(nodes, builder.saved, builder.included)


def bindings_of(source: SourceNode | None) -> dict[str, Binding]:
    """Return what a mapping of names binds them to."""
    if source is None or not isinstance(source.content, dict):
        return {}
    return {name: Binding(node) for name, node in source.content.items()}


def slug(text: str) -> str:
    """Return a name for paths: letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")[:40] or "block"


class _Builder:
    def __init__(self, includes: Includes) -> None:
        self._includes = includes
        self.saved: list[str] = []
        self.included: list[SourceNode] = []

    def nodes(self, steps: Sequence[Step], source: SourceNode) -> tuple[Node, ...]:
        """Build siblings; the second with one name is called ``name_2``, and so on."""
        counts: Counter[str] = Counter()
        built: list[Node] = []
        for index, step in enumerate(steps):
            place = source.child(index) or source
            name = self._name(step, place)
            counts[name] += 1
            unique = name if counts[name] == 1 else f"{name}_{counts[name]}"
            built.append(self._node(step, place, unique))
        return tuple(built)

    def _name(self, step: Step, source: SourceNode) -> str:
        if step.name is not None:
            return slug(step.name)
        if step.verb in {"group", "include"}:
            return slug(text_of(source.at((step.verb,))).removesuffix(".yaml"))
        return slug(step.verb)

    def _node(self, step: Step, source: SourceNode, name: str) -> Node:
        if step.verb in STRUCTURES:
            return self._structure(step, source, name)
        body: StepBody = getattr(step, step.verb)
        if body.save_as is not None:
            self.saved.append(body.save_as)
        place = source.child(step.verb) or source
        return StepNode(name, step.verb, body, place, self._every(body, place))

    def _every(self, body: StepBody, source: SourceNode) -> tuple[StepNode, ...]:
        """Build the steps that interrupt a step: plain ones, as many as there are in the file."""
        every = body.every if isinstance(body, ChannelBody) else None
        nodes = () if every is None else self.nodes(every.do, source.at(("every", "do")))
        for node in nodes:
            if not isinstance(node, StepNode) or node.verb not in _INTERRUPTING or node.every:
                node.source.fail(
                    '"every" holds spectra, rests and other plain steps on the channel',
                    "Loops, standing orders and steps that are interrupted themselves stand alone.",
                )
        return tuple(node for node in nodes if isinstance(node, StepNode))

    def _structure(self, step: Step, source: SourceNode, name: str) -> Node:
        head = source.at((step.verb,))
        if step.verb == "include":
            return self._include(source, name)
        nodes = self.nodes(step.steps or (), source.at(("steps",)))
        until = sources_of(source.child("until"))
        match step.verb:
            case "for each":
                variables = {k: b.source for k, b in bindings_of(head).items()}
                return ForEachNode(name, until, nodes, source, variables)
            case "repeat":
                return RepeatNode(name, until, nodes, source, head)
            case "if":
                otherwise = self.nodes(step.else_ or (), source.at(("else",)))
                return IfNode(name, head, nodes, otherwise, source)
        return GroupNode(name, nodes, source)

    def _include(self, source: SourceNode, name: str) -> Node:
        place = source.at(("include",))
        file, root = self._includes.read(place)
        self.included.append(root)
        nodes = self.nodes(file.steps, root.at(("steps",)))
        self._includes.done()
        parameters = bindings_of(root.child("parameters"))
        given = source.child("with")
        for key, binding in bindings_of(given).items():
            if key not in parameters and given is not None:
                known = ", ".join(parameters) or "none"
                message = f'"{place.content}" has no parameter "{key[:60]}"; it has: {known}'
                raise ProtocolError([given.key_problem(key, message)])
            parameters[key] = Binding(binding.source, outer=True)
        return GroupNode(name, nodes, source, parameters)
