"""Runs that are held and go on: by the rule of each kind of step, with the cell at open circuit."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from cellbench.engine.run import RunState
from cellbench.engine.steering import EndAfter

Runner = Callable[..., Any]

HEAD = "cellbench: 1\nname: Held\nsteps:\n"
AREA_CM2 = math.pi / 4
CURRENT = "  - current: {at: 0.1 mA/cm2, for: 10 min, record: {every: 1 s}}\n"
SPECTRUM = "  - eis: {from: 1 MHz, to: 10 mHz, points: 4 per decade, amplitude: 10 mV}\n"
SWEEP = "  - sweep: {from: 0 V, to: 50 mV, rate: 0.1 mV/s}\n"
REST = "  - rest: 10 min\n"
HOLD = """
  - hold:
      at: 0.05 V
      for: 2 h
      record: {spacing: log, at least every: 60 s}
      every: {interval: 20 min, do: [eis: {from: 1 MHz, to: 100 mHz, bias: 0.05 V}]}
"""


def held(at_s: float, for_s: float) -> Callable[..., Any]:
    """Hold a run some time after its beginning, and look at the cell meanwhile."""

    async def hold(simulator: Any, _bench: Any, conductor: Any) -> None:
        await asyncio.sleep(at_s)
        conductor.steering.hold("pause", "paused by a test")
        await asyncio.sleep(for_s / 2)
        assert not simulator.potentiostat.front.cell_is_on
        await asyncio.sleep(for_s / 2)
        conductor.steering.let_go("pause")

    return hold


def entries(ran: Any, kind: str) -> list[Any]:
    return [entry for entry in ran.reader.journal if entry.kind == kind]


def ends(ran: Any, step: str) -> list[dict[str, Any]]:
    return [each.data for each in entries(ran, "step ended") if each.step == step]


def test_a_current_goes_on_for_the_time_that_remains(run: Runner) -> None:
    ran = run(HEAD + CURRENT, disturb=held(200, 3600))
    assert ran.end.state is RunState.COMPLETED
    (end,) = ends(ran, "current")
    assert end["ending"] == "completed"
    assert end["results"]["duration_s"] == pytest.approx(600, abs=1)
    assert end["results"]["charge_C"] == pytest.approx(0.1e-3 * AREA_CM2 * 600, rel=5e-3)
    assert ran.simulator.world.cell.passed_C == pytest.approx(end["results"]["charge_C"], rel=5e-3)
    (went_on,) = entries(ran, "went on")
    assert went_on.data["held_s"] == pytest.approx(3600, abs=2)


def test_a_spectrum_is_taken_anew(run: Runner) -> None:
    ran = run(HEAD + SPECTRUM, disturb=held(100, 600))
    assert ran.end.state is RunState.COMPLETED
    assert [each["ending"] for each in ends(ran, "eis")] == ["interrupted", "completed"]
    assert len(ran.reader.spectra()) == 1


def test_a_sweep_begins_anew_and_its_charge_is_kept(run: Runner) -> None:
    ran = run(HEAD + SWEEP, disturb=held(250, 600))
    assert ran.end.state is RunState.COMPLETED
    first, second = ends(ran, "sweep")
    assert (first["ending"], second["ending"]) == ("interrupted", "completed")
    counted_C = first["results"]["charge_C"] + second["results"]["charge_C"]
    assert ran.simulator.world.cell.passed_C == pytest.approx(counted_C, rel=0.02)


def test_a_rest_rests_while_it_is_held(run: Runner) -> None:
    ran = run(HEAD + REST, disturb=held(100, 200))
    assert entries(ran, "step ended")[0].time_s == pytest.approx(600, abs=10)


@pytest.mark.long
@pytest.mark.parametrize("at_s", [600.0, 1240.0])
def test_a_hold_with_spectra_goes_on_with_both(run: Runner, at_s: float) -> None:
    ran = run(HEAD + HOLD, disturb=held(at_s, 1800))
    assert ran.end.state is RunState.COMPLETED, ran.end.reason
    (end,) = ends(ran, "hold")
    assert end["results"]["duration_s"] == pytest.approx(7200, abs=5)
    assert ran.simulator.world.cell.passed_C == pytest.approx(end["results"]["charge_C"], rel=0.03)
    assert len(ran.reader.spectra()) >= 5


@pytest.mark.parametrize("step", [CURRENT, SPECTRUM, SWEEP, REST, "  - wait: 10 min\n"])
def test_a_step_can_be_skipped(run: Runner, step: str) -> None:
    async def skip(_simulator: Any, _bench: Any, conductor: Any) -> None:
        await asyncio.sleep(200)
        conductor.steering.skip()

    ran = run(f"{HEAD}{step}  - mark: the next one\n", disturb=skip)
    assert ran.end.state is RunState.COMPLETED
    ended = entries(ran, "step ended")
    assert [each.data["ending"] for each in ended] == ["skipped by the operator", "completed"]
    assert ended[0].time_s < 310  # an instrument may finish a period of 100 s first


def test_a_run_ends_after_its_cycle(run: Runner) -> None:
    async def end(_simulator: Any, _bench: Any, conductor: Any) -> None:
        await asyncio.sleep(700)
        conductor.steering.end_after = EndAfter.CYCLE

    cycle = "[current: {at: 0.1 mA/cm2, for: 5 min}, current: {at: -0.1 mA/cm2, for: 5 min}]"
    ran = run(f"{HEAD}  - repeat: 3\n    steps: {cycle}\n", disturb=end)
    assert ran.end.state is RunState.INTERRUPTED
    assert len(entries(ran, "step ended")) == 4
    assert "ended by the operator after repeat[2]" in ran.end.reason
