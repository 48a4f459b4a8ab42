"""Reading the fields of one step's block: their text, place and value, defaults included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from pydantic import BaseModel

from cellbench.protocol.bodies import Body, Record, StepBody
from cellbench.protocol.conditions import Condition
from cellbench.protocol.program import Recording, StepNode, WhenInterrupted
from cellbench.protocol.scope import Scope, text_of
from cellbench.protocol.source import SourceNode
from cellbench.protocol.until import resolve, sources_of


class Common(TypedDict):
    """What every step is made with."""

    path: str
    verb: str
    source: SourceNode
    bindings: Mapping[str, str]
    save_as: str | None
    required: bool
    when_interrupted: WhenInterrupted | None


class Fields:
    """The fields of a block, by the names of the model's attributes."""

    def __init__(self, body: BaseModel, source: SourceNode, scope: Scope) -> None:
        self.body = body
        self.source = source
        self.scope = scope

    def place(self, name: str) -> SourceNode | None:
        """Return a field's text with its place; of a default, with the block's. None: absent."""
        value = getattr(self.body, name)
        if value is None:
            return None
        below = self._below(name)
        if below is not None:
            return below
        return self.source.saying(value) if isinstance(value, str) else None

    def _below(self, name: str) -> SourceNode | None:
        alias = type(self.body).model_fields[name].alias or name
        if isinstance(self.source.content, dict):
            return self.source.child(alias)
        short = isinstance(self.body, Body) and type(self.body).short == alias
        return self.source if short else None

    def needed(self, name: str) -> SourceNode:
        """Return a field that the schema requires."""
        return self.place(name) or self.source

    def si(self, name: str, *dimensions: str) -> float | None:
        """Return a field in SI units, None if absent. Raises ProtocolError, ResultMissing."""
        place = self.place(name)
        return None if place is None else self.scope.si(place, *dimensions)

    def positive_si(self, name: str, *dimensions: str) -> float | None:
        """Return a field in SI units, above zero. Raises ProtocolError, ResultMissing."""
        place = self.place(name)
        return None if place is None else self.scope.positive_si(place, *dimensions)

    def conditions(self, name: str = "until") -> tuple[Condition, ...]:
        """Return the conditions under a field. Raises ProtocolError, ResultMissing."""
        return resolve(sources_of(self._below(name)), self.scope)

    def inner(self, name: str) -> Fields | None:
        """Return a block within the block, None if absent."""
        body = getattr(self.body, name)
        return None if body is None else Fields(body, self._below(name) or self.source, self.scope)

    def words(self, name: str) -> str:
        """Return how a person wrote a field, with ``$names`` replaced by their values."""
        place = self.needed(name)
        text = text_of(place)
        if "$" not in text or self.scope.stands_for_words(text):
            return self.scope.words(text)
        return ", ".join(str(each) for each in self.scope.quantities(place))


def common(node: StepNode, path: str, bindings: Mapping[str, str]) -> Common:
    """Return what every step is made with."""
    body: StepBody = node.body
    return Common(
        path=path,
        verb=node.verb,
        source=node.source,
        bindings=bindings,
        save_as=body.save_as,
        required=body.when == "required",
        when_interrupted=body.when_interrupted,
    )


def recording(fields: Fields) -> tuple[Recording, float]:
    """Return the recording rules and the interval at which the instrument measures, in s.

    Limits are watched on what is measured, so that it stays at 1 Hz where few rows are kept.
    """
    record = fields.inner("record")
    if record is None or not isinstance(record.body, Record):
        return Recording(every_s=1.0), 1.0
    name = "at_least_every" if record.body.spacing == "log" else "every"
    every_s = record.positive_si(name, "time")
    deltas = {
        "dV_V": record.positive_si("dV", "voltage"),
        "dI_A": _current(record, "dI"),
        "dP_Pa": record.positive_si("dP", "pressure"),
    }
    if every_s is None and not any(deltas.values()):
        every_s = 1.0
    interval_s = record.positive_si("sample", "time") or min(every_s or 1.0, 1.0)
    return Recording(every_s=every_s, spacing=record.body.spacing, **deltas), interval_s


def _current(fields: Fields, name: str) -> float | None:
    place = fields.place(name)
    return None if place is None else abs(fields.scope.current_A(place))
