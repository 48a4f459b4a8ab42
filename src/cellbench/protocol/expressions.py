"""Expressions of the language: numbers with units, $names, arithmetic, comparisons, lists.

A small parser by precedence (Pratt, "Top Down Operator Precedence", POPL 1973) builds a tree of
bounded size; evaluating it knows units and reaches nothing but the names it is given. There are no
loops, no attribute access and no strings to build, so that no expression is worth refusing at run
time: length, nesting, nodes and exponents are bounded when it is parsed.

    list        0.02, 0.05, 0.1 to 0.6 by 0.1 mA/cm2
    arithmetic  $potential + 0.1 V    -$j    1.3 of nominal capacity    $a ^ 2    $cycle % 50
    functions   min max abs sqrt round log10
    logic       $first.R_low > 100 Ohm and not $again
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from cellbench.quantities import (
    KEYWORDS,
    PLAIN,
    Quantity,
    QuantityError,
    refuse_decimal_comma,
    scan,
)

MAX_LENGTH = 1000
MAX_DEPTH = 25
MAX_NODES = 300
MAX_EXPONENT = 8


class ExpressionError(QuantityError):
    """An expression cannot be read or evaluated; ``column`` and ``length`` say where."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal."""

    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Name:
    """``$name``, ``$name.result``, or the nominal capacity (an empty name)."""

    name: str
    result: str | None
    column: int
    length: int


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or function with its operands; ``column`` is the operator's."""

    operator: str
    operands: tuple[Tree, ...]
    column: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """Values and ranges (start, end, step), separated by commas."""

    items: tuple[tuple[Tree, ...], ...]


Tree: TypeAlias = Number | Name | Operation | ListOf

_NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]{0,60})(?:\.([A-Za-z_][A-Za-z0-9_]{0,60}))?")
_OPERATOR = re.compile(r">=|<=|==|!=|\*\*|[-+*/%^<>(),≥≤]|(?:and|or|not|of|to|by)\b")
_FUNCTION = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,30})\s*\(")
_NOMINAL = re.compile(r"(?:the\s+)?nominal\s+capacity\b")
_BLANKS = re.compile(r"\s*")
_ALIASES = {"≥": ">=", "≤": "<=", "**": "^", "of": "*"}
_BINARY = {
    "or": 1, "and": 2, "<": 4, ">": 4, "<=": 4, ">=": 4, "==": 4, "!=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "^": 8,
}  # fmt: skip
_NOT, _MINUS = 3, 7
_FUNCTIONS = {"min": (1, 20), "max": (1, 20), "abs": (1, 1), "sqrt": (1, 1), "round": (1, 1),
              "log10": (1, 1)}  # fmt: skip


@lru_cache(maxsize=2048)
def parse(text: str) -> Tree:
    """Parse a value: one expression, or a list of expressions and ranges.

    Raises:
        ExpressionError: It is none, or too long, too deep or too large.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression has at most {MAX_LENGTH} characters")
    refuse_decimal_comma(text)
    return _Parser(text).value()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._nodes = 0

    def value(self) -> Tree:
        items = [self._item()]
        while self._take(","):
            items.append(self._item())
        self._skip()
        if self._position < len(self._text):
            self._fail(f'"{self._text[self._position :][:40]}" makes no sense here')
        if len(items) == 1 and len(items[0]) == 1:
            return items[0][0]
        return ListOf(tuple(items))

    def _item(self) -> tuple[Tree, ...]:
        parts = [self._expression(0, 0)]
        parts.extend(self._expression(0, 0) for word in ("to", "by") if self._take(word))
        return tuple(parts)

    def _expression(self, binding: int, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            self._fail(f"an expression is nested at most {MAX_DEPTH} deep")
        left = self._operand(depth)
        while (operator := self._binary()) and _BINARY[operator[0]] > binding:
            name, column, end = operator
            self._position = end
            right = self._expression(_BINARY[name], depth + 1)
            if name == "^":
                self._check_exponent(right, column)
            left = self._count(Operation(name, (left, right), column))
        return left

    def _binary(self) -> tuple[str, int, int] | None:
        self._skip()
        match = _OPERATOR.match(self._text, self._position)
        if match is None:
            return None
        name = _ALIASES.get(match[0], match[0])
        return (name, match.start(), match.end()) if name in _BINARY else None

    def _operand(self, depth: int) -> Tree:
        self._skip()
        column = self._position
        if self._take("not"):
            return self._count(Operation("not", (self._expression(_NOT, depth + 1),), column))
        if self._signed_number():
            return self._number()
        if self._take("-"):
            return self._count(Operation("negate", (self._expression(_MINUS, depth + 1),), column))
        if self._take("("):
            inner = self._expression(0, depth + 1)
            self._expect(")")
            return inner
        return self._word(depth)

    def _word(self, depth: int) -> Tree:
        column = self._position
        if match := _NAME.match(self._text, column):
            self._position = match.end()
            return self._count(Name(match[1], match[2], column, len(match[0])))
        if match := _NOMINAL.match(self._text, column):
            self._position = match.end()
            return self._count(Name("", None, column, len(match[0])))
        if match := _FUNCTION.match(self._text, column):
            self._position = match.end()
            return self._call(match[1], column, depth)
        return self._number()

    def _call(self, function: str, column: int, depth: int) -> Tree:
        if function not in _FUNCTIONS:
            self._position = column
            self._fail(
                f'there is no function "{function}"; there are {", ".join(_FUNCTIONS)}',
                len(function),
            )
        arguments = [self._expression(0, depth + 1)]
        while self._take(","):
            arguments.append(self._expression(0, depth + 1))
        self._expect(")")
        least, most = _FUNCTIONS[function]
        if not least <= len(arguments) <= most:
            self._position = column
            self._fail(f"{function} does not take {len(arguments)} values", len(function))
        return self._count(Operation(function, tuple(arguments), column))

    def _signed_number(self) -> bool:
        return re.match(r"[+-](?:[\d.]|C(?:/|\b))", self._text[self._position :]) is not None

    def _number(self) -> Tree:
        self._refuse_bare_word()
        quantity, self._position = scan(self._text, self._position)
        return self._count(Number(quantity))

    def _refuse_bare_word(self) -> None:
        word = re.match(r"[A-Za-z_][A-Za-z0-9_ ]*", self._text[self._position :])
        if word and not re.match(r"C(?:/|\b)", word[0]):
            name = word[0].strip()
            self._fail(f'"{name[:40]}" is not a number; a name needs a dollar: "$..."', len(name))
        if self._position >= len(self._text):
            self._fail("something is missing at the end")

    def _check_exponent(self, tree: Tree, column: int) -> None:
        plain = isinstance(tree, Number) and tree.quantity.exponents == PLAIN
        value = tree.quantity.value if isinstance(tree, Number) else math.inf
        if not plain or abs(value) > MAX_EXPONENT or value != int(value):
            self._position = column
            self._fail(f"an exponent is a whole number of at most {MAX_EXPONENT}")

    def _take(self, token: str) -> bool:
        self._skip()
        match = _OPERATOR.match(self._text, self._position)
        if match is None or match[0] != token:
            return False
        self._position = match.end()
        return True

    def _expect(self, token: str) -> None:
        if not self._take(token):
            self._fail(f'"{token}" is missing')

    def _skip(self) -> None:
        match = _BLANKS.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def _count(self, tree: Tree) -> Tree:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(f"an expression has at most {MAX_NODES} parts")
        return tree

    def _fail(self, message: str, length: int = 1) -> None:
        raise ExpressionError(message, self._position, length)


def looks_like_text(text: str) -> bool:
    """Whether a value is words (a name, a material) and no attempt at a number."""
    first = text.strip().split(" ")[0]
    return (
        bool(re.fullmatch(r"[A-Za-z][\w.+/-]*", first))
        and first not in KEYWORDS
        and not (re.match(r"C(?:/|\b)", first) or "(" in text or _NOMINAL.match(text))
    )
