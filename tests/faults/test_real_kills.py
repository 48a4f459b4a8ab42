"""Real processes killed at random moments, and gone on with until their run has completed.

The campaign has ``CELLBENCH_KILLS`` kills on each of two benches (default 10: CI's 20 in all). They
are drawn from seeds that begin at ``CELLBENCH_FIRST_SEED``; what came of them is written to
``CELLBENCH_EVIDENCE``, a directory. The operating system decides what a moment meets: a seed gives
the same kills at the same times, not the same race.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.cli.test_resume import ledger
from tests.faults.processes import (
    PATIENCE_S,
    Entry,
    Kept,
    Lab,
    ServedBench,
    Victim,
    as_left_behind,
    charge_bounds_C,
    check_complete,
    check_sound,
    is_guard,
    kept,
    lab,
    lost,
    wait_for,
)

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

KILLS = int(os.environ.get("CELLBENCH_KILLS", "10"))
FIRST_SEED = int(os.environ.get("CELLBENCH_FIRST_SEED", "0"))
CELL = "NMC811_LYC_PMMA_Li"
#: A run is killed so often at most, and so long after it began or went on.
KILLS_OF_A_RUN = 12
LIFE_S = 4.0
#: How a fate is drawn: a kill of engine, guard or both; one of the guard while it quiets.
VICTIMS: tuple[Victim, ...] = ("engine", "guard", "both")
ODDS = (0.6, 0.15, 0.25)
SOON, GUARD_TOO = 0.2, 0.15

SPECTRUM = "{from: 1 MHz, to: 10 kHz, points: 5 per decade, amplitude: 10 mV}"
ON_A_POTENTIOSTAT = f"""
cellbench: 1
name: Killed at random
cell: {CELL}
steps:
  - press: {{to: 2 MPa, ramp: 5 MPa/s, settle: {{within: 0.3 MPa, for: 2 s}}}}
  - rest: 20 s
  - eis: {SPECTRUM}
  - current: {{at: 0.5 mA/cm2, for: 60 s}}
  - hold: {{at: 3.7 V vs Li+/Li, for: 60 s, every: {{interval: 20 s, do: [eis: {SPECTRUM}]}}}}
  - current: {{at: -0.5 mA/cm2, for: 40 s}}
  - press: release
"""
ON_A_CYCLER = f"""
cellbench: 1
name: Killed at random
cell: {CELL}
steps:
  - rest: {{for: 20 s, when interrupted: quiet}}
  - repeat: 4
    name: cycle
    steps:
      - charge: {{at: C/5, until: potential >= 4.2 V vs Li+/Li, for: 30 s}}
      - rest: 10 s
      - discharge: {{at: C/5, until: potential <= 2.6 V vs Li+/Li, for: 30 s}}
      - rest: 10 s
"""
CYCLER = """
bench: a cycler and a spring
instruments:
  cycler: {driver: neware, port: simulated, channel: 27-21-1-1, steps folder: steps}
fixture: {die: 10 mm, kind: spring, at most: 5 kN}
"""


@dataclass(frozen=True)
class Kind:
    """A bench, and what is run on it.

    Attributes:
        steps: Paths of all steps but those that interrupt others.
        goes_on: Whether what energises the cell continues on the device.
    """

    protocol: str
    steps: list[str]
    speed: float
    goes_on: bool = False
    played: str | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def serve(self, directory: Path, seed: int) -> ServedBench:
        return ServedBench(
            directory, CELL, seed, speed=self.speed, played=self.played, options=self.options
        )


KINDS = {
    "potentiostat": Kind(
        ON_A_POTENTIOSTAT,
        ["press", "rest", "eis", "current", "hold", "current_2", "press_2"],
        speed=4.0,
        # As long as any kill takes: how a press is fed has tests of its own.
        options={"press": {"host timeout": "600 s"}},
    ),
    "cycler": Kind(
        ON_A_CYCLER,
        ["rest", *(f"cycle[{number}]/{step}" for number in range(1, 5)
                   for step in ("charge", "rest", "discharge", "rest_2"))],
        speed=5.0,
        goes_on=True,
        played=CYCLER,
    ),
}  # fmt: skip


@dataclass
class Tally:
    """What came of a campaign."""

    seeds: list[int] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    rows_checked: int = 0
    lost_rows: int = 0
    resumed: int = 0
    tried_again: int = 0
    completed: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    quiet_by_guard_s: list[float] = field(default_factory=list)
    quiet_by_resume_s: list[float] = field(default_factory=list)
    #: How far the physical charge lies outside of what the journal says, and how wide that is.
    outside_C: list[float] = field(default_factory=list)
    width_C: list[float] = field(default_factory=list)

    @property
    def all_kills(self) -> int:
        return sum(self.kills.values())

    def summary(self) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "kills": self.all_kills,
            "kills_by_victim": dict(sorted(self.kills.items())),
            "kills_by_step": dict(sorted(self.steps.items())),
            "rows_checked": self.rows_checked,
            "rows_lost": self.lost_rows,
            "corrupt": 0,
            "resumed": self.resumed,
            "instrument_not_reached": self.tried_again,
            "runs_completed": self.completed,
            "kill_to_open_circuit_by_guard_s": percentiles(self.quiet_by_guard_s),
            "kill_to_open_circuit_by_resume_s": percentiles(self.quiet_by_resume_s),
            "charge_outside_bounds_max_C": max(self.outside_C, default=0.0),
            "charge_bounds_width_max_C": max(self.width_C, default=0.0),
        }


def percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    p50, p95, most = (float(each) for each in np.percentile(values, [50, 95, 100]))
    return {"count": len(values), "p50": round(p50, 2), "p95": round(p95, 2),
            "max": round(most, 2)}  # fmt: skip


class Story:
    """One run, from its beginning through its kills to its end.

    Args:
        kind: Where, and what.
        place: Its bench and store.
        seed: Draws its kills.
        most: How many kills there may be.
        tally: What came of all of them.
    """

    def __init__(self, kind: Kind, place: Lab, seed: int, most: int, tally: Tally) -> None:
        self._kind, self._lab, self._tally = kind, place, tally
        self._random = np.random.default_rng(seed)
        self._most = most
        self._left = most
        self._before: Kept = {}
        #: When it was killed with a current flowing, and no guard was left.
        self._alone_s: list[float] = []
        #: Steps whose current was cut off, or went on unseen.
        self._cut_off: set[str] = set()

    def tell(self) -> None:
        """Kill and go on until the run has completed."""
        place = self._lab
        while True:
            entries = len(place.journal)
            self._tally.resumed += place.begun
            process = place.start()
            while self._left:
                if self._live(self._when()):
                    break
                victim: Victim = self._random.choice(VICTIMS, p=ODDS)
                if self._kill(victim):
                    break
            if not self._left and process.poll() is None:
                process.wait(4 * PATIENCE_S)
            if process.returncode >= 0:
                if process.returncode == 3 and len(place.journal) == entries:
                    # Not taken up: a bench on a busy computer was not reached in (its) time.
                    self._tally.tried_again += 1
                    assert self._tally.tried_again < 20, place.told()
                    continue
                # Killed as it was about to exit: nothing was left to be done.
                was_over = "has completed: there is nothing to go on with" in place.told()
                assert process.returncode == 0 or was_over, place.told()
                return

    def _when(self) -> float:
        """How long until the next kill; often within the first moments of a process."""
        if self._random.random() < SOON:
            return float(self._random.uniform(0.0, 1.5))
        place, count = self._lab, self._lab_entries()
        process = place.process
        assert process is not None
        wait_for(
            lambda: self._lab_entries() > count or process.poll() is not None, "nothing goes on"
        )
        return float(self._random.uniform(0.0, LIFE_S))

    def _lab_entries(self) -> int:
        return sum(each.kind in {"run started", "resumed"} or "ended" in each.kind
                   for each in self._lab.journal)  # fmt: skip

    def _live(self, life_s: float) -> bool:
        """Let the run live so long; returns whether it has come to its end before."""
        process = self._lab.process
        assert process is not None
        deadline_s = time.monotonic() + life_s
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                return True
            time.sleep(0.005)
        return process.poll() is not None

    def _kill(self, victim: Victim) -> bool:
        """Kill; returns whether the engine was among the victims."""
        place = self._lab
        self.remember()
        flowing = place.bench.now.current_A != 0
        guarded = place.guard is not None
        killed_s = time.time()
        if not place.kill(victim):
            victim = "engine"
            place.kill(victim)
        self._left -= 1
        self._tally.kills[victim if guarded else f"{victim}, unguarded"] += 1
        step = self._open_step()
        self._tally.steps[step] += 1
        if victim == "guard":
            return False
        if flowing and "after" not in step and "eis" not in step and not self._goes_on_alone():
            self._cut_off.add(step)
        self.compare()
        self._after(victim, killed_s, flowing=flowing, guarded=guarded)
        return True

    def _after(self, victim: Victim, killed_s: float, *, flowing: bool, guarded: bool) -> None:
        place, bench = self._lab, self._lab.bench
        guard_acts = victim == "engine" and guarded
        if guard_acts and self._left and self._random.random() < GUARD_TOO:
            time.sleep(self._random.uniform(0.0, 1.5))
            guard = place.guard
            if guard is not None:
                os.kill(guard, signal.SIGKILL)
                self._left -= 1
                self._tally.kills["guard, while it quiets"] += 1
            guard_acts = False
        if guard_acts and flowing and not self._goes_on_alone():
            wait_for(lambda: bench.now.current_A == 0, "the guard does not open the cell", 30.0)
            self._tally.quiet_by_guard_s.append(bench.open_after_s(killed_s))
        elif not guard_acts and flowing and not self._goes_on_alone():
            self._alone_s.append(killed_s)
        time.sleep(self._random.choice([0.0, self._random.uniform(0.0, 3.0)]))

    def _goes_on_alone(self) -> bool:
        return any(entry.kind == "step list" for entry in self._lab.journal)

    def _open_step(self) -> str:
        path = "before the first step"
        for entry in self._lab.journal:
            if entry.kind == "step started":
                path = entry.step
            elif entry.kind == "step ended":
                path = f"after {entry.step}" if entry.step == path else path
        return path

    def remember(self) -> None:
        """Read what is on disk, on a connection of its own."""
        file = self._lab.file
        if file is not None:
            self._before = kept(file)
            self._tally.rows_checked += sum(map(len, self._before.values()))

    def compare(self) -> None:
        """See that all of it still is, and is sound."""
        file = self._lab.file
        if file is None or not self._before:
            return
        after = as_left_behind(file, self._lab.store.parent / "left behind")
        self._tally.lost_rows += (missing := lost(self._before, after))
        assert not missing, f"{missing} rows that were there are lost"
        check_sound(self._lab.store / "catalogue.sqlite")

    def check(self) -> None:
        """See that nothing is missing in the end, on disk and against the physics."""
        place = self._lab
        file = place.file
        assert file is not None
        after = kept(file)
        self._tally.lost_rows += (missing := lost(self._before, after))
        assert not missing
        check_sound(file)
        check_sound(place.store / "catalogue.sqlite")
        entries = place.journal
        check_complete(entries, self._kind.steps)
        after_s = [place.bench.open_after_s(killed_s) for killed_s in self._alone_s]
        self._tally.quiet_by_resume_s.extend(after_s)
        low_C, high_C = charge_bounds_C(entries)
        passed_C = place.bench.settle().passed_C
        outside_C = max(low_C - passed_C, passed_C - high_C, 0.0)
        print(f"passed {passed_C:.6f} C, told {low_C:.6f} to {high_C:.6f} C")  # noqa: T201
        self._tally.outside_C.append(outside_C)
        self._tally.width_C.append(high_C - low_C)
        assert outside_C <= 2e-4 + 1e-3 * abs(high_C)
        gaps = {entry.step for entry in entries if entry.kind == "gap"}
        assert gaps >= self._cut_off
        if self._kind.goes_on:
            self._check_undisturbed(file, entries)
        self._tally.completed += 1

    def _check_undisturbed(self, file: Path, entries: list[Entry]) -> None:
        """See that what went on on the device is told as if nothing had happened."""
        with closing(sqlite3.connect(file)) as connection:
            rows = connection.execute(
                "SELECT row, time_s FROM sample WHERE row IS NOT NULL ORDER BY rowid"
            ).fetchall()
        assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
        gaps_s = [b[1] - a[1] for a, b in pairwise(rows)]
        assert min(gaps_s) > -1e-6
        assert max(gaps_s) == pytest.approx(1, abs=0.2)
        assert len([each for each in entries if each.kind == "step list"]) == 1
        ours_C = [abs(each.data["results"]["charge_C"]) for each in entries
                  if each.kind == "step ended" and each.step.startswith("cycle")]  # fmt: skip
        assert ours_C == pytest.approx(ledger(self._lab.bench.description), rel=5e-3, abs=1e-6)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Kind, int, str], Any]:
    """Makes a lab of a kind, with a seed, in a directory of its own."""

    def make(kind: Kind, seed: int, name: str) -> Any:
        directory = tmp_path / name
        directory.mkdir()
        monkeypatch.setenv("CELLBENCH_LOCKS", str(directory / "locks"))
        monkeypatch.setenv("CELLBENCH_STORE", str(directory / "store"))
        return lab(kind.serve(directory, seed), directory, kind.protocol)

    return make


@pytest.mark.slow
@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("name", KINDS)
def test_kills_at_random_moments(name: str, place: Callable[[Kind, int, str], Any]) -> None:
    tally, kind, seed = Tally(), KINDS[name], FIRST_SEED
    while tally.all_kills < KILLS:
        tally.seeds.append(seed)
        with place(kind, seed, f"seed-{seed}") as there:
            story = Story(kind, there, seed, min(KILLS_OF_A_RUN, KILLS - tally.all_kills), tally)
            try:
                story.tell()
                story.check()
            except BaseException as error:
                error.add_note(f"bench {name}, seed {seed}\n{there.told()}")
                keep_failure(there, f"{name}-{seed}")
                raise
        print(f"{name}, seed {seed}: {json.dumps(tally.summary())}", flush=True)  # noqa: T201
        write_evidence(name, tally.summary())
        seed += 1


IN_REAL_TIME = Kind(
    f"""
cellbench: 1
name: Killed in real time
cell: {CELL}
steps:
  - press: {{to: 2 MPa, ramp: 5 MPa/s, settle: {{within: 0.3 MPa, for: 2 s}}}}
  - current: {{at: 0.1 mA/cm2, for: 10 h}}
""",
    ["press", "current"],
    speed=1.0,
)


@pytest.mark.slow
@pytest.mark.timeout(120 + 60 * KILLS)
def test_time_from_kill_to_open_circuit(place: Callable[[Kind, int, str], Any]) -> None:
    """In real time, as all of it is in life; the engine is killed and its guard acts."""
    random, after_s = np.random.default_rng(FIRST_SEED), list[float]()
    with place(IN_REAL_TIME, FIRST_SEED, "real-time") as there:
        story = Story(IN_REAL_TIME, there, FIRST_SEED, 0, Tally())
        for _ in range(min(KILLS, 25)):
            there.start()
            wait_for(lambda: there.bench.now.current_A != 0, "no current")
            time.sleep(random.uniform(0.0, 1.0))
            story.remember()
            killed_s = time.time()
            there.kill("engine")
            wait_for(lambda: there.bench.now.current_A == 0, "current flows on")
            after_s.append(there.bench.open_after_s(killed_s))
            story.compare()
    told = {"kills": len(after_s), "rows_lost": 0, "kill_to_open_circuit_s": percentiles(after_s)}
    print(told)  # noqa: T201
    write_evidence("in_real_time", told)


def keep_failure(place: Lab, name: str) -> None:
    """Keep what is needed to understand a failure, where the evidence goes."""
    directory = os.environ.get("CELLBENCH_EVIDENCE")
    if directory:
        shutil.copytree(place.store.parent, Path(directory) / f"failed-{name}", dirs_exist_ok=True)


def write_evidence(name: str, summary: dict[str, Any]) -> None:
    directory = os.environ.get("CELLBENCH_EVIDENCE")
    if directory:
        Path(directory).mkdir(parents=True, exist_ok=True)
        path = Path(directory) / f"real_kills_{name}.json"
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


# --- Fates that are chosen ----------------------------------------------------------------------

SHORT = Kind(
    f"""
cellbench: 1
name: Killed on purpose
cell: {CELL}
steps:
  - press: {{to: 2 MPa, ramp: 5 MPa/s, settle: {{within: 0.3 MPa, for: 2 s}}}}
  - current: {{at: 0.5 mA/cm2, for: 60 s}}
  - press: release
""",
    ["press", "current", "press_2"],
    speed=4.0,
    options={"press": {"host timeout": "600 s"}},
)


class Chosen(Story):
    """A run whose fate a test chooses; it has begun, and its current flows."""

    def __init__(self, place: Lab) -> None:
        super().__init__(SHORT, place, 0, 0, Tally())
        self.place = place
        self.process = place.start()
        self.flows()

    def flows(self) -> None:
        wait_for(lambda: self.place.bench.now.current_A != 0, "no current")
        time.sleep(1.0)

    def open_within(self, limit_s: float) -> None:
        wait_for(lambda: self.place.bench.now.current_A == 0, "current flows on", limit_s)

    def strike(self, victim: Victim) -> None:
        """Kill, and see that nothing is lost by it."""
        self.remember()
        assert self.place.kill(victim)
        self.compare()

    def go_on(self) -> None:
        """Go on to the end, and see that it is complete."""
        self.tell()
        self.check()


@pytest.fixture
def chosen(place: Callable[[Kind, int, str], Any]) -> Iterator[Chosen]:
    with place(SHORT, 0, "chosen") as there:
        yield Chosen(there)


@pytest.mark.slow
def test_ctrl_c_twice(chosen: Chosen) -> None:
    for _ in range(2):
        chosen.process.send_signal(signal.SIGINT)
    assert chosen.process.wait(PATIENCE_S) == 130
    assert chosen.place.bench.settle().current_A == 0
    chosen.go_on()


@pytest.mark.slow
def test_a_resume_is_ended_politely_and_gone_on_with(chosen: Chosen) -> None:
    chosen.strike("engine")
    for delay_s in (0.3, 1.0, 3.0):
        process = chosen.place.start()
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) in {130, -signal.SIGTERM}, chosen.place.told()
        chosen.open_within(30.0)
    chosen.go_on()


@pytest.mark.slow
def test_a_resume_is_killed_in_its_first_moments(chosen: Chosen) -> None:
    chosen.strike("engine")
    for delay_s in (0.1, 0.4, 0.7, 1.0, 1.4):
        process = chosen.place.start()
        time.sleep(delay_s)
        chosen.remember()
        process.kill()
        process.wait()
        chosen.compare()
    chosen.go_on()


@pytest.mark.slow
def test_a_guard_is_killed_while_it_quiets(chosen: Chosen) -> None:
    chosen.strike("engine")
    wait_for(lambda: chosen.place.guard_says("noticed"), "the guard does nothing", every_s=0.001)
    chosen.strike("guard")
    chosen.go_on()


@pytest.mark.slow
def test_power_is_lost_and_the_instruments_go_on(chosen: Chosen) -> None:
    chosen.strike("both")
    time.sleep(3.0)
    assert chosen.place.bench.now.current_A != 0
    chosen.go_on()
    (gap,) = [each for each in chosen.place.journal if each.kind == "gap"]
    assert gap.step == "current"
    assert gap.data["charge_max_C"] > 3.0 * SHORT.speed * 0.39e-3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_a_kill_while_the_disk_is_full(chosen: Chosen) -> None:
    engine = psutil.Process(chosen.process.pid)
    engine.rlimit(psutil.RLIMIT_FSIZE, (1 << 16, 1 << 30))  # less than its log has by now
    wait_for(lambda: "the run waits at open circuit" in chosen.place.told(), "no trouble")
    chosen.open_within(30.0)
    chosen.strike("engine")
    wait_for(lambda: chosen.place.guard_says("quiet"), "the guard does nothing")
    chosen.go_on()


@pytest.mark.slow
def test_a_guard_that_keeps_the_bench_lets_go_of_it_quickly(chosen: Chosen) -> None:
    chosen.strike("engine")
    wait_for(lambda: chosen.place.guard_says("quiet"), "the guard does nothing")
    guard, asked_s = chosen.place.guard, time.monotonic()
    assert guard is not None  # it feeds the press
    chosen.place.start()
    wait_for(lambda: not is_guard(guard), "the guard does not let go")
    chosen.flows()
    print(f"current flows {time.monotonic() - asked_s:.1f} s after resume")  # noqa: T201
    chosen.place.kill("engine")
    chosen.go_on()
