"""What a bench can do for the laboratory: its places, the cells there, and their instruments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cellbench.analysis import available
from cellbench.bench import BenchFile
from cellbench.cell import CellCard
from cellbench.engine.named_bench import read_bench
from cellbench.engine.places import Places, card_of
from cellbench.engine.session import Session, on_bench, places
from cellbench.errors import InputError
from cellbench.laboratory.jobs import Work
from cellbench.protocol import check
from cellbench.protocol.loading import load_card
from cellbench.protocol.program import Program
from cellbench.transport.ownership import is_free

#: What makes no difference to whether a place can run a job.
_NOT_JUDGED = {"submission", "deadline", "by", "campaign", "replicate", "replicates"}


@dataclass(frozen=True)
class Place:
    """Where a cell sits.

    Attributes:
        name: Empty on a bench with one cell.
        file: What it has, as a bench with one cell.
        card: Of the cell that is there, None where nobody has said.
        card_text: Its file's text.
    """

    name: str
    file: BenchFile
    card: CellCard | None = None
    card_text: str = ""

    def __str__(self) -> str:
        return self.name or "the cell"


class Offer:
    """What one bench can do.

    Args:
        bench: Its file.
        cell: Card of the cell that is on it, for a bench with one.

    Raises:
        InputError: The bench file or the card is wrong.
    """

    def __init__(self, bench: Path, cell: str | None = None) -> None:
        self.path = bench
        self._bench = read_bench(bench)
        self.file = self._bench.file
        self.simulated = self.file.is_simulated
        self.places = self._places(cell)
        self._verdicts: dict[str, dict[str, str]] = {}

    def _places(self, cell: str | None) -> dict[str, Place]:
        if not self.file.cells:
            return {"": Place("", self.file, *_card(cell))}
        if cell is not None:
            raise InputError(f"{self.file.bench} has many cells: its file says which, under cells:")
        return {
            name: Place(name, self.file.of_place(name), *_card(card_of(self._bench, name)))
            for name in self.file.cells
        }

    def place(self, name: str) -> Place:
        """Return one of its places.

        Raises:
            InputError: There is no such place.
        """
        if name not in self.places:
            raise InputError(f"{self.file.bench} has no place {name} any more")
        return self.places[name]

    def resolved(self, work: Work, name: str) -> tuple[Program, str]:
        """What a job says for the cell in a place: its program, and the text of the card.

        Raises:
            InputError: It is not for that cell, or wrong; says why.
        """
        card, text = self._card_for(work, self.place(name))
        return work.program(card), text

    def session(self, work: Work, name: str) -> Session:
        """Put what a job says on a place.

        Raises:
            InputError: It cannot be run there; says why.
        """
        program, text = self.resolved(work, name)
        if name:
            session = Places(self._bench, only=[name]).put(program, text, name)
        else:
            session = on_bench(program, text, self._bench, seed=work.replicate)
        check(session.program, session.declared(), available()).raise_problems()
        return session

    def why_not(self, work: Work) -> dict[str, str]:
        """Why a job cannot be run on each place, whoever is there now; empty where it can."""
        said = work.model_dump_json(exclude=_NOT_JUDGED)
        key = hashlib.sha256(said.encode()).hexdigest()
        if key not in self._verdicts:
            self._verdicts[key] = {name: self._judged(work, name) for name in self.places}
        return dict(self._verdicts[key])

    def _judged(self, work: Work, name: str) -> str:
        try:
            self.session(work, name)
        except InputError as error:
            return str(error).partition("\n")[0]
        return ""

    def _card_for(self, work: Work, place: Place) -> tuple[CellCard, str]:
        """The card that counts: the job's own, if it is that of the cell in the place."""
        if work.place and work.place != place.name:
            raise InputError(f"it is for {work.place}")
        sent = work.own_card()
        if sent is None:
            if place.card is None:
                raise InputError(f"nobody has said which cell is in {place}: give it a card")
            return place.card, place.card_text
        if place.card is None:
            if not self.simulated and not work.bench:
                raise InputError(
                    f"nobody has said which cell is in {place}: --cell CARD says so to the "
                    "service, or submit it with --bench"
                )
        elif work.place:
            return sent, work.card  # somebody knows better than the bench file
        elif place.card.cell != sent.cell:
            raise InputError(f"{place} holds {place.card.cell}, not {sent.cell}")
        elif place.card != sent:
            raise InputError(f"the card of {sent.cell} that is in {place} says otherwise")
        return sent, work.card

    @property
    def has_lasting_cells(self) -> bool:
        """Whether its cells stay from job to job; the simulated bench with one makes a new one."""
        return bool(self.file.cells) or not self.simulated

    @property
    def has_owner(self) -> bool:
        """Whether one process runs all of its jobs, since its places share instruments."""
        return bool(self.file.shared)

    def is_vacant(self, name: str, *, owned: bool) -> bool:
        """Whether no process of this computer has one of a place's instruments.

        Args:
            name: Of the place.
            owned: Whether the bench's owner is at work: it has what is shared, and lends it.
        """
        found = {} if self.simulated else places(self.place(name).file, self._bench.beside)
        ours = self.file.shared if owned else frozenset()
        return all(is_free(each) for instrument, each in found.items() if instrument not in ours)


def _card(name: str | None) -> tuple[CellCard | None, str]:
    return (None, "") if name is None else load_card(None, name)
