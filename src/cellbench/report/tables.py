"""The tables of the report: what the analyses found, level by level and spectrum by spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbench.analysis import bare
from cellbench.report.columns import KNOWN, Column
from cellbench.report.wording import name_of, number, powers, with_error


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; ``classes`` colour a row by its verdict."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    classes: Sequence[str] = field(default_factory=tuple)


#: A table of more rows is thinned: the plot shows them all.
MOST_ROWS = 60
#: Of these the third digit is not enough: 99.4 % and 99.9 % are different cells.
_FINE = ("efficiency_percent", "retention_percent", "cycle", "potential_V", "_peak_V")
_SYMBOLS = {
    "stable": "○",
    "irregular": "▲",
    "soft short": "▲",
    "short": "■",
    "cut off": "□",
    "unjudged": "□",
}


def result_tables(name: str, result: Mapping[str, Any]) -> list[Table]:
    """The tables of one analysis; of one that the report does not know, every list of rows."""
    known = KNOWN.get(bare(name))
    if known is not None:
        return [
            _table(title, result[key], columns) for title, key, columns in known if result.get(key)
        ]
    return [
        _table(name_of(key), rows, tuple((each, name_of(each)) for each in rows[0]))
        for key, rows in result.items()
        if isinstance(rows, list) and rows and isinstance(rows[0], Mapping)
    ]


def _table(title: str, every: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Table:
    title, rows = _thinned(title, every)
    shown = [column for column in columns if any(_there(row.get(column[0])) for row in rows)]
    return Table(
        title,
        [powers(heading) for _, heading in shown],
        [[_cell(row, key) for key, _ in shown] for row in rows],
        [str(row.get("verdict", "")).replace(" ", "-") for row in rows],
    )


def _thinned(
    title: str, rows: Sequence[Mapping[str, Any]]
) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """At most so many rows, the first and the last among them; the title then says so."""
    count = len(rows)
    if count <= MOST_ROWS:
        return title, rows
    chosen = sorted({round(k * (count - 1) / (MOST_ROWS - 1)) for k in range(MOST_ROWS)})
    return f"{title}: {MOST_ROWS} of {count} rows", [rows[index] for index in chosen]


def _there(value: object) -> bool:
    return value is not None and value != []


def _cell(row: Mapping[str, Any], key: str) -> str:
    match row.get(key):
        case None if key in _unidentified(row):
            return "not identified"
        case bool(value):
            return "yes" if value else "no"
        case str(text):
            return f"{_SYMBOLS[text]} {text}" if key == "verdict" and text in _SYMBOLS else text
        case list(items):
            return powers("; ".join(name_of(str(item)) for item in items))
        case int(value) | float(value) if key.endswith(_FINE):
            return number(value, 5)
        case int(value) | float(value):
            error = _error(row, key)
            return number(value) if error is None else with_error(value, error)
        case _:
            return "" if key == "reason" else number(None)


def _unidentified(row: Mapping[str, Any]) -> set[str]:
    return {text.partition(":")[0] for text in row.get("not_identified") or ()}


def _error(row: Mapping[str, Any], key: str) -> float | None:
    """The standard error of a value, under the name that the analyses give it."""
    for unit in ("_ohm", "_mS_cm"):
        error = row.get(f"{key.removesuffix(unit)}_uncertainty{unit}")
        if key.endswith(unit) and isinstance(error, float):
            return error
    return None
