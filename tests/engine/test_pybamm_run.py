"""The cell that PyBaMM computes, from a shipped protocol through engine, drivers and wire."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from cellbench import clock
from cellbench.analysis import analyse
from cellbench.analysis.stored import stored_dataset
from cellbench.engine.run import Conductor, RunEnd
from cellbench.engine.session import prepare
from cellbench.store import RunReader, Store

pytestmark = pytest.mark.long


@pytest.mark.skipif(
    importlib.util.find_spec("pybamm") is None,
    reason='PyBaMM is not installed: pip install "cellbench[pybamm]"',
)
def test_a_formation_runs_to_its_end_and_gives_back_what_it_took(tmp_path: Path) -> None:
    sets = ["stack_pressure=5 MPa", "rate=C/2", "cycles=2"]
    session = prepare("formation", cell="NMC811_Li_pybamm", sets=sets, seed=1)

    async def conduct(store: Store) -> RunEnd:
        async with session.bench(None) as bench:
            documents = session.documents(bench)
            return await Conductor(session.program, bench, store, documents=documents).conduct()

    with Store(tmp_path) as store:
        end = clock.run(conduct(store), virtual=True)
        reader = RunReader(store.run_path(end.run.id))
        dataset = stored_dataset(reader, session.program.card)

    assert (end.exit_code, end.reason) == (0, "every step has ended")
    assert reader.journal[-1].data["missing_samples"] == 0
    # Nothing leaks or ages in this cell: what a cycle takes, it gives back.
    efficiency = analyse("coulombic_efficiency", dataset)
    assert efficiency["last_percent"] == pytest.approx(100.0, abs=0.1)
