"""How real processes end: signals, a full disk, nonsense on the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits")

LONG = """
cellbench: 1
name: A long rest under current
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - current: {at: 0.1 mA/cm2, for: 10 h}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cellbench", *arguments]


@pytest.fixture
def long_protocol(tmp_path: Path) -> str:
    path = tmp_path / "long.yaml"
    path.write_text(LONG)
    return str(path)


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_through_its_safe_state(
    long_protocol: str, number: signal.Signals
) -> None:
    with subprocess.Popen(
        command("run", long_protocol, "--speed", "60"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "current" in line:
                break
        time.sleep(0.3)
        process.send_signal(number)
        process.send_signal(number)  # and again: somebody is impatient
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "everything in its safe state" in out
    assert "potentiostat: cell off: confirmed" in out
    assert "Traceback" not in out + err


@posix_only
def test_a_full_disk_ends_the_run_safely_and_says_so(long_protocol: str, tmp_path: Path) -> None:
    import resource

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(
        command("run", long_protocol),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=small_files,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "data can" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_store_that_cannot_be_made_is_said(long_protocol: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        command("run", long_protocol, "--store", str(tmp_path / "file" / "store")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "--store" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_instrument_that_is_not_there_is_named(long_protocol: str, tmp_path: Path) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text(
        "bench: glovebox 2\ninstruments:\n"
        "  potentiostat: {driver: palmsens, port: tcp://127.0.0.1:9}\n"
        "  press: {driver: plc_press, port: tcp://127.0.0.1:9, capacity: 5 kN}\n"
    )
    done = subprocess.run(
        command("run", long_protocol, "--bench", str(bench)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "potentiostat" in done.stderr
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version_answer(tmp_path: Path) -> None:
    for arguments in (["--help"], ["--version"], ["run", "--help"]):
        done = subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert done.returncode == 0
        assert "cellbench" in done.stdout


@posix_only
def test_ctrl_c_ends_a_campaign_with_its_processes_and_temporary_files(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    # A session of its own: like a terminal's Ctrl-C, the signal then reaches every process.
    with subprocess.Popen(
        command("campaign", "reference"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        parent, workers = psutil.Process(process.pid), list[psutil.Process]()
        while not workers and process.poll() is None:
            time.sleep(0.1)
            workers = parent.children(recursive=True)
        time.sleep(1.0)
        workers = parent.children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert err == "interrupted: the runs under way are dropped\n"
    assert workers
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert not list(tmp_path.iterdir())
