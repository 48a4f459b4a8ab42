"""A laboratory for the browser's tests: `cellbench serve` and runs, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from cellbench.store import JournalEntry, RunReader, Store
from cellbench.web.users import Users

PASSWORD = "a password of some length"  # noqa: S105 (of tests)
PATIENCE_S = 60.0
IMAGES = Path(__file__).parents[3] / "docs" / "images"
#: Set to make the pictures of the documentation anew.
PICTURES = "CELLBENCH_PICTURES"

expect.set_options(timeout=1e3 * PATIENCE_S)


def wait_for(happened: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


def picture(page: Page, name: str, height: int = 800) -> None:
    """Make a picture for the documentation, where that is asked for."""
    if os.environ.get(PICTURES):
        page.set_viewport_size({"width": 1280, "height": height})
        page.mouse.move(0, 0)
        page.screenshot(path=IMAGES / f"web_{name}.png")


@dataclass
class Running:
    """A run in a process of its own."""

    id: str
    process: subprocess.Popen[str]
    file: Path

    @property
    def journal(self) -> Sequence[JournalEntry]:
        return list(RunReader(self.file).journal)

    def texts(self, kind: str) -> list[str]:
        return [entry.text for entry in self.journal if entry.kind == kind]


class Lab:
    """A store, its server, and the runs that were begun in it.

    Args:
        directory: Where everything is kept.
        store: The store; made with the users "anna" (operator) and "vera" (viewer).
    """

    def __init__(self, directory: Path, store: Path) -> None:
        self.directory, self.store = directory, store
        with Store(store):
            users = Users(store)
            users.add_password("anna", "operator", PASSWORD)
            users.add_password("vera", "viewer", PASSWORD)
        self.port = 0
        self._begun: list[subprocess.Popen[str]] = []
        self._states: dict[str, Any] = {}
        self._environment = os.environ | {
            "CELLBENCH_STORE": str(store), "CELLBENCH_LOCKS": str(directory / "locks")
        }  # fmt: skip
        self._server = self._serve()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, protocol: str, *options: str) -> Running:
        """Begin a run, and return once it takes commands."""
        path = self.directory / f"protocol_{len(self._begun)}.yaml"
        path.write_text(protocol, encoding="utf-8")
        process = self._begin("run", str(path), *options)
        run_id = said(process, "   run ").split()[0]
        return Running(run_id, process, self.store / "runs" / f"{run_id}.sqlite")

    def stop_server(self) -> None:
        end(self._server)

    def start_server(self) -> None:
        """Begin it again, at the same place."""
        self._server = self._serve()

    def close(self) -> None:
        for process in self._begun:
            end(process)

    def state_of(self, context: BrowserContext, user: str) -> Any:
        """What a browser keeps of a user who has signed in; signed in once."""
        if user not in self._states:
            signed = {"user": user, "password": PASSWORD}
            answer = context.request.post(f"{self.url}/api/session", data=signed)
            assert answer.ok, answer.text()
            self._states[user] = context.storage_state()
        return self._states[user]

    def _serve(self) -> subprocess.Popen[str]:
        process = self._begin("serve", "--port", str(self.port))
        self.port = int(said(process, "http://127.0.0.1:").partition("/")[0])
        return process

    def _begin(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.directory / f"{arguments[0]}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "cellbench", *arguments],
                env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._begun.append(process)
        return process


def said(process: subprocess.Popen[str], after: str) -> str:
    """What a process says after some words, as soon as it says them."""
    assert process.stdout is not None
    shown = ""
    while after not in shown:
        line = process.stdout.readline()
        assert line, f"{process.args} ended: {shown}"
        shown += line
    return shown.partition(after)[2]


def end(process: subprocess.Popen[str]) -> None:
    """End a process, which may have ended by itself."""
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@contextmanager
def lab_in(directory: Path, store: Path) -> Iterator[Lab]:
    made = Lab(directory, store)
    try:
        yield made
    finally:
        made.close()


@dataclass
class Desk:
    """Who sits at a browser: opens pages, and keeps what these complain of or ask of others.

    Attributes:
        tolerated: Parts of complaints that a test provokes.
    """

    lab: Lab
    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)

    def open(self, path: str = "/", user: str | None = "anna", **more: Any) -> Page:
        """Open a page of the server, as somebody who has signed in (None: nobody)."""
        context = self.browser.new_context(base_url=self.lab.url, **self._signed_in(user), **more)
        self.contexts.append(context)
        context.set_default_timeout(1e3 * PATIENCE_S)
        page = context.new_page()
        page.on("console", lambda said: self._complain(said.type, said.text))
        page.on("pageerror", lambda error: self._complain("error", str(error)))
        page.on("request", self._asked)
        page.goto(path)
        return page

    def leave(self) -> None:
        for context in self.contexts:
            context.close()
        assert self.complaints == []

    def _signed_in(self, user: str | None) -> dict[str, Any]:
        if user is None:
            return {}
        context = self.browser.new_context()
        try:
            return {"storage_state": self.lab.state_of(context, user)}
        finally:
            context.close()

    def _complain(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not any(part in text for part in self.tolerated):
            self.complaints.append(text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.lab.url}/", "data:", "about:")):
            self.complaints.append(f"asks {request.url}")
