"""What there is to choose from: lists, and one of each shown whole."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cellbench.cli.app import app
from cellbench.library import find_card, find_protocol


def _told(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def test_protocols_are_listed_with_the_cell_that_they_are_meant_for() -> None:
    lines = _told("protocols").splitlines()
    assert "Critical current density (LYC_PMMA)" in next(x for x in lines if x.startswith("ccd "))


@pytest.mark.parametrize(
    ("what", "name", "text"),
    [
        ("protocols", "ccd", find_protocol("ccd").read_text("utf-8")),
        ("cells", "LYC", find_card("LYC").read_text("utf-8")),
    ],
)
def test_one_of_them_is_shown_whole(what: str, name: str, text: str) -> None:
    assert _told(what, name) == text
    assert json.loads(_told(what, name, "--json")) == {"name": name, "text": text}


def test_an_analysis_tells_how_it_defines_what_it_gives() -> None:
    assert "capacity " in _told("analyses")
    told = _told("analyses", "stripping")
    assert "Kasemchainan" in told
    assert "cutoff_V: magnitude" in told


def test_a_simulated_cell_tells_where_its_values_are_from() -> None:
    told = _told("sim", "cells", "LYC")
    assert "by_construction:" in told
    assert "source: fitted to the ~300 cycles of EES Batteries 2025, 1, 1612" in told
    assert "material:" not in told


@pytest.mark.parametrize("what", ["protocols", "cells", "analyses"])
def test_a_wrong_name_is_answered_with_the_right_ones(what: str) -> None:
    assert "there is no" in _told(what, "nothing", code=2)
    assert "LYC_PMMA" in _told("sim", "cells", "nothing", code=2)
