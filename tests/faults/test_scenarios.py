"""Simulated nights: scenarios from whole numbers, in which things go wrong.

CI plays a sample; the campaign plays as many as ``CELLBENCH_SCENARIOS`` says, and full nights
(``CELLBENCH_NIGHTS``). One number alone: ``python -m tests.faults.campaign --seed 123 --show``.
"""

from __future__ import annotations

import os

import pytest
from tests.faults.campaign import campaign, judged, say, summary
from tests.faults.generate import scenario
from tests.faults.lab import play
from tests.faults.nights import night

SAMPLE = range(60)
WHOLE = int(os.environ.get("CELLBENCH_SCENARIOS", "5000"))
NIGHTS = int(os.environ.get("CELLBENCH_NIGHTS", "50"))
JOBS = int(os.environ.get("CELLBENCH_JOBS", "2"))


@pytest.mark.long
@pytest.mark.parametrize("seed", SAMPLE)
def test_a_compressed_night(seed: int) -> None:
    assert judged(scenario, seed).wrong == ()


def test_a_number_is_the_same_night_for_ever() -> None:
    first, second = play(scenario(7)), play(scenario(7))
    assert first.reader is not None
    assert second.reader is not None
    assert [(each.time_s, each.kind, each.step, each.data) for each in first.reader.journal] == [
        (each.time_s, each.kind, each.step, each.data) for each in second.reader.journal
    ]
    assert first.seen.imposed == second.seen.imposed
    assert first.passed_C == second.passed_C


@pytest.mark.slow
def test_the_whole_campaign() -> None:
    results = campaign(scenario, range(WHOLE), JOBS)
    say(summary(results, 0.0))
    assert not [(each.seed, each.wrong) for each in results if each.wrong]


@pytest.mark.slow
def test_full_nights() -> None:
    results = campaign(night, range(NIGHTS), JOBS)
    say(summary(results, 0.0))
    assert not [(each.seed, each.wrong) for each in results if each.wrong]
