"""What a run does at this moment, as plain values: what ``cellbench status`` shows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cellbench.engine.status import Latest
from cellbench.protocol.program import Limits
from cellbench.report.wording import as_utc

if TYPE_CHECKING:
    from cellbench.engine.run import Conducting

#: Newest messages that are told.
_MESSAGES = 6


def snapshot(run: Conducting) -> dict[str, Any]:
    """Describe a run that is under way; called in its loop, changes nothing.

    Times since its start in s, readings in SI with the unit at the end of the name, their age in s.
    """
    status, now_s = run.status, run.journal.now_s
    started, end_s = as_utc(run.run.started), status.planned_end_s
    return {
        "run": run.run.id,
        "state": _state(run),
        "protocol": run.program.name,
        "cell": run.program.card.cell,
        "area_m2": run.program.card.area_m2,
        "bench": run.bench.name,
        "place": run.bench.place,
        "simulated": run.bench.simulated,
        "seed": run.run.seed,
        "time_s": now_s,
        "utc": run.journal.utc_now.isoformat(),
        "ends_by_s": end_s,
        "ends_by_utc": None if end_s is None else (started + timedelta(seconds=end_s)).isoformat(),
        "step": _step(run, now_s),
        "limits": _limits(run.program.limits),
        "readings": {name: _reading(latest, now_s) for name, latest in dict(status.latest).items()},
        "holds": status.holds,
        "end_after": run.steering.end_after.name.lower() if run.steering.end_after else None,
        "question": _question(run),
        "ending": run.ending,
        "guard": status.guard,
        "messages": [
            {"time_s": time_s, "text": text} for time_s, text in list(status.messages)[-_MESSAGES:]
        ],
    }


def _state(run: Conducting) -> str:
    if run.ending:
        return "ending"
    if run.status.holds:
        return "held"
    return "asking" if _question(run) else "running"


def _step(run: Conducting, now_s: float) -> dict[str, Any] | None:
    status = run.status
    if not status.step_path:
        return None
    return {
        "path": status.step_path,
        "what": status.step_what,
        "number": status.step_number,
        "of": status.steps_planned,
        "elapsed_s": max(0.0, now_s - status.step_started_s),
        "duration_s": status.step_duration_s,
    }


def _limits(limits: Limits) -> dict[str, list[float | None]]:
    """The lower and the upper one of each reading, None for none."""
    return {
        "voltage_V": [limits.voltage_min_V, limits.voltage_max_V],
        "current_A": [None, limits.current_max_A],
        "stack_pressure_Pa": [limits.pressure_min_Pa, limits.pressure_max_Pa],
        "temperature_K": [limits.temperature_min_K, limits.temperature_max_K],
    }


def _reading(latest: Latest, now_s: float) -> dict[str, Any]:
    return {
        "value": latest.value,
        "age_s": max(0.0, now_s - latest.time_s),
        "stale": latest.is_stale(now_s),
        "recent": list(latest.recent),
    }


def _question(run: Conducting) -> dict[str, Any] | None:
    prompts = run.commands.prompts
    question = None if prompts is None else prompts.question
    if question is None:
        return None
    return {
        "prompt": question.prompt,
        "choices": list(question.choices),
        "asked_s": run.journal.since_start(question.asked_s),
    }
