"""The plain numbers of a result as a table: quantity, value with its interval, unit.

Results name their units at the end of each key ("leakage_uA_cm2"), and half-widths of 95 %
intervals or standard errors by a word before the unit ("leakage_limit_interval_uA").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cellbench.report.tables import Table
from cellbench.report.wording import DASH, number, with_error

#: Ends of keys, and the units that they are; the longest that fits counts.
UNITS = {
    "A": "A",
    "C": "C-rate",
    "D_over_R2": "",
    "F": "F",
    "Hz": "Hz",
    "MPa": "MPa",
    "MPa_per_K": "MPa/K",
    "MPa_per_h": "MPa/h",
    "MPa_per_mAh_cm2": "MPa per mAh/cm²",
    "S_K_cm": "S K/cm",
    "S_cm": "S/cm",
    "V": "V",
    "cm2": "cm²",
    "cm2_s": "cm²/s",
    "degC": "°C",
    "eV": "eV",
    "h": "h",
    "mAh": "mAh",
    "mAh_cm2": "mAh/cm²",
    "mAh_g": "mAh/g",
    "mA_cm2": "mA/cm²",
    "mS_cm": "mS/cm",
    "mV": "mV",
    "mV_per_h": "mV/h",
    "mV_s": "mV/s",
    "mWh": "mWh",
    "mg": "mg",
    "nA": "nA",
    "ohm": "Ω",
    "ohm_cm2": "Ω cm²",
    "percent": "%",
    "percent_per_cycle": "% per cycle",
    "s": "s",
    "uA": "µA",
    "uA_cm2": "µA/cm²",
    "uA_s_half": "µA s^½",
    "um": "µm",
}
_MARGINS = ("interval", "uncertainty")


def quantity(key: str) -> tuple[str, str]:
    """Name and unit of a result's key: "R_total_ohm" gives "R total" and "Ω"."""
    words = key.split("_")
    for first in range(1, len(words)):
        unit = UNITS.get("_".join(words[first:]))
        if unit is not None:
            return " ".join(words[:first]), unit
    return " ".join(words), ""


def numbers_table(result: Mapping[str, Any]) -> Table | None:
    """Every plain number of a result with its interval; None where it has none."""
    rows = list(_rows(result))
    return Table("Numbers", ("quantity", "value", "unit"), rows) if rows else None


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key, value in result.items():
        if _is_margin(key) or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        name, unit = quantity(key)
        margin = _margin(result, key)
        text = number(value, 5) if margin is None else with_error(value, margin)
        kind = " (95 %)" if margin is not None and _margin_key(key, "interval") in result else ""
        yield name, f"{text}{kind}", unit or DASH


def _is_margin(key: str) -> bool:
    return any(word in key.split("_") for word in _MARGINS)


def _margin(result: Mapping[str, Any], key: str) -> float | None:
    values = (result.get(_margin_key(key, word)) for word in _MARGINS)
    return next((value for value in values if isinstance(value, float)), None)


def _margin_key(key: str, word: str) -> str:
    """The key of a value's margin: "Ea_sigma_eV" gives "Ea_sigma_interval_eV"."""
    words = key.split("_")
    for first in range(1, len(words)):
        if "_".join(words[first:]) in UNITS:
            return "_".join((*words[:first], word, *words[first:]))
    return f"{key}_{word}"
