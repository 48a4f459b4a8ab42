"""The guard as it is in life: real processes, killed and stopped, on a bench that outlives them."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.commands import begun, command, ran
from tests.faults.processes import wait_for as waited_for

from cellbench.engine.guard import GuardAct, read_ledger

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

PROTOCOL = """
cellbench: 1
name: A long current under pressure
cell: LYC_PMMA
steps:
  - press: {to: 2 MPa, ramp: 5 MPa/s, settle: {within: 0.3 MPa, for: 2 s}}
  - current: {at: 0.1 mA/cm2, for: 10 h}
"""
FORCE_N = 157.0
HOST_TIMEOUT_S = 20.0
#: From the loss of the engine to the cell at open circuit, on a computer that is busy otherwise;
#: on one that is not it takes a second and a half.
QUIET_S = 15.0
PATIENCE_S = 60.0
wait_for = partial(waited_for, patience_s=PATIENCE_S)


class SeenBench:
    """A bench in another process, and what an onlooker sees of it."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "bench.yaml"
        self.rows: list[tuple[float, float, float]] = []
        program = Path(__file__).with_name("seen_bench.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), "LYC_PMMA", "1"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        description = json.loads(self.process.stdout.readline())
        description["instruments"]["press"]["host timeout"] = f"{HOST_TIMEOUT_S:g} s"
        description["guard"] = {"silence": "3 s"}
        self.file.write_text(json.dumps(description), encoding="utf-8")
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        wait_for(lambda: self.rows, "nobody looks")

    def _look(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            utc_s, current_A, force_N, _ = json.loads(line)
            self.rows.append((utc_s, current_A, force_N))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def current_A(self) -> float:
        return self.rows[-1][1]

    @property
    def force_N(self) -> float:
        return self.rows[-1][2]

    def quiet_after_s(self, since_s: float) -> float:
        """How long after a moment the last current flowed."""
        flowed = [utc_s for utc_s, current_A, _ in self.rows if current_A != 0]
        return max(0.0, flowed[-1] - since_s) if flowed else 0.0


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeenBench]:
    monkeypatch.setenv("CELLBENCH_LOCKS", str(tmp_path / "locks"))
    seen = SeenBench(tmp_path)
    yield seen
    seen.close()


other = partial(ran, patience_s=PATIENCE_S)


@contextmanager
def running(bench: SeenBench, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, at the head of a group as in a terminal."""
    protocol = tmp_path / "protocol.yaml"
    protocol.write_text(PROTOCOL, encoding="utf-8")
    with begun("run", str(protocol), "--bench", str(bench.file)) as process:
        yield process


def act(store: Path) -> GuardAct | None:
    """What the guard's ledger tells of its last act."""
    (ledger,) = (store / "runs").glob("*.guard.jsonl")
    return read_ledger(ledger).last


def texts(store: Path, kind: str) -> list[str]:
    """Texts of the journal's entries of one kind."""
    (file,) = (store / "runs").glob("*.sqlite")
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "SELECT text FROM journalentry WHERE kind = ? ORDER BY seq", (kind,)
        ).fetchall()
    return [text for (text,) in rows]


def guard_of(run: subprocess.Popen[str]) -> psutil.Process:
    """The guard's process, a child of the run's."""
    children = psutil.Process(run.pid).children()
    (found,) = [each for each in children if "cellbench.engine.guard" in each.cmdline()]
    return found


def see_it_quiet(bench: SeenBench, store: Path, lost_s: float) -> GuardAct:
    """Wait for quiet, and compare what the guard says with what was seen."""
    wait_for(lambda: (done := act(store)) is not None and done.quiet, "the guard does nothing")
    wait_for(lambda: bench.rows[-1][0] > time.time() - 0.5, "nobody looks")
    done = act(store)
    assert done is not None
    assert done.open_circuit is not None
    assert done.quiet is not None
    after_s = bench.quiet_after_s(lost_s)
    print(f"current off {after_s:.2f} s after the loss, confirmed after "  # noqa: T201
          f"{done.open_circuit.timestamp() - lost_s:.2f} s")  # fmt: skip
    assert after_s < QUIET_S
    assert done.open_circuit.timestamp() >= lost_s + after_s
    assert all(outcome.confirmed for outcome in done.outcomes.values())
    assert set(done.outcomes) == {"potentiostat", "press", "load cell", "chamber"}
    return done


@pytest.mark.parametrize("seed", range(3))
def test_an_engine_that_is_killed_at_any_moment_leaves_the_cell_at_open_circuit(
    bench: SeenBench, tmp_path: Path, store_directory: Path, seed: int
) -> None:
    with running(bench, tmp_path) as run:
        wait_for(lambda: list((store_directory / "runs").glob("*.guard.jsonl")), "no guard")
        time.sleep(np.random.default_rng(seed).uniform(0.0, 12.0))
        guard = guard_of(run)
        run.kill()
        done = see_it_quiet(bench, store_directory, time.time())
        assert "gone" in done.why
        assert "was gone already" in done.engine or "was ended" in done.engine
        if bench.force_N > 10.0:
            assert guard.is_running()  # a press under force wants to hear somebody
            guard.terminate()
    guard.wait(PATIENCE_S)


def test_a_press_is_fed_until_a_technician_takes_the_bench(
    bench: SeenBench, tmp_path: Path, store_directory: Path
) -> None:
    with running(bench, tmp_path) as run:
        wait_for(lambda: bench.current_A != 0, "no current")
        guard = guard_of(run)
        run.kill()
        see_it_quiet(bench, store_directory, time.time())
        refused = other("run", str(tmp_path / "protocol.yaml"), "--bench", str(bench.file))
        assert refused.returncode == 3
        assert f"kept safe by process {guard.pid} (guard of run " in refused.stderr
        assert "cellbench quiet" in refused.stderr
        time.sleep(HOST_TIMEOUT_S + 4.0)
        assert bench.force_N == pytest.approx(FORCE_N, rel=0.05)
        released = other("release", "--bench", str(bench.file))
        assert released.returncode == 0, released.stdout + released.stderr
        assert re.search(r"released, \d N: confirmed", released.stdout)
        assert "potentiostat: cell off: confirmed" in released.stdout
        assert f"process {guard.pid}" in released.stdout
        wait_for(lambda: bench.force_N < 1.0, "force is left")
        guard.wait(PATIENCE_S)
        done = act(store_directory)
        assert done is not None
        assert re.search(r"given to process \d+ \(cellbench release\)", done.ending)
        assert not list((store_directory.parent / "locks").glob("*.ask*"))


def test_resume_takes_the_bench_over_from_the_guard(
    bench: SeenBench, tmp_path: Path, store_directory: Path
) -> None:
    with running(bench, tmp_path) as run:
        wait_for(lambda: bench.current_A != 0, "no current")
        guard = guard_of(run)
        run.kill()
        see_it_quiet(bench, store_directory, time.time())
    with subprocess.Popen(
        command("resume", "last"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as resumed:
        wait_for(lambda: bench.current_A != 0 or resumed.poll() is not None, "no current again")
        guard.wait(PATIENCE_S)
        done = act(store_directory)
        assert done is not None
        assert re.search(rf"given to process {resumed.pid} \(resume \S+\)", done.ending)
        assert bench.force_N == pytest.approx(FORCE_N, rel=0.05)
        assert guard_of(resumed).pid != guard.pid
        resumed.send_signal(signal.SIGINT)
        out, _ = resumed.communicate(timeout=PATIENCE_S)
        assert resumed.returncode == 130, out
    (ledger,) = (store_directory / "runs").glob("*.guard.jsonl")
    assert len(read_ledger(ledger).acts) == 1


def test_an_engine_that_hangs_is_ended(
    bench: SeenBench, tmp_path: Path, store_directory: Path
) -> None:
    with running(bench, tmp_path) as run:
        wait_for(lambda: bench.current_A != 0, "no current")
        guard = guard_of(run)
        guard.terminate()  # as a shutdown does; its run is yet to be lost
        os.kill(run.pid, signal.SIGSTOP)
        stopped_s = time.time()
        see_it_quiet(bench, store_directory, stopped_s)
        wait_for(
            lambda: (done := act(store_directory)) is not None and "potentiostat" in done.readings,
            "nobody looks at the cell",
        )
        done = act(store_directory)
        assert done is not None
        assert done.why.startswith("no sign of life for 3")
        assert done.engine == f"process {run.pid} was ended"
        assert done.step == "current"
        assert abs(done.readings["potentiostat"]["voltage_V"]) < 0.01
        assert done.readings["load cell"]["force_N"] == pytest.approx(FORCE_N, rel=0.1)
        assert run.wait(PATIENCE_S) == -signal.SIGKILL
        guard.terminate()
        guard.wait(PATIENCE_S)


def test_a_guard_that_is_killed_is_replaced_and_ctrl_c_does_not_reach_it(
    bench: SeenBench, tmp_path: Path, store_directory: Path
) -> None:
    with running(bench, tmp_path) as run:
        wait_for(lambda: bench.current_A != 0, "no current")
        first = guard_of(run)
        first.kill()
        wait_for(lambda: len(texts(store_directory, "guard")) >= 3, "no new guard")
        assert re.fullmatch(
            rf"the guard, process {first.pid}, .* \(exit code -9\): a new one is started",
            texts(store_directory, "guard")[1],
        )
        second = guard_of(run)
        assert second.pid != first.pid
        (ledger,) = (store_directory / "runs").glob("*.guard.jsonl")
        wait_for(lambda: ledger.read_text().count("watching") == 2, "the new guard does not watch")
        assert bench.current_A != 0
        os.killpg(run.pid, signal.SIGINT)
        out, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130, out
    second.wait(PATIENCE_S)
    assert read_ledger(ledger).acts == []
    assert json.loads(ledger.read_text().splitlines()[-1])["kind"] == "over"
    assert not list((store_directory / "runs").glob("*.err"))
    assert "ended by the operator" in texts(store_directory, "run ended")[0]


def test_a_bench_that_is_in_use_is_taken_by_force_alone(
    bench: SeenBench, tmp_path: Path, store_directory: Path
) -> None:
    with running(bench, tmp_path) as run:
        wait_for(lambda: bench.current_A != 0, "no current")
        refused = other("quiet")
        assert refused.returncode == 3
        assert re.search(
            rf"in use by process {run.pid} \(run (\S+), .*cellbench abort \1, or give --force",
            refused.stderr,
        )
        assert bench.current_A != 0
        done = other("quiet", "--force", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert answer["confirmed"]
        assert {each["instrument"] for each in answer["outcomes"]} == {
            "potentiostat", "press", "load cell", "chamber"
        }  # fmt: skip
        assert bench.current_A == 0
        assert run.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_simulated_bench_has_nothing_to_be_brought_to_quiet(tmp_path: Path) -> None:
    protocol = tmp_path / "short.yaml"
    protocol.write_text("cellbench: 1\nname: A rest\ncell: LYC_PMMA\nsteps:\n  - rest: 10 s\n")
    assert other("run", str(protocol)).returncode == 0
    for arguments in (["quiet"], ["release", "--bench", "keithley"]):
        refused = other(*arguments)
        assert refused.returncode == 2
        assert "is a simulated bench" in refused.stderr
        assert "--bench FILE" in refused.stderr


def test_a_guard_loads_no_database() -> None:
    program = (
        "import sys, cellbench.engine.guard.__main__\n"
        "print([name for name in ('sqlite3', 'sqlalchemy', 'sqlmodel') if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
