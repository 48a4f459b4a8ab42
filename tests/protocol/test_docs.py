"""The examples in the documents are what cellbench accepts."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from tests.protocol.conftest import Bench
from tests.test_cell import FULL

from cellbench.cell import CellCard
from cellbench.protocol import check, load_card, load_protocol
from cellbench.protocol.schema import VERBS
from cellbench.protocol.scope import RESULTS

DOCS = Path(__file__).parents[2] / "docs"
PROTOCOL = (DOCS / "protocol.md").read_text(encoding="utf-8")
CELLS = (DOCS / "cells.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)


def card_of(block: str) -> CellCard | None:
    """Potentials and C-rates need a full cell; the rest has the usual card."""
    return CellCard.model_validate(FULL) if "# NCM" in block else None


@pytest.mark.parametrize("block", blocks(PROTOCOL))
def test_each_example_of_the_language_passes_the_check(
    block: str, tmp_path: Path, bench: Bench
) -> None:
    path = tmp_path / "example.yaml"
    head = "name: example\ncell: LYC\nsteps:\n"
    path.write_text(head + block if block.startswith("- ") else block, encoding="utf-8")
    program = load_protocol(path, card_of(block))
    assert check(program, bench, ["ccd", "arrhenius"]).problems == ()


@pytest.mark.parametrize("block", blocks(CELLS))
def test_each_example_of_a_card_is_one(block: str, tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(block, encoding="utf-8")
    card, _ = load_card(None, path)
    assert card.cell in block


def test_the_document_names_each_verb_and_its_results() -> None:
    rows = [line for line in PROTOCOL.splitlines() if line.startswith("| `")]
    for verb in VERBS:
        (row,) = (line for line in rows if f"`{verb}`" in line.split("|")[1])
        told = row.rstrip("| ").split("|")[-1]
        fields = RESULTS.get(verb, ())
        assert "channel" in told if "voltage_V" in fields else all(f"`{f}`" in told for f in fields)


def test_the_page_of_analyses_says_what_they_say_of_themselves() -> None:
    """`python docs/make_analyses.py` writes it anew."""
    made = runpy.run_path(str(DOCS / "make_analyses.py"))
    assert (DOCS / "analyses.md").read_text(encoding="utf-8") == made["page"]()


def test_the_document_names_each_key_of_a_card() -> None:
    for name, field in CellCard.model_fields.items():
        assert f"| `{field.alias or name}` |" in CELLS
