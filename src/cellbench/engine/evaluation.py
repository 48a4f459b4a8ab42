"""After a run: its analyses, the closing lines, the report. Computed from the run's file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellbench.analysis import Result, analyse
from cellbench.analysis.dataset import Dataset
from cellbench.analysis.stored import environment, stored_dataset
from cellbench.cell import CellCard
from cellbench.protocol import parse_card
from cellbench.report.html import render
from cellbench.report.text import result_lines
from cellbench.store import Run, RunReader, Store


@dataclass(frozen=True)
class Evaluation:
    """A run's data, seen through a card, and what its analyses make of it.

    Attributes:
        failures: Why an analysis could not be done, by its name.
    """

    run: Run
    reader: RunReader
    dataset: Dataset
    results: Mapping[str, Result]
    failures: Mapping[str, str]

    def answer(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "run": self.run.id,
            "protocol": self.run.protocol,
            "state": self.run.state,
            "reason": self.run.reason,
            "results": dict(self.results),
        } | ({"failures": dict(self.failures)} if self.failures else {})

    def lines(self, report: Path | None = None) -> list[str]:
        """The closing lines for people."""
        failed = [f"{name}: not possible: {why}" for name, why in self.failures.items()]
        return [*result_lines(self.run, self.reader, self.dataset, self.results, report), *failed]


def evaluate(
    store: Store, run: Run, card: CellCard, analyses: Sequence[str] | None = None
) -> Evaluation:
    """Do a run's analyses (or others), following ``card``."""
    reader = RunReader(store.run_path(run.id))
    dataset = stored_dataset(reader, card)
    names = environment(reader)["analyses"] if analyses is None else analyses
    results: dict[str, Result] = {}
    failures: dict[str, str] = {}
    for name in names:
        try:
            results[name] = analyse(name, dataset)
        except ValueError as error:
            # A run that ended early may not hold what its analysis needs; its data are kept.
            failures[name] = str(error)
    return Evaluation(run, reader, dataset, results, failures)


def evaluate_as_kept(store: Store, run: Run, analyses: Sequence[str] | None = None) -> Evaluation:
    """Do a run's analyses (or others), following the card that was kept with it."""
    reader = RunReader(store.run_path(run.id))
    card = parse_card(reader.documents["cell"], f"the card of run {run.id}")
    return evaluate(store, run, card, analyses)


def write_report(evaluation: Evaluation, path: Path | None = None) -> Path:
    """Write the report, by default beside the run's file; returns where it is."""
    target = path or evaluation.reader.path.with_suffix(".html")
    html = render(evaluation.reader, evaluation.run, evaluation.dataset, evaluation.results)
    target.write_text(html, encoding="utf-8")
    return target
