"""Every page does what it says: its commands are run, its files read, its programs executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import ROOT, Block, blocks, pages, without_blocks
from tests.docs.kinds import accepts
from tests.docs.rooms import ROOMS

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.name == "nt", reason="the commands are written for a POSIX shell"),
]

#: How many blocks of each page no test runs; the reason stands above each.
NOT_RUN = {
    "README.md": 2,
    "docs/cells.md": 1,
    "docs/data.md": 2,
    "docs/first_run.md": 1,
    "docs/jobs.md": 5,
    "docs/laboratory.md": 6,
    "docs/many_cells.md": 2,
    "docs/operations.md": 2,
    "docs/telemetry.md": 2,
    "docs/web.md": 4,
}
NOT_HERE = {"not run", "fresh", "command"}
MARKS = {*NOT_HERE, "fails", "output", "cell", ""}
#: Files that are read by their loaders, and those that only show something.
READ = {"yaml", "toml", "json"}
LANGUAGES = {*READ, "sh", "python", "powershell", "text"}
FOLLOWED = [page for page in pages() if any(each.mark not in NOT_HERE for each in blocks(page))]


class Reader:
    """Somebody who follows a page from its first block to its last, in one directory and store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._namespace: dict[str, Any] = {}
        self._seen = ""

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if block.language == "sh":
            self._type(block)
        elif block.language in READ:
            accepts(block, self._directory)
        elif block.title:
            (self._directory / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), self._namespace)  # noqa: S102
        elif block.mark == "output":
            missing = [line for line in block.text.splitlines() if line not in self._seen]
            assert not missing, f"{block}: shown was\n{self._seen}"

    def _type(self, block: Block) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self._directory, env=environment(), capture_output=True, text=True, timeout=100,
            check=False,
        )  # fmt: skip
        self._seen = done.stdout + done.stderr
        expected = int(block.said) if block.mark == "fails" else 0
        assert done.returncode == expected, f"{block}:\n{block.text}\n{self._seen}"


def environment() -> dict[str, str]:
    """With the commands of this Python before all others, and lines that are not wrapped."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "COLUMNS": "160"}


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_followed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    reader = Reader(here)
    with ROOMS[page.name](here):
        for block in blocks(page):
            if block.mark not in NOT_HERE:
                reader.follow(block)


def test_what_no_test_runs_is_counted() -> None:
    found = Counter(
        str(block.page.relative_to(ROOT))
        for page in pages() for block in blocks(page) if block.mark == "not run"
    )  # fmt: skip
    assert found == NOT_RUN


def test_every_block_says_what_it_is() -> None:
    for page in pages():
        found = list(blocks(page))
        text = page.read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(found), f"{page}: a block that is none"
        hidden = re.search(
            r"^ {4,}(cellbench|pip|python|sudo) .*", without_blocks(text), re.MULTILINE
        )
        assert not hidden, f"{page}: {hidden[0]} is in no block"
        for block in found:
            assert block.language in LANGUAGES, str(block)
            assert block.mark in MARKS, str(block)
            assert block.said or block.mark != "not run", f"{block} has no reason"
            assert block.language != "powershell" or block.mark == "not run", str(block)
