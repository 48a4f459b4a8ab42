"""A plan: the steps to come, with durations, bounds, reaction times and data, as data and as text.

Bounds come from set points, conditions, limits and the card; what only the run can tell is None
("unknown").
"""

from __future__ import annotations

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
class Plan:
    """The expanded program. ``duration_max_s`` is None if a step has no foreseeable end."""

    name: str
    rows: tuple[PlanRow, ...]
    deviations: tuple[str, ...]
    duration_min_s: float
    duration_max_s: float | None
    samples: int
    bytes: int

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "protocol": self.name,
            "duration_min_s": self.duration_min_s,
            "duration_max_s": self.duration_max_s,
            "samples": self.samples,
            "bytes": self.bytes,
            "deviations": list(self.deviations),
            "steps": [asdict(row) for row in self.rows],
        }

    def lines(self) -> list[str]:
        """Return it as a table for people, one line per step."""
        width = min(40, max((len(row.path) for row in self.rows), default=4))
        wide = min(60, max((len(row.what) for row in self.rows), default=4))
        lines = [_line(row, width, wide) for row in self.rows]
        lines.extend(f"deviation: {text}" for text in self.deviations)
        return [self.name, *lines, self._total()]

    def _total(self) -> str:
        low, high = self.duration_min_s, self.duration_max_s
        if high is None:
            span = f"at least {_time(low)}, the longest is unknown"
        elif high - low < 0.01 * high:
            span = _time(high)
        else:
            span = f"{_time(low)} to {_time(high)}"
        return (
            f"{len(self.rows)} steps, {span}, at most {self.samples} samples, {_size(self.bytes)}"
        )


# --- For people ---------------------------------------------------------------------------------


def _line(row: PlanRow, width: int, wide: int) -> str:
    duration = "unknown" if row.duration_max_s is None else _time(row.duration_max_s)
    if row.duration_max_s and (row.duration_min_s or 0.0) < 0.99 * row.duration_max_s:
        duration = f"<= {duration}"
    end = "unknown" if row.end_max_s is None else _clock(row.end_max_s)
    extra = _bounds(row)
    mark = "?" if row.optional else " "
    return f"{mark} {row.path:<{width}}  {row.what:<{wide}}  {duration:>11}  {end:>9}  {extra}"


def _bounds(row: PlanRow) -> str:
    parts = []
    if row.charge_max_C:
        parts.append(format_quantity(row.charge_max_C, "charge"))
    if row.voltage_min_V is not None and row.voltage_max_V is not None:
        parts.append(f"{row.voltage_min_V:g} to {row.voltage_max_V:g} V")
    if row.pressure_Pa:
        parts.append(format_quantity(row.pressure_Pa, "pressure"))
    if row.on_device:
        parts.append(f"device watches {' and '.join(row.on_device)}")
    if row.on_host and row.reaction_s is not None:
        parts.append(f"host {' and '.join(row.on_host)} in {row.reaction_s:.2g} s")
    return ", ".join(parts)


def _time(duration_s: float) -> str:
    return format_quantity(duration_s, "time") if duration_s else "0 s"


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{seconds:02d}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
