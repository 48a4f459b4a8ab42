"""A run whose host was lost while a cycler ran a list of steps: what its file holds of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cellbench.engine.step_list import BEGUN, HANDED, OVER, Place
from cellbench.errors import InputError
from cellbench.instruments.techniques import StepList
from cellbench.protocol.loading import parse_card
from cellbench.protocol.program import ChannelStep, Limits, Program, Recording
from cellbench.protocol.source import SourceNode, document_of
from cellbench.store import JournalEntry, Run, RunReader, Store


@dataclass(frozen=True)
class Unfinished:
    """What is needed to go on with a step list.

    Attributes:
        program: The run's cell and limits, with nothing to walk.
        steps: The steps of the list.
        test: What the cycler knows it by.
        place: Where it was.
        pressed: Whether the press was to keep a pressure.
        is_end: Whether nothing follows the list.
        steps_left: How many steps of the plan follow it at most; None: unknown.
        next_entry: Number of the next journal entry.
        next_step: Number of the next step in the file.
    """

    run: Run
    reader: RunReader
    program: Program
    steps: Sequence[ChannelStep]
    test: str
    place: Place
    pressed: bool
    is_end: bool
    steps_left: int | None
    next_entry: int
    next_step: int


def unfinished(store: Store, run: Run) -> Unfinished:
    """Read what a run left under way.

    Raises:
        InputError: It has ended, or no cycler was running a list of its steps.
    """
    reader = RunReader(store.run_path(run.id))
    journal = reader.journal
    handed = _handed(run, journal)
    data, since = handed.data, journal[handed.seq + 1 :]
    steps = _steps(StepList.model_validate(data["steps"]), data["items"])
    card = parse_card(reader.documents["cell"], f"the card of run {run.id}")
    program = Program(
        name=run.protocol,
        reference="",
        card=card,
        limits=Limits(**data["limits"]),
        parameters={},
        nodes=(),
        analyses=(),
        sources=(),
        conditions_every_s=data["conditions_every_s"],
    )
    return Unfinished(
        run=run,
        reader=reader,
        program=program,
        steps=steps,
        test=data["test"],
        place=_place(reader, since),
        pressed=_is_pressed(journal),
        is_end=data["is_end"],
        steps_left=data["steps_left"],
        next_entry=journal[-1].seq + 1,
        next_step=max(reader.steps, default=0) + 1,
    )


def _handed(run: Run, journal: Sequence[JournalEntry]) -> JournalEntry:
    """The entry of the list under way."""
    kinds = [entry.kind for entry in journal]
    if "run ended" in kinds:
        raise InputError(f"run {run.id} has ended ({run.state}): there is nothing to attach to")
    handed = [entry for entry in journal if entry.kind == HANDED]
    if handed and OVER not in kinds[handed[-1].seq :]:
        return handed[-1]
    at = next((entry.step for entry in reversed(journal) if entry.step), "its beginning")
    raise InputError(
        f"run {run.id} was lost at {at}, which no cycler was running by itself: nothing of it goes "
        "on that could be attached to. See that its cell is at open circuit, and run it again."
    )


def _steps(listed: StepList, items: Sequence[dict[str, object]]) -> list[ChannelStep]:
    nowhere = SourceNode(None, document_of("", "the journal"), 0, 0, 1)
    return [
        ChannelStep(
            path=str(item["path"]),
            verb=str(item["verb"]),
            what=str(item["what"]),
            source=nowhere,
            bindings={},
            technique=technique,
            record=Recording(**item["record"]),  # type: ignore[arg-type]  # as asdict wrote it
            capped=bool(item["capped"]),
        )
        for technique, item in zip(listed.expanded, items, strict=True)
    ]


def _place(reader: RunReader, since: Sequence[JournalEntry]) -> Place:
    """Where the list is, by the entries since it was handed over."""
    started = [entry for entry in since if entry.kind == "step started"]
    begun = [entry.data["began_s"] for entry in since if entry.kind == BEGUN]
    list_began_s = float(begun[-1]) if begun else math.nan
    if not started:
        return Place(-1, True, 0, list_began_s, list_began_s, None)
    numbers = {path: number for number, (path, _) in reader.steps.items()}
    last = started[-1]
    return Place(
        position=last.data["position"],
        ended=any(entry.kind == "step ended" and entry.step == last.step for entry in since),
        step_id=numbers[last.step],
        began_s=last.data["began_s"],
        list_began_s=list_began_s,
        last=reader.last_row(numbers[started[0].step]),
    )


def _is_pressed(journal: Sequence[JournalEntry]) -> bool:
    """Whether the last order to the press was to keep a pressure, and was carried out."""
    orders = {entry.step: entry.data["settings"].get("kind") for entry in journal
              if entry.kind == "step started" and entry.data["verb"] == "press"}  # fmt: skip
    done = [orders[entry.step] for entry in journal
            if entry.kind == "step ended" and entry.step in orders]  # fmt: skip
    return bool(done) and done[-1] in {"to", "hold"}
