"""What a run's file says was done, handed out as the walk of its program comes by.

The journal is folded, and no decision is taken twice: a step that has ended is not carried out
again, a loop that was left is left. What was under way when the host was lost is told apart, with
what is done of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from cellbench.analysis.dataset import INTERRUPTED
from cellbench.analysis.stored import channel_names, environment
from cellbench.engine.age import BOOT, Tie
from cellbench.engine.extremes import Extremes
from cellbench.engine.gap import BEGAN, GAP, StepLeft
from cellbench.engine.steering import PAUSE
from cellbench.engine.step_list import BEGUN, HANDED, OVER, Place
from cellbench.instruments.roles import Cycler, Running
from cellbench.instruments.techniques import StepList
from cellbench.store import JournalEntry, RunReader, SampleRow

#: Kinds of journal entries: a pass of a loop after which the loop went on, or ended.
PASS_ENDED, LOOP_ENDED = "pass ended", "loop ended"
#: Kind of the entry with which a run is gone on with.
RESUMED = "resumed"
#: In the path of a step that interrupts another one, after the path of that.
_EVERY = "/every["
#: The verb of steps that begin anew, whatever they interrupt.
SPECTRUM = "eis"
#: Those of techniques that pass a charge which counts.
_PASSING = {"current", "charge", "discharge", "voltage", "hold", "sweep", "cv"}


@dataclass
class OpenList:
    """A list of steps that a cycler had under way.

    Attributes:
        first: Path of its first step.
        test: What the cycler knows it by.
        steps: The list itself.
        place: Where it was.
        running: What goes on on the cycler, once that is attached to.
    """

    first: str
    test: str
    steps: StepList
    place: Place
    running: Running | None = None
    _attached: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def at_most_s(self) -> float:
        """The longest that the cycler can be at it."""
        return sum(technique.duration_s for technique in self.steps.expanded)

    async def attach(self, cycler: Cycler) -> None:
        """Ask the cycler for it.

        Raises:
            InstrumentError: The cycler does something else, or does not have it.
        """
        begun = cycler.attach(self.steps, self.test, self.place.after_row)
        self.running = await self._attached.enter_async_context(begun)

    @property
    def age_least_s(self) -> float:
        """How old its run is at least, by how long the cycler has been at it."""
        if self.running is None or math.isnan(self.running.started_s):
            return -math.inf
        place, loop_s = self.place, asyncio.get_running_loop().time()
        began_s = place.list_began_s if place.has_begun else place.handed_s
        return began_s + loop_s - self.running.started_s

    async def let_go(self) -> None:
        """End what goes on, unless that was done."""
        await self._attached.aclose()

    @asynccontextmanager
    async def attached(self) -> AsyncIterator[Running]:
        """What goes on; leaving the context early ends it."""
        assert self.running is not None  # noqa: S101 (attached to before)
        async with self._attached:
            yield self.running


@dataclass(frozen=True)
class Stretch:
    """Rows of one step that follow each other: charge of the step at the last of them."""

    step_id: int
    path: str
    charge_C: float

    @property
    def interrupted(self) -> str:
        """Path of the step that this one has interrupted, empty for none."""
        return self.path.rpartition(_EVERY)[0]


def stretches(reader: RunReader) -> Iterator[Stretch]:
    """Yield the stretches of a run's rows, in their order."""
    rows = reader.samples(*channel_names(environment(reader)))
    known = ~np.isnan(rows["charge_C"])
    step_ids, charges_C = rows["step"][known].astype(int), rows["charge_C"][known]
    for last in np.flatnonzero(np.diff(step_ids, append=-1)):
        step_id = int(step_ids[last])
        yield Stretch(step_id, reader.steps[step_id][0], float(charges_C[last]))


class History:
    """The past of one run.

    Args:
        reader: The run's file, None for a run that has no past.

    Attributes:
        next_entry: Number of the next journal entry.
        next_step: Number of the next step in the file.
        open_list: The list that a cycler had under way, None for none.
        lost_list: One that it had been handed, and does not have.
        paused: By whom and why the run was paused when it was lost, empty if it was not.
    """

    def __init__(self, reader: RunReader | None = None) -> None:
        journal: Sequence[JournalEntry] = () if reader is None else reader.journal
        self.next_entry = journal[-1].seq + 1 if journal else 0
        self.next_step = 1 if reader is None else max(reader.steps, default=0) + 1
        self._started: dict[str, JournalEntry] = {}
        self._ended: dict[str, JournalEntry] = {}
        self._open: dict[str, JournalEntry] = {}
        self._passes = {each.step: each.kind == LOOP_ENDED for each in journal
                        if each.kind in {PASS_ENDED, LOOP_ENDED}}  # fmt: skip
        self._deviations = {(each.step, each.text) for each in journal if each.kind == "deviation"}
        self._began = {each.step: each for each in journal if each.kind == BEGAN}
        for entry in journal:
            self._fold(entry)
        self._journal, self._reader = journal, reader
        self.paused = _paused(journal)
        self.open_list = None if reader is None else _open_list(reader)
        self.lost_list: OpenList | None = None

    def _fold(self, entry: JournalEntry) -> None:
        if entry.kind == "step started":
            self._started.setdefault(entry.step, entry)
            self._open[entry.step] = entry
        elif entry.kind == "step ended":
            self._open.pop(entry.step, None)
            if entry.data["ending"] != INTERRUPTED:
                self._ended[entry.step] = entry

    # --- What was done --------------------------------------------------------------------------

    def end_of(self, path: str) -> JournalEntry | None:
        """How a step ended, None if it has not."""
        return self._ended.get(path)

    def start_s(self, path: str) -> float:
        """When a step that has begun began first."""
        entry = self._started[path]
        return float(entry.data.get("began_s", entry.time_s))

    def loop_ended(self, path: str) -> bool | None:
        """Whether the loop ended after a pass; None where that was not decided."""
        return self._passes.get(path)

    def deviated(self, path: str, text: str) -> bool:
        """Whether a deviation was entered."""
        return (path, text) in self._deviations

    @property
    def last_s(self) -> float:
        """Time of the last entry, 0 for none."""
        return self._journal[-1].time_s if self._journal else 0.0

    @property
    def tie(self) -> Tie | None:
        """How its time was last tied to the computer's, None where it never was."""
        ties = [each for each in self._journal if BOOT in each.data]
        if not ties:
            return None
        boot = ties[-1].data[BOOT]
        return Tie(ties[-1].time_s, boot["id"], float(boot["passed_s"]))

    # --- What was under way ---------------------------------------------------------------------

    def open_paths(self) -> Sequence[str]:
        """Steps that have begun and not ended; a step that interrupts another comes after it."""
        return list(self._open)

    def energised_paths(self) -> Iterator[str]:
        """Of those, the ones whose technique was under way, not interrupted, and passes charge."""
        for path, entry in self._open.items():
            interrupted = any(other.startswith(f"{path}/") for other in self._open)
            if entry.data["verb"] in _PASSING and not interrupted:
                yield path

    def spectra_within(self) -> Iterator[JournalEntry]:
        """Starts of the spectra under way that interrupt other steps."""
        for path, entry in self._open.items():
            within = any(path.startswith(f"{other}/") for other in self._open)
            if within and entry.data["verb"] == SPECTRUM:
                yield entry

    def open_circuit_s(self, channels: Sequence[str]) -> float | None:
        """When the cell came to open circuit with its latest end, as far as that was read back.

        Args:
            channels: The instruments that can energise it.
        """
        confirmed: dict[str, float] = {}
        for each in self._journal:
            if each.kind == RESUMED:
                confirmed.clear()
            elif each.kind == "safe state" and each.data["confirmed"]:
                confirmed[each.data.get("instrument", "")] = each.time_s
        times = [confirmed.get(name, math.inf) for name in channels]
        return max(times) if times and math.isfinite(max(times)) else None

    def left_of(self, path: str, to_s: float, latest_s: float | None = None) -> StepLeft | None:
        """What is done of a step on the channel that was under way, None if it was not.

        Args:
            path: The step.
            to_s: Since when the cell is known to be at open circuit.
            latest_s: The same, where the clock that tells it may be wrong.
        """
        if path not in self._open or self._reader is None:
            return None
        reader = self._reader
        step_id = max(number for number, (each, _) in reader.steps.items() if each == path)
        rows = reader.rows_of_step(step_id, channel_names(environment(reader)))
        started_s = self.start_s(path)
        last = rows[-1] if rows else None
        began = self._began.get(path)
        zero_s = started_s if began is None else float(began.data["zero_s"])
        last_s = started_s if last is None else last[0]
        within = [each for each in self._ends_within(path) if each.time_s > last_s]
        opened_s = self.open_after(path, last_s)
        if opened_s is not None:
            to_s = min(to_s, opened_s)
        return StepLeft(
            step_id=step_id,
            elapsed_s=0.0 if last is None else max(0.0, last[0] - zero_s),
            charge_C=(0.0 if last is None else last[5] or 0.0) + sum(map(_charge_C, within)),
            last_s=max([last_s, *(each.time_s for each in within)]),
            last_A=math.nan if last is None or last[4] is None else last[4],
            interruptions=self._interruptions(path),
            to_s=to_s,
            latest_s=latest_s,
            ended_within=frozenset(each for each in self._ended if each.startswith(f"{path}/")),
            extremes=_extremes(rows),
            within=self._left_within(path, to_s, latest_s),
        )

    def open_after(self, path: str, time_s: float) -> float | None:
        """When a step that no resume came back to was found open after a time, None if none was."""
        found = [float(each.data["to_s"]) for each in self._journal
                 if each.kind == GAP and each.step == path
                 and each.data.get("taken_up") is False]  # fmt: skip
        return min((each for each in found if each >= time_s), default=None)

    def _ends_within(self, path: str) -> list[JournalEntry]:
        """Ends of techniques that have interrupted a step; a spectrum tells no charge."""
        return [each for each in self._journal
                if each.kind == "step ended" and each.step.startswith(f"{path}/")
                and each.data["verb"] != SPECTRUM]  # fmt: skip

    def _left_within(self, path: str, to_s: float, latest_s: float | None) -> dict[str, StepLeft]:
        """What is done of techniques that had interrupted a step when their host was lost."""
        inner = [other for other, entry in self._open.items()
                 if other.startswith(f"{path}/") and entry.data["verb"] != SPECTRUM]  # fmt: skip
        found = {other: self.left_of(other, to_s, latest_s) for other in inner}
        return {other: left for other, left in found.items() if left is not None}

    def _interruptions(self, path: str) -> int:
        prefix = path + _EVERY
        numbers = [int(each.removeprefix(prefix).partition("]")[0])
                   for each in self._started if each.startswith(prefix)]  # fmt: skip
        return max(numbers, default=0)


def _charge_C(ended: JournalEntry) -> float:
    return float(ended.data["results"].get("charge_C", 0.0))


def _extremes(rows: Sequence[SampleRow]) -> Extremes:
    found = Extremes()
    for row in rows:
        voltage_V, current_A = row[3], row[4]
        if voltage_V is not None and current_A is not None:
            found.take(Extremes(voltage_V, voltage_V, abs(current_A), abs(current_A)))
    return found


def _paused(journal: Sequence[JournalEntry]) -> str:
    """Who paused it last: a command, or a person at an instrument, of whom the hold alone tells."""
    for entry in reversed(journal):
        if entry.kind == "aborted" or entry.data.get("command") == "continue":
            return ""
        if entry.data.get("command") == "pause":
            return entry.text
        if entry.kind == "held" and PAUSE in entry.data["holds"]:
            return str(entry.data["holds"][PAUSE])
    return ""


def _open_list(reader: RunReader) -> OpenList | None:
    journal = reader.journal
    handed = [entry for entry in journal if entry.kind in {HANDED, OVER}]
    if not handed or handed[-1].kind == OVER:
        return None
    entry = handed[-1]
    since = [each for each in journal if each.seq > entry.seq]
    steps = StepList.model_validate(entry.data["steps"])
    return OpenList(entry.step, entry.data["test"], steps, _place(reader, entry, since))


def _place(reader: RunReader, handed: JournalEntry, since: Sequence[JournalEntry]) -> Place:
    """Where a list is, by the entry with which it was handed over and those since then."""
    handed_s = handed.time_s
    started = [entry for entry in since if entry.kind == "step started"]
    begun = [entry.data["began_s"] for entry in since if entry.kind == BEGUN]
    list_began_s = float(begun[-1]) if begun else math.nan
    if not started:
        return Place(-1, True, 0, list_began_s, list_began_s, handed_s, None)
    numbers = {path: number for number, (path, _) in reader.steps.items()}
    last = started[-1]
    return Place(
        position=last.data["position"],
        ended=any(entry.kind == "step ended" and entry.step == last.step for entry in since),
        step_id=numbers[last.step],
        began_s=last.data["began_s"],
        list_began_s=list_began_s,
        handed_s=handed_s,
        last=reader.last_row(numbers[started[0].step]),
    )
