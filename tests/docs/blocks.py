"""The fenced blocks of the pages, with the comments that say what a test is to do with each.

A comment stands in the line above its block, and readers of the page do not see it:

    <!-- not run: REASON -->   what no test can run: it needs Windows, systemd, an instrument
    <!-- fresh -->             run in an environment of its own, by test_newcomer.py alone
    <!-- command: NAME -->     the same, by .ci/run
    <!-- fails: CODE -->       the last of these commands ends with this exit code
    <!-- output -->            each of these lines is among what the commands before have shown
    <!-- cell: NAME -->        the cell that these steps are for

``python tests/docs/blocks.py PAGE...`` prints all that a reader of these pages types, as a script.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its page and line, language, file name, and what its comment says."""

    page: Path
    line: int
    language: str
    title: str | None
    mark: str
    said: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def pages() -> list[Path]:
    """The README and every page of the site, without what programs wrote as evidence."""
    return [ROOT / "README.md", *sorted(set(DOCS.rglob("*.md")) - set(DOCS.glob("evidence/*")))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of one page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        mark, _, said = (found["mark"] or "").partition(": ")
        line = text.count("\n", 0, found.start("indent")) + 1
        content = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(page, line, found["language"], found["title"], mark, said, content)


def without_blocks(text: str) -> str:
    """A page's own words."""
    return _FENCE.sub("", text)


def script(chosen: list[Path]) -> str:
    """What a reader of these pages saves and types."""
    typed = ["set -euo pipefail"]
    for block in (each for page in chosen for each in blocks(page) if each.mark != "not run"):
        if block.title:
            typed.append(f"cat > '{block.title}' <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.mark == "fails":
            typed.append(f"if\n{block.text}then false; else [ $? -eq {block.said} ]; fi")
        elif block.language == "sh":
            typed.append(block.text)
    return "\n".join(typed)


if __name__ == "__main__":
    print(script([Path(page).resolve() for page in sys.argv[1:]]))  # noqa: T201 (its purpose)
