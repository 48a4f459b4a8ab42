"""Instruments that fail, from the command line: wrong bench files, and a bench that goes away."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.serving import described

from cellbench.cli.app import app
from cellbench.store import RunReader, Store

PROTOCOL = """
cellbench: 1
name: A short current
cell: LYC_PMMA
conditions: {every: 1 s}
steps:
  - current: {at: 0.1 mA/cm2, for: 20 s}
"""


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "short.yaml"
    path.write_text(PROTOCOL)
    return path


def test_a_wrong_policy_is_refused_with_its_place(
    protocol: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text(
        "bench: a bench\ninstruments:\n  potentiostat:\n    driver: palmsens\n    port: COM4\n"
        "    on trouble: {retries: 3, then: pray}\n"
    )
    with pytest.raises(SystemExit) as refused:
        app(["check", str(protocol), "--bench", str(bench)])
    assert refused.value.code == 2
    told = capsys.readouterr().err
    assert "bench.yaml, line 6: " in told
    assert 'must be "wait" or "abort"' in told


def free_ports(count: int) -> int:
    """The first of some free ports in a row."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        first: int = probe.getsockname()[1]
    return first - count if first > 60_000 else first


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cellbench", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def serve(port: int) -> subprocess.Popen[str]:
    return started("sim", "serve", "--port", str(port), "--cell", "LYC_PMMA", "--json")


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is over when the context is, whatever happens."""
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.long
def test_a_bench_that_is_switched_off_and_on_again_is_gone_on_with(
    protocol: Path, tmp_path: Path
) -> None:
    port, store, bench = free_ports(4), tmp_path / "store", tmp_path / "bench.yaml"
    arguments = ["run", str(protocol), "--bench", str(bench), "--store", str(store), "--json"]
    with ended(serve(port)) as server:
        bench.write_text(json.dumps(described(server)["bench"]))
        with ended(started(*arguments)) as run:
            wait_for_rows(store)
            server.kill()
            server.wait()
            time.sleep(3.0)
            with ended(serve(port)) as again:
                described(again)
                run.communicate(timeout=120)
            assert run.returncode == 0
    with Store(store) as kept:
        (found,) = kept.runs()
        reader = RunReader(kept.run_path(found.id))
    kinds = [entry.kind for entry in reader.journal]
    assert {"trouble", "overcome", "gap"} <= set(kinds)
    assert found.state == "completed"


def wait_for_rows(store: Path) -> None:
    """Return when the current flows, as the store shows."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.5)
        for path in store.glob("runs/*.sqlite"):
            kinds = [entry.kind for entry in RunReader(path).journal]
            if "began" in kinds:
                time.sleep(2.0)
                return
    raise AssertionError("no current flows")
