"""What was read from a file of another program, before it becomes a run in the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from cellbench.analysis.cycles import passed_C
from cellbench.analysis.dataset import FloatArray, Setting, Spectrum, StepData
from cellbench.errors import InputError
from cellbench.exchange.outgoing import stretches
from cellbench.store.files import sha256

#: Remarks: where the charge is from.
FROM_FILE, FROM_CURRENT = "charge: the file's own", "charge: integrated from the current"


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


class KeptStep(BaseModel):
    """A step as the run that was exported kept it; one of which no time is told never ended."""

    number: int
    path: str
    kind: str
    start_s: float = 0.0
    end_s: float = 0.0
    settings: dict[str, Setting] = {}
    ending: str = ""

    @property
    def data(self) -> StepData:
        """The step without its number."""
        return StepData(**self.model_dump(exclude={"number"}))


class Gap(BaseModel):
    """A time in which nobody saw the cell, with the charge that can have passed."""

    model_config = ConfigDict(extra="allow")

    step: str
    text: str
    from_s: float


class Remark(BaseModel):
    """An entry of the journal that tells of something that was not as planned."""

    time_s: float
    kind: str
    step: str
    text: str


class Metadata(BaseModel):
    """What stands beside data that cellbench has exported, as far as it comes in again."""

    sha256: str | None = None
    written_by: str
    simulated: bool
    protocol: str
    bench: str
    seed: int | None
    started_utc: datetime
    steps: tuple[KeptStep, ...]
    gaps: tuple[Gap, ...]
    remarks: tuple[Remark, ...]
    environment: dict[str, Any]
    documents: dict[str, str]


@dataclass(frozen=True, eq=False)
class Incoming:
    """Columns of one length, one row per sample, NaN where not measured.

    Attributes:
        origin: Where they are from.
        positive: What positive current (and charge) means in them.
        time_s: Ascending, since the start.
        counted_C: Charge as the file counts it; None where nobody counted.
        counting: From where it is counted; "" where the file does not tell.
        step: Changes where a step begins.
        kind: The step's technique: "rest", "charge", "discharge", "current", "voltage", "sweep", or
            "" where that is to be found from the rows.
        path: Of the step in its protocol; None where there is none.
        cycle: Number of the cycle, None where it is not told.
        flags: Bits of `Flag`; None for none.
        model, serial: Of the instrument.
        metadata: Of our own files.
    """

    origin: Origin
    positive: Literal["charge", "oxidation"]
    time_s: FloatArray
    voltage_V: FloatArray
    current_A: FloatArray
    step: NDArray[np.int_]
    kind: NDArray[np.object_]
    counted_C: FloatArray | None = None
    counting: Literal["start", "step", ""] = ""
    path: NDArray[np.object_] | None = None
    cycle: NDArray[np.int_] | None = None
    flags: NDArray[np.int_] | None = None
    temperature_K: FloatArray | None = None
    stack_pressure_Pa: FloatArray | None = None
    spectra: tuple[Spectrum, ...] = ()
    started: datetime | None = None
    model: str = ""
    serial: str = ""
    metadata: Metadata | None = None

    def __post_init__(self) -> None:
        forward = np.diff(self.time_s, prepend=-np.inf) >= 0
        if not forward.all():
            row = int(np.argmin(forward)) + 1
            raise InputError(
                f"{self.origin.file}: time goes back, or is missing, at row {row}: "
                "the rows of one test, in the order of time, are wanted"
            )


def step_charge_C(incoming: Incoming, step: NDArray[np.int_]) -> FloatArray:
    """Charge since the beginning of each row's step: the file's own, else by trapezoids.

    A step whose number comes again goes on counting.
    """
    charge_C, ends_C = np.empty(len(step)), dict[int, float]()
    for rows in stretches(step):
        number = int(step[rows.start])
        charge_C[rows] = ends_C.get(number, 0.0) + _passed_C(incoming, rows)
        ends_C[number] = float(charge_C[rows][-1])
    return charge_C


def _passed_C(incoming: Incoming, rows: slice) -> FloatArray:
    """Charge since the row before a stretch of one step.

    Where nobody tells whether the file's count went on when the step began, or began at zero: it
    was whichever is nearer to what the current makes of the first interval.
    """
    first = rows.start
    before_s = float(incoming.time_s[max(first - 1, 0)])
    driven_C = passed_C(incoming.time_s[rows], np.nan_to_num(incoming.current_A[rows]), before_s)
    if incoming.counted_C is None:
        return driven_C
    counted_C = incoming.counted_C[rows]
    before_C = float(incoming.counted_C[first - 1]) if first else 0.0
    leads_C = {"start": float(counted_C[0]) - before_C, "step": float(counted_C[0])}
    nearest_C = min(leads_C.values(), key=lambda each: abs(each - driven_C[0]))
    lead_C = leads_C.get(incoming.counting, nearest_C)
    return np.asarray(counted_C + (lead_C - counted_C[0]))
