"""The check of pasted text: what is wrong is told at its line, nothing of the computer is read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cellbench.errors import InputError
from cellbench.protocol import ProtocolError, parse_protocol
from cellbench.web import worked_out

from .client import Browser

pytestmark = pytest.mark.long

GOOD = """\
cellbench: 1
name: A pulse
cell: LYC
parameters: {j: 0.2 mA/cm2}
steps:
  - rest: 5 min
  - current: {at: $j, for: 10 min}
"""


def checked(browser: Browser, text: str, **more: Any) -> dict[str, Any]:
    answer = browser.post("/api/check", {"text": text} | more)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def test_viewers_check_and_plan_a_text(vera: Browser) -> None:
    found = checked(vera, GOOD)
    assert found["ok"] is True
    assert [row["path"] for row in found["plan"]["rows"]] == ["rest", "current"]
    assert found["plan"]["duration_s"] == 900
    assert checked(vera, GOOD, set={"j": "0.4 mA/cm2"}, cell="LYC_PMMA")["ok"] is True


def test_a_mistake_is_told_at_its_line(vera: Browser) -> None:
    (error,) = checked(vera, GOOD.replace("10 min", "10 mi"))["errors"]
    assert error["line"] == 7
    assert "10 mi" in error["snippet"]
    assert error["text"]
    (error,) = checked(vera, GOOD, set={"k": "1 mA"})["errors"]
    assert error["line"] is None
    assert '"j"' in error["text"] or "j" in error["text"]
    (error,) = checked(vera, GOOD, cell="no such cell")["errors"]
    assert "no such cell" in error["text"]


@pytest.fixture
def lure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A protocol and a card in the working directory, which no pasted text may reach."""
    (tmp_path / "mine.yaml").write_text(GOOD.replace("A pulse", "SECRET"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize(
    "form", ["{}", "mine", "mine.yaml", "./mine.yaml", "/etc/passwd", "cells/LYC"]
)
def test_no_file_is_read_for_a_pasted_text(lure: Path, form: str) -> None:
    name = form.format(lure)
    included = f"cellbench: 1\nname: x\ncell: LYC\nsteps:\n  - include: {name}\n"
    with pytest.raises(ProtocolError, match="there is no protocol"):
        parse_protocol(included)
    with pytest.raises(ProtocolError, match="there is no cell card"):
        parse_protocol(GOOD.replace("cell: LYC", f"cell: {name}"))
    with pytest.raises(InputError, match="there is no cell card"):
        parse_protocol(GOOD, name)


def test_shipped_protocols_may_be_included() -> None:
    text = "cellbench: 1\nname: x\ncell: NCM85_InLi\nsteps:\n  - include: formation\n"
    program, card = parse_protocol(text)
    assert "NCM85" in card
    assert program.nodes


BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

ENDLESS = "cellbench: 1\nname: x\ncell: LYC\nsteps:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "anchors"),
        ("[" * 5000, "nested deeper"),
        ("x: !!python/object/apply:os.system [id]", "tag"),
        (f"[{'x,' * 60_000}]", "more than 50000 values"),
        ("\0", "not YAML"),
        ("", "empty"),
        (f"{ENDLESS}  - repeat: 999999999\n    steps: [rest: 1 s]\n", "more than 100,000 steps"),
    ],
)  # fmt: skip
def test_bombs_are_refused_with_a_clear_message(vera: Browser, text: str, said: str) -> None:
    found = checked(vera, text)
    assert found["ok"] is False
    assert said in " ".join(error["text"] for error in found["errors"])


def test_a_text_that_is_too_long_is_refused(vera: Browser) -> None:
    assert vera.post("/api/check", {"text": "x" * 250_000}).status == 422


def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=r"takes longer than 0\.05 s, and was given up"):
        worked_out._run("check", (GOOD, None, {}), 0.05)
    assert time.monotonic() - began < 20
