"""The tables of the report: what the analyses found, level by level and spectrum by spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbench.report.wording import name_of, number, powers, with_error


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; ``classes`` colour a row by its verdict."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    classes: Sequence[str] = field(default_factory=tuple)


_Column = tuple[str, str]
_CCD: tuple[_Column, ...] = (
    ("current_density_mA_cm2", "j / mA/cm²"),
    ("verdict", "verdict"),
    ("reason", "reason"),
    ("voltage_positive_V", "V+ / V"),
    ("voltage_negative_V", "V\N{MINUS SIGN} / V"),
    ("ASR_apparent_ohm_cm2", "apparent ASR / Ω cm²"),
    ("apparent_over_electrolyte", "of the electrolyte"),
    ("rms_percent", "rms / %"),
    ("largest_step_percent", "largest step / %"),
    ("asymmetry_percent", "asymmetry / %"),
    ("end_ratio", "end / start"),
    ("areal_capacity_mAh_cm2", "mAh/cm²"),
)
_CONDUCTIVITY: tuple[_Column, ...] = (
    ("step", "spectrum"),
    ("stack_pressure_MPa", "MPa"),
    ("temperature_degC", "°C"),
    ("conductivity_mS_cm", "conductivity / mS/cm"),
    ("R_total_ohm", "R total / Ω"),
    ("R_bulk_ohm", "R bulk / Ω"),
    ("R_grain_boundary_ohm", "R grain boundary / Ω"),
    ("fit_residual_percent", "fit residual / %"),
    ("kramers_kronig_residual_percent", "Kramers-Kronig / %"),
    ("why_not_identified", "not identified"),
)
_INTERFACE: tuple[_Column, ...] = (
    ("step", "spectrum"),
    ("stack_pressure_MPa", "MPa"),
    ("temperature_degC", "°C"),
    ("R_electrolyte_ohm", "R electrolyte / Ω"),
    ("R_interface_ohm", "R interface / Ω"),
    ("ASR_interface_ohm_cm2", "ASR per interface / Ω cm²"),
    ("R_total_ohm", "R total / Ω"),
    ("kramers_kronig_residual_percent", "Kramers-Kronig / %"),
    ("not_identified", "not identified"),
)
_KNOWN = {
    "ccd": ("Levels", "steps", _CCD),
    "conductivity": ("By spectrum", "spectra", _CONDUCTIVITY),
    "interface_resistance": ("By spectrum", "spectra", _INTERFACE),
}
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
    known = _KNOWN.get(name.strip().replace(" ", "_"))
    if known is not None:
        title, key, columns = known
        return [_table(title, result.get(key) or [], columns)]
    return [
        _table(name_of(key), rows, tuple((each, name_of(each)) for each in rows[0]))
        for key, rows in result.items()
        if isinstance(rows, list) and rows and isinstance(rows[0], Mapping)
    ]


def _table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[_Column]) -> Table:
    shown = [column for column in columns if any(_there(row.get(column[0])) for row in rows)]
    return Table(
        title,
        [powers(heading) for _, heading in shown],
        [[_cell(row, key) for key, _ in shown] for row in rows],
        [str(row.get("verdict", "")).replace(" ", "-") for row in rows],
    )


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
        case int(value) | float(value):
            return with_error(value, _error(row, key))
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
