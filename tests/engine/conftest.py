"""Running short protocols on the simulated bench, with something happening on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellbench import clock
from cellbench.bench import Bench
from cellbench.engine.run import Conductor, RunEnd
from cellbench.engine.session import prepare
from cellbench.store import RunReader, Store
from cellbench_sim.bench import SimulatedBench

Disturbance = Callable[[SimulatedBench, Bench, Conductor], Awaitable[None]]


@dataclass(frozen=True)
class Ran:
    """A run that has ended: how, its file, and the physical bench afterwards."""

    end: RunEnd
    reader: RunReader
    simulator: SimulatedBench

    def kinds(self) -> list[str]:
        """Kinds of the journal's entries in order."""
        return [entry.kind for entry in self.reader.journal]

    def texts(self) -> str:
        """All that a person could read in the journal."""
        return "\n".join(entry.text for entry in self.reader.journal)


class Runner:
    """Runs protocol text; ``disturb`` runs beside it, in virtual time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def __call__(
        self, protocol: str, *, disturb: Disturbance | None = None, seed: int = 1,
        cell: str = "LYC_PMMA", sim_cell: str | None = None, bench: str | Path | None = None,
    ) -> Ran:  # fmt: skip
        self._count += 1
        path = self._directory / f"protocol_{self._count}.yaml"
        path.write_text(protocol, encoding="utf-8")
        file = None if bench is None else Path(bench)
        session = prepare(str(path), cell=cell, sim_cell=sim_cell, seed=seed, bench=file)
        simulator = session.simulator
        assert isinstance(simulator, SimulatedBench)

        async def main(store: Store) -> RunEnd:
            async with session.bench(None) as instruments:
                documents = session.documents(instruments)
                conductor = Conductor(
                    session.program, instruments, store, documents=documents, seed=seed
                )
                beside = asyncio.create_task(
                    disturb(simulator, instruments, conductor) if disturb else asyncio.sleep(0)
                )
                end = await conductor.conduct()
                beside.cancel()
                return end

        with Store(self._directory / "store") as store:
            end = clock.run(main(store), virtual=True)
            return Ran(end, RunReader(store.run_path(end.run.id)), simulator)


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run protocol text on the simulated bench."""
    return Runner(tmp_path)
