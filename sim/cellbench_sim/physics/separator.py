"""The separator: one pressed layer of electrolyte, or two of different ones in series."""

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.pellet import Pellet
from cellbench_sim.physics.state import Stateful
from cellbench_sim.presets.schema import CellPreset


class Separator(Stateful):
    """Layers in series, the first at the working electrode; ions and electrons cross them all."""

    def __init__(self, preset: CellPreset) -> None:
        self.pellet = Pellet(preset.electrolyte, preset.pellet, preset.exposure)
        layer = preset.counter_layer
        self.second = Pellet(layer.electrolyte, layer.pellet) if layer else None
        self.area_m2 = self.pellet.area_m2

    @property
    def resistance_Ohm(self) -> float:
        """Ionic resistance, bulk and boundaries of all layers."""
        return sum(layer.bulk_Ohm + layer.boundary.resistance_Ohm for layer in self._layers())

    @property
    def electronic_conductance_S(self) -> float:
        """Conductance to electrons, face to face."""
        return 1.0 / sum(1.0 / layer.electronic_conductance_S for layer in self._layers())

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        for layer in self._layers():
            layer.refresh(pressure_Pa, temperature_K)

    def disturb(self) -> None:
        """Let the boundaries follow a jump of the current."""
        for layer in self._layers():
            layer.boundary.disturb()

    def prepare(self, duration_s: float) -> tuple[float, float]:
        """Return voltage and resistance (V, Ohm) at the end of a step."""
        voltage_V, resistance_Ohm = self.pellet.boundary.response(duration_s)
        resistance_Ohm += self.pellet.bulk_Ohm
        if self.second is not None:
            second_V, second_Ohm = self.second.boundary.response(duration_s)
            voltage_V += second_V
            resistance_Ohm += second_Ohm + self.second.bulk_Ohm
        return voltage_V, resistance_Ohm

    def advance(self, duration_s: float, current_A: float) -> None:
        """Advance the boundaries by a step under a steady current."""
        self.pellet.advance(duration_s, current_A)
        if self.second is not None:
            self.second.advance(duration_s, current_A)

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the arcs of all layers in series (Ohm), at omega in rad/s."""
        result = self.pellet.impedance(omega)
        return result if self.second is None else result + self.second.impedance(omega)

    def _layers(self) -> tuple[Pellet, ...]:
        return (self.pellet,) if self.second is None else (self.pellet, self.second)
