"""What a job is: a protocol for a cell, with all that a bench needs to run it, kept verbatim.

A job is sent by one program and begun by another, on another computer: what comes out of the
database is validated whole before anything looks at it, and no file is read for it but those that
ship.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    StringConstraints,
    ValidationError,
)

from cellbench import library
from cellbench.cell import CellCard
from cellbench.errors import CellbenchError, InputError
from cellbench.protocol.loading import (
    carried_card,
    carried_protocol,
    load_card,
    load_protocol,
    parse_settings,
)
from cellbench.protocol.program import Program, SourceFile
from cellbench.protocol.source import MAX_BYTES
from cellbench.quantities import QuantityError, parse
from cellbench.untrusted import Strict, printable

VERSION: Literal[1] = 1
#: A job whose JSON is longer is refused unread.
WORK_MAX_BYTES = 8_000_000
REPLICATES_MAX = 1000
_NAME_MAX = 120


class RefusedJob(CellbenchError):
    """What is in the queue is no job that could be run; the message says why."""


def _file_name(text: str) -> str:
    if re.search(r"[/\\:]", text) or text in {".", ".."}:
        raise ValueError("is not the name of a file alone")
    return printable(text)


_Name = Annotated[str, StringConstraints(max_length=_NAME_MAX), AfterValidator(printable)]
_Text = Annotated[str, StringConstraints(max_length=MAX_BYTES)]


class Source(Strict):
    """A file of the protocol, verbatim: itself, or one that it includes."""

    name: Annotated[
        str, StringConstraints(min_length=1, max_length=_NAME_MAX), AfterValidator(_file_name)
    ]
    text: _Text


def _different(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    if len({each.name for each in sources}) < len(sources):
        raise ValueError("has two files of one name")
    return sources


class Work(Strict):
    """What a job says, as it stands in the queue.

    Attributes:
        title: The protocol's name, for lists.
        sources: The protocol, then what it includes.
        card: Text of the cell card; empty where the place's own counts.
        cell: What the cell is called, for lists.
        place: Where it is on its bench; empty for wherever the card's cell is.
        bench: The one that is to run it; empty for any.
        sets: Parameters as ``name=value``.
        submission: What was submitted at once has this in common: its replicates are not run on
            one cell.
        campaign: The campaign that it belongs to, kept with its run.
        replicate, replicates: Which of how many.
        deadline: When it must have begun.
        by: Who has submitted it, as their program says.
    """

    cellbench_job: Literal[1] = VERSION
    title: _Name
    sources: Annotated[
        tuple[Source, ...], Field(min_length=1, max_length=50), AfterValidator(_different)
    ]
    card: _Text = ""
    cell: _Name
    place: _Name = ""
    bench: _Name = ""
    sets: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=2000)], ...], Field(max_length=200)
    ] = ()
    campaign: _Name = ""
    submission: _Name
    replicate: Annotated[int, Field(ge=1, le=REPLICATES_MAX)] = 1
    replicates: Annotated[int, Field(ge=1, le=REPLICATES_MAX)] = 1
    deadline: AwareDatetime | None = None
    by: _Name = ""

    def program(self, card: CellCard) -> Program:
        """The program for a cell.

        Raises:
            ProtocolError: The protocol or a setting is wrong.
        """
        sources = [SourceFile(each.name, each.text) for each in self.sources]
        return carried_protocol(sources, card, parse_settings(self.sets))

    @property
    def kept(self) -> dict[str, Any]:
        """What the catalogue keeps of it with its run."""
        return {"campaign": self.campaign, "replicate": self.replicate if self.campaign else 0}

    def own_card(self) -> CellCard | None:
        """The card that was sent along, None if none was.

        Raises:
            ProtocolError: It is none.
        """
        return carried_card(self.card) if self.card else None


def parse_work(text: str) -> Work:
    """Read what stands in the queue, as JSON.

    Raises:
        RefusedJob: It is no job.
    """
    if len(text.encode()) > WORK_MAX_BYTES:
        raise RefusedJob(f"it is longer than {WORK_MAX_BYTES:,} bytes")
    try:
        return Work.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # Our own words alone: names of fields that must not be there are the sender's.
        known = [str(each) for each in first["loc"] if each in Work.model_fields]
        raise RefusedJob(f"{'.'.join(known) or 'it'}: {first['msg'][:200]}") from None


def works_of(
    protocol: str,
    cells: Sequence[str],
    *,
    bench: str = "",
    sets: Sequence[str] = (),
    deadline: datetime | None = None,
    replicates: int = 1,
    by: str = "",
) -> list[Work]:
    """Make jobs of what a person names: one per cell and replicate.

    Args:
        protocol: A file, or the name of a shipped one.
        cells: Cell cards, by file or shipped name, or places of a bench; none for the cell that the
            protocol names.
        bench: The one that is to run them.
        sets: Parameters as ``name=value``.
        deadline: When they must have begun.
        replicates: How many cells of each card.
        by: Who submits them.

    Raises:
        InputError: Something is wrong, there is no such file, or it cannot be sent.
    """
    submission = secrets.token_hex(8)
    shared = {"submission": submission, "deadline": deadline, "replicates": replicates, "by": by}
    works = []
    for cell in cells or [""]:
        named = _named(protocol, cell, bench, sets)
        if named["place"] and replicates > 1:
            raise InputError(f"{cell} is one cell: replicates need as many (--cell A1 --cell A2)")
        works += [_made(**named, **shared, replicate=each + 1) for each in range(replicates)]
    return works


def _made(**facts: Any) -> Work:
    try:
        return Work(**facts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _named(protocol: str, cell: str, bench: str, sets: Sequence[str]) -> dict[str, Any]:
    """What is to be run on one cell; the protocol is resolved here too, where its author is."""
    place, named = _place_and_card(cell)
    card, text = load_card(protocol, named or None)
    program = load_protocol(protocol, card, parse_settings(sets))
    return {
        "title": program.name,
        "sources": tuple(Source(name=each.name, text=each.text) for each in program.sources),
        "card": "" if place and not named else text,
        "cell": place if place and not named else card.cell,
        "place": place,
        "bench": bench,
        "sets": tuple(sets),
    }


def _place_and_card(cell: str) -> tuple[str, str]:
    """What a person names: a card, a place (``A1``), or a place with its card (``A1=CARD``)."""
    place, sign, card = cell.partition("=")
    if sign:
        return place.strip(), card.strip()
    if not cell or cell in library.card_names() or library.with_suffix(Path(cell)) is not None:
        return "", cell
    if re.search(r"[/\\]|\.ya?ml$", cell):
        raise InputError(f'there is no cell card "{cell[:200]}"')
    return cell, ""


def deadline_of(text: str, now: datetime) -> datetime:
    """Read when a job must have begun: ``2026-11-22 08:00``, or so long from now (``8 h``).

    Raises:
        InputError: It is neither, or has passed.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = now + timedelta(seconds=_from_now_s(text))
    moment = moment.astimezone()  # without a zone it is this computer's
    if moment <= now:
        raise InputError(f"the deadline {text} has passed already")
    return moment


def _from_now_s(text: str) -> float:
    try:
        return parse(text, "time")
    except (InputError, QuantityError) as error:
        raise InputError(
            f'"{text[:80]}" is no deadline: write 2026-11-22 08:00, or from now: 8 h'
        ) from error
