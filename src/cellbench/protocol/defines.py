"""Named blocks: ``$name`` as a whole value stands for the block ``name`` under ``define``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cellbench.protocol.source import MAX_NODES, SourceNode


def expand(root: SourceNode) -> SourceNode:
    """Put the blocks where the steps name them.

    Raises:
        ProtocolError: A block holds itself, or blocks multiply beyond all bounds.
    """
    defined = root.child("define")
    steps = root.child("steps")
    if defined is None or steps is None or not isinstance(defined.content, dict):
        return root
    expanded = _Expander(defined.content).node(steps, ())
    content = root.content if isinstance(root.content, dict) else {}
    return replace(root, content={**content, "steps": expanded})


class _Expander:
    def __init__(self, blocks: Mapping[str, SourceNode]) -> None:
        self._blocks = blocks
        self._nodes = 0

    def node(self, node: SourceNode, within: tuple[str, ...]) -> SourceNode:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            node.fail(f'the blocks under "define" expand to more than {MAX_NODES} values')
        content = node.content
        if isinstance(content, dict):
            return replace(node, content={k: self.node(v, within) for k, v in content.items()})
        if isinstance(content, tuple):
            return replace(node, content=tuple(self.node(each, within) for each in content))
        return self._named(node, content, within)

    def _named(self, node: SourceNode, text: str | None, within: tuple[str, ...]) -> SourceNode:
        name = text[1:] if text and text.startswith("$") else ""
        if name not in self._blocks:
            return node
        if name in within:
            node.fail(f'the block "{name}" holds itself: {" > ".join([*within, name])}')
        return self.node(self._blocks[name], (*within, name))
