"""Runs under way, each in its own process, watched and steered from a server in another."""

from __future__ import annotations

import asyncio
import getpass
import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving import served

from cellbench.store import RunReader
from cellbench.web.tails import Audience, event

from .client import Browser, Event
from .processes import Run, server, until

pytestmark = pytest.mark.long

CYCLING = """
cellbench: 1
name: A night of cycles
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - repeat: 500
    name: cycle
    steps:
      - current: {at: 0.1 mA/cm2, for: 30 s, record: {every: 1 s}}
      - rest: 30 s
"""
Begin = Callable[..., Run]
#: Of server-sent events.
KINDS = {"run", "gone", "samples", "journal", "heartbeat"}


@pytest.fixture
def begin(tmp_path: Path, store_directory: Path) -> Iterator[Begin]:
    """Begin runs; none outlives its test."""
    begun: list[Run] = []

    def begin(protocol: str = CYCLING, *options: str) -> Run:
        begun.append(Run(tmp_path, store_directory, protocol, *(options or ("--speed", "60"))))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def told(browser: Browser, action: str, **body: Any) -> str:
    answer = browser.post(f"/api/runs/last/{action}", {"confirm": True} | body)
    assert answer.status == 200, answer.body
    text: str = answer.json()["done"]
    return text


def refused(browser: Browser, action: str, **body: Any) -> str:
    answer = browser.post(f"/api/runs/last/{action}", {"confirm": True} | body)
    assert answer.status == 409, answer.body
    return answer.error


def looked(browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = browser.json("/api/runs/last")
    return found


def test_a_run_is_steered_and_its_journal_says_by_whom(begin: Begin) -> None:
    run = begin()
    run.hears("current 0.1")
    with server() as (process, browser):
        found = looked(browser)
        assert found["run"] == run.id
        assert found["state"] == "running"
        assert set(found["latest"]) >= {"voltage", "current", "stack pressure", "temperature"}
        assert "pause" in found["actions"]

        assert "paused" in told(browser, "pause", reason="topping up\nthe press")
        found = looked(browser)
        assert found["state"] == "held"
        assert "continue" in found["actions"]
        assert "pause" not in found["actions"]
        assert "the pause is over" in told(browser, "continue")
        assert told(browser, "note", text="a click <script>alert(1)</script>") == "noted"
        assert "is under way by now" in refused(browser, "skip", step="cycle[499]/rest")
        told(browser, "skip", step=looked(browser)["step_path"])
        assert "no question is open" not in refused(browser, "answer", prompt="1", text="yes")
        assert "ends after" in told(browser, "stop", after="cycle")
        assert run.end() == 1

        who = f"{getpass.getuser()} at {platform.node()} through the web"
        texts = run.texts("command")
        assert texts[0] == f"paused by {who}: topping up the press"
        assert texts[1] == f"continued by {who}"
        assert texts[2].endswith(f" skipped by {who}")
        assert run.texts("note") == [f"a click <script>alert(1)</script> ({who})"]
        entry = next(entry for entry in run.journal if entry.kind == "command")
        assert entry.data["by"]["via"] == "web"
        assert "pause of run" in process.said
        found = looked(browser)
        assert found["state"] == "interrupted"
        assert found["actions"] == []
        assert "has ended (interrupted)" in refused_with(browser, "pause", 422)


def bench_file(described: dict[str, Any], directory: Path) -> Path:
    """A bench file for a bench that another process serves."""
    bench = described["bench"]
    for name, instrument in bench["instruments"].items():
        instrument["port"] = described["addresses"][name][0]
    file = directory / "bench.yaml"
    file.write_text(json.dumps(bench), encoding="utf-8")
    return file


def refused_with(browser: Browser, action: str, status: int) -> str:
    answer = browser.post(f"/api/runs/last/{action}", {"confirm": True})
    assert answer.status == status, answer.body
    return answer.error


def test_the_emergency_stop_ends_a_run_in_its_safe_state(begin: Begin) -> None:
    run = begin()
    run.hears("current 0.1")
    with server() as (_, browser):
        assert "on the way to the safe state" in told(browser, "emergency", reason="smoke")
        assert run.end() == 130
    (aborted,) = run.texts("aborted")
    assert "emergency stop: smoke" in aborted
    assert "through the web" in aborted
    states = [entry for entry in run.journal if entry.kind == "safe state"]
    assert states
    assert all(entry.data["confirmed"] for entry in states)
    assert {entry.data["target"] for entry in states} == {"released"}


def test_a_question_is_answered_once_and_by_its_id(begin: Begin, tmp_path: Path) -> None:
    asking = """
cellbench: 1
name: Two questions
cell: LYC_PMMA
steps:
  - rest: 1 s
  - prompt: {ask: "Is the glovebox closed?", choices: [yes, no]}
  - rest: 1 s
  - prompt: {ask: "Is the press oiled?", choices: [oiled, dry]}
"""
    with served() as described:
        run = begin(asking, "--bench", str(bench_file(described, tmp_path)))
        with server() as (_, browser):
            until(lambda: looked(browser)["prompt"], "no question")
            found = looked(browser)
            assert found["state"] == "asking"
            assert found["needs"] == "asks: Is the glovebox closed?"
            assert found["prompt"]["choices"] == ["yes", "no"]
            first = found["prompt"]["id"]
            assert '"perhaps" is not an answer' in refused(
                browser, "answer", prompt=first, text="perhaps"
            )
            assert "is not open any more" in refused(browser, "answer", prompt="0", text="yes")
            assert 'answered "yes"' in told(browser, "answer", prompt=first, text="yes")
            until(lambda: (looked(browser)["prompt"] or {}).get("id") not in {None, first})
            assert "is not open any more" in refused(browser, "answer", prompt=first, text="yes")
            second = looked(browser)["prompt"]["id"]
            told(browser, "answer", prompt=second, text="oiled")
            assert run.end() == 0
        assert run.texts("answer") == ["yes", "oiled"]


def test_a_killed_server_is_noticed_by_no_run(begin: Begin) -> None:
    run = begin()
    run.hears("current 0.1")
    with server() as (process, browser), browser.events("/api/runs/last/events") as events:
        assert next(events).name == "run"
        process.process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.process.wait()
        began = len(run.journal)
        until(lambda: len(run.journal) > began + 20)
    with server() as (_, browser):
        assert looked(browser)["state"] == "running"
        told(browser, "abort")
        run.end()
    journal = run.journal
    kinds = {entry.kind for entry in journal}
    assert "warning" not in kinds
    assert "deviation" not in kinds
    # It may have died in the middle of asking, which is entered, and nothing else.
    assert all("the request is " in text for text in run.texts("command channel"))
    assert [entry.seq for entry in journal] == list(range(len(journal)))


def test_a_server_ends_at_once_though_somebody_watches(begin: Begin) -> None:
    begin()
    with server() as (process, browser), browser.events("/api/runs/last/events") as events:
        next(events)
        process.process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
        assert process.process.wait(60) is not None
        assert "Traceback" not in process.said


def rows(events: list[Event]) -> list[float]:
    """Times of the channel's rows that some events tell of."""
    return [
        time_s
        for event in events
        if event.name == "samples"
        for source in event.data["sources"]
        if source["source"] == "potentiostat"
        for time_s, value in zip(
            source["columns"]["time_s"], source["columns"]["voltage_V"], strict=True
        )
        if value is not None
    ]


def test_who_comes_back_is_told_what_was_missed_and_nothing_twice(begin: Begin) -> None:
    run = begin()
    run.hears("current 0.1")
    with server() as (_, browser):
        curves = browser.json("/api/runs/last/traces?points=20000")
        heard: list[Event] = []
        path = f"/api/runs/last/events?after={curves['cursor']}"
        last: dict[str, str] = {}
        for _ in range(3):  # connections, with a break of some seconds between them
            with browser.events(path, **last) as events:
                for event in events:
                    heard.append(event)
                    if len([each for each in heard if each.id]) % 6 == 0 and event.id:
                        break
            ids = [event.id for event in heard if event.id]
            last = {"Last-Event-ID": ids[-1]}
            time.sleep(2)
        told(browser, "abort")
        run.end()
        until(lambda: looked(browser)["state"] == "interrupted")
    samples = RunReader(run.path).samples("potentiostat")
    before = next(each for each in curves["sources"] if each["source"] == "potentiostat")
    seen = [time_s for time_s, value in zip(before["columns"]["time_s"],
            before["columns"]["voltage_V"], strict=True) if value is not None]  # fmt: skip
    seen += rows(heard)
    np.testing.assert_allclose(seen, samples["time_s"][: len(seen)], atol=1e-5)
    numbers = [entry["number"] for event in heard if event.name == "journal"
               for entry in event.data["entries"]]  # fmt: skip
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[0] == int(curves["cursor"].partition("-")[2]) + 1


def test_all_runs_are_seen_at_a_glance_until_the_session_ends(begin: Begin) -> None:
    run = begin()
    with server() as (_, browser), browser.events("/api/events") as events:
        event = next(event for event in events if event.name == "run")
        assert event.data["run"] == run.id
        assert event.data["state"] == "running"
        later = next(event for event in events if event.name == "run")
        assert later.data["time_s"] > event.data["time_s"]
        with browser.events("/api/runs/last/events") as of_the_run:
            assert next(of_the_run).data["run"] == run.id
            assert browser.send("DELETE", "/api/session", None, {}).status == 200
            # Both streams come to their ends.
            assert [event.name for event in events if event.name not in KINDS] == []
            assert [event.name for event in of_the_run if event.name not in KINDS] == []


def test_many_are_told_of_at_once_and_who_does_not_keep_up_is_sent_away() -> None:
    async def main() -> None:
        audience = Audience()
        with audience.joined() as slow, audience.joined() as quick:
            audience.tell(event("run", {"run": str(number)}) for number in range(1000))
            bundle = await quick.get()
            assert bundle is not None
            assert bundle.count(b"event: run") == 1000
            for _ in range(200):
                audience.tell([event("gone", {})])
                await quick.get()
            heard = [slow.get_nowait() for _ in range(slow.qsize())]
            assert heard[-1] is None
            assert len(heard) < 150
            assert len(audience) == 1

    asyncio.run(main())
