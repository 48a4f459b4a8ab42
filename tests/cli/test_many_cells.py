"""Replicates as they are started in life: one process, one guard, a report for each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests.commands import begun, ran
from tests.faults.processes import wait_for as waited_for
from tests.serving import served

from cellbench.engine.guard import ledger_path, read_ledger
from cellbench.errors import StoreError
from cellbench.store import RunReader, Store

HEAD = "cellbench: 1\nname: A test\ncell: LYC_PMMA\nsteps:\n"
LONG = HEAD + "  - current: {at: 0.1 mA/cm2, for: 10 h}\n"
SHORT = HEAD + "  - current: {at: 0.1 mA/cm2, for: 1 min}\n"
PATIENCE_S = 180.0


cellbench = partial(ran, patience_s=PATIENCE_S)
wait_for = partial(waited_for, patience_s=PATIENCE_S)


def test_replicates_are_run_and_put_together(tmp_path: Path) -> None:
    protocol = tmp_path / "p.yaml"
    protocol.write_text(SHORT, encoding="utf-8")
    arguments = ("run", str(protocol), "--bench", "laboratory", "--store", str(tmp_path / "store"))
    ran = cellbench(*arguments, "--cell", "A1,A2=LYC", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert [each["place"] for each in told["runs"]] == ["A1", "A2"]
    assert told["replicates"] is not None
    with Store(tmp_path / "store") as store:
        assert {(each.place, each.cell) for each in store.runs()} == {
            ("A1", "LYC_PMMA"),
            ("A2", "LYC"),
        }
        assert all(store.run_path(each.id).with_suffix(".html").exists() for each in store.runs())
    listed = cellbench("runs", "--store", str(tmp_path / "store")).stdout
    assert "LYC at A2" in listed


@pytest.mark.long
@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("A1,A9", 'no place "A9"; there are: A1, A2, A3, A4'),
        ("A1,A1", "--cell names A1 twice: a place has one run"),
        # More than the name of a file can have characters.
        (",".join(f"A{number}" for number in range(1, 101)), 'no place "A5"'),
    ],
)
def test_what_is_wrong_with_one_keeps_all_from_beginning(
    tmp_path: Path, cells: str, told: str
) -> None:
    store = str(tmp_path / "store")
    ran = cellbench("run", "ccd", "--bench", "laboratory", "--cell", cells, "--store", store)
    assert ran.returncode == 2
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not [*(tmp_path / "store").glob("runs/*.sqlite")]


# --- With instruments that outlive the process ----------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The bench file of a laboratory that another process serves."""
    monkeypatch.setenv("CELLBENCH_LOCKS", str(tmp_path / "locks"))
    with served("--bench", "laboratory") as answer:
        file = tmp_path / "bench.yaml"
        file.write_text(json.dumps(answer["bench"]), encoding="utf-8")
        yield file


def guards_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [each for each in children if "cellbench.engine.guard" in each.cmdline()]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_lost_owner_s_runs_are_brought_to_quiet_by_one_guard_and_gone_on_with(
    tmp_path: Path, bench: Path
) -> None:
    protocol, place = tmp_path / "p.yaml", str(tmp_path / "store")
    protocol.write_text(LONG, encoding="utf-8")
    run = ("run", str(protocol), "--bench", str(bench), "--store", place, "--cell", "A1,A2")
    with begun(*run) as process, Store(tmp_path / "store") as store:
        wait_for(lambda: _steps(store) == [1, 1], "they have not begun")
        assert len(guards_of(process)) == 1
        refused = cellbench("run", str(protocol), "--bench", str(bench), "--cell", "A1")
        assert refused.returncode == 3
        assert "n1: is in use by process" in refused.stderr
        process.kill()
        paths = [store.run_path(each.id) for each in store.runs()]

        def quiet() -> bool:
            acts = [read_ledger(ledger_path(path)).last for path in paths]
            return all(act is not None and act.ended is not None for act in acts)

        wait_for(quiet, "not all are quiet")
        for path in paths:
            act = read_ledger(ledger_path(path)).last
            assert act is not None
            assert act.quiet is not None
        ids = [path.stem for path in paths]
    with (
        begun("resume", *ids, "--bench", str(bench), "--store", place) as process,
        Store(tmp_path / "store") as store,
    ):
        wait_for(lambda: _steps(store, "gap") == [1, 1], "they are not gone on with")
        os.kill(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert process.returncode == 130, said
        assert [each.state for each in store.runs()] == ["interrupted", "interrupted"]
        for each in store.runs():
            ends = RunReader(store.run_path(each.id)).journal
            assert all(entry.data["confirmed"] for entry in ends if entry.kind == "safe state")
    quieted = cellbench("quiet", "--bench", str(bench), "--json")
    assert quieted.returncode == 0, quieted.stderr
    found = {each["instrument"] for each in json.loads(quieted.stdout)["outcomes"]}
    assert {"n1", "n2", "n3", "n4", "cylinder 1", "cylinder 2", "press", "chamber"} <= found


def _steps(store: Store, kind: str = "began") -> list[int]:
    """How many entries of a kind the journal of each run has."""
    return [_count(store.run_path(run.id), kind) for run in store.runs()]


def _count(path: Path, kind: str) -> int:
    try:
        return sum(entry.kind == kind for entry in RunReader(path).journal)
    except StoreError:  # it is about to begin
        return 0
