"""What electrodes have in common that current enters through one arc (interface, double layer)."""

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.arc import Arc
from cellbench_sim.physics.electrode import Straight
from cellbench_sim.physics.state import Stateful


class Arced(Straight, Stateful):
    """An electrode behind an arc, which the derived class sets up and keeps up to date."""

    arc: Arc
    area_m2: float

    @property
    def resistance_Ohm(self) -> float:
        """Resistance of the arc."""
        return self.arc.resistance_Ohm

    def disturb(self) -> None:
        """Let the arc follow a jump of the current."""
        self.arc.disturb()

    def prepare(self, duration_s: float, current_A: float) -> tuple[float, float]:  # noqa: ARG002
        """Look at the end of a step; return offset and resistance (V, Ohm) of the arc."""
        return self.arc.response(duration_s)

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Charge the arc."""
        self.arc.relax(duration_s, current_A_per_m2 * self.area_m2)

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the impedance of the arc (Ohm)."""
        return self.arc.impedance(omega)
