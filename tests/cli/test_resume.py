"""A run that is killed while a cycler goes on, attached to again and gone on with.

The bench is another process, ten times as fast as life; the run is a process that is really killed.
"""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.serving import CYCLER
from tests.serving import served as serving

from cellbench.cli.app import app

pytestmark = pytest.mark.long

CELL = "NMC811_LYC_PMMA_Li"
CYCLING = """
cellbench: 1
name: Killed in the middle
cell: NMC811_LYC_PMMA_Li
steps:
  - repeat: 4
    name: cycle
    steps:
      - charge: {at: C/5, until: potential >= 4.2 V vs Li+/Li, for: 10 s}
      - rest: 5 s
      - discharge: {at: C/5, until: potential <= 2.6 V vs Li+/Li, for: 10 s}
      - rest: 5 s
"""
STEPS = 16
PATIENCE_S = 120.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The bench file of a bench that another process plays, outliving all hosts."""
    played = tmp_path / "played.yaml"
    played.write_text(CYCLER, encoding="utf-8")
    with serving("--bench", str(played), "--cell", CELL, "--speed", "10") as answer:
        bench: dict[str, Any] = answer["bench"]
        (tmp_path / "bench.yaml").write_text(json.dumps(bench), encoding="utf-8")
        yield bench


def run_until(tmp_path: Path, store: Path, protocol: str, reached: str) -> Path:
    """Begin a run in a process of its own, kill that at a step, and return the run's file."""
    path = tmp_path / "protocol.yaml"
    path.write_text(protocol, encoding="utf-8")
    arguments = ["run", str(path), "--bench", str(tmp_path / "bench.yaml")]
    with subprocess.Popen(
        [sys.executable, "-m", "cellbench", *arguments], stdout=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: any(reached in step for step in journal(store, "step started")))
        # What Windows calls terminating is no less sudden.
        process.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    (file,) = (store / "runs").glob("*.sqlite")
    return file


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def journal(store: Path, kind: str) -> list[str]:
    """Steps of the journal's entries of one kind."""
    return [step for file in (store / "runs").glob("*.sqlite") for step, _ in entries(file, kind)]


def entries(file: Path, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Steps and data of a journal's entries of one kind, as far as there are any yet."""
    with closing(sqlite3.connect(file)) as connection:
        try:
            rows = connection.execute(
                "SELECT step, data FROM journalentry WHERE kind = ? ORDER BY seq", (kind,)
            ).fetchall()
        except sqlite3.OperationalError:
            return []  # the file is being made
    return [(step, json.loads(data)) for step, data in rows]


def stored(file: Path) -> list[tuple[int, float]]:
    """Number and time of the cycler's rows, in order of arrival."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(
            "SELECT row, time_s FROM sample WHERE row IS NOT NULL ORDER BY rowid"
        ).fetchall()


def ask(bench: dict[str, Any], request: str) -> ET.Element:
    """Ask the cycler itself, as its own client would."""
    host, port = bench["instruments"]["cycler"]["port"].removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(f'<bts version="1.0">{request}</bts>\n\n#\r\n'.encode())
        reply = b""
        while not reply.endswith(b"#\r\n"):
            reply += wire.recv(65536)
    return ET.fromstring(reply.partition(b"#\r\n")[0].decode().strip())  # noqa: S314 (our own)


CHANNEL = 'devtype="27" devid="21" subdevid="1" chlid="1"'


def ledger(bench: dict[str, Any]) -> list[float]:
    """The charge of each step of the latest test in C, by the cycler."""
    request = f"<cmd>downloadStepLayer</cmd><downloadStepLayer {CHANNEL}/>"
    return [3600 * float(row.attrib["cap"]) for row in ask(bench, request).iterfind("list/data")]


def is_over(bench: dict[str, Any]) -> bool:
    asked = f'<list count="1"><status ip="127.0.0.1" {CHANNEL}>true</status></list>'
    reply = ask(bench, f"<cmd>getchlstatus</cmd>{asked}")
    return reply.findtext("list/status") == "finish"


def resume(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(["resume", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def check_complete(file: Path, bench: dict[str, Any]) -> None:
    """Every row is there once and in its order, and the charge is the cycler's own."""
    rows = stored(file)
    numbers = [number for number, _ in rows]
    assert numbers == list(range(1, len(rows) + 1))
    gaps_s = [b[1] - a[1] for a, b in pairwise(rows)]
    assert min(gaps_s) > -1e-6
    assert max(gaps_s) == pytest.approx(1, abs=0.2)
    ended = entries(file, "step ended")
    assert len(ended) == len({step for step, _ in ended}) == STEPS
    ours_C = [abs(data["results"]["charge_C"]) for _, data in ended]
    assert ours_C == pytest.approx(ledger(bench), rel=5e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("reached", "late"),
    [("cycle[1]/charge", False), ("cycle[2]/discharge", False), ("cycle[2]/discharge", True)],
    ids=["in its first step", "while it cycles", "after its end"],
)
def test_nothing_is_missed_of_what_the_cycler_did_alone(
    served: dict[str, Any], tmp_path: Path, store_directory: Path, reached: str, late: bool
) -> None:
    file = run_until(tmp_path, store_directory, CYCLING, reached)
    before = len(stored(file))
    if late:
        wait_for(lambda: is_over(served))
    else:
        time.sleep(3)
    assert resume("last") == 0
    assert len(stored(file)) > before
    (taken_up,) = [data for _, data in entries(file, "attached")]
    assert taken_up["after_row"] == before
    check_complete(file, served)
    assert [data["state"] for _, data in entries(file, "run ended")] == ["completed"]


def test_the_program_goes_on_after_the_list(
    served: dict[str, Any], tmp_path: Path, store_directory: Path
) -> None:
    further = f"{CYCLING}  - rest: {{for: 10 s, when interrupted: quiet}}\n"
    file = run_until(tmp_path, store_directory, further, "cycle[2]/charge")
    assert resume("last") == 0
    ended = [step for step, _ in entries(file, "step ended")]
    assert len(ended) == len(set(ended)) == STEPS + 1
    assert ended[-1] == "rest"
    assert [data["state"] for _, data in entries(file, "run ended")] == ["completed"]


def test_a_cycler_that_does_something_else_is_left_alone(
    served: dict[str, Any], tmp_path: Path, store_directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = run_until(tmp_path, store_directory, CYCLING, "cycle[1]/charge")
    stop = f'<list count="1"><stop ip="127.0.0.1" {CHANNEL}>true</stop></list>'
    ask(served, f"<cmd>stop</cmd>{stop}")
    (step_file,) = (tmp_path / "steps").glob("cellbench-*.xml")
    start = f'<start ip="127.0.0.1" {CHANNEL} barcode="another">{step_file}</start>'
    ask(served, f'<cmd>start</cmd><list count="1">{start}</list>')
    time.sleep(1)
    assert resume("last") == 3
    assert 'has the test "another", not "cellbench-' in capsys.readouterr().err
    assert not is_over(served)
    assert not entries(file, "attached")


def test_a_run_that_has_completed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(["run", "pellet_conductivity", "--json"])
    capsys.readouterr()
    assert resume("last") == 2
    assert "has completed: there is nothing to go on with" in capsys.readouterr().err


def test_a_list_that_was_stopped_meanwhile_is_finished(
    served: dict[str, Any], tmp_path: Path, store_directory: Path
) -> None:
    file = run_until(tmp_path, store_directory, CYCLING, "cycle[2]/discharge")
    ask(served, f'<cmd>stop</cmd><list count="1"><stop ip="127.0.0.1" {CHANNEL}>true</stop></list>')
    assert resume("last") == 0
    ended = [step for step, _ in entries(file, "step ended")]
    assert len(ended) == len(set(ended)) == STEPS
    assert len(entries(file, "step list")) == 2
    (gap,) = [data for _, data in entries(file, "gap")]
    assert gap["charge_min_C"] <= gap["charge_C"] <= gap["charge_max_C"]


def test_a_rest_goes_on_for_the_time_that_remains(
    served: dict[str, Any], tmp_path: Path, store_directory: Path
) -> None:
    head = CYCLING.partition("  - repeat")[0]
    single = f"{head}  - rest: {{for: 100 s, when interrupted: quiet}}\n"
    file = run_until(tmp_path, store_directory, single, "rest")
    assert resume("last") == 0
    (end,) = [data for _, data in entries(file, "step ended")]
    assert end["results"]["duration_s"] == pytest.approx(100, abs=2)
    assert len(entries(file, "step started")) == 1
