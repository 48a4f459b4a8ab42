"""A run's program as a tree with the state of each part: done, now, to come, skipped, failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbench.web.course import DONE, FAILED, NOW, TO_COME, Course

#: Of many passes those around the one under way are shown: so many before it, and at most.
_BEFORE, _AT_MOST = 5, 30


@dataclass
class _Node:
    path: str
    text: str
    state: str = ""
    children: dict[str, _Node] = field(default_factory=dict)


def tree(steps: Iterable[Mapping[str, Any]], course: Course) -> list[dict[str, Any]]:
    """The tree of a program; steps that were not planned (between others) stand where they ran.

    Args:
        steps: Those that it expands to, with ``path`` and ``text``.
        course: What became of them.
    """
    root = _Node("", "")
    for step in steps:
        _put(root, step["path"], step["text"])
    for path, state in course.states.items():
        _put(root, path, course.texts.get(path, "")).state = state
    return _shown(list(root.children.values()))


def _put(root: _Node, path: str, text: str) -> _Node:
    node, so_far = root, ""
    for part in path.split("/"):
        so_far = f"{so_far}/{part}" if so_far else part
        node = node.children.setdefault(part, _Node(so_far, _words(part)))
    node.text = text or node.text
    return node


def _words(part: str) -> str:
    name, _, number = part.partition("[")
    words = re.sub(r"_(\d+)$", r" \1", name).replace("_", " ")
    return f"{words}, pass {number.rstrip(']')}" if number else words


def _shown(nodes: Sequence[_Node]) -> list[dict[str, Any]]:
    rows = [_row(node) for node in nodes]
    if len(rows) <= _AT_MOST:
        return rows
    here = next((at for at, row in enumerate(rows) if row["state"] in {NOW, TO_COME}), len(rows))
    first = max(0, min(here - _BEFORE, len(rows) - _AT_MOST))
    end = first + _AT_MOST
    return [*_more(rows[:first]), *rows[first:end], *_more(rows[end:])]


def _more(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row that stands for many."""
    if not rows:
        return []
    return [{"path": "", "text": f"{len(rows)} more", "state": _state(rows), "children": []}]


def _row(node: _Node) -> dict[str, Any]:
    children = _shown(list(node.children.values()))
    state = node.state or (_state(children) if children else TO_COME)
    return {"path": node.path, "text": node.text, "state": state, "children": children}


def _state(rows: Sequence[dict[str, Any]]) -> str:
    states = {row["state"] for row in rows}
    if len(states) == 1:
        return str(states.pop())
    if FAILED in states:
        return FAILED
    return NOW if states & {NOW, TO_COME} else DONE
