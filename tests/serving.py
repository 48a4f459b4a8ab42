"""``cellbench sim serve`` in a process of its own: a simulated bench that outlives its hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: Nothing but a cycler: played fast, a press would hear too little of a host on a busy machine.
CYCLER = """
bench: a cycler and a spring
instruments:
  cycler: {driver: neware, port: simulated, channel: 27-21-1-1, steps folder: steps}
fixture: {die: 10 mm, kind: spring, at most: 5 kN}
"""


@contextmanager
def served(*options: str, within: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Serve a bench on free ports while the context lasts; yields what it says of itself.

    Args:
        options: Of the command: the cell, the speed, the bench file to be played.
        within: The words with which the command begins, of a network of its own.
    """
    command = [sys.executable, "-m", "cellbench", "sim", "serve", "--port", "0", "--json", *options]
    with subprocess.Popen([*within, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield described(process)
        finally:
            process.terminate()


def described(server: subprocess.Popen[str]) -> dict[str, Any]:
    """What a served bench says of itself, once it is there: ``bench`` and ``addresses``."""
    assert server.stdout is not None
    text = ""
    for line in server.stdout:
        text += line
        if line.startswith("}"):
            break
    found: dict[str, Any] = json.loads(text)
    return found
