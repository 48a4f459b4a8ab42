"""How real processes end: signals, a full disk, nonsense on the command line."""

from __future__ import annotations

import os
import shutil
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


def limited(*arguments: str) -> subprocess.Popen[str]:
    """A run none of whose files can grow beyond 300 kB, until `psutil` lifts the limit."""
    import resource

    def small_files() -> None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))

    return subprocess.Popen(
        command("run", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=small_files,  # noqa: PLW1509 (there are no threads yet)
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    pytest.fail(f"{text!r} is not in\n{''.join(seen)}")


@posix_only
@pytest.mark.long
def test_a_run_waits_while_the_disk_is_full_and_goes_on_when_there_is_space(
    long_protocol: str,
) -> None:
    import resource

    with limited(long_protocol) as process:
        wait_for(process, "the run waits at open circuit")
        time.sleep(2.0)
        assert process.poll() is None
        lifted = psutil.Process(process.pid)
        lifted.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "the disk takes data again" in out
    assert "nothing was lost" in out
    assert "Traceback" not in out + err


@posix_only
@pytest.mark.long
def test_a_run_on_a_full_disk_ends_safely_when_somebody_ends_it(long_protocol: str) -> None:
    with limited(long_protocol) as process:
        wait_for(process, "the run waits at open circuit")
        time.sleep(1.0)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 30.0
    assert process.returncode == 130, out + err
    assert "potentiostat: cell off" in out
    assert "lost are" in out
    assert "Traceback" not in out + err


#: On a disk of its own: starts a run, fills the disk to its last byte, makes space, waits.
ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "tmpfs", str(disk)], check=True)
run = subprocess.Popen(
    [sys.executable, "-m", "cellbench", "run", *sys.argv[2:], "--store", str(disk / "store")],
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
)
for line in run.stdout:
    print(line, end="", flush=True)
    if "current: current" in line:
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(1 << 20)) or ballast.write(b"0")
            except OSError as error:
                print(error)
    if "disk full" in line:
        (disk / "ballast").unlink(missing_ok=True)
print("exit code", run.wait())
"""


def _has_own_mounts() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(not _has_own_mounts(), reason="no name space with mounts of its own here")
def test_a_run_outlasts_a_file_system_that_is_really_full(
    tmp_path: Path,
) -> None:
    disk, protocol = tmp_path / "disk", tmp_path / "short.yaml"
    disk.mkdir()
    protocol.write_text(LONG.replace("10 h", "10 min"))
    script = [sys.executable, "-c", ON_A_SMALL_DISK, str(disk), str(protocol), "--speed", "60"]
    done = subprocess.run(
        ["unshare", "-rm", *script], capture_output=True, text=True, timeout=100, check=False
    )
    assert "disk full" in done.stdout, done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert "nothing was lost" in done.stdout
    assert "exit code 0" in done.stdout


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
