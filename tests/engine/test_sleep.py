"""A computer that sleeps, and clocks that are set: said, and no timing follows them."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from datetime import datetime, tzinfo
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from tests.engine.conftest import Runner

import cellbench
import cellbench_drivers
from cellbench.engine.recorder import ChannelRecording, Recorder
from cellbench.engine.sleep import SleepWatch
from cellbench.engine.status import Status
from cellbench.instruments.readings import Flag
from cellbench.protocol.program import Recording
from cellbench.store import SampleRow

SHORT = """
cellbench: 1
name: Short
cell: LYC_PMMA
steps:
  - rest: {for: 2 min}
  - current: {at: 0.05 mA/cm2, for: 10 min}
"""


class Journal:
    """Keeps what is entered."""

    now_s = 100.0

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []

    def enter_soon(self, kind: str, *, text: str = "", **data: Any) -> None:
        self.entries.append((kind, text, data))


class Clocks:
    """Clocks that a test sets."""

    def __init__(self) -> None:
        self.utc, self.passed, self.awake = 1.8e9, 5000.0, 4000.0

    def utc_s(self) -> float:
        return self.utc

    def passed_s(self) -> float:
        return self.passed

    def awake_s(self) -> float:
        return self.awake

    def go_on(self, seconds: float, *, asleep_s: float = 0.0, set_by_s: float = 0.0) -> None:
        self.awake += seconds
        self.passed += seconds + asleep_s
        self.utc += seconds + asleep_s + set_by_s


@pytest.fixture
def watched() -> tuple[SleepWatch, Clocks, Journal]:
    clocks, journal = Clocks(), Journal()
    return SleepWatch(journal, Status(), clocks), clocks, journal  # type: ignore[arg-type]


def test_a_sleep_is_told_by_the_clock_that_stood_still(
    watched: tuple[SleepWatch, Clocks, Journal],
) -> None:
    watch, clocks, journal = watched
    clocks.go_on(1.0)
    watch.look()
    clocks.go_on(1.0, asleep_s=41 * 60)
    watch.look()
    clocks.go_on(1.0)
    watch.look()
    ((kind, text, data),) = journal.entries
    assert kind == "computer slept"
    assert text == "the computer slept for 41 min"
    assert data["slept_s"] == pytest.approx(2460.0)


@pytest.mark.parametrize("by_s", [3600.0, -12.0])
def test_a_clock_that_is_set_is_told_from_a_sleep(
    watched: tuple[SleepWatch, Clocks, Journal], by_s: float
) -> None:
    watch, clocks, journal = watched
    clocks.go_on(1.0, set_by_s=by_s)
    watch.look()
    clocks.go_on(30.0)
    watch.look()
    ((kind, text, data),) = journal.entries
    assert kind == "clock set"
    assert f"set by {by_s:+.0f} s" in text
    assert data["by_s"] == pytest.approx(by_s)


def test_a_clock_that_is_slewed_and_a_busy_computer_are_not_spoken_of(
    watched: tuple[SleepWatch, Clocks, Journal],
) -> None:
    watch, clocks, journal = watched
    for _ in range(3600):
        clocks.go_on(1.0, set_by_s=5e-4)  # the most that NTP slews
        watch.look()
    clocks.go_on(50.0)  # something else had the processor
    watch.look()
    assert not journal.entries


def test_a_gap_in_the_rows_is_flagged_and_its_charge_is_an_interval() -> None:
    kept: list[SampleRow] = []
    journal = Journal()
    writer = SimpleNamespace(add_sample=kept.append)
    recorder = Recorder(writer, journal, Status())  # type: ignore[arg-type]
    rows = ChannelRecording(recorder, "potentiostat", 1.0, Recording())
    for time_s in (0.0, 1.0, 2.0, 2462.0, 2463.0):
        rows.take(time_s, 0.1, 1e-3, 0)
    assert [bool(row[8] & Flag.MISSING) for row in kept] == [False, False, False, True, False]
    assert recorder.missing == 2459
    ((kind, text, data),) = journal.entries
    assert kind == "gap"
    assert "not seen for 41 min" in text
    assert (data["from_s"], data["to_s"]) == (2.0, 2462.0)
    assert (data["charge_min_C"], data["charge_max_C"]) == (0.0, pytest.approx(2.46))
    assert rows.charge_C == pytest.approx(2.463)


# --- No timing follows the date -------------------------------------------------------------------

#: Who asks for the date, and what for; nothing of it times a step or a sample.
MAY_ASK_FOR_THE_DATE = {
    "campaign/planning.py": "the beginning of a run that is only planned",
    "engine/commissioning/console.py": "printed beside what a person types",
    "engine/guard/ledger.py": "when the guard did something, for people",
    "engine/lost.py": "how long ago a run lost its host: no clock of this process was there",
    "engine/resume.py": "how long a run had no host: no clock of this process was there",
    "engine/overview.py": "how long ago a run ended, for people",
    "engine/session.py": "date that an instrument is told",
    "engine/taking.py": "how old a run is that was lost",
    "laboratory/follower.py": "which runs have ended a moment ago",
    "laboratory/queue.py": "whether a job's deadline has passed",
    "store/backup.py": "when a backup was made, by the calendar",
    "store/catalogue.py": "when a run began and ended, by the calendar",
    "store/compact.py": "when a run was compacted, by the calendar",
    "store/retain.py": "how old a run is",
    "engine/trouble.py": "until when an instrument is waited for, for people",
    "system.py": "to tell that it was set",
    "transport/ownership.py": "since when an instrument is in use, for people",
}
_DATES = {"now", "today", "utcnow", "time", "time_ns", "localtime", "gmtime", "fromtimestamp"}


def asking(package: Path) -> Iterator[str]:
    """Files that ask for the date, anywhere in them."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in _DATES
                and isinstance(node.value, ast.Name)
                and node.value.id in {"datetime", "date", "time"}
            ):
                yield path.relative_to(package).as_posix()


@pytest.mark.long
def test_nobody_else_asks_for_the_date() -> None:
    (package,) = cellbench.__path__
    # What shows a run, and what stands beside its loop, times nothing of it.
    beside = ("cli/", "exchange/", "telemetry/", "web/")
    inside = {each for each in asking(Path(package)) if not each.startswith(beside)}
    assert inside <= set(MAY_ASK_FOR_THE_DATE)
    (drivers,) = cellbench_drivers.__path__
    assert not set(asking(Path(drivers)))


def test_a_date_that_jumps_about_changes_nothing_of_a_run(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = run(SHORT)
    jumps = count()

    def jumping() -> float:
        """Each look finds the clock set anew: by NTP, by a person, twice a year by an hour."""
        return 1.9e9 + (next(jumps) * 3600.0 * 7919) % 1e6 - 5e5

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(jumping(), tz)

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr("cellbench.store.catalogue.datetime", Jumping)
    monkeypatch.setattr("cellbench.engine.session.datetime", Jumping)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    set_one = run(SHORT)
    assert next(jumps) > 1

    def told(ran: Any) -> list[tuple[float, str, str]]:
        return [(entry.time_s, entry.kind, entry.step) for entry in ran.reader.journal]

    assert told(set_one) == told(steady)
    for name in ("time_s", "voltage_V", "charge_C"):
        before = steady.reader.samples("potentiostat")[name]
        assert set_one.reader.samples("potentiostat")[name].tolist() == before.tolist()
    entries = set_one.reader.journal
    for entry in entries:  # its date follows from the run's beginning by the loop's clock
        since_s = (entry.utc - entries[0].utc).total_seconds()
        assert since_s == pytest.approx(entry.time_s - entries[0].time_s, abs=1e-5)
