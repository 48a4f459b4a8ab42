"""The live view and the operator's prompt on a real (pseudo) terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX", allow_module_level=True)

import pty

PROTOCOL = """
cellbench: 1
name: Ask first
cell: LYC_PMMA
steps:
  - prompt: {ask: "Is the glovebox closed?", choices: [yes, no]}
  - rest: 30 s
"""


class Terminal:
    """A process on a pseudo-terminal, and what it has shown so far."""

    def __init__(self, command: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        # The process's own terminal, so that typing Ctrl-C is a signal to it.
        self.process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs],
            preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509 (no threads here)
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, words: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown[-2000:]
            self._read()

    def type(self, text: str) -> None:
        self.shown = ""
        os.write(self._ours, text.encode())

    def end(self) -> int:
        try:
            while self._read():
                pass
        except OSError:  # the other end is closed: the process has ended
            pass
        code = self.process.wait(timeout=30)
        os.close(self._ours)
        return code

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], 30.0)
        assert ready, self.shown[-2000:]
        data = os.read(self._ours, 65536)
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    path = tmp_path / "ask.yaml"
    path.write_text(PROTOCOL)
    return Terminal([sys.executable, "-m", "cellbench", "run", str(path)])


@pytest.mark.long
def test_a_question_can_be_seen_and_must_be_answered(terminal: Terminal) -> None:
    terminal.wait_for("Is the glovebox closed? [yes/no]")
    terminal.type("maybe\n")
    terminal.wait_for("is not an answer")
    terminal.type("yes\n")
    terminal.wait_for("everything in its safe state")
    assert terminal.end() == 0


@pytest.mark.long
def test_ctrl_c_at_a_question_ends_the_run(terminal: Terminal) -> None:
    terminal.wait_for("[yes/no]")
    terminal.type("\x03")
    terminal.wait_for("interrupted")
    terminal.wait_for("everything in its safe state")
    assert terminal.end() == 130


def test_the_live_view_shows_step_readings_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(
        "cellbench: 1\nname: A short test\ncell: LYC_PMMA\nsteps:\n"
        "  - current: {at: 0.1 mA/cm2, for: 3 min}\n"
    )
    shown = Terminal([sys.executable, "-m", "cellbench", "run", str(path), "--speed", "60"])
    shown.wait_for("SIMULATED BENCH")
    shown.wait_for("limits -5 to 5 V")
    shown.wait_for("step 1/1")
    assert shown.end() == 0
