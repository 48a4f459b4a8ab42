"""A strain gauge in the line of force: zero, drift with temperature, noise, an end of scale."""

from __future__ import annotations

import random

from cellbench_sim.world import World

_REFERENCE_K = 298.15


class LoadCell:
    """Reads the force on the stack; errors are fractions of the full scale (assumed).

    Args:
        world: The bench's physical system.
        rng: Source of its noise and of its zero.
        capacity_N: Full scale, at which the reading saturates.
        noise: Standard deviation of one reading.
        zero: Standard deviation of the zero over all cells of this kind.
        drift_per_K: How far the zero moves with the air's temperature.

    Attributes:
        capacity_N: Its full scale.
        zero_N: What it reads unloaded, at the temperature at which it was adjusted.
    """

    def __init__(
        self,
        world: World,
        rng: random.Random,
        capacity_N: float,
        *,
        noise: float = 2e-4,
        zero: float = 0.0,
        drift_per_K: float = 0.0,
    ) -> None:
        self._world = world
        self._rng = rng
        self.capacity_N = capacity_N
        self._noise_N = noise * capacity_N
        self.zero_N = rng.gauss(0.0, zero * capacity_N)
        self._drift_N_per_K = drift_per_K * capacity_N

    def reading_N(self) -> float:
        """Return the force as it is read now; the world stands at the present time."""
        warm_K = self._world.air_temperature_K - _REFERENCE_K
        force_N = self._world.force_N() + self.zero_N + self._drift_N_per_K * warm_K
        force_N += self._rng.gauss(0.0, self._noise_N)
        return min(max(force_N, -self.capacity_N), self.capacity_N)
