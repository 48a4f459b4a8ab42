"""``cellbench`` as people type it, each time in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def command(*arguments: str) -> list[str]:
    """What is typed; nothing of what it says is held back."""
    return [sys.executable, "-u", "-m", "cellbench", *arguments]


def ran(*arguments: str, patience_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=patience_s, check=False
    )


@contextmanager
def begun(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Begin a command at the head of a group, as in a terminal; killed at the end."""
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()
