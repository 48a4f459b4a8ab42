"""`cellbench.open`: a store's runs from Python."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cellbench
from cellbench.errors import InputError
from cellbench.exchange.client import NUMBERS, OpenedStore


@pytest.fixture
def opened(ramp: Any) -> Iterator[OpenedStore]:
    with cellbench.open(ramp.reader.path.parent.parent) as store:
        yield store


def test_runs_are_found_by_what_they_are(opened: OpenedStore, ramp: Any) -> None:
    everything = opened.runs()
    assert ramp.run.id in [run.id for run in everything]
    assert [run.started for run in everything] == sorted(
        (run.started for run in everything), reverse=True
    )
    assert opened.runs("CRITICAL CURRENT", cell="LYC_PMMA", state="completed", limit=1)
    assert opened.runs("simulated bench", protocol="Formation") == []
    assert opened.run(ramp.run.id).cell == "LYC_PMMA"
    with pytest.raises(InputError, match="there is no run"):
        opened.run("2001-01-01-001")


def test_samples_are_arrays_as_they_were_measured(opened: OpenedStore, ramp: Any) -> None:
    run = opened.run(ramp.run.id)
    samples, kept = run.samples(), ramp.reader.samples("potentiostat")
    assert tuple(samples) == NUMBERS
    for name in ("time_s", "voltage_V", "current_A", "charge_C"):
        assert np.array_equal(samples[name], kept[name])
    assert all(column.dtype.kind in "fi" for column in samples.values())
    assert np.nanmedian(samples["stack_pressure_Pa"]) == pytest.approx(5e6, rel=0.02)
    words = run.samples(["path", "technique"])
    assert words["path"][-1] == "for_each[12]/current_2"
    assert words["path"].dtype.kind == "U"
    with pytest.raises(InputError, match="no column volts: choose of time_s"):
        run.samples(["volts"])


def test_samples_are_a_data_frame_where_pandas_is(opened: OpenedStore, ramp: Any) -> None:
    frame = opened.run(ramp.run.id).frame(["time_s", "voltage_V"])
    assert list(frame.columns) == ["time_s", "voltage_V"]
    assert len(frame) == len(ramp.dataset.samples)


@pytest.mark.long
def test_spectra_cycles_journal_and_analyses(opened: OpenedStore, ramp: Any) -> None:
    run = opened.run(ramp.run.id)
    assert len(run.spectra) == 14
    assert run.spectra[0].impedance_ohm.tolist() == ramp.dataset.spectra[0].impedance_ohm.tolist()
    assert len(run.cycles) == 13
    charged_C = sum(cycle["charge_C"] for cycle in run.cycles)
    assert charged_C == pytest.approx(np.sum(_DENSITIES) * 10 * np.pi / 4e4 * 1200, rel=2e-3)
    assert [entry["kind"] for entry in run.journal][0::len(run.journal) - 1] == [
        "run started", "run ended",
    ]  # fmt: skip
    assert run.analyse("ccd") == ramp.results["ccd"]
    with pytest.raises(InputError, match="there is no analysis"):
        run.analyse("tea leaves")
    with pytest.raises(ValueError, match="no pulse of current"):
        run.analyse("gitt")


_DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)


@pytest.mark.long
def test_a_corrected_card_changes_the_analysis(
    opened: OpenedStore, ramp: Any, tmp_path: Path
) -> None:
    text = ramp.reader.documents["cell"].replace("thickness: 0.354 mm", "thickness: 0.708 mm")
    (tmp_path / "card.yaml").write_text(text, encoding="utf-8")
    run, card = opened.run(ramp.run.id), str(tmp_path / "card.yaml")
    before, after = (
        run.analyse("conductivity", cell=cell)["conductivity_mS_cm"] for cell in (None, card)
    )
    assert after == pytest.approx(2 * before, rel=1e-3)


def test_the_default_store_is_opened_or_missed_in_plain_words() -> None:
    with pytest.raises(InputError, match="there is no store"):
        cellbench.open()


def test_importing_cellbench_is_light() -> None:
    script = "import cellbench, sys; assert callable(cellbench.open); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "pydantic", "sqlalchemy", "typer", "scipy"}
