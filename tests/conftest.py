"""Fixtures for all tests: a store of their own, and sessions on the simulated bench."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def store_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own store."""
    directory = tmp_path / "store"
    monkeypatch.setenv("CELLBENCH_STORE", str(directory))
    return directory
