"""What a bench file says of cells: what holds one, what it is wired to, and where each sits.

A bench with one cell names its instruments and no more; one with many has its places under
``cells:``, and each of them is a bench with one cell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cellbench.instruments.capabilities import FixtureKind
from cellbench.protocol.errors import Problem
from cellbench.protocol.source import SourceNode

#: What holds the stack where nothing is said: a small servo press.
DEFAULT_FIXTURE: FixtureKind = "servo"
#: The changeover of a cell whose leads a person moves.
BY_OPERATOR = "operator"
#: What an instrument of a place has to be, by the key that names it.
_ROLE_OF = {
    "channel": "channel",
    "cycling": "channel",
    "impedance": "channel",
    "changeover": "switch",
    "press": "press",
    "gauge": "gauge",
    "chamber": "chamber",
}
#: One cell has it for itself.
_ALONE = ("channel", "cycling")


class Fixture(BaseModel):
    """What holds the stack."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    die: str
    kind: FixtureKind = DEFAULT_FIXTURE
    at_most: str = Field(alias="at most")


class Wiring(BaseModel):
    """The instruments that one cell is wired to, by name.

    Attributes:
        cycling: Runs all but spectra.
        impedance: Takes spectra.
        changeover: The switch through which the cell gets from one to the other, or ``operator``.
        patience: How long the operator may take to move the leads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cycling: str
    impedance: str
    changeover: str
    patience: str = "12 h"

    @property
    def names(self) -> frozenset[str]:
        """All that takes part in it."""
        return frozenset({self.cycling, self.impedance, self.changeover})


class Place(BaseModel):
    """Where a cell sits on a bench of many, and the instruments that it has there, by role.

    Attributes:
        card: Of the cell, a file or a name; where there is none, each run says.
        simulate: The simulated cell that is there on a simulated bench, where the card's is not.
        fixture: What holds it, where that is not what holds the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    card: str | None = None
    simulate: str | None = None
    channel: str | None = None
    cycling: str | None = None
    impedance: str | None = None
    changeover: str | None = None
    patience: str | None = None
    press: str | None = None
    gauge: str | None = None
    chamber: str | None = None
    fixture: Fixture | None = None

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        wired = (self.cycling, self.impedance, self.changeover)
        if self.channel is not None and any(wired):
            raise ValueError(
                'has "channel" and "cycling", "impedance" or "changeover": a cell is on one '
                "channel, or wired to two of them with a changeover"
            )
        if any(wired) and not all(wired):
            raise ValueError('needs "cycling", "impedance" and "changeover", all three')
        if self.channel is None and not any(wired):
            raise ValueError('has no "channel" (or "cycling", "impedance" and "changeover")')
        if self.patience is not None and not any(wired):
            raise ValueError('has a "patience", and no changeover that could take long')
        return self

    @property
    def by_role(self) -> dict[str, str]:
        """The names of its instruments, by the key that names them."""
        found = {key: getattr(self, key) for key in _ROLE_OF}
        return {key: name for key, name in found.items() if name not in {None, BY_OPERATOR}}

    @property
    def names(self) -> frozenset[str]:
        """The names of its instruments."""
        return frozenset(self.by_role.values())

    @property
    def wiring(self) -> Wiring | None:
        """What it is wired to, None where that is one channel."""
        if self.cycling is None or self.impedance is None or self.changeover is None:
            return None
        patience = {} if self.patience is None else {"patience": self.patience}
        return Wiring(
            cycling=self.cycling, impedance=self.impedance, changeover=self.changeover, **patience
        )


def wrong_places(
    places: Mapping[str, Place], roles: Mapping[str, str], file: SourceNode
) -> Iterator[Problem]:
    """Find what is wrong with the places of a bench file, each problem at its line.

    Args:
        places: As they are written, by name.
        roles: Of the file's instruments, by name.
        file: The file.
    """
    alone: dict[str, str] = {}
    as_what: dict[str, set[str]] = defaultdict(set)
    for place, entry in places.items():
        if not place.strip() or "," in place:
            yield file.at(("cells",)).key_problem(
                place, f'"{place}" is no name of a place: several are named with commas between'
            )
        for key, name in entry.by_role.items():
            there = file.at(("cells", place, key))
            if name not in roles:
                known = ", ".join(roles) or "none"
                yield there.problem(f'there is no instrument "{name}"; there are: {known}')
            elif roles[name] != _ROLE_OF[key]:
                kind, wanted = roles[name], _ROLE_OF[key]
                yield there.problem(f'"{name}" is a {kind}; {key} has to be a {wanted}')
            elif key in _ALONE and alone.setdefault(name, place) != place:
                yield there.problem(
                    f'"{name}" is the channel of {alone[name]} already: a channel has one cell'
                )
            else:
                as_what[name].add("one cell" if key in _ALONE else key)
                if len(as_what[name]) > 1:
                    yield there.problem(
                        f'"{name}" is the channel of {alone.get(name, "a cell")}, and takes '
                        "spectra of others: it can do one of both"
                    )
