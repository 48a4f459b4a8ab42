"""What the analyses that run along have found so far: shorts and irregular voltage.

The judging itself is the analysis floor's; this keeps the data that it needs in memory, for the
protocols that ask for it, and watches every spectrum for a short circuit in those that do not
foresee one.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from cellbench.analysis.dataset import Dataset, Geometry, Samples, Series, Spectrum, StepData
from cellbench.analysis.half_cycle import DEFAULT, spectrum_proves_short, spectrum_shows_short
from cellbench.analysis.warming import warming
from cellbench.engine.trips import Trip
from cellbench.protocol.bodies import ChannelBody, WaitBody
from cellbench.protocol.conditions import VerdictName
from cellbench.protocol.program import (
    ForEachNode,
    GroupNode,
    IfNode,
    Node,
    RepeatNode,
    StepNode,
)


def foresees(nodes: Sequence[Node], verdict: VerdictName) -> bool:
    """Whether a protocol expects a verdict: a loop or a step of it ends on it."""
    return any(_expects(node, verdict) for node in nodes)


def _expects(node: Node, verdict: VerdictName) -> bool:
    match node:
        case ForEachNode() | RepeatNode():
            return any(verdict in each for each in node.until) or foresees(node.nodes, verdict)
        case GroupNode():
            return foresees(node.nodes, verdict)
        case IfNode():
            return foresees((*node.nodes, *node.otherwise), verdict)
        case StepNode(body=ChannelBody() | WaitBody() as body):
            ends = (*body.until, *(body.stop_if if isinstance(body, ChannelBody) else ()))
            return any(verdict in each for each in ends)
    return False


#: Half-cycles that a verdict looks back to, besides what came before the first one.
HALF_CYCLES_KEPT = 24
#: No row below this part of the electrolyte's resistance: no short in a half-cycle.
_SOUND = 0.9
#: No spectrum that ends below this multiple of it: no short proven by a spectrum. A bridge that
#: takes a quarter off the electrolyte leaves three times of it at most; the cell may have cooled.
_SOUND_SPECTRUM = 4.0


class Verdicts:
    """The data so far, and the verdict on it.

    Args:
        geometry: The card's sizes.
        nodes: The protocol's. Where it does not expect a short, a spectrum that shows one is a
            trip; where it asks for no verdict, no data are kept for one.
    """

    def __init__(self, geometry: Geometry, nodes: Sequence[Node]) -> None:
        self._geometry = geometry
        self._short_foreseen = foresees(nodes, "short")
        self._irregular_asked = foresees(nodes, "irregular")
        self._asked = self._short_foreseen or self._irregular_asked
        self._sound_ohm: float | None = None
        self._offset_V = 0.0
        self._judged_s = -math.inf
        self._columns: tuple[array[float], ...] = (array("d"), array("d"), array("d"))
        self._temperature: list[tuple[float, float]] = []
        self._steps: list[StepData] = []
        self._spectra: list[Spectrum] = []
        self._found: dict[VerdictName, bool] = {}
        self._before: dict[VerdictName, bool] = {"short": False, "irregular": False}

    def restore(self, dataset: Dataset) -> None:
        """Take in what was kept of a run that is gone on with."""
        self._spectra.extend(dataset.spectra if self._asked else dataset.spectra[-1:])
        if not self._asked:
            return
        samples = dataset.samples
        measured = ~np.isnan(samples.voltage_V)
        for column, values in zip(
            self._columns, (samples.time_s, samples.voltage_V, samples.current_A), strict=True
        ):
            column.extend(values[measured].tolist())
        for step in dataset.steps:
            if step.ending != "not ended":
                self.step_ended(step, samples.temperature.typical(step.start_s, step.end_s))

    def row(self, time_s: float, voltage_V: float, current_A: float) -> None:
        """Keep one row of the channel, where a verdict may be asked for."""
        if self._asked:
            time_column, voltage_column, current_column = self._columns
            time_column.append(time_s)
            voltage_column.append(voltage_V)
            current_column.append(current_A)

    def step_ended(self, step: StepData, temperature_K: float | None) -> None:
        """Take note of a finished step."""
        if not self._asked:
            return
        self._steps.append(step)
        if temperature_K is not None:
            self._temperature.append((step.end_s, temperature_K))
        self._found.clear()
        if sum(step.kind == "current" for step in self._steps) > 2 * HALF_CYCLES_KEPT:
            self._forget()

    def _forget(self) -> None:
        """Keep what came before the first half-cycle, and the latest half-cycles."""
        self._before = {name: self.holds(name) for name in self._before}
        currents = [step for step in self._steps if step.kind == "current"]
        head_s, tail_s = currents[0].start_s, currents[-HALF_CYCLES_KEPT].start_s

        def kept(time_s: float) -> bool:
            return time_s < head_s or time_s >= tail_s

        times = self._columns[0]
        head, tail = bisect_left(times, head_s), bisect_left(times, tail_s)
        self._columns = tuple(column[:head] + column[tail:] for column in self._columns)
        self._steps = [step for step in self._steps if kept(step.start_s)]
        self._spectra = [each for each in self._spectra if kept(each.time_s)]
        self._temperature = [row for row in self._temperature if kept(row[0])]
        self._found.clear()

    def spectrum(self, spectrum: Spectrum) -> None:
        """Take note of a spectrum.

        Raises:
            Trip: It shows a short circuit that the protocol does not foresee.
        """
        sound = self._spectra[-1] if self._spectra else None
        self._found.clear()
        if not self._asked:
            self._spectra.clear()
        self._spectra.append(spectrum)
        if sound is None or self._short_foreseen or self._geometry.layout == "blocking":
            return
        if _shows_short(spectrum, sound):
            raise Trip("cell", _short_text(spectrum, sound))

    def holds(self, name: VerdictName) -> bool:
        """Whether the analysis finds ``short`` or ``irregular`` in the data so far."""
        if name not in self._found:
            self._judge()
        return self._found[name] or self._before[name]

    def _judge(self) -> None:
        from cellbench.analysis import ccd  # noqa: PLC0415 (scipy, which other protocols spare)

        if self._plainly_sound():
            self._judged_s = self._steps[-1].end_s
            self._found = {"short": False, "irregular": False}
            return
        dataset = self._dataset()
        if not any(step.kind == "current" for step in dataset.steps):
            self._found = {"short": False, "irregular": False}
            return
        result = ccd.analyse(dataset)
        self._judged_s = self._steps[-1].end_s
        self._sound_ohm = result["R_electrolyte_ohm"]
        self._offset_V = result["offset_V"] or 0.0
        self._found = {
            "short": result["short_at_mA_cm2"] is not None,
            "irregular": result["irregular_at_mA_cm2"] is not None,
        }

    def _plainly_sound(self) -> bool:
        """Whether nothing since the last judgement comes near a short: that spares the analysis.

        A short is an apparent resistance below half of the electrolyte's, or a spectrum that shows
        less than the electrolyte's.
        """
        if self._sound_ohm is None or self._irregular_asked:
            return False
        newest = self._spectra[-1] if self._spectra else None
        if newest is not None and newest.time_s >= self._judged_s:
            _, impedance_ohm = newest.descending()
            if np.median(impedance_ohm.real[-3:]) < _SOUND_SPECTRUM * self._sound_ohm:
                return False
        first = bisect_left(self._columns[0], self._judged_s)
        _, voltage_V, current_A = (np.array(column[first:]) for column in self._columns)
        driven = current_A != 0
        apparent_V = np.abs(voltage_V[driven] - self._offset_V)
        return bool(np.all(apparent_V > _SOUND * self._sound_ohm * np.abs(current_A[driven])))

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


def _shows_short(spectrum: Spectrum, sound: Spectrum) -> bool:
    """Whether a spectrum shows a short circuit against the one before.

    Interfaces may lose any part of their resistance (a charge transfer does, from an empty cathode
    to a half-full one); less than the electrolyte's own is left by a short alone, at the low end of
    the spectrum or at the high one.
    """
    # The fit needs scipy, which protocols without spectra spare.
    from cellbench.analysis.equivalents import electrolyte_resistance_ohm  # noqa: PLC0415

    if not spectrum_shows_short(spectrum, sound):
        return False
    warmer = warming(sound.temperature_K, spectrum.temperature_K)
    if spectrum_proves_short(spectrum, sound, warmer):
        return True
    electrolyte_ohm = electrolyte_resistance_ohm(sound)
    if electrolyte_ohm is None:
        electrolyte_ohm = float(sound.descending()[1].real[0])
    _, impedance_ohm = spectrum.descending()
    left_ohm = float(np.median(impedance_ohm.real[-3:]))
    return left_ohm < DEFAULT.electrolyte * electrolyte_ohm * warmer


def _short_text(spectrum: Spectrum, sound: Spectrum) -> str:
    pressure = ""
    if spectrum.stack_pressure_Pa is not None:
        pressure = f" at {spectrum.stack_pressure_Pa / 1e6:.3g} MPa"
    return (
        f"short circuit{pressure}: the real part of the spectrum fell to "
        f"{spectrum.impedance_ohm.real.min():.3g} ohm (it was "
        f"{sound.impedance_ohm.real.min():.3g} ohm) and its arc is gone"
    )
