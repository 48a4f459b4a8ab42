"""Reading a run's file: journal, documents, samples as arrays, spectra."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session, col, select

from cellbench.errors import StoreError
from cellbench.store.archive import Archived, archived
from cellbench.store.parquet import ParquetFile
from cellbench.store.runfile import open_engine
from cellbench.store.samples import NUMBERS, Columns, FloatArray, samples_of
from cellbench.store.tables import (
    COMPACTED_VERSION,
    FORMAT_VERSION,
    Document,
    JournalEntry,
    SampleRow,
)
from cellbench.transport.recording import unpacked

#: Kind of the last journal entry of a run that has ended.
RUN_ENDED = "run ended"


@dataclass(frozen=True)
class StoredSpectrum:
    """One spectrum: arrays of one length from the highest to the lowest frequency."""

    id: int
    time_s: float
    step: int
    temperature_K: float | None
    stack_pressure_Pa: float | None
    bias_V: float | None
    frequency_Hz: FloatArray
    impedance_ohm: NDArray[np.complex128]
    point_time_s: FloatArray
    flags: FloatArray


class Documents(dict[str, str]):
    """Texts by name; one that is missing was not kept any more.

    Args:
        path: Of the run's file.
    """

    def __init__(self, path: Path, texts: Iterable[tuple[str, str]]) -> None:
        super().__init__(texts)
        self._path = path

    def __missing__(self, name: str) -> str:
        raise StoreError(f"{self._path} has no {name}: the run was lost before it began")


def never_began(path: Path) -> bool:
    """Whether a run was lost before the first entry of its journal: nothing was energised by it."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            ((version,),) = connection.execute("PRAGMA user_version").fetchall()
            if version in {FORMAT_VERSION, COMPACTED_VERSION}:
                return not connection.execute("SELECT seq FROM journalentry LIMIT 1").fetchall()
        except sqlite3.DatabaseError:
            return False
    return bool(version == 0)  # the last that is written as a file is made


def how_it_ended(path: Path) -> tuple[str, str, datetime] | None:
    """State, reason and time (UTC) with which a run's file ends, None where it has not ended."""
    if not path.is_file():
        return None
    with closing(sqlite3.connect(path)) as connection:
        try:
            last = connection.execute(
                "SELECT kind, data, text, utc FROM journalentry ORDER BY seq DESC LIMIT 1"
            ).fetchone()
        except sqlite3.DatabaseError:
            return None
    if last is None or last[0] != RUN_ENDED:
        return None
    state = str(json.loads(last[1])["state"])
    utc = datetime.fromisoformat(last[3]).replace(tzinfo=UTC)
    return state, last[2].removeprefix(f"{state}: "), utc


class RunReader:
    """A run's file, opened to be read; a run that is still being written can be read too.

    Raises:
        StoreError: The file is missing or of another version.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StoreError(f"the run's file {path} is missing")
        self.path = path
        self._samples: dict[tuple[str, ...], dict[str, FloatArray]] = {}
        with closing(sqlite3.connect(path)) as connection:
            try:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
            except sqlite3.DatabaseError as error:
                raise StoreError(f"{path} is not a run's file: {error}") from error
        if version == 0:
            raise StoreError(
                f"{path} is no run's file: it is empty, another program's database, or of a run "
                "that was lost before it began"
            )
        if version not in {FORMAT_VERSION, COMPACTED_VERSION}:
            raise StoreError(
                f"{path} has format {version}, this cellbench reads formats {FORMAT_VERSION} "
                f"and {COMPACTED_VERSION}"
            )

    @cached_property
    def journal(self) -> Sequence[JournalEntry]:
        """The journal in order."""
        with self._session() as session:
            return session.exec(select(JournalEntry).order_by(col(JournalEntry.seq))).all()

    def last_entries(self, count: int) -> Sequence[JournalEntry]:
        """The last entries of the journal, in order; the others are not read."""
        newest = select(JournalEntry).order_by(col(JournalEntry.seq).desc()).limit(count)
        with self._session() as session:
            return session.exec(newest).all()[::-1]

    @cached_property
    def documents(self) -> dict[str, str]:
        """The texts kept verbatim, by name."""
        with self._session() as session:
            found = session.exec(select(Document))
            return Documents(self.path, ((each.name, each.text) for each in found))

    @cached_property
    def steps(self) -> dict[int, tuple[str, str]]:
        """Path and kind of each step by the number that samples refer to."""
        rows = self._rows("SELECT id, path, kind FROM step ORDER BY id")
        return {step_id: (path, kind) for step_id, path, kind in rows}

    def samples(self, *sources: str) -> dict[str, FloatArray]:
        """Columns of the samples of one or more instruments; NaN where not measured.

        In order of arrival. Read once, like the journal: analyses and report look at the same rows.
        """
        if sources not in self._samples:
            self._samples[sources] = self._read_samples(sources)
        return self._samples[sources]

    def _read_samples(self, sources: tuple[str, ...]) -> dict[str, FloatArray]:
        measured = set().union(*(self._measured.get(source, ()) for source in sources))
        with samples_of(self.path) as samples:
            columns = samples.columns(sources, [name for name in NUMBERS if name in measured])
        for column in columns.values():
            column.flags.writeable = False  # shared by all who ask
        return columns

    def blocks(self, *sources: str, by_time: bool = False) -> Iterator[Columns]:
        """The columns of some instruments' samples (of all, if none is named), block by block.

        For runs of any length: no more than some blocks are in memory. In order of arrival, or of
        time; "source" is text, all else numbers, NaN where not measured.
        """
        with samples_of(self.path) as samples:
            yield from samples.blocks(sources, by_time=by_time)

    def rows_of_step(self, step: int, sources: Sequence[str]) -> list[SampleRow]:
        """The rows of one step that came from some instruments, in order of arrival."""
        with samples_of(self.path) as samples:
            return samples.of_step(step, sources)

    def last_row(self, first_step: int) -> SampleRow | None:
        """The row of the highest number in a step list, None where none of its rows was kept.

        Args:
            first_step: Number of the first step of the list.
        """
        with samples_of(self.path) as samples:
            return samples.of_highest_number(first_step)

    def spark(self, column: str, points: int) -> list[float]:
        """A few values of a column, evenly over the rows: a run's shape, little of it read."""
        with samples_of(self.path) as samples:
            return samples.spark(column, points)

    @property
    def last_s(self) -> float:
        """Time since the start of the run of the newest that was kept; 0 if nothing was."""
        entry = self._rows("SELECT time_s FROM journalentry ORDER BY rowid DESC LIMIT 1")
        with samples_of(self.path) as samples:
            last_row = samples.last_row
            newest = samples.between(last_row, last_row)
        return max((*newest["time_s"].tolist(), *(time_s for (time_s,) in entry)), default=0.0)

    def sources(self) -> list[str]:
        """Names of the instruments that samples came from."""
        return list(self._measured)

    @cached_property
    def _measured(self) -> dict[str, Set[str]]:
        # What an instrument does not measure is not read: of a long run, half of all there is.
        with samples_of(self.path) as samples:
            return samples.measured()

    @cached_property
    def archived(self) -> dict[str, Archived]:
        """What of the run stands in files beside this one, by table: nothing until compacted."""
        with closing(sqlite3.connect(self.path)) as connection:
            return archived(connection)

    def spectra(self) -> list[StoredSpectrum]:
        """The spectra in order."""
        names = (
            "id, time_s, step, temperature_K, stack_pressure_Pa, bias_V, frequency_Hz, "
            "impedance_real_ohm, impedance_imag_ohm, point_time_s, flags"
        )
        return [
            StoredSpectrum(
                **dict(zip(names.split(", ")[:6], row, strict=False)),
                frequency_Hz=np.frombuffer(row[6]),
                impedance_ohm=np.frombuffer(row[7]) + 1j * np.frombuffer(row[8]),
                point_time_s=np.frombuffer(row[9]),
                flags=np.frombuffer(row[10]),
            )
            for row in self._kept("spectrum", names)
        ]

    @property
    def wire_header(self) -> dict[str, Any] | None:
        """What is kept beside the wire log; None for a run that was not recorded."""
        text = self.documents.get("wire")
        return None if text is None else json.loads(text)

    def wire(self) -> bytes:
        """The events of the wire log, in the layout of `cellbench.transport.recording`."""
        return unpacked(piece for _, piece in self._kept("wire", "id, piece"))

    @contextmanager
    def _session(self) -> Iterator[Session]:
        engine = open_engine(self.path, durable=False)
        try:
            with Session(engine) as session:
                yield session
        finally:
            engine.dispose()

    def _kept(self, table: str, names: str) -> list[tuple[Any, ...]]:
        """The rows of a table, from the run's file or from the one beside it."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("BEGIN")
            kept = archived(connection).get(table)
            if kept is None:
                return connection.execute(f"SELECT {names} FROM {table} ORDER BY id").fetchall()  # noqa: S608 (our names)
            with ParquetFile(kept.beside(self.path)) as file:
                return [row for piece in file.rows() for row in piece]

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query, values).fetchall()
