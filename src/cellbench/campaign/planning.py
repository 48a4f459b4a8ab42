"""When a campaign's runs begin and end, and what they wait for: it is carried out in no time.

The plans of its runs are played on a virtual clock, by what carries the campaign out and leases its
instruments: who waits for whom follows from the same rules. Steps take as long as they can, so all
of it is "at most"; a step of unknown duration counts for the least that it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from cellbench import clock
from cellbench.campaign.conducting import CarryingOut
from cellbench.campaign.loading import Campaign
from cellbench.campaign.outline import Turn
from cellbench.campaign.standing import Progress
from cellbench.engine.leases import Claim, Leases, Wait
from cellbench.engine.owner import Prepared, RunRequest
from cellbench.engine.run import RunEnd, RunState
from cellbench.protocol.plan import PlanRow
from cellbench.protocol.program import EisStep
from cellbench.protocol.walk import Walk
from cellbench.report.wording import count, duration
from cellbench.store import Run


@dataclass(frozen=True)
class PlannedTurn:
    """When one turn is had, since the start.

    Attributes:
        begins_s, ends_s: At the latest; the wait for what it needs for its whole length included.
        waits_s: For what it waits, and how long in all.
        unknown: Whether a step of it has no foreseeable end.
    """

    cell: str
    protocol: str
    begins_s: float
    ends_s: float
    waits_s: Mapping[str, float]
    unknown: bool

    @property
    def waits(self) -> str:
        """What it waits for, in words."""
        return ", ".join(f"{what} {duration(each)}" for what, each in self.waits_s.items())


@dataclass(frozen=True)
class CampaignPlan:
    """A campaign's turns that are left, in the order in which they begin."""

    name: str
    turns: Sequence[PlannedTurn]

    @property
    def lasts_s(self) -> float:
        """How long all of it takes."""
        return max((each.ends_s for each in self.turns), default=0.0)

    @property
    def unknown(self) -> int:
        """How many of its turns have no foreseeable end."""
        return sum(each.unknown for each in self.turns)

    def answer(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "campaign": self.name,
            "lasts_s": self.lasts_s,
            "unknown": self.unknown,
            "runs": [asdict(each) for each in self.turns],
        }

    def headline(self) -> str:
        """It in one line for people."""
        runs = count(len(self.turns), "run")
        more = f" and {count(self.unknown, 'run')} of unknown duration" if self.unknown else ""
        return f"{self.name}: {runs} to come, at most {duration(self.lasts_s)}{more}"


def plan_campaign(campaign: Campaign, progress: Progress) -> CampaignPlan:
    """Plan what is left of a campaign; what is to be resumed counts whole."""
    bench = _PlayedBench(campaign, progress)
    carrying = CarryingOut(campaign, progress, bench, bench.hear)
    clock.run(carrying.to_the_end(), virtual=True)
    turns = [
        PlannedTurn(
            cell=turn.specimen,
            protocol=campaign.outline.trial_of(turn).protocol,
            begins_s=had.begins_s,
            ends_s=had.ends_s,
            waits_s=had.waits_s,
            unknown=campaign.of(turn).planned.duration_max_s is None,
        )
        for turn, had in bench.had.items()
    ]
    return CampaignPlan(campaign.outline.name, turns)


@dataclass(frozen=True)
class _Course:
    """How a run goes.

    Attributes:
        whole: What it leases for its whole length.
        spectrum: What it leases for a spectrum.
        parts_s: How long without that, and how long with it, by turns.
    """

    whole: Sequence[Claim]
    spectrum: Sequence[Claim]
    parts_s: Sequence[tuple[bool, float]]


@dataclass
class _Had:
    """When a turn was had, and for how long it waited for what."""

    begins_s: float
    ends_s: float = 0.0
    waits_s: dict[str, float] = field(default_factory=dict)


class _PlayedBench:
    """Conducts runs by letting as much time pass as they plan; see `Conducts`.

    Attributes:
        had: The turns, in the order in which they began.
    """

    def __init__(self, campaign: Campaign, progress: Progress) -> None:
        self.had: dict[Turn, _Had] = {}
        self._leases = Leases()
        self._at: dict[str, Turn] = {}
        self._courses = {key: _course(each) for key, each in campaign.prepared.items()}
        self._turn_of = {each.run_id: each.turn for each in progress.standings}

    def hear(self, turn: Turn, _text: str) -> None:
        """Called when a turn begins, just before its run is asked for, and when it ends."""
        now_s = asyncio.get_running_loop().time()
        self._at[turn.place] = turn
        self.had.setdefault(turn, _Had(now_s)).ends_s = now_s

    async def run(self, request: RunRequest) -> RunEnd:
        """Let the time pass that a run takes."""
        return await self._play(self._at[request.place])

    async def resume(self, run_id: str) -> RunEnd:
        """Let the time pass that it takes as a whole."""
        return await self._play(self._turn_of[run_id])

    async def _play(self, turn: Turn) -> RunEnd:
        course = self._courses[turn.line, turn.cell]
        async with self._leased(turn, course.whole):
            for is_spectrum, lasts_s in course.parts_s:
                async with self._leased(turn, course.spectrum if is_spectrum else ()):
                    await asyncio.sleep(lasts_s)
        run = Run(id="", protocol="", cell="", bench="", simulated=True, started=datetime.now(UTC))
        return RunEnd(run, RunState.COMPLETED, "", (), 0)

    @asynccontextmanager
    async def _leased(self, turn: Turn, claims: Sequence[Claim]) -> AsyncIterator[None]:
        waits_s, began_s = self.had[turn].waits_s, asyncio.get_running_loop().time()
        waits_for: list[str] = []

        def waits(wait: Wait) -> None:
            waits_for.append(", ".join(wait.what))

        async with self._leases.lease(turn.specimen, claims, waits=waits):
            for what in waits_for:
                waited_s = asyncio.get_running_loop().time() - began_s
                waits_s[what] = waits_s.get(what, 0.0) + waited_s
            yield


def _course(prepared: Prepared) -> _Course:
    session = prepared.session
    wired = {name for each in session.file.wiring.values()
             for name in (each.impedance, each.changeover)}  # fmt: skip
    spectra = {step.path for step in Walk(session.program, planning=True)
               if isinstance(step, EisStep)}  # fmt: skip
    by_kind = groupby(prepared.planned.rows, key=lambda row: row.path in spectra)
    return _Course(
        prepared.needs.whole,
        [Claim(name) for name in sorted(wired & session.shared)],
        [(is_spectrum, sum(map(_longest_s, rows))) for is_spectrum, rows in by_kind],
    )


def _longest_s(row: PlanRow) -> float:
    return row.duration_max_s or row.duration_min_s or 0.0
