"""Pages that are made from the program say what it says: each `docs/make_*.py` writes them anew."""

from __future__ import annotations

import runpy

import pytest
from pydantic import BaseModel
from tests.docs.blocks import DOCS

from cellbench import library
from cellbench.bench import BenchFile
from cellbench.cell import CellCard
from cellbench.protocol.bodies import MODELS
from cellbench.protocol.schema import ConditionsBody, LimitsBody, ProtocolFile, Step
from cellbench.protocol.scope import RESULTS

pytestmark = pytest.mark.long

MAKERS = ["analyses", "commands", "drivers", "language", "library"]


@pytest.mark.parametrize("maker", MAKERS)
def test_the_pages_are_as_they_would_be_made_now(maker: str) -> None:
    made = runpy.run_path(str(DOCS / f"make_{maker}.py"))["pages"]()
    for name, text in made.items():
        told = f"python docs/make_{maker}.py writes {name} anew"
        assert (DOCS / name).read_text(encoding="utf-8") == text, told


def test_every_shipped_protocol_has_a_page_and_a_plot() -> None:
    names = set(library.protocol_names())
    assert {path.stem for path in DOCS.glob("protocols/*.md")} - {"index"} == names
    assert {path.stem for path in DOCS.glob("images/protocols/*.png")} == names


def test_every_key_of_the_language_says_what_it_means() -> None:
    structures = {"for_each", "repeat", "if_", "group", "include", "steps", "else_", "with_"}
    models: set[type[BaseModel]] = {ProtocolFile, LimitsBody, ConditionsBody, *MODELS.values()}
    fields = [(model.__name__, *item) for model in models for item in model.model_fields.items()]
    fields += [("Step", name, Step.model_fields[name]) for name in structures]
    assert [f"{model}.{name}" for model, name, info in fields if not info.description] == []


def test_protocols_are_told_of_with_the_results_of_every_verb() -> None:
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for verb, fields in RESULTS.items():
        (row,) = (line for line in rows if f"`{verb}`" in line.split("|")[1])
        told = row.rstrip("| ").split("|")[-1]
        assert "channel" in told if "voltage_V" in fields else all(f"`{f}`" in told for f in fields)


@pytest.mark.parametrize(("page", "model"), [("cells.md", CellCard), ("benches.md", BenchFile)])
def test_files_are_told_of_with_every_key(page: str, model: type[BaseModel]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        assert f"| `{field.alias or name}` |" in text
