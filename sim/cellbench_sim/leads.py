"""Leads of several instruments that share one cell: clipped to it, or hanging in the air.

Each instrument drives its own leads. What it drives reaches the cell while they are clipped to it;
else it sees an open wire. Two instruments that drive one cell at the same time fight each other
through it: that is no state of a bench to go on from, and a fault of whoever connected them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.model import Demand

#: A stray resistance far beyond any instrument's reach.
_OPEN_WIRE_OHM = 1e12


class TwoSources(RuntimeError):
    """Two instruments drive one cell."""


class Cell(Protocol):
    """What a potentiostat sees of a cell; positive current oxidises the working electrode."""

    def advance_to(self, time_s: float) -> None:
        """Let the cell live until ``time_s``."""

    def open_circuit(self) -> None:
        """Leave the terminals open."""

    def apply_current(self, current_A: float) -> None:
        """Drive a current through the terminals."""

    def apply_voltage(self, voltage_V: float) -> None:
        """Hold a voltage at the terminals."""

    def terminals(self) -> tuple[float, float]:
        """Return voltage in V and current in A."""

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the impedance in ohm at each frequency, at the present state."""


class BothSides(Cell, Protocol):
    """What instruments use of the world."""

    @property
    def cell_temperature_K(self) -> float:
        """Temperature of the cell."""


class Junction:
    """The two terminals of a cell, to which several leads can be clipped.

    Args:
        cell: The world that the cell is in.
    """

    def __init__(self, cell: BothSides) -> None:
        self.cell = cell
        self._all: list[Leads] = []

    def leads(self) -> Leads:
        """Return new leads, not clipped to the cell."""
        self._all.append(Leads(self))
        return self._all[-1]

    def require_no_other(self, driving: Leads) -> None:
        """Raise TwoSources if other leads drive the cell."""
        if any(each is not driving and each.connected and each.drives for each in self._all):
            raise TwoSources("two instruments drive one cell")


class Leads:
    """The leads of one instrument, with the electrical methods of the world."""

    def __init__(self, junction: Junction) -> None:
        self._junction = junction
        self._cell = junction.cell
        self._connected = False
        self._demand: Demand = "open"
        self._demanded = 0.0

    @property
    def connected(self) -> bool:
        """Whether they are clipped to the cell; a change acts at the world's present time."""
        return self._connected

    @connected.setter
    def connected(self, connected: bool) -> None:
        if connected == self._connected:
            return
        self._connected = connected
        if self.drives and connected:
            self._pass_on()
        elif self.drives:
            self._cell.open_circuit()

    @property
    def drives(self) -> bool:
        """Whether the instrument drives them."""
        return self._demand != "open"

    @property
    def cell_temperature_K(self) -> float:
        """Temperature of the cell: a thermocouple stays where it is."""
        return self._cell.cell_temperature_K

    def advance_to(self, time_s: float) -> None:
        """Let the world live until ``time_s``."""
        self._cell.advance_to(time_s)

    def open_circuit(self) -> None:
        """Drive nothing."""
        drove, self._demand, self._demanded = self.drives, "open", 0.0
        if self._connected and drove:
            self._cell.open_circuit()

    def apply_current(self, current_A: float) -> None:
        """Drive a current."""
        self._demand, self._demanded = "current", current_A
        self._pass_on()

    def apply_voltage(self, voltage_V: float) -> None:
        """Hold a voltage."""
        self._demand, self._demanded = "voltage", voltage_V
        self._pass_on()

    def terminals(self) -> tuple[float, float]:
        """Return voltage and current (V, A): of the cell, or of open wires."""
        if not self._connected:
            return open_wire(self._demand, self._demanded)
        voltage_V, current_A = self._cell.terminals()
        return voltage_V, current_A if self.drives else 0.0

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the impedance (Ohm) of the cell, or of open wires."""
        if not self._connected:
            return open_wire_impedance(frequency_Hz)
        return self._cell.impedance(frequency_Hz)

    def _pass_on(self) -> None:
        if not self._connected:
            return
        self._junction.require_no_other(self)
        if self._demand == "voltage":
            self._cell.apply_voltage(self._demanded)
        else:
            self._cell.apply_current(self._demanded)


def open_wire(demand: Demand, demanded: float) -> tuple[float, float]:
    """Return voltage and current (V, A) at leads that end in the air."""
    if demand == "voltage":
        return demanded, demanded / _OPEN_WIRE_OHM
    return demanded * _OPEN_WIRE_OHM, demanded


def open_wire_impedance(frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the impedance (Ohm) of leads that end in the air."""
    return np.full(frequency_Hz.shape, _OPEN_WIRE_OHM, dtype=np.complex128)
