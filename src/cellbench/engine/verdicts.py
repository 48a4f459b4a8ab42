"""What the analyses that run along have found so far: shorts and irregular voltage.

The judging itself is the analysis floor's; this keeps the data that it needs in memory, for the
protocols that ask for it, and watches every spectrum for a short circuit in those that do not
foresee one.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from cellbench.analysis.dataset import Dataset, Geometry, Samples, Series, Spectrum, StepData
from cellbench.engine.trips import Trip
from cellbench.protocol.conditions import AllOf, AnyOf, Condition, Verdict, VerdictName
from cellbench.protocol.program import ForEachNode, GroupNode, IfNode, Node, RepeatNode


def foresees_short(nodes: Sequence[Node]) -> bool:
    """Whether a protocol expects its cell to short: a loop of it ends on ``short``."""
    for node in nodes:
        match node:
            case ForEachNode() | RepeatNode():
                if any("short" in each for each in node.until):
                    return True
                if foresees_short(node.nodes):
                    return True
            case GroupNode():
                if foresees_short(node.nodes):
                    return True
            case IfNode():
                if foresees_short((*node.nodes, *node.otherwise)):
                    return True
            case _:
                pass
    return False


def asks_for_verdict(condition: Condition) -> bool:
    """Whether a condition depends on a verdict."""
    match condition:
        case Verdict():
            return True
        case AnyOf(conditions) | AllOf(conditions):
            return any(asks_for_verdict(each) for each in conditions)
        case _:
            return False


class Verdicts:
    """The data so far, and the verdict on it.

    Args:
        geometry: The card's sizes.
        short_foreseen: Whether a short is an end that the protocol expects; else it is a trip.
    """

    def __init__(self, geometry: Geometry, *, short_foreseen: bool) -> None:
        self._geometry = geometry
        self._short_foreseen = short_foreseen
        self._columns = (array("d"), array("d"), array("d"))
        self._temperature: list[tuple[float, float]] = []
        self._steps: list[StepData] = []
        self._spectra: list[Spectrum] = []
        self._found: dict[VerdictName, bool] = {}

    def row(self, time_s: float, voltage_V: float, current_A: float) -> None:
        """Keep one row of the channel, where a verdict may be asked for."""
        if self._short_foreseen:
            time_column, voltage_column, current_column = self._columns
            time_column.append(time_s)
            voltage_column.append(voltage_V)
            current_column.append(current_A)

    def step_ended(self, step: StepData, temperature_K: float | None) -> None:
        """Take note of a finished step."""
        self._steps.append(step)
        if temperature_K is not None:
            self._temperature.append((step.end_s, temperature_K))
        self._found.clear()

    def spectrum(self, spectrum: Spectrum) -> None:
        """Take note of a spectrum.

        Raises:
            Trip: It shows a short circuit that the protocol does not foresee.
        """
        from cellbench.analysis.half_cycle import spectrum_shows_short  # noqa: PLC0415

        sound = self._spectra[-1] if self._spectra else None
        self._found.clear()
        self._spectra.append(spectrum)
        if sound is None or self._short_foreseen:
            return
        if spectrum_shows_short(spectrum, sound):
            raise Trip("cell", _short_text(spectrum, sound))

    def holds(self, name: VerdictName) -> bool:
        """Whether the analysis finds ``short`` or ``irregular`` in the data so far."""
        if name not in self._found:
            self._judge()
        return self._found[name]

    def _judge(self) -> None:
        from cellbench.analysis import ccd  # noqa: PLC0415 (scipy, which other protocols spare)

        dataset = self._dataset()
        if not any(step.kind == "current" for step in dataset.steps):
            self._found = {"short": False, "irregular": False}
            return
        result = ccd.analyse(dataset)
        self._found = {
            "short": result["short_at_mA_cm2"] is not None,
            "irregular": result["irregular_at_mA_cm2"] is not None,
        }

    def _dataset(self) -> Dataset:
        temperature = np.array(self._temperature).reshape(-1, 2)
        # Copies: an array that numpy looks into cannot grow.
        time_s, voltage_V, current_A = (np.array(column) for column in self._columns)
        return Dataset(
            self._geometry,
            tuple(self._steps),
            Samples(
                time_s,
                voltage_V,
                current_A,
                temperature=Series(temperature[:, 0], temperature[:, 1]),
            ),
            tuple(self._spectra),
        )


def _short_text(spectrum: Spectrum, sound: Spectrum) -> str:
    pressure = ""
    if spectrum.stack_pressure_Pa is not None:
        pressure = f" at {spectrum.stack_pressure_Pa / 1e6:.3g} MPa"
    return (
        f"short circuit{pressure}: the real part of the spectrum fell to "
        f"{spectrum.impedance_ohm.real.min():.3g} ohm (it was "
        f"{sound.impedance_ohm.real.min():.3g} ohm) and its arc is gone"
    )
