"""Real processes for the campaign of kills: a bench that outlives its hosts, a run, its guard.

The bench is served by a process of its own, as ``cellbench sim serve`` does, and an onlooker there
tells what physically happens. Engine and guard are killed (SIGKILL) at moments that a seed draws;
what was on disk right before is compared with what is there afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

PATIENCE_S = 90.0
SEEN_BENCH = Path(__file__).parent.parent / "cli" / "seen_bench.py"
TABLES = ("sample", "spectrum", "journalentry", "step", "document")

Victim = Literal["engine", "guard", "both"]


def wait_for(
    happened: Callable[[], object], what: str, patience_s: float = PATIENCE_S, every_s: float = 0.02
) -> None:
    deadline_s = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < deadline_s, what
        time.sleep(every_s)


# --- The bench ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One look at the physics: wall clock, current, force, and the charge that has passed."""

    utc_s: float
    current_A: float
    force_N: float
    passed_C: float


class ServedBench:
    """A bench in another process, and what an onlooker sees of it.

    Args:
        directory: Where its bench file is made.
        cell: The simulated cell.
        seed: Of everything random on it.
        speed: Simulated seconds per second.
        played: The bench file that it plays, None for the usual bench.
        options: For its bench file, by instrument.
    """

    def __init__(
        self,
        directory: Path,
        cell: str,
        seed: int,
        *,
        speed: float = 1.0,
        played: str | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.speed = speed
        self.rows: list[Seen] = []
        arguments = [cell, str(seed), "--speed", str(speed)]
        if played is not None:
            (directory / "played.yaml").write_text(played, encoding="utf-8")
            arguments += ["--bench", str(directory / "played.yaml")]
        with (directory / "bench.log").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(SEEN_BENCH), *arguments],
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        self.description: dict[str, Any] = json.loads(self._process.stdout.readline())
        for name, given in (options or {}).items():
            self.description["instruments"][name] |= given
        self.file = directory / "bench.yaml"
        self.write()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        wait_for(lambda: self.rows, "nobody looks")

    def write(self) -> None:
        """Write the bench file, as its description is now."""
        self.file.write_text(json.dumps(self.description), encoding="utf-8")

    def _look(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.rows.append(Seen(*json.loads(line)))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def now(self) -> Seen:
        return self.rows[-1]

    def settle(self) -> Seen:
        """What is seen from now on, not before."""
        asked_s = time.time()
        wait_for(lambda: self.now.utc_s > asked_s, "nobody looks")
        return self.now

    def open_after_s(self, since_s: float) -> float:
        """How long after a moment no current flowed for the first time."""
        off = (row.utc_s for row in self.rows if row.utc_s >= since_s and row.current_A == 0)
        return next(off) - since_s


# --- What is on disk ----------------------------------------------------------------------------

Kept = Mapping[str, list[tuple[Any, ...]]]


def kept(file: Path) -> Kept:
    """All rows of a run's file, by table, in order of arrival; read on a connection of its own."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        for table in TABLES:
            try:
                rows = connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid")  # noqa: S608 (our names)
            except sqlite3.OperationalError:
                continue  # the file is being made
            found[table] = rows.fetchall()
    return found


def lost(before: Kept, after: Kept) -> int:
    """How many rows that were there are not, or are others."""
    return sum(len(set(rows) - set(after.get(table, ()))) for table, rows in before.items())


def as_left_behind(file: Path, scratch: Path) -> Kept:
    """Check a run's file as a process that was killed has left it; its own files are not touched.

    Raises:
        AssertionError: It is corrupt, or its journal has a gap.
    """
    scratch.mkdir(exist_ok=True)
    for each in scratch.iterdir():
        each.unlink()
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            (scratch / f"{file.name}{ending}").write_bytes(Path(f"{file}{ending}").read_bytes())
    copy = scratch / file.name
    check_sound(copy)
    return kept(copy)


def check_sound(file: Path) -> None:
    """See that a database is not corrupt, and a run's journal without gaps."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], file
        with suppress(sqlite3.OperationalError):  # no journal yet, or the catalogue
            numbers = [n for (n,) in connection.execute("SELECT seq FROM journalentry")]
            assert sorted(numbers) == list(range(len(numbers))), f"gaps in the journal of {file}"


@dataclass(frozen=True)
class Entry:
    """One entry of a journal."""

    seq: int
    time_s: float
    kind: str
    step: str
    text: str
    data: Mapping[str, Any]


def journal(file: Path) -> list[Entry]:
    """The journal, as far as there is any yet."""
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        try:
            rows = connection.execute(
                "SELECT seq, time_s, kind, step, text, data FROM journalentry ORDER BY seq"
            ).fetchall()
        except sqlite3.OperationalError:
            return []
    return [
        Entry(seq, time_s, kind, step, text, json.loads(data))
        for seq, time_s, kind, step, text, data in rows
    ]


# --- Run, resume, guard -------------------------------------------------------------------------


@dataclass
class Lab:
    """A bench, a store, and the processes that come and go on them.

    Attributes:
        log: File to which all of them write.
        guards: Process ids of all guards that there were.
    """

    bench: ServedBench
    store: Path
    protocol: Path
    log: Path
    limits: Callable[[], None] | None = None
    process: subprocess.Popen[bytes] | None = None
    guards: set[int] = field(default_factory=set)

    @property
    def file(self) -> Path | None:
        """The newest run's file, None while there is none."""
        found = sorted((self.store / "runs").glob("*.sqlite"))
        return found[-1] if found else None

    @property
    def begun(self) -> bool:
        """Whether there is a run to be gone on with."""
        return self.file is not None and bool(journal(self.file))

    @property
    def journal(self) -> list[Entry]:
        return [] if self.file is None else journal(self.file)

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Begin the run, or go on with it."""
        command = (
            ["resume", "last", *more]
            if self.begun
            else ["run", str(self.protocol), "--bench", str(self.bench.file)]
        )
        with self.log.open("ab") as log:
            log.write(f"--- {time.time():.2f} {' '.join(command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cellbench", *command],
                stdout=log, stderr=log, start_new_session=True, preexec_fn=self.limits,  # noqa: PLW1509 (no threads that hold locks)
            )  # fmt: skip
        return self.process

    @property
    def guard(self) -> int | None:
        """Process id of the guard that watches or acts, None if none does."""
        path = None if self.file is None else self.file.with_suffix(".guard.jsonl")
        if path is None or not path.exists():
            return None
        found = None
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                told = json.loads(line)
                if told["kind"] == "watching":
                    found = int(told["pid"])
        if found is None or not is_guard(found):
            return None
        self.guards.add(found)
        return found

    def guard_says(self, kind: str) -> int:
        """How many lines of a kind are in the guard's ledger."""
        path = None if self.file is None else self.file.with_suffix(".guard.jsonl")
        if path is None or not path.exists():
            return 0
        return path.read_text(encoding="utf-8").count(f'"kind": "{kind}"')

    def kill(self, victim: Victim) -> bool:
        """Kill engine, guard or both at once; returns whether all that was meant was there."""
        guard, process = self.guard, self.process
        assert process is not None
        wanted = [process.pid] if victim != "guard" else []
        if victim != "engine":
            if guard is None:
                return False
            wanted.append(guard)
        for pid in wanted:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if victim != "guard":
            process.wait(PATIENCE_S)
        return True

    def told(self) -> str:
        """The end of what the processes wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-6000:]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.guard is not None:
            self.guards.add(self.guard)
        for pid in self.guards:
            if is_guard(pid):
                os.kill(pid, signal.SIGKILL)
        self.bench.close()


def is_guard(pid: int) -> bool:
    """Whether a process is a guard, alive."""
    try:
        process = psutil.Process(pid)
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and "cellbench.engine.guard" in process.cmdline()
        )
    except psutil.Error:
        return False


@contextmanager
def lab(bench: ServedBench, directory: Path, protocol: str) -> Iterator[Lab]:
    """A lab in a directory; store and locks are where the environment says."""
    path = directory / "protocol.yaml"
    path.write_text(protocol, encoding="utf-8")
    made = Lab(bench, Path(os.environ["CELLBENCH_STORE"]), path, directory / "processes.log")
    try:
        yield made
    finally:
        made.close()


# --- What must be true in the end ---------------------------------------------------------------


def endings(entries: list[Entry]) -> dict[str, list[str]]:
    """How each step ended, as often as it did."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.kind == "step ended":
            found.setdefault(entry.step, []).append(entry.data["ending"])
    return found


def check_complete(entries: list[Entry], steps: list[str]) -> None:
    """See that each planned step has one terminal entry, and the run an end that it foresees."""
    assert [e.data["state"] for e in entries if e.kind == "run ended"][-1:] == ["completed"]
    ended = endings(entries)
    order = [path for path in ended if "/every[" not in path]
    assert order == steps
    for path, found in ended.items():
        assert found[-1] != "interrupted", path
        assert found[:-1] == ["interrupted"] * (len(found) - 1), (path, found)


def charge_bounds_C(entries: list[Entry]) -> tuple[float, float]:
    """What the journal says has passed: counted, with its gaps between their bounds."""
    low = high = sum(e.data["results"].get("charge_C", 0.0)
                     for e in entries if e.kind == "step ended")  # fmt: skip
    for gap in (e.data for e in entries if e.kind == "gap"):
        low += gap["charge_min_C"] - gap["charge_C"]
        high += gap["charge_max_C"] - gap["charge_C"]
    return low, high
