"""Running a session on its simulated bench, in virtual time; estimating a run by running it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cellbench import clock
from cellbench.engine.run import Conductor, RunEnd
from cellbench.engine.session import Session
from cellbench.errors import InputError
from cellbench.store import RunReader, Store
from cellbench.store.runfile import keep_rest_of_wire
from cellbench.transport.recording import WireLog


def conduct(session: Session, store: Store, *, record: bool = False) -> RunEnd:
    """Run a session on its simulated bench to its end, with nobody watching."""
    return clock.run(conducted(session, store, record=record), virtual=True)


def simulate(session: Session) -> dict[str, Any]:
    """Run a session on its simulated bench and say how it went.

    Raises:
        InputError: The session is for a real bench.
    """
    if session.simulator is None:
        raise InputError("--simulate needs the simulated bench: leave out --bench")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        Store(Path(directory)) as store,
    ):
        end = conduct(session, store)
        reader = RunReader(store.run_path(end.run.id))
        return {
            "state": str(end.state),
            "reason": end.reason,
            "duration_h": reader.journal[-1].time_s / 3600,
            "steps": sum(entry.kind == "step ended" for entry in reader.journal),
            "samples": sum(len(reader.samples(source)["time_s"]) for source in reader.sources()),
        }


async def conducted(session: Session, store: Store, *, record: bool = False) -> RunEnd:
    """Run a session on its bench to its end, on the loop that is running; ``record`` its wire."""
    wire = WireLog() if record else None
    async with session.bench(None, wire) as bench:
        conductor = Conductor(
            session.program,
            bench,
            store,
            documents=session.documents(bench),
            seed=session.seed,
            wire=wire,
        )
        end = await conductor.conduct()
    if wire is not None:
        keep_rest_of_wire(store.run_path(end.run.id), wire)
    return end
