"""Runs from Python: what `cellbench.open` gives, of a store on this computer or of a server's.

import cellbench

with cellbench.open() as store:
    run = store.run("last")
    samples = run.samples()
    print(run.cell, samples["voltage_V"].max(), run.analyse("ccd"))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from cellbench.analysis.dataset import Result, Spectrum
from cellbench.errors import InputError
from cellbench.store.needed import needed

#: Columns of a run's samples, all that are numbers; what is not asked for by name.
NUMBERS = (
    "time_s", "voltage_V", "current_A", "charge_C", "stack_pressure_Pa", "temperature_K", "step",
    "cycle", "flags",
)  # fmt: skip
#: The step's path and technique in words.
WORDS = ("path", "technique")


@dataclass(frozen=True)
class Facts:
    """What a list of runs says of one; times are UTC."""

    id: str
    protocol: str
    cell: str
    bench: str
    state: str
    reason: str
    simulated: bool
    started: datetime
    ended: datetime | None


class Backend(Protocol):
    """Where runs are; every method takes the run's whole id."""

    def runs(
        self, text: str, cell: str, protocol: str, state: str, limit: int | None
    ) -> list[Facts]:
        """The runs that hold a text and are as told where that is not empty; newest first."""

    def find(self, name: str) -> Facts:
        """The run of an id, the end of one, or "last"."""

    def samples(self, run: str, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of the channel's rows."""

    def spectra(self, run: str) -> tuple[Spectrum, ...]:
        """The spectra as measured."""

    def cycles(self, run: str) -> list[dict[str, Any]]:
        """The rows of `cellbench.analysis.cycle_rows`."""

    def journal(self, run: str) -> list[dict[str, Any]]:
        """Entries with number, time_s, utc, kind, step, text."""

    def analyse(self, run: str, name: str, cell: str | None) -> Result:
        """What an analysis gives."""

    def close(self) -> None:
        """Give up what is open."""


@dataclass(frozen=True)
class OpenedRun(Facts):
    """One run: what is known of it, and its data."""

    _backend: Backend = field(repr=False)

    def samples(self, columns: Sequence[str] = NUMBERS) -> dict[str, NDArray[Any]]:
        """The channel's rows as arrays of one length, NaN where not measured.

        Args:
            columns: Of ``time_s``, ``voltage_V``, ``current_A`` (positive is oxidation at the
                working electrode), ``charge_C`` (since the step began), ``stack_pressure_Pa`` and
                ``temperature_K`` (the last reading before the row, NaN where that is stale),
                ``step`` (a number), ``cycle``, ``flags`` (bits of
                `cellbench.instruments.readings.Flag`); and as text ``path`` and ``technique``.

        Raises:
            InputError: There is no such column.
        """
        unknown = [name for name in columns if name not in {*NUMBERS, *WORDS}]
        if unknown:
            known = ", ".join((*NUMBERS, *WORDS))
            raise InputError(f"there is no column {', '.join(unknown)}: choose of {known}")
        return self._backend.samples(self.id, columns)

    def frame(self, columns: Sequence[str] = NUMBERS) -> Any:
        """The same as a pandas data frame.

        Raises:
            InputError: There is no such column, or pandas is not installed.
        """
        return needed("pandas").DataFrame(self.samples(columns))

    @property
    def spectra(self) -> tuple[Spectrum, ...]:
        """Its impedance spectra: frequencies (Hz), impedances (ohm), conditions."""
        return self._backend.spectra(self.id)

    @property
    def cycles(self) -> list[dict[str, Any]]:
        """Its cycles: charges (C), efficiency, mean voltages, start and end (s)."""
        return self._backend.cycles(self.id)

    @property
    def journal(self) -> list[dict[str, Any]]:
        """What happened, in order: number, time_s, utc, kind, step, text."""
        return self._backend.journal(self.id)

    def analyse(self, name: str, cell: str | None = None) -> Result:
        """What an analysis makes of it, by name: "ccd", "capacity", "arrhenius within ladder".

        Args:
            name: The analysis; `cellbench analyses` lists them.
            cell: A corrected cell card; of a store on this computer only.

        Raises:
            InputError: There is no such analysis or card.
            ValueError: The run does not hold what the analysis needs.
        """
        return self._backend.analyse(self.id, name, cell)


class OpenedStore:
    """The runs of a store."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is open."""
        self._backend.close()

    def runs(
        self,
        text: str = "",
        *,
        cell: str = "",
        protocol: str = "",
        state: str = "",
        limit: int | None = None,
    ) -> list[OpenedRun]:
        """The runs, newest first.

        Args:
            text: What is to occur in the id, protocol, cell, bench, or reason of the end.
            cell: The cell's name.
            protocol: The protocol's name.
            state: "running", "completed", "imported", ...
            limit: How many at most.
        """
        found = self._backend.runs(text, cell, protocol, state, limit)
        return [OpenedRun(**vars(facts), _backend=self._backend) for facts in found]

    def run(self, name: str = "last") -> OpenedRun:
        """A run by its id, the end of one, or "last".

        Raises:
            InputError: There is none, or several.
        """
        return OpenedRun(**vars(self._backend.find(name)), _backend=self._backend)
