"""One run as its page shows it: its summary, what its program has come to, what can be done."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cellbench.engine.commands import PAUSE
from cellbench.engine.overview import Summary, summary
from cellbench.report.wording import title_of
from cellbench.store import Run, RunReader, Store
from cellbench.web.facts import Facts, facts_of
from cellbench.web.program_tree import Progress, tree
from cellbench.web.traces import reading

_PAGES = 100
_FOLDED = (
    "SELECT seq, time_s, kind, step, text, data FROM journalentry WHERE seq > ? "
    "AND kind IN ('step started', 'step ended', 'run ended', 'deviation') ORDER BY seq"
)


class RunPage:
    """One run.

    Args:
        directory: Of the store.
        run_id: The run, by its whole id.

    Attributes:
        program: What the program expands to: ``steps``, ``limits``, ``text``; empty until it is
            worked out.
    """

    def __init__(self, directory: Path, run_id: str) -> None:
        self.run_id = run_id
        self.path = directory / "runs" / f"{run_id}.sqlite"
        self.program: Mapping[str, Any] = {}
        self._directory = directory
        self._progress = Progress()
        self._deviations: list[dict[str, Any]] = []
        self._seq = -1
        self._told: dict[str, Any] = {}
        self._lock = threading.Lock()

    @cached_property
    def facts(self) -> Facts:
        """What does not change of it."""
        return facts_of(RunReader(self.path))

    def whole(self) -> dict[str, Any]:
        """All there is to show."""
        with self._lock:
            found = self._now()
            self._fold()
            return self._summary(found) | self._parts(found) | self._lasting()

    def changed(self) -> tuple[dict[str, Any] | None, bool]:
        """What is new since the last time, None for nothing; whether its process is there."""
        with self._lock:
            found = self._now()
            folded = self._fold()
            shown, parts = self._summary(found), self._parts(found, with_tree=folded)
            fresh = {name: each for name, each in parts.items() if self._told.get(name) != each}
            if shown == self._told.get("summary") and not fresh:
                return None, found.under_way
            self._told |= parts | {"summary": shown}
            return shown | fresh, found.under_way

    @property
    def step(self) -> str:
        """Path of the step that was begun last."""
        return self._progress.now

    def _now(self) -> Summary:
        with Store(self._directory, make=False) as store:
            return summary(store, store.find(self.run_id))

    def _summary(self, found: Summary) -> dict[str, Any]:
        shown = found.model_dump(mode="json")
        if found.area_m2 is None:
            shown["area_m2"] = self.facts.area_m2
        return shown

    def _parts(self, found: Summary, *, with_tree: bool = True) -> dict[str, Any]:
        """What changes now and then."""
        shown: dict[str, Any] = {
            "actions": actions_of(found),
            "deviations": list(self._deviations),
            "step_path": self.step,
        }
        if with_tree:
            shown["program"] = tree(self.program.get("steps", ()), self._progress)
        return shown

    def _lasting(self) -> dict[str, Any]:
        return {
            "limits": self.program.get("limits", []),
            "identities": self.facts.identities,
            "analyses": [{"name": name, "title": title_of(name)} for name in self.facts.analyses],
        }

    def _fold(self) -> bool:
        """Take in what the journal has new; returns whether the program's state changed."""
        with reading(self.path) as connection:
            rows = connection.execute(_FOLDED, (self._seq,)).fetchall()
        changed = False
        for seq, time_s, kind, step, text, data in rows:
            self._seq = seq
            if kind == "deviation":
                self._deviations.append({"time_s": time_s, "step": step, "text": text})
            else:
                changed |= self._progress.take(kind, step, json.loads(data or "{}"))
        return changed


class RunPages:
    """The pages of the runs that were looked at lately.

    Args:
        directory: Of the store.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pages: OrderedDict[str, RunPage] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: Run) -> RunPage:
        """The page of a run."""
        with self._lock:
            page = self._pages.pop(run.id, None) or RunPage(self._directory, run.id)
            self._pages[run.id] = page
            while len(self._pages) > _PAGES:
                self._pages.popitem(last=False)
            return page


def actions_of(found: Summary) -> Sequence[str]:
    """What can be asked of a run now."""
    match found.state:
        case "running" | "held" | "asking":
            pause = "continue" if PAUSE in found.holds else "pause"
            answer = ["answer"] if found.prompt is not None else []
            return [*answer, pause, "skip", "stop", "abort", "quiet", "note"]
        case "ending":
            return []
        case "silent" | "lost":
            return ["quiet"]
    return []
