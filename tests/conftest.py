"""Fixtures for all tests: a store of their own, and sessions on the simulated bench."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# How long an example takes depends on what else the computer does.
settings.register_profile("cellbench", deadline=None)
settings.load_profile("cellbench")


def pytest_collection_finish() -> None:
    """The modules and tests of this run stay: the collector need not look at them in each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def store_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own store."""
    directory = tmp_path / "store"
    monkeypatch.setenv("CELLBENCH_STORE", str(directory))
    return directory


@pytest.fixture(scope="session", autouse=True)
def no_guard_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A guard whose engine a test has killed keeps its bench for ever, as it should; not these."""
    yield
    ours = str(tmp_path_factory.getbasetemp())
    for process in psutil.process_iter(["cmdline"]):
        if "cellbench.engine.guard" in (process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile, or is another user's
                if process.environ().get("CELLBENCH_STORE", "").startswith(ours):
                    process.kill()
