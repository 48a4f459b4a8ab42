"""What was read from a file of another program, before it becomes a run in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.dataset import FloatArray, Spectrum
from cellbench.errors import InputError
from cellbench.exchange.outgoing import stretches
from cellbench.exchange.staging import sha256


@dataclass(frozen=True)
class Origin:
    """Where data are from: kept with the run.

    Attributes:
        file: The file's name.
        sha256: Its checksum.
        program: Who wrote it, as far as the file tells.
        reader: What read it, with its version.
        remarks: What a person should know: how times and charges were found.
    """

    file: str
    sha256: str
    program: str
    reader: str
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path, program: str, reader: str, *remarks: str) -> Origin:
        """The origin of a file's data."""
        return cls(path.name, sha256(path), program, reader, remarks)


@dataclass(frozen=True, eq=False)
class Incoming:
    """Columns of one length, one row per sample, NaN where not measured.

    Attributes:
        origin: Where they are from.
        positive: What positive current (and charge) means in them.
        time_s: Ascending, since the start.
        charge_C: Since the beginning of the row's step; None where nobody counted.
        step: Changes where a step begins.
        kind: The step's technique: "rest", "charge", "discharge", "current", "voltage", "sweep", or
            "" where that is to be found from the rows.
        path: Of the step in its protocol; None where there is none.
        cycle: Number of the cycle, None where it is not told.
        flags: Bits of `Flag`; None for none.
        steps: Of our own files: the steps as the run kept them, by number.
        model, serial: Of the instrument.
        metadata: Of our own files: what stood beside the data.
    """

    origin: Origin
    positive: Literal["charge", "oxidation"]
    time_s: FloatArray
    voltage_V: FloatArray
    current_A: FloatArray
    step: NDArray[np.int_]
    kind: NDArray[np.object_]
    charge_C: FloatArray | None = None
    path: NDArray[np.object_] | None = None
    cycle: NDArray[np.int_] | None = None
    flags: NDArray[np.int_] | None = None
    temperature_K: FloatArray | None = None
    stack_pressure_Pa: FloatArray | None = None
    spectra: tuple[Spectrum, ...] = ()
    started: datetime | None = None
    model: str = ""
    serial: str = ""
    steps: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.time_s) and np.any(np.diff(self.time_s) < 0):
            row = int(np.argmax(np.diff(self.time_s) < 0)) + 2
            raise InputError(
                f"{self.origin.file}: time goes back at row {row}: "
                "the rows of one test, in the order of time, are wanted"
            )


def since_step_began(
    counted_C: FloatArray, time_s: FloatArray, current_A: FloatArray, step: NDArray[np.int_]
) -> FloatArray:
    """Charge since the beginning of each row's step, from one that goes on, or begins anew at will.

    Where a step begins, the count either went on from the row before or began at zero: it was
    whichever is nearer to what the current makes of that interval. A step whose number comes again
    goes on counting.
    """
    charge_C, ends_C = counted_C.copy(), dict[int, float]()
    for rows in stretches(step):
        first, number = rows.start, int(step[rows.start])
        before_C = float(counted_C[first - 1]) if first else 0.0
        interval_s = float(time_s[first] - time_s[first - 1]) if first else 0.0
        expected_C = float(np.nan_to_num(current_A[first])) * interval_s
        leads_C = (float(counted_C[first]) - before_C, float(counted_C[first]))
        lead_C = min(leads_C, key=lambda each: abs(each - expected_C))
        charge_C[rows] += ends_C.get(number, 0.0) + lead_C - counted_C[first]
        ends_C[number] = float(charge_C[rows][-1])
    return charge_C


def integrated_C(time_s: FloatArray, current_A: FloatArray, step: NDArray[np.int_]) -> FloatArray:
    """Charge since the beginning of each row's step, by trapezoids; zero at its first row."""
    known_A = np.nan_to_num(current_A)
    rises_C = np.diff(time_s, prepend=time_s[:1]) * (known_A + np.roll(known_A, 1)) / 2
    rises_C[np.diff(step, prepend=step[:1] - 1) != 0] = 0.0
    return since_step_began(np.cumsum(rises_C), time_s, np.zeros(len(time_s)), step)
