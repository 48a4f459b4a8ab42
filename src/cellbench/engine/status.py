"""What a run looks like from outside at this moment; the live view reads it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cellbench.engine.steering import Steering
from cellbench.protocol.plan import Plan

#: What conditions call the readings that do not come from the channel.
STATUS_NAMES = {"stack pressure": "stack_pressure_Pa", "temperature": "temperature_K"}
#: A sparkline has one point for so much time, so that it spans some half-cycles.
SPARKLINE_S = 60.0
#: A reading is stale that is older than this, and than so many of its own intervals.
STALE_S = 60.0
STALE_INTERVALS = 2.0


@dataclass
class Latest:
    """The newest value of a quantity, and one of each minute before it for a sparkline.

    Attributes:
        interval_s: Time between it and the one before.
    """

    value: float
    time_s: float
    interval_s: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    recent_s: float = -SPARKLINE_S

    def is_stale(self, now_s: float) -> bool:
        """Whether nothing new came for longer than it should take."""
        return now_s - self.time_s > max(STALE_S, STALE_INTERVALS * self.interval_s)


class Forecast:
    """When the run ends, from the plan and from where the run is.

    Args:
        planned: The plan, None where there is none.
    """

    def __init__(self, planned: Plan | None) -> None:
        rows = () if planned is None else planned.rows
        self._total_s = None if planned is None else planned.duration_max_s
        self._index = {row.path: number for number, row in enumerate(rows, start=1)}
        self._rows = rows

    def number(self, path: str) -> tuple[int | None, int | None]:
        """Place of a step in the plan, from 1, and the number of steps."""
        return self._index.get(path), len(self._rows) or None

    def end_s(self, path: str, start_s: float) -> float | None:
        """Latest end of the run if the step begins at ``start_s``; None when unknown."""
        number = self._index.get(path)
        if number is None or self._total_s is None:
            return None
        row = self._rows[number - 1]
        if row.end_max_s is None or row.duration_max_s is None:
            return None
        return start_s + self._total_s - (row.end_max_s - row.duration_max_s)


@dataclass
class Status:
    """The state of one run.

    Attributes:
        steering: What holds it, None for a run that nothing can hold.
        time_s: Time since the start of the run.
        step_number, steps_planned: Place of the step in the plan, from 1 (None: unknown).
        planned_end_s: Latest end of the run, by what is known now (None: unknown).
        latest: Newest readings by name with unit, e.g. ``voltage_V``, ``stack_pressure_Pa``.
        messages: Time since start and text of what a person should read.
        guard: What is known of the guard, as a person reads it; empty: there is none.
    """

    steering: Steering | None = None
    time_s: float = 0.0
    step_path: str = ""
    step_what: str = ""
    step_started_s: float = 0.0
    step_duration_s: float | None = None
    step_number: int | None = None
    steps_planned: int | None = None
    planned_end_s: float | None = None
    latest: dict[str, Latest] = field(default_factory=dict)
    messages: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=200))
    guard: str = ""

    @property
    def holds(self) -> dict[str, str]:
        """What holds the run or what it waits for, and why, as a person reads it."""
        if self.steering is None:
            return {}
        wait = self.steering.waits_for()
        return self.steering.holds | ({"lease": wait} if wait else {})

    def reading(self, name: str, time_s: float, value: float) -> None:
        """Take note of a reading."""
        latest = self.latest.get(name)
        if latest is None:
            latest = self.latest[name] = Latest(value, time_s)
        latest.interval_s = time_s - latest.time_s
        latest.value, latest.time_s = value, time_s
        if time_s - latest.recent_s >= SPARKLINE_S:
            latest.recent.append(value)
            latest.recent_s = time_s
        self.time_s = time_s

    def electrical(self, time_s: float, voltage_V: float, current_A: float) -> None:
        """Take note of one row of the channel."""
        self.reading("voltage_V", time_s, voltage_V)
        self.reading("current_A", time_s, current_A)

    def value(self, name: str) -> float | None:
        """The newest value of a quantity, None before there is one."""
        latest = self.latest.get(name)
        return None if latest is None else latest.value
