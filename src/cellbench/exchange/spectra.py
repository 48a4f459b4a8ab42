"""Spectra as files: all points with their conditions, and each by itself for fitting programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellbench.analysis.dataset import ComplexArray, FloatArray
from cellbench.exchange.outgoing import Outgoing, as_rows, flags_in_words
from cellbench.exchange.plain_csv import write_rows
from cellbench.store import StoredSpectrum

_HEADER = (
    "spectrum", "time_s", "step", "stack_pressure_MPa", "temperature_degC", "bias_V",
    "frequency_Hz", "impedance_real_ohm", "impedance_imag_ohm", "flags",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measured:
    """The points of one spectrum that were measured.

    Attributes:
        number: From 1, in the order of the run.
        step: Path of the step that measured it.
    """

    number: int
    time_s: float
    step: str
    frequency_Hz: FloatArray
    impedance_ohm: ComplexArray
    point_time_s: FloatArray
    bias_V: float | None
    simulated: bool

    @property
    def title(self) -> str:
        """What a person calls it."""
        simulated = "SIMULATED " if self.simulated else ""
        return f"{simulated}spectrum {self.number} at {self.time_s:.0f} s: {self.step}"


def measured(outgoing: Outgoing) -> Iterator[Measured]:
    """The run's spectra that have a point."""
    for number, stored in enumerate(outgoing.reader.spectra(), start=1):
        known = np.isfinite(stored.impedance_ohm)
        if known.any():
            yield Measured(
                number=number,
                time_s=stored.time_s,
                step=outgoing.reader.steps.get(stored.step, ("", ""))[0],
                frequency_Hz=stored.frequency_Hz[known],
                impedance_ohm=stored.impedance_ohm[known],
                point_time_s=stored.point_time_s[known],
                bias_V=stored.bias_V,
                simulated=outgoing.run.simulated,
            )


def write_table(outgoing: Outgoing, path: Path) -> None:
    """Write every point of every spectrum, with flags and conditions."""
    spectra = enumerate(outgoing.reader.spectra(), start=1)
    write_rows(path, _HEADER, (row for one in spectra for row in _points(outgoing, *one)))


def write_columns(one: Measured, path: Path) -> None:
    """Write three columns without a header, frequency (Hz), Re Z and Im Z (ohm).

    Remarks begin with "#". This is what impedance.py's ``readCSV`` and most fitting programs open
    as it is.
    """
    write_rows(path, (f"# {one.title}",), as_rows(_columns(one)))


def write_z(one: Measured, path: Path) -> None:
    """Write a ZPlot file (.z), which ZView and its like open.

    Columns: frequency, amplitude, bias, time, Z', Z", and three that only ZPlot uses.
    """
    frequency_Hz, real_ohm, imag_ohm = _columns(one)
    nothing = np.zeros(len(frequency_Hz))
    bias_V = np.full(len(frequency_Hz), one.bias_V or 0.0)
    rows = as_rows(
        [frequency_Hz, nothing, bias_V, one.point_time_s, real_ohm, imag_ohm, *[nothing] * 3]
    )
    with path.open("w", encoding="utf-8", newline="\r\n") as stream:
        stream.write(f"ZPLOT2 ASCII\n{one.title}\n")
        stream.write("Freq(Hz)\tAmpl\tBias\tTime(Sec)\tZ'(a)\tZ''(b)\tGD\tErr\tRange\n")
        stream.write("End Comments\n")
        stream.writelines("\t".join(map(repr, row)) + "\n" for row in rows)


def _columns(one: Measured) -> list[FloatArray]:
    return [one.frequency_Hz, one.impedance_ohm.real, one.impedance_ohm.imag]


def _points(outgoing: Outgoing, number: int, stored: StoredSpectrum) -> Iterator[Any]:
    pressure_MPa = _scaled(stored.stack_pressure_Pa, 1e-6, 0.0)
    temperature_degC = _scaled(stored.temperature_K, 1.0, -273.15)
    step = outgoing.reader.steps.get(stored.step, ("", ""))[0]
    columns = [
        stored.point_time_s, stored.frequency_Hz, stored.impedance_ohm.real,
        stored.impedance_ohm.imag,
    ]  # fmt: skip
    for row, (time_s, *point) in enumerate(as_rows(columns)):
        words = flags_in_words(int(stored.flags[row]))
        conditions = (step, pressure_MPa, temperature_degC, stored.bias_V)
        yield (number, time_s, *conditions, *point, words)


def _scaled(value: float | None, scale: float, offset: float) -> float | None:
    return None if value is None else value * scale + offset
