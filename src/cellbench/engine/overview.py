"""The runs of a store at a glance: what every face shows of each, under way or over.

Runs under way are asked through their own channels, all at once and briefly; of one that does not
answer, that is what is said. Everything else is read from its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from cellbench.engine.causes import RunState
from cellbench.engine.control_client import Unreachable, ask
from cellbench.engine.control_file import ControlFile, place, read
from cellbench.engine.requests import Look
from cellbench.errors import CellbenchError, InputError
from cellbench.report.wording import as_utc
from cellbench.store import JournalEntry, Run, RunReader, Store

#: For a run to answer: a page of many is not kept waiting by one.
PATIENCE_S = 2.0
#: A run that has only just entered the catalogue takes no commands yet.
_BEGINS = timedelta(seconds=10)
_AT_ONCE = 16
_SPARK_POINTS = 60
#: The last entries of a journal, which hold its safe state and its last step.
_ENTRIES = 50

Health = Literal["ok", "held", "stale", "trouble", "lost"]


class Reading(BaseModel):
    """The newest value of a quantity.

    Attributes:
        value: In SI units; None for one that was out of range.
        stale: Nothing new came for longer than it should take; see `cellbench.engine.status`.
    """

    model_config = ConfigDict(frozen=True)

    value: float | None
    unit: str
    age_s: float
    stale: bool


class Prompt(BaseModel):
    """A question that a run asks; the same question at another time is another one."""

    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    choices: tuple[str, ...]


class Summary(BaseModel):
    """One run at a glance.

    Attributes:
        state: ``running``, ``held``, ``asking``, ``ending`` under way; ``silent``: its process is
            there and does not answer; ``lost``: its process is gone; else a `RunState`.
        place: Where its cell sits on a bench of many, empty on a bench with one.
        verdict: How it ended; empty while it is under way.
        time_s: Time since its start, of one that has ended its length; None where not known.
        step: What is under way, or was when it was lost.
        step_elapsed_s, step_duration_s: Since the step's start, and its length where that is known.
        progress: From 0 to 1, None where its end is not known.
        ends_at: When it ends at the latest (UTC), None where that is not known.
        needs: What a hand is needed for, None for nothing.
        latest: Newest readings by quantity: ``voltage``, ``stack pressure``; empty of others than
            runs under way.
        spark: The voltage over the last hour, or over the whole of a run that is over, in V.
        message: The newest of its journal that a person should read, empty for none.
        area_m2: Of its working electrode; None for a run that is not under way.
        prompt: The question that is open, None for none.
        holds: What holds it, and why.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    protocol: str
    cell: str
    bench: str
    place: str = ""
    simulated: bool
    state: str
    started: datetime
    ended: datetime | None = None
    verdict: str = ""
    time_s: float | None = None
    step: str = ""
    step_elapsed_s: float | None = None
    step_duration_s: float | None = None
    progress: float | None = None
    ends_at: datetime | None = None
    needs: str | None = None
    latest: dict[str, Reading] = {}
    spark: list[float] = []
    message: str = ""
    area_m2: float | None = None
    prompt: Prompt | None = None
    holds: dict[str, str] = {}

    @property
    def under_way(self) -> bool:
        """Whether its process is there."""
        return self.state in {"running", "held", "asking", "ending", "silent"}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def health(self) -> Health:
        """How it does, in a word; ``stale``: something that is looked at all the time is not."""
        if self.state in {"lost", "silent"}:
            return "lost"
        if self.state in {"held", "asking"}:
            return "held"
        if self.state in {RunState.STOPPED, RunState.FAILED} or self.needs is not None:
            return "trouble"
        # The channel is silent in steps that are none of its own; press and gauges never are.
        watched = ("stack pressure", "temperature")
        stale = any(self.latest[name].stale for name in watched if name in self.latest)
        return "stale" if stale else "ok"


def at_a_glance(store: Store, ended_within: timedelta) -> Sequence[Summary]:
    """The runs under way, lost, or ended a while ago at most: who needs a hand comes first."""
    since = datetime.now(UTC) - ended_within
    shown = (
        each
        for each in summaries(store, store.recent(since))
        # The bench of a lost simulated run went with its process: old news after a while.
        if each.needs is not None or each.under_way or (each.ended or each.started) >= since
    )
    return sorted(shown, key=lambda each: (each.needs is None, not each.under_way))


def summaries(store: Store, runs: Iterable[Run]) -> Sequence[Summary]:
    """Each run at a glance, in the order given."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as threads:
        return list(threads.map(lambda run: summary(store, run), runs))


def summary(store: Store, run: Run) -> Summary:
    """One run at a glance; reads little, also of a long run."""
    if (news := store.elsewhere(run.id)) is not None:
        return _summary(run, state=run.state, verdict=run.reason, message=news)
    try:
        control = read(place(store.run_path(run.id)))
        if control is not None and control.is_alive:
            return _under_way(run, control)
    except Unreachable:
        run = store.find(run.id)  # it has ended meanwhile
    except InputError as error:  # another user's, who alone can look at it
        return _summary(run, state=run.state, verdict=str(error))
    except CellbenchError as error:
        return _summary(run, state="silent", needs=str(error))
    except (KeyError, ValidationError):
        why = "another version of cellbench conducts it, which tells other things"
        return _summary(run, state="silent", needs=why)
    if run.ended is None and datetime.now(UTC) - as_utc(run.started) < _BEGINS:
        return _summary(run, state=run.state)
    return _left(store, run)


def _summary(run: Run, **more: Any) -> Summary:
    return Summary(
        run=run.id,
        protocol=run.protocol,
        cell=run.cell,
        bench=run.bench,
        place=run.place,
        simulated=run.simulated,
        started=as_utc(run.started),
        ended=None if run.ended is None else as_utc(run.ended),
        **more,
    )


def _under_way(run: Run, control: ControlFile) -> Summary:
    reply = ask(control, Look(), patience_s=PATIENCE_S)
    found = reply.data
    if found is None:
        raise CellbenchError(f"run {run.id} (process {control.pid}): {reply.text}")
    step = found["step"] or {}
    voltage = found["readings"].get("voltage_V", {})
    return _summary(
        run,
        state=found["state"],
        time_s=found["time_s"],
        step=_step(step),
        step_elapsed_s=step.get("elapsed_s"),
        step_duration_s=step.get("duration_s"),
        progress=progress(found),
        ends_at=found["ends_by_utc"],
        needs=_needs(found),
        latest={
            _quantity(name): Reading(unit=name.rpartition("_")[2], **_shown(reading))
            for name, reading in found["readings"].items()
        },
        spark=[each for each in voltage.get("recent", ()) if each is not None],
        message=found["messages"][-1]["text"] if found["messages"] else "",
        area_m2=found["area_m2"],
        prompt=_prompt(found["question"]),
        holds=found["holds"],
    )


def progress(found: Mapping[str, Any]) -> float | None:
    """How far a run is, from 0 to 1, by its snapshot; None where its end is not known."""
    length_s = found["ends_by_s"]
    return min(1.0, found["time_s"] / length_s) if length_s else None


def _prompt(question: Mapping[str, Any] | None) -> Prompt | None:
    if question is None:
        return None
    number = f"{question['asked_s']:.6f}"
    return Prompt(id=number, text=question["prompt"], choices=tuple(question["choices"]))


def _needs(found: Mapping[str, Any]) -> str | None:
    """What waits for a person: a question, or something that holds the run."""
    question = found["question"]
    asks = [] if question is None else [f"asks: {question['prompt']}"]
    return "; ".join([*asks, *found["holds"].values()]) or None


def _step(step: Mapping[str, Any]) -> str:
    if not step:
        return ""
    number = f"{step['number']}/{step['of']} " if step["number"] else ""
    return f"{number}{step['path']}: {step['what']}"


def _quantity(name: str) -> str:
    return name.rpartition("_")[0].replace("_", " ")


def _shown(reading: Mapping[str, Any]) -> dict[str, Any]:
    return {name: reading[name] for name in ("value", "age_s", "stale")}


# --- Runs that nobody conducts any more -----------------------------------------------------------


def _left(store: Store, run: Run) -> Summary:
    try:
        reader = RunReader(store.run_path(run.id))
        last = reader.last_entries(_ENTRIES)
        spark = reader.spark("voltage_V", _SPARK_POINTS)
    except CellbenchError as error:  # its file is gone, or another version's
        return _summary(run, state=run.state, verdict=str(error))
    lost = run.ended is None
    return _summary(
        run,
        state="lost" if lost else run.state,
        verdict="" if lost else run.reason,
        time_s=last[-1].time_s if last else None,
        step=next((entry.step for entry in reversed(last) if entry.step), "") if lost else "",
        progress=1.0 if run.state == RunState.COMPLETED else None,
        needs=_left_undone(run, last),
        spark=spark,
        message=next((entry.text for entry in reversed(last) if entry.text), ""),
    )


def _left_undone(run: Run, last: Sequence[JournalEntry]) -> str | None:
    """What a person should see to; a simulated bench went with its process."""
    if run.simulated:
        return None
    if run.ended is None:
        return f"its process is gone: cellbench status {run.id} shows how it was left"
    unknown = [
        entry.text
        for entry in last
        if entry.kind == "safe state" and not entry.data.get("confirmed")
    ]
    return f"NOT CONFIRMED SAFE: {'; '.join(unknown)}" if unknown else None
