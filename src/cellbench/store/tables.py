"""The tables: the catalogue of runs, and in each run's own file its journal and documents.

Samples and spectra are plain SQL (`SCHEMA`): they come by the ten thousand, and a model per row
would cost ten times the insert. A sample's ``row`` is the instrument's own number of it in the step
list that it runs by itself, by which rows are fetched once and none is missed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

#: Version of a run file's layout, in SQLite's user_version; a file of another version is refused.
FORMAT_VERSION = 2


#: State of a run that another program made: its data were read from a file.
IMPORTED = "imported"


class Run(SQLModel, table=True):
    """One run in the catalogue: enough to list and find it; its truth is in its own file.

    A column that comes later has a default in the database too: catalogues from before are given
    it, and programs from before go on writing to them.

    Attributes:
        place: Where its cell sits on a bench of many, empty on a bench with one.
        campaign: Name of the campaign that it belongs to, empty where there is none.
        replicate: 1, 2, 3 ... within the campaign, 0 where it is none.
    """

    id: str = Field(primary_key=True)
    protocol: str
    cell: str
    bench: str
    simulated: bool
    seed: int | None = None
    state: str = "running"
    reason: str = ""
    started: datetime
    ended: datetime | None = None
    place: str = Field(default="", sa_column_kwargs={"server_default": ""})
    campaign: str = Field(default="", sa_column_kwargs={"server_default": ""})
    replicate: int = Field(default=0, sa_column_kwargs={"server_default": "0"})

    @property
    def cell_at(self) -> str:
        """The cell, and where it sits if that has a name."""
        return f"{self.cell} at {self.place}" if self.place else self.cell


class JournalEntry(SQLModel, table=True):
    """One entry of a run's journal.

    Attributes:
        time_s: Loop time since the start of the run.
        kind: ``run started``, ``step started``, ``step list``, ``action``, ``outcome``,
            ``spectrum``, ``deviation``, ``warning``, ``trip``, ``step ended``,
            ``safe state``, ``run ended``; of the computer ``disk``, ``recording thinned``,
            ``computer slept``, ``clock set``...
        step: Path of the step in the expanded program, empty for the run as a whole.
        text: What a person reads, empty where nobody needs to.
        data: The values that were decided.
    """

    seq: int = Field(primary_key=True)
    time_s: float
    utc: datetime
    kind: str
    step: str = ""
    text: str = ""
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON))


class Document(SQLModel, table=True):
    """A text kept verbatim with the run: protocol, cell card, bench, program, environment."""

    name: str = Field(primary_key=True)
    text: str


SCHEMA = """
CREATE TABLE step (id INTEGER PRIMARY KEY, path TEXT NOT NULL, kind TEXT NOT NULL);
CREATE TABLE sample (
    time_s REAL NOT NULL, source TEXT NOT NULL, step INTEGER NOT NULL,
    voltage_V REAL, current_A REAL, charge_C REAL, force_N REAL, temperature_K REAL,
    flags INTEGER NOT NULL, row INTEGER
);
CREATE TABLE spectrum (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, step INTEGER NOT NULL,
    temperature_K REAL, stack_pressure_Pa REAL, bias_V REAL,
    frequency_Hz BLOB NOT NULL, impedance_real_ohm BLOB NOT NULL, impedance_imag_ohm BLOB NOT NULL,
    point_time_s BLOB NOT NULL, flags BLOB NOT NULL
);
"""

#: Only in the file of a run that was recorded: the wire log, in pieces of one zlib stream.
WIRE_SCHEMA = "CREATE TABLE wire (id INTEGER PRIMARY KEY, piece BLOB NOT NULL)"

SAMPLE_COLUMNS = (
    "time_s", "source", "step", "voltage_V", "current_A", "charge_C", "force_N", "temperature_K",
    "flags", "row",
)  # fmt: skip
#: A sample, in the order of the columns.
SampleRow = tuple[
    float, str, int, float | None, float | None, float | None, float | None, float | None, int,
    int | None,
]  # fmt: skip
