"""The topics and payloads of a run, as docs/telemetry.md lists them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from cellbench.store import JournalEntry
from cellbench.telemetry.alerts import Alert
from cellbench.telemetry.watched import Picture, Watched, utc

#: Values beyond this are left out of an event; they are in the run's file.
_DATA_BYTES = 32_000


def slug(name: str) -> str:
    """A name as one level of a topic: ``glovebox 2`` is ``glovebox_2``."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_") or "unnamed"


def bench_topic(site: str | None, bench: str) -> str:
    """The topic that all topics of a bench begin with."""
    return "/".join(["cellbench", *([slug(site)] if site else []), slug(bench)])


def run_topic(bench: str, run_id: str) -> str:
    """The topic that all topics of a run begin with, of a bench's topic."""
    return f"{bench}/run/{slug(run_id)}"


def payload(content: Mapping[str, Any]) -> bytes:
    """JSON, with null for what is no number."""
    return json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, default=str).encode()


def event(run_id: str, entry: JournalEntry) -> dict[str, Any]:
    """One journal entry."""
    content = {
        "run": run_id,
        "seq": entry.seq,
        "utc": utc(entry.utc).isoformat(timespec="milliseconds"),
        "time_s": entry.time_s,
        "kind": entry.kind,
        "step": entry.step,
        "text": entry.text or str(entry.data.get("what", "")),
        "data": entry.data,
    }
    if len(payload(content)) > _DATA_BYTES:
        content["data"] = None
    return content


def alert(run_id: str, told: Alert) -> dict[str, Any]:
    """One alert, as people get it."""
    return {
        "run": run_id,
        "seq": told.seq,
        "about": told.topic,
        "title": told.title,
        "text": told.text,
        "urgent": told.urgent,
    }


def telemetry(watched: Watched, picture: Picture) -> dict[str, Any]:
    """The newest readings, each with its unit and its own time; those without a value are left out.

    An old reading stays as old as it is.
    """
    # Copied in one go: the run's own thread may add a quantity at any moment.
    latest = dict(picture.latest)
    readings = {}
    for name, reading in latest.items():
        value, time_s = reading.value, reading.time_s
        if not math.isfinite(value):
            continue
        quantity, _, unit = name.rpartition("_")
        readings[quantity.replace("_", " ")] = {
            "value": value,
            "unit": unit,
            "utc": watched.utc(time_s).isoformat(timespec="milliseconds"),
            "age_s": round(max(0.0, picture.time_s - time_s), 3),
        }
    return {
        "run": watched.run.id,
        "utc": watched.utc(picture.time_s).isoformat(timespec="milliseconds"),
        "time_s": picture.time_s,
        "readings": readings,
    }


class Course:
    """Where a run is, as the fold of its journal.

    Args:
        watched: The run.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._seq = -1
        run = watched.run
        self._facts: dict[str, Any] = {
            "run": run.id,
            "protocol": run.protocol,
            "cell": run.cell,
            "bench": run.bench,
            "simulated": run.simulated,
            "started": utc(run.started).isoformat(timespec="seconds"),
            "state": "running",
            "step": "",
            "what": "",
            "since": None,
            "message": "",
        }

    @property
    def ended(self) -> bool:
        """Whether the run has come to an end."""
        return self._facts["state"] not in {"running", "held"}

    @property
    def state(self) -> str:
        """How the run is: ``running``, ``held``, or how it ended."""
        return str(self._facts["state"])

    def read_on(self) -> None:
        """Take in what was entered since."""
        while entries := self._watched.after(self._seq):
            for entry in entries:
                self._take(entry)
            self._seq = entries[-1].seq

    def facts(self) -> dict[str, Any]:
        """What is told of it."""
        picture = self._watched.picture
        if picture is None or self.ended:
            return self._facts | {"step_number": None, "steps_planned": None, "ends_by": None}
        end_s = picture.planned_end_s
        ends_by = None if end_s is None else self._watched.utc(end_s).isoformat(timespec="minutes")
        return self._facts | {
            "step_number": picture.step_number,
            "steps_planned": picture.steps_planned,
            "ends_by": ends_by,
        }

    def _take(self, entry: JournalEntry) -> None:
        facts, since = self._facts, utc(entry.utc).isoformat(timespec="seconds")
        match entry.kind:
            case "step started":
                facts |= {"step": entry.step, "what": entry.data.get("what", ""), "since": since}
            case "held":
                facts["state"] = "held"
            case "run ended":
                facts |= {"state": entry.data.get("state", "ended"), "since": since}
            case "went on" | "resumed":
                facts["state"] = "running"
        if entry.text:
            facts["message"] = entry.text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
