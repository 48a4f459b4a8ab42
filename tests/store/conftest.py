"""A store with two finished runs, one of them recorded: made once, and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellbench.engine.session import prepare
from cellbench.engine.simulation import conduct
from cellbench.store import Store

PROTOCOL = """
cellbench: 1
name: Two cycles
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - eis: {from: 1 MHz, to: 10 Hz, points: 5 per decade, amplitude: 10 mV}
  - repeat: 2
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 5 min, record: {every: 1 s}}
      - current: {at: -0.1 mA/cm2, for: 5 min, record: {every: 1 s}}
  - eis: {from: 1 MHz, to: 10 Hz, points: 5 per decade, amplitude: 10 mV}
analyses: [symmetric_cycling]
"""


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the store; nobody changes it."""
    place = tmp_path_factory.mktemp("kept")
    file = place / "protocol.yaml"
    file.write_text(PROTOCOL, encoding="utf-8")
    with Store(place / "store") as store:
        conduct(prepare(str(file), seed=1), store, record=True)
        conduct(prepare(str(file), seed=2), store)
    return place / "store"


@pytest.fixture
def directory(kept: Path, tmp_path: Path) -> Path:
    """A copy of it for one test, in the place where cellbench looks for it."""
    return Path(shutil.copytree(kept, tmp_path / "store", dirs_exist_ok=True))


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """The same, opened."""
    with Store(directory) as opened:
        yield opened
