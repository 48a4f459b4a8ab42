"""The rows of the reference campaigns: what a study published, and how cellbench obtains it.

The table is the YAML files beside this module, one per study. A row says which protocol runs on
which cell, where in the analyses' results the study's quantity stands, and what it has to be.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from ruamel.yaml import YAML

from cellbench.campaign.reference.values import Measure
from cellbench.errors import InputError
from cellbench.instruments.capabilities import FixtureKind

Kind: TypeAlias = Literal["input recovered", "emerged"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Bound(_Strict):
    """A number that is known from one side, or from both."""

    at_least: float | None = Field(None, alias="at least")
    at_most: float | None = Field(None, alias="at most")

    @model_validator(mode="after")
    def _bounds_something(self) -> Bound:
        if self.at_least is None and self.at_most is None:
            raise ValueError('a bound needs "at least" or "at most"')
        return self

    def __str__(self) -> str:
        low = None if self.at_least is None else f"at least {self.at_least:g}"
        high = None if self.at_most is None else f"at most {self.at_most:g}"
        return " and ".join(part for part in (low, high) if part)


class Containing(_Strict):
    """A text that has to be part of the one obtained."""

    contains: str

    def __str__(self) -> str:
        return f'"{self.contains}"'


Expectation: TypeAlias = bool | float | Bound | Containing


class Row(_Strict):
    """One result of one study.

    Attributes:
        study: Citation.
        what: The test, and every choice that is ours.
        published: The study's number or bound in ``unit``, or its statement as a text.
        expect: What a statement means for the value obtained; a number speaks for itself.
        tolerance: Allowed deviation from a number, as a fraction of it; bounds have none.
        replicates: Cells beside `cell` on which the same run is made. The analysis's result is then
            `cellbench.analysis.replicates.statistics` over all of them.
        set: Parameters of the protocol, by name.
        fixture: What holds the stack, where it is not what the protocol says.
        result: Where the value stands, as `cellbench.campaign.reference.values.look_up` reads it.
        measure: What is made of a list of values.
        kind: "input recovered" where the simulated cell's parameters come from this very number.
        long: The row takes several hundred cycles.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    study: str
    what: str
    published: float | Bound | str
    expect: Expectation | None = None
    unit: str = ""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.10
    protocol: str
    cell: str
    replicates: tuple[str, ...] = ()
    set: dict[str, str] = Field(default_factory=dict)
    fixture: FixtureKind | None = None
    result: str
    measure: Measure | None = None
    kind: Kind
    long: bool = False

    @model_validator(mode="after")
    def _a_statement_says_what_it_means(self) -> Row:
        if isinstance(self.published, str) is (self.expect is None):
            raise ValueError('"expect" belongs to a statement in words, and only there')
        return self

    @property
    def expected(self) -> Expectation:
        """What the value obtained is judged by."""
        if isinstance(self.published, str):
            if self.expect is None:
                raise ValueError(f"{self.name}: nothing is expected")
            return self.expect
        return self.published

    @property
    def analysis(self) -> str | None:
        """The analysis that gives the value; None where the end of the run is the result."""
        name = self.result.split(".", 1)[0]
        return None if name == "run" else name


@lru_cache(maxsize=1)
def load_table() -> tuple[Row, ...]:
    """Return all rows, in the order of the files' names and of the rows in them."""
    beside = files("cellbench.campaign.reference").iterdir()
    studies = sorted((file for file in beside if file.name.endswith(".yaml")), key=_name)
    rows = TypeAdapter(list[Row])
    return tuple(row for study in studies for row in rows.validate_python(_yaml(study)))


def _name(file: Traversable) -> str:
    return file.name


def _yaml(file: Traversable) -> object:
    return YAML(typ="safe").load(file.read_text(encoding="utf-8"))


def chosen(names: list[str], *, with_long: bool) -> list[Row]:
    """Return the rows of these names; without names all, the long ones only on demand.

    Raises:
        InputError: A name is not in the table.
    """
    rows = load_table()
    if not names:
        return [row for row in rows if with_long or not row.long]
    unknown = sorted(set(names) - {row.name for row in rows})
    if unknown:
        known = ", ".join(row.name for row in rows)
        raise InputError(f'there is no row "{unknown[0]}"; there are: {known}')
    return [row for row in rows if row.name in names]
