"""``cellbench serve`` and ``cellbench run`` as processes of their own, as they are in life."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cellbench.engine.control_file import SUFFIX
from cellbench.store import JournalEntry, RunReader

from .client import Browser

PATIENCE_S = 60.0


def until(what: Callable[[], object], why: str = "") -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline_s, why or what
        time.sleep(0.05)


class Process:
    """A command of cellbench, and what it has said so far."""

    def __init__(self, *arguments: str) -> None:
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "cellbench", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def hears(self, pattern: str) -> re.Match[str]:
        """Wait until it has said something."""
        until(lambda: re.search(pattern, self.said) or self.process.poll() is not None, self.said)
        found = re.search(pattern, self.said)
        if found is None:
            self.close()
            raise AssertionError(self.said)
        return found

    def end(self) -> int:
        """Wait for its end; returns its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._listening.join()
        return code

    def close(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait()
        self._listening.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def server(*options: str) -> Iterator[tuple[Process, Browser]]:
    """``cellbench serve`` on a free port, and a browser that its link has signed in."""
    process = Process("serve", "--port", "0", *options)
    try:
        found = process.hears(r"http://127\.0\.0\.1:(\d+)/sign-in#token=(\S+)")
        browser = Browser(int(found[1]))
        answer = browser.post("/api/session", {"token": found[2]})
        assert answer.status == 200, answer.body
        browser.headers["X-CSRF-Token"] = answer.json()["csrf"]
        yield process, browser
    finally:
        process.close()


class Run(Process):
    """A run in a process of its own."""

    def __init__(self, directory: Path, store: Path, protocol: str, *options: str) -> None:
        path = directory / "protocol.yaml"
        path.write_text(protocol, encoding="utf-8")
        super().__init__("run", str(path), *options)
        self.id = self.hears(r"   run (\S+)")[1]
        self.path = store / "runs" / f"{self.id}.sqlite"
        until(self.path.with_suffix(SUFFIX).is_file)

    @property
    def journal(self) -> list[JournalEntry]:
        """Its journal so far."""
        return list(RunReader(self.path).journal)

    def texts(self, kind: str) -> list[str]:
        """What its entries of one kind say."""
        return [entry.text for entry in self.journal if entry.kind == kind]
