"""What the world asks of a cell, whichever model stands behind it."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Demand = Literal["open", "current", "voltage"]


class CellModel(Protocol):
    """A cell between two leads. Positive current is oxidation at the working electrode.

    `bends_per_s` is how fast the current changes under a constant voltage, as a fraction (1/s),
    infinite until the first step.
    """

    area_m2: float
    bends_per_s: float

    @property
    def thickness_m(self) -> float:
        """Thickness of both electrodes, up to a constant: what the fixture feels is its change."""

    @property
    def restless(self) -> bool:
        """Whether the coming minute may change the cell, so that the grid should be fine."""

    @property
    def longest_step_s(self) -> float:
        """The step that would bring as much as a step may; 0 where it must be a short one."""

    def demand(self, kind: Demand, value: float) -> None:
        """Impose on the terminals, from now on: nothing, a current (A) or a voltage (V)."""

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""

    def terminals_after(self, duration_s: float) -> tuple[float, float]:
        """Return voltage and current (V, A) a while after the last step, changing nothing."""

    def advance(self, time_s: float, duration_s: float) -> None:
        """Advance everything by a step that ends at `time_s`, under the present demand."""

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) about the present state."""

    def snapshot(self) -> dict[str, object]:
        """Return a copy of the state."""

    def restore(self, state: dict[str, object]) -> None:
        """Put back what `snapshot` returned."""
