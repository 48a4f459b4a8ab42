"""A run's channel and its spectra as EC-Lab's text files (.mpt), which many programs read.

The columns are those that EC-Lab itself writes for techniques at a current or a voltage, and for
impedance (PEIS). Current is positive for oxidation at the working electrode, as in the store.
Pressure and temperature have no column there: they are in the other formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from cellbench import __version__
from cellbench.exchange.outgoing import Outgoing, stretches
from cellbench.exchange.spectra import Measured

#: EC-Lab's number of what is held: the current, the voltage, nothing.
_MODES = {"current": 1, "charge": 1, "discharge": 1, "hold": 2, "voltage": 2, "sweep": 2}
_REST = 3
_COLUMNS = (
    "mode", "ox/red", "error", "control changes", "Ns changes", "counter inc.", "Ns", "time/s",
    "Ewe/V", "I/mA", "(Q-Qo)/mA.h", "cycle number",
)  # fmt: skip
_SPECTRUM_COLUMNS = (
    "freq/Hz", "Re(Z)/Ohm", "-Im(Z)/Ohm", "|Z|/Ohm", "Phase(Z)/deg", "time/s", "<Ewe>/V",
)  # fmt: skip


def write_mpt(outgoing: Outgoing, path: Path) -> None:
    """Write the channel's rows; "error" marks those that carry a flag."""
    with path.open("w", encoding="latin-1", errors="replace", newline="\r\n") as stream:
        _write_head(stream, outgoing, "Modulo Bat", _COLUMNS)
        stream.writelines(_rows(outgoing))


def write_spectrum_mpt(outgoing: Outgoing, measured: Measured, path: Path) -> None:
    """Write one spectrum the way EC-Lab writes one of potentiostatic impedance."""
    impedance_ohm = measured.impedance_ohm
    bias_V = np.nan if measured.bias_V is None else measured.bias_V
    columns = (
        measured.frequency_Hz, impedance_ohm.real, -impedance_ohm.imag, np.abs(impedance_ohm),
        np.degrees(np.angle(impedance_ohm)), measured.point_time_s,
        np.full(len(impedance_ohm), bias_V),
    )  # fmt: skip
    with path.open("w", encoding="latin-1", errors="replace", newline="\r\n") as stream:
        _write_head(stream, outgoing, measured.title, _SPECTRUM_COLUMNS)
        stream.writelines(_lines(columns))


def _write_head(stream: TextIO, outgoing: Outgoing, what: str, columns: Sequence[str]) -> None:
    run = outgoing.run
    remarks = [
        "",
        what,
        "",
        *(["SIMULATED: no cell was measured"] if run.simulated else []),
        f"Acquisition started on : {outgoing.started:%m/%d/%Y %H:%M:%S.%f}",
        f"Comments : run {run.id}, {run.protocol}, cell {run.cell}, written by cellbench "
        f"{__version__}; times are UTC",
        "",
    ]
    stream.write(f"EC-Lab ASCII FILE\nNb header lines : {len(remarks) + 3}\n")
    stream.writelines(f"{' '.join(remark.split())}\n" for remark in remarks)
    stream.write("\t".join(columns) + "\n")


def _rows(outgoing: Outgoing) -> Iterator[str]:
    number, last_step = -1, None
    for block in outgoing.channel():
        for rows in stretches(block["step"]):
            step = block["step"][rows.start]
            begins, last_step = step != last_step, step
            number += begins
            yield from _lines(_columns(outgoing, block, rows, number, begins=begins))


def _columns(
    outgoing: Outgoing, block: dict[str, NDArray[Any]], rows: slice, number: int, *, begins: bool
) -> list[NDArray[Any]]:
    current_A, count = block["current_A"][rows], rows.stop - rows.start
    mode = _MODES.get(block["technique"][rows.start], _REST)
    passed_Ah = block["charged_Ah"][rows] - block["discharged_Ah"][rows]
    first = np.zeros(count, int)
    first[0] = begins
    return [
        np.full(count, mode), (current_A > 0).astype(int), (block["flags"][rows] != 0).astype(int),
        first, first, np.zeros(count, int), np.full(count, number), block["time_s"][rows],
        block["voltage_V"][rows], current_A * 1e3, outgoing.charge_sign * passed_Ah * 1e3,
        block["cycle"][rows],
    ]  # fmt: skip


def _lines(columns: Iterable[NDArray[Any]]) -> Iterator[str]:
    # Floats as they read back bit for bit; "nan" for what is missing, as in EC-Lab's own files.
    cells = (map(repr, (column + 0).tolist()) for column in columns)
    return ("\t".join(row) + "\n" for row in zip(*cells, strict=True))
