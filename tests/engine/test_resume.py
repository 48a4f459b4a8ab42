"""Runs whose hosts die: what was done is not done again, and nothing is left out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.hosts import Ended, Host, run_with_kills

from cellbench.engine.run import RunState
from cellbench.store import runfile

PROTOCOL = """
cellbench: 1
name: Killed
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 0.5 MPa/s, settle: {within: 0.1 MPa, for: 10 s}}
  - rest: 1 min
  - eis: {from: 1 MHz, to: 100 Hz, points: 4 per decade, amplitude: 10 mV}
  - repeat: 2
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 5 min, record: {every: 1 s}}
      - current: {at: -0.1 mA/cm2, for: 5 min, record: {every: 1 s}}
  - rest: 1 min
  - press: release
"""


@pytest.fixture(autouse=True)
def flush_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk when a host dies does not hang on how fast the disk was."""
    monkeypatch.setattr(runfile, "FLUSH_INTERVAL_S", 3600.0)


def kill_at(*times_s: float):
    """Let hosts die so long after they began."""

    async def fate(_: Host, kills: int) -> None:
        await asyncio.sleep(times_s[kills] if kills < len(times_s) else 1e9)

    return fate


def endings(ended: Ended) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in ended.reader.journal:
        if entry.kind == "step ended":
            found.setdefault(entry.step, []).append(entry.data["ending"])
    return found


STEPS = [
    "press", "rest", "eis", "cycle[1]/current", "cycle[1]/current_2", "cycle[2]/current",
    "cycle[2]/current_2", "rest_2", "press_2",
]  # fmt: skip


@pytest.mark.parametrize("moment_s", [3.0, 15.0, 50.0, 90.0, 300.0, 500.0, 1300.0, 1500.0])
def test_a_host_that_dies_once_costs_nothing_but_a_gap(tmp_path: Path, moment_s: float) -> None:
    path = tmp_path / "protocol.yaml"
    path.write_text(PROTOCOL, encoding="utf-8")
    ended = run_with_kills(path, tmp_path / "store", kill_at(moment_s), away_s=60.0)
    print(
        "\n".join(
            f"{e.time_s:9.2f} {e.kind:14s} {e.step:20s} {e.text}" for e in ended.reader.journal
        )
    )
    assert ended.kills == 1
    assert ended.end.state is RunState.COMPLETED
    done = endings(ended)
    assert [path for path in STEPS if done[path][-1] != "interrupted"] == STEPS
    assert all(each == "interrupted" for path in STEPS for each in done[path][:-1])
