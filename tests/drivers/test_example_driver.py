"""The worked example of docs/writing_a_driver.md: found by its file, and through the whole kit.

Its own test, docs/test_watlow_f4t.py, is run as the page says by tests/docs/test_pages.py.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from cellbench.bench import BenchFile, InstrumentEntry, declared
from cellbench.instruments.registry import driver_names, load_driver
from cellbench.testing import checks_for, failures, results

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.long
def test_all_checks_are_carried_out_without_pytest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    subject = importlib.import_module("test_watlow_f4t").SUBJECT
    assert failures(subject) == []
    assert [str(each)[:2] for each in results(subject)] == ["ok"] * len(checks_for("chamber"))


def test_the_example_is_short() -> None:
    assert len((DOCS / "watlow_f4t.py").read_text("utf-8").splitlines()) < 150


def test_a_bench_file_names_it_by_its_file() -> None:
    entry = InstrumentEntry(driver="watlow_f4t.py:WatlowF4T", port="192.0.2.20")
    bench = declared(
        BenchFile(bench="oven", instruments={"oven": entry}), simulated=False, beside=DOCS
    )
    assert bench.chamber is not None
    assert bench.chamber.capabilities.model == "Watlow F4T"


@pytest.mark.parametrize("name", driver_names())
def test_every_driver_says_what_it_is_made_from_and_what_nobody_has_verified(name: str) -> None:
    driver: Any = load_driver(name)
    told = (sys.modules[driver.__module__].__doc__ or "").lower()
    if driver.serial is None and "no wire" in told:
        return  # a person works it
    assert "source" in told
    assert any(word in told for word in ("verified", "tried", "recalled"))
