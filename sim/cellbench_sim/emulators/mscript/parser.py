"""From the lines of a script to a tree of statements; blocks are matched, arguments still text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cellbench_sim.emulators.mscript.values import ScriptError

LINE_LENGTH_MAX = 255
_DEPTH_MAX = 16
_TOKEN = re.compile(r'f?"[^"]*"|\w+\([^)]*\)|[^\s"]+')
_LOOPS = ("loop", "meas_loop_")


@dataclass
class Statement:
    """One line of a script, and for the head of a block what belongs to it.

    Attributes:
        arguments: Plain arguments, in order.
        options: Optional arguments ``name(...)``: name to list of arguments.
        body: Statements of the block.
        otherwise: For ``if`` and ``elseif``: the statements of what follows it, if any.
    """

    line: int
    column: int
    command: str
    arguments: list[str]
    options: dict[str, list[str]] = field(default_factory=dict)
    body: list[Statement] = field(default_factory=list)
    otherwise: list[Statement] = field(default_factory=list)

    def error(self, code: int) -> ScriptError:
        """Return an error at the end of this statement's command word."""
        return ScriptError(code, self.line, self.column)


@dataclass(frozen=True)
class Script:
    """The two parts of a script."""

    main: list[Statement]
    on_finished: list[Statement]


def parse(lines: Sequence[str]) -> Script:
    """Parse a script. Hosts send the same few again and again: the trees are shared, not changed.

    Raises:
        ScriptError: A line or block is malformed.
    """
    return _parsed(tuple(lines))


@lru_cache(maxsize=32)
def _parsed(lines: tuple[str, ...]) -> Script:
    reader = _Reader([_statement(number, line) for number, line in enumerate(lines, 1)])
    main = reader.block(("on_finished:",), depth=0)
    finished: list[Statement] = []
    if reader.at("on_finished:"):
        reader.next()
        finished = reader.block((), depth=0)
    return Script(main, finished)


def _statement(number: int, text: str) -> Statement | None:
    if len(text) > LINE_LENGTH_MAX:
        raise ScriptError(0x0008, number)
    code = _without_comment(text).rstrip()
    if not code.strip():
        return None
    for column, character in enumerate(code, 1):
        if not (character == "\t" or " " <= character <= "~"):
            raise ScriptError(0x4004, number, column)
    tokens = list(_TOKEN.finditer(code))
    if not tokens or _unmatched(code, tokens):
        raise ScriptError(0x4004, number, _unmatched(code, tokens) or 1)
    command = tokens[0].group()
    statement = Statement(number, tokens[0].end() + 1, command, [])
    for token in tokens[1:]:
        _add_argument(statement, token.group())
    return statement


def _without_comment(text: str) -> str:
    quoted = False
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == "#" and not quoted:
            return text[:index]
    return text


def _unmatched(code: str, tokens: Sequence[re.Match[str]]) -> int:
    """Return the 1-based column of the first character that belongs to no token, or 0."""
    end = 0
    for token in tokens:
        gap = code[end : token.start()]
        if gap.strip():
            return end + len(gap) - len(gap.lstrip()) + 1
        end = token.end()
    return end + 1 if code[end:].strip() else 0


def _add_argument(statement: Statement, token: str) -> None:
    name, bracket, inside = token.partition("(")
    if bracket and not token.startswith(('"', 'f"')):
        if not token.endswith(")"):
            raise statement.error(0x4004)
        statement.options[name] = inside[:-1].split()
    else:
        statement.arguments.append(token)


class _Reader:
    """Consumes statements one by one and nests them."""

    def __init__(self, statements: Sequence[Statement | None]) -> None:
        self._statements = [statement for statement in statements if statement is not None]
        self._position = 0
        self._last_line = len(statements)

    def at(self, *commands: str) -> bool:
        return (
            self._position < len(self._statements)
            and self._statements[self._position].command in commands
        )

    def next(self) -> Statement:
        if self._position == len(self._statements):
            raise ScriptError(0x4018, self._last_line)
        statement = self._statements[self._position]
        self._position += 1
        return statement

    def block(self, ends: tuple[str, ...], depth: int) -> list[Statement]:
        """Read up to (not including) one of ``ends``; at depth 0 the script's end will do too."""
        if depth > _DEPTH_MAX:
            raise self._statements[self._position - 1].error(0x400D)
        block: list[Statement] = []
        while not self.at(*ends):
            if depth == 0 and self._position == len(self._statements):
                break
            statement = self.next()
            if statement.command in ("endloop", "endif", "else", "elseif", "on_finished:"):
                raise statement.error(0x400E)
            self._nest(statement, depth + 1)
            block.append(statement)
        return block

    def _nest(self, statement: Statement, depth: int) -> None:
        if statement.command.startswith(_LOOPS):
            statement.body = self.block(("endloop",), depth)
            self.next()
        elif statement.command in ("if", "elseif"):
            self._branches(statement, depth)

    def _branches(self, statement: Statement, depth: int) -> None:
        statement.body = self.block(("elseif", "else", "endif"), depth)
        following = self.next()
        if following.command == "elseif":
            self._branches(following, depth)
            statement.otherwise = [following]
        elif following.command == "else":
            statement.otherwise = self.block(("endif",), depth)
            self.next()
