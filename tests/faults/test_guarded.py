"""The guard as a second host in the simulated nights: whatever dies, and when.

What must be true is `tests.faults.checks`, as of every scenario; here each story also came about.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import pytest
from tests.faults.checks import violations
from tests.faults.checks_guard import demanded, opened_s
from tests.faults.lab import Played, play
from tests.faults.scenario import DeafGuard, Fault, Kill, Kind, Line, Scenario, Victim
from tests.faults.test_found import CURRENT, LIST, PRESS

from cellbench.engine.causes import RunState
from cellbench.engine.guard import guarding

CHANNELS = {
    "default": "potentiostat",
    "keithley": "source-measure unit",
    "maccor": "cycler",
    "biologic": "potentiostat",
}
#: The current flows, and goes on for half a minute.
DIES_S = 40.0


def played(
    *faults: Fault, bench: str = "default", steps: tuple[str, ...] = (PRESS, CURRENT)
) -> Played:
    """Play a guarded scenario, in which nothing may be wrong."""
    found = play(Scenario(5, bench, steps, faults, guarded=True))
    assert violations(found) == []
    assert found.end is not None
    assert found.end.state is RunState.COMPLETED
    return found


def to_open_s(found: Played) -> float:
    """Time from the first death, under current, to the open cell."""
    (death, *_) = found.hosts.deaths
    assert demanded(found, death.at_s - 0.01) != "open"
    return opened_s(found, death.at_s) - death.at_s


@pytest.mark.parametrize("bench", CHANNELS)
def test_a_host_that_dies_leaves_an_open_cell(bench: str) -> None:
    found = played(Kill(DIES_S, away_s=300.0), bench=bench)
    assert to_open_s(found) < 2.0
    assert found.ledger.last is not None
    assert found.ledger.last.quiet is not None


def test_a_host_that_hangs_is_ended_first() -> None:
    found = played(Kill(DIES_S, away_s=60.0, victim=Victim.HUNG))
    assert 9.5 < to_open_s(found) < 13.0


def test_a_guard_that_is_late_acts_all_the_same() -> None:
    found = played(Kill(DIES_S, away_s=60.0, late_s=6.0))
    assert 6.0 <= to_open_s(found) < 8.0


def test_a_guard_that_dies_is_replaced_and_the_new_one_acts() -> None:
    found = played(Kill(30.0, victim=Victim.GUARD), Kill(DIES_S, away_s=60.0))
    ((lost_s, again_s),) = found.hosts.guards_lost_s
    assert again_s - lost_s < 2.0
    assert to_open_s(found) < 2.0


def test_what_the_instrument_was_told_is_left_when_both_die() -> None:
    found = played(Kill(DIES_S, away_s=300.0, victim=Victim.BOTH))
    assert math.isinf(found.hosts.deaths[0].notices_s)
    assert to_open_s(found) > 10.0


def test_a_guard_that_dies_at_work_leaves_the_rest_to_the_instruments() -> None:
    found = played(
        Line(Kind.SILENT, "potentiostat", DIES_S, 30.0),
        Kill(DIES_S + 0.5, away_s=300.0),
        Kill(DIES_S + 3.0, victim=Victim.GUARD),
    )
    assert found.hosts.deaths[0].guard_s < DIES_S + 10.0
    assert found.reader is not None
    (gap,) = [each for each in found.reader.journal if each.kind == "gap"]
    assert gap.data["charge_max_C"] > 0.0


def test_a_guard_tries_again_whose_instrument_does_not_answer() -> None:
    found = played(Line(Kind.SILENT, "potentiostat", DIES_S, 8.0), Kill(DIES_S + 0.5, away_s=300.0))
    assert 7.0 < to_open_s(found) < 40.0  # one attempt has its deadline, and the next a pause


def test_a_guard_that_hears_nothing_ends_a_host_that_lives() -> None:
    found = played(DeafGuard(30.0, 60.0))
    assert found.hosts.kills == 1
    assert 0.0 <= to_open_s(found) < 2.0


def test_a_list_that_the_cycler_goes_on_with_is_left_alone() -> None:
    found = played(Kill(32.0, away_s=8.0), bench="neware", steps=LIST)
    (death,) = found.hosts.deaths
    assert set(death.left_alone) == {"cycler"}
    assert "cycler" not in {name for _, name in found.hosts.guard_reached}
    assert found.reader is not None
    assert "attached" in {each.kind for each in found.reader.journal}


# --- A promise that is broken is found ----------------------------------------------------------


async def _never(*_: object) -> None:
    """Wait in place of doing what was to be done."""
    await asyncio.Event().wait()


BROKEN: Mapping[str, tuple[str, object, Kill, str]] = {
    "quiet": ("_keep", _never, Kill(DIES_S, away_s=300.0), "though there is a guard"),
    "fed": ("_feed", _never, Kill(DIES_S, away_s=300.0), "the press went from"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_guard_that_breaks_its_promise_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, defect, kill, told = BROKEN[name]
    monkeypatch.setattr(guarding._Quieting, method, defect)
    wrong = violations(play(Scenario(5, "default", (PRESS, CURRENT), (kill,), guarded=True)))
    assert [text for text in wrong if told in text]


def test_a_guard_that_touches_what_goes_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding._Listening, "bounds", lambda _: {})
    scenario = Scenario(5, "neware", LIST, (Kill(32.0, away_s=8.0),), guarded=True)
    assert [text for text in violations(play(scenario)) if "goes on by itself" in text]
