"""Carrying a campaign out: places at once, the turns of each one after the other.

A run that does not complete ends the series of its cell, and of no other. What was had before is
not done again, and what was interrupted is gone on with, not begun again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from pathlib import Path
from typing import Protocol

from cellbench.campaign.loading import Campaign
from cellbench.campaign.outline import Turn
from cellbench.campaign.standing import DEAD, RESUMABLE, Progress, Standing, State
from cellbench.engine.owner import RunRequest
from cellbench.engine.run import RunEnd, RunState
from cellbench.errors import CellbenchError, InputError, InstrumentError
from cellbench.transport.ownership import Ownership, owner_of


class Conducts(Protocol):
    """Whoever has the bench, as `Owner`: conducts runs to their ends, at several places at once."""

    async def run(self, request: RunRequest) -> RunEnd:
        """Begin a run, and conduct it to its end, however it ends."""

    async def resume(self, run_id: str) -> RunEnd:
        """Go on with a run that was lost or interrupted."""


#: Told of each turn as it begins and as it ends.
Tell = Callable[[Turn, str], None]


def alone_with(name: str, store: Path) -> AbstractContextManager[Ownership]:
    """Have a campaign for this process alone: two would begin the same runs.

    Raises:
        InputError: Another process carries it out.
    """
    place = f"campaign {name} in {store.resolve()}"
    ownership = Ownership(f'campaign "{name}"')
    try:
        ownership.take(name, place)
    except InstrumentError as error:
        who = owner_of(place)
        raise InputError(f'the campaign "{name}" is carried out by {who}') from error
    return ownership


def require_ready(progress: Progress) -> None:
    """See that what the store has of a campaign is of this one, and that nobody conducts it.

    Raises:
        InputError: It is not.
    """
    if progress.strangers:
        runs = ", ".join(run.id for run in progress.strangers[:5])
        raise InputError(
            f"{runs}: kept as of this campaign, but the file has no such run (any more): give the "
            "campaign another name, or undo the change"
        )
    for each in progress.having(State.UNDER_WAY):
        assert each.run is not None  # noqa: S101 (what is under way is a run)
        raise InputError(
            f"run {each.run.id} ({each.turn.specimen}, {each.trial.protocol}) is under way in "
            "another process: wait for it to end, or end it"
        )


class CarryingOut:
    """Carries a campaign out.

    Args:
        campaign: The campaign.
        progress: How far it is.
        conducts: Who has the bench.
        tell: Told what happens.

    Attributes:
        specimens: The cells whose turns are carried out.
        trouble: Why runs could not be begun or gone on with.
    """

    def __init__(
        self, campaign: Campaign, progress: Progress, conducts: Conducts, tell: Tell
    ) -> None:
        self.trouble: list[CellbenchError] = []
        self._campaign, self._conducts, self._tell = campaign, conducts, tell
        self._standings = progress.standings
        self.specimens = {each.turn.specimen for each in progress.standings}
        self._ended = {each.turn.specimen for each in progress.having(*DEAD)}

    async def to_the_end(self) -> None:
        """Have every turn that is left."""
        for _, stage in groupby(self._standings, key=lambda each: each.turn.stage):
            # Whatever becomes of one of them, the others go on to their ends.
            series = (self._series(each) for each in _by_place(list(stage)))
            ends = await asyncio.gather(*series, return_exceptions=True)
            for error in (each for each in ends if each is not None):
                raise error

    async def _series(self, series: Sequence[Standing]) -> None:
        for standing in series:
            specimen = standing.turn.specimen
            if standing.state is State.COMPLETED or specimen in self._ended:
                continue
            end = await self._have(standing)
            if end is None or end.state is not RunState.COMPLETED:
                self._ended.add(specimen)

    async def _have(self, standing: Standing) -> RunEnd | None:
        """Have one turn; None if it could not be."""
        turn, run = standing.turn, standing.run
        again = run is not None and standing.state in RESUMABLE
        self._tell(turn, f"{'goes on' if again else 'begins'}: {standing.trial.protocol}")
        try:
            if run is not None and again:
                end = await self._conducts.resume(run.id)
            else:
                end = await self._conducts.run(self._campaign.request(turn))
        except CellbenchError as error:
            # Another place has other instruments, and may do better.
            self.trouble.append(error)
            self._tell(turn, f"cannot be run: {error}")
            return None
        self._tell(turn, f"{end.state}: {end.reason}   {end.run.id}")
        return end


def _by_place(stage: Sequence[Standing]) -> Iterator[Sequence[Standing]]:
    for place in dict.fromkeys(each.turn.place for each in stage):
        yield [each for each in stage if each.turn.place == place]
