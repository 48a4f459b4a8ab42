"""YAML as the language uses it: mappings, lists and texts, each with its place in the file.

Only YAML's plain core is accepted. Anchors, aliases, tags, duplicate keys and several documents
are refused, so that what a file says is what a reader sees, and no small file becomes a large one.
All scalars stay text: what a number means, its unit says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from cellbench.protocol.errors import Problem, ProtocolError

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 50_000


@dataclass(frozen=True, slots=True)
class Document:
    """A file's name and text."""

    name: str
    text: str
    lines: tuple[str, ...]
    path: Path | None = None


Content: TypeAlias = "str | tuple[SourceNode, ...] | dict[str, SourceNode] | None"


@dataclass(frozen=True, slots=True, eq=False)
class SourceNode:
    """A mapping, list or text with its place: ``line`` from 1, ``column`` from 0.

    ``keys`` are the places of a mapping's keys; ``lead`` is 1 for quoted text.
    """

    content: Content
    document: Document
    line: int
    column: int
    length: int
    lead: int = 0
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plain(self) -> Any:
        """Return it as plain dicts, lists and strings."""
        if isinstance(self.content, dict):
            return {key: node.plain() for key, node in self.content.items()}
        if isinstance(self.content, tuple):
            return [node.plain() for node in self.content]
        return self.content

    def child(self, key: str | int) -> SourceNode | None:
        """Return the part under a key or index, None if there is none."""
        if isinstance(self.content, dict):
            return self.content.get(str(key))
        if isinstance(self.content, tuple) and isinstance(key, int) and key < len(self.content):
            return self.content[key]
        return None

    def at(self, path: Sequence[str | int]) -> SourceNode:
        """Return the part under a path, or the nearest part above that exists."""
        node = self
        for key in path:
            below = node.child(key)
            if below is None:
                return node
            node = below
        return node

    def part(self, start: int, end: int) -> SourceNode:
        """Return a part of a text as a node of its own, with its place."""
        text = self.content if isinstance(self.content, str) else ""
        start += len(text[start:end]) - len(text[start:end].lstrip())
        shown = text[start:end].rstrip()
        column = self.column + self.lead + start
        return SourceNode(shown, self.document, self.line, column, max(1, len(shown)))

    def saying(self, text: str) -> SourceNode:
        """Return a node at this place with another text: a default that stands for it."""
        return replace(self, content=text)

    def problem(self, message: str, cure: str = "", column: int = 0, length: int = 0) -> Problem:
        """Return a problem at this place; ``column`` and ``length`` are within its text."""
        return self._problem_at(
            self.line,
            self.column + (self.lead + column if length else 0),
            length or self.length,
            message,
            cure,
        )

    def key_problem(self, key: str, message: str, cure: str = "") -> Problem:
        """Return a problem at one of a mapping's keys."""
        line, column = self.keys.get(key, (self.line, self.column))
        return self._problem_at(line, column, len(key), message, cure)

    def fail(self, message: str, cure: str = "") -> NoReturn:
        """Raise a `ProtocolError` at this place."""
        raise ProtocolError([self.problem(message, cure)])

    def _problem_at(self, line: int, column: int, length: int, message: str, cure: str) -> Problem:
        lines = self.document.lines
        excerpt = lines[line - 1] if 0 < line <= len(lines) else ""
        return Problem(message, self.document.name, line, column, length, excerpt, cure)


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ProtocolError: It cannot be read, is too large, or is not UTF-8 text.
    """
    name = path.name
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ProtocolError([Problem(f"cannot be read: {reason}", name)]) from error
    if len(data) > MAX_BYTES:
        raise ProtocolError([Problem("is larger than 1 MB; protocols are a few kB", name)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = "this is not UTF-8 text; save the file as UTF-8"
        raise ProtocolError([Problem(message, name, line)]) from error
    return document_of(text, name, path)


def document_of(text: str, name: str, path: Path | None = None) -> Document:
    """Make a document of text that is already there."""
    return Document(name, text, tuple(text.splitlines()), path)


def load(document: Document) -> SourceNode:
    """Parse a document into nodes.

    Raises:
        ProtocolError: It is not YAML as the language uses it.
    """
    try:
        return _Composer(document).document_node()
    except MarkedYAMLError as error:
        raise ProtocolError([_yaml_problem(document, error)]) from error
    except (YAMLError, ValueError) as error:
        message = f"this is not YAML: {str(error).splitlines()[0][:200]}"
        raise ProtocolError([Problem(message, document.name)]) from error


class _Composer:
    """Builds nodes from the parser's events."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(document.text)
        self._nodes = 0

    def document_node(self) -> SourceNode:
        root: SourceNode | None = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    self._node(event).fail('a file holds one document; take the "---" out')
                root = self._compose(next(self._events), 0)
        if root is None or root.content is None:
            raise ProtocolError([Problem("is empty", self._document.name)])
        return root

    def _compose(self, event: Any, depth: int) -> SourceNode:
        self._check(event, depth)
        if isinstance(event, MappingStartEvent):
            return self._mapping(event, depth)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(event, depth)
        empty = event.style is None and event.value in {"", "~", "null"}
        return self._node(event, None if empty else event.value)

    def _check(self, event: Any, depth: int) -> None:
        self._nodes += 1
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            self._node(event).fail(
                "anchors (&) and aliases (*) are not part of the language",
                'Name the block under "define:" and use it as $name.',
            )
        if event.tag is not None:
            self._node(event).fail(f'the tag "{event.tag}" is not part of the language')
        if depth > MAX_DEPTH:
            self._node(event).fail(f"this is nested deeper than {MAX_DEPTH} levels")
        if self._nodes > MAX_NODES:
            self._node(event).fail(f"the file has more than {MAX_NODES} values")

    def _sequence(self, start: Any, depth: int) -> SourceNode:
        items: list[SourceNode] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._compose(event, depth + 1))
        return self._node(start, tuple(items))

    def _mapping(self, start: Any, depth: int) -> SourceNode:
        items: dict[str, SourceNode] = {}
        keys: dict[str, tuple[int, int]] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, depth)
            if key in items:
                self._node(event).fail(
                    f'"{key[:60]}" is given twice', f"It is first given in line {keys[key][0]}."
                )
            keys[key] = (event.start_mark.line + 1, event.start_mark.column)
            items[key] = self._compose(next(self._events), depth + 1)
            if start.flow_style and items[key].content is None:
                self._node(event).fail(
                    f'"{key[:60]}" has no value',
                    "Inside { } a text that contains a comma needs quotes.",
                )
        return self._node(start, items, keys)

    def _key(self, event: Any, depth: int) -> str:
        if not isinstance(event, ScalarEvent):
            self._check(event, depth)
            self._node(event).fail("a key must be text; quote a text that contains [ ] or { }")
        self._check(event, depth)
        return str(event.value)

    def _node(
        self, event: Any, content: Content = None, keys: dict[str, tuple[int, int]] | None = None
    ) -> SourceNode:
        start, end = event.start_mark, event.end_mark
        lines = self._document.lines
        same = end.line == start.line
        rest = len(lines[start.line]) - start.column if start.line < len(lines) else 1
        length = end.column - start.column if same else rest
        lead = 1 if getattr(event, "style", None) in {"'", '"'} else 0
        return SourceNode(
            content, self._document, start.line + 1, start.column, max(1, length), lead, keys or {}
        )


_CURES = (
    ("\\t", "Indent with blanks; YAML does not allow tabs."),
    ("mapping values are not allowed", 'Is the indentation right? A text with ": " needs quotes.'),
    ("could not find expected ':'", 'Each line of a mapping is "key: value".'),
    ("expected ',' or", "Is a comma or bracket missing? Inside { } a text with [ ] needs quotes."),
    ("expected <block end>", "Are lines of one block indented alike?"),
    (
        "character '|'",
        'Inside [ ] a condition with bars needs quotes: ["|current| <= 1 mA", voltage > 1 V].',
    ),
    ("block scalar", 'A text that begins with "|" or ">" needs quotes: "|current| <= 1 mA".'),
    ("indentation indicators", 'A text that begins with "|" or ">" needs quotes.'),
)


def _yaml_problem(document: Document, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = 0 if mark is None else min(mark.line + 1, len(document.lines))
    column = 0 if mark is None else mark.column
    said = " ".join(str(each) for each in (error.context, error.problem) if each)
    cure = next((cure for sign, cure in _CURES if sign in said), "")
    excerpt = document.lines[line - 1] if line else ""
    message = f"this is not YAML: {said[:200]}"
    return Problem(message, document.name, line, min(column, len(excerpt)), 1, excerpt, cure)
