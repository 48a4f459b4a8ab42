"""The published JSON Schema: it accepts what cellbench accepts, and refuses typing errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from cellbench import library
from cellbench.protocol import json_schema, shipped_cells, shipped_protocols


def content(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def validate(text: str) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(content(text))


def test_the_schema_is_one_itself() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    json.dumps(json_schema())


@pytest.mark.parametrize("name", library.protocol_names())
def test_each_shipped_protocol_fits_the_schema(name: str) -> None:
    validate(Path(library.find_protocol(name)).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "steps",
    [
        "- rest: 10",
        "- eis: $spectrum",
        "- press: {to: 5 MPa, settle: {within: 0.1 MPa, for: 2 min}}",
        "- wait: {until: [short, time > 1 h], at most: 2 h}",
        "- {for each: {p: [1 MPa, 2 MPa]}, steps: [{press: $p}]}",
        "- {include: ccd, with: {rest: 1 min}}",
    ],
)
def test_short_forms_fit_the_schema(steps: str) -> None:
    validate(f"name: x\nsteps:\n  {steps}\n")


@pytest.mark.parametrize(
    "text",
    [
        "name: x\nstep: []\n",
        "name: x\nsteps:\n  - rets: 10 min\n",
        "name: x\nsteps:\n  - current: {at: 1 mA, fro: 10 min}\n",
        "name: x\nsteps:\n  - press: null\n",
        "steps:\n  - rest: 1 s\n",
    ],
)
def test_typing_errors_do_not_fit_the_schema(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(text)


def test_keys_have_descriptions_for_completion() -> None:
    schema = json_schema()
    assert "description" in schema["$defs"]["LimitsBody"]["properties"]["stack pressure"]
    assert "description" in schema["$defs"]["Step"]["properties"]["for each"]


def test_what_is_shipped_is_listed_with_a_title() -> None:
    assert shipped_protocols()["ccd"] == "Critical current density (LYC_PMMA)"
    assert shipped_cells()["LYC_PMMA"] == "Li | LYC_PMMA | Li"
