"""A plan: the steps to come, with durations, bounds, reaction times and data, as data and as text.

Bounds come from set points, conditions, limits and the card; what only the run can tell is None
("unknown").
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cellbench.quantities import format_quantity


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One step of the plan; None is unknown.

    Attributes:
        duration_min_s: Shortest; 0 for a step that a condition can end at once.
        optional: The step happens only if its loop goes on that far, or its branch is taken.
        charge_max_C: Largest magnitude of charge passed.
        pressure_Pa: The standing order of the press in force, None while there is none.
        on_device: What the instrument watches by itself, limits and conditions alike.
        on_host: What only the host watches, and
        reaction_s: how long after a crossing that it sees the output is off.
        end_max_s: Latest end since the start of the run.
    """

    path: str
    what: str
    optional: bool
    duration_min_s: float | None
    duration_max_s: float | None
    charge_max_C: float | None
    voltage_min_V: float | None
    voltage_max_V: float | None
    current_max_A: float | None
    pressure_Pa: float | None
    on_device: tuple[str, ...]
    on_host: tuple[str, ...]
    reaction_s: float | None
    rows: int | None
    end_max_s: float | None


@dataclass(frozen=True, slots=True)
class PlannedList:
    """Steps that a cycler is handed as one list, and runs by itself.

    Attributes:
        first, last: Paths of the first and of the last step.
        ends_on: What it ends them on.
    """

    first: str
    last: str
    steps: int
    duration_max_s: float
    ends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The expanded program.

    Attributes:
        duration_max_s: None if a step has no foreseeable end.
        handovers: How often the cell goes from one instrument to another, at most, and
        changeover: by what means; their time is in no duration.
        lists: What a cycler is handed to run by itself.
    """

    name: str
    rows: tuple[PlanRow, ...]
    deviations: tuple[str, ...]
    duration_min_s: float
    duration_max_s: float | None
    samples: int
    bytes: int
    handovers: int = 0
    changeover: str = ""
    lists: tuple[PlannedList, ...] = ()

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "protocol": self.name,
            "duration_min_s": self.duration_min_s,
            "duration_max_s": self.duration_max_s,
            "samples": self.samples,
            "bytes": self.bytes,
            "deviations": list(self.deviations),
            "handovers": self.handovers,
            "lists": [asdict(each) for each in self.lists],
            "steps": [asdict(row) for row in self.rows],
        }

    def lines(self) -> list[str]:
        """Return it for people, at most 100 columns: a head, a line per step, and what it sums to.

        Times are h:mm:ss. A "+" follows the sum of the known times after a step of unknown time.
        """
        lines = [self.name[:_WIDTH], *_table(self.rows)]
        if any(row.optional for row in self.rows):
            lines.append("? only if its loop goes on that far, or its branch is taken")
        for text in (*self._bounds(), *(f"deviation: {each}" for each in self.deviations)):
            lines.extend(textwrap.wrap(text, _WIDTH, subsequent_indent="  "))
        return [*lines, self._total()]

    def _bounds(self) -> Iterator[str]:
        voltages = [each for row in self.rows for each in (row.voltage_min_V, row.voltage_max_V)]
        known = [each for each in voltages if each is not None]
        parts = [f"voltage {min(known):g} V to {max(known):g} V"] if known else []
        for what, dimension, values in (
            ("current", "current", [row.current_max_A for row in self.rows]),
            ("stack pressure", "pressure", [row.pressure_Pa for row in self.rows]),
            ("charge of a step", "charge", [row.charge_max_C for row in self.rows]),
        ):
            highest = max((each or 0.0 for each in values), default=0.0)
            if highest:
                parts.append(f"{what} at most {format_quantity(highest, dimension)}")
        if parts:
            yield f"within: {', '.join(parts)}"
        if self.handovers:
            times = _count(self.handovers, "time")
            yield f"the cell changes hands {times} at most {self.changeover}; that is not counted"
        yield from self._listed()
        yield from self._watched()

    def _listed(self) -> Iterator[str]:
        if not self.lists:
            return
        longest = max(self.lists, key=lambda each: each.duration_max_s)
        ends_on = dict.fromkeys(quantity for each in self.lists for quantity in each.ends_on)
        steps = _count(sum(each.steps for each in self.lists), "step")
        yield (
            f"the cycler runs {steps} by itself, in {_count(len(self.lists), 'list')}, and goes on "
            f"with a list while this computer is away; it ends each step on {', '.join(ends_on)}. "
            f"The longest list: {longest.first} to {longest.last}, at most "
            f"{_time(longest.duration_max_s)}"
        )

    def _watched(self) -> Iterator[str]:
        device = dict.fromkeys(each for row in self.rows for each in row.on_device)
        host = dict.fromkeys(each for row in self.rows for each in row.on_host)
        reaction_s = max((row.reaction_s or 0.0 for row in self.rows), default=0.0)
        if device:
            yield f"the instrument itself watches {' and '.join(device)}"
        if host and reaction_s:
            yield f"the computer watches {', '.join(host)}, and acts within {reaction_s:.2g} s"

    def _total(self) -> str:
        known_s = sum(row.duration_max_s or 0.0 for row in self.rows)
        low, high = _time(self.duration_min_s), _time(known_s)
        span = high if low == high else f"{low} to {high}"
        if self.duration_max_s is None:
            unknown = sum(row.duration_max_s is None for row in self.rows)
            span += f" + {_count(unknown, 'step')} of unknown duration"
        return (
            f"{_count(len(self.rows), 'step')}, {span}, at most {_count(self.samples, 'sample')}, "
            f"{_size(self.bytes)}"
        )


# --- For people ---------------------------------------------------------------------------------

_WIDTH = 100
_PATH_WIDTH = 28
_TIMES = ("likely", "at most", "ends by")


def _table(rows: Sequence[PlanRow]) -> Iterator[str]:
    """The head, and a line per step."""
    times = list(_times(rows))
    ends = max(len(each) for row in times for each in row) + 2
    wide = min(_PATH_WIDTH, max((len(row.path) for row in rows), default=4))
    left = _WIDTH - 2 - wide - 2 - len(_TIMES) * ends
    marks = (" ", *("?" if row.optional else " " for row in rows))
    paths = ("step", *(row.path for row in rows))
    whats = ("what is done", *(row.what for row in rows))
    for mark, path, what, each in zip(marks, paths, whats, times, strict=True):
        columns = "".join(f"{time:>{ends}}" for time in each)
        yield f"{mark} {_cut(path, wide):<{wide}}  {_cut(what, left):<{left}}{columns}"


def _times(rows: Sequence[PlanRow]) -> Iterator[tuple[str, str, str]]:
    """The columns of times, with their headings."""
    yield _TIMES
    end_s, more = 0.0, ""
    for row in rows:
        end_s += row.duration_max_s or 0.0
        more = "+" if row.duration_max_s is None else more
        yield _likely(row), _at_most(row), f"{_time(end_s)}{more}"


def _cut(text: str, width: int) -> str:
    """Shorten a text in its middle: what tells it apart is at both ends."""
    if len(text) <= width:
        return text
    front = (width - 2) // 2
    return f"{text[:front]}..{text[len(text) - (width - 2 - front) :]}"


def _likely(row: PlanRow) -> str:
    """A step that a condition can end at once has no likely duration."""
    if row.duration_max_s is None or (row.duration_max_s and not row.duration_min_s):
        return "?"
    return _time(row.duration_min_s or 0.0)


def _at_most(row: PlanRow) -> str:
    if row.duration_max_s is None:
        return "unknown"
    shown = _time(row.duration_max_s)
    return "" if shown == _likely(row) else shown


def _time(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{seconds:02d}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
