"""The data of one finished (or running) test as analyses, report and store hand it around.

Small frozen tables, independent of how a run was stored: anything that can fill these columns
can be analysed. All numbers are SI; what was not measured is NaN inside a column and None as a
single value. Times are seconds from the start of the run.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellbench.places import is_within

FloatArray: TypeAlias = NDArray[np.float64]
ComplexArray: TypeAlias = NDArray[np.complex128]
Setting: TypeAlias = float | str | bool | None
Result: TypeAlias = dict[str, Any]  # what an analysis returns: JSON values, units in the names

#: How a step ended that was cut off and begun anew: it is no step of the test.
INTERRUPTED = "interrupted"
#: Of a step that was under way when the run was looked at, or lost.
NOT_ENDED = "not ended"


def _empty() -> FloatArray:
    return np.empty(0)


def _same_length(owner: object, *names: str) -> None:
    lengths = {name: len(getattr(owner, name)) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(owner).__name__}: columns differ in length: {lengths}.")


@dataclass(frozen=True, eq=False)
class Series:
    """One slowly measured quantity: times (s, ascending) and values (SI), of one length."""

    time_s: FloatArray = field(default_factory=_empty)
    value: FloatArray = field(default_factory=_empty)

    def __post_init__(self) -> None:
        _same_length(self, "time_s", "value")

    def __len__(self) -> int:
        return len(self.time_s)

    def typical(self, start_s: float, end_s: float, reach_s: float = 120.0) -> float | None:
        """Median over an interval, or over the readings at most `reach_s` around a shorter one."""
        for margin_s in (0.0, reach_s):
            first = np.searchsorted(self.time_s, start_s - margin_s, "left")
            last = np.searchsorted(self.time_s, end_s + margin_s, "right")
            found = self.value[first:last]
            found = found[np.isfinite(found)]
            if len(found):
                return float(np.median(found))
        return None


@dataclass(frozen=True, eq=False)
class Samples:
    """What the channel measured, columns of one length, with the gauges' own series beside it.

    `charge_C` is the charge that the run counted from the start of each step, raw rows included
    that were not kept; an empty column where nobody counted.
    """

    time_s: FloatArray = field(default_factory=_empty)
    voltage_V: FloatArray = field(default_factory=_empty)
    current_A: FloatArray = field(default_factory=_empty)
    stack_pressure: Series = field(default_factory=Series)  # Pa
    temperature: Series = field(default_factory=Series)  # K
    charge_C: FloatArray = field(default_factory=_empty)

    def __post_init__(self) -> None:
        _same_length(self, "time_s", "voltage_V", "current_A")
        if len(self.charge_C):
            _same_length(self, "time_s", "charge_C")

    def __len__(self) -> int:
        return len(self.time_s)

    def between(self, start_s: float, end_s: float) -> "Samples":
        """The channel's rows from `start_s` to `end_s`, both included; the gauges' series whole."""
        first = int(np.searchsorted(self.time_s, start_s, "left"))
        last = int(np.searchsorted(self.time_s, end_s, "right"))
        return self._rows(slice(first, last))

    def of(self, steps: Iterable["StepData"]) -> "Samples":
        """The channel's rows of some steps; the gauges' series whole.

        A row at the very time at which a step begins is the last one of the step before.
        """
        spans = [
            slice(*np.searchsorted(self.time_s, (step.start_s, step.end_s), "right"))
            for step in steps
        ]
        if len(spans) == 1:
            return self._rows(spans[0])  # by far the most often: of a long run, nothing is copied
        chosen = np.zeros(len(self), dtype=bool)
        for span in spans:
            chosen[span] = True
        return self._rows(chosen)

    def _rows(self, rows: "slice | NDArray[np.bool_]") -> "Samples":
        return Samples(
            self.time_s[rows],
            self.voltage_V[rows],
            self.current_A[rows],
            self.stack_pressure,
            self.temperature,
            self.charge_C[rows] if len(self.charge_C) else self.charge_C,
        )


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One impedance spectrum, in the order in which it was measured.

    `time_s` is its start, `step` the path of the step that measured it, `bias_V` the d.c.
    voltage at the terminals.
    """

    time_s: float
    step: str
    frequency_Hz: FloatArray
    impedance_ohm: ComplexArray
    temperature_K: float | None = None
    stack_pressure_Pa: float | None = None
    bias_V: float | None = None
    name: str = ""
    meta: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _same_length(self, "frequency_Hz", "impedance_ohm")

    def __len__(self) -> int:
        return len(self.frequency_Hz)

    def descending(self) -> tuple[FloatArray, ComplexArray]:
        """Frequencies from high to low and their impedances, without what was not measured."""
        usable = np.isfinite(self.frequency_Hz) & np.isfinite(self.impedance_ohm)
        usable &= self.frequency_Hz > 0
        frequency_Hz, impedance_ohm = self.frequency_Hz[usable], self.impedance_ohm[usable]
        order = np.argsort(-frequency_Hz, kind="stable")
        return frequency_Hz[order], impedance_ohm[order]


@dataclass(frozen=True)
class StepData:
    """One step as it ran: its path in the program, what it asked for, when and how it ended.

    `kind` is the technique's word in the protocol ("current", "rest", "eis", "press", ...).
    """

    path: str
    kind: str
    start_s: float
    end_s: float
    settings: Mapping[str, Setting] = field(default_factory=dict)
    ending: str = ""

    @property
    def duration_s(self) -> float:
        """How long the step ran."""
        return self.end_s - self.start_s

    def number(self, setting: str) -> float | None:
        """A numeric setting, or None if the step has none of this name."""
        value = self.settings.get(setting)
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class Geometry:
    """What the technician's cell card says of sizes; even if wrong, analyses follow it.

    `area_m2` is the electrode's, `electrolyte_area_m2` the pellet's (where it differs).
    `layout` is "symmetric", "blocking", "full" or "half". `counter_potential_V` is against Li+/Li;
    `charge_sign` is +1 where charging the cell is a positive current, else -1.
    """

    area_m2: float
    layout: str
    electrolyte: str | None = None
    electrolyte_thickness_m: float | None = None
    electrolyte_area_m2: float | None = None
    active_mass_kg: float | None = None
    nominal_capacity_C: float | None = None
    counter_potential_V: float | None = None
    charge_sign: float = 1.0
    particle_radius_m: float | None = None

    @property
    def reference(self) -> str:
        """What the volts of a result refer to: "vs Li+/Li", or "at the terminals"."""
        return "at the terminals" if self._shift_V is None else "vs Li+/Li"

    def potential_V(self, voltage_V: float | None) -> float | None:
        """Potential of the working electrode against Li+/Li; the plain voltage if not known."""
        return None if voltage_V is None else voltage_V + (self._shift_V or 0.0)

    @property
    def _shift_V(self) -> float | None:
        return None if self.layout in {"symmetric", "blocking"} else self.counter_potential_V


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything of one run that analyses look at."""

    geometry: Geometry
    steps: tuple[StepData, ...] = ()
    samples: Samples = field(default_factory=Samples)
    spectra: tuple[Spectrum, ...] = ()
    cell_name: str = ""

    def steps_of(self, kind: str) -> Iterator[StepData]:
        """The steps of one kind, in the order in which they ran."""
        return (step for step in self.steps if step.kind == kind)

    def within(self, place: str) -> "Dataset":
        """What ran within a loop, a group, a step or one pass: "ladder", "pressures[2]".

        Raises:
            ValueError: if nothing ran there.
        """
        steps = tuple(step for step in self.steps if is_within(step.path, place))
        if not steps:
            raise ValueError(f'Nothing ran within "{place}".')
        spectra = tuple(one for one in self.spectra if is_within(one.step, place))
        return replace(self, steps=steps, samples=self.samples.of(steps), spectra=spectra)

    def temperature_K(self, start_s: float, end_s: float) -> float | None:
        """Typical cell temperature of an interval: the gauge's, else the nearest spectrum's."""
        measured = self.samples.temperature.typical(start_s, end_s)
        return measured if measured is not None else self._of_nearest("temperature_K", start_s)

    def stack_pressure_Pa(self, start_s: float, end_s: float) -> float | None:
        """Typical stack pressure of an interval: the gauge's, else the nearest spectrum's."""
        measured = self.samples.stack_pressure.typical(start_s, end_s)
        return measured if measured is not None else self._of_nearest("stack_pressure_Pa", start_s)

    def _of_nearest(self, name: str, time_s: float) -> float | None:
        known = [spectrum for spectrum in self.spectra if getattr(spectrum, name) is not None]
        if not known:
            return None
        nearest = min(known, key=lambda spectrum: abs(spectrum.time_s - time_s))
        return float(getattr(nearest, name))
