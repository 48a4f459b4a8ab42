"""A strain gauge in the line of force: zero, drift with temperature, noise, an end of scale."""

from __future__ import annotations

import math
import random

from cellbench_sim.randomness import normals
from cellbench_sim.world import World

_REFERENCE_K = 298.15


class LoadCell:
    """Reads the force on the stack; errors are fractions of the full scale (assumed).

    Args:
        world: The bench's physical system.
        rng: Source of its noise and of its zero, and of nothing else.
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
        self._press, self._chamber = world.press, world.chamber
        self._normals = normals(rng)
        self.capacity_N = capacity_N
        self._noise_N = noise * capacity_N
        self.zero_N = next(self._normals) * (zero * capacity_N)
        self._drift_N_per_K = drift_per_K * capacity_N

    def reading_N(self) -> float:
        """Return the force as it is read now; the world stands at the present time."""
        warm_K = self._chamber.air_temperature_K - _REFERENCE_K
        force_N = self._press.force_N + self.zero_N + self._drift_N_per_K * warm_K
        force_N += next(self._normals) * self._noise_N
        if abs(force_N) > self.capacity_N:
            return math.copysign(self.capacity_N, force_N)
        return force_N
