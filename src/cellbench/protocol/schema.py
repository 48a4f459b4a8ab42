"""The shape of a protocol file, and the JSON Schema that editors complete from.

Each step is a mapping with one verb; loops, groups and the like are a mapping whose first key says
which, with ``steps`` and the rest beside it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from cellbench.instruments.capabilities import FixtureKind
from cellbench.protocol.bodies import (
    MODELS,
    ChargeBody,
    CheckBody,
    Conditions,
    CurrentBody,
    CvBody,
    EisBody,
    ListText,
    MarkBody,
    PressBody,
    PromptBody,
    RestBody,
    SweepBody,
    TemperatureBody,
    Text,
    VoltageBody,
    WaitBody,
    as_text,
    as_texts,
    maybe,
    says,
)

STRUCTURES = ("for each", "repeat", "if", "group", "include")
_SIBLINGS: dict[str, set[str]] = {
    "for each": {"steps", "until", "name"},
    "repeat": {"steps", "until", "name"},
    "if": {"steps", "else", "name"},
    "group": {"steps"},
    "include": {"with", "name"},
}


class Step(BaseModel):
    """One step: a verb with its block, or a structure with its steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rest: RestBody | None = None
    current: CurrentBody | None = None
    charge: ChargeBody | None = None
    discharge: ChargeBody | None = None
    voltage: VoltageBody | None = None
    hold: VoltageBody | None = None
    sweep: SweepBody | None = None
    cv: CvBody | None = None
    eis: EisBody | None = None
    press: PressBody | None = None
    temperature: TemperatureBody | None = None
    wait: WaitBody | None = None
    check: CheckBody | None = None
    prompt: PromptBody | None = None
    mark: MarkBody | None = None

    for_each: Annotated[dict[str, ListText], Field(min_length=1)] | None = Field(
        None, alias="for each", description="Variables and their values; several: all combinations"
    )
    repeat: Text | None = maybe("How many times (with until: at most how many)")
    if_: Text | None = maybe('An expression, e.g. "$first.R_low > 100 Ohm"', "if")
    group: Text | None = maybe("A name for the steps below")
    include: Text | None = maybe("Another protocol: a file beside this one, or a shipped name")

    steps: tuple[Step, ...] | None = maybe("What is done")
    until: Conditions = Field(default=(), description="Ends the loop after a pass")
    else_: tuple[Step, ...] | None = maybe("What is done otherwise", "else")
    with_: dict[str, ListText] | None = maybe("Parameters of the included protocol", "with")
    name: Text | None = maybe("Name of the block in paths")

    @model_validator(mode="before")
    @classmethod
    def _one_verb(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - pydantic's own protocol
                'must be a step like "rest: 10 min"'
            )
        found = [key for key in value if key in VERBS or key in STRUCTURES]
        if len(found) > 1:
            raise ValueError(
                f'holds two steps, "{found[0]}" and "{found[1]}"; each step has its own "- "'
            )
        if found and value[found[0]] is None:
            raise ValueError(f'"{found[0]}" has no value')
        if found:
            _check_siblings(found[0], value)
        elif all(key in _ALL_SIBLINGS for key in value):
            raise ValueError("names no step; the first key is a verb like rest, current or eis")
        return value

    @property
    def verb(self) -> str:
        """The key that makes it what it is."""
        given = self.model_fields_set
        names = {"for_each": "for each", "if_": "if"}
        return next(each for name in given if (each := names.get(name, name)) in _HEADS)


_ALL_SIBLINGS = set().union(*_SIBLINGS.values())
VERBS = (
    "rest", "current", "charge", "discharge", "voltage", "hold", "sweep", "cv", "eis", "press",
    "temperature", "wait", "check", "prompt", "mark",
)  # fmt: skip
_HEADS = {*VERBS, *STRUCTURES}


def _check_siblings(head: str, value: dict[str, Any]) -> None:
    allowed = _SIBLINGS.get(head, set())
    wrong = [key for key in value if key in _ALL_SIBLINGS and key not in allowed]
    if wrong:
        inside = "" if head in STRUCTURES else f'; the block of "{head}" is indented deeper'
        raise ValueError(f'"{wrong[0]}" has no meaning beside "{head}"{inside}')
    if "steps" in allowed and not value.get("steps"):
        raise ValueError(f'"{head}" needs "steps" beside it')


# Steps hold bodies, and "every" in a body holds steps.
_BODIES: tuple[type[BaseModel], ...] = (*MODELS.values(), Step)
for _body in _BODIES:
    _body.model_rebuild(_types_namespace={each.__name__: each for each in _BODIES})


_FIXTURE = {"enum": list(get_args(FixtureKind))}
Fixtures: TypeAlias = Annotated[
    tuple[FixtureKind, ...],
    BeforeValidator(as_texts),
    WithJsonSchema({"anyOf": [_FIXTURE, {"type": "array", "items": _FIXTURE}]}),
]


class LimitsBody(BaseModel):
    """What holds at all times, beside the cell card's limits; the tighter one counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voltage: Text | None = maybe('At the terminals, e.g. "-2 V to 2 V"')
    potential: Text | None = maybe('With its reference, e.g. "2.5 V to 4.9 V vs Li+/Li"')
    current: Text | None = maybe('Magnitude, e.g. "5 mA/cm2"')
    stack_pressure: Text | None = maybe('Within, e.g. "at most 12 MPa"', "stack pressure")
    temperature: Text | None = maybe('Within, e.g. "10 degC to 60 degC"')
    charge: Text | None = maybe(
        'Into the cell or out of it, e.g. "at most 1.3 of nominal capacity", "5 mAh"'
    )
    soft_short: Literal["warn", "trip"] | None = maybe(
        "What a sign of a soft short comes to; a warning if nothing is said", "soft short"
    )


class ConditionsBody(BaseModel):
    """How stack pressure and temperature are followed throughout the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: Text = Field("5 s", description='How often they are read and kept, e.g. "10 s"')


class ProtocolFile(BaseModel):
    """A cellbench protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="cellbench protocol")

    cellbench: Annotated[
        Literal["1"], BeforeValidator(as_text), WithJsonSchema({"enum": [1, "1"]})
    ] = Field("1", description="Version of the language")
    name: Text = says("What the test is called")
    reference: Text = Field("", description="Where it comes from")
    cell: Text | None = maybe("The cell card that is used unless --cell says otherwise")
    fixture: Fixtures = Field(
        default=(), description="What may hold the stack; the simulated bench has the first"
    )
    parameters: dict[str, ListText] = Field(
        default_factory=dict, description="Values with defaults; --set name=value changes them"
    )
    limits: LimitsBody = Field(
        default_factory=LimitsBody, description="What holds at all times, beside the card's limits"
    )
    conditions: ConditionsBody = Field(
        default_factory=ConditionsBody,
        description="How stack pressure and temperature are followed",
    )
    define: dict[str, Any] = Field(
        default_factory=dict, description="Blocks that are used by name: eis: $spectrum"
    )
    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = says("What is done, in order")
    analyses: tuple[Text, ...] = Field(default=(), description="What is made of the data")


def _without_null(schema: Any) -> Any:
    """Optional keys are left out, not written as null."""
    if isinstance(schema, list):
        return [_without_null(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    cleaned = {key: _without_null(each) for key, each in schema.items() if key != "title"}
    cleaned = {k: v for k, v in cleaned.items() if not (k == "default" and v is None)}
    if len(cleaned.get("anyOf", ())) == 1:
        cleaned = {**cleaned.pop("anyOf")[0], **cleaned}
    return cleaned


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of protocol files, for editors."""
    schema: dict[str, Any] = _without_null(ProtocolFile.model_json_schema(by_alias=True))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
