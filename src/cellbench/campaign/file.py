"""The campaign file: which cells go through which protocols, in which order, and how often."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cellbench import library
from cellbench.errors import InputError
from cellbench.protocol.bodies import ListText
from cellbench.protocol.source import SourceNode
from cellbench.protocol.validation import validate

Order = Literal["by cell", "by protocol"]
_NAME_LONGEST = 100


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Line(_Strict):
    """One line of ``runs:``: a protocol, with what it is set to."""

    protocol: str
    set: dict[str, ListText] = Field(default_factory=dict)

    @property
    def settings(self) -> tuple[str, ...]:
        """Its parameters as ``name=value``."""
        return tuple(f"{name}={text}" for name, text in self.set.items())


class CampaignFile(_Strict):
    """A campaign as it is written down.

    Attributes:
        bench: A bench file, or the name of a simulated bench; None for the usual simulated bench.
        cells: Places of a bench of many; on a bench with one cell their cards.
        runs: What each of them goes through, in this order.
        replicates: How often each cell goes through it; None: each cell is a replicate.
        order: ``by protocol`` begins a protocol when the one before has ended on all cells.
    """

    version: Literal["1"] = Field(alias="cellbench campaign")
    name: str
    bench: str | None = None
    cells: tuple[str, ...] = Field(min_length=1)
    runs: tuple[Line, ...] = Field(min_length=1)
    replicates: int | None = Field(None, ge=1, le=1000)
    order: Order = "by cell"

    @field_validator("name")
    @classmethod
    def _one_line(cls, written: str) -> str:
        if not written.strip() or not written.isprintable() or len(written) > _NAME_LONGEST:
            raise ValueError(f"must be a line of at most {_NAME_LONGEST} characters")
        return written.strip()


def parse_campaign(node: SourceNode) -> CampaignFile:
    """Validate what a campaign file holds.

    Raises:
        ProtocolError: It describes no campaign; the problems tell where.
    """
    return validate(CampaignFile, node)


def named(name: str, folder: Path, shipped: Collection[str]) -> str | None:
    """What a campaign names: a shipped one, or else a file beside its own; None for neither.

    Args:
        name: As it is written.
        folder: Of the campaign file.
        shipped: Names of those that ship.

    Raises:
        InputError: It can only be a file, and there is none.
    """
    if name in shipped:
        return name
    if (beside := library.with_suffix(folder / name)) is not None:
        return str(beside.absolute())
    if Path(name).suffix in {".yaml", ".yml"}:
        raise InputError(f'there is no file "{name}" beside the campaign file')
    return None
