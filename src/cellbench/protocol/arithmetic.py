"""Evaluating expressions: arithmetic that knows units and references, and nothing else.

While planning, results of steps are NaN with their unit: units are checked all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from cellbench.protocol.expressions import ExpressionError, ListOf, Name, Number, Operation, Tree
from cellbench.quantities import (
    LITHIUM,
    PLAIN,
    TERMINALS,
    Quantity,
    Value,
    describe,
    name_of,
    spread,
)


class ResultMissing(Exception):
    """An expression uses results that do not exist (yet); ``names`` are those."""

    def __init__(self, *names: str) -> None:
        super().__init__(", ".join(names))
        self.names = names


class Names(Protocol):
    """What an expression can refer to."""

    def lookup(self, name: str, result: str | None) -> Value:
        """Value of ``$name`` or ``$name.result``.

        Raises:
            KeyError: There is no such name; the message proposes another.
            ResultMissing: The step that gives it has not run.
        """

    def nominal_capacity(self) -> Quantity:
        """Return the cell's nominal capacity as a charge."""


def evaluate(tree: Tree, names: Names) -> Value:
    """Value of a parsed expression.

    Raises:
        ExpressionError: Units do not fit, a name is unknown, a result is beyond all bounds.
        ResultMissing: It uses a result that does not exist yet.
    """
    match tree:
        case Number(quantity):
            return quantity
        case Name():
            return _name(tree, names)
        case ListOf(items):
            return _list(items, names)
        case Operation():
            return _operation(tree, names)


def _name(tree: Name, names: Names) -> Value:
    if not tree.name:
        return names.nominal_capacity()
    try:
        return names.lookup(tree.name, tree.result)
    except KeyError as error:
        raise ExpressionError(str(error.args[0]), tree.column, tree.length) from error


def _list(items: tuple[tuple[Tree, ...], ...], names: Names) -> Value:
    parts: list[list[Quantity]] = []
    for item in items:
        values = [evaluate(each, names) for each in item]
        if len(values) == 1 and isinstance(values[0], tuple):
            parts.extend([each] for each in values[0])
        else:
            parts.append([_number_of(each, 0) for each in values])
    flat = tuple(each for part in parts for each in part)
    if any(math.isnan(each.value) for each in flat):
        return flat  # a range over a result: how many values it has, only the run will tell
    return spread(parts)


def _operation(tree: Operation, names: Names) -> Value:
    operator, column = tree.operator, tree.column
    if operator in {"and", "or", "not"}:
        return _logic(tree, names)
    values = [_number_of(evaluate(each, names), column) for each in tree.operands]
    try:
        if operator in {"<", ">", "<=", ">=", "==", "!="}:
            return _compare(operator, values[0], values[1], column)
        result = _OPERATIONS[operator](values, column)
    except ExpressionError:
        raise
    except (OverflowError, ZeroDivisionError, ValueError) as error:
        raise ExpressionError(f"this cannot be computed: {error}", column) from error
    known = not any(math.isnan(each.value) for each in values)
    if math.isinf(result.value) or (known and math.isnan(result.value)):
        raise ExpressionError("the result is beyond all bounds", column)
    return result


def _logic(tree: Operation, names: Names) -> bool:
    # Both sides are evaluated: a mistake on the right must not hide behind the left.
    values = [evaluate(each, names) for each in tree.operands]
    for value in values:
        if not isinstance(value, bool):
            raise ExpressionError(f'"{tree.operator}" joins comparisons', tree.column)
    if tree.operator == "not":
        return not values[0]
    return all(values) if tree.operator == "and" else any(values)


def _number_of(value: Value, column: int) -> Quantity:
    if isinstance(value, Quantity):
        return value
    kind = "a list" if isinstance(value, tuple) else "no number"
    raise ExpressionError(f"one number is needed here, and this is {kind}", column)


def _same_dimension(a: Quantity, b: Quantity, column: int) -> None:
    if a.exponents != b.exponents:
        raise ExpressionError(
            f'"{a}" is a {name_of(a.exponents)} and "{b}" a {name_of(b.exponents)}', column
        )


def _compare(operator: str, a: Quantity, b: Quantity, column: int) -> bool:
    _same_dimension(a, b, column)
    if {a.reference, b.reference} not in ({a.reference}, {"", TERMINALS}):
        raise ExpressionError(f'"{a}" and "{b}" have different references', column)
    comparisons: dict[str, Callable[[float, float], bool]] = {
        "<": float.__lt__, ">": float.__gt__, "<=": float.__le__, ">=": float.__ge__,
        "==": float.__eq__, "!=": float.__ne__,
    }  # fmt: skip
    return comparisons[operator](float(a.value), float(b.value))


def _add(values: list[Quantity], column: int) -> Quantity:
    a, b = values
    _same_dimension(a, b, column)
    if a.reference and b.reference:
        raise ExpressionError(f'"{a}" and "{b}" both have a reference: they do not add', column)
    base = a if a.reference or not b.reference else b
    return Quantity(a.value + b.value, a.exponents, base.reference, base.unit)


def _subtract(values: list[Quantity], column: int) -> Quantity:
    a, b = values
    _same_dimension(a, b, column)
    if b.reference and a.reference != b.reference:
        raise ExpressionError(f'"{a}" and "{b}" have different references', column)
    difference = a.value - b.value
    if b.reference:
        return Quantity(difference, a.exponents)
    return Quantity(difference, a.exponents, a.reference, a.unit)


def _scale(values: list[Quantity], column: int) -> None:
    for value in values:
        if value.reference not in {"", TERMINALS}:
            kind = "a potential against lithium" if value.reference == LITHIUM else "a temperature"
            raise ExpressionError(f'"{describe(value)}" is {kind}: multiples mean nothing', column)


def _multiply(values: list[Quantity], column: int) -> Quantity:
    _scale(values, column)
    a, b = values
    kept = a if b.exponents == PLAIN else b if a.exponents == PLAIN else Quantity(0.0)
    exponents = tuple(x + y for x, y in zip(a.exponents, b.exponents, strict=True))
    return Quantity(a.value * b.value, exponents, kept.reference, kept.unit)


def _divide(values: list[Quantity], column: int) -> Quantity:
    _scale(values, column)
    a, b = values
    kept = a if b.exponents == PLAIN else Quantity(0.0)
    exponents = tuple(x - y for x, y in zip(a.exponents, b.exponents, strict=True))
    return Quantity(a.value / b.value, exponents, kept.reference, kept.unit)


def _remainder(values: list[Quantity], column: int) -> Quantity:
    _scale(values, column)
    a, b = values
    _same_dimension(a, b, column)
    return Quantity(a.value % b.value, a.exponents, a.reference, a.unit)


def _power(values: list[Quantity], column: int) -> Quantity:
    _scale(values, column)
    power = int(values[1].value)
    exponents = tuple(each * power for each in values[0].exponents)
    return Quantity(values[0].value ** power, exponents)


def _negate(values: list[Quantity], column: int) -> Quantity:
    _scale(values, column)
    (a,) = values
    return Quantity(-a.value, a.exponents, a.reference, a.unit)


def _absolute(values: list[Quantity], column: int) -> Quantity:
    _scale(values, column)
    (a,) = values
    return Quantity(abs(a.value), a.exponents, a.reference, a.unit)


def _sqrt(values: list[Quantity], column: int) -> Quantity:
    _scale(values, column)
    (a,) = values
    return Quantity(math.sqrt(a.value), tuple(each / 2 for each in a.exponents))


def _round(values: list[Quantity], column: int) -> Quantity:
    value = _bare(values, column)
    return Quantity(value if math.isnan(value) else float(round(value)))


def _log10(values: list[Quantity], column: int) -> Quantity:
    return Quantity(math.log10(_bare(values, column)))


def _bare(values: list[Quantity], column: int) -> float:
    if values[0].exponents != PLAIN:
        raise ExpressionError(f'"{values[0]}" has a unit; a bare number is needed here', column)
    return values[0].value


def _extreme(pick: Callable[..., Quantity]) -> Callable[[list[Quantity], int], Quantity]:
    def extreme(values: list[Quantity], column: int) -> Quantity:
        for each in values[1:]:
            _compare("<", values[0], each, column)
        return pick(values, key=lambda each: each.value)

    return extreme


_OPERATIONS: dict[str, Callable[[list[Quantity], int], Quantity]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "%": _remainder,
    "^": _power,
    "negate": _negate,
    "abs": _absolute,
    "sqrt": _sqrt,
    "round": _round,
    "log10": _log10,
    "min": _extreme(min),
    "max": _extreme(max),
}
