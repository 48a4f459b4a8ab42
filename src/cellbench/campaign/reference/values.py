"""Finding a value in the results of a run, and making one number of a list of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias

Measure: TypeAlias = Literal[
    "place of the smallest",
    "place of the largest",
    "last over first",
    "last over largest",
    "largest of next over previous",
]
_TOKEN = re.compile(r"\[([^\]]+)\]|([^.\[\]]+)")


def look_up(document: Any, path: str) -> Any:
    """Return what stands at a path such as ``rate_table.rows[rate_C=0.1].mean_mAh_g``.

    In brackets stand an index (``[-1]``), a range (``[1:4]``, ``[:]``), or what tells one entry
    from the others (``[key=value]``, the first that matches). After a range the rest of the path
    is followed in each entry, and a list comes back.

    Raises:
        LookupError: Nothing stands there.
    """
    tokens = [(match[1], match[2]) for match in _TOKEN.finditer(path)]
    return _follow(document, tokens, path)


def _follow(here: Any, tokens: Sequence[tuple[str | None, str | None]], path: str) -> Any:
    for number, (selector, key) in enumerate(tokens):
        if key is not None:
            here = _entry(here, key, path)
        elif selector is not None and ":" in selector:
            rest = tokens[number + 1 :]
            return [_follow(one, rest, path) for one in _range(here, selector)]
        elif selector is not None:
            here = _selected(here, selector, path)
    return here


def _entry(here: Any, key: str, path: str) -> Any:
    if not isinstance(here, Mapping) or key not in here:
        raise LookupError(f'there is no "{key}" on the way to {path}')
    return here[key]


def _range(here: Sequence[Any], selector: str) -> Sequence[Any]:
    first, last = (int(part) if part else None for part in selector.split(":"))
    return here[first:last]


def _selected(here: Sequence[Any], selector: str, path: str) -> Any:
    key, equals, wanted = selector.partition("=")
    if not equals:
        return here[int(selector)]
    found = [one for one in here if _matches(one.get(key), wanted)]
    if not found:
        raise LookupError(f"nothing has {selector} on the way to {path}")
    return found[0]


def _matches(value: Any, wanted: str) -> bool:
    if isinstance(value, float):
        return math.isclose(value, float(wanted), rel_tol=0.02)
    return str(value) == wanted


def measured(values: Sequence[float | None], measure: Measure) -> float:
    """Make one number of a list; a place is 0 for the first of the list and 1 for the last.

    Raises:
        LookupError: There are fewer than two values, or one of them could not be determined.
    """
    numbers = [value for value in values if value is not None]
    if len(numbers) < 2 or len(numbers) < len(values):
        raise LookupError(f"{len(numbers)} of {len(values)} values could be determined")
    return _MEASURES[measure](numbers)


def _place(values: list[float], value: float) -> float:
    return values.index(value) / (len(values) - 1)


_MEASURES: dict[Measure, Callable[[list[float]], float]] = {
    "place of the smallest": lambda values: _place(values, min(values)),
    "place of the largest": lambda values: _place(values, max(values)),
    "last over first": lambda values: values[-1] / values[0],
    "last over largest": lambda values: values[-1] / max(values),
    "largest of next over previous": lambda values: max(b / a for a, b in pairwise(values)),
}
