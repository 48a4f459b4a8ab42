"""A process on a pseudo-terminal of any size, and what stands on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

#: Pieces of one drawing come closer together than this, drawings do not.
_WITHIN_A_FRAME_S = 0.05


class Terminal:
    """Runs a command, and shows what it draws.

    Args:
        command: The command.
        columns, rows: The size of the screen.
        environment: Variables beside those of this process; None takes one away.

    Attributes:
        shown: All that it has written since something was typed last, as it came.
    """

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 100,
        rows: int = 40,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self._ours, theirs = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._set_size(columns, rows)
        self.settings = termios.tcgetattr(theirs)
        # Whoever runs tests in parallel says by COLUMNS how wide their own terminal is.
        ours = {"TERM": "xterm-256color", "COLUMNS": None, "LINES": None}
        variables = {**os.environ, **ours, **(environment or {})}
        # The process's own terminal, so that typing Ctrl-C is a signal to it.
        self.process = subprocess.Popen(
            command,
            env={name: value for name, value in variables.items() if value is not None},
            pass_fds=[theirs],
            preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509 (no threads here)
        )
        self._theirs = theirs
        self.shown = ""

    @property
    def lines(self) -> list[str]:
        """The screen's lines, from the top."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def left_as_it_was(self) -> bool:
        """Whether lines, echo and signals are again as they were at the start."""
        return termios.tcgetattr(self._theirs) == self.settings

    def wait_for(self, words: str, timeout_s: float = 30.0) -> None:
        """Wait until something was written."""
        self._wait(lambda: words in self.shown, timeout_s)

    def wait_to_see(self, words: str, timeout_s: float = 30.0) -> None:
        """Wait until something stands on the screen."""
        self._wait(lambda: any(words in line for line in self.lines), timeout_s)

    def type(self, text: str) -> None:
        self.shown = ""
        os.write(self._ours, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Make the screen another size, as somebody who drags its corner."""
        self._screen.resize(rows, columns)
        self._set_size(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def end(self) -> int:
        """Wait for the process to end; returns its exit code."""
        deadline = time.monotonic() + 60.0
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown[-2000:]
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def close(self) -> None:
        """End the process, if it has not ended, and give up the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _wait(self, what: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not what():
            assert time.monotonic() < deadline, "\n".join(self.lines) + self.shown[-500:]
            self._read(0.1)
        while self._read(_WITHIN_A_FRAME_S):
            pass  # what is drawn just now is seen whole

    def _read(self, wait_s: float) -> bool:
        if not select.select([self._ours], [], [], wait_s)[0]:
            return False
        data = os.read(self._ours, 65536)
        self.shown += data.decode("utf-8", "replace")
        self._stream.feed(data)
        return bool(data)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
