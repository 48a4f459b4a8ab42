"""Techniques: what a channel can be asked to do with a cell, as data.

One family of small frozen models. A protocol step resolves to one of them, the planner checks it,
the engine hands it to a driver, the journal records it, a report prints it. All numbers are at the
terminals and in SI units; positive current is oxidation at the working electrode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CutOff(_Data):
    """A crossing that ends a technique as intended, programmed into the instrument where it can.

    ``current`` is compared by magnitude (a taper current has no sign); ``voltage`` as it stands.
    """

    quantity: Literal["voltage", "current"]
    above: bool
    value: float
    after_s: NonNegativeFloat = 0.0


class ElectricalLimits(_Data):
    """What must never be exceeded at the terminals; a trip, not an end that was wished for."""

    voltage_min_V: float
    voltage_max_V: float
    current_max_A: PositiveFloat


class Rest(_Data):
    """Open circuit; the voltage is watched."""

    technique: Literal["rest"] = "rest"
    duration_s: PositiveFloat
    interval_s: PositiveFloat = 1.0
    cut_offs: tuple[CutOff, ...] = ()


class ConstantCurrent(_Data):
    """A constant current (chronopotentiometry)."""

    technique: Literal["constant current"] = "constant current"
    current_A: float
    duration_s: PositiveFloat
    interval_s: PositiveFloat = 1.0
    cut_offs: tuple[CutOff, ...] = ()


class Impedance(_Data):
    """An impedance spectrum, from the highest to the lowest frequency.

    Potentiostatic with ``amplitude_V`` around ``bias_V`` (None: around the open-circuit voltage,
    measured just before), galvanostatic with ``amplitude_A`` around ``bias_A``.
    """

    technique: Literal["impedance"] = "impedance"
    frequency_max_Hz: PositiveFloat
    frequency_min_Hz: PositiveFloat
    points_per_decade: PositiveInt = 10
    amplitude_V: PositiveFloat | None = None
    bias_V: float | None = None
    amplitude_A: PositiveFloat | None = None
    bias_A: float = 0.0

    @property
    def frequencies_Hz(self) -> list[float]:
        """Its frequencies, from the highest to the lowest, evenly in their logarithm."""
        highest, lowest = self.frequency_max_Hz, self.frequency_min_Hz
        last = max(1, round(math.log10(highest / lowest) * self.points_per_decade))
        return [highest * (lowest / highest) ** (point / last) for point in range(last + 1)]

    @property
    def galvanostatic(self) -> bool:
        """Whether the current is the controlled quantity."""
        return self.amplitude_A is not None


class ConstantVoltage(_Data):
    """A constant voltage (chronoamperometry). ``current_range_A`` is the largest expected.

    ``rest_V`` is where the cell relaxes to by itself, where its kind tells that (0 for a symmetric
    one): it tells the direction of the current that keeps it away from there.

    With ``spectra``, one of them each ``spectra_every_s`` from start to start, at the same voltage;
    the cell stays on throughout. For channels whose capabilities say that they can.
    """

    technique: Literal["constant voltage"] = "constant voltage"
    voltage_V: float
    duration_s: PositiveFloat
    interval_s: PositiveFloat = 1.0
    current_range_A: PositiveFloat | None = None
    rest_V: float | None = None
    cut_offs: tuple[CutOff, ...] = ()
    spectra: Impedance | None = None
    spectra_every_s: PositiveFloat | None = None


class Sweep(_Data):
    """A linear voltage sweep from one voltage to another, by way of ``vertices_V``."""

    technique: Literal["sweep"] = "sweep"
    start_V: float
    end_V: float
    vertices_V: tuple[float, ...] = ()
    rate_V_per_s: PositiveFloat
    step_V: PositiveFloat = 1e-3
    current_range_A: PositiveFloat | None = None
    cut_offs: tuple[CutOff, ...] = ()

    @property
    def duration_s(self) -> float:
        """Time from the first to the last voltage."""
        return sum(abs(b - a) for a, b in pairwise(self.voltages_V)) / self.rate_V_per_s

    @property
    def interval_s(self) -> float:
        """Time that one step of the staircase takes."""
        return self.step_V / self.rate_V_per_s

    @property
    def voltages_V(self) -> tuple[float, ...]:
        """All voltages between which it is linear."""
        return (self.start_V, *self.vertices_V, self.end_V)


class Repeat(_Data):
    """Techniques that a cycler repeats by itself."""

    technique: Literal["repeat"] = "repeat"
    times: PositiveInt
    steps: tuple[Rest | ConstantCurrent | ConstantVoltage | Repeat, ...]


class StepList(_Data):
    """Techniques that a cycler runs one after the other by itself, without the host."""

    steps: tuple[Rest | ConstantCurrent | ConstantVoltage | Repeat, ...]

    @property
    def expanded(self) -> Iterator[Rest | ConstantCurrent | ConstantVoltage]:
        """Every technique in the order in which they run, repetitions written out."""
        return _expanded(self.steps)


def _expanded(
    steps: Sequence[Rest | ConstantCurrent | ConstantVoltage | Repeat],
) -> Iterator[Rest | ConstantCurrent | ConstantVoltage]:
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(step.times):
                yield from _expanded(step.steps)
        else:
            yield step


Technique = Annotated[
    Rest | ConstantCurrent | ConstantVoltage | Sweep | Impedance, Field(discriminator="technique")
]
