"""What a cell asks of an electrode, whatever it is made of."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Electrode(Protocol):
    """One side of the separator. Current is positive where the electrode is oxidised.

    `plates` is whether reduction leaves lithium metal, which may grow into the separator. A step is
    first looked at (`prepare`), which commits nothing: afterwards its potential at the
    end is known for any current, `offset + resistance * I` and, where it is `curved`, what
    `potential` adds to that. `advance` then commits the step that was prepared last.
    """

    area_m2: float
    curved: bool
    plates: bool

    @property
    def potential_V(self) -> float:
        """Open-circuit potential against Li+/Li."""

    @property
    def thickness_m(self) -> float:
        """Thickness, up to a constant: what the fixture feels is its change."""

    @property
    def plating_contact(self) -> float:
        """Fraction of the area that carries plating current; falls as the contact is lost."""

    @property
    def plated_C_per_m2(self) -> float:
        """Lithium metal plated since the electrode was last stripped; 0 where none is plated."""

    @property
    def resistance_Ohm(self) -> float:
        """Resistance to direct current about the present state, without diffusion."""

    @property
    def unrest_per_s(self) -> float:
        """How fast its state changes, over the most that a step of the grid may bring (1/s)."""

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""

    def disturb(self) -> None:
        """Learn that the current is about to jump."""

    def prepare(self, duration_s: float, current_A: float) -> tuple[float, float]:
        """Look at the end of a step; return the linear part of its potential (V, Ohm).

        `current_A` is the present current, for what follows it slowly.
        """

    def potential(self, current_A: float) -> tuple[float, float]:
        """Return the curved part of the potential and its slope (V, Ohm) at the prepared end."""

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Advance by a step under a steady current density."""

    def impedance(self, omega: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) about the present state, at omega in rad/s."""

    def snapshot(self) -> dict[str, object]:
        """Return a copy of the state."""

    def restore(self, state: dict[str, object]) -> None:
        """Put back what `snapshot` returned."""


class Straight:
    """What electrodes have in common whose potential is linear in current, or that do not plate."""

    curved = False
    plates = False
    plated_C_per_m2 = 0.0
    unrest_per_s = 0.0

    @property
    def potential_V(self) -> float:
        """Return that of lithium."""
        return 0.0

    @property
    def thickness_m(self) -> float:
        """Return nothing that changes."""
        return 0.0

    @property
    def plating_contact(self) -> float:
        """Return the whole."""
        return 1.0

    def potential(self, current_A: float) -> tuple[float, float]:  # noqa: ARG002
        """Return nothing on top of the linear part."""
        return 0.0, 0.0
