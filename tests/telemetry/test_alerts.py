from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cellbench import clock
from cellbench.store import JournalEntry, Run
from cellbench.telemetry.alerts import Alert, Composer
from cellbench.telemetry.configuration import AlertSettings, Topic

STARTED = datetime(2026, 11, 21, 2, 0, 0, tzinfo=UTC)


@dataclass
class Picture:
    time_s: float = 0.0
    step_number: int | None = None
    steps_planned: int | None = None
    planned_end_s: float | None = None
    latest: dict[str, Any] = field(default_factory=dict)


class Desk:
    """A composer of alerts, and what it had people told."""

    def __init__(self, **settings: Any) -> None:
        run = Run(
            id="2026-11-20-014",
            protocol="Ageing hold",
            cell="A1",
            bench="glovebox 2",
            simulated=False,
            started=STARTED,
        )
        self.composer = Composer(run, AlertSettings(**settings))
        self.alerts: list[Alert] = []
        self._seq = 0

    def enter(self, kind: str, text: str = "", step: str = "", **data: Any) -> None:
        now_s = asyncio.get_running_loop().time()
        entry = JournalEntry(
            seq=self._seq,
            time_s=now_s,
            utc=STARTED + timedelta(seconds=now_s),
            kind=kind,
            step=step,
            text=text,
            data=data,
        )
        self._seq += 1
        self.alerts += self.composer.take(entry)

    def look(self, picture: Picture | None = None, *, last: bool = False) -> None:
        self.alerts += self.composer.look(picture, last=last)

    @property
    def texts(self) -> list[str]:
        return [alert.text for alert in self.alerts]


def on_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    async def run() -> None:
        await test()

    def wrapped() -> None:
        clock.run(run(), virtual=True)

    wrapped.__name__ = test.__name__
    return wrapped


@on_virtual_time
async def test_a_trip_is_one_message_with_cause_limit_action_and_verified_state() -> None:
    desk = Desk()
    desk.enter(
        "trip",
        "stack pressure: 3.9 MPa, below its limit of 4.0 MPa for 30 s",
        step="cycle[17]/charge",
    )
    desk.enter("action", "to the safe state: quiet")
    desk.enter("safe state", "potentiostat: cell off: confirmed 0.00 mA", confirmed=True)
    desk.enter("safe state", "chamber: quiet: unknown, no answer in 15 s", confirmed=False)
    assert desk.alerts == []
    desk.enter(
        "run ended",
        "stopped: stack pressure: 3.9 MPa, below its limit of 4.0 MPa for 30 s",
        state="stopped",
        missing_samples=3,
    )
    (alert,) = desk.alerts
    local = STARTED.astimezone().strftime("%a %H:%M:%S")
    assert alert.text.splitlines() == [
        "cell A1, bench glovebox 2: stopped, SAFE STATE NOT CONFIRMED at "
        f"{local} in cycle[17]/charge.",
        "  stack pressure: 3.9 MPa, below its limit of 4.0 MPa for 30 s.",
        "  potentiostat: cell off: confirmed 0.00 mA",
        "  NOT CONFIRMED: chamber: quiet: unknown, no answer in 15 s",
        "  3 samples are missing.",
        "  look at it: cellbench show 2026-11-20-014",
        "  go on when its cause is gone: cellbench resume 2026-11-20-014",
    ]
    assert alert.urgent
    assert alert.topic is Topic.TRIPS
    assert not desk.composer.waits


@on_virtual_time
async def test_a_safe_state_that_takes_long_is_told_of_before_it_is_known() -> None:
    desk = Desk()
    desk.enter("failure", "press: no answer")
    await asyncio.sleep(29)
    desk.look()
    assert desk.alerts == []
    await asyncio.sleep(2)
    desk.look()
    desk.look()
    assert ["not confirmed yet" in text for text in desk.texts] == [True]
    desk.enter("run ended", "failed: press: no answer", state="failed")
    assert "failed at" in desk.texts[1]
    assert len(desk.alerts) == 2


@on_virtual_time
async def test_a_good_end_is_told_and_is_not_urgent() -> None:
    desk = Desk()
    desk.enter("run ended", "completed: every step has ended", state="completed")
    (alert,) = desk.alerts
    assert not alert.urgent
    assert alert.topic is Topic.ENDS
    assert "resume" not in alert.text


@on_virtual_time
async def test_a_prompt_is_told_of_when_nobody_answers() -> None:
    desk = Desk()
    desk.enter("prompt", "mount the cell")
    desk.enter("answer", "done")
    desk.enter("prompt", "close the door")
    await asyncio.sleep(61)
    desk.look()
    desk.look()
    assert len(desk.alerts) == 1
    assert "close the door" in desk.texts[0]


@on_virtual_time
async def test_what_a_dead_process_left_open_is_told_once() -> None:
    desk = Desk()
    desk.enter("prompt", "mount the cell")
    desk.enter("trip", "voltage: 5.1 V, above its limit of 5 V", step="charge")
    desk.look(last=True)
    desk.look(last=True)
    assert ["not confirmed yet" in text for text in desk.texts] == [True]
    assert not desk.composer.waits
    desk.enter("resumed", "resumed after 2 h")
    desk.enter("run ended", "completed: every step has ended", state="completed")
    assert [alert.topic for alert in desk.alerts] == [Topic.TRIPS, Topic.HOLDS, Topic.ENDS]
    assert "5.1 V" not in desk.texts[2]


@on_virtual_time
async def test_many_of_a_kind_become_one_and_are_counted() -> None:
    desk = Desk()
    for number in range(8):
        desk.enter("trouble", f"no answer {number}", instrument="chamber")
        desk.enter("trouble", f"no answer {number}", instrument="press")
        await asyncio.sleep(60)
        desk.look()
    assert len(desk.alerts) == 2
    await asyncio.sleep(200)
    desk.look()
    assert len(desk.alerts) == 4
    assert "no answer 7" in desk.texts[2]
    assert "and 6 more of this kind before it" in desk.texts[2]
    desk.look(last=True)
    assert len(desk.alerts) == 4
    assert not desk.composer.waits


@on_virtual_time
async def test_what_was_held_back_is_told_at_the_end() -> None:
    desk = Desk()
    desk.enter("held", "paused by anna")
    desk.enter("held", "paused by ben")
    assert desk.composer.waits
    desk.look(last=True)
    assert len(desk.alerts) == 2
    assert "paused by ben" in desk.texts[1]
    assert "more" not in desk.texts[1]


@on_virtual_time
async def test_a_disk_that_fills_and_one_that_is_full_are_two_things() -> None:
    desk = Desk()
    desk.enter("disk", "2 GB left", state="filling")
    desk.enter("disk", "full: the run waits", state="stalled")
    desk.enter("disk", "there is space again", state="recovered")
    assert [alert.urgent for alert in desk.alerts] == [True, True, False]
    assert all(alert.topic is Topic.DISK for alert in desk.alerts)


@on_virtual_time
async def test_nothing_measured_for_long_is_told_of_but_not_while_the_run_waits() -> None:
    desk, picture = Desk(stalled_after_s=900.0), Picture(time_s=5.0)

    async def quiet(seconds: int) -> None:
        for _ in range(seconds // 10):
            await asyncio.sleep(10)
            desk.look(picture)

    await quiet(880)
    picture.time_s = 6.0
    await quiet(880)
    assert desk.alerts == []
    await quiet(100)
    assert len(desk.alerts) == 1
    assert "nothing was measured for 15 min" in desk.texts[0]
    desk.enter("held", "paused by anna")
    await quiet(2000)
    assert len(desk.alerts) == 2
    desk.enter("went on", "anna let it go on")
    await quiet(1000)
    assert len(desk.alerts) == 4


@on_virtual_time
async def test_people_are_told_only_of_what_they_want_to_know() -> None:
    desk = Desk(on=["trips"])
    desk.enter("held", "paused by anna")
    desk.enter("warning", "no reading")
    desk.enter("run ended", "completed: every step has ended", state="completed")
    assert desk.alerts == []
    assert Topic.WARNINGS not in AlertSettings().on


@on_virtual_time
async def test_any_entry_can_ask_to_be_told_of() -> None:
    desk = Desk()
    desk.enter("soft short", "the voltage is irregular", alert="trouble")
    desk.enter("remark", "all is well")
    desk.enter("remark", "no such topic", alert="nothing")
    assert ["irregular" in text for text in desk.texts] == [True]


@pytest.mark.parametrize("simulated", [True, False])
def test_a_simulated_bench_says_so(simulated: bool) -> None:
    async def end() -> str:
        run = Run(id="1", protocol="p", cell="c", bench="b", simulated=simulated, started=STARTED)
        entry = JournalEntry(
            seq=1, time_s=0.0, utc=STARTED, kind="run ended", text="completed: x", data={}
        )
        (alert,) = Composer(run, AlertSettings()).take(entry)
        return alert.title

    assert clock.run(end()).startswith("SIMULATED BENCH") == simulated
