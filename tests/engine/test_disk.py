"""A run whose disk is full waits and goes on; one that fills is warned of, and thinned openly."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.engine.conftest import Runner

from cellbench import clock
from cellbench.bench import Bench
from cellbench.engine.disk import HOLD, DiskRules, DiskWatch, StalledStore, told_of_space
from cellbench.engine.recorder import Recorder, Thinning
from cellbench.engine.run import Conductor
from cellbench.engine.status import Status
from cellbench.engine.steering import Steering
from cellbench.errors import InstrumentTimeout, StoreError
from cellbench.instruments.readings import GaugeReading
from cellbench.store import JournalEntry
from cellbench_sim.bench import SimulatedBench

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX stand for a disk")

CURRENT = """
cellbench: 1
name: A current and a rest
cell: LYC_PMMA
steps:
  - press: {to: 5 MPa, ramp: 1 MPa/s, settle: {within: 0.2 MPa, for: 5 s}}
  - current: {at: 0.05 mA/cm2, for: 2 h}
  - rest: {for: 10 min}
"""

Disturb = Callable[[SimulatedBench, Bench, Conductor], Awaitable[None]]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can become longer than it is."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def make_space(conductor: Conductor) -> None:
    """End a full disk as soon as the run is closing its file."""
    import resource

    while conductor.writer._patient_until_s is None:
        time.sleep(0.05)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


async def until(what: Callable[[], bool]) -> None:
    """Wait in virtual time."""
    while not what():
        await asyncio.sleep(10.0)


async def until_held(conductor: Conductor) -> None:
    """Wait for the writer to find out, which it does in real time."""
    conductor._recorder.enter_step("something to write", "rest")
    await asyncio.to_thread(time.sleep, 1.0)
    await until(lambda: HOLD in conductor.steering.holds)


def disk_entries(journal: list[JournalEntry]) -> list[str]:
    return [entry.data["state"] for entry in journal if entry.kind == "disk"]


@posix_only
def test_a_full_disk_holds_the_run_and_lets_it_go_when_there_is_space(run: Runner) -> None:
    seen: list[str] = []

    async def disturb(_: SimulatedBench, _bench: Bench, conductor: Conductor) -> None:
        await asyncio.sleep(1800.0)
        with full_disk():
            await until_held(conductor)
            seen.append(conductor.steering.holds[HOLD])
            seen.extend(text for _, text in conductor.status.messages)
            await asyncio.to_thread(time.sleep, 2.0)
        await until(lambda: not conductor.steering.holds)

    ran = run(CURRENT, disturb=disturb)
    assert ran.end.exit_code == 0, ran.end.reason
    assert "the run waits at open circuit" in seen[0]
    assert seen[0] in seen[1:]
    assert disk_entries(list(ran.reader.journal)) == ["stalled", "recovered"]
    assert {"held", "went on"} <= set(ran.kinds())
    assert [entry.seq for entry in ran.reader.journal] == list(range(len(ran.reader.journal)))
    times = ran.reader.samples("potentiostat")["time_s"]
    assert len(set(times.tolist())) == times.size


@posix_only
@pytest.mark.long
def test_a_run_on_a_full_disk_can_be_ended_and_reaches_its_safe_state(run: Runner) -> None:
    started: list[float] = []

    async def disturb(_: SimulatedBench, _bench: Bench, conductor: Conductor) -> None:
        await asyncio.sleep(1800.0)
        with full_disk():
            await until_held(conductor)
            started.append(time.monotonic())
            walk = next(task for task in asyncio.all_tasks() if task.get_name() == "walk")
            walk.cancel()
            # Until the run has ended: what waited is lost, and said to be.
            await until(lambda: any("lost are" in text for _, text in conductor.status.messages))

    ran = run(CURRENT, disturb=disturb)
    assert ran.end.exit_code == 130
    assert ran.end.safe
    assert time.monotonic() - started[0] < 30.0
    assert "run ended" not in ran.kinds()


@posix_only
def test_a_full_memory_ends_the_run_and_says_how_many_rows_are_lost(run: Runner) -> None:
    async def disturb(_: SimulatedBench, bench: Bench, conductor: Conductor) -> None:
        await asyncio.sleep(1800.0)
        conductor.writer.rows_kept = 40
        with full_disk():
            # A thread: simulated time stands still while the run closes its file.
            threading.Thread(target=make_space, args=(conductor,)).start()
            await until_held(conductor)
            # More than the run itself makes while it waits.
            while conductor.writer.rows_lost == 0:
                conductor._recorder.slow("gauge", conductor.journal.now_s, 1.0, None, 0)
                conductor._recorder.enter_step("again", "rest")
                await asyncio.sleep(0.5)
            await asyncio.sleep(60.0)

    ran = run(CURRENT, disturb=disturb)
    assert ran.end.exit_code == 1
    assert ran.end.safe
    assert "rows are lost" in ran.end.reason
    thinned = [
        entry.data["to"] for entry in ran.reader.journal if entry.kind == "recording thinned"
    ]
    assert thinned in ([], ["edges of steps", "all rows"])  # so little memory may fill at once
    assert ran.reader.journal[-1].kind == "run ended"


def filling(
    free_B: Callable[[float], float], conductors: list[Conductor], every_s: float = 60.0
) -> Disturb:
    """A disk whose free space is told by the run's time."""

    async def disturb(_: SimulatedBench, _bench: Bench, conductor: Conductor) -> None:
        conductors.append(conductor)
        disk = conductor._disk
        disk._free = lambda _: free_B(conductor.journal.now_s)
        while True:
            await asyncio.sleep(every_s)
            disk.look()

    return disturb


def test_a_disk_that_will_not_last_is_said_early_with_what_the_plan_needs(run: Runner) -> None:
    def free_B(time_s: float) -> float:
        return 20e9 - 5e6 * time_s  # full after 4000 s

    ran = run(CURRENT, disturb=filling(free_B, []))
    entry = next(entry for entry in ran.reader.journal if entry.kind == "disk")
    assert entry.time_s < 1200.0
    assert entry.data["rate_B_per_s"] == pytest.approx(5e6, rel=0.2)
    assert "GB left on" in entry.text
    assert "at this rate" in entry.text


@pytest.mark.long
def test_a_recording_is_thinned_openly_and_goes_back_when_there_is_space(run: Runner) -> None:
    def free_B(time_s: float) -> float:
        if 2000.0 <= time_s < 4000.0:
            return 100e6
        return 20e6 if 4000.0 <= time_s < 6000.0 else 50e9

    whole, thinned = run(CURRENT), run(CURRENT, disturb=filling(free_B, []))
    assert thinned.end.exit_code == 0
    changes = [entry for entry in thinned.reader.journal if entry.kind == "recording thinned"]
    assert [(each.data["from"], each.data["to"]) for each in changes] == [
        ("all rows", "every tenth row"),
        ("every tenth row", "edges of steps"),
        ("edges of steps", "all rows"),
    ]
    assert all("left on" in each.text for each in changes)
    before, after = (each.reader.samples("potentiostat") for each in (whole, thinned))

    def between(columns: dict[str, np.ndarray], first_s: float, last_s: float) -> int:
        return int(np.count_nonzero((columns["time_s"] >= first_s) & (columns["time_s"] < last_s)))

    assert between(after, 200, 1900) == between(before, 200, 1900)
    assert between(after, 2100, 3900) == pytest.approx(between(before, 2100, 3900) / 10, abs=1)
    assert between(after, 4100, 5900) == 0
    assert between(after, 6100, 7000) == between(before, 6100, 7000)
    gauge = thinned.reader.samples("gauge")
    assert between(gauge, 4100, 5900) == 0
    # What is measured is the same: judged was every row, and the charge counts every row.
    assert after["charge_C"][-1] == before["charge_C"][-1]
    assert after["time_s"][-1] == before["time_s"][-1]


def test_the_rules_have_a_gap_between_doing_and_undoing() -> None:
    rules = DiskRules()
    assert rules.thinning(199e6, Thinning.NONE) is Thinning.TENTH
    assert rules.thinning(250e6, Thinning.TENTH) is Thinning.TENTH
    assert rules.thinning(250e6, Thinning.NONE) is Thinning.NONE
    assert rules.thinning(49e6, Thinning.TENTH) is Thinning.EDGES
    assert rules.thinning(60e6, Thinning.EDGES) is Thinning.EDGES
    assert rules.thinning(400e6, Thinning.EDGES) is Thinning.NONE


def test_space_is_told_in_words(tmp_path: Path) -> None:
    assert told_of_space(2.1e9, tmp_path / "x") == f"2.1 GB left on {tmp_path}"
    assert told_of_space(0, tmp_path / "x") == f"0 bytes left on {tmp_path}"


def test_rows_that_wait_in_memory_become_fewer_before_they_are_too_many() -> None:
    async def main() -> list[tuple[Thinning, bool]]:
        writer = SimpleNamespace(
            path=Path("/data/run.sqlite"), stall=None, stall_listeners=[], rows_lost=0,
            rows_waiting=0, rows_kept=100,
        )  # fmt: skip
        entries: list[str] = []
        journal = SimpleNamespace(now_s=0.0, enter_soon=lambda kind, **_: entries.append(kind))
        recorder = Recorder(writer, journal, Status())  # type: ignore[arg-type]
        steering = Steering()
        store = StalledStore(writer, steering, recorder, lambda _: 0.0)  # type: ignore[arg-type]
        watch = asyncio.create_task(store.watch())
        seen = []
        (tell,) = writer.stall_listeners
        tell("database or disk is full")
        for writer.rows_waiting in (10, 50, 75):
            await asyncio.sleep(2.0)
            seen.append((recorder.thinning, HOLD in steering.holds))
        tell(None)
        await asyncio.sleep(2.0)
        seen.append((recorder.thinning, HOLD in steering.holds))
        tell("database or disk is full")
        writer.rows_lost = 3
        with pytest.raises(StoreError, match="3 rows are lost so far"):
            await watch
        return seen

    assert clock.run(main(), virtual=True) == [
        (Thinning.NONE, True),
        (Thinning.TENTH, True),
        (Thinning.EDGES, True),
        (Thinning.NONE, False),
    ]


def test_a_warning_says_how_long_the_disk_lasts_and_the_plan_needs(tmp_path: Path) -> None:
    entries: list[tuple[str, dict[str, object]]] = []
    journal = SimpleNamespace(
        now_s=0.0, enter_soon=lambda _, text, **data: entries.append((text, data))
    )
    status = Status(planned_end_s=32 * 3600.0)
    space = SimpleNamespace(free_B=0.0)
    recorder = Recorder(SimpleNamespace(), journal, status)  # type: ignore[arg-type]
    watch = DiskWatch(
        tmp_path / "run.sqlite",
        journal,  # type: ignore[arg-type]
        recorder,
        status,
        free=lambda _: space.free_B,
    )

    def look_until(last_s: float, first_B: float, rate_B_per_s: float) -> None:
        began_s = journal.now_s
        while journal.now_s < last_s:
            space.free_B = first_B - rate_B_per_s * (journal.now_s - began_s)
            watch.look()
            journal.now_s += 60.0

    rate = 2.1e9 / (9 * 3600.0)
    look_until(3600.0, 2.1e9 + rate * 3540.0, rate)
    ((text, data),) = entries  # it is said once
    assert f"GB left on {tmp_path}, at this rate 9." in text
    assert text.endswith("; the plan needs 31.75 h")
    assert data["state"] == "filling"
    look_until(3 * 3600.0, 500e9, 0.0)
    assert [each["state"] for _, each in entries] == ["filling", "enough"]
    space.free_B = 0.9e9  # somebody else has filled it, in no time
    watch.look()
    assert [each["state"] for _, each in entries] == ["filling", "enough", "filling"]
    assert watch.rate_B_per_s is not None


@posix_only
def test_the_watch_of_the_limits_goes_on_while_the_disk_is_full(run: Runner) -> None:
    reads: list[float] = []

    async def disturb(_: SimulatedBench, bench: Bench, conductor: Conductor) -> None:
        gauge = bench.gauge
        assert gauge is not None
        read = gauge.read

        async def missed_once() -> GaugeReading:
            if HOLD in conductor.steering.holds:
                reads.append(conductor.journal.now_s)
                if len(reads) == 2:
                    raise InstrumentTimeout(gauge.name, "no answer")
            return await read()

        gauge.read = missed_once  # type: ignore[method-assign]
        await asyncio.sleep(1800.0)
        with full_disk():
            await until_held(conductor)
            await asyncio.sleep(200.0)

    ran = run(CURRENT, disturb=disturb)
    assert ran.end.exit_code == 0
    assert len(reads) > 10
    (missed,) = (entry for entry in ran.reader.journal if "no reading" in entry.text)
    assert missed.time_s - 1800.0 < 60.0
