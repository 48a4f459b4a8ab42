"""Where a campaign stands, read from the store: which of its turns were had, and what came of it.

Runs are known by their campaign, place, card and replicate, and in this series by protocol and
parameters, in the order in which they began. A run that was lost before it began, or whose
simulated bench went with its process, is no turn had: it is begun again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cellbench.analysis.stored import environment
from cellbench.campaign.outline import Outline, Trial, Turn
from cellbench.engine.causes import RunState
from cellbench.engine.control_file import place, read
from cellbench.engine.overview import Summary, summaries
from cellbench.report.wording import count
from cellbench.store import Run, RunReader, Store, never_began
from cellbench.transport.ownership import is_held_for


class State(StrEnum):
    """Of a turn."""

    TO_COME = "to come"
    UNDER_WAY = "under way"
    LOST = "lost"  #: its process is gone: it is gone on with when the campaign is
    INTERRUPTED = "interrupted"  #: somebody ended it: likewise
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    NOT_BEGUN = "not begun"  #: nor will it be: its cell's series has ended


#: A cell whose run ended so has no further turn.
DEAD = frozenset({State.STOPPED, State.FAILED})
#: Of these there is nothing left to be done.
OVER = DEAD | {State.COMPLETED, State.NOT_BEGUN}
#: Of these there is something to resume.
RESUMABLE = frozenset({State.LOST, State.INTERRUPTED})


@dataclass(frozen=True)
class Standing:
    """How far one turn is; ``why`` it ended, or was not begun, or what it does now."""

    turn: Turn
    trial: Trial
    state: State
    run: Run | None = None
    why: str = ""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to be done about it."""
        return self.state in OVER

    @property
    def run_id(self) -> str:
        """Of its run, empty while there is none."""
        return "" if self.run is None else self.run.id

    @property
    def told(self) -> str:
        """Why it is so, where that needs to be told."""
        return "" if self.state is State.COMPLETED else self.why

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "cell": self.turn.specimen,
            "place": self.turn.place,
            "card": self.trial.card,
            "replicate": self.turn.replicate,
            "protocol": self.trial.protocol,
            "parameters": self.trial.parameters,
            "state": str(self.state),
            "run": self.run_id or None,
            "why": self.why,
        }


@dataclass(frozen=True)
class Progress:
    """How far a campaign is.

    Attributes:
        name: Of the campaign.
        standings: Of its turns, in their order.
        strangers: Runs that say they are of this campaign, and are none of its turns.
    """

    name: str
    standings: Sequence[Standing]
    strangers: Sequence[Run]

    def having(self, *states: State) -> Sequence[Standing]:
        """The turns that are in one of these states."""
        return [each for each in self.standings if each.state in states]

    def of(self, specimens: Collection[str]) -> Progress:
        """The same of some of its cells alone."""
        chosen = [each for each in self.standings if each.turn.specimen in specimens]
        return Progress(self.name, chosen, self.strangers)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to be done."""
        return all(each.is_over for each in self.standings)

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "campaign": self.name,
            "over": self.is_over,
            "counts": {str(state): len(self.having(state)) for state in State},
            "runs": [each.answer() for each in self.standings],
            "strangers": [run.id for run in self.strangers],
        }

    def headline(self) -> str:
        """It in one line for people."""
        counted = ((state, len(self.having(state))) for state in State)
        parts = [f"{number} {state}" for state, number in counted if number]
        if self.strangers:
            runs = ", ".join(run.id for run in self.strangers)
            parts.append(f"not in it, though kept as of it: {runs}")
        return f"{self.name}: {count(len(self.standings), 'run')}; {', '.join(parts)}"


def not_begun(outline: Outline) -> Progress:
    """A campaign before its first run."""
    turns = outline.turns
    standings = [Standing(each, outline.trial_of(each), State.TO_COME) for each in turns]
    return Progress(outline.name, standings, [])


def progress_of(outline: Outline, store: Store) -> Progress:
    """Read from the store how far a campaign is."""
    series: dict[tuple[str, str, int], list[Run]] = defaultdict(list)
    for each in reversed(store.search(campaign=outline.name, limit=None)):
        run = store.believed(each)
        if not _is_void(run, store):
            series[run.place, run.cell, run.replicate].append(run)
    found: list[Standing] = []
    died: dict[str, str] = {}
    for turn in outline.turns:
        trial = outline.trial_of(turn)
        standing = _standing(turn, trial, series[turn.place, trial.card, turn.replicate], store)
        if standing.run is None and turn.specimen in died:
            standing = Standing(turn, trial, State.NOT_BEGUN, why=died[turn.specimen])
        elif standing.state in DEAD:
            died[turn.specimen] = f"its cell ended with {trial.protocol}: {standing.why}"
        found.append(standing)
    return Progress(outline.name, found, [run for left in series.values() for run in left])


def looked_at(progress: Progress, store: Store) -> Progress:
    """Ask the runs under way what they do, or wait for; that is their ``why`` then."""
    under_way = [each.run for each in progress.having(State.UNDER_WAY) if each.run is not None]
    told = {each.run: _doing(each) for each in summaries(store, under_way)}
    standings = [replace(each, why=told.get(each.run_id, each.why)) for each in progress.standings]
    return replace(progress, standings=standings)


def _doing(summary: Summary) -> str:
    ends = "" if summary.ends_at is None else f"ends by {summary.ends_at.astimezone():%a %H:%M}"
    return ", ".join(each for each in (summary.needs or summary.step, ends) if each)


def _standing(turn: Turn, trial: Trial, runs: list[Run], store: Store) -> Standing:
    """Take the turn's run out of those of its series."""
    run = next((each for each in runs if _is_of(each, trial, store)), None)
    if run is None:
        return Standing(turn, trial, State.TO_COME)
    runs.remove(run)
    return Standing(turn, trial, _state(run, store), run, run.reason)


def _is_of(run: Run, trial: Trial, store: Store) -> bool:
    if run.protocol != trial.protocol:
        return False
    parameters: dict[str, str] = environment(RunReader(store.run_path(run.id)))["parameters"]
    return parameters == trial.parameters


def _state(run: Run, store: Store) -> State:
    if run.state != "running":
        return State(run.state)
    return State.UNDER_WAY if is_conducted(run, store) else State.LOST


def is_conducted(run: Run, store: Store) -> bool:
    """Whether a process is there that conducts a run."""
    path = store.run_path(run.id)
    control = read(place(path))
    return is_held_for(path) if control is None else control.is_alive


def _is_void(run: Run, store: Store) -> bool:
    """Whether a run has nothing to go on with, and no result."""
    path = store.run_path(run.id)
    if not path.is_file() or never_began(path):
        return True
    if run.simulated and run.state == "running":
        return not is_conducted(run, store)
    return run.simulated and run.state == RunState.INTERRUPTED
