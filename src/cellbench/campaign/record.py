"""What came of a campaign: for each protocol its cells as one record, and which cells ended early.

Everything is computed from the runs' own files. A failure rate counts the runs that have ended; a
turn that was not begun, since its cell had died before, is told beside it: it is no failure of
that protocol. How many cells ended early is told of the campaign as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from cellbench import __version__
from cellbench.analysis.dataset import Result
from cellbench.analysis.replicates import statistics
from cellbench.campaign.outline import Outline
from cellbench.campaign.standing import DEAD, Progress, Standing, State
from cellbench.engine.evaluation import Evaluation, evaluate_as_kept
from cellbench.report.benchmark import (
    ShownRecord,
    benchmark_record,
    describe,
    plots,
    shown_record,
)
from cellbench.report.html import environment
from cellbench.report.tables import Table
from cellbench.store import Store

_ENDED = (State.COMPLETED, *sorted(DEAD))


@dataclass(frozen=True)
class Group:
    """Replicates of one run: of all cells, or of each cell alone.

    Attributes:
        cell: None where all cells are replicates.
        ended: Its runs that have ended, as `record` has them; that is None where there are none.
        left: Its turns that were not had, or not to their end.
    """

    protocol: str
    cell: str | None
    parameters: Mapping[str, str]
    ended: Sequence[Evaluation]
    record: Result | None
    left: Sequence[Standing]

    @property
    def title(self) -> str:
        """What it is called."""
        return self.protocol if self.cell is None else f"{self.protocol}, {self.cell}"

    @cached_property
    def shown(self) -> ShownRecord | None:
        """Its record as a page shows it, None where none of its runs has ended."""
        return None if self.record is None else shown_record(self.ended, self.record)

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "protocol": self.protocol,
            "cell": self.cell,
            "parameters": dict(self.parameters),
            "record": self.record,
            "left": [each.answer() for each in self.left],
        }

    def told_left(self) -> Iterator[str]:
        """Its turns that were not had, a line for each kind of reason."""
        reasons: dict[str, list[str]] = {}
        for each in self.left:
            text = f"{each.state}: {each.why}" if each.why else str(each.state)
            reasons.setdefault(text, []).append(each.turn.specimen)
        for text, cells in reasons.items():
            yield f"{', '.join(cells)} {text}"


def groups_of(outline: Outline, progress: Progress, store: Store) -> Iterator[Group]:
    """Put the runs of a campaign together that are replicates of each other."""

    def key(each: Standing) -> tuple[int, str]:
        return each.turn.line, each.turn.cell if outline.each_cell else ""

    for (_, cell), members in groupby(sorted(progress.standings, key=key), key=key):
        standings = list(members)
        ended = [
            evaluate_as_kept(store, each.run)
            for each in standings
            if each.run is not None and each.state in _ENDED
        ]
        yield Group(
            protocol=standings[0].trial.protocol,
            cell=cell or None,
            parameters=standings[0].trial.parameters,
            ended=ended,
            record=benchmark_record(ended, at_least=1) if ended else None,
            left=[each for each in standings if each.state not in _ENDED],
        )


def cells_record(progress: Progress) -> Result:
    """How many cells came through, of those that are through or ended early."""
    cells: dict[str, list[Standing]] = {}
    for each in progress.standings:
        cells.setdefault(each.turn.specimen, []).append(each)
    early = {name: _death(turns) for name, turns in cells.items()}
    through = [name for name, turns in cells.items() if _is_through(turns)]
    lost = {name: death for name, death in early.items() if death is not None}
    found: Result = {"cells": len(cells), "through": through, "ended_early": [
        {"cell": name, "protocol": death.trial.protocol, "state": str(death.state),
         "why": death.why, "run": death.run_id}
        for name, death in lost.items()
    ]}  # fmt: skip
    if lost or through:
        judged = statistics([None] * len(lost) + [{}] * len(through), failed=lambda _: False)
        found |= {name: each for name, each in judged.items() if name != "quantities"}
    return found


def _death(turns: Sequence[Standing]) -> Standing | None:
    return next((each for each in turns if each.state in DEAD), None)


def _is_through(turns: Sequence[Standing]) -> bool:
    return all(each.state is State.COMPLETED for each in turns)


def ended_early(record: Result) -> str:
    """How many cells ended early, in words."""
    if "replicates" not in record:
        return "no cell is through yet"
    low, high = record["failure_rate_low_percent"], record["failure_rate_high_percent"]
    return (
        f"{record['failed']} of {record['replicates']} cells "
        f"({record['failure_rate_percent']:.3g} %, 95 %: {low:.2g} to {high:.2g} %)"
    )


def campaign_record(progress: Progress, groups: Sequence[Group]) -> Result:
    """The report of a campaign as JSON values."""
    return {
        "campaign": progress.name,
        "over": progress.is_over,
        **cells_record(progress),
        "groups": [each.answer() for each in groups],
    }


def lines_of(progress: Progress, groups: Sequence[Group]) -> Iterator[str]:
    """The report of a campaign in lines for people."""
    record = cells_record(progress)
    yield progress.headline()
    yield f"ended early: {ended_early(record)}"
    for cell in record["ended_early"]:
        yield f"  {cell['cell']}   {cell['protocol']}: {cell['why']}   {cell['run']}"
    for group in groups:
        yield ""
        head, *rest = describe(group.record) if group.record else [f"{group.title}: no run ended"]
        yield head if group.cell is None else f"{group.cell}: {head}"
        yield from rest
        yield from (f"  {line}" for line in group.told_left())


def render(progress: Progress, groups: Sequence[Group]) -> str:
    """The report of a campaign as the text of one HTML file; it asks nothing of any network."""
    runs = [each.run for each in progress.standings if each.run is not None]
    return (
        environment()
        .get_template("campaign.html.j2")
        .render(
            campaign=progress.name,
            version=__version__,
            simulated=any(run.simulated for run in runs),
            headline=progress.headline().removeprefix(f"{progress.name}: "),
            ended_early=ended_early(cells_record(progress)),
            cells=_turns_table(progress),
            groups=groups,
            data=plots([each.shown for each in groups if each.shown is not None]),
        )
    )


def _turns_table(progress: Progress) -> Table:
    rows = [
        [each.turn.specimen, each.trial.protocol, str(each.state),
         each.run_id, each.told]
        for each in progress.standings
    ]  # fmt: skip
    classes = ["short" if each.state in DEAD else "" for each in progress.standings]
    return Table("Runs in their order", ("cell", "protocol", "state", "run", "why"), rows, classes)
