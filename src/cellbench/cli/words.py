"""What a run does, in words and numbers as a terminal shows them, in every view of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cellbench.quantities import format_quantity
from cellbench.report.wording import duration

_BARS = "▁▂▃▄▅▆▇█"
_SPARKLINE_WIDTH = 24
#: A reading that is younger is new.
_NEW_S = 1.0


@dataclass(frozen=True)
class Row:
    """A quantity: its name with unit, what it is called, and how its SI value is shown.

    The number of decimals is fixed where it can be, so that the last digits of a reading flicker
    and not its length.
    """

    name: str
    label: str
    text: Callable[[float], str]


ROWS = (
    Row("voltage_V", "voltage", lambda V: f"{V:z.4f} V"),
    Row("current_A", "current", lambda A: format_quantity(A, "current")),
    Row("stack_pressure_Pa", "stack pressure", lambda Pa: f"{Pa / 1e6:z.2f} MPa"),
    Row("temperature_K", "temperature", lambda K: f"{K - 273.15:.1f} °C"),
)


def value_text(row: Row, value: float | None) -> str:
    """A value with its unit; out of range, it is not known."""
    return "unknown" if value is None or math.isnan(value) else row.text(value)


def bounds_text(row: Row, low: float | None, high: float | None) -> str:
    """The limits of a quantity, as short as they can be written."""
    words = (("at least", low), ("at most", high))
    if low is not None and high is not None:
        words = (("limits", low), ("to", high))
    parts = [f"{word} {_short(row.text(end))}" for word, end in words if end is not None]
    return " ".join(parts)


def _short(text: str) -> str:
    """5.0000 V as 5 V."""
    number, unit = text.split()
    return f"{float(number):g} {unit}"


def age_text(age_s: float, *, stale: bool) -> str:
    """How old a reading is; nothing for one that is new."""
    if stale:
        return f"STALE for {duration(age_s)}"
    return f"{duration(math.floor(age_s))} ago" if age_s >= _NEW_S else ""


def sparkline(values: Sequence[float | None]) -> str:
    """Draw values as a line of bars; a flat signal is a flat line."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    shown = known[-_SPARKLINE_WIDTH:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    # Noise is not news: a bar's full height is a fiftieth of the value at least.
    span = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-12)
    low = min(low, (low + high - span) / 2)
    return "".join(_BARS[min(7, int(8 * (value - low) / span))] for value in shown)


def clock_text(seconds: float) -> str:
    """Write a time as 1 d 02:03:04, leaving out days that are not there."""
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    text = f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{whole.days} d {text}" if whole.days else text


def elapsed_text(elapsed_s: float, duration_s: float | None) -> str:
    """How long a step has been going, and how long it is where that is known."""
    return clock_text(elapsed_s) + (f" of {clock_text(duration_s)}" if duration_s else "")


def local_text(moment: datetime) -> str:
    """A moment by this computer's clock: Sat 03:12."""
    return f"{moment.astimezone():%a %H:%M}"


def printable(text: str) -> str:
    """Text as it may go to a terminal: what a protocol says cannot move its cursor."""
    return "".join(char if char.isprintable() else " " for char in text)


def held(why: str) -> str:
    """What holds a run, as it stands out: "PAUSED by jk at glovebox-pc since Sat 03:12"."""
    first, _, rest = printable(why).partition(" ")
    return f"{first.upper()} {rest}"


# --- Of what `cellbench.engine.snapshot` tells ----------------------------------------------------


def ends_text(found: Mapping[str, Any]) -> str:
    """When a run ends at the latest."""
    ends = found["ends_by_utc"]
    return "end unknown" if ends is None else f"ends by {local_text(datetime.fromisoformat(ends))}"


def step_text(step: Mapping[str, Any] | None) -> str:
    """What is under way, and for how long."""
    if step is None:
        return "no step is under way yet"
    number = f"step {step['number']}/{step['of']}  " if step["number"] else ""
    what = printable(f"{step['path']}: {step['what']}")
    return f"{number}{what}, {elapsed_text(step['elapsed_s'], step['duration_s'])}"


def urgent_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What nobody may overlook: how it ends, what holds it, what it asks."""
    if found["ending"]:
        yield f"on the way to its safe state: {printable(found['ending'])}"
    yield from map(held, found["holds"].values())
    if found["end_after"]:
        yield f"is to end after this {found['end_after']}"
    question = found["question"]
    if question is not None:
        choices = f" [{'/'.join(question['choices'])}]" if question["choices"] else ""
        yield f"ASKS: {printable(question['prompt'] + choices)}"
