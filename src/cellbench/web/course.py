"""What a run's journal says of its steps: what is done, what is under way, when current flowed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cellbench.analysis.dataset import INTERRUPTED
from cellbench.engine.technique import SKIPPED as SKIPPED_ENDING
from cellbench.report.wording import number

TO_COME, NOW, DONE, SKIPPED, FAILED = "to come", "now", "done", "skipped", "failed"
#: Of more spans than these nothing is to be seen.
_SPANS_MAX = 400
_DRIVEN = frozenset({"current", "charge", "discharge"})
_FOLDED = (
    "SELECT seq, time_s, kind, step, text, data FROM journalentry WHERE seq > ? "
    "AND kind IN ('step started', 'step ended', 'run ended', 'deviation') ORDER BY seq"
)


@dataclass
class Span:
    """A stretch of time in which current flowed one way, or a spectrum was measured."""

    path: str
    kind: str
    current_A: float
    from_s: float
    to_s: float | None = None


class Course:
    """The course of a run so far; entries of its journal are taken in as they come.

    Attributes:
        states: Of each step that was begun, by its path.
        texts: What each does.
        now: Path of the step that was begun last.
        deviations: What was done otherwise than the protocol asked.
    """

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.now = ""
        self.deviations: list[dict[str, Any]] = []
        self._spans: list[Span] = []
        self._seq = -1

    def update(self, connection: sqlite3.Connection) -> bool:
        """Take in what a journal has new; returns whether the state of a step has changed."""
        changed = False
        for seq, time_s, kind, step, text, data in connection.execute(_FOLDED, (self._seq,)):
            self._seq = seq
            if kind == "deviation":
                self.deviations.append({"time_s": time_s, "step": step, "text": text})
            else:
                self._take(time_s, kind, step, json.loads(data or "{}"))
                changed = True
        return changed

    def spans(self, from_s: float, to_s: float, area_m2: float | None) -> list[dict[str, Any]]:
        """When current flowed and spectra were measured between two times, as a plot shades it."""
        found = [
            span
            for span in self._spans
            if span.from_s <= to_s and (span.to_s is None or span.to_s >= from_s)
        ]
        if len(found) > _SPANS_MAX:
            return []
        return [
            {
                "from": span.from_s,
                "to": to_s if span.to_s is None else span.to_s,
                "kind": span.kind,
                "label": _density(span.current_A, area_m2),
            }
            for span in found
        ]

    def _take(self, time_s: float, kind: str, step: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "step started":
                self.now, self.states[step] = step, NOW
                self.texts[step] = str(data.get("what", ""))
                self._open(data.get("began_s", time_s), step, data)
            case "step ended":
                ending = data.get("ending", "")
                known = {SKIPPED_ENDING: SKIPPED, INTERRUPTED: NOW}
                self.states[step] = known.get(ending, DONE)
                self._close(data.get("ended_s", time_s), step)
            case _:  # the run's end: what is under way did not come to its own
                for path in [path for path, state in self.states.items() if state == NOW]:
                    self.states[path] = FAILED
                    self._close(time_s, path)

    def _open(self, time_s: float, step: str, data: Mapping[str, Any]) -> None:
        verb, current_A = data.get("verb"), data.get("settings", {}).get("current_A") or 0.0
        if verb == "eis":
            self._spans.append(Span(step, "eis", 0.0, time_s))
        elif verb in _DRIVEN and current_A:
            kind = "plus" if current_A > 0 else "minus"
            self._spans.append(Span(step, kind, current_A, time_s))

    def _close(self, time_s: float, step: str) -> None:
        for span in reversed(self._spans):
            if span.to_s is not None:
                return
            if span.path == step:
                span.to_s = time_s


def _density(current_A: float, area_m2: float | None) -> str:
    return "" if not current_A or not area_m2 else number(abs(current_A) / area_m2 / 10, 3)
