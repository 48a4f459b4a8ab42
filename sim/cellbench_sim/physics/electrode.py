"""What a cell asks of an electrode, whatever it is made of."""

from typing import Protocol

from cellbench_sim.physics.arc import Arc


class Electrode(Protocol):
    """One side of the separator. Current density is positive where the electrode is oxidised."""

    arc: Arc

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

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""

    def advance(self, duration_s: float, current_A_per_m2: float) -> None:
        """Advance the slow states by a step under a steady current density."""

    def snapshot(self) -> dict[str, object]:
        """Return a copy of the state."""

    def restore(self, state: dict[str, object]) -> None:
        """Put back what `snapshot` returned."""
