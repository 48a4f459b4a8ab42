"""What a run does now, in words: the lines of ``cellbench status``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from cellbench.cli.live import ROWS, clock_text, held, printable

#: A reading that is younger is new.
_NEW_S = 1.0


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for what `cellbench.engine.afar.look` returns."""
    simulated = "SIMULATED   " if found["simulated"] else ""
    yield (
        f"{simulated}run {found['run']}   {printable(found['protocol'])} on "
        f"{printable(found['cell'])}, {printable(found['bench'])}"
    )
    if "pid" in found:
        yield from _under_way(found)
    else:
        yield from _left(found)


def _under_way(found: Mapping[str, Any]) -> Iterator[str]:
    ends = found["ends_by_utc"]
    running = f"{clock_text(found['time_s'])} since its start"
    yield running if ends is None else f"{running}, ends by {_local(ends)}"
    if found["ending"]:
        yield f"on the way to its safe state: {printable(found['ending'])}"
    yield from map(held, found["holds"].values())
    if found["end_after"]:
        yield f"is to end after this {found['end_after']}"
    yield _step(found["step"])
    question = found["question"]
    if question is not None:
        choices = f" [{'/'.join(question['choices'])}]" if question["choices"] else ""
        yield f"ASKS: {printable(question['prompt'] + choices)}"
        yield f"  answer with: cellbench answer {found['run']} TEXT"
    yield from _readings(found["readings"])
    if found["guard"]:
        yield f"guard: {printable(found['guard'])}"
    refused = sum(found["refused"].values())
    if refused:
        yield f"refused requests to its command channel: {refused}"
    yield from _messages(found)


def _left(found: Mapping[str, Any]) -> Iterator[str]:
    at = "" if found["utc"] is None else _local(found["utc"])
    lost = found["state"] == "lost"
    if not lost:
        yield f"{found['state']} at {at}: {printable(found['reason'])}"
    else:
        where = found["step"] or "no step yet"
        yield f"LOST: its process is gone, last heard of {at or 'never'}, in {where}"
        if not found["safe_state"]:
            yield "  whether its instruments are in their safe state is unknown"
    for each in found["safe_state"]:
        yield f"  {printable(each['text'])}{': confirmed' if each['confirmed'] else ''}"
    if found["resume"] is not None:
        yield f"  go on with it: {found['resume']}"
    if lost:
        yield from _messages(found)


def _step(step: Mapping[str, Any] | None) -> str:
    if step is None:
        return "no step is under way yet"
    number = f"step {step['number']}/{step['of']}  " if step["number"] else ""
    of = f" of {clock_text(step['duration_s'])}" if step["duration_s"] else ""
    what = printable(f"{step['path']}: {step['what']}")
    return f"{number}{what}, {clock_text(step['elapsed_s'])}{of}"


def _readings(readings: Mapping[str, Any]) -> Iterator[str]:
    for row in ROWS:
        latest = readings.get(row.name)
        if latest is None:
            continue
        value = "unknown"
        if latest["value"] is not None:  # as it is for a reading that was out of range
            value = f"{latest['value'] * row.scale + row.offset:.4g} {row.unit}"
        age_s = latest["age_s"]
        age = f"{clock_text(age_s)} ago" if age_s >= _NEW_S else ""
        yield f"  {row.label:<16}{value:<14}{age}".rstrip()


def _messages(found: Mapping[str, Any]) -> Iterator[str]:
    for each in found["messages"]:
        yield f"{clock_text(each['time_s']):>12}  {printable(each['text'])}"


def _local(utc: str) -> str:
    return f"{datetime.fromisoformat(utc).astimezone():%a %H:%M}"
