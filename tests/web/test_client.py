"""`cellbench.open` of a server gives what it gives of the store itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cellbench
from cellbench.errors import InputError
from cellbench.exchange.client import OpenedStore
from cellbench.exchange.importing import import_file
from cellbench.store import Store
from cellbench.web.site import Site

from .client import Browser, serving, site_of

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def address(server: Browser) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    return site.users.add_token("program", "viewer")


@pytest.fixture
def remote(address: str, token: str) -> Iterator[OpenedStore]:
    with cellbench.open(address, token=token) as store:
        yield store


@pytest.fixture
def local(finished: Path) -> Iterator[OpenedStore]:
    with cellbench.open(finished) as store:
        yield store


def test_runs_are_the_same(remote: OpenedStore, local: OpenedStore) -> None:
    searches: list[dict[str, Any]] = [
        {}, {"text": "two CYCLES"}, {"state": "completed", "limit": 1}, {"cell": "other"},
    ]  # fmt: skip
    for search in searches:
        here, there = local.runs(**search), remote.runs(**search)
        assert [_told(run) for run in there] == [_told(run) for run in here]
    assert remote.run("last").id == local.run().id
    assert remote.run(remote.run().id[-3:]).cell == "LYC_PMMA"


def _told(run: Any) -> dict[str, Any]:
    kept = ("id", "protocol", "cell", "bench", "state", "simulated", "started", "ended")
    return {name: getattr(run, name) for name in kept}


def test_samples_are_the_same_bit_for_bit(remote: OpenedStore, local: OpenedStore) -> None:
    here, there = local.run().samples(), remote.run().samples()
    assert list(there) == list(here)
    assert len(there["time_s"]) > 1000
    for name in here:
        assert np.array_equal(there[name], here[name], equal_nan=True)
    assert remote.run().samples(["path"])["path"][-1] == "rest"
    assert len(remote.run().frame(["voltage_V"])) == len(here["time_s"])


def test_spectra_cycles_journal_and_analyses_are_the_same(
    remote: OpenedStore, local: OpenedStore
) -> None:
    here, there = local.run(), remote.run()
    for one, other in zip(here.spectra, there.spectra, strict=True):
        assert other.impedance_ohm.tolist() == one.impedance_ohm.tolist()
        assert other.frequency_Hz.tolist() == one.frequency_Hz.tolist()
        for name in ("time_s", "step", "temperature_K", "stack_pressure_Pa", "bias_V"):
            assert getattr(other, name) == getattr(one, name)
    assert there.cycles == here.cycles
    assert len(there.cycles) == 2
    told = [(entry["number"], entry["kind"], entry["time_s"]) for entry in there.journal]
    assert told == [(entry["number"], entry["kind"], entry["time_s"]) for entry in here.journal]
    name = "interface_resistance"
    assert there.analyse(name) == here.analyse(name)
    with pytest.raises(ValueError, match="no pulse of current"):
        there.analyse("gitt")


def test_what_cannot_be_had_is_said_in_plain_words(
    remote: OpenedStore, address: str, token: str
) -> None:
    with pytest.raises(InputError, match="there is no run"):
        remote.run("2001-01-01-001")
    with pytest.raises(InputError, match="there is no analysis"):
        remote.run().analyse("tea leaves")
    with pytest.raises(InputError, match="no column volts"):
        remote.run().samples(["volts"])
    with pytest.raises(InputError, match="needs the store itself"):
        remote.run().analyse("ccd", cell="LYC")
    with pytest.raises(InputError, match="wants a token"):
        cellbench.open(address)
    with pytest.raises(InputError, match="wants a token"):
        cellbench.open(address, token=f"{token}x")
    with pytest.raises(InputError, match="cannot be reached"):
        cellbench.open("http://127.0.0.1:1", token=token)


def test_columns_that_are_not_there_are_refused(server: Browser, token: str) -> None:
    bearer = Browser(server.port, {"Authorization": f"Bearer {token}"})
    answer = bearer.get("/api/runs/last/samples?columns=../../etc/passwd")
    assert answer.status == 422
    assert answer.error.startswith("there is no column")


def test_a_run_that_was_imported_is_shown_like_any_other(tmp_path: Path) -> None:
    data = tmp_path / "cell.bdf"
    rows = "".join(f"{10 * row},{3.6 + row / 1e3},1e-3\n" for row in range(100))
    data.write_text(f"test_time_second,voltage_volt,current_ampere\n{rows}", encoding="utf-8")
    with Store(tmp_path / "store") as store:
        run = import_file(store, data, "NCM85_InLi", None, None)
    site = site_of(tmp_path / "store")
    token = site.users.add_token("program", "viewer")
    with serving(site) as server:
        bearer = Browser(server.port, {"Authorization": f"Bearer {token}"})
        whole = bearer.json(f"/api/runs/{run.id}")
        assert (whole["state"], whole["actions"]) == ("imported", [])
        assert [each["state"] for each in bearer.json("/api/runs?state=imported")["runs"]] == [
            "imported"
        ]
        for part in ("traces", "cycles", "spectra", "journal", "protocol", "report", "analyses"):
            answer = bearer.get(f"/api/runs/{run.id}/{part}")
            assert answer.status == 200, (part, answer.body[:300])
