"""How long nobody was there: by what nobody can set, where there is something."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from tests.hosts import Ended, Host

from cellbench import clock
from cellbench.engine import age
from cellbench.engine.age import Tie, age_now, now_of_computer
from cellbench.engine.session import prepare
from cellbench.store import RunReader, Store
from cellbench_sim.bench import SimulatedBench

SPEED = 10.0


def computer(monkeypatch: pytest.MonkeyPatch, boot: str, passed_s: float) -> None:
    monkeypatch.setattr(age, "boot_id", lambda: boot)
    monkeypatch.setattr(age, "passed_ns", lambda: int(passed_s * 1e9))


@pytest.mark.parametrize("set_s", [0.0, -30.0, 600.0, -86_400.0])
def test_without_a_new_start_of_the_computer_its_clock_may_say_what_it_likes(
    monkeypatch: pytest.MonkeyPatch, set_s: float
) -> None:
    computer(monkeypatch, "a", 500.0)
    boot = now_of_computer()["boot"]
    tie = Tie(100.0, boot["id"], boot["passed_s"])
    computer(monkeypatch, "a", 560.0)
    found = age_now(100.0 + 60.0 * SPEED + set_s, 120.0, tie, SPEED)
    assert found.age_s == pytest.approx(700.0)
    assert found.shift_s == pytest.approx(set_s)
    assert (found.known, found.proven, found.told) == (True, True, "")


def test_after_a_new_start_the_clock_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    computer(monkeypatch, "b", 60.0)
    found = age_now(5000.0, 1000.0, Tie(0.0, "a", 1e6), 1.0)
    assert (found.age_s, found.known, found.proven) == (5000.0, True, False)
    assert found.told == " by the computer's clock"


@pytest.mark.parametrize("by_clock_s", [-1e9, 900.0, 1050.0])
def test_a_clock_that_tells_less_than_the_computer_is_up_was_set_back(
    monkeypatch: pytest.MonkeyPatch, by_clock_s: float
) -> None:
    computer(monkeypatch, "b", 60.0)
    found = age_now(by_clock_s, 1000.0, Tie(0.0, "a", 1e6), 1.0)
    assert (found.age_s, found.known) == (1060.0, False)
    assert "unknown" in found.told


@pytest.mark.parametrize(("least_s", "age_s", "known"), [
    (-math.inf, 5000.0, True), (5004.0, 5004.0, True), (9000.0, 9000.0, False),
])  # fmt: skip
def test_an_instrument_tells_how_long_it_has_been_at_it(
    monkeypatch: pytest.MonkeyPatch, least_s: float, age_s: float, known: bool
) -> None:
    computer(monkeypatch, "b", 60.0)
    found = age_now(5000.0, 1000.0, Tie(0.0, "a", 1e6), 1.0).at_least(least_s)
    assert (found.age_s, found.known) == (age_s, known)


CURRENT = """
cellbench: 1
name: Away
cell: NMC811_LYC_PMMA_Li
steps:
  - current: {at: 0.1 mA, for: 1 h, when interrupted: quiet}
  - rest: 1 min
"""
LISTED = CURRENT.replace(", when interrupted: quiet", "")


def away(
    directory: Path, protocol: str, bench: str, *, told_s: float, away_s: float = 600.0
) -> Ended:
    """A host dies after 5 min, and is back after ``away_s``, by a clock that says ``told_s``."""
    path = directory / "protocol.yaml"
    path.write_text(protocol, encoding="utf-8")
    session = prepare(str(path), bench=Path(bench))
    simulator = session.simulator
    assert isinstance(simulator, SimulatedBench)

    async def main(store: Store) -> Ended:
        async with simulator:
            host = Host(session, store)
            first = host.run()
            await asyncio.sleep(300.0)
            host.kill()
            await asyncio.wait({first})
            await asyncio.sleep(away_s)
            (run,) = store.runs()
            end = await Host(session, store).resume(run, 0.0, clock_step_s=told_s - away_s)
            return Ended(end, RunReader(store.run_path(end.run.id)), simulator)

    with Store(directory / "store") as store:
        return clock.run(main(store), virtual=True)


@pytest.mark.long
@pytest.mark.parametrize("told_s", [600.0, 60.0])
def test_by_a_clock_alone_a_gap_is_bounded_by_what_the_instrument_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_s: float
) -> None:
    """As after a new start of the computer: its clock may have been set back meanwhile."""
    tell = age.Age
    monkeypatch.setattr(
        "cellbench.engine.resume.age_now",
        lambda by_clock_s, last_s, *_: tell(max(by_clock_s, last_s), known=True, proven=False),
    )
    ended = away(tmp_path, CURRENT, "keithley", told_s=told_s)
    journal = ended.reader.journal
    (gap,) = [each.data for each in journal if each.kind == "gap"]
    (charge_C,) = [each.data["results"]["charge_C"] for each in journal
                   if each.kind == "step ended" and each.step == "current"]  # fmt: skip
    passed_C = ended.simulator.world.cell.passed_C
    low_C, high_C = (
        charge_C - gap["charge_C"] + gap[bound] for bound in ("charge_min_C", "charge_max_C")
    )
    assert low_C - 1e-3 < passed_C < high_C + 1e-3
    assert "by the computer's clock" in next(e.text for e in journal if e.kind == "resumed")


@pytest.mark.long
@pytest.mark.parametrize("told_s", [600.0, 200.0, -1000.0])
def test_rows_that_a_cycler_kept_have_no_times_that_are_still_to_come(
    tmp_path: Path, told_s: float
) -> None:
    ended = away(tmp_path, LISTED, "neware", told_s=told_s)
    journal = ended.reader.journal
    resumed_s = next(entry.time_s for entry in journal if entry.kind == "resumed")
    rows = ended.reader.samples("cycler")
    fetched = rows["time_s"][rows["time_s"] < resumed_s + 1e-3]
    assert len(fetched) > 800
    assert resumed_s == pytest.approx(900.0, abs=10.0)
    assert [e.data["ending"] for e in journal if e.kind == "step ended"] == ["completed"] * 2
