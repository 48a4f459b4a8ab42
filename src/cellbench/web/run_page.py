"""One run as its page shows it: its summary, what its program has come to, what can be done."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from cellbench.engine.overview import Summary, summary
from cellbench.engine.steering import PAUSE
from cellbench.report.wording import title_of
from cellbench.store import Run, RunReader, Store
from cellbench.web.course import Course
from cellbench.web.facts import Facts, facts_of
from cellbench.web.program_tree import tree
from cellbench.web.traces import reading

_PAGES = 100


class RunPage:
    """One run.

    Args:
        store: The catalogue.
        run_id: The run, by its whole id.

    Attributes:
        program: What the program expands to: ``steps``, ``limits``, ``text``; None until that is
            worked out.
        course: What has become of it.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self.path = store.without_samples(run_id)
        self.program: Mapping[str, Any] | None = None
        self.course = Course()
        self._store = store
        self._told: dict[str, Any] = {}
        self._drawn: Mapping[str, Any] | None = None
        self._lock = threading.Lock()

    @cached_property
    def facts(self) -> Facts:
        """What does not change of it."""
        return facts_of(RunReader(self.path))

    def whole(self) -> dict[str, Any]:
        """All there is to show."""
        found = self._now()  # which waits for a run that is silent
        with self._lock:
            self._update()
            return self._summary(found) | self._parts(found) | self._lasting()

    def changed(self) -> tuple[dict[str, Any] | None, bool]:
        """What is new since the last time, None for nothing; whether its process is there."""
        found = self._now()
        with self._lock:
            folded = self._update() or self._drawn is not self.program
            self._drawn = self.program
            shown, parts = self._summary(found), self._parts(found, with_tree=folded)
            fresh = {name: each for name, each in parts.items() if self._told.get(name) != each}
            if shown == self._told.get("summary") and not fresh:
                return None, found.under_way
            self._told |= parts | {"summary": shown}
            return shown | fresh, found.under_way

    def spans(self, from_s: float, to_s: float) -> list[dict[str, Any]]:
        """When current flowed, and spectra were measured."""
        with self._lock:
            self._update()
            return self.course.spans(from_s, to_s, self.facts.area_m2)

    def _now(self) -> Summary:
        self.path = self._store.without_samples(self.run_id)  # brought up to date, if it is a copy
        return summary(self._store, self._store.find(self.run_id))

    def _summary(self, found: Summary) -> dict[str, Any]:
        shown = found.model_dump(mode="json")
        if found.area_m2 is None:
            shown["area_m2"] = self.facts.area_m2
        return shown

    def without_program(self) -> None:
        """Its program cannot be made: what the journal tells of it has to do."""
        text = RunReader(self.path).documents.get("protocol", "")
        self.program = {"steps": [], "limits": [], "name": "", "text": text}

    def _parts(self, found: Summary, *, with_tree: bool = True) -> dict[str, Any]:
        """What changes now and then."""
        shown: dict[str, Any] = {
            "actions": actions_of(found) if self._store.elsewhere(self.run_id) is None else [],
            "deviations": list(self.course.deviations),
            "step_path": self.course.now,
        }
        if with_tree:
            program = self.program
            shown["program"] = None if program is None else tree(program["steps"], self.course)
            shown["limits"] = [] if program is None else program["limits"]
        return shown

    def _lasting(self) -> dict[str, Any]:
        return {
            "identities": self.facts.identities,
            "analyses": [{"name": name, "title": title_of(name)} for name in self.facts.analyses],
        }

    def _update(self) -> bool:
        with reading(self.path) as connection:
            return self.course.update(connection)


class RunPages:
    """The pages of the runs that were looked at lately.

    Args:
        store: The catalogue.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: OrderedDict[str, RunPage] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: Run) -> RunPage:
        """The page of a run."""
        with self._lock:
            page = self._pages.pop(run.id, None) or RunPage(self._store, run.id)
            self._pages[run.id] = page
            while len(self._pages) > _PAGES:
                self._pages.popitem(last=False)
            return page


def actions_of(found: Summary) -> Sequence[str]:
    """What can be asked of a run now."""
    answer = ["answer"] if found.prompt is not None else []
    match found.state:
        case "running" | "held" | "asking":
            pause = "continue" if PAUSE in found.holds else "pause"
            return [*answer, pause, "skip", "stop", "abort", "emergency", "note"]
        case "ending":
            return answer
        case "silent" | "lost":
            return ["emergency"]
    return []
