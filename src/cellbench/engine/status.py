"""What a run looks like from outside at this moment; the live view reads it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Latest:
    """The newest value of a quantity, and a few before it for a sparkline."""

    value: float
    time_s: float
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=60))


@dataclass
class Status:
    """The state of one run.

    Attributes:
        time_s: Time since the start of the run.
        steps_done, steps_planned: Steps ended, and in the plan (None: unknown).
        planned_end_s: When the plan ends, from what is known (None: unknown).
        latest: Newest readings by name with unit, e.g. ``voltage_V``, ``stack_pressure_Pa``.
        messages: Time since start and text of what a person should read.
    """

    time_s: float = 0.0
    step_path: str = ""
    step_what: str = ""
    step_started_s: float = 0.0
    step_duration_s: float | None = None
    steps_done: int = 0
    steps_planned: int | None = None
    planned_end_s: float | None = None
    latest: dict[str, Latest] = field(default_factory=dict)
    messages: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=200))

    def reading(self, name: str, time_s: float, value: float) -> None:
        """Take note of a reading."""
        latest = self.latest.get(name)
        if latest is None:
            latest = self.latest[name] = Latest(value, time_s)
        latest.value, latest.time_s = value, time_s
        latest.recent.append(value)
        self.time_s = time_s

    def value(self, name: str) -> float | None:
        """The newest value of a quantity, None before there is one."""
        latest = self.latest.get(name)
        return None if latest is None else latest.value
