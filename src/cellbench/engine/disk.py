"""The disk that a run is written to: the run waits while it is full, and is warned before it is.

A run whose disk takes nothing is *held*: its cell goes to open circuit, its rows wait in memory.
Before that, a disk that fills is spoken of early, and then the recording is thinned by `DiskRules`;
what is safe, and what a condition waits for, is judged on every row all the same.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cellbench.clock import unseen
from cellbench.engine.journal import Journal
from cellbench.engine.recorder import Recorder, Thinning
from cellbench.engine.status import Status
from cellbench.engine.steering import Steering
from cellbench.errors import StoreError
from cellbench.quantities import format_quantity
from cellbench.store import RunWriter
from cellbench.store.trouble import REST_S

#: What holds a run whose disk takes nothing.
HOLD = "disk"
#: How often the free space is looked at; on a simulated bench, where an hour is a moment.
LOOK_INTERVAL_S = 60.0
SIMULATED_LOOK_INTERVAL_S = 3600.0
#: Looks that the rate is measured over: at most, and at least.
_LOOKS = 61
_LOOKS_FOR_RATE = 16
#: Without a planned end, a disk that lasts for less than this is worth a word.
_ENOUGH_S = 24 * 3600.0
#: Parts of the memory for waiting rows above which fewer rows are kept.
_TENTH_ABOVE = 0.5
_EDGES_ABOVE = 0.75
#: How often memory is looked at while the disk takes nothing.
_STALLED_LOOK_S = 1.0


@dataclass(frozen=True)
class DiskRules:
    """Free space, in bytes, below which something is done about it.

    Attributes:
        warn_below_B: A warning, however long it may last.
        thin_below_B: One row in ten intervals, and changes ten times as large.
        edges_below_B: The first and last row of each step alone.
        back_above: Each is undone above so many times its threshold.
    """

    warn_below_B: float = 1e9
    thin_below_B: float = 200e6
    edges_below_B: float = 50e6
    back_above: float = 1.5

    def thinning(self, free_B: float, now: Thinning) -> Thinning:
        """How much is recorded with so much space, after so much was."""
        for level, below_B in (
            (Thinning.EDGES, self.edges_below_B),
            (Thinning.TENTH, self.thin_below_B),
        ):
            if free_B < below_B * (self.back_above if now >= level else 1.0):
                return level
        return Thinning.NONE


def free_bytes(path: Path) -> float | None:
    """Space that is left for this user where a file is, None where nobody can tell."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return None


class StalledStore:
    """Holds the run while its file takes nothing, and ends it when memory is full as well.

    Args:
        writer: The run's file.
        steering: What the run is held by.
        recorder: Keeps fewer rows when memory becomes short.
        free: Tells the space that is left.
    """

    def __init__(
        self,
        writer: RunWriter,
        steering: Steering,
        recorder: Recorder,
        free: Callable[[Path], float | None] = free_bytes,
    ) -> None:
        self._writer, self._steering, self._recorder = writer, steering, recorder
        self._journal = recorder.journal
        self._free = free
        self._since_s: float | None = None
        self._run_ends = False
        self._stalled, self._over = asyncio.Event(), asyncio.Event()
        writer.stall_listeners.append(self._changed)

    def run_ends(self) -> None:
        """The way to the safe state has begun: it needs a clock that goes on."""
        self._run_ends = True
        self._over.set()

    async def watch(self) -> None:
        """Look after the memory until cancelled.

        Raises:
            StoreError: It is full too; says how many rows are lost by now.
        """
        while not self._run_ends:
            await self._stalled.wait()
            await self._while_stalled()

    def _changed(self, why: str | None) -> None:
        if why is not None:
            self._begins(why)
        elif self._since_s is not None:
            self._ends(self._since_s)

    def _begins(self, why: str) -> None:
        free_B = self._free(self._writer.path)
        text = f"{told_of_space(free_B, self._writer.path)}, the run waits at open circuit"
        text = f"disk full: {text}" if "full" in why else f"disk trouble ({why}): {text}"
        self._steering.hold(HOLD, text)
        if self._since_s is None:
            self._since_s = self._journal.now_s
            if not self._run_ends:
                self._over.clear()
                self._stalled.set()
        # Not awaited: it waits in memory like everything else, and is shown at once.
        self._journal.enter_soon("disk", text=text, state="stalled", why=why, free_B=free_B)

    def _ends(self, since_s: float) -> None:
        stalled_s = self._journal.now_s - since_s
        text = f"the disk takes data again after {format_quantity(stalled_s, 'time')}"
        if not self._writer.rows_lost:
            text += ": nothing was lost"
        self._journal.enter_soon("disk", text=text, state="recovered", stalled_s=stalled_s)
        self._since_s = None
        self._stalled.clear()
        self._over.set()
        self._recorder.thin("memory", Thinning.NONE, "nothing waits in memory any more")
        self._steering.let_go(HOLD)

    async def _while_stalled(self) -> None:
        loop = asyncio.get_running_loop()
        rest_s = loop.time() + REST_S
        while not self._over.is_set():
            self._look_after_memory()
            if loop.time() < rest_s:
                await _within(self._over, _STALLED_LOOK_S)
            else:
                # The bench is at rest by now: simulated time waits for the disk, as people do.
                await unseen(_within(self._over, None), patient=True)

    def _look_after_memory(self) -> None:
        writer = self._writer
        if writer.rows_lost:
            raise StoreError(
                f"the disk of {writer.path} takes nothing ({writer.stall}), and the memory for "
                f"{writer.rows_kept} rows is full: {writer.rows_lost} rows are lost so far"
            )
        part = writer.rows_waiting / writer.rows_kept
        why = f"{writer.rows_waiting} rows wait in memory for the disk"
        if part >= _EDGES_ABOVE:
            self._recorder.thin("memory", Thinning.EDGES, why)
        elif part >= _TENTH_ABOVE:
            self._recorder.thin("memory", Thinning.TENTH, why)


class DiskWatch:
    """Looks at the space that is left on a run's disk: warns, and then thins the recording.

    Args:
        path: The run's file.
        journal: Where changes are entered.
        recorder: What is thinned.
        status: Knows when the run ends at the latest.
        rules: When what is done.
        every_s: Loop time between two looks.
        free: Tells the space that is left.
    """

    def __init__(
        self,
        path: Path,
        journal: Journal,
        recorder: Recorder,
        status: Status,
        *,
        rules: DiskRules | None = None,
        every_s: float = LOOK_INTERVAL_S,
        free: Callable[[Path], float | None] = free_bytes,
    ) -> None:
        self._path, self._journal, self._recorder, self._status = path, journal, recorder, status
        self._rules = rules or DiskRules()
        self._every_s = every_s
        self._free = free
        self._looks: deque[tuple[float, float]] = deque(maxlen=_LOOKS)
        self._thinning = Thinning.NONE
        self._warned_B: float | None = None

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._every_s)

    def look(self) -> None:
        """Look once."""
        free_B = self._free(self._path)
        if free_B is None:
            return  # whoever writes there will say what has become of it
        # The write-ahead log is written over again and again: its space is as good as free.
        log_B = _size_B(self._path.with_name(f"{self._path.name}-wal"))
        self._looks.append((self._journal.now_s, free_B + log_B))
        self._warn(free_B)
        self._thin(free_B)

    @property
    def rate_B_per_s(self) -> float | None:
        """How fast the disk fills, None before that can be told."""
        if len(self._looks) < _LOOKS_FOR_RATE:
            return None
        (first_s, first_B), (last_s, last_B) = self._looks[0], self._looks[-1]
        return max(0.0, first_B - last_B) / (last_s - first_s)

    def _warn(self, free_B: float) -> None:
        rate = self.rate_B_per_s
        lasts_s = free_B / rate if rate else None
        end_s = self._status.planned_end_s
        needed_s = None if end_s is None else max(0.0, end_s - self._journal.now_s)
        enough_s = _ENOUGH_S if needed_s is None else needed_s
        spare = 1.0 if self._warned_B is None else self._rules.back_above
        is_short = lasts_s is not None and lasts_s < enough_s * spare
        if not is_short and free_B >= self._rules.warn_below_B * spare:
            if self._warned_B is not None:
                self._warned_B = None
                text = f"{told_of_space(free_B, self._path)}: enough again"
                self._journal.enter_soon("disk", text=text, state="enough", free_B=free_B)
            return
        if self._warned_B is not None and free_B > self._warned_B / 2:
            return  # it has been said
        self._warned_B = free_B
        text = f"disk nearly full: {told_of_space(free_B, self._path)}"
        if lasts_s is not None:
            text += f", at this rate {format_quantity(lasts_s, 'time')}"
        if needed_s is not None:
            text += f"; the plan needs {format_quantity(needed_s, 'time')}"
        self._journal.enter_soon(
            "disk", text=text, state="filling", free_B=free_B, rate_B_per_s=rate, lasts_s=lasts_s,
            needed_s=needed_s,
        )  # fmt: skip

    def _thin(self, free_B: float) -> None:
        level = self._rules.thinning(free_B, self._thinning)
        if level is not self._thinning:
            self._thinning = level
            self._recorder.thin("disk", level, told_of_space(free_B, self._path))


def told_of_space(free_B: float | None, path: Path) -> str:
    """How much space is left, and where: ``2.1 GB left on /data/runs``."""
    if free_B is None:
        return f"nobody knows how much is left on {path.parent}"
    for unit, size_B in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if free_B >= size_B:
            return f"{free_B / size_B:.3g} {unit} left on {path.parent}"
    return f"{free_B:.0f} bytes left on {path.parent}"


def _size_B(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def _within(event: asyncio.Event, timeout_s: float | None) -> None:
    """Return when an event is set, or after a time."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
