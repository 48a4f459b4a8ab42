"""One Chromium for each file of tests, and a desk at it for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from tests.web.browser.lab import Desk, Lab

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: It is to ask nobody but the server for anything: no other name is found.
OPTIONS = [
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip


# Not for the whole session: while it lives, Playwright's loop is the thread's running one.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="there is no playwright")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Lab]:
    """A store of its own with its server."""
    from tests.web.browser.lab import lab_in

    directory: Path = tmp_path_factory.mktemp("lab")
    with lab_in(directory, directory / "store") as made:
        yield made


@pytest.fixture
def desk(lab: Lab, chromium: Browser) -> Iterator[Desk]:
    """A desk; whatever its pages complain of fails the test."""
    from tests.web.browser.lab import Desk

    made = Desk(lab, chromium)
    yield made
    made.leave()
