"""Runs whose hosts die: what was done is not done again, and nothing is left out."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path
from typing import Any

import pytest
from tests.hosts import Ended, Fate, Host, run_with_kills
from tests.invariants import check

from cellbench.engine.detection import Detection
from cellbench.engine.requests import Continue, Pause, Who
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


def kill_at(*times_s: float) -> Fate:
    """Let hosts die so long after they began."""

    async def fate(_: Host, kills: int) -> None:
        await asyncio.sleep(times_s[kills] if kills < len(times_s) else 1e9)

    return fate


WHO = Who(user="anna", host="lab", via="terminal")
STEPS = [
    "press", "rest", "eis", "cycle[1]/current", "cycle[1]/current_2", "cycle[2]/current",
    "cycle[2]/current_2", "rest_2", "press_2",
]  # fmt: skip


def run(
    tmp_path: Path, fate: Fate, protocol: str = PROTOCOL, *, away_s: float = 60.0, **named: Any
) -> Ended:
    """Run a protocol through the deaths of its hosts."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "protocol.yaml"
    path.write_text(protocol, encoding="utf-8")
    return run_with_kills(path, tmp_path / "store", fate, away_s=away_s, **named)


@pytest.mark.long
@pytest.mark.parametrize("moment_s", [3.0, 15.0, 50.0, 84.5, 90.0, 300.0, 500.0, 1300.0, 1350.0])
def test_a_host_that_dies_once_costs_nothing_but_a_gap(tmp_path: Path, moment_s: float) -> None:
    ended = run(tmp_path, kill_at(moment_s))
    assert ended.kills == 1
    check(ended, STEPS)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_hosts_that_die_again_and_again_come_to_the_end(tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)  # noqa: S311 (no secret)
    ended = run(tmp_path, kill_at(*(moments.uniform(1, 400) for _ in range(12))))
    assert ended.kills > 3
    check(ended, STEPS)


def test_the_time_of_a_current_is_not_given_twice(tmp_path: Path) -> None:
    undisturbed, killed = run(tmp_path, kill_at()), run(tmp_path / "b", kill_at(300.0))
    for ended in (undisturbed, killed):
        (end,) = [each.data["results"] for each in ended.reader.journal
                  if each.kind == "step ended" and each.step == "cycle[1]/current"]  # fmt: skip
        assert end["duration_s"] == pytest.approx(300, abs=1)
        assert end["charge_C"] == pytest.approx(0.1e-3 * math.pi / 4 * 300, rel=0.01)


def test_a_run_that_was_paused_is_paused_when_it_is_resumed(tmp_path: Path) -> None:
    async def fate(host: Host, kills: int) -> None:
        await host.conducts.wait()
        assert host.conducting is not None
        conducting = host.conducting
        if not kills:
            await asyncio.sleep(200)
            await conducting.commands.obey(Pause(reason="someone is at the cell"), WHO)
            await asyncio.sleep(0.2)  # a pause passes at a person's pace
            return
        await asyncio.sleep(600)
        assert "someone is at the cell" in conducting.steering.holds["pause"]
        await conducting.commands.obey(Continue(), WHO)
        await asyncio.sleep(1e9)

    ended = run(tmp_path, fate)
    check(ended, STEPS)
    (went_on,) = [each for each in ended.reader.journal if each.kind == "went on"]
    assert went_on.data["held_s"] > 590


# --- What interrupts a step ---------------------------------------------------------------------

PULSED = """
cellbench: 1
name: Pulsed
cell: NMC811_LYC_PMMA_Li
steps:
  - rest: 1 min
  - current:
      at: 0.1 mA
      for: 20 min
      every: {after: 5 min, do: [current: {at: 0.5 mA, for: 1 min}, rest: 1 min]}
  - rest: 1 min
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "moments_s",
    [(340.0,), (400.0,), (430.0,), (500.0,), (640.0,), (400.0, 100.0, 250.0), (430.0, 70.0, 70.0)],
)
def test_a_pulse_that_interrupts_a_step_is_neither_lost_nor_given_again(
    tmp_path: Path, moments_s: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching: list[Detection] = []
    begin = Detection.__init__

    def noted(detection: Detection, *args: Any, **named: Any) -> None:
        begin(detection, *args, **named)
        watching.append(detection)

    monkeypatch.setattr(Detection, "__init__", noted)
    ended = run(tmp_path, kill_at(*moments_s), PULSED, bench=Path("keithley"))
    assert ended.kills == len(moments_s)
    journal = ended.reader.journal
    results = {each.step: each.data["results"]["charge_C"] for each in journal
               if each.kind == "step ended"}  # fmt: skip
    pulses = [path for path in results if path.startswith("current/") and path.endswith("/current")]
    # Of a pulse that was cut off the rest counts as given; one that nobody saw begin is the step's.
    assert [results[each] for each in pulses] == pytest.approx([0.03] * len(pulses), rel=0.01)
    assert results["current"] == pytest.approx(0.12 + 0.03 * len(pulses), rel=0.01)
    gaps = [each.data for each in journal if each.kind == "gap"]
    low_C, high_C = (
        results["current"] - sum(each["charge_C"] - each[bound] for each in gaps)
        for bound in ("charge_min_C", "charge_max_C")
    )
    passed_C = ended.simulator.world.cell.passed_C
    assert low_C - 1e-3 < passed_C < high_C + 1e-3
    budget = watching[-1].budget
    assert budget.charged_C == pytest.approx(results["current"], rel=0.01)


def test_rows_after_a_resumption_are_of_the_step_that_goes_on(tmp_path: Path) -> None:
    ended = run(tmp_path, kill_at(200.0, 150.0))
    rows = ended.reader.samples("potentiostat")
    of = [ended.reader.steps[int(step)][0] for step in rows["step"]]
    journal = [each for each in ended.reader.journal if each.step == "cycle[1]/current"]
    start_s = next(each.time_s for each in journal if each.kind == "step started")
    (end_s,) = [each.time_s for each in journal if each.kind == "step ended"]
    within = [path for path, time_s in zip(of, rows["time_s"], strict=True)
              if start_s < time_s <= end_s]  # fmt: skip
    assert within.count("cycle[1]/current") > 100
    assert within.count("screening") < 20
