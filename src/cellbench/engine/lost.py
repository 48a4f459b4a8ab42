"""Runs that lost their host: which there are, and which of them one process has to go on with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cellbench.analysis.stored import environment
from cellbench.engine.causes import RunState
from cellbench.store import Run, RunReader, Store, never_began
from cellbench.transport.ownership import is_held_for

#: Why a run that was lost before its first entry is entered as failed.
NEVER_BEGAN = "lost before it began: nothing was energised"


@dataclass(frozen=True)
class LostRun:
    """A run whose process is gone, and that has not ended.

    Attributes:
        store: Directory of its store.
        seen: When its host was last alive, by what it kept.
        bench: File of the bench with many places that it is on; None on a bench with one cell.
        instruments: That it had.
    """

    store: Path
    run: str
    seen: datetime
    bench: Path | None = None
    instruments: frozenset[str] = frozenset()

    def is_recent(self, within_hours: float) -> bool:
        """Whether its host was alive in the last so many hours."""
        return datetime.now(UTC) - self.seen <= timedelta(hours=within_hours)

    def shares_with(self, other: LostRun) -> bool:
        """Whether both had an instrument, which only one process can have."""
        same_bench = self.bench is not None and self.bench == other.bench
        return (
            same_bench and self.store == other.store and bool(self.instruments & other.instruments)
        )


def lost_runs(directory: Path) -> list[LostRun]:
    """Runs of a store on real benches that nobody conducts any more, oldest first.

    One that was lost before it began is entered as failed: there is nothing to go on with.

    Raises:
        CellbenchError: The store cannot be read.
    """
    found = []
    with Store(directory, make=False) as store:
        for run in store.runs():
            path = store.run_path(run.id)
            if run.state != "running" or run.simulated or not path.is_file():
                continue
            if is_held_for(path):
                continue
            if never_began(path):
                store.finish(run, RunState.FAILED, NEVER_BEGAN)
                continue
            found.append(_lost(store, run))
    return found[::-1]


def _lost(store: Store, run: Run) -> LostRun:
    reader = RunReader(store.run_path(run.id))
    seen = run.started.replace(tzinfo=UTC) + timedelta(seconds=reader.last_s)
    surroundings = environment(reader)
    bench = surroundings.get("bench_file")
    return LostRun(
        store.directory,
        run.id,
        seen,
        None if bench is None else Path(bench),
        frozenset(surroundings["instruments"]),
    )


def together(lost: Iterable[LostRun]) -> list[tuple[LostRun, ...]]:
    """Group runs so that each group can be gone on with by a process of its own."""
    groups: list[tuple[LostRun, ...]] = []
    for run in lost:
        mine = [group for group in groups if any(map(run.shares_with, group))]
        rest = [group for group in groups if group not in mine]
        groups = [*rest, (*(each for group in mine for each in group), run)]
    return groups
