"""A cell whose cathode PyBaMM solves, in look-ahead stretches of minutes.

At a given current or voltage the solver runs ahead of the state, by ten seconds at first and up to
ten minutes, and samples are read from what it found. A new set point, a noticeable change of
temperature or (at constant voltage) of the series resistance discards the rest and starts again
from the state of that moment. Where a stretch ends depends on the demand alone, so that how often
the cell is looked at changes nothing.

Separator and lithium are those of the reduced model, stack pressure and all, and stand in series as
one resistance; their arcs (well below a millisecond) appear in spectra, not in time. What is left
out: leakage, shorts, ageing of the cathode, contact loss, electronic conduction of the electrolyte.
"""

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.physics.lithium import Lithium
from cellbench_sim.physics.look_ahead import Array, LookAhead
from cellbench_sim.physics.model import Demand
from cellbench_sim.physics.pybamm_half_cell import Circuit, PybammHalfCell
from cellbench_sim.physics.separator import Separator
from cellbench_sim.physics.state import Stateful
from cellbench_sim.presets.electrodes import LithiumElectrode, PybammElectrode
from cellbench_sim.presets.schema import CellPreset

_FIRST_S, _LONGEST_S = 10.0, 600.0
_NOTICEABLE_K = 0.02
_NOTICEABLE = 1e-3
_LONG_STEP_S = 10.0


class PybammCell(Stateful):
    """The electrical whole, behind the same interface as the reduced model.

    Args:
        preset: The cell; its separator and counter electrode.
        working: What PyBaMM models.
        counter: The lithium.

    Raises:
        InputError: PyBaMM is not installed, or does not know what the preset names.
    """

    def __init__(
        self, preset: CellPreset, working: PybammElectrode, counter: LithiumElectrode
    ) -> None:
        self.name = preset.name
        self.separator = Separator(preset)
        self.area_m2 = self.separator.area_m2
        # A solver's course is read between the nodes of the grid as well as at them.
        self.bends_per_s = 0.0
        self.counter = Lithium(counter, self.area_m2)
        self._swelling = working.swelling_m_per_C_per_m2 / self.area_m2
        self._half_cell = PybammHalfCell(working, self.area_m2)
        self._state = self._half_cell.fresh
        self._begun_s = 0.0
        self._elapsed_s = 0.0
        self._demand: Demand = "open"
        self._demanded = 0.0
        self._temperature_K = counter.interface.reference_temperature_K
        self._series_Ohm = self.resistance_Ohm
        self._ahead: tuple[LookAhead, ...] = ()

    @property
    def resistance_Ohm(self) -> float:
        """Resistance in series with the cathode: separator and lithium, under their pressure."""
        return self.separator.resistance_Ohm + self.counter.resistance_Ohm

    @property
    def charge_C(self) -> float:
        """Charge that has passed since the cell was fresh, positive where it was charged."""
        return self._half_cell.charge_C(self._present())

    @property
    def thickness_m(self) -> float:
        """Thickness of both electrodes, up to a constant."""
        return self._swelling * self.charge_C + self.counter.thickness_m

    @property
    def restless(self) -> bool:
        """Whether current may flow."""
        return self._demand != "open"

    @property
    def longest_step_s(self) -> float:
        """The step that brings the lithium no more than a step may; the cathode is solved."""
        return 1.0 / max(self.counter.unrest_per_s, 1.0 / _LONG_STEP_S)

    def demand(self, kind: Demand, value: float) -> None:
        """Impose on the terminals, from now on: nothing, a current (A) or a voltage (V)."""
        self._restart()
        self._demand, self._demanded = kind, value

    def refresh(self, pressure_Pa: float, temperature_K: float) -> None:
        """Take up the present stack pressure and temperature."""
        self.separator.refresh(pressure_Pa, temperature_K)
        self.counter.refresh(pressure_Pa, temperature_K)
        if abs(temperature_K - self._temperature_K) > _NOTICEABLE_K:
            self._restart()
            self._temperature_K = temperature_K
        self._follow_resistance()

    def terminals_after(self, duration_s: float) -> tuple[float, float]:
        """Return voltage and current (V, A) a while after the last step, changing nothing."""
        time_s = self._elapsed_s + duration_s
        voltage_V, current_A = self._stretch(time_s).terminals(time_s)
        if self._demand == "voltage":
            return self._demanded, current_A
        return voltage_V + self.resistance_Ohm * self._demanded, self._demanded

    def advance(self, time_s: float, duration_s: float) -> None:  # noqa: ARG002
        """Advance everything by a step, under the present demand."""
        before_C = self.charge_C
        self._elapsed_s += duration_s
        current_A = (self.charge_C - before_C) / duration_s
        self._let_go()
        self.separator.advance(duration_s, current_A)
        self.counter.advance(duration_s, -current_A / self.counter.area_m2)
        self._follow_resistance()

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) about the present state."""
        omega = 2.0 * np.pi * frequency_Hz
        series = self.separator.impedance(omega) + self.counter.impedance(omega)
        return series + self._half_cell.impedance(self._present(), self._circuit(), omega)

    def restore(self, state: dict[str, object]) -> None:
        """Put back what `snapshot` returned; what was found ahead is found again."""
        super().restore(state)
        self._ahead = ()

    def _present(self) -> Array:
        return self._stretch(self._elapsed_s).state(self._elapsed_s)

    def _stretch(self, time_s: float) -> LookAhead:
        """Return the stretch that holds a time since the demand, solving as far as it takes."""
        if not self._ahead:
            self._ahead = (self._solved(self._begun_s, self._state),)
        while (last := self._ahead[-1]).end_s < time_s and not last.spent:
            self._ahead += (self._solved(last.end_s, last.state(last.end_s).tolist()),)
        return next((each for each in self._ahead if time_s <= each.end_s), last)

    def _solved(self, begin_s: float, state: list[float]) -> LookAhead:
        horizon_s = min(_LONGEST_S, max(_FIRST_S, begin_s))
        return self._half_cell.solve(begin_s, state, self._circuit(), horizon_s)

    def _circuit(self) -> Circuit:
        by = self._demand if self._demand != "open" else "current"
        set_point = self._demanded if self._demand != "open" else 0.0
        return Circuit(by, set_point, self._series_Ohm, self._temperature_K)

    def _let_go(self) -> None:
        """Forget the stretches that lie behind."""
        while len(self._ahead) > 1 and self._ahead[0].end_s < self._elapsed_s:
            behind, self._ahead = self._ahead[0], self._ahead[1:]
            self._begun_s = behind.end_s
            self._state = behind.state(behind.end_s).tolist()

    def _restart(self) -> None:
        """Discard what lies ahead and begin again, from the state of this moment."""
        self._state = self._present().tolist()
        self._begun_s = self._elapsed_s = 0.0
        self._ahead = ()

    def _follow_resistance(self) -> None:
        """At constant voltage, a noticeable change of the series resistance changes the current."""
        resistance_Ohm = self.resistance_Ohm
        if abs(resistance_Ohm - self._series_Ohm) <= _NOTICEABLE * self._series_Ohm:
            return
        if self._demand == "voltage":
            self._restart()
        self._series_Ohm = resistance_Ohm
