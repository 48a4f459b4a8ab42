"""Times, numbers and names in the words of the report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cellbench import analysis
from cellbench.analysis import reported
from cellbench.errors import InputError
from cellbench.places import WITHIN
from cellbench.store import Run

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_EXPONENTS = {"cm2": "cm²", "mm2": "mm²", "m2": "m²", "cm3": "cm³"}
_TITLES = {
    "ccd": "Critical current density",
    "dq dv": "dQ/dV",
    "gitt": "GITT",
    "lsv onset": "Onset of decomposition",
    "rate table": "Rate capability",
}
_POWERED = re.compile(r"\b(cm2|mm2|m2|cm3)\b")


def powers(text: str) -> str:
    """Write cm2 as cm², where typography allows it."""
    return _POWERED.sub(lambda match: _EXPONENTS[match[1]], text)


def number(value: float | None, digits: int = 4) -> str:
    """A number of so many significant digits; a dash for what is not there."""
    if value is None or not math.isfinite(value):
        return DASH
    return reported.plain(value, digits).replace("-", MINUS)


def with_error(value: float, error: float | None) -> str:
    """A value and its standard error, both to the error's second digit: 283.95 ± 0.07."""
    if error is None or not 0 < error < math.inf:
        return number(value, 3)
    if 0 < max(abs(value), error) < 1e-4:
        power = math.floor(math.log10(max(abs(value), error)))
        scaled = with_error(value / 10.0**power, error / 10.0**power)
        return f"({scaled})e{power}".replace("-", MINUS)
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """A time in its two leading units: 11 h 12 min, 3 min 20 s, 4.5 s."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    whole = round(seconds)
    first = next(index for index, (_, size) in enumerate(units) if whole >= size)
    (name, size), (lesser, step) = units[first], units[first + 1]
    rest = (whole % size) // step
    return f"{whole // size} {name}" + (f" {rest} {lesser}" if rest else "")


def clock(seconds: float) -> str:
    """A time since the start as hours, minutes and seconds: 11:12:05."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def utc(moment: datetime | None) -> str:
    """A moment in UTC to the second; SQLite gives moments back without their zone."""
    return DASH if moment is None else f"{as_utc(moment):%Y-%m-%d %H:%M:%S} UTC"


def as_utc(moment: datetime) -> datetime:
    """A moment as UTC, which is what the store keeps."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def count(number_of: int, noun: str) -> str:
    """A number and its noun: 1 deviation, 2 deviations."""
    return f"{grouped(number_of)} {noun}{'' if number_of == 1 else 's'}"


def grouped(number_of: int) -> str:
    """A whole number with its thousands apart by narrow spaces."""
    return f"{number_of:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def name_of(key: str) -> str:
    """A result's name as words, unit apart: "R_total_ohm" gives "R total ohm"."""
    return key.replace("_", " ")


def title_of(analysis_name: str) -> str:
    """An analysis as a heading, with the place where it looked."""
    name = analysis.bare(analysis_name).replace("_", " ")
    place = analysis_name.partition(WITHIN)[2].strip()
    title = _TITLES.get(name, name[:1].upper() + name[1:])
    return f"{title} within {place}" if place else title


def described(name: str, result: Mapping[str, Any]) -> Sequence[str]:
    """An analysis's own lines; its plain values where it has no words or is not installed."""
    try:
        lines = analysis.describe(name, result)
    except InputError:
        lines = []
    return lines or [
        f"{name_of(key)}   {number(value) if isinstance(value, float) else value}"
        for key, value in result.items()
        if isinstance(value, str | int | float)
    ]


def banner(run: Run) -> str:
    """The words that no reader of simulated data may miss; empty for a real bench."""
    if not run.simulated:
        return ""
    seed = "" if run.seed is None else f", seed {run.seed}"
    return f"SIMULATED BENCH{seed}: no instrument was connected"
