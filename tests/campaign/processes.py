"""``cellbench campaign`` as it is called: in this process, and in one that is killed."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cellbench.cli.app import app


def call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["campaign", *arguments])
    return done.exit_code, done.output


def answer(*arguments: str) -> dict[str, Any]:
    _, output = call(*arguments, "--json")
    found: dict[str, Any] = json.loads(output)
    return found


def begin_and_kill(path: Path, store: Path, *, at_run: int, reached: str = "") -> None:
    """Carry a campaign out in a process of its own, and kill that in one of its runs."""
    command = [sys.executable, "-m", "cellbench", "campaign", "run", str(path)]
    deadline = time.monotonic() + 100
    with subprocess.Popen([*command, "--store", str(store)], stdout=subprocess.DEVNULL) as process:
        while not has_reached(store, at_run, reached):
            assert time.monotonic() < deadline, "it did not come to that"
            assert process.poll() is None, "it has ended"
            time.sleep(0.02)
        # What Windows calls terminating is no less sudden.
        process.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)


def has_reached(store: Path, at_run: int, step: str) -> bool:
    files = sorted((store / "runs").glob("*.sqlite"))
    if len(files) < at_run:
        return False
    with closing(sqlite3.connect(files[at_run - 1])) as connection:
        try:
            begun = connection.execute(
                "SELECT count(*) FROM journalentry WHERE kind = 'step started' AND step LIKE ?",
                (f"%{step}%",),
            )
            return bool(begun.fetchone()[0])
        except sqlite3.OperationalError:
            return False  # the file is being made
