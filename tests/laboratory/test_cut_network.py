"""Two benches and their server, each with a network of its own; everything is lost once.

In real time, with the time-outs that the program ships with: a cut that drops what is sent, and
tells nobody, is noticed by time alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.faults.processes import wait_for

pytest.importorskip("procrastinate", reason="the extra [server] is not installed")
from cellbench.laboratory import Database
from cellbench.store import Run, RunReader

from .benches import CELL, Bench, Laboratory, assert_each_is_one_run
from .networks import Network, network
from .postgresql import PostgreSQL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="the server of these tests is POSIX"),
]

#: What docs/laboratory.md promises: to notice a cut, and to go on after it.
NOTICED_S = 60.0
ROOM = """
bench: two places in an oven
instruments:
  n1: {driver: neware, port: simulated, channel: 27-21-1-1, steps folder: steps}
  n2: {driver: neware, port: simulated, channel: 27-21-1-2, steps folder: steps}
  oven: {driver: eurotherm, port: simulated}
fixture: {die: 10 mm, kind: spring, at most: 5 kN}
cells:
  A1: {card: NMC811_LYC_PMMA_Li, channel: n1, chamber: oven}
  A2: {card: NMC811_LYC_PMMA_Li, channel: n2, chamber: oven}
"""
CHARGE = """
cellbench: 1
name: A short charge
cell: NMC811_LYC_PMMA_Li
steps:
  - current: {at: 0.1 mA/cm2, for: 40 s, record: {every: 1 s}}
  - rest: 2 s
"""

#: Through a die of 10 mm.
CHARGE_C = 1e-4 * np.pi * 0.25 * 40


@pytest.fixture
def networks() -> Iterator[list[Network]]:
    with ExitStack() as stack:
        yield [stack.enter_context(network(number)) for number in range(2)]


@pytest.fixture
def laboratory(networks: list[Network], tmp_path: Path) -> Iterator[Laboratory]:
    server = PostgreSQL({each.server: each.bench for each in networks})
    try:
        server.start()
        database = Database(server.url("laboratory"))
        database.create()
        database.upgrade()
        laboratory = Laboratory(server, database, tmp_path)
        with laboratory.stack:
            yield laboratory
    finally:
        server.remove()


def open_bench(laboratory: Laboratory, name: str, network: Network) -> Bench:
    """Two places that share an oven: one process runs both."""
    room = laboratory.directory / "room.yaml"
    room.write_text(ROOM)
    options = ("--bench", str(room), "--cell", CELL)
    file = laboratory.serve(name, *options, speed="1", within=network.within)
    return laboratory.bench(name, file, network=network)


def with_a_current(bench: Bench) -> set[str]:
    """The runs in the middle of their first step, which their cyclers do by themselves."""
    journals = {run.id: bench.journal_of(run) for run in bench.runs if run.state == "running"}
    return {
        name
        for name, journal in journals.items()
        if any(each.kind == "step started" for each in journal)
        and all(each.kind != "step ended" for each in journal)
    }


def away(bench: Bench) -> Sequence[int]:
    """How often it was found that the server is away: for jobs, and for copies."""
    followed = (bench.store / "follow.log").read_text()
    return bench.said.count("nothing new is begun"), followed.count("runs go on, and are copied")


def back(bench: Bench) -> Sequence[int]:
    """The same of its coming back."""
    followed = (bench.store / "follow.log").read_text()
    return bench.said.count("is back"), followed.count("is back")


def seconds_until(happened: Callable[[], object], what: str, patience_s: float = 120) -> float:
    began_s = time.monotonic()
    wait_for(happened, what, patience_s, every_s=0.2)
    return time.monotonic() - began_s


def assert_one_at_a_time(runs: Sequence[Run]) -> None:
    """No place had two runs at once."""
    for place in {run.place for run in runs}:
        at_place = sorted((run for run in runs if run.place == place), key=lambda run: run.started)
        for one, next_one in pairwise(at_place):
            assert one.ended is not None
            assert one.ended <= next_one.started


def assert_done_once(bench: Bench, run: Run) -> None:
    """The cell had the current of one run, the cycler was told so once, and every row is there."""
    journal = bench.journal_of(run)
    assert Counter(each.kind for each in journal)["step list"] == 1
    rows = RunReader(bench.run_file(run)).samples("n1", "n2")
    charge_C = np.nanmax(np.abs(rows["charge_C"]))
    assert charge_C == pytest.approx(CHARGE_C, rel=0.02)
    numbers = rows["row"][~np.isnan(rows["row"])]
    assert np.all(np.diff(numbers) == 1)


def story_of(bench: Bench, run: Run) -> tuple[tuple[str, str], ...]:
    """What its journal says that came to pass, without when."""
    return tuple((each.kind, each.step) for each in bench.journal_of(run))


def test_a_killed_owner_a_lost_server_and_a_cut_network_cost_no_job_and_double_none(
    laboratory: Laboratory, networks: list[Network]
) -> None:
    charge = laboratory.protocol(CHARGE)
    benches = [open_bench(laboratory, f"room{n}", each) for n, each in enumerate(networks, 1)]
    killed, cut = benches
    for _ in range(9):
        laboratory.submit(charge)
    for _ in range(3):  # for after the cut
        laboratory.submit(charge, bench="room2")
    for bench in benches:
        bench.start()
    seconds_until(
        lambda: len(with_a_current(killed)) == len(with_a_current(cut)) == 2, "not all have begun"
    )

    killed.kill()
    laboratory.server.kill()
    killed.start()
    seconds_until(lambda: "resuming" in killed.said, "nobody goes on with the lost runs")
    seconds_until(lambda: min(away(cut)) == 1, "nobody finds that the server is away")
    laboratory.server.start()
    seconds_until(lambda: min(back(cut)) == 1, "nobody finds that it is back")

    seconds_until(
        lambda: len(cut.runs) == 4 and len(with_a_current(cut)) == 2, "no other two have begun"
    )
    theirs = {
        number: job
        for number, job in laboratory.jobs().items()
        if job["bench"] == "room2" and job["state"] == "running"
    }
    networks[1].cut()
    assert seconds_until(lambda: min(away(cut)) == 2, "the cut is not noticed") < NOTICED_S
    seconds_until(lambda: {run.state for run in cut.runs} == {"completed"}, "runs do not complete")
    assert len(cut.runs) == 4  # nothing is begun that the queue cannot hear of
    assert theirs.items() <= laboratory.jobs().items()  # whatever the other bench takes meanwhile
    assert len(theirs) == 2
    networks[1].heal()
    assert seconds_until(lambda: min(back(cut)) == 2, "its end is not noticed") < NOTICED_S

    seconds_until(
        lambda: {job["state"] for job in laboratory.jobs().values()} == {"done"},
        "not all jobs are done",
        300,
    )
    assert len(laboratory.jobs()) == 12
    assert_each_is_one_run(laboratory, benches)
    for bench in benches:
        bench.end()
        assert_one_at_a_time(bench.runs)
        for run in bench.runs:
            assert_done_once(bench, run)
        checked = laboratory.ask("database", "check", "--store", str(bench.store), who=bench.name)
        assert checked == {"runs": len(bench.runs), "differences": {}}
    copied = {bench.name: bench.runs for bench in laboratory.database.benches()}
    assert copied == {bench.name: len(bench.runs) for bench in benches}
    assert len({story_of(cut, run) for run in cut.runs}) == 1  # also of those within the cut


def test_what_a_bench_had_locked_is_free_soon_after_it_was_cut_off(
    laboratory: Laboratory, networks: list[Network]
) -> None:
    (job,) = laboratory.submit(laboratory.protocol(CHARGE))
    laboratory.person("room1", "bench")
    cut, _ = networks
    locks = (
        "import sys, time; from cellbench.laboratory import Database\n"
        "session = Database(sys.argv[1]).connect()\n"
        "session.execute('SELECT FROM procrastinate_jobs FOR UPDATE')\n"
        "print('locked', flush=True); time.sleep(600)"
    )
    command = [*cut.within, sys.executable, "-c", locks, laboratory.address("room1", cut)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as session:
        try:
            assert session.stdout is not None
            assert session.stdout.readline() == b"locked\n"
            cut.cut()
            began_s = time.monotonic()
            laboratory.ask("jobs", "cancel", str(job))
            assert time.monotonic() - began_s < NOTICED_S
        finally:
            session.kill()
