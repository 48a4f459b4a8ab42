"""A dummy cell: a resistor and a capacitor in series, whose every answer is known in advance.

It stands behind emulators in place of a cell (`advance_to`, `apply_current`, ...), and is what to
put on the leads of a real instrument: 100 ohm and 0.1 F, charged to a volt.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class DummyCell:
    """A resistor and a capacitor in series; positive current charges it.

    Args:
        resistance_ohm: Of the resistor.
        capacitance_F: Of the capacitor.
        voltage_V: To which it is charged.

    Attributes:
        time_s: Up to where it has lived.
        cell_temperature_K: Its temperature.
    """

    def __init__(
        self, resistance_ohm: float = 100.0, capacitance_F: float = 0.1, voltage_V: float = 1.0
    ) -> None:
        self.resistance_ohm, self.capacitance_F = resistance_ohm, capacitance_F
        self.time_s = 0.0
        self.cell_temperature_K = 298.15
        self._capacitor_V = voltage_V
        self._demand: tuple[str, float] = ("open", 0.0)

    @property
    def energised(self) -> bool:
        """Whether something drives it."""
        kind, value = self._demand
        return kind == "voltage" or (kind == "current" and value != 0.0)

    def advance_to(self, time_s: float) -> None:
        """Live until a time; it never goes back."""
        if time_s < self.time_s:
            raise ValueError(f"time runs forward: {time_s} s lies before {self.time_s} s")
        passed_s, self.time_s = time_s - self.time_s, time_s
        kind, value = self._demand
        if kind == "current":
            self._capacitor_V += value * passed_s / self.capacitance_F
        elif kind == "voltage":
            left = math.exp(-passed_s / (self.resistance_ohm * self.capacitance_F))
            self._capacitor_V = value + (self._capacitor_V - value) * left

    def open_circuit(self) -> None:
        """Let no current flow."""
        self._demand = ("open", 0.0)

    def apply_current(self, current_A: float) -> None:
        """Impose a current."""
        self._demand = ("current", current_A)

    def apply_voltage(self, voltage_V: float) -> None:
        """Impose a voltage."""
        self._demand = ("voltage", voltage_V)

    def terminals(self) -> tuple[float, float]:
        """Return voltage (V) and current (A), now."""
        kind, value = self._demand
        if kind == "voltage":
            return value, (value - self._capacitor_V) / self.resistance_ohm
        current_A = value if kind == "current" else 0.0
        return self._capacitor_V + current_A * self.resistance_ohm, current_A

    def impedance(self, frequency_Hz: Any) -> Any:
        """Return the impedance (ohm, complex) at an array of frequencies."""
        omega = 2 * math.pi * np.asarray(frequency_Hz)
        return self.resistance_ohm + 1 / (1j * omega * self.capacitance_F)
