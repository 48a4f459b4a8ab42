"""Benches that take jobs: real processes on a real server, which are killed; nothing twice.

The cyclers of the served benches are other processes, which outlive their hosts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.faults.processes import wait_for
from tests.serving import CYCLER
from tests.serving import served as serving

pytest.importorskip("procrastinate", reason="the extra [server] is not installed")
from cellbench.engine.service import NEVER_BEGAN
from cellbench.laboratory import Database
from cellbench.laboratory.database import Kind
from cellbench.laboratory.jobs import works_of
from cellbench.laboratory.queue import JobQueue
from cellbench.store import JournalEntry, Run, RunReader, Store, never_began

from .postgresql import PostgreSQL

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),  # many processes start, on a computer with other things to do
    pytest.mark.skipif(sys.platform == "win32", reason="the server of these tests is POSIX"),
]

CELL = "NMC811_LYC_PMMA_Li"
PATIENCE_S = 120.0
REST = """
cellbench: 1
name: A rest
cell: NMC811_LYC_PMMA_Li
parameters: {time: 10 s}
steps:
  - rest: $time
"""
SPECTRUM = (
    REST.replace("A rest", "A spectrum")
    + """
  - eis: {from: 1 MHz, to: 1 kHz, points: 5 per decade, amplitude: 10 mV}
"""
)


class Laboratory:
    """People and benches of one database, each a process with a role of its own."""

    def __init__(self, server: PostgreSQL, database: Database, directory: Path) -> None:
        self.server, self.database, self.directory = server, database, directory
        self.stack = ExitStack()
        self._addresses: dict[str, str] = {}
        (directory / "cycler.yaml").write_text(CYCLER)
        self.person("ann", "operator")

    def person(self, name: str, kind: Kind) -> None:
        self._addresses[name] = self.database.address_for(name, self.database.grant(kind, name))

    def protocol(self, text: str) -> str:
        path = self.directory / f"protocol {abs(hash(text))}.yaml"
        path.write_text(text)
        return str(path)

    def ask(self, *words: str, who: str = "ann", code: int = 0) -> Any:
        """Run a command to its end, and return its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "cellbench", *words, "--json"],
            env=os.environ | {"CELLBENCH_DATABASE": self._addresses[who]},
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return json.loads(done.stdout)

    def submit(self, protocol: str, *cells: str, priority: int = 0, **facts: Any) -> list[int]:
        with closing(Database(self._addresses["ann"]).connect()) as connection:
            connection.autocommit = True
            return JobQueue(connection).submit(works_of(protocol, cells, **facts), priority)

    def jobs(self) -> dict[int, dict[str, Any]]:
        with closing(self.database.connect()) as connection:
            connection.autocommit = True
            return {job.id: job.answer() for job in JobQueue(connection).jobs(ended=True)}

    def bench(self, name: str, file: Path | str, *options: str) -> Bench:
        return Bench(self, name, file, options)

    def serve(self, name: str, speed: str = "10") -> Path:
        """A bench that outlives its hosts; returns its file."""
        played = str(self.directory / "cycler.yaml")
        answer = self.stack.enter_context(
            serving("--bench", played, "--cell", CELL, "--speed", speed)
        )
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(answer["bench"]))
        return path


class Bench:
    """A computer that takes jobs: its service, and its store."""

    def __init__(self, laboratory: Laboratory, name: str, file: Path | str, options: Any) -> None:
        self.name, self.store = name, laboratory.directory / f"store of {name}"
        policy = laboratory.directory / f"{name}.toml"
        policy.write_text(
            f'[service]\nstores = ["{self.store.as_posix()}"]\njobs_every_s = 0.3\n'
            "every_s = 0.5\nretry_s = 1\n"
        )
        self._command = [
            sys.executable, "-m", "cellbench", "service", "--config", str(policy), "--take-jobs",
            "--bench", str(file), *options,
        ]  # fmt: skip
        if name not in laboratory._addresses:
            laboratory.person(name, "bench")
        self._environment = os.environ | {"CELLBENCH_DATABASE": laboratory._addresses[name]}
        self._laboratory = laboratory
        self.log = laboratory.directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.process = self._laboratory.stack.enter_context(
                subprocess.Popen(
                    [*self._command, *options], env=self._environment, stdout=log, stderr=log
                )
            )
        self._laboratory.stack.callback(self.end)

    def finish(self) -> str:
        """Wait for what was started with --once."""
        assert self.process is not None
        assert self.process.wait(PATIENCE_S) == 0, self.said
        assert "Traceback" not in self.said
        return self.said

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """kill -9, the service first, then all that it has started and their guards."""
        assert self.process is not None
        below = psutil.Process(self.process.pid).children(recursive=True)
        for each in [psutil.Process(self.process.pid), *below]:
            each.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def journal(self) -> Sequence[JournalEntry]:
        """Of its newest run, as far as there is one."""
        with Store(self.store) as store:
            newest = store.runs(1)
            path = store.run_path(newest[0].id) if newest else None
        return RunReader(path).journal if path is not None and not never_began(path) else ()

    @property
    def runs(self) -> list[Run]:
        with Store(self.store) as store:
            return list(store.runs())


@pytest.fixture
def laboratory(server: PostgreSQL, database: Database, tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory(server, database, tmp_path)
    with laboratory.stack:
        yield laboratory


def assert_each_is_one_run(laboratory: Laboratory, benches: Sequence[Bench]) -> None:
    # A server that is lost just when a run is to begin keeps that from beginning, which is entered.
    runs = [(bench.name, run.id) for bench in benches for run in bench.runs
            if run.reason != NEVER_BEGAN]  # fmt: skip
    jobs = laboratory.jobs().values()
    assert Counter(runs) == Counter((job["bench"], job["run"]) for job in jobs if job["run"])


def test_two_benches_share_the_jobs_and_each_becomes_one_run(laboratory: Laboratory) -> None:
    laboratory.person("eve", "viewer")
    rest, spectrum = laboratory.protocol(REST), laboratory.protocol(SPECTRUM)
    refused = laboratory.ask("submit", rest, who="eve", code=2)
    assert "eve may not do that" in refused["error"]
    late = laboratory.ask("submit", rest, "--deadline", "1 s")["jobs"]
    rests = laboratory.submit(rest, replicates=2, sets=["time=20 s"])
    named = laboratory.submit(rest, bench="room2", priority=9)
    spectra = laboratory.submit(spectrum)
    listed = laboratory.ask("jobs", who="eve")
    assert [job["id"] for job in listed] == [*late, *rests, *named, *spectra]
    played = laboratory.directory / "cycler.yaml"
    benches = [laboratory.bench("room1", played), laboratory.bench("room2", played)]
    for bench in benches:
        bench.start("--once")
    for bench in benches:
        bench.finish()
    jobs = laboratory.jobs()
    assert {jobs[each]["state"] for each in [*rests, *named]} == {"done"}
    assert jobs[late[0]]["state"] == "failed"
    assert "deadline" in jobs[late[0]]["text"]
    assert jobs[named[0]]["bench"] == "room2"
    for each in spectra:  # a cycler takes none, and both benches say so
        assert jobs[each]["state"] == "waiting"
        assert all("impedance" in why for why in jobs[each]["refusals"].values())
        assert set(jobs[each]["refusals"]) == {"room1", "room2"}
    assert_each_is_one_run(laboratory, benches)


def test_one_process_runs_all_jobs_of_a_bench_whose_places_share_instruments(
    laboratory: Laboratory,
) -> None:
    spectrum = laboratory.protocol(SPECTRUM.replace(CELL, "LYC_PMMA"))
    replicates = laboratory.submit(spectrum, replicates=5)
    (at_place,) = laboratory.submit(spectrum, "A2", priority=5)
    (nowhere,) = laboratory.submit(spectrum, "B7")
    bench = laboratory.bench("room1", "laboratory")
    bench.start("--once")
    said = bench.finish()
    jobs = laboratory.jobs()
    assert jobs[at_place]["place"] == "A2"
    states = Counter(jobs[each]["state"] for each in replicates)
    assert states == {"done": 4, "waiting": 1}
    places = [jobs[each]["place"] for each in replicates if jobs[each]["place"]]
    assert sorted(places) == ["A1", "A2", "A3", "A4"]
    (waiting,) = (jobs[each] for each in replicates if jobs[each]["state"] == "waiting")
    assert "has had another of its replicates" in waiting["refusals"]["room1"]
    assert "it is for B7" in jobs[nowhere]["refusals"]["room1"]
    assert sorted(run.place for run in bench.runs) == ["A1", "A2", "A2", "A3", "A4"]
    assert "the owner of the bench: begins" in said


def test_a_killed_bench_and_a_lost_server_cost_no_job_and_none_is_run_twice(
    laboratory: Laboratory,
) -> None:
    rest = laboratory.protocol(REST)
    file = laboratory.serve("room1")
    (first,) = laboratory.submit(rest, bench="room1", sets=["time=4 min"])
    jobs = [first, *laboratory.submit(rest, bench="room2", replicates=2)]
    killed = laboratory.bench("room1", file, "--cell", CELL)
    other = laboratory.bench("room2", laboratory.directory / "cycler.yaml")
    killed.start()
    other.start()
    wait_for(lambda: any(each.kind == "step started" for each in killed.journal), "no step begins")
    killed.kill()
    laboratory.server.kill()
    killed.start()  # while the server is away: the lost run is gone on with all the same
    wait_for(lambda: "resuming" in killed.said, "nobody goes on with it")
    wait_for(lambda: killed.runs[-1].state == "completed", "it does not complete")
    laboratory.server.start()
    wait_for(
        lambda: {laboratory.jobs()[each]["state"] for each in jobs} == {"done"}, "not all are done"
    )
    assert "is back" in killed.said
    assert "is back" in other.said
    assert_each_is_one_run(laboratory, [killed, other])
    assert laboratory.jobs()[first]["bench"] == "room1"


def test_a_job_outlives_its_computer_s_shutdown_and_is_ended_as_somebody_chose(
    laboratory: Laboratory,
) -> None:
    rest = laboratory.protocol(REST)
    bench = laboratory.bench("room1", laboratory.serve("room1"), "--cell", CELL)
    bench.start()
    number, same_cell = laboratory.submit(rest, sets=["time=10 h"], replicates=2)
    wait_for(lambda: any(each.kind == "step started" for each in bench.journal), "no step begins")
    bench.end()
    assert [run.state for run in bench.runs] == ["interrupted"]
    assert laboratory.jobs()[number]["state"] == "running"
    laboratory.ask("jobs", "release", str(number), code=2)  # nobody has said that it is safe
    bench.start()
    wait_for(lambda: any(each.kind == "resumed" for each in bench.journal), "it is not resumed")
    laboratory.ask("jobs", "cancel", str(number), "--after", "now")
    wait_for(lambda: laboratory.jobs()[number]["state"] == "cancelled", "it is not cancelled")
    (run,) = bench.runs
    assert run.state == "interrupted"
    assert "its job was cancelled" in run.reason
    wait_for(
        lambda: "another of its" in str(laboratory.jobs()[same_cell]["refusals"]), "nobody says why"
    )
