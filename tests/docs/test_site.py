"""The site is built without a warning, is whole, and asks for nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.docs.blocks import DOCS, ROOT

pytest.importorskip("mkdocs", reason="the extra [docs] is not installed")
pytestmark = pytest.mark.long

#: What a browser fetches by itself; links that a person may follow are none of it.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*?\ssrc=[\"']?(https?:)?//"
    r"|<link\b[^>]*?\shref=[\"']?(https?:)?//(?![^>]*rel=[\"']?canonical)"
    r"|@import\s+(?:url\()?[\"']?(https?:)?//"
    r"|url\([\"']?(https?:)?//"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a broken link, anchor or docstring fails, and a page without place."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(directory)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, timeout=100,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_every_page_has_its_place_in_the_navigation(site: Path) -> None:
    begin = (site / "index.html").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert [page for page in sorted(pages) if f'href="{page.as_posix()}"' not in begin] == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found = [
        f"{path.relative_to(site)}: {match[0]}"
        for path in site.rglob("*")
        if path.suffix in {".html", ".css"}
        for match in _FETCHED.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_docstrings_have_become_a_reference(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("cellbench.instruments.roles.Press.ramp_to", "cellbench.testing.carry_out"):
        assert f'id="{name}"' in text


def test_links_of_the_readme_lead_somewhere(site: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"(?:\]\((?!https?:)|src=\")([^)#\"]+)(?:#([\w-]+))?", text)
    assert len(links) > 10
    for path, anchor in links:
        assert (ROOT / path).exists(), path
        page = (site / path.removeprefix("docs/")).with_suffix(".html")
        assert not anchor or f'id="{anchor}"' in page.read_text(encoding="utf-8"), anchor


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The site, served as any web server would."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's own)
        pass


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_a_browser_finds_what_it_searches_and_asks_nobody_else(address: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    asked: list[str] = []
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        # What is typed before the site's script listens, it never hears.
        page.goto(f"{address}/index.html", wait_until="networkidle")
        page.click("input[name=query]")
        page.keyboard.type("soft short")
        page.wait_for_selector(".md-search-result__item", timeout=60_000)
        assert "safety.html" in page.inner_html(".md-search-result__list")
        browser.close()
    assert [url for url in asked if not url.startswith(address)] == []
    assert complaints == []
