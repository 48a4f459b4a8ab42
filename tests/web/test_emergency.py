"""The emergency stop where the run's process hangs: the bench itself is released."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from tests.cli.test_guard import PROTOCOL, SeenBench

from .processes import Run, server, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]


def test_a_bench_whose_run_hangs_is_released(
    tmp_path: Path, store_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLBENCH_LOCKS", str(tmp_path / "locks"))
    bench = SeenBench(tmp_path)
    try:
        run = Run(tmp_path, store_directory, PROTOCOL, "--bench", str(bench.file))
        try:
            until(lambda: bench.current_A != 0, "no current")
            with server() as (process, browser):
                run.process.send_signal(signal.SIGSTOP)
                answer = browser.post("/api/runs/last/emergency", {"confirm": True})
                assert answer.status == 200, answer.body
                done = answer.json()["done"]
                assert "was released" in done
                assert "potentiostat: cell off: confirmed" in done
                assert bench.current_A == 0
                assert f"emergency stop of run {run.id}" in process.said
        finally:
            run.close()
    finally:
        bench.close()
