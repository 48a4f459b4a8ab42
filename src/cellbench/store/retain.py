"""Rules on how long what is kept in full: the file ``store.yaml`` of a store.

Samples, spectra and journals are never given up. What a rule can do: finished runs are
compacted, and wire logs dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cellbench.errors import InputError
from cellbench.protocol.source import load, read_document
from cellbench.protocol.validation import Seconds, validate
from cellbench.store.catalogue import Store
from cellbench.store.compact import Changed, compact, drop_wire, has_rows, has_wire
from cellbench.store.maintenance import why_unfinished
from cellbench.store.tables import IMPORTED, Run

CONFIGURATION = "store.yaml"
COMPACT, DROP_WIRE = "compact", "drop wire log"


Age = Annotated[Seconds, Field(ge=0)]


class Rule(BaseModel):
    """What is done with some runs, so long after they ended.

    Attributes:
        runs: Those of a simulated bench, those that measured a cell here, those that were imported.
        protocol, cell: Only runs of this protocol, or cell, by name.
        compact_after_s: None for never.
        drop_wire_after_s: None for never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: Literal["all", "simulated", "measured", "imported"] = "all"
    protocol: str | None = None
    cell: str | None = None
    compact_after_s: Age | None = Field(None, alias="compact after")
    drop_wire_after_s: Age | None = Field(None, alias="drop wire log after")

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if self.compact_after_s is None and self.drop_wire_after_s is None:
            raise ValueError('says neither "compact after" nor "drop wire log after"')
        return self

    def fits(self, run: Run) -> bool:
        """Whether it is about a run."""
        kind = "imported" if run.state == IMPORTED else "measured"
        kinds = {"all", "simulated" if run.simulated else kind}
        return (
            self.runs in kinds
            and self.protocol in {None, run.protocol}
            and self.cell in {None, run.cell}
        )


class StoreFile(BaseModel):
    """The file ``store.yaml``: of each run, the first rule that fits it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retain: tuple[Rule, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Due:
    """Something that a rule does with a run: `COMPACT` or `DROP_WIRE`."""

    run: Run
    what: str


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read the rules of a store.

    Raises:
        InputError: There are none, or they are wrong.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} has no rules: there is no {path.name} (docs/store.md)")
    return validate(StoreFile, load(read_document(path))).retain


def due(store: Store, rules: tuple[Rule, ...], moment: datetime | None = None) -> Iterator[Due]:
    """What the rules would do now; nothing of runs that are not finished.

    Args:
        store: The runs.
        rules: Of each run the first that fits.
        moment: Now; or when it is asked for, UTC.
    """
    now = moment or datetime.now(UTC)
    for run in sorted(store.search(limit=None), key=lambda each: each.started):
        rule = next((each for each in rules if each.fits(run)), None)
        if rule is not None and run.ended is not None and why_unfinished(store, run) is None:
            age_s = (now - run.ended.replace(tzinfo=UTC)).total_seconds()
            path = store.run_path(run.id)
            # The wire log first: it would be packed for nothing.
            if _passed(rule.drop_wire_after_s, age_s) and has_wire(path):
                yield Due(run, DROP_WIRE)
            if _passed(rule.compact_after_s, age_s) and has_rows(path):
                yield Due(run, COMPACT)


def _passed(after_s: float | None, age_s: float) -> bool:
    return after_s is not None and age_s >= after_s


def done(store: Store, what: Due) -> Changed:
    """Do it; errors as of `compact` and `drop_wire`."""
    return (compact if what.what == COMPACT else drop_wire)(store, what.run)
