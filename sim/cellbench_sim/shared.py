"""Instruments that serve several cells: leads on one at a time, a drive or the air of all.

Every cell lives in a world of its own, with its press and its chamber, so that what one of them
does never reaches another. An instrument that several cells share is told what to do once, and all
worlds that it serves are told so at that time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench_sim.leads import Leads
from cellbench_sim.physics.chamber import Chamber, ChamberSettings
from cellbench_sim.world import World

#: Between the nodes of the air's own grid, while a set point is approached and else.
_APPROACHING_S, _STEADY_S = 1.0, 60.0


class OnTwoCells(RuntimeError):
    """One instrument is connected to two cells."""


class SharedLeads:
    """The leads of one instrument that relays, or a person, bring to one of several cells.

    Args:
        ends: The leads at each cell.
    """

    def __init__(self, ends: Sequence[Leads]) -> None:
        self.ends = tuple(ends)

    @property
    def connected(self) -> bool:
        """Whether they are on one of the cells."""
        return any(end.connected for end in self.ends)

    @property
    def drives(self) -> bool:
        """Whether the instrument drives them."""
        return self._end.drives

    @property
    def cell_temperature_K(self) -> float:
        """Temperature of the cell that they are on; of the first while they hang in the air."""
        return self._end.cell_temperature_K

    def advance_to(self, time_s: float) -> None:
        """Let the cell that they are on live until ``time_s``."""
        if self.connected:
            self._end.advance_to(time_s)

    def open_circuit(self) -> None:
        """Drive nothing."""
        for end in self.ends:
            end.open_circuit()

    def apply_current(self, current_A: float) -> None:
        """Drive a current."""
        for end in self.ends:
            end.apply_current(current_A)

    def apply_voltage(self, voltage_V: float) -> None:
        """Hold a voltage."""
        for end in self.ends:
            end.apply_voltage(voltage_V)

    def terminals(self) -> tuple[float, float]:
        """Return voltage and current (V, A): of the cell, or of open wires."""
        return self._end.terminals()

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the impedance (Ohm) of the cell, or of open wires."""
        return self._end.impedance(frequency_Hz)

    @property
    def _end(self) -> Leads:
        on = [end for end in self.ends if end.connected]
        if len(on) > 1:
            raise OnTwoCells("one instrument is connected to two cells")
        return on[0] if on else self.ends[0]


class InStep:
    """Parts that obey one command: all are told, the first of them is read.

    Args:
        parts: Of one class.
        before: What is done before any of them is told.
    """

    def __init__(self, parts: Sequence[object], before: Callable[[], None]) -> None:
        vars(self).update(_parts=tuple(parts), _before=before)

    def __getattr__(self, name: str) -> Any:
        parts, before = vars(self)["_parts"], vars(self)["_before"]
        found = getattr(parts[0], name)
        if not callable(found):
            return found

        def told(*args: Any, **options: Any) -> None:
            before()
            for part in parts:
                getattr(part, name)(*args, **options)

        return told

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)["_before"]()
        for part in vars(self)["_parts"]:
            setattr(part, name, value)


class SharedWorlds:
    """Several worlds as a press or a gauge acts on them: one line to a ram at each cell.

    What is read is read at the first.

    Args:
        worlds: Those that it serves.
    """

    def __init__(self, worlds: Sequence[World]) -> None:
        self._worlds = tuple(worlds)
        self.press = InStep([world.press for world in worlds], lambda: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_worlds"][0], name)

    def advance_to(self, time_s: float) -> None:
        """Let all of them live until ``time_s``."""
        for world in self._worlds:
            world.advance_to(time_s)


class SharedAir:
    """The chamber that worlds stand in, as its controller sees it.

    Its air keeps to a grid of its own, so that what is read of it hangs on none of them.

    Args:
        worlds: Those that stand in it.
        settings: As of theirs.
        seed: Of the room around it, as of theirs.
    """

    def __init__(self, worlds: Sequence[World], settings: ChamberSettings, seed: int) -> None:
        self._worlds = tuple(worlds)
        self._air = Chamber(settings, seed, self._settle)
        self._time_s = self._committed_s = 0.0
        self.chamber = InStep([self._air, *(world.chamber for world in worlds)], self._bring_all)

    def advance_to(self, time_s: float) -> None:
        """Let the air go on until ``time_s``; the worlds follow when somebody acts on them."""
        while (node_s := self._next_node_s()) <= time_s:
            self._commit(node_s)
        self._time_s = time_s

    @property
    def air_temperature_K(self) -> float:
        """Temperature of the air."""
        return self._air.air_temperature_K

    @property
    def cell_temperature_K(self) -> float:
        """Temperature of a stack that stands in it."""
        return self._air.stack_temperature_K

    def _bring_all(self) -> None:
        for world in self._worlds:
            world.advance_to(self._time_s)

    def _settle(self) -> None:
        if self._time_s > self._committed_s:
            self._commit(self._time_s)

    def _commit(self, time_s: float) -> None:
        self._air.advance(time_s, time_s - self._committed_s)
        self._committed_s = time_s

    def _next_node_s(self) -> float:
        step_s = _APPROACHING_S if self._air.changing else _STEADY_S
        return (self._committed_s // step_s + 1.0) * step_s
