"""A stored run on its way out: who it was, and its channel's rows in blocks of memory.

Slower instruments' readings stand beside a row as the last one before it, unless that is stale.
Charge is positive where it goes into the cell, whatever the sign of the current is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellbench.analysis.dataset import FloatArray, Series
from cellbench.analysis.stored import channel_names, environment, geometry
from cellbench.cell import CellCard
from cellbench.instruments.readings import Flag
from cellbench.protocol import parse_card
from cellbench.store import JournalEntry, Run, RunReader

#: Columns of one length, by name.
Columns = Mapping[str, NDArray[Any]]
#: Sampling intervals of a slow instrument after which its last reading counts as stale.
STALE_INTERVALS = 2.0
_COULOMB_PER_AH = 3600.0


@dataclass(frozen=True)
class Outgoing:
    """A run whose data are to leave."""

    reader: RunReader
    run: Run

    @property
    def name(self) -> str:
        """What its files are called by: data that nobody measured say so in their name."""
        return f"{self.run.id}-simulated" if self.run.simulated else self.run.id

    @property
    def started(self) -> datetime:
        """When it started, UTC; the catalogue keeps times without a zone."""
        return self.run.started.replace(tzinfo=UTC)

    @cached_property
    def card(self) -> CellCard:
        """The cell card as the run kept it."""
        return parse_card(self.reader.documents["cell"], f"the card of run {self.run.id}")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, roles, identities."""
        return environment(self.reader)

    @property
    def charge_sign(self) -> float:
        """+1 where positive current (oxidation at the working electrode) charges it, else -1."""
        return geometry(self.card).charge_sign

    def entries(self, *kinds: str) -> list[JournalEntry]:
        """The journal's entries of some kinds, in order."""
        return [entry for entry in self.reader.journal if entry.kind in kinds]

    @cached_property
    def stack_pressure_Pa(self) -> Held:
        """What the gauge, or else the press, measured."""
        roles = self.environment["roles"]
        force = self._series(roles.get("gauge") or roles.get("press"), "force_N")
        return Held(Series(force.time_s, force.value / self.card.stack_area_m2))

    @cached_property
    def temperature_K(self) -> Held:
        """What the chamber measured."""
        return Held(self._series(self.environment["roles"].get("chamber"), "temperature_K"))

    def _series(self, source: str | None, column: str) -> Series:
        if not source:
            return Series()
        parts = [(block["time_s"], block[column]) for block in self.reader.blocks(source)]
        times, values = zip(*parts, strict=True) if parts else ((), ())
        return Series(np.concatenate([[], *times]), np.concatenate([[], *values]))

    def channel(self) -> Iterator[dict[str, NDArray[Any]]]:
        """The channel's rows in blocks.

        To the columns of the store come ``stack_pressure_Pa``, ``cycle`` (passes of the innermost
        loops begun so far), ``path`` and ``technique`` of the step, ``flag`` in words, and the
        capacities of `Ledger`. ``temperature_K`` is the chamber's.
        """
        ledger, cycles = Ledger(self.charge_sign), cycle_counts(self.reader.steps)
        for block in self.reader.blocks(*channel_names(self.environment)):
            step = block["step"].astype(int)
            cycle = mapped(step, lambda number: cycles.get(number, 0)).astype(int)
            yield (
                block
                | self.named(step, block["flags"])
                | {"step": step, "cycle": cycle, "flags": block["flags"].astype(int)}
                | {"stack_pressure_Pa": self.stack_pressure_Pa.at(block["time_s"])}
                | {"temperature_K": self.temperature_K.at(block["time_s"])}
                | ledger.add(block["charge_C"], step, cycle)
            )

    def named(self, step: NDArray[Any], flags: FloatArray) -> dict[str, NDArray[Any]]:
        """Steps and flags of rows in words."""
        steps = self.reader.steps
        return {
            "path": mapped(step, lambda number: steps.get(number, ("", ""))[0]),
            "technique": mapped(step, lambda number: steps.get(number, ("", ""))[1]),
            "flag": mapped(flags.astype(int), flags_in_words),
        }


class Held:
    """A slow instrument's readings as they stand beside rows of another one."""

    def __init__(self, series: Series) -> None:
        self._series = series
        # How often it is read at its usual pace; sometimes it is read faster.
        intervals_s = np.diff(series.time_s)
        usual_s = float(np.quantile(intervals_s, 0.9)) if len(intervals_s) else 0.0
        self._fresh_s = STALE_INTERVALS * usual_s

    def at(self, time_s: FloatArray) -> FloatArray:
        """The last reading at or before each time; NaN before the first and where it is stale."""
        if not len(self._series):
            return np.full(len(time_s), np.nan)
        last = np.searchsorted(self._series.time_s, time_s, "right") - 1
        age_s = time_s - self._series.time_s[last]
        return np.where((last >= 0) & (age_s <= self._fresh_s), self._series.value[last], np.nan)


class Ledger:
    """Charge put in and taken out, from a charge that begins anew in each step, block by block.

    Rows without a charge change nothing; a step that another one interrupts goes on counting.
    """

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._of_step: dict[int, float] = {}
        self._passed_C = np.zeros(2)
        self._cycle, self._before_cycle_C = -1, np.zeros(2)

    def add(
        self, charge_C: FloatArray, step: NDArray[Any], cycle: NDArray[Any]
    ) -> dict[str, FloatArray]:
        """Capacities (Ah) at each row: since the start of the run, and of its cycle."""
        parts_C = [np.empty((4, 0))]
        for rows in stretches(step):
            number = int(step[rows.start])
            if cycle[rows.start] != self._cycle:
                self._cycle, self._before_cycle_C = int(cycle[rows.start]), self._passed_C
            counted_C = _last_known(self._of_step.get(number, 0.0), self._sign * charge_C[rows])
            self._of_step[number] = float(counted_C[-1])
            rises_C = np.diff(counted_C)
            both_C = np.cumsum([np.maximum(rises_C, 0), np.maximum(-rises_C, 0)], axis=1)
            both_C += self._passed_C[:, None]
            self._passed_C = both_C[:, -1]
            parts_C.append(np.concatenate((both_C, both_C - self._before_cycle_C[:, None])))
        columns = np.concatenate(parts_C, axis=1) / _COULOMB_PER_AH
        names = ("charged_Ah", "discharged_Ah", "cycle_charged_Ah", "cycle_discharged_Ah")
        return dict(zip(names, columns, strict=True))


def _last_known(before: float, values: FloatArray) -> FloatArray:
    """A value and those after it, each that is missing replaced by the last one before it."""
    whole = np.concatenate(([before], values))
    known = np.maximum.accumulate(np.where(np.isnan(whole), 0, np.arange(len(whole))))
    return np.asarray(whole[known])


def stretches(step: NDArray[Any]) -> Iterator[slice]:
    """The rows of one step after another."""
    edges = [0, *(np.flatnonzero(np.diff(step)) + 1).tolist(), len(step)]
    return (slice(first, end) for first, end in itertools.pairwise(edges) if end > first)


def mapped(values: NDArray[Any], function: Callable[[Any], Any]) -> NDArray[Any]:
    """A function's answers for an array of few different numbers."""
    different, places = np.unique(values, return_inverse=True)
    return np.array([function(each) for each in different.tolist()], dtype=object)[places]


def cycle_counts(steps: Mapping[int, tuple[str, str]]) -> dict[int, int]:
    """Passes of the innermost loops begun so far, at each step; 0 before the first."""
    counts: dict[int, int] = {}
    now, seen = "", 0
    for step_id, (path, _) in sorted(steps.items()):
        within = path[: path.rfind("]") + 1]
        if within and within != now:
            now, seen = within, seen + 1
        counts[step_id] = seen
    return counts


def flags_in_words(flags: int) -> str:
    """The flags of a row as words, several with a space between: "late missing"."""
    return " ".join(str(flag.name).lower().replace("_", "-") for flag in Flag if flags & flag)


def flags_of_words(words: str) -> int:
    """What `flags_in_words` has written; words that are none of ours are left out."""
    known = {flags_in_words(flag): int(flag) for flag in Flag}
    return sum(known.get(word, 0) for word in set(words.split()))


def as_rows(columns: Sequence[NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    """Rows for a text file: every float as it reads back bit for bit, None for what is missing."""
    return zip(*(_cells(column) for column in columns), strict=True)


def _cells(column: NDArray[Any]) -> list[Any]:
    if column.dtype.kind == "f":
        column = column + 0.0  # never "-0.0"
        if np.isnan(column).any():
            return [None if each != each else each for each in column.tolist()]  # noqa: PLR0124
    cells: list[Any] = column.tolist()
    return cells
