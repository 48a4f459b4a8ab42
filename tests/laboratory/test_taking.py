"""Benches that take jobs: real processes on a real server, which are killed; nothing twice.

The cyclers of the served benches are other processes, which outlive their hosts.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.processes import wait_for

pytest.importorskip("procrastinate", reason="the extra [server] is not installed")
from cellbench.bench import simulated_benches
from cellbench.laboratory import Database

from .benches import CELL, Laboratory, assert_each_is_one_run
from .postgresql import PostgreSQL

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),  # many processes start, on a computer with other things to do
    pytest.mark.skipif(sys.platform == "win32", reason="the server of these tests is POSIX"),
]

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


@pytest.fixture
def laboratory(server: PostgreSQL, database: Database, tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory(server, database, tmp_path)
    with laboratory.stack:
        yield laboratory


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


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("f_max: 1 MHz", "f_max: 10 kHz", "is beyond PalmSens"),
        ("port: simulated", "port: 127.0.0.1:none", "127.0.0.1:none"),
    ],
    ids=["can do less", "cannot be reached so"],
)
def test_a_job_that_its_bench_cannot_do_any_more_is_refused_once_and_for_good(
    laboratory: Laboratory, before: str, after: str, told: str
) -> None:
    text = simulated_benches()["laboratory"]
    assert before in text
    file = laboratory.directory / "room1.yaml"
    file.write_text(text.replace(before, after))
    (number,) = laboratory.submit(laboratory.protocol(SPECTRUM), "A2", bench="room1")
    bench = laboratory.bench("room1", file)
    laboratory.take(number, "room1", "A2")
    words = ("jobs", "work", "--bench", str(file), "--store", str(bench.store))
    done = laboratory.typed(*words, who="room1")
    assert done.returncode == 0, done.stderr
    job = laboratory.jobs()[number]
    assert job["state"] == "failed"
    assert told in job["text"]
    assert not bench.runs


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


def test_jobs_of_places_that_share_instruments_outlive_a_shutdown_together(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLBENCH_LOCKS", str(laboratory.directory / "locks"))
    rest = laboratory.protocol(REST.replace(CELL, "LYC_PMMA"))
    bench = laboratory.bench("room1", laboratory.serve("room1", "--bench", "laboratory"))
    jobs = laboratory.submit(rest, "A1", "A2", bench="room1", sets=["time=6 min"])
    bench.start()
    wait_for(lambda: bench.entries("step started") == 2, "they have not begun")
    bench.end()
    assert [run.state for run in bench.runs] == ["interrupted"] * 2
    bench.start("--once")
    said = bench.finish()
    assert {laboratory.jobs()[each]["state"] for each in jobs} == {"done"}, said
    assert [run.state for run in bench.runs] == ["completed"] * 2
    assert bench.entries("resumed") == 2
    assert said.count("the owner of the bench: goes on with run") == 1
