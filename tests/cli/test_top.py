"""All runs of a store at a glance: what is known of each, and how a terminal shows it."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from cellbench.cli.app import app
from cellbench.cli.glance import Glance
from cellbench.engine.control_file import ControlFile, place
from cellbench.engine.journal import Journal
from cellbench.engine.overview import Reading, Summary, at_a_glance, summaries
from cellbench.store import Run, RunWriter, Store

DAY = timedelta(days=1)
SHORT = """
cellbench: 1
name: Test
cell: LYC_PMMA
steps:
  - current: {at: 0.1 mA/cm2, for: 3 min}
"""
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def store(store_directory: Path) -> Iterator[Store]:
    with Store(store_directory) as opened:
        yield opened


def registered(store: Store, cell: str = "LYC", *, simulated: bool = False) -> Run:
    """A run in the catalogue, with a file that holds nothing."""
    run = store.register(protocol="Test", cell=cell, bench="b", simulated=simulated, seed=None)

    async def make() -> None:
        await RunWriter(store.run_path(run.id), durable=False).close()

    asyncio.run(make())
    return run


def aged(store: Store, run: Run, age: timedelta) -> None:
    run.started = datetime.now(UTC) - age
    store.reopen(run)


def top(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["top", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


# --- What is known --------------------------------------------------------------------------------


def test_a_run_that_has_ended_says_how(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(SHORT)
    result = CliRunner().invoke(app, ["run", str(path)])
    assert result.exit_code == 0, result.output
    (told,) = at_a_glance(store, DAY)
    assert told.state == "completed"
    assert told.health == "ok"
    assert told.verdict == "every step has ended"
    assert told.progress == 1.0
    assert told.needs is None
    assert told.latest == {}
    assert told.time_s is not None
    assert told.time_s > 60.0
    assert 30 < len(told.spark) <= 60
    # And so do the faces.
    (shown,) = json.loads(top("--json"))["runs"]
    assert Summary.model_validate(shown) == told
    lines = top().splitlines()
    assert lines[0].startswith("0 runs under way")
    assert lines[1].endswith(f"completed  {told.run}")
    assert "every step has ended" in lines[2]
    assert not at_a_glance(store, timedelta())


def test_a_lost_run_needs_a_hand_until_it_is_taken_up(store: Store) -> None:
    run, simulated = registered(store), registered(store, simulated=True)
    # One that has only just begun is not lost: its channel is not open yet.
    assert [each.state for each in at_a_glance(store, DAY)] == ["running", "running"]
    for each in (run, simulated):
        aged(store, each, 9 * DAY)
    (told,) = at_a_glance(store, DAY)  # the other one's bench went with its process
    assert told.run == run.id
    assert (told.state, told.health) == ("lost", "lost")
    assert told.needs == f"its process is gone: cellbench status {run.id} shows how it was left"
    assert {each.state for each in at_a_glance(store, 10 * DAY)} == {"lost"}


def test_an_unconfirmed_safe_state_needs_a_hand(store: Store) -> None:
    run = store.register(protocol="Test", cell="c", bench="b", simulated=False, seed=None)

    async def enter() -> None:
        writer = RunWriter(store.run_path(run.id), durable=False)
        journal = Journal(writer, run.started)
        await journal.enter("trip", text="too hot")
        await journal.enter("safe state", text="cycler: unknown", confirmed=False)
        await journal.enter("safe state", text="press: holds 1 kN", confirmed=True)
        await journal.enter("run ended", text="stopped: too hot")
        await writer.close()

    asyncio.run(enter())
    store.finish(run, "stopped", "too hot")
    (told,) = at_a_glance(store, DAY)
    assert (told.state, told.health) == ("stopped", "trouble")
    assert told.needs == "NOT CONFIRMED SAFE: cycler: unknown"
    assert told.message == "stopped: too hot"


def test_who_does_not_answer_keeps_nobody_waiting(store: Store) -> None:
    """Five runs whose processes are there, and say nothing."""
    runs = [registered(store) for _ in range(5)]
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        for run in runs:
            control = ControlFile.of_this_process(run.id, deaf.getsockname()[1], "token")
            control.write(place(store.run_path(run.id)))
        began_s = time.monotonic()
        told = summaries(store, runs)
        assert time.monotonic() - began_s < 4.0
    assert {each.state for each in told} == {"silent"}
    assert {each.health for each in told} == {"lost"}
    assert all("does not answer" in (each.needs or "") for each in told)


def test_a_run_of_another_version_is_no_traceback(store: Store) -> None:
    run = registered(store)
    with socket.create_server(("127.0.0.1", 0)) as server:
        control = ControlFile.of_this_process(run.id, server.getsockname()[1], "token")
        control.write(place(store.run_path(run.id)))

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b'{"accepted": true, "text": "", "data": {"run": "x"}}\n')

        thread = Thread(target=answer)
        thread.start()
        (told,) = summaries(store, [run])
        thread.join()
    assert told.state == "silent"
    assert "another version of cellbench" in (told.needs or "")


def test_a_file_that_is_gone_is_said(store: Store) -> None:
    run = store.register(protocol="Test", cell="c", bench="b", simulated=False, seed=None)
    store.finish(run, "completed", "every step has ended")
    (told,) = at_a_glance(store, DAY)
    assert "is missing" in told.verdict


def test_a_store_that_is_not_there_is_said() -> None:
    result = CliRunner().invoke(app, ["top"])
    assert result.exit_code == 2
    assert "there is no store" in result.stderr


# --- How it is shown ------------------------------------------------------------------------------


def told_of(**more: Any) -> Summary:
    fields: dict[str, Any] = {
        "run": "2026-11-21-003", "protocol": "Critical current density", "cell": "セル Ω",
        "bench": "b", "simulated": False, "state": "running", "started": NOW, "time_s": 5000.0,
        "step": "12/17 ladder[5]/first: current 0.8 mA/cm2", "step_elapsed_s": 860.0,
        "step_duration_s": 1200.0, "progress": 0.25, "ends_at": NOW + DAY,
        "latest": {"voltage": Reading(value=0.231, unit="V", age_s=0.1, stale=False),
                   "stack pressure": Reading(value=5.03e6, unit="Pa", age_s=310.0, stale=True),
                   "temperature": Reading(value=None, unit="K", age_s=1.0, stale=False)},
        "spark": [0.1, 0.2, 0.3],
    }  # fmt: skip
    return Summary(**(fields | more))


def drawn(
    runs: list[Summary], width: int, height: int | None = None, chosen: str = ""
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    console.print(Glance(runs, "/data/cellbench", chosen), height=height)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_each_run_is_a_small_block(width: int) -> None:
    lines = drawn([told_of(needs="paused by jk\x1b[2J")], width)
    assert max(map(cell_len, lines)) <= width
    assert lines[0].startswith("1 run under way, 1 needs a hand")
    assert lines[1].startswith("  セル Ω  Crit")
    assert lines[1].endswith("running  2026-11-21-003")
    assert lines[2] == "  paused by jk [2J"
    assert lines[3].startswith("    12/17 ladder")
    assert lines[3].endswith("00:14:20 of 00:20:00")
    if width >= 80:
        assert "25 %  ends " in lines[4]
        assert "  0.2310 V  5.03 MPa (STALE for 5 min 10 s)" in lines[4]
    assert len(lines) == 5


def test_the_chosen_one_is_seen_however_small_the_screen() -> None:
    runs = [told_of(run=f"2026-11-21-{n:03d}") for n in range(30)]
    for number in (0, 1, 15, 29):
        lines = drawn(runs, 80, 12, chosen=runs[number].run)
        assert len(lines) == 12
        assert lines[-1].startswith("q quits")
        (at,) = (i for i, line in enumerate(lines) if line.startswith("> "))
        assert lines[at].endswith(runs[number].run)
        assert lines[at + 2].strip().startswith(("━", "25"))


# --- Live, with real runs -------------------------------------------------------------------------

if sys.platform != "win32":
    from tests.terminal import Terminal

    CELLBENCH = [sys.executable, "-m", "cellbench"]
    CYCLING = """
cellbench: 1
name: A night of cycles
cell: LYC_PMMA
steps:
  - repeat: 500
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 30 s}
      - rest: 30 s
"""
    ASKING = """
cellbench: 1
name: A question
cell: LYC
steps:
  - prompt: {ask: "Is the glovebox closed?", choices: [yes, no]}
"""

    @pytest.fixture
    def begin() -> Iterator[Callable[..., Terminal]]:
        """Start commands on terminals; none outlives its test."""
        begun: list[Terminal] = []

        def run(*arguments: str, columns: int = 80, rows: int = 24) -> Terminal:
            begun.append(Terminal([*CELLBENCH, *arguments], columns, rows))
            return begun[-1]

        yield run
        for each in begun:
            each.close()

    @pytest.mark.long
    def test_top_shows_all_runs_and_opens_one(
        begin: Callable[..., Terminal], tmp_path: Path
    ) -> None:
        for name, text in (("cycling.yaml", CYCLING), ("asking.yaml", ASKING)):
            (tmp_path / name).write_text(text)
        cycling = begin("run", str(tmp_path / "cycling.yaml"), "--speed", "60")
        cycling.wait_to_see("current 0.1 mA/cm2")
        asking = begin("run", str(tmp_path / "asking.yaml"))
        asking.wait_to_see("Is the glovebox closed?")
        top = begin("top")
        top.wait_to_see("2 runs under way, 1 needs a hand")
        lines = top.lines
        # Who asks comes first, though the other one is further.
        assert lines[1].startswith("> LYC  A question  simulated")
        assert "asking" in lines[1]
        assert lines[2] == "  asks: Is the glovebox closed?"
        top.wait_to_see("  LYC_PMMA  A night of cycles")
        top.wait_to_see(" MPa  25.0 °C")
        top.type("\x1b[B\r")
        top.wait_to_see("SIMULATED BENCH (seed 0)")
        top.wait_to_see("limits -5 V to 5 V")
        top.resize(60, 12)
        top.wait_to_see("A night of cycles")
        top.type("\x1b")
        top.wait_to_see("> LYC_PMMA")
        assert max(map(len, top.lines)) <= 60
        asking.type("yes\n")
        assert asking.end() == 0
        top.wait_to_see("1 run under way")
        top.type("q")
        assert top.end() == 0
        assert top.left_as_it_was
        assert "\x1b[?1049l" in top.shown  # the screen that was there before is back
        assert "Traceback" not in top.shown

    @pytest.mark.long
    @pytest.mark.parametrize("how", ["Ctrl-C", "a kill"])
    def test_top_ends_clean(
        begin: Callable[..., Terminal], store_directory: Path, how: str
    ) -> None:
        with Store(store_directory) as store:
            registered(store)
        top = begin("top")
        top.wait_to_see("Test")
        if how == "Ctrl-C":
            top.type("\x03")
        else:
            top.process.send_signal(signal.SIGTERM)
        assert top.end() == 0
        assert top.left_as_it_was
        assert "Traceback" not in top.shown
        assert "\x1b[?1049l" in top.shown
        assert "\x1b[?25h" in top.shown  # the cursor is seen again
