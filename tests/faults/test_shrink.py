"""A scenario that shows something wrong is made short, and shows the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.faults import scenario as words
from tests.faults.scenario import Ask, Kill, Kind, Line, Scenario
from tests.faults.shrink import kind_of, shrunk, wrong_with
from tests.faults.test_found import CURRENT, PRESS

from cellbench.engine.gap import Gap

REST = "rest: {for: 5 s, record: {every: 1 s}}"
LONG = Scenario(
    7,
    "default",
    (
        PRESS,
        REST,
        "{repeat: 2, name: loop1, steps: [{current: {at: 0.4 mA/cm2, for: 10 s, "
        "record: {every: 1 s}}}, {rest: {for: 5 s, record: {every: 1 s}}}]}",
        "mark: here",
        CURRENT,
        "sweep: {from: 0 mV, to: 20 mV, rate: 1 mV/s}",
        "press: release",
    ),
    (
        Line(Kind.DUPLICATED, "chamber", 12.34),
        Ask(25.5, "pause", 3.0),
        Kill(85.43, 3, 30.0, victim=words.Victim.BOTH, late_s=3.0),
        Line(Kind.LATE, "press", 130.2, 4.0),
    ),
    limits="temperature: 18 degC to 40 degC",
    guarded=True,
)


@pytest.mark.long
def test_a_planted_defect_is_shrunk_to_what_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Gap.of

    def careless(*args: Any) -> Gap:
        """Forget what passed unseen."""
        return replace(honest(*args), charge_C=0.0, charge_min_C=0.0, charge_max_C=0.0)

    assert wrong_with(LONG) == []
    monkeypatch.setattr(Gap, "of", careless)
    (found, *_) = wrong_with(LONG)
    assert "have passed, the run says" in found
    short, wrong = shrunk(LONG)
    assert kind_of(wrong[0]) == kind_of(found)
    assert [type(each) for each in short.faults] == [Kill]
    assert len(short.steps) <= 2
    assert not short.limits
    # It is printed as code: that is the same scenario, and shows the same again.
    again = eval(short.code(), vars(words))  # noqa: S307 (our own text)
    assert again == short
    assert wrong_with(again) == wrong
    monkeypatch.undo()
    assert wrong_with(again) == []
