"""How much of the active material takes part: broken in by current, lost cycle by cycle.

Both are entered per cycle, not emergent. They take effect where a discharge ends and the next
charge begins, so that no charge is won or lost within a cycle.
"""

import math

from cellbench_sim.physics.state import Stateful
from cellbench_sim.presets.cathode import BreakIn, ContactLoss

#: A discharge that took less than this share of the material's lithium is a pulse, no cycle.
_LEAST_SWING = 0.15
#: Slower changes of content (C/280) are leakage, not cycling.
_LEAST_RATE_PER_S = 1e-6


class ActiveContact(Stateful):
    """Share of the active material that is connected; a turn of the current ends a cycle."""

    def __init__(self, loss: ContactLoss, break_in: BreakIn | None, fraction: float) -> None:
        self._loss = loss
        self._break_in = break_in
        self._final = fraction
        self._under_current_s = 0.0
        self._lost = 0.0
        self._can_heal = 0.0
        self._swing = 0.0
        self._highest_V = -math.inf
        self._lowest_V = math.inf
        self._pressure_Pa = 0.0
        self.cycles = 0
        self.fraction = 0.0
        self._set_fraction()

    @property
    def relative(self) -> float:
        """The share over that of a cell broken in and fresh."""
        return self.fraction / self._final

    def refresh(self, pressure_Pa: float) -> None:
        """Take up the present stack pressure."""
        self._pressure_Pa = pressure_Pa

    def advance(self, duration_s: float, content_per_s: float, potential_V: float) -> None:
        """Note a step in which the mean content changes at a rate, at a potential."""
        if abs(content_per_s) < _LEAST_RATE_PER_S:
            return
        self._under_current_s += duration_s
        if content_per_s > 0.0:
            self._swing += content_per_s * duration_s
            self._lowest_V = min(self._lowest_V, potential_V)
            return
        if self._swing > _LEAST_SWING:
            self._end_cycle()
        self._swing = 0.0
        self._highest_V = max(self._highest_V, potential_V)

    def _end_cycle(self) -> None:
        loss = self._loss
        above_V = max(0.0, self._highest_V - loss.high_potential_V)
        lost = loss.per_cycle * (1.0 + above_V / loss.high_width_V) * (1.0 - self._lost)
        self._can_heal += loss.healing_share * lost
        self._lost += lost
        deep = self._lowest_V < loss.healing_potential_V
        if deep or self._pressure_Pa > loss.healing_pressure_Pa:
            self._lost -= self._can_heal
            self._can_heal = 0.0
        self.cycles += 1
        self._highest_V, self._lowest_V = -math.inf, math.inf
        self._set_fraction()

    def _set_fraction(self) -> None:
        broken_in = 1.0
        if self._break_in is not None:
            still = math.exp(-self._under_current_s / self._break_in.time_s)
            broken_in -= (1.0 - self._break_in.first_fraction) * still
        self.fraction = self._final * broken_in * (1.0 - self._lost)
