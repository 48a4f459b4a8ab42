"""A campaign as jobs of the laboratory's queue, instead of being conducted by one process."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from cellbench import library
from cellbench.campaign.file import CampaignFile, named, parse_campaign
from cellbench.campaign.outline import turns_of
from cellbench.errors import InputError
from cellbench.laboratory.jobs import Work, works_of
from cellbench.protocol.source import load, read_document

_KEY = "cellbench campaign"


def is_campaign(path: Path) -> bool:
    """Whether a file says of itself that it is a campaign; any other is the protocol's to judge."""
    return load(read_document(path)).child(_KEY) is not None


def works_of_campaign(path: Path, **shared: Any) -> list[Work]:
    """Make jobs of a campaign file, in its order.

    Each cell's jobs are run in that order. On which bench they are is not the file's to say: its
    ``bench`` is a file on this computer.

    Args:
        path: The campaign file.
        shared: As for `works_of`: bench, deadline, by.

    Raises:
        ProtocolError: Something is wrong in it; the problems tell where.
        InputError: A protocol or a card is wrong, or the queue could not keep its cells apart.
    """
    file = parse_campaign(load(read_document(path)))
    works = []
    token = secrets.token_hex(8)
    for turn in turns_of(file, ()):
        line = file.runs[turn.line]
        (work,) = works_of(
            _protocol(path, line.protocol), [_cell(path, turn.cell)], sets=line.settings, **shared
        )
        told = {"campaign": file.name, "replicate": turn.replicate, "replicates": _most(file)}
        # Replicates of a line are of different cells.
        works.append(work.model_copy(update=told | {"submission": f"{token} {turn.line}"}))
    if len(file.runs) > 1 and not all(work.place for work in works):
        raise InputError(
            f"{path.name}: several protocols on one cell need its place (cells: [A1, A2]): in the "
            "queue a card alone may be another cell each time"
        )
    return works


def _protocol(path: Path, name: str) -> str:
    found = named(name, path.parent, library.protocol_names())
    return found or str(library.shipped_protocol(name))


def _cell(path: Path, name: str) -> str:
    # What is no card is a place, whatever files are where the command is typed.
    return named(name, path.parent, library.card_names()) or f"{name}="


def _most(file: CampaignFile) -> int:
    return file.replicates or len(file.cells)
