"""The one physical thing behind the emulators: cell, press and chamber on one time grid."""

import math

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.leads import open_wire, open_wire_impedance
from cellbench_sim.physics.cell import Cell
from cellbench_sim.physics.chamber import Chamber, ChamberSettings
from cellbench_sim.physics.fixture import SERVO_PRESS, Fixture
from cellbench_sim.physics.model import CellModel, Demand
from cellbench_sim.physics.press import Press
from cellbench_sim.physics.state import Stateful
from cellbench_sim.presets.electrodes import LithiumElectrode, PybammElectrode
from cellbench_sim.presets.schema import CellPreset

_TICKS_PER_S = 10
_FINE, _NORMAL, _STEADY, _QUIET = 1, 10, 100, 600
#: So long after a change of what is imposed, what relaxes is looked at every 10 s at least.
_SETTLED_S = 300.0
_NOTICEABLE_PRESSURE = 5e-4
_NOTICEABLE_PRESSURE_PA = 10.0
_NOTICEABLE_K = 1e-3
# After a voltage has jumped by more than this (a staircase does not), the grid follows the decay of
# the current: steps this short at first, then such that the current changes by this much, and at
# most by this part of the time since the jump.
_JUMP_V = 0.01
_SHORTEST_S, _CHANGE_IN_STEP, _PART_OF_TIME = 1e-3, 0.1, 0.5


class World(Stateful):
    """Cell, fixture, press and chamber as one physical system on an absolute internal grid.

    State is committed at the nodes of the grid and at commands only; looking in between evaluates
    and commits nothing, so how often the world is looked at changes nothing. The grid is 1 s, 0.1 s
    while the press moves, 10 s while the cell's state changes slowly, 60 s where it changes very
    slowly, or rests at open circuit and nothing else is going on. After a jump of the voltage it
    starts at 1 ms and widens as the decay of the current slows down.

    The world knows the cell's truth (`cell`, a preset) and never what a card says about it. The
    preset's working electrode chooses the model behind it: the reduced one, or PyBaMM.
    Commands act at the current time. `polarity` -1 and `connected` False are wiring faults:
    reversed leads, a broken wire. The room around the chamber is the same in all worlds of one
    `room_seed`, which is the world's own where there is none.
    """

    def __init__(
        self,
        cell: CellPreset,
        *,
        seed: int,
        fixture: Fixture = SERVO_PRESS,
        chamber: ChamberSettings | None = None,
        room_seed: int | None = None,
    ) -> None:
        self.time_s = 0.0
        self._committed_s = 0.0
        self._next_tick = _FINE
        self._next_node_s = _FINE / _TICKS_PER_S
        self._demand: Demand = "open"
        self._demanded = 0.0
        self._imposed_s = 0.0
        self._jumped_s = math.inf
        self._polarity = 1
        self._connected = True
        self.model = _model(cell, seed)
        around = seed if room_seed is None else room_seed
        self.chamber = Chamber(chamber or ChamberSettings(), around, self._settle)
        self.press = Press(fixture, self._settle)
        self._fresh_thickness_m = self.model.thickness_m
        self._start_temperature_K = self.chamber.stack_temperature_K
        self._felt_pressure_Pa = -1.0
        self._felt_temperature_K = 0.0
        self._pass_on_conditions()

    def advance_to(self, time_s: float) -> None:
        """Go to an absolute time.

        Raises:
            ValueError: if the time lies in the past.
        """
        if time_s < self.time_s:
            raise ValueError(f"time runs forward: {time_s} s lies before {self.time_s} s")
        while self._next_node_s <= time_s:
            self._commit(self._next_node_s)
            self._plan_node(self._next_tick, self._stride())
        self.time_s = time_s

    def open_circuit(self) -> None:
        """Let no current flow."""
        self._impose("open", 0.0)

    def apply_current(self, current_A: float) -> None:
        """Impose a current; positive is oxidation at the electrode on the working lead."""
        self._impose("current", current_A)

    def apply_voltage(self, voltage_V: float) -> None:
        """Impose a voltage of the working against the counter lead."""
        if (self._demand, self._demanded) != ("voltage", voltage_V):
            jumps = abs(voltage_V - self.terminals()[0]) > _JUMP_V
            self._jumped_s = self.time_s if jumps else math.inf
        self._impose("voltage", voltage_V)

    def terminals(self) -> tuple[float, float]:
        """Return voltage and current (V, A) at the instrument's leads, now."""
        if not self._connected:
            return self._open_leads()
        voltage_V, current_A = self.model.terminals_after(self.time_s - self._committed_s)
        return self._polarity * voltage_V, self._polarity * current_A

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the small-signal impedance (Ohm) at the leads, at the present state and bias."""
        if not self._connected:
            return open_wire_impedance(frequency_Hz)
        return self.model.impedance(frequency_Hz)

    def force_N(self) -> float:
        """Return the force on the stack."""
        return self.press.force_N

    def stack_pressure_Pa(self) -> float:
        """Return the force over the area of the separator."""
        return self.press.force_N / self.model.area_m2

    @property
    def cell(self) -> Cell:
        """The reduced model, for whoever looks at its parts.

        Raises:
            TypeError: if another model stands in its place.
        """
        if not isinstance(self.model, Cell):
            raise TypeError(f"the cell is a {type(self.model).__name__}")
        return self.model

    @property
    def cell_temperature_K(self) -> float:
        """Temperature of the stack, which lags the air."""
        return self.chamber.stack_temperature_K

    @property
    def air_temperature_K(self) -> float:
        """Temperature of the air in the chamber."""
        return self.chamber.air_temperature_K

    @property
    def polarity(self) -> int:
        """1 as wired by the book, -1 with the leads reversed."""
        return self._polarity

    @polarity.setter
    def polarity(self, sign: int) -> None:
        if sign not in {1, -1}:
            raise ValueError(f"the polarity is 1 or -1, not {sign}")
        self._settle()
        self._polarity = sign
        self._pass_on_demand()

    @property
    def connected(self) -> bool:
        """Whether both leads reach the cell."""
        return self._connected

    @connected.setter
    def connected(self, connected: bool) -> None:
        self._settle()
        self._connected = connected
        self._pass_on_demand()

    def _impose(self, demand: Demand, value: float) -> None:
        if demand != "voltage":
            self._jumped_s = math.inf
        self._settle()
        self._demand, self._demanded, self._imposed_s = demand, value, self.time_s
        self._pass_on_demand()

    def _pass_on_demand(self) -> None:
        if self._connected:
            self.model.demand(self._demand, self._polarity * self._demanded)
        else:
            self.model.demand("open", 0.0)

    def _open_leads(self) -> tuple[float, float]:
        return open_wire(self._demand, self._demanded)

    def _settle(self) -> None:
        """Commit the state up to now, because a command is about to change its course."""
        if self.time_s > self._committed_s:
            self._commit(self.time_s)
        self._plan_node(math.floor(self.time_s * _TICKS_PER_S), _FINE)

    def _commit(self, time_s: float) -> None:
        duration_s = time_s - self._committed_s
        self._committed_s = time_s
        self.model.advance(time_s, duration_s)
        self.chamber.advance(time_s, duration_s)
        self.press.advance(
            duration_s,
            self.model.thickness_m - self._fresh_thickness_m,
            self.chamber.stack_temperature_K - self._start_temperature_K,
        )
        self._pass_on_conditions()

    def _pass_on_conditions(self) -> None:
        """Let the cell take up pressure and temperature where they have changed noticeably."""
        pressure_Pa = self.press.force_N / self.model.area_m2
        temperature_K = self.chamber.stack_temperature_K
        noticeable_Pa = _NOTICEABLE_PRESSURE * pressure_Pa + _NOTICEABLE_PRESSURE_PA
        if (
            abs(pressure_Pa - self._felt_pressure_Pa) > noticeable_Pa
            or abs(temperature_K - self._felt_temperature_K) > _NOTICEABLE_K
        ):
            self._felt_pressure_Pa, self._felt_temperature_K = pressure_Pa, temperature_K
            self.model.refresh(pressure_Pa, temperature_K)

    def _plan_node(self, tick: int, stride: int) -> None:
        """Choose the first multiple of `stride` after `tick` that lies after the committed time."""
        tick = (tick // stride + 1) * stride
        while tick / _TICKS_PER_S <= self._committed_s:
            tick += stride
        self._next_tick, self._next_node_s = tick, tick / _TICKS_PER_S
        if self._jumped_s <= self._committed_s:
            self._follow_decay(tick - stride)

    def _follow_decay(self, tick: int) -> None:
        """Put the next node earlier where the current still changes fast."""
        step_s = _PART_OF_TIME * (self._committed_s - self._jumped_s)
        step_s = max(_SHORTEST_S, min(step_s, _CHANGE_IN_STEP / (self.model.bends_per_s + 1e-12)))
        if self._committed_s + step_s < self._next_node_s:
            self._next_tick, self._next_node_s = tick, self._committed_s + step_s

    def _stride(self) -> int:
        if self.press.moving:
            return _FINE
        if self.chamber.changing:
            return _NORMAL
        if not self.model.restless:
            return _QUIET
        longest = self.model.longest_step_s * _TICKS_PER_S
        if longest >= _QUIET and self._committed_s - self._imposed_s >= _SETTLED_S:
            return _QUIET
        return _STEADY if longest >= _STEADY else _NORMAL


def _model(preset: CellPreset, seed: int) -> CellModel:
    working, counter = preset.working, preset.counter
    if isinstance(working, PybammElectrode) and isinstance(counter, LithiumElectrode):
        # What only these cells need is not loaded for the others.
        from cellbench_sim.physics.pybamm_cell import PybammCell  # noqa: PLC0415

        return PybammCell(preset, working, counter)
    return Cell(preset, seed)
