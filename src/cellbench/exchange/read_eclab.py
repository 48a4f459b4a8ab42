"""Reading EC-Lab's files: text (.mpt) by itself, binary (.mpr) by galvani in a process of its own.

galvani is under the GPL: it is run beside cellbench, by the Python that CELLBENCH_GALVANI names
(else by this one), and only numbers come back.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench import __version__
from cellbench.analysis.dataset import FloatArray, Spectrum
from cellbench.errors import InputError
from cellbench.exchange.incoming import FROM_CURRENT, FROM_FILE, Incoming, Origin

#: Environment variable: the Python that has galvani.
GALVANI = "CELLBENCH_GALVANI"
_HELP = (
    "reading .mpr needs galvani (GPL-3), which runs beside cellbench as a program of its own: "
    "pip install galvani, here or in another environment whose Python "
    f"{GALVANI} then names; or export the file as .mpt from EC-Lab"
)
_PATIENCE_S = 600
_MAGIC = ("EC-Lab ASCII FILE", "BT-Lab ASCII FILE")
_C_PER_MAH = 3.6
#: EC-Lab's numbers of what is held.
_CURRENT, _VOLTAGE, _REST = 1, 2, 3
_DATES = ("%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S.%f", "%d/%m/%Y %H:%M:%S")
_STARTED = re.compile(r"Acquisition started on\s*:\s*(\S+ \S+)")


@dataclass(frozen=True)
class _File:
    """Columns by EC-Lab's names, and what its head says."""

    columns: dict[str, FloatArray]
    started: datetime | None
    reader: str

    def first(self, *names: str) -> FloatArray | None:
        """The column that has the first of these names that there is."""
        return next((self.columns[name] for name in names if name in self.columns), None)


def read_eclab(path: Path) -> Incoming:
    """Read a file: rows without a frequency are samples, the others are spectra.

    Raises:
        InputError: It is none of EC-Lab's, or galvani is not there.
    """
    file = _binary(path) if path.suffix.lower() == ".mpr" else _text(path)
    time_s = file.first("time/s")
    voltage_V = file.first("Ewe/V", "<Ewe>/V", "Ecell/V", "<Ewe/V>", "Ewe-Ece/V")
    frequency_Hz = file.first("freq/Hz")
    if time_s is None or (voltage_V is None and frequency_Hz is None) or not len(time_s):
        found = ", ".join(file.columns) or "none"
        raise InputError(f"{path.name} has no rows of time/s and Ewe/V (columns: {found})")
    if voltage_V is None:
        voltage_V = np.full(len(time_s), np.nan)
    measuring = np.zeros(len(time_s), bool) if frequency_Hz is None else frequency_Hz > 0
    spectra = tuple(_spectra(file, time_s, measuring))
    return _incoming(path, file, time_s, voltage_V, ~measuring, spectra)


def _incoming(
    path: Path,
    file: _File,
    time_s: FloatArray,
    voltage_V: FloatArray,
    rows: NDArray[np.bool_],
    spectra: tuple[Spectrum, ...],
) -> Incoming:
    current_A, mode = _current_A(file, time_s), _mode(file, len(time_s))
    step = _steps(file, mode, current_A)[rows]
    time_s, current_A, mode = time_s[rows], current_A[rows], mode[rows]
    counted_mAh = file.first("(Q-Qo)/mA.h")
    remark = FROM_CURRENT if counted_mAh is None else FROM_FILE
    kinds = {_REST: "rest", _VOLTAGE: "voltage"}
    temperature_degC = file.first("Temperature/°C")
    cycle = file.first("cycle number", "half cycle")
    half = 1 if "cycle number" in file.columns else 2
    return Incoming(
        origin=Origin.of(
            path, "EC-Lab", file.reader, remark, "time: zone of the computer that measured"
        ),
        positive="oxidation",
        time_s=time_s,
        voltage_V=voltage_V[rows],
        current_A=current_A,
        counted_C=None if counted_mAh is None else counted_mAh[rows] * _C_PER_MAH,
        counting="start",
        step=step,
        kind=np.array([kinds.get(each, "") for each in mode.tolist()], dtype=object),
        cycle=None if cycle is None else cycle[rows].astype(int) // half + half - 1,
        temperature_K=None if temperature_degC is None else temperature_degC[rows] + 273.15,
        spectra=spectra,
        started=file.started,
        model="BioLogic potentiostat",
    )


def _mode(file: _File, count: int) -> NDArray[np.int_]:
    mode = file.first("mode")
    return np.zeros(count, int) if mode is None else mode.astype(int)


def _current_A(file: _File, time_s: FloatArray) -> FloatArray:
    """The measured current; where EC-Lab leaves it out, what it held, or charge over time.

    Its own programs show these files so, too.
    """
    measured_mA = file.first("I/mA", "<I>/mA", "control/mA")
    if measured_mA is not None:
        return measured_mA / 1e3
    mode, rise_mAh = _mode(file, len(time_s)), file.first("dq/mA.h", "dQ/mA.h")
    held_mA = file.first("control/V/mA")
    current_A = np.zeros(len(time_s))
    if rise_mAh is not None:
        interval_s = np.diff(time_s, prepend=time_s[:1])
        np.divide(rise_mAh * _C_PER_MAH, interval_s, out=current_A, where=interval_s > 0)
    if held_mA is not None:
        current_A = np.where(mode == _CURRENT, held_mA / 1e3, current_A)
    return np.where(mode == _REST, 0.0, current_A)


def _steps(file: _File, mode: NDArray[np.int_], current_A: FloatArray) -> NDArray[np.int_]:
    """Steps begin with a sequence of the technique, where something else is held, or it turns."""
    sequence = file.first("Ns")
    parts = [mode, np.sign(current_A) * (mode == _CURRENT)]
    parts += [] if sequence is None else [sequence]
    changes = [np.diff(part, prepend=part[:1]) != 0 for part in parts]
    return np.cumsum(np.any(changes, axis=0)) + 1


def _spectra(file: _File, time_s: FloatArray, measuring: NDArray[np.bool_]) -> Iterator[Spectrum]:
    frequency_Hz = file.first("freq/Hz")
    real_ohm, minus_imag_ohm = file.first("Re(Z)/Ohm"), file.first("-Im(Z)/Ohm")
    if frequency_Hz is None or real_ohm is None or minus_imag_ohm is None:
        return
    bias_V = file.first("<Ewe>/V", "Ewe/V")
    for rows in _sweeps(frequency_Hz, measuring):
        yield Spectrum(
            time_s=float(time_s[rows[0]]),
            step="eis",
            frequency_Hz=frequency_Hz[rows],
            impedance_ohm=real_ohm[rows] - 1j * minus_imag_ohm[rows],
            bias_V=None if bias_V is None else float(np.mean(bias_V[rows])),
        )


def _sweeps(frequency_Hz: FloatArray, measuring: NDArray[np.bool_]) -> Iterator[NDArray[np.int_]]:
    """The rows of one spectrum after another: each begins where the frequency turns back."""
    rows = np.flatnonzero(measuring)
    if len(rows) < 2:
        return
    rises = np.sign(np.diff(frequency_Hz[rows]))
    apart = (np.diff(rows) > 1) | (rises == -np.median(rises))
    yield from np.split(rows, np.flatnonzero(apart) + 1)


# --- Files --------------------------------------------------------------------------------------


def _text(path: Path) -> _File:
    lines = path.read_text(encoding="latin-1").splitlines()
    count = re.match(r"Nb header lines\s*:\s*(\d+)", lines[1]) if len(lines) > 1 else None
    if not lines or lines[0].strip() not in _MAGIC or count is None:
        raise InputError(f'{path.name} does not begin with "{_MAGIC[0]}": no .mpt file')
    head = int(count[1])
    names = lines[head - 1].rstrip("\t").split("\t")
    rows = [line.split("\t")[: len(names)] for line in lines[head:] if line.strip()]
    columns = [_numbers(path, name, column) for name, column in _transposed(path, names, rows)]
    found = _STARTED.search("\n".join(lines[:head]))
    return _File(
        dict(zip(names, columns, strict=True)),
        _moment(found[1]) if found else None,
        f"cellbench {__version__}",
    )


def _transposed(
    path: Path, names: list[str], rows: list[list[str]]
) -> list[tuple[str, Sequence[str]]]:
    short = next((row for row in rows if len(row) < len(names)), None)
    if short is not None:
        raise InputError(f"{path.name}: a row has {len(short)} cells of {len(names)}")
    return list(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def _numbers(path: Path, name: str, cells: Sequence[str]) -> FloatArray:
    try:
        return np.array([float(cell.replace(",", ".")) for cell in cells])
    except ValueError as error:
        if name in _NEEDED:
            raise InputError(f"{path.name}, column {name}: {error}") from error
        return np.full(len(cells), np.nan)  # a column of words, which we do not read


_NEEDED = ("time/s", "Ewe/V", "I/mA", "<I>/mA", "freq/Hz", "Re(Z)/Ohm", "-Im(Z)/Ohm")


def _moment(text: str) -> datetime | None:
    for form in _DATES:
        with suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    return None


def _binary(path: Path) -> _File:
    python = os.environ.get(GALVANI) or sys.executable
    program = Path(__file__).with_name("galvani_program.py")
    with tempfile.TemporaryDirectory() as beside:
        out = Path(beside) / "columns.npz"
        try:
            done = subprocess.run(  # noqa: S603 (a Python of the user's choice)
                [python, str(program), str(path), str(out)],
                capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"{python} cannot be run ({error}): {_HELP}") from error
        if "No module named 'galvani'" in done.stderr:
            raise InputError(_HELP)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise InputError(f"galvani cannot read {path.name}: {why}")
        return _of_program(out)


def _of_program(out: Path) -> _File:
    with np.load(out, allow_pickle=False) as read:
        started: Any = str(read["started"])
        columns = {
            str(name): np.asarray(read[f"column {number}"], float)
            for number, name in enumerate(read["names"])
        }
        return _File(
            columns,
            datetime.fromisoformat(started).replace(tzinfo=UTC) if started else None,
            str(read["reader"]),
        )
