"""The service: what it does about runs that lost their host, by its policy and its log."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.commands import begun
from tests.faults.processes import wait_for
from tests.serving import served as serving

from cellbench.engine.lost import lost_runs
from cellbench.engine.service import Policy, read_policy
from cellbench.errors import InputError
from cellbench.store import JournalEntry, RunReader, RunWriter, Store, never_began
from cellbench.transport.ownership import Ownership

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and sockets")

CELLBENCH = [sys.executable, "-m", "cellbench"]
#: Stands in for `cellbench resume` and `cellbench quiet`: takes note, does as planned, and ends.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
from cellbench.store import Store

here = Path(__file__).parent
verb, run, _, _, store = sys.argv[1:]
calls = here / "calls.jsonl"
with calls.open("a") as file:
    file.write(json.dumps([verb, run, "NOTIFY_SOCKET" in os.environ]) + "\\n")
done = sum(json.loads(line)[0] == verb for line in calls.read_text().splitlines())
plan = json.loads((here / "plan.json").read_text())[verb]
code = plan[min(done, len(plan)) - 1]

def finish(state):
    with Store(Path(store)) as opened:
        opened.finish(opened.find(run), state, "told by the stand-in")

def asked(*_):
    (here / "safe").write_text("cell at open circuit")
    finish("interrupted")
    sys.exit(130)

if code == "wait":
    signal.signal(signal.SIGTERM, asked)
    (here / "waiting").write_text("")
    time.sleep(60)
if code == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if verb == "resume" and code == 0:
    finish("completed")
print("the stand-in says", code)
sys.exit(code)
"""


class Bench:
    """A store with lost runs, and a service that is called upon it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = directory / "store"
        (directory / "stand_in.py").write_text(STAND_IN)

    def lose(self, *, age_s: float = 60.0, **facts: object) -> str:
        """Enter a run whose host was last alive so long ago."""
        usual = {"protocol": "p", "cell": "c", "bench": "b", "simulated": False, "seed": None}
        with Store(self.store) as store:
            run = store.register(**usual | facts)  # type: ignore[arg-type]
            run.started = datetime.now(UTC) - timedelta(seconds=age_s + 30.0)
            store._save(run)

            async def write() -> None:
                writer = RunWriter(store.run_path(run.id), durable=False)
                await writer.add_documents({"environment": json.dumps({"instruments": {}})})
                entry = JournalEntry(seq=0, time_s=30.0, utc=run.started, kind="run started")
                await writer.add_entries([entry])
                await writer.close()

            asyncio.run(write())
            return run.id

    def plan(self, **verbs: list[object]) -> None:
        (self.directory / "plan.json").write_text(json.dumps({"quiet": [0]} | verbs))

    def policy(self, text: str = "", command: list[str] | None = None) -> Path:
        called = json.dumps(command or [sys.executable, str(self.directory / "stand_in.py")])
        path = self.directory / "service.toml"
        path.write_text(
            f'[service]\nstores = ["{self.store.as_posix()}"]\ncommand = {called}\n'
            f"retry_s = 0.1\nevery_s = 0.2\n{text}\n"
        )
        return path

    def command(self, policy: str = "", called: list[str] | None = None) -> list[str]:
        path = self.policy(policy, called)
        return [sys.executable, "-m", "cellbench", "service", "--config", str(path)]

    def once(self, policy: str = "", called: list[str] | None = None) -> str:
        command = [*self.command(policy, called), "--once"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout

    @property
    def calls(self) -> list[list[object]]:
        path = self.directory / "calls.jsonl"
        return [json.loads(each) for each in path.read_text().splitlines()] if path.exists() else []

    @property
    def verbs(self) -> list[object]:
        return [verb for verb, *_ in self.calls]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.long
def test_a_run_that_lost_its_host_is_resumed_and_its_end_is_told(bench: Bench) -> None:
    run = bench.lose()
    bench.plan(resume=[0])
    log = bench.once()
    assert bench.calls == [["resume", run, False]]
    assert f"run {run}: resuming" in log
    assert f"run {run}: has ended (exit code 0)" in log
    kept = (bench.store / "runs" / f"{run}.service.log").read_text()
    assert "the stand-in says 0" in kept


@pytest.mark.long
def test_a_bench_that_is_not_there_yet_is_tried_again(bench: Bench) -> None:
    bench.lose()
    bench.plan(resume=[3, 3, 0])
    log = bench.once()
    assert bench.verbs == ["resume"] * 3
    assert "its bench cannot be had (exit code 3)" in log


@pytest.mark.long
def test_what_cannot_be_resumed_is_brought_to_quiet_once_and_left_to_people(bench: Bench) -> None:
    run = bench.lose()
    bench.plan(resume=[2])
    log = bench.once()
    assert bench.verbs == ["resume", "quiet"]
    assert f"to go on with it: cellbench resume {run}" in log
    bench.once()  # as after the next boot: somebody else's cell may be on the bench by then
    assert bench.verbs == ["resume", "quiet"]


@pytest.mark.long
@posix_only
def test_a_run_whose_process_dies_again_and_again_is_left_quiet(bench: Bench) -> None:
    bench.lose()
    bench.plan(resume=["die"], quiet=[3, 0])
    log = bench.once()
    assert bench.verbs == ["resume"] * 3 + ["quiet"] * 2
    assert "its process died 3 times" in log
    assert "NOT everything is confirmed" in log


@pytest.mark.long
def test_a_run_that_was_lost_too_long_ago_is_not_gone_on_with(bench: Bench) -> None:
    bench.lose(age_s=3 * 3600.0)
    bench.plan(resume=[0])
    log = bench.once("within_hours = 2")
    assert bench.verbs == ["quiet"]
    assert "more than 2 h ago" in log


@pytest.mark.long
def test_by_the_policy_never_benches_are_brought_to_quiet_alone(bench: Bench) -> None:
    bench.lose()
    bench.plan(resume=[0])
    bench.once('resume = "never"')
    assert bench.verbs == ["quiet"]


@pytest.mark.long
def test_runs_that_are_conducted_have_ended_or_are_simulated_are_left_alone(bench: Bench) -> None:
    held, ended = bench.lose(), bench.lose()
    bench.lose(simulated=True)
    with Store(bench.store) as store:
        store.finish(store.find(ended), "completed", "every step has ended")
    with Ownership("a run") as ownership:
        ownership.take("potentiostat", "tcp 127.0.0.1:9")
        ownership.tell(f"run {held}", bench.store / "runs" / f"{held}.sqlite")
        assert lost_runs(bench.store) == []
        assert "run " not in bench.once().partition("\n")[2]
    assert [lost.run for lost in lost_runs(bench.store)] == [held]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20.0)
        yield listening


@posix_only
def test_on_sigterm_runs_end_in_their_safe_state_before_the_service_does(
    bench: Bench, manager: socket.socket
) -> None:
    run = bench.lose()
    bench.plan(resume=["wait"])
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "300000",
    }
    with subprocess.Popen(
        bench.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment,
    ) as process:  # fmt: skip
        told = [manager.recv(200).decode() for _ in range(6)]
        while not (bench.directory / "waiting").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert "READY=1" in told
    assert told.count("WATCHDOG=1") >= 2
    assert (bench.directory / "safe").exists()
    assert f"run {run}: has ended (exit code 130)" in out
    assert out.endswith("ended\n")
    assert bench.calls == [["resume", run, False]]  # and was told nothing of the service manager


def test_a_policy_that_is_wrong_is_refused_with_its_place(bench: Bench) -> None:
    for text, why in (
        ("resume = 'always'", "resume"),
        ("retries = 3", "retries"),
        ("within_hours = -1", "within_hours"),
        ("[other]", "one table"),
        ("resume =", "no TOML"),
    ):
        path = bench.policy(text)
        with pytest.raises(InputError, match=why) as refused:
            read_policy(path)
        assert str(path) in str(refused.value)
    with pytest.raises(InputError, match="No such file"):
        read_policy(bench.directory / "none.toml")
    assert read_policy(None) == Policy()


def test_a_store_that_is_not_there_is_said_once(bench: Bench) -> None:
    log = bench.once()
    assert log.count("there is no store") == 1


# --- Service managers -----------------------------------------------------------------------------


@pytest.mark.long
@posix_only
def test_the_systemd_unit_is_one(tmp_path: Path) -> None:
    path = tmp_path / "cellbench.service"
    subprocess.run(
        [sys.executable, "-m", "cellbench", "service", "--write-unit", str(path)], check=True
    )
    text = path.read_text()
    assert f'ExecStart="{sys.executable}" -m cellbench service' in text
    assert "Type=notify" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cellbench.service" not in done.stderr


@pytest.mark.long
def test_the_task_of_windows_is_what_its_scheduler_reads(tmp_path: Path) -> None:
    path = tmp_path / "task.xml"
    subprocess.run(
        [sys.executable, "-m", "cellbench", "service", "--write-task", str(path)], check=True
    )
    assert path.read_bytes()[:2] in {b"\xff\xfe", b"\xfe\xff"}
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    task = ET.fromstring(path.read_bytes())  # noqa: S314 (our own file)
    assert task.findtext("t:Actions/t:Exec/t:Command", namespaces=space) == sys.executable
    assert task.find("t:Triggers/t:BootTrigger", space) is not None
    assert task.findtext("t:Settings/t:ExecutionTimeLimit", namespaces=space) == "PT0S"
    assert task.findtext("t:Settings/t:AllowHardTerminate", namespaces=space) == "false"


# --- With the real command ------------------------------------------------------------------------

REST = """
cellbench: 1
name: A rest
cell: LYC_PMMA
steps:
  - rest: {for: 20 s}
"""


@pytest.mark.long
@posix_only
def test_a_run_that_was_killed_is_resumed_to_its_end(bench: Bench) -> None:
    with serving() as answer:
        instruments = answer["bench"]["instruments"]
        file = bench.directory / "bench.yaml"
        only = {"potentiostat": instruments["potentiostat"]}
        file.write_text(json.dumps({"bench": "served", "instruments": only}))
        protocol = bench.directory / "rest.yaml"
        protocol.write_text(REST)
        command = [sys.executable, "-u", "-m", "cellbench", "run", str(protocol)]
        command += ["--bench", str(file), "--store", str(bench.store)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "rest" in line and "00:00:" in line:
                    break
            time.sleep(4.0)
            process.kill()
        log = bench.once(called=CELLBENCH)
    assert "has ended (exit code 0)" in log
    with Store(bench.store) as store:
        assert store.find("last").state == "completed"


def steps_begun(store: Store) -> list[int]:
    return [_steps_begun(store.run_path(run.id)) for run in store.runs()]


def _steps_begun(path: Path) -> int:
    if not path.is_file() or never_began(path):
        return 0
    return sum(entry.kind == "step started" for entry in RunReader(path).journal)


@pytest.mark.long
@pytest.mark.timeout(300)
@posix_only
def test_runs_of_a_killed_process_that_share_instruments_are_resumed_by_one(bench: Bench) -> None:
    with serving("--bench", "laboratory", "--speed", "10") as answer:
        file = bench.directory / "bench.yaml"
        file.write_text(json.dumps(answer["bench"]))
        protocol = bench.directory / "rest.yaml"
        protocol.write_text(REST.replace("20 s", "4 min"))
        words = ("--bench", str(file), "--cell", "A1,A2", "--store", str(bench.store))
        with begun("run", str(protocol), *words) as process, Store(bench.store) as store:
            wait_for(lambda: steps_begun(store) == [1, 1], "they have not begun")
            process.kill()
        log = bench.once(called=CELLBENCH)
        runs = list(store.runs())
    assert [each.state for each in runs] == ["completed", "completed"], log
    assert log.count("has ended (exit code 0)") == 2
    assert log.count("resuming") == 2
    assert len([*(bench.store / "runs").glob("*.service.log")]) == 1  # of one process
