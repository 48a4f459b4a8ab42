"""A cell: two electrodes, the separator between them, and the electronic path beside the ions.

Terminal voltage = working minus counter potential, plus the drop over everything ionic in series;
the shunt lies across all of it. A step under a steady demand is solved at its end: every relaxing
part is `voltage + resistance * current` there, exactly, so that no step is too long for a fast
part; what is curved (kinetics, the potentials of electrodes) is solved for.

Under a steady voltage the current is steady through a step as well: its charge is of first order in
the step, too little where the current falls. While the current changes, a step is therefore taken
in two parts, as the two stages of a diagonally implicit Runge-Kutta method that is of second order
and damps what is fast (Alexander, SIAM J. Numer. Anal. 14, 1006, 1977).
"""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.carbon import Carbon
from cellbench_sim.physics.cathode import Cathode
from cellbench_sim.physics.copper import Copper
from cellbench_sim.physics.electrode import Electrode
from cellbench_sim.physics.indium import Indium
from cellbench_sim.physics.lithium import Lithium
from cellbench_sim.physics.model import Demand
from cellbench_sim.physics.pellet import Pellet
from cellbench_sim.physics.polarisation import AddedPolarisation
from cellbench_sim.physics.separator import Separator
from cellbench_sim.physics.shorts import Shunt
from cellbench_sim.physics.state import Stateful
from cellbench_sim.physics.steel import Steel
from cellbench_sim.presets.cathode import CathodeElectrode
from cellbench_sim.presets.electrodes import (
    CarbonElectrode,
    CopperElectrode,
    ElectrodeParameters,
    IndiumElectrode,
    LithiumElectrode,
    PybammElectrode,
)
from cellbench_sim.presets.schema import CellPreset

_MOST_ITERATIONS = 60
_SOLVED_WITHIN = 1e-12
_SOLVED_WITHIN_A = 1e-16
# At a constant voltage, the most that the current may change in a step, and in one of a single
# part: what that one leaves out of the charge is half the change.
_CURRENT_STEP = 0.03
_SINGLE_STEP = 1e-3
_LEAST_CURRENT_STEP_A = 1e-10
# The second of two parts, and how far either part looks ahead for its current.
_LATER = 1.0 - math.sqrt(0.5)


class Cell(Stateful):
    """The electrical whole. Positive current is oxidation at the working electrode.

    `passed_C` is the charge that has passed the terminals since the beginning.
    """

    def __init__(self, preset: CellPreset, seed: int) -> None:
        self.name = preset.name
        self.separator = Separator(preset)
        self.area_m2 = self.separator.area_m2
        self.working = _electrode(preset.working, self.area_m2)
        self.counter = _electrode(preset.counter, self.area_m2)
        self.polarisation = AddedPolarisation(preset.added_resistance, self.area_m2)
        straight = not self.working.curved and not self.counter.curved
        self._added = self.polarisation.drop if straight else self._curved
        self.shunt = Shunt(preset.shorts, seed, self.area_m2) if preset.shorts else None
        self._demand: Demand = "open"
        self._demanded = 0.0
        self._electronic_S = 0.0
        self._shunt_S = 0.0
        self._ionic_A = 0.0
        self._unrest_per_s = 1.0
        self.bends_per_s = 0.0
        self.passed_C = 0.0
        self.voltage_V = self.working.potential_V - self.counter.potential_V
        self.current_A = 0.0

    @property
    def pellet(self) -> Pellet:
        """The separator's layer at the working electrode."""
        return self.separator.pellet

    @property
    def thickness_m(self) -> float:
        """Thickness of both electrodes, up to a constant."""
        return self.working.thickness_m + self.counter.thickness_m

    @property
    def restless(self) -> bool:
        """Whether the coming minute may change the cell, so that the grid should be fine."""
        return self._demand != "open" or (self.shunt is not None and self.shunt.restless)

    @property
    def longest_step_s(self) -> float:
        """The step that would bring as much as a step may; 0 where it must be a short one."""
        if self.shunt is not None and (self.shunt.restless or self.shunt.stressed):
            return 0.0
        return 1.0 / self._unrest_per_s if self._unrest_per_s else math.inf

    def demand(self, kind: Demand, value: float) -> None:
        """Impose on the terminals, from now on: nothing, a current (A) or a voltage (V)."""
        self._demand, self._demanded = kind, value
        self.separator.disturb()
        self.working.disturb()
        self.counter.disturb()
        self.voltage_V, self.current_A, self._ionic_A = self._solve(0.0)
        self._unrest_per_s = 1.0
        self.bends_per_s = math.inf

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        self.separator.refresh(pressure_Pa, temperature_K)
        self.working.refresh(pressure_Pa, temperature_K)
        self.counter.refresh(pressure_Pa, temperature_K)
        self.polarisation.refresh(pressure_Pa)
        self._electronic_S = self.separator.electronic_conductance_S
        if self.shunt is not None:
            self.shunt.refresh(pressure_Pa, temperature_K)
        self._set_shunt()

    def terminals_after(self, duration_s: float) -> tuple[float, float]:
        """Return voltage and current (V, A) a while after the last step, changing nothing."""
        if duration_s == 0.0:
            return self.voltage_V, self.current_A
        bends = (
            self._demand == "voltage" and _SINGLE_STEP < self.bends_per_s * duration_s < math.inf
        )
        if not bends:
            voltage_V, current_A, _ = self._solve(duration_s)
            return voltage_V, current_A
        # Twice as far as half the way (the implicit midpoint rule): of second order as well.
        voltage_V, half_way_A, _ = self._solve(0.5 * duration_s)
        return voltage_V, 2.0 * half_way_A - self.current_A

    def advance(self, time_s: float, duration_s: float) -> None:
        """Advance everything by a step that ends at `time_s`, under the present demand."""
        before_A = self._ionic_A
        last_s = duration_s
        if self._demand == "voltage" and self.bends_per_s * duration_s > _SINGLE_STEP:
            last_s = _LATER * duration_s
            self._pass(duration_s - last_s, last_s)
        self._pass(last_s, last_s)
        self._note_unrest(duration_s, abs(self._ionic_A - before_A))
        if self.shunt is not None:
            plating = self.counter if self._ionic_A > 0.0 else self.working
            # Whatever leaks beside the ions leaks through the growing lithium.
            local = 0.0
            if plating.plates:
                local = abs(self.current_A) / (plating.area_m2 * plating.plating_contact)
            self.shunt.advance(time_s, duration_s, local, plating.plated_C_per_m2)
            self._set_shunt()

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) about the present state."""
        omega = 2.0 * np.pi * frequency_Hz
        ionic = self.separator.impedance(omega) + self.polarisation.impedance(omega)
        ionic += self.working.impedance(omega) + self.counter.impedance(omega)
        result: NDArray[np.complex128] = ionic / (1.0 + self._shunt_S * ionic)
        return result

    def _pass(self, duration_s: float, ahead_s: float) -> None:
        """Pass, for a while, the current that meets the demand `ahead_s` from now."""
        self.voltage_V, self.current_A, ionic_A = self._solve(ahead_s)
        if ahead_s != duration_s:
            self._prepare(duration_s)
        self._ionic_A = ionic_A
        self.passed_C += self.current_A * duration_s
        self.separator.advance(duration_s, ionic_A)
        self.polarisation.relax(duration_s, ionic_A)
        self.working.advance(duration_s, ionic_A / self.working.area_m2)
        self.counter.advance(duration_s, -ionic_A / self.counter.area_m2)

    def _note_unrest(self, duration_s: float, change_A: float) -> None:
        """Find how fast the cell changes, over the most that a step may bring."""
        unrest_per_s = max(self.working.unrest_per_s, self.counter.unrest_per_s)
        if self._demand == "voltage":
            least_A = _LEAST_CURRENT_STEP_A / _CURRENT_STEP
            self.bends_per_s = change_A / (duration_s * (abs(self._ionic_A) + least_A))
            unrest_per_s = max(unrest_per_s, self.bends_per_s / _CURRENT_STEP)
        self._unrest_per_s = unrest_per_s

    def _set_shunt(self) -> None:
        self._shunt_S = self._electronic_S
        if self.shunt is not None:
            beside_Ohm = self._ionic_Ohm() if self.shunt.sagging else math.inf
            self._shunt_S += self.shunt.conductance_S(beside_Ohm)

    def _ionic_Ohm(self) -> float:
        electrodes_Ohm = self.working.resistance_Ohm + self.counter.resistance_Ohm
        return self.separator.resistance_Ohm + electrodes_Ohm + self.polarisation.resistance_Ohm

    def _solve(self, duration_s: float) -> tuple[float, float, float]:
        """Return voltage, current and ionic current (V, A, A) at the end of a step."""
        offset_V, resistance_Ohm = self._prepare(duration_s)
        if self._demand == "voltage":
            ionic_A, _ = self._balanced(0.0, 1.0, offset_V, resistance_Ohm, duration_s)
            return self._demanded, ionic_A + self._shunt_S * self._demanded, ionic_A
        ionic_A, voltage_V = self._balanced(
            1.0, self._shunt_S, offset_V, resistance_Ohm, duration_s
        )
        return voltage_V, self._demanded, ionic_A

    def _prepare(self, duration_s: float) -> tuple[float, float]:
        """Look at the end of a step; return the linear part of the voltage (V, Ohm)."""
        separator_V, separator_Ohm = self.separator.prepare(duration_s)
        working_V, working_Ohm = self.working.prepare(duration_s, self._ionic_A)
        counter_V, counter_Ohm = self.counter.prepare(duration_s, -self._ionic_A)
        offset_V = separator_V + working_V - counter_V
        return offset_V, separator_Ohm + working_Ohm + counter_Ohm

    def _balanced(
        self,
        per_ampere: float,
        per_volt: float,
        offset_V: float,
        resistance_Ohm: float,
        duration_s: float,
    ) -> tuple[float, float]:
        """Return ionic current I and voltage V where the demand is met, by Newton in a bracket.

        The demand is what `per_ampere` I + `per_volt` V comes to. Whatever is curved rises with
        current, so there is one solution.
        """
        demanded, current_A, added = self._demanded, self._ionic_A, self._added
        low_A, high_A = -math.inf, math.inf
        for _ in range(_MOST_ITERATIONS):
            added_V, slope_Ohm = added(duration_s, current_A)
            voltage_V = offset_V + resistance_Ohm * current_A + added_V
            excess = per_ampere * current_A + per_volt * voltage_V - demanded
            step_A = excess / (per_ampere + per_volt * (resistance_Ohm + slope_Ohm))
            if abs(step_A) <= _SOLVED_WITHIN * abs(current_A) + _SOLVED_WITHIN_A:
                break
            if excess > 0.0:
                high_A = current_A
            else:
                low_A = current_A
            current_A -= step_A
            if not low_A < current_A < high_A:
                current_A = 0.5 * (low_A + high_A)
        return current_A, voltage_V

    def _curved(self, duration_s: float, current_A: float) -> tuple[float, float]:
        """Return what the curved parts add to the voltage, and the slope (V, Ohm)."""
        added_V, slope_Ohm = self.polarisation.drop(duration_s, current_A)
        if self.working.curved:
            working_V, working_Ohm = self.working.potential(current_A)
            added_V, slope_Ohm = added_V + working_V, slope_Ohm + working_Ohm
        if self.counter.curved:
            counter_V, counter_Ohm = self.counter.potential(-current_A)
            added_V, slope_Ohm = added_V - counter_V, slope_Ohm + counter_Ohm
        return added_V, slope_Ohm


def _electrode(parameters: ElectrodeParameters, area_m2: float) -> Electrode:
    if isinstance(parameters, LithiumElectrode):
        return Lithium(parameters, area_m2)
    if isinstance(parameters, CathodeElectrode):
        return Cathode(parameters, area_m2)
    if isinstance(parameters, IndiumElectrode):
        return Indium(parameters, area_m2)
    if isinstance(parameters, CopperElectrode):
        return Copper(parameters, area_m2)
    if isinstance(parameters, CarbonElectrode):
        return Carbon(parameters, area_m2)
    if isinstance(parameters, PybammElectrode):
        raise TypeError("the reduced model has no cathode of PyBaMM's")
    return Steel(parameters, area_m2)
