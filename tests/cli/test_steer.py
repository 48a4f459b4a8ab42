"""Commands from other terminals to runs in real processes, and to runs that are gone."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cellbench.cli.app import app
from cellbench.engine.control_file import SUFFIX
from cellbench.store import JournalEntry, RunReader, Store

pytestmark = pytest.mark.long

CYCLING = """
cellbench: 1
name: A night of cycles
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - repeat: 500
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 30 s}
      - rest: 30 s
"""
ASKING = """
cellbench: 1
name: Two questions
cell: LYC_PMMA
steps:
  - prompt: {ask: "Is the glovebox closed?", choices: [yes, no]}
  - rest: 30 s
  - prompt: {ask: "Is the press oiled?", choices: [oiled, dry]}
"""
PATIENCE_S = 60.0


def cellbench(*arguments: str) -> Result:
    """A command of another process than the run's."""
    result = CliRunner().invoke(app, list(arguments))
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def accepted(*arguments: str) -> str:
    result = cellbench(*arguments)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def status(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(accepted("status", *arguments, "--json"))
    return found


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Running:
    """A run in a process of its own, at a minute per second."""

    def __init__(self, directory: Path, store: Path, protocol: str = CYCLING) -> None:
        path = directory / "protocol.yaml"
        path.write_text(protocol, encoding="utf-8")
        self._store = store
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cellbench", "run", str(path), "--speed", "60"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.shown = ""
        for line in self.process.stdout:
            self.shown += line
            if "current" in line:
                break
        self.id = self.shown.partition("   run ")[2].split()[0]
        until((store / "runs" / f"{self.id}{SUFFIX}").is_file)

    @property
    def journal(self) -> list[JournalEntry]:
        return list(RunReader(self._store / "runs" / f"{self.id}.sqlite").journal)

    def started(self) -> int:
        return sum(entry.kind == "step started" for entry in self.journal)

    def commands(self) -> list[str]:
        return [entry.data["command"] for entry in self.journal if entry.kind == "command"]

    def end(self) -> int:
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        self.shown += rest
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def runs(tmp_path: Path, store_directory: Path) -> Iterator[Callable[[], Running]]:
    """Begin runs of cycles; none outlives its test."""
    begun: list[Running] = []

    def begin() -> Running:
        begun.append(Running(tmp_path, store_directory))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.poll() is None:
            each.kill()


def test_a_run_is_paused_continued_skipped_and_stopped(
    runs: Callable[[], Running], store_directory: Path
) -> None:
    run = runs()
    looked = status()
    assert looked["run"] == run.id
    assert looked["state"] == "running"
    assert looked["pid"] == run.process.pid
    assert set(looked["readings"]) >= {"voltage_V", "stack_pressure_Pa", "temperature_K"}

    assert "paused" in accepted("pause", "--reason", "topping up\nthe press")
    looked = status(run.id)
    assert looked["state"] == "held"
    assert looked["holds"]["pause"].endswith(": topping up the press")
    shown = accepted("status")
    assert "PAUSED by" in shown
    assert "stack pressure" in shown
    time.sleep(1.5)  # one step may have been ending
    held_at = run.started()
    time.sleep(1.5)
    assert run.started() == held_at
    assert accepted("note", "last", "it leaked a little") == f"run {run.id}: noted"

    assert accepted("continue", run.id[-3:]) == f"run {run.id}: the pause is over"
    until(lambda: run.started() > held_at)
    assert accepted("skip").startswith(f"run {run.id}: skips cycle[")
    until(lambda: any("skipped" in each.data.get("ending", "") for each in run.journal))
    assert "ends after cycle[" in accepted("stop", "--after", "cycle")
    assert run.end() == 1, run.shown
    assert "everything in its safe state" in run.shown
    assert "Traceback" not in run.shown

    assert run.commands() == ["pause", "continue", "skip", "stop"]
    (note,) = (entry for entry in run.journal if entry.kind == "note")
    assert note.text.startswith("it leaked a little (")
    started = [entry for entry in run.journal if entry.kind == "step started"]
    assert started[-1].step.endswith("/rest")

    # It has ended: nobody is there to be commanded, and its file is gone.
    assert not list((store_directory / "runs").glob(f"*{SUFFIX}"))
    for arguments in (("pause",), ("abort", "--yes"), ("note", "late"), ("continue", run.id)):
        result = cellbench(*arguments)
        assert result.exit_code == 2
        assert "has ended (interrupted)" in result.stderr
    assert status()["state"] == "interrupted"
    assert "potentiostat: cell off: confirmed" in accepted("status")


def test_an_abort_ends_a_run_and_others_go_on(
    runs: Callable[[], Running], store_directory: Path
) -> None:
    first, second = runs(), runs()
    # Nothing is guessed while two are under way.
    result = cellbench("abort", "--yes")
    assert result.exit_code == 2
    assert "several runs are under way" in result.stderr
    assert first.id in result.stderr
    assert second.id in result.stderr
    assert cellbench("status").exit_code == 2

    told = json.loads(accepted("abort", first.id, "--reason", "smoke", "--json"))
    assert told["accepted"]
    assert first.end() == 130, first.shown
    assert "aborted by" in first.shown
    assert "everything in its safe state" in first.shown
    assert "Traceback" not in first.shown
    with Store() as store:
        ended = store.find(first.id)
    assert ended.state == "interrupted"
    assert ended.reason.startswith("aborted by")
    assert ended.reason.endswith(": smoke")

    # The other one is the only one now.
    assert status()["run"] == second.id
    second.kill()
    # Its bench went with its process; one that outlives its host can be gone on with.
    assert status()["resume"] is None
    with closing(sqlite3.connect(store_directory / "catalogue.sqlite")) as catalogue, catalogue:
        catalogue.execute("UPDATE run SET simulated = 0 WHERE id = ?", (second.id,))
    killed = status()
    assert killed["run"] == second.id
    assert killed["state"] == "lost"
    assert killed["resume"] == f"cellbench resume {second.id}"
    assert killed["step"].startswith("cycle[")
    shown = accepted("status")
    assert "LOST: its process is gone" in shown
    assert f"cellbench resume {second.id}" in shown
    result = cellbench("pause")
    assert result.exit_code == 2
    assert "has lost its process" in result.stderr
    assert f"cellbench resume {second.id}" in result.stderr


def test_a_command_is_one_process_and_one_line(runs: Callable[[], Running]) -> None:
    run = runs()
    done = subprocess.run(
        [sys.executable, "-m", "cellbench", "stop", "--after", "step"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"run {run.id}: ends after cycle[")
    assert len(done.stdout.splitlines()) == 1
    assert run.end() == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("pause",), "there is no store"),
        (("pause", "2026-01-01-001"), "there is no store"),
        (("note", "a", "b", "c"), "in quotes"),
        (("note", " "), "there is no text"),
        (("note", "a\x1b[2Jb"), "cannot be printed"),
        (("note", "x" * 1001), "at most 1000"),
        (("stop", "--after", "tea"), "Invalid value"),
    ],
)
def test_what_cannot_be_sent_is_said(arguments: tuple[str, ...], why: str) -> None:
    result = cellbench(*arguments)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_store_without_runs_is_said(store_directory: Path) -> None:
    with Store(store_directory):
        pass
    result = cellbench("status")
    assert result.exit_code == 2
    assert "there is none yet" in result.stderr


# --- With a person at the run's own terminal ------------------------------------------------------

if sys.platform != "win32":
    from tests.terminal import Terminal

    def on_terminal(tmp_path: Path, protocol: str, *options: str) -> Terminal:
        path = tmp_path / "protocol.yaml"
        path.write_text(protocol, encoding="utf-8")
        return Terminal([sys.executable, "-m", "cellbench", "run", str(path), *options])

    def test_whichever_terminal_answers_first_counts(tmp_path: Path) -> None:
        shown = on_terminal(tmp_path, ASKING)
        shown.wait_for("Is the glovebox closed? [yes/no]")
        looked = status()
        assert looked["state"] == "asking"
        assert looked["question"]["choices"] == ["yes", "no"]
        assert "ASKS: Is the glovebox closed? [yes/no]" in accepted("status")
        result = cellbench("answer", "perhaps")
        assert result.exit_code == 1
        assert '"perhaps" is not an answer to this: yes, no' in result.stderr
        assert 'answered "yes"' in accepted("answer", "last", "yes")
        # What is typed for the next question is not eaten by the one that is gone.
        shown.wait_for("Is the press oiled? [oiled/dry]")
        shown.type("oiled\n")
        shown.wait_for("everything in its safe state")
        assert shown.end() == 0
        shown.close()
        journal = [entry.text for entry in reader().journal if entry.kind == "answer"]
        assert journal == ["yes", "oiled"]
        (command,) = (entry for entry in reader().journal if entry.kind == "command")
        assert command.data["asked"] == {"text": "yes"}

    def test_the_live_view_shows_a_pause_and_an_abort_asks_first(tmp_path: Path) -> None:
        shown = on_terminal(tmp_path, CYCLING, "--speed", "60")
        shown.wait_for("current 0.1 mA/cm2")
        accepted("pause", "--reason", "lunch")
        shown.wait_for("PAUSED by")
        asked = Terminal([sys.executable, "-m", "cellbench", "abort"])
        asked.wait_for("End run")
        asked.type("n\n")
        assert asked.end() == 1
        asked.close()
        assert status()["state"] == "held"
        asked = Terminal([sys.executable, "-m", "cellbench", "abort"])
        asked.wait_for("End run")
        asked.type("y\n")
        asked.wait_for("on the way to the safe state")
        assert asked.end() == 0
        asked.close()
        shown.wait_for("everything in its safe state")
        assert shown.end() == 130
        shown.close()


def reader() -> RunReader:
    with Store(Path(os.environ["CELLBENCH_STORE"])) as store:
        return RunReader(store.run_path(store.find("last").id))
