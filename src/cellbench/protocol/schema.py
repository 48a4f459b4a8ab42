"""The shape of a protocol file: pydantic models, and the JSON Schema that editors complete from.

Values stay texts here (`Text`): what they mean depends on units, parameters and the cell card, and
is settled in `cellbench.protocol.resolve`. Each step is a mapping with one verb; loops, groups and
the like are a mapping whose first key says which, with ``steps`` and the rest beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

_SCALAR: dict[str, Any] = {"type": ["string", "number"]}


def _text(value: Any) -> str:
    if value is None:
        raise ValueError("has no value")
    if isinstance(value, dict | list):
        raise ValueError("must be a text, not a block or a list")  # noqa: TRY004 - pydantic's own
    return str(value)


def _list_text(value: Any) -> str:
    return ", ".join(_text(each) for each in value) if isinstance(value, list) else _text(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(each) for each in value) if isinstance(value, list) else (_text(value),)


Text: TypeAlias = Annotated[str, BeforeValidator(_text), WithJsonSchema(_SCALAR)]
ListText: TypeAlias = Annotated[
    str,
    BeforeValidator(_list_text),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}),
]
Conditions: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_texts),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}),
]


def _says(text: str) -> Any:
    return Field(description=text)


def _maybe(text: str, alias: str | None = None) -> Any:
    return Field(default=None, description=text, alias=alias)


class Body(BaseModel):
    """A block of the language. ``short`` is the key that a bare value stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    short: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        if cls.short is None or value is None or isinstance(value, list):
            raise ValueError('must be a block like "{key: value}"')
        return {cls.short: value}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: Callable[[Any], JsonSchemaValue]
    ) -> JsonSchemaValue:
        """Allow the short form, and ``$name`` for a block under ``define``."""
        schema = handler(core_schema)
        target = handler.resolve_ref_schema(schema)  # type: ignore[attr-defined]
        if "anyOf" in target:
            return schema
        block = dict(target)
        target.clear()
        target.update({"description": block.pop("description", ""), "anyOf": [block, _SCALAR]})
        return schema


class Record(Body):
    """Which samples are kept; the first and last always are."""

    short = "every"
    every: Text | None = _maybe('One sample each, e.g. "1 s"')
    sample: Text | None = _maybe('How often the instrument measures; "1 s" unless every is shorter')
    dV: Text | None = _maybe('Also each change of voltage, e.g. "5 mV"')
    dI: Text | None = _maybe('Also each change of current, e.g. "10 uA"')
    dP: Text | None = _maybe('Also each change of stack pressure, e.g. "0.05 MPa"')
    spacing: Literal["linear", "log"] = Field(
        "linear", description="log: evenly over the decades of the step's time"
    )
    at_least_every: Text | None = _maybe("Longest gap with log spacing", "at least every")


class SettleBody(Body):
    """When a set point counts as reached."""

    within: Text = _says('Largest distance from the set point, e.g. "0.1 MPa"')
    for_: Text = Field(description='How long without leaving, e.g. "2 min"', alias="for")
    slope: Text | None = _maybe('Largest slope over that time, e.g. "0.01 MPa/min"')
    at_most: Text | None = _maybe("The step fails after this time", "at most")


class StepBody(Body):
    """What every step can have."""

    save_as: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,60}$")] | None = Field(
        None, description="Name of its results: $name.field", alias="as"
    )
    when: Literal["required", "available"] = Field(
        "required", description="available: leave it out on a bench that cannot do it"
    )
    when_interrupted: Literal["quiet", "continue", "restart"] = Field(
        "quiet", description="What becomes of it when the host is lost", alias="when interrupted"
    )


_FOR = 'How long: a time, or for a current also a charge, e.g. "20 min", "1 mAh/cm2"'
_UNTIL = 'Conditions, any of which ends it, e.g. "voltage >= 1 V"'
_AT_MOST = 'Bounds in case no condition comes, e.g. "10 h" or "1.3 of nominal capacity"'


class ChannelBody(StepBody):
    """What steps on the channel have."""

    for_: Text | None = _maybe(_FOR, "for")
    until: Conditions = Field(default=(), description=_UNTIL)
    at_most: ListText | None = _maybe(_AT_MOST, "at most")
    record: Record = Field(default_factory=Record)


class RestBody(ChannelBody):
    """Open circuit."""

    short = "for"


class CurrentBody(ChannelBody):
    """A constant current; positive is oxidation at the working electrode."""

    at: Text = _says('The current: "0.5 mA/cm2", "2 mA", "C/10"')


class ChargeBody(CurrentBody):
    """A constant current in the direction that the cell card calls charge (or discharge)."""


class VoltageBody(ChannelBody):
    """A constant voltage."""

    at: Text = _says('The voltage: "1 V", "4.8 V vs Li+/Li"')
    current_range: Text | None = _maybe("The largest current that is expected", "current range")


class SweepBody(StepBody):
    """A linear voltage sweep."""

    from_: Text = Field(description="Where it starts", alias="from")
    to: Text = _says("Where it ends")
    rate: Text = _says('How fast, e.g. "0.1 mV/s"')
    step: Text | None = _maybe("Staircase step; 1 mV unless given")
    until: Conditions = Field(default=(), description=_UNTIL)
    current_range: Text | None = _maybe("The largest current that is expected", "current range")
    record: Record = Field(default_factory=Record)


class EisBody(StepBody):
    """An impedance spectrum."""

    from_: Text = Field(description="Highest frequency", alias="from")
    to: Text = _says("Lowest frequency")
    points: Text = Field("10 per decade", description='e.g. "10 per decade"')
    amplitude: Text = Field("10 mV", description="Of the voltage; a current is galvanostatic")
    bias: Text = Field("open circuit", description='"open circuit" or a voltage (or current)')
    band: Literal["exact", "as available"] = Field(
        "exact", description="as available: clip to what the instrument can, as a deviation"
    )


class PressBody(StepBody):
    """A standing order to the press."""

    short = "to"
    to: Text = _says('A stack pressure ("5 MPa"), a force ("2 kN"), "hold" or "release"')
    ramp: Text = Field("0.5 MPa/s", description="How fast")
    settle: SettleBody | Literal["none"] | None = _maybe("When it counts as reached")


class TemperatureBody(StepBody):
    """A standing order to the chamber."""

    short = "to"
    to: Text = _says('A temperature, e.g. "20 degC"')
    settle: SettleBody | Literal["none"] | None = _maybe("When it counts as reached")


class WaitBody(StepBody):
    """Wait at open circuit, for a time or a condition."""

    short = "for"
    for_: Text | None = _maybe("How long", "for")
    until: Conditions = Field(default=(), description=_UNTIL)
    at_most: Text | None = _maybe("Longest wait", "at most")


class PromptBody(StepBody):
    """A question to the operator."""

    short = "ask"
    ask: Text = _says("What to do or answer")
    choices: tuple[Text, ...] = Field(default=(), description="Answers to choose from")


class MarkBody(StepBody):
    """A remark in the journal."""

    short = "text"
    text: Text = _says("The remark")


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
    eis: EisBody | None = None
    press: PressBody | None = None
    temperature: TemperatureBody | None = None
    wait: WaitBody | None = None
    prompt: PromptBody | None = None
    mark: MarkBody | None = None

    for_each: Annotated[dict[str, ListText], Field(min_length=1)] | None = Field(
        None, alias="for each", description="Variables and their values; several: all combinations"
    )
    repeat: Text | None = _maybe("How many times (with until: at most how many)")
    if_: Text | None = _maybe('An expression, e.g. "$first.R_total > 100 Ohm"', "if")
    group: Text | None = _maybe("A name for the steps below")
    include: Text | None = _maybe("Another protocol: a file beside this one, or a shipped name")

    steps: tuple[Step, ...] | None = _maybe("What is done")
    until: Conditions = Field(default=(), description="Ends the loop after a pass")
    else_: tuple[Step, ...] | None = _maybe("What is done otherwise", "else")
    with_: dict[str, ListText] | None = _maybe("Parameters of the included protocol", "with")
    name: Text | None = _maybe("Name of the block in paths")

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
        if found:
            _check_siblings(found[0], value)
        elif all(key in _ALL_SIBLINGS for key in value):
            raise ValueError("names no step; the first key is a verb like rest, current or eis")
        return value

    @property
    def verb(self) -> str:
        """The key that makes it what it is."""
        return next(iter(self.model_dump(by_alias=True, exclude_unset=True).keys() & _HEADS))


_ALL_SIBLINGS = set().union(*_SIBLINGS.values())
VERBS = (
    "rest", "current", "charge", "discharge", "voltage", "hold", "sweep", "eis", "press",
    "temperature", "wait", "prompt", "mark",
)  # fmt: skip
_HEADS = {*VERBS, *STRUCTURES}


def _check_siblings(head: str, value: dict[str, Any]) -> None:
    allowed = _SIBLINGS.get(head, set())
    wrong = [key for key in value if key in _ALL_SIBLINGS and key not in allowed]
    if wrong:
        inside = "" if head in STRUCTURES else f'; the block of "{head}" is indented deeper'
        raise ValueError(f'"{wrong[0]}" has no meaning beside "{head}"{inside}')
    if "steps" in allowed and "steps" not in value:
        raise ValueError(f'"{head}" needs "steps" beside it')


class LimitsBody(BaseModel):
    """What holds at all times, beside the cell card's limits; the tighter one counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voltage: Text | None = _maybe('At the terminals, e.g. "-2 V to 2 V"')
    potential: Text | None = _maybe('e.g. "2.5 V to 4.9 V vs Li+/Li"')
    current: Text | None = _maybe('Magnitude, e.g. "5 mA/cm2"')
    stack_pressure: Text | None = _maybe('e.g. "at most 12 MPa"', "stack pressure")
    temperature: Text | None = _maybe('e.g. "10 degC to 60 degC"')


class ProtocolFile(BaseModel):
    """A cellbench protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="cellbench protocol")

    cellbench: Annotated[
        Literal["1"], BeforeValidator(_text), WithJsonSchema({"enum": [1, "1"]})
    ] = Field("1", description="Version of the language")
    name: Text = _says("What the test is called")
    reference: Text = Field("", description="Where it comes from")
    cell: Text | None = _maybe("The cell card that is used unless --cell says otherwise")
    parameters: dict[str, ListText] = Field(
        default_factory=dict, description="Values with defaults; --set name=value changes them"
    )
    limits: LimitsBody = Field(default_factory=LimitsBody)
    define: dict[str, Any] = Field(
        default_factory=dict, description="Blocks that are used by name: eis: $spectrum"
    )
    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = _says("What is done, in order")
    analyses: tuple[Text, ...] = Field(default=(), description="What is made of the data")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of protocol files, for editors."""
    schema = ProtocolFile.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
