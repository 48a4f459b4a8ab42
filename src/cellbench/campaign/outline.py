"""What a campaign comes to: whose turn it is at which protocol, in order. Kept with the store.

The outline says all that is needed to find a campaign's runs again, whatever becomes of the files
that it was made of.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cellbench.campaign.file import CampaignFile
from cellbench.errors import StoreError
from cellbench.store import Store
from cellbench.store.files import whole
from cellbench.store.places import CAMPAIGNS


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Turn(_Kept):
    """One cell's turn at one protocol.

    Attributes:
        line: Of ``runs:``, from 0.
        cell: The place or card, as the file names it.
        place: On a bench of many, empty on one with a single cell.
        replicate: From 1.
        specimen: The one physical cell that it is: what dies, and ends its series.
        stage: Turns of a stage begin when those of the stage before have all ended.
    """

    line: int
    cell: str
    place: str
    replicate: int
    specimen: str
    stage: int


class Trial(_Kept):
    """What one line of ``runs:`` is on one of the cells, as its run keeps it.

    Attributes:
        line, cell: As of the turn.
        protocol: Its title.
        card: The name that the card has for the cell.
        parameters: As texts, by name.
    """

    line: int
    cell: str
    protocol: str
    card: str
    parameters: dict[str, str]


class Outline(_Kept):
    """A campaign's turns in order, and what each is.

    Attributes:
        file: Where it was written down.
        each_cell: Whether the replicates are those of each cell; else all cells are replicates.
    """

    name: str
    file: str
    each_cell: bool
    turns: tuple[Turn, ...]
    trials: tuple[Trial, ...]

    def trial_of(self, turn: Turn) -> Trial:
        """What a turn is."""
        return self._by_turn[turn.line, turn.cell]

    @cached_property
    def _by_turn(self) -> Mapping[tuple[int, str], Trial]:
        return {(each.line, each.cell): each for each in self.trials}


def turns_of(file: CampaignFile, places: Collection[str]) -> tuple[Turn, ...]:
    """Whose turn it is at which protocol, in order.

    Args:
        file: The campaign.
        places: Of the bench, none of one with a single cell: there a replicate is another cell.
    """
    if file.order == "by cell":
        return tuple(_turn(file, places, line, cell, number, 0)
                     for cell, number in _replicates(file)
                     for line in range(len(file.runs)))  # fmt: skip
    return tuple(_turn(file, places, line, cell, number, line)
                 for line in range(len(file.runs))
                 for cell, number in _replicates(file))  # fmt: skip


def _replicates(file: CampaignFile) -> Iterator[tuple[str, int]]:
    """Each cell with the number of its replicate."""
    for number, cell in enumerate(file.cells, start=1):
        if file.replicates is None:
            yield cell, number
        else:
            yield from ((cell, each) for each in range(1, file.replicates + 1))


def _turn(
    file: CampaignFile, places: Collection[str], line: int, cell: str, replicate: int, stage: int
) -> Turn:
    several = not places and file.replicates is not None
    return Turn(
        line=line,
        cell=cell,
        place=cell if places else "",
        replicate=replicate,
        specimen=f"{cell} {replicate}" if several else cell,
        stage=stage,
    )


# --- Kept with the store ------------------------------------------------------------------------


def keep(store: Store, outline: Outline) -> None:
    """Keep an outline beside the catalogue, in place of an earlier one of the campaign."""
    path = _path(store, outline.name)
    with whole(path) as part:
        path.parent.mkdir(exist_ok=True)
        part.write_text(outline.model_dump_json(indent=1), encoding="utf-8")


def kept(store: Store, name: str) -> Outline | None:
    """Return the outline of a campaign that was begun, None if none of this name was.

    Raises:
        StoreError: Another version of cellbench wrote it.
    """
    path = _path(store, name)
    try:
        return Outline.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StoreError(f"{path} is of another version of cellbench; name the file") from error


def campaigns(store: Store) -> Sequence[str]:
    """Names of the campaigns that were begun."""
    found = []
    for path in sorted((store.directory / CAMPAIGNS).glob("*.json")):
        with suppress(ValidationError):  # another version's
            found.append(Outline.model_validate_json(path.read_bytes()).name)
    return found


def _path(store: Store, name: str) -> Path:
    # Two names must not become one file, whatever characters they differ in.
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name)[:60].strip("_")
    return store.directory / CAMPAIGNS / f"{readable}.{zlib.crc32(name.encode()):08x}.json"
