"""Rows of a data buffer, by the technique that made them.

A row is words of 32 bits. Rows in time begin with two of them, the high and low part of a number of
time bases since the technique began: ocv (Ewe, Ece), cplimit and calimit (Ewe, I, cycle), cv
(control, I, Ewe, cycle on a VMP3; I, Ewe, cycle on an SP-300), process 0 of peis and geis (Ewe, I).
Process 1 of those is a row of a spectrum: frequency, |Ewe|, |I|, phase of Z, Ewe, I, empty, |Ece|,
|Ice|, phase of Zce, Ece, empty, empty, time, and on a VMP3 the current range. Source: the manual
page of this driver; that the phase is in radians is of the user's guide (3.5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cellbench_drivers.biologic_library import LibraryError, Rows

PhaseUnit: TypeAlias = Literal["rad", "deg"]

#: Turns a word into a number.
Single: TypeAlias = Callable[[int], float]
_SPECTRA = {"peis", "geis"}
_SPECTRUM_PROCESS = 1
#: Words that a row has at least, by technique.
_WIDTHS = {"ocv": 3, "cplimit": 4, "calimit": 4, "cv": 5, "peis": 4, "geis": 4}
_SPECTRUM_WIDTH, _SPECTRUM_TIME = 6, 13
_CV_WITH_CONTROL = 6


@dataclass(frozen=True, slots=True)
class TimeRow:
    """Voltage and current at a time since the technique began."""

    time_s: float
    voltage_V: float
    current_A: float


@dataclass(frozen=True, slots=True)
class SpectrumRow:
    """Impedance at a frequency; the time is nan where the instrument does not tell."""

    time_s: float
    frequency_Hz: float
    impedance_ohm: complex


def is_spectrum(file: str, rows: Rows) -> bool:
    """Whether rows of a technique are of a spectrum."""
    return file in _SPECTRA and rows.process == _SPECTRUM_PROCESS


def time_rows(file: str, rows: Rows, single: Single) -> list[TimeRow]:
    """Return rows in time; at rest no current flows, by construction.

    Raises:
        LibraryError: They are too narrow for their technique.
    """
    _check_width(file, rows, _WIDTHS[file])
    return [_time_row(file, row, rows.values.TimeBase, single) for row in rows.words]


def spectrum_rows(
    file: str, rows: Rows, single: Single, phase_unit: PhaseUnit
) -> list[SpectrumRow]:
    """Return rows of a spectrum.

    Raises:
        LibraryError: They are too narrow, or a phase is none in this unit.
    """
    _check_width(file, rows, _SPECTRUM_WIDTH)
    return [_spectrum_row(row, single, phase_unit) for row in rows.words]


def _check_width(file: str, rows: Rows, least: int) -> None:
    if any(len(row) < least for row in rows.words):
        raise LibraryError(
            f"a row of {file} (process {rows.process}) has {len(rows.words[0])} words, and "
            f"should have at least {least}"
        )


def _time_row(file: str, row: tuple[int, ...], time_base_s: float, single: Single) -> TimeRow:
    time_s = time_base_s * ((row[0] << 32) + row[1])
    if file == "ocv":
        return TimeRow(time_s, single(row[2]), 0.0)
    if file == "cv":
        current, voltage = row[3:5] if len(row) >= _CV_WITH_CONTROL else row[2:4]
    else:
        voltage, current = row[2:4]
    return TimeRow(time_s, single(voltage), single(current))


def _spectrum_row(row: tuple[int, ...], single: Single, phase_unit: PhaseUnit) -> SpectrumRow:
    frequency_Hz, voltage_V, current_A, phase = (single(word) for word in row[:4])
    if phase_unit == "deg":
        phase = math.radians(phase)
    if abs(phase) > 2 * math.pi:
        raise LibraryError(
            f"its phase at {frequency_Hz:.4g} Hz is {phase:.4g} rad: is the option "
            '"phase unit" right?'
        )
    time_s = single(row[_SPECTRUM_TIME]) if len(row) > _SPECTRUM_TIME else math.nan
    if not current_A:
        return SpectrumRow(time_s, frequency_Hz, complex(math.nan, math.nan))
    modulus_ohm = voltage_V / current_A
    impedance_ohm = modulus_ohm * complex(math.cos(phase), math.sin(phase))
    return SpectrumRow(time_s, frequency_Hz, impedance_ohm)
