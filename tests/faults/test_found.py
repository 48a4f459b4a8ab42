"""What the campaign found once, made short: each must never be found again."""

from __future__ import annotations

import pytest
from tests.faults.checks import violations
from tests.faults.lab import play
from tests.faults.scenario import (
    Ask,
    FullDisk,
    Kill,
    Kind,
    Line,
    Scenario,
    Short,
    WrongForce,
)

PRESS = "press: {to: 2 MPa, ramp: 1 MPa/s, settle: {within: 0.3 MPa, for: 8 s, at most: 20 min}}"
LIST = (
    PRESS,
    "rest: {for: 10 s, record: {every: 1 s}}",
    "current: {at: 0.2 mA/cm2, for: 20 s, record: {every: 2 s}}",
    "rest: {for: 10 s, record: {every: 2 s}}",
    "current: {at: -0.2 mA/cm2, for: 20 s, record: {every: 2 s}}",
)

CURRENT = "current: {at: 0.2 mA/cm2, for: 60 s, record: {every: 1 s}}"
SHORT_CURRENT = "current: {at: 0.4 mA/cm2, for: 12 s, record: {every: 1 s}}"

FOUND = {
    # The gap was as long as the clock said, and the charge in it far too small.
    "the clock was set back while nobody was there": Scenario(
        12, "default",
        (PRESS, "current: {at: 0.2 mA/cm2, for: 60 s, record: {every: 1 s}}"),
        (Kill(30.0, away_s=30.0, clock_step_s=-3600.0),),
    ),
    # The last row before an interruption came after the rows of what interrupted it.
    "an interrupted current": Scenario(
        33, "default",
        (PRESS, "current: {at: 0.2 mA/cm2, for: 60 s, record: {every: 5 s}, "
                "every: {after: 20 s, do: [{rest: {for: 6 s, record: {every: 1 s}}}]}}"),
    ),
    # The cycler went on with its list while it did not answer; its steps were done once more.
    "a cycler that does not answer for a while": Scenario(
        191, "neware", LIST, (Line(Kind.REQUEST_LOST, "cycler", 38.0),)
    ),
    "a cycler whose cable is pulled": Scenario(
        191, "neware", LIST, (Line(Kind.PULLED, "cycler", 46.0, 40.0),)
    ),
    # Rows of the last seconds before the hold were not fetched.
    "a list that is skipped from": Scenario(191, "neware", LIST, (Ask(36.0, "skip"),)),
    "a list that is paused": Scenario(191, "neware", LIST, (Ask(47.0, "pause", 20.0),)),
    # A step whose start waited for the disk counted as done.
    "a disk that is full when a step of a list begins": Scenario(
        233, "neware", LIST, (FullDisk(26.0, 40.0),)
    ),
    # The list was in the journal and not on the cycler: the run could not be gone on with.
    **{
        f"a host that dies as it hands over a list, {turns} turns later": Scenario(
            69, "neware", LIST, (Kill(at_s, turns, away_s=30.0),)
        )
        for at_s, turns in ((15.7, 0), (15.7, 3), (15.7, 8), (15.7, 30), (20.0, 5), (30.0, 5))
    },
    # The first step of the list that was open began anew, and the list was left alone.
    "a list that is open after a trip": Scenario(
        376, "neware", LIST, (WrongForce(17.0, 17.0, 3.0),),
        limits="stack pressure: 0.8 MPa to 5 MPa",
    ),
    # Nobody let it go on who had paused it: he did so while nobody was there.
    "a host that dies while its run is paused": Scenario(
        1137, "default", (PRESS, CURRENT), (Ask(30.0, "pause", 30.0), Kill(40.0, away_s=300.0)),
    ),
    # The charge that was counted of a gap lay outside of its own bounds.
    "a sweep that a short ends": Scenario(
        4098, "default", (PRESS, "sweep: {from: 0 mV, to: 20 mV, rate: 1 mV/s}"),
        (Short(12.0, 1.0),),
    ),
    # One bit of a time: 4.7 hours of charge were counted in a second.
    "a row of a time that has not come": Scenario(
        4550, "default", (PRESS, CURRENT),
        (Line(Kind.FLIPPED, "potentiostat", 30.0, where=0.837),),
    ),
    # The cycler goes on to its watchdog, past the end of a step that the host has to end.
    "a cycler that does not end its steps itself": Scenario(
        69, "maccor", (PRESS, SHORT_CURRENT, SHORT_CURRENT),
        (Line(Kind.REPLY_LOST, "cycler", 23.0),),
    ),
    "a cycler that does not end its steps itself, and its host": Scenario(
        19, "maccor", (PRESS, SHORT_CURRENT), (Kill(22.0, away_s=300.0),),
    ),
    # The guard had opened the cell before it was lost, by a clock that was set back meanwhile.
    "a guard whose clock is set back": Scenario(
        14, "default", (PRESS, CURRENT), (Kill(30.0, away_s=30.0, clock_step_s=-3600.0),),
        guarded=True,
    ),
    # What was sent on a connection that was lost counted as misuse of the library.
    "a library whose instrument is unplugged": Scenario(
        268, "biologic", (PRESS, CURRENT), (Line(Kind.PULLED, "potentiostat", 40.0, 8.0),),
    ),
    "a library whose instrument loses its power": Scenario(
        252, "biologic", (PRESS, CURRENT), (Line(Kind.RESET, "potentiostat", 40.0),),
    ),
    # What was to be skipped had not begun: its list was handed over again, for ever.
    "a list is skipped from before it has begun": Scenario(
        2600, "neware", LIST, (Ask(12.5, "skip"),)
    ),
    # A list of which nothing was seen counted as never begun, and it had been at work.
    "a cycler that loses its list after its host": Scenario(
        2638, "neware", LIST,
        (Kill(24.0, 0, 10.0), Line(Kind.RESET, "cycler", 27.0)),
    ),
    # A resume that a limit ended told nothing of the charge that had passed before.
    "a short while nobody was there": Scenario(
        4054, "neware with palmsens",
        (PRESS, "current: {at: 0.2 mA/cm2, for: 60 s, record: {every: 1 s}}"),
        (Kill(40.0, away_s=600.0), Short(60.0, 20.0)), cell="NMC811_LYC_PMMA_Li",
    ),
    # The answer that the pause was over had come, the disk had not taken it.
    "a pause that ends on a full disk": Scenario(
        692, "default", (PRESS, CURRENT),
        (Ask(30.0, "pause", 20.0), FullDisk(40.0, 60.0), Kill(55.0, away_s=30.0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_found_once(name: str) -> None:
    assert violations(play(FOUND[name])) == []
