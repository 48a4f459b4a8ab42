"""From journal entries to what a person is told at three in the morning: one message that says it.

What tripped, with its value and its limit; what was done; and the state that was read back, or that
it could not be. A run that ends before its protocol is told of when its safe state is known, or
before, where that takes long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from cellbench.store import JournalEntry, Run
from cellbench.telemetry.configuration import AlertSettings, Topic
from cellbench.telemetry.limiter import Rare
from cellbench.telemetry.watched import Picture, utc

#: How long a trip waits for the safe state to be known before people are told of it.
_UNKNOWN_STATE_S = 30.0
#: Which entries are told of as they stand. A journal entry of any kind can ask to be told of, too:
#: with one of the topics' names as "alert" in its data.
_TOPICS = {
    "held": Topic.HOLDS,
    "went on": Topic.HOLDS,
    "interrupted": Topic.HOLDS,
    "resumed": Topic.HOLDS,
    "gap": Topic.HOLDS,
    "trouble": Topic.TROUBLE,
    "disk": Topic.DISK,
    "recording thinned": Topic.DISK,
    "warning": Topic.WARNINGS,
}
#: What of an entry's data tells it from others of its kind: two instruments, a disk that fills and
#: one that is full.
_DISTINCT = ("state", "instrument")
#: Entries, and states, for which nobody has to get up.
_RELIEF = frozenset({"went on", "resumed", "recovered", "enough"})
#: How a run ended that is no cause for concern.
_GOOD = "completed"


@dataclass(frozen=True)
class Alert:
    """What people are told.

    Attributes:
        topic: What it is of.
        title: One line.
        text: All of it.
        urgent: Whether somebody may have to get up.
        seq: Number of the journal entry that it is of.
        kind: Those of one kind count as the same where they come too often.
    """

    topic: Topic
    title: str
    text: str
    urgent: bool
    seq: int
    kind: str


class Composer:
    """Composes the alerts of one run from its journal, as it is made.

    Args:
        run: The run.
        settings: What people want to know.
    """

    def __init__(self, run: Run, settings: AlertSettings) -> None:
        self._run, self._settings = run, settings
        self._rare = Rare(settings.apart_s)
        self._held_back: dict[str, Alert] = {}
        self._cause: JournalEntry | None = None
        self._cause_told_at_s: float | None = None
        self._outcomes: list[JournalEntry] = []
        self._prompt: tuple[float, JournalEntry] | None = None
        self._looked: tuple[float, float] | None = None
        self._waits = False
        self._over = False

    @property
    def waits(self) -> bool:
        """Whether something that was entered may still be told of."""
        return bool(self._held_back or self._cause or self._prompt)

    def take(self, entry: JournalEntry) -> Iterator[Alert]:
        """Take one entry; yields what people are told because of it."""
        now_s = asyncio.get_running_loop().time()
        match entry.kind:
            case "trip" | "failure":
                self._cause, self._outcomes = entry, []
                self._cause_told_at_s = now_s + _UNKNOWN_STATE_S
            case "safe state":
                self._outcomes.append(entry)
            case "run ended":
                self._over, self._prompt = True, None
                yield from self._admitted(self._end(entry))
            case "prompt":
                self._prompt = (now_s + self._settings.prompts_after_s, entry)
            case "answer":
                self._prompt = None
            case kind:
                if kind == "resumed":  # whatever an earlier process was about
                    self._over, self._cause, self._prompt = False, None, None
                asked = entry.data.get("alert", _TOPICS.get(kind))
                if asked in set(Topic):
                    self._waits = kind == "held" or (self._waits and kind != "went on")
                    yield from self._admitted(self._noted(entry, Topic(asked)))

    def look(self, picture: Picture | None, *, last: bool = False) -> Iterator[Alert]:
        """Yield what is due because nothing came: an answer, a safe state, a reading.

        Args:
            picture: What the run looks like, None if it is not under way.
            last: Nothing more will come: what was held back is told now.
        """
        now_s = asyncio.get_running_loop().time()
        if last:
            self._prompt = None  # nobody is there any more to be answered
        elif self._prompt is not None and now_s >= self._prompt[0]:
            prompt, self._prompt = self._prompt[1], None
            yield from self._admitted(self._waiting(prompt))
        told_at_s = self._cause_told_at_s
        if self._cause is not None and told_at_s is not None and (last or now_s >= told_at_s):
            self._cause_told_at_s = None
            yield from self._admitted(self._not_safe_yet(self._cause))
        if last:
            self._cause = None
        if picture is not None:
            yield from self._stalled(picture, now_s)
        for kind in self._rare.due(all_of_them=last):
            count = self._rare.told(kind)
            yield _with_others(self._held_back.pop(kind), count - 1)

    def _admitted(self, alert: Alert) -> Iterator[Alert]:
        """Yield an alert that people want, unless one of its kind was told a moment ago."""
        if alert.topic not in self._settings.on:
            return
        count = self._rare.admits(alert.kind)
        if count is None:
            self._held_back[alert.kind] = alert
            return
        self._held_back.pop(alert.kind, None)
        yield _with_others(alert, count)

    def _end(self, entry: JournalEntry) -> Alert:
        state = str(entry.data.get("state", "ended"))
        cause, outcomes = self._cause, self._outcomes
        self._cause = self._cause_told_at_s = None
        good = state == _GOOD
        unsafe = any(not each.data.get("confirmed") for each in outcomes)
        at = entry if cause is None else cause
        place = f" in {cause.step}" if cause is not None and cause.step else ""
        reason = entry.text.partition(": ")[2] or entry.text
        lines = [f"{reason}.", *(_outcome(each) for each in outcomes)]
        missing = entry.data.get("missing_samples")
        if missing:
            lines.append(f"{missing} samples are missing.")
        lines.append(f"look at it: cellbench show {self._run.id}")
        if not good:
            lines.append(f"go on when its cause is gone: cellbench resume {self._run.id}")
        topic = Topic.ENDS if good or state == "interrupted" else Topic.TRIPS
        if unsafe:
            topic = Topic.TRIPS
            state = f"{state}, SAFE STATE NOT CONFIRMED"
        head = f"{state} at {_clock(at.utc)}{place}"
        return self._alert(topic, state, head, lines, entry, "end", urgent=unsafe or not good)

    def _not_safe_yet(self, cause: JournalEntry) -> Alert:
        lines = [
            f"{cause.text}.",
            "on the way to the safe state: not confirmed yet.",
            *(_outcome(each) for each in self._outcomes),
        ]
        place = f" in {cause.step}" if cause.step else ""
        head = f"stopping since {_clock(cause.utc)}{place}"
        title = "stopping, safe state not confirmed yet"
        return self._alert(Topic.TRIPS, title, head, lines, cause, "trip", urgent=True)

    def _waiting(self, prompt: JournalEntry) -> Alert:
        head = f"waits for an answer since {_clock(prompt.utc)}"
        lines = [prompt.text]
        title = "waits for an answer"
        return self._alert(Topic.PROMPTS, title, head, lines, prompt, "prompt", urgent=True)

    def _noted(self, entry: JournalEntry, topic: Topic) -> Alert:
        place = f" in {entry.step}" if entry.step else ""
        head = f"{entry.kind} at {_clock(entry.utc)}{place}"
        distinct = [
            entry.kind,
            *(str(entry.data[each]) for each in _DISTINCT if each in entry.data),
        ]
        lines, kind = [entry.text or entry.kind], " ".join(distinct)
        urgent = not _RELIEF.intersection(distinct)
        return self._alert(topic, kind, head, lines, entry, kind, urgent=urgent)

    def _stalled(self, picture: Picture, now_s: float) -> Iterator[Alert]:
        """The one thing that no journal can tell of: that nothing is entered, nor measured."""
        time_s = max([picture.time_s, *(each.time_s for each in dict(picture.latest).values())])
        waits = self._waits or self._over or self._prompt is not None
        if self._looked is None or time_s != self._looked[1] or waits:
            self._looked = (now_s, time_s)
            return
        quiet_s = now_s - self._looked[0]
        if quiet_s < self._settings.stalled_after_s:
            return
        self._looked = (now_s, time_s)
        lines = [f"nothing was measured for {quiet_s / 60:.0f} min: does its process hang?"]
        entry = JournalEntry(seq=-1, time_s=time_s, utc=self._run.started, kind="", text="")
        yield from self._admitted(
            self._alert(Topic.STALLS, "stalled", "stalled", lines, entry, "stall", urgent=True)
        )

    def _alert(
        self,
        topic: Topic,
        title: str,
        head: str,
        lines: list[str],
        entry: JournalEntry,
        kind: str,
        *,
        urgent: bool,
    ) -> Alert:
        run = self._run
        simulated = "SIMULATED BENCH: " if run.simulated else ""
        text = "\n  ".join([f"{simulated}cell {run.cell}, bench {run.bench}: {head}.", *lines])
        title = f"{simulated}{run.cell} on {run.bench}: {title}"
        return Alert(topic, title, text, urgent, entry.seq, kind)


def _outcome(entry: JournalEntry) -> str:
    return entry.text if entry.data.get("confirmed") else f"NOT CONFIRMED: {entry.text}"


def _with_others(alert: Alert, count: int) -> Alert:
    if count <= 0:
        return alert
    return replace(alert, text=f"{alert.text}\n  and {count} more of this kind before it")


def _clock(time: datetime) -> str:
    return f"{utc(time).astimezone():%a %H:%M:%S}"
