"""Problems in what a person wrote: where, what is wrong, and the cure, on at most one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from cellbench.errors import InputError

SCREEN_LINES = 22
_SHOWN = 5
_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        message: What is wrong, for a person.
        file: Name of the file; empty for a setting on the command line.
        line: Its line, from 1; 0 when it has none.
        column: Where in the line, from 0, for ``length`` characters.
        excerpt: That line.
        cure: What to write instead, where that is not in the message.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    length: int = 1
    excerpt: str = ""
    cure: str = ""

    def render(self) -> str:
        """Return the problem as text of a few lines: place, message, excerpt with caret, cure."""
        place = f"{self.file}, line {self.line}: " if self.line else f"{self.file}: "
        head = _wrapped((place if self.file else "") + self.message)
        parts = [head, *self._excerpt_lines()]
        if self.cure:
            parts.append(_wrapped(self.cure, "  "))
        return "\n".join(parts)

    def _excerpt_lines(self) -> list[str]:
        if not self.line or not self.excerpt.strip():
            return []
        gutter = f"{self.line:>5} | "
        # A long line is shown around the place that matters.
        skip = max(0, self.column - 60)
        shown = self.excerpt[skip : skip + _WIDTH - len(gutter)]
        carets = max(1, min(self.length, len(shown) - (self.column - skip)))
        pointer = " " * (len(gutter) + self.column - skip) + "^" * carets
        return ["", gutter + shown, pointer]


class ProtocolError(InputError):
    """A protocol, card or setting cannot be carried out; ``problems`` tell why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(render(self.problems))


def render(problems: Sequence[Problem]) -> str:
    """Return several problems as one text that fits on a screen."""
    shown: list[str] = []
    for problem in problems[:_SHOWN]:
        text = _cut(problem.render())
        if shown and sum(part.count("\n") + 2 for part in [*shown, text]) > SCREEN_LINES:
            break
        shown.append(text)
    left = len(problems) - len(shown)
    if left:
        shown.append(f"... and {left} more problem{'s' if left > 1 else ''}.")
    return "\n\n".join(shown)


def _cut(text: str) -> str:
    lines = text.split("\n")
    return "\n".join([*lines[:12], "  ..."] if len(lines) > 13 else lines)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=indent, subsequent_indent="  ", break_long_words=True
    )
