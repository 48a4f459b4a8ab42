"""One owner per instrument: real processes on one served bench, ended politely and not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.serving import served as serving

pytestmark = pytest.mark.long

LONG = """
cellbench: 1
name: A long rest
cell: LYC_PMMA
steps:
  - rest: 10 h
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bench file of a potentiostat that is served by another process."""
    with serving() as answer:
        only = {"potentiostat": answer["bench"]["instruments"]["potentiostat"]}
        path = tmp_path_factory.mktemp("bench") / "served.yaml"
        path.write_text(json.dumps({"bench": "served", "instruments": only}))
        yield str(path)


@contextmanager
def owner(*arguments: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has the instrument."""
    command = [sys.executable, "-u", "-m", "cellbench", *arguments]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown = ""
        for line in process.stdout:
            shown += line
            if until in line:
                break
        assert until in shown, shown
        yield process
        process.kill()


def other(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cellbench", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_run_keeps_everybody_else_out_and_is_named(bench: str, tmp_path: Path) -> None:
    protocol = tmp_path / "long.yaml"
    protocol.write_text(LONG)
    arguments = ("run", str(protocol), "--bench", bench, "--store", str(tmp_path / "store"))
    with owner(*arguments, until="rest") as running:
        log = ("--log", str(tmp_path / "talk.log"))
        for command in (
            ("bench", "check", "--bench", bench),
            ("bench", "drill", "--bench", bench, "--dummy-cell"),
            ("bench", "console", "potentiostat", "--bench", bench, *log),
            (*arguments[:-1], str(tmp_path / "other store")),
        ):
            refused = other(*command)
            assert refused.returncode == 3, refused.stdout + refused.stderr
            assert re.search(
                rf"potentiostat: is in use by process {running.pid} "
                r"\(run \d{4}-\d\d-\d\d-\d{3}, since",
                refused.stderr,
            )
            assert "Traceback" not in refused.stderr
        assert running.poll() is None
    # The run was killed: its guard has the bench until somebody takes it over.
    assert other("quiet", "--bench", bench).returncode == 0


def test_an_instrument_is_free_again_when_its_owner_is_killed(bench: str, tmp_path: Path) -> None:
    log = ("--log", str(tmp_path / "talk.log"))
    with owner("bench", "console", "potentiostat", "--bench", bench, *log, until="Nexus") as one:
        refused = other("bench", "check", "--bench", bench)
        assert refused.returncode == 3
        assert f"process {one.pid} (bench console" in refused.stderr
        one.kill()
        one.wait()
        assert other("bench", "check", "--bench", bench).returncode == 0


def test_an_instrument_is_free_again_when_its_owner_ends(bench: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert other("bench", "check", "--bench", bench).returncode == 0
    done = other(
        "bench", "console", "potentiostat", "--bench", bench, "--log", str(tmp_path / "talk.log")
    )
    assert done.returncode == 0, done.stderr
    assert other("bench", "check", "--bench", bench).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_in_a_drill_leaves_the_output_off(bench: str) -> None:
    arguments = ("bench", "drill", "--bench", bench, "--dummy-cell")
    with owner(*arguments, until="upper voltage limit") as drilling:
        os.kill(drilling.pid, signal.SIGINT)
        os.kill(drilling.pid, signal.SIGINT)  # and again: somebody is impatient
        told, _ = drilling.communicate(timeout=60)
    assert drilling.returncode == 130, told
    assert "potentiostat: cell off: confirmed" in told
    assert "Traceback" not in told
