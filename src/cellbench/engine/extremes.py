"""The largest and smallest of what a step, or a pass of a loop, measured."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass
class Extremes:
    """Voltage, and magnitude of the current; infinite where nothing was measured."""

    voltage_min_V: float = math.inf
    voltage_max_V: float = -math.inf
    current_min_A: float = math.inf
    current_max_A: float = 0.0

    def row(self, voltage_V: float, magnitude_A: float) -> None:
        """Widen by one row; what was not measured (nan) is nothing."""
        # For every row of a run: min and max cost several times as much as a comparison.
        # ruff: disable[PLR1730]
        if voltage_V < self.voltage_min_V:
            self.voltage_min_V = voltage_V
        if voltage_V > self.voltage_max_V:
            self.voltage_max_V = voltage_V
        if magnitude_A < self.current_min_A:
            self.current_min_A = magnitude_A
        if magnitude_A > self.current_max_A:
            self.current_max_A = magnitude_A
        # ruff: enable[PLR1730]

    def take(self, other: Extremes) -> None:
        """Widen by those of another."""
        self.voltage_min_V = min(self.voltage_min_V, other.voltage_min_V)
        self.voltage_max_V = max(self.voltage_max_V, other.voltage_max_V)
        self.current_min_A = min(self.current_min_A, other.current_min_A)
        self.current_max_A = max(self.current_max_A, other.current_max_A)

    def stored(self) -> dict[str, float] | None:
        """As the journal keeps them; None where nothing was measured."""
        return asdict(self) if math.isfinite(self.voltage_min_V) else None

    @classmethod
    def restored(cls, stored: dict[str, Any] | None) -> Self:
        """From what the journal keeps."""
        return cls(**(stored or {}))
