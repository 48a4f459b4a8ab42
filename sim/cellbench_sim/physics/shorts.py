"""How a lithium cell is shorted: by dendrites, by creep, always in steps.

A hazard is one threshold, drawn when the cell is built, against an integral over its life. Each
random thing has its own generator, and generators are drawn from at grid nodes only.
"""

import math
import random

from cellbench_sim.physics.state import Stateful
from cellbench_sim.physics.thermal import arrhenius
from cellbench_sim.presets.schema import CreepShort, Dendrites, Shorts
from cellbench_sim.randomness import random_stream

_LEVEL_LASTS_S = 20.0
_SHALLOWEST_SAG = 0.08
_DEEPEST_SAG = 0.32
_SAG_BY_DAMAGE = 0.10
_FLICKER = 0.03
_SAG_LIMIT = 0.45


class Creep(Stateful):
    """Lithium squeezed through the separator; the hazard is exponential in stack pressure."""

    def __init__(self, parameters: CreepShort, stream: random.Random) -> None:
        self._parameters = parameters
        self._threshold = stream.expovariate(1.0)
        self._hazard = 0.0
        self.rate_per_s = 0.0

    @property
    def due(self) -> bool:
        """Whether the hazard has passed its threshold."""
        return self._hazard > self._threshold

    def refresh(self, pressure_Pa: float) -> None:
        """Take up the present stack pressure."""
        p = self._parameters
        steepness = (pressure_Pa - p.critical_pressure_Pa) / p.width_Pa
        self.rate_per_s = math.exp(min(steepness, 50.0)) / p.mean_time_at_critical_s

    def advance(self, duration_s: float) -> None:
        """Let the hazard act for a step."""
        self._hazard += self.rate_per_s * duration_s


class DendriteGrowth(Stateful):
    """Plating beyond the critical current density: flicker while it lasts, damage that stays."""

    def __init__(self, parameters: Dendrites, stream: random.Random) -> None:
        self._parameters = parameters
        self._stream = stream
        self._threshold_s = stream.uniform(
            parameters.collapse_damage_from_s, parameters.collapse_damage_to_s
        )
        self._damage_s = 0.0
        self._level = 0.0
        self._level_until_s = 0.0
        self.critical_A_per_m2 = parameters.critical_current_A_per_m2
        self.grown_S_per_m2 = 0.0
        self.sag = 0.0
        self.stressed = False

    @property
    def due(self) -> bool:
        """Whether the damage has passed its threshold."""
        return self._damage_s > self._threshold_s

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        p = self._parameters
        activation = arrhenius(p.activation_energy_eV, temperature_K, p.reference_temperature_K)
        relative = max(pressure_Pa, p.least_pressure_Pa) / p.reference_pressure_Pa
        pressed = relative**p.pressure_exponent
        self.critical_A_per_m2 = p.critical_current_A_per_m2 * activation * pressed

    def advance(
        self, time_s: float, duration_s: float, local_A_per_m2: float, plated_C_per_m2: float
    ) -> None:
        """Advance by a step that ends at `time_s`, under a local plating current density."""
        stress = local_A_per_m2 / self.critical_A_per_m2
        if local_A_per_m2 > 0.0:
            capacity = plated_C_per_m2 / self._parameters.critical_areal_capacity_C_per_m2
            stress = max(stress, capacity)
        self.stressed = stress > 1.0
        if not self.stressed:
            self.sag = 0.0
            self._level_until_s = time_s
            return
        self._damage_s += (stress - 1.0) ** 2 * duration_s
        self.grown_S_per_m2 += (
            self._parameters.shunt_growth_S_per_m2_s * (stress - 1.0) * duration_s
        )
        self._flicker(time_s)

    def _flicker(self, time_s: float) -> None:
        """Draw how far the voltage sags: a level that holds for a while, and noise upon it."""
        if time_s >= self._level_until_s:
            self._level = self._stream.uniform(_SHALLOWEST_SAG, _DEEPEST_SAG)
            self._level_until_s = time_s + self._stream.expovariate(1.0 / _LEVEL_LASTS_S)
        drift = _SAG_BY_DAMAGE * min(1.0, self._damage_s / self._threshold_s)
        sag = self._level + drift + self._stream.gauss(0.0, _FLICKER)
        self.sag = self._parameters.flicker * min(max(sag, 0.0), _SAG_LIMIT)


class Collapse(Stateful):
    """A short that forms in a few steps within a minute or so and stays."""

    def __init__(self, parameters: Shorts, stream: random.Random) -> None:
        low = math.log(parameters.short_resistance_from_Ohm)
        high = math.log(parameters.short_resistance_to_Ohm)
        self._final_S = math.exp(-stream.uniform(low, high))
        self._waits_s = [stream.uniform(4.0, 15.0) for _ in range(stream.randint(2, 4))]
        self._done = 0
        self._next_s = math.inf
        self.conductance_S = 0.0

    @property
    def begun(self) -> bool:
        """Whether the cell has started to collapse."""
        return self._done > 0

    @property
    def under_way(self) -> bool:
        """Whether steps are still to come."""
        return self.begun and self._done <= len(self._waits_s)

    def advance(self, time_s: float, *, due: bool) -> None:
        """Take the step that falls into the interval that ends at `time_s`."""
        if not self.begun and due:
            self._next_s = time_s
        while time_s >= self._next_s:
            self._take_step()

    def _take_step(self) -> None:
        steps = len(self._waits_s) + 1
        wait_s = self._waits_s[self._done] if self._done < len(self._waits_s) else math.inf
        self._done += 1
        self._next_s += wait_s
        self.conductance_S = self._final_S * (self._done / steps) ** 2


class Shunt(Stateful):
    """The electronic path beside the ions: leakage, soft contacts that flicker, the hard short."""

    def __init__(self, parameters: Shorts, seed: int, area_m2: float) -> None:
        self._area_m2 = area_m2
        self._leakage_S_per_m2 = parameters.leakage_S_per_m2
        self._opens_C_per_m2 = parameters.leakage_opens_C_per_m2
        self._open = 0.0 if self._opens_C_per_m2 else 1.0
        self._flickers = parameters.dendrites.flicker > 0.0
        self.creep = Creep(parameters.creep, random_stream(seed, "creep short"))
        self.dendrites = DendriteGrowth(parameters.dendrites, random_stream(seed, "dendrites"))
        self.collapse = Collapse(parameters, random_stream(seed, "collapse"))

    @property
    def restless(self) -> bool:
        """Whether the coming minute may change it, so that the grid should be fine."""
        return self.creep.rate_per_s > 1e-4 or self.collapse.under_way

    @property
    def sagging(self) -> bool:
        """Whether soft contacts take part of the current, in proportion to the ions' path."""
        return self.dendrites.sag > 0.0

    @property
    def stressed(self) -> bool:
        """Whether lithium grows and flickers, so that the grid must not be coarse."""
        return self.dendrites.stressed and self._flickers

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        self.creep.refresh(pressure_Pa)
        self.dendrites.refresh(pressure_Pa, temperature_K)

    def advance(
        self, time_s: float, duration_s: float, local_A_per_m2: float, plated_C_per_m2: float
    ) -> None:
        """Advance by a step that ends at `time_s`, under a local plating current density."""
        if self._open < 1.0:
            self._open = max(self._open, min(1.0, plated_C_per_m2 / self._opens_C_per_m2))
        self.creep.advance(duration_s)
        self.dendrites.advance(time_s, duration_s, local_A_per_m2, plated_C_per_m2)
        self.collapse.advance(time_s, due=self.creep.due or self.dendrites.due)

    def conductance_S(self, ionic_Ohm: float) -> float:
        """Return the conductance beside an ionic path of the given d.c. resistance."""
        sag = self.dendrites.sag
        soft_S = sag / ((1.0 - sag) * ionic_Ohm)
        leakage_S_per_m2 = self._leakage_S_per_m2 * self._open
        steady = (leakage_S_per_m2 + self.dendrites.grown_S_per_m2) * self._area_m2
        return steady + self.collapse.conductance_S + soft_S
