"""What a run does now, in words: the lines of ``cellbench status``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from cellbench.cli.words import (
    ROWS,
    age_text,
    clock_text,
    ends_text,
    local_text,
    printable,
    step_text,
    urgent_lines,
    value_text,
)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for what `cellbench.engine.afar.look` returns."""
    simulated = "SIMULATED   " if found["simulated"] else ""
    yield (
        f"{simulated}run {found['run']}   {printable(found['protocol'])} on "
        f"{printable(found['cell'])}, {printable(_where(found))}"
    )
    if "pid" in found:
        yield from _under_way(found)
    else:
        yield from _left(found)


def _under_way(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{clock_text(found['time_s'])} since its start, {ends_text(found)}"
    yield step_text(found["step"])
    yield from urgent_lines(found)
    if found["question"] is not None:
        yield f"  answer with: cellbench answer {found['run']} TEXT"
    yield from _readings(found["readings"])
    if found["guard"]:
        yield f"guard: {printable(found['guard'])}"
    refused = sum(found["refused"].values())
    if refused:
        yield f"refused requests to its command channel: {refused}"
    yield from _messages(found)


def _left(found: Mapping[str, Any]) -> Iterator[str]:
    at = "" if found["utc"] is None else local_text(datetime.fromisoformat(found["utc"]))
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


def _readings(readings: Mapping[str, Any]) -> Iterator[str]:
    for row in ROWS:
        latest = readings.get(row.name)
        if latest is None:
            continue
        age = age_text(latest["age_s"], stale=latest["stale"])
        yield f"  {row.label:<16}{value_text(row, latest['value']):<14}{age}".rstrip()


def _messages(found: Mapping[str, Any]) -> Iterator[str]:
    for each in found["messages"]:
        yield f"{clock_text(each['time_s']):>12}  {printable(each['text'])}"


def _where(found: Mapping[str, Any]) -> str:
    """The bench, and the place of it where there are many."""
    place: str = found.get("place", "")
    return f"{found['bench']} at {place}" if place else str(found["bench"])
