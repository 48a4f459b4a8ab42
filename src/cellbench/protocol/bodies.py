"""The blocks of the language's verbs, as pydantic models.

Values stay texts (`Text`): what they mean depends on units, parameters and the cell card, and is
settled in `cellbench.protocol.resolve`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue

if TYPE_CHECKING:
    from cellbench.protocol.schema import Step

_SCALAR: dict[str, Any] = {"type": ["string", "number"]}


def as_text(value: Any) -> str:
    """Return a scalar as the text that it was written as."""
    if value is None:
        raise ValueError("has no value")
    if isinstance(value, dict | list):
        raise ValueError("must be a text, not a block or a list")  # noqa: TRY004 - pydantic's own
    return str(value)


def _list_text(value: Any) -> str:
    return ", ".join(as_text(each) for each in value) if isinstance(value, list) else as_text(value)


def as_texts(value: Any) -> tuple[str, ...]:
    """Return the texts of a list, or of one scalar alone."""
    return tuple(as_text(each) for each in value) if isinstance(value, list) else (as_text(value),)


Text: TypeAlias = Annotated[str, BeforeValidator(as_text), WithJsonSchema(_SCALAR)]
ListText: TypeAlias = Annotated[
    str,
    BeforeValidator(_list_text),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}),
]
Conditions: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(as_texts),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}),
]


def says(text: str) -> Any:
    """Return a field that must be given, with its description."""
    return Field(description=text)


def maybe(text: str, alias: str | None = None) -> Any:
    """Return a field that can be left out, with its description."""
    return Field(default=None, description=text, alias=alias)


class Body(BaseModel):
    """A block of the language. ``short`` is the key that a bare value stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    short: ClassVar[str | None] = None
    example: ClassVar[str] = "{key: value}"

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        if cls.short is None or value is None or isinstance(value, list):
            raise ValueError(f'must be a block like "{cls.example}"')
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
    every: Text | None = maybe('One sample each, e.g. "1 s"')
    sample: Text | None = maybe('How often the instrument measures; "1 s" unless every is shorter')
    dV: Text | None = maybe('Also each change of voltage, e.g. "5 mV"')
    dI: Text | None = maybe('Also each change of current, e.g. "10 uA"')
    dP: Text | None = maybe('Also each change of stack pressure, e.g. "0.05 MPa"')
    spacing: Literal["linear", "log"] = Field(
        "linear", description="log: evenly over the decades of the step's time"
    )
    at_least_every: Text | None = maybe("Longest gap with log spacing", "at least every")


class EveryBody(Body):
    """What interrupts a step again and again, after which the step goes on.

    The model is complete once `cellbench.protocol.schema` has defined ``Step``.
    """

    interval: Text | None = maybe("From one start to the next; the step's own time runs on")
    after: Text | None = maybe("So much time or charge of the step itself, whose clock then stops")
    do: Annotated[tuple[Step, ...], Field(min_length=1)] = says("Plain steps, without loops")


class SettleBody(Body):
    """When a set point counts as reached."""

    example = "{within: 0.1 MPa, for: 2 min}"
    within: Text = says('Largest distance from the set point, e.g. "0.1 MPa"')
    for_: Text = Field(description='How long without leaving, e.g. "2 min"', alias="for")
    slope: Text | None = maybe('Largest slope over that time, e.g. "0.01 MPa/min"')
    at_most: Text | None = maybe("The step fails after this time", "at most")


class StepBody(Body):
    """What every step can have."""

    save_as: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,60}$")] | None = Field(
        None, description="Name of its results: $name.field", alias="as"
    )
    when: Literal["required", "available"] = Field(
        "required", description="available: leave it out on a bench that cannot do it"
    )
    when_interrupted: Literal["quiet", "continue", "restart"] | None = Field(
        None, description="What becomes of it when the host is lost", alias="when interrupted"
    )


_FOR = 'How long: a time, or for a current also a charge, e.g. "20 min", "1 mAh/cm2"'
_UNTIL = 'Conditions, any of which ends it, e.g. "voltage >= 1 V"'
_STOP_IF = "Conditions that end it early, with a warning; the protocol goes on"
_RECORD = "Which samples are kept; one each second if nothing is said"
_AT_MOST = 'Bounds in case no condition comes, e.g. "10 h" or "1.3 of nominal capacity"'


class ChannelBody(StepBody):
    """What steps on the channel have."""

    for_: Text | None = maybe(_FOR, "for")
    until: Conditions = Field(default=(), description=_UNTIL)
    at_most: ListText | None = maybe(_AT_MOST, "at most")
    stop_if: Conditions = Field(default=(), description=_STOP_IF, alias="stop if")
    every: EveryBody | None = maybe("Steps that interrupt it again and again")
    record: Record = Field(default_factory=Record, description=_RECORD)


class RestBody(ChannelBody):
    """Open circuit."""

    short = "for"


class CurrentBody(ChannelBody):
    """A constant current; positive is oxidation at the working electrode."""

    example = "{at: 0.5 mA/cm2, for: 20 min}"
    at: Text = says('The current: "0.5 mA/cm2", "2 mA", "C/10"')


class ChargeBody(CurrentBody):
    """A constant current in the direction that the cell card calls charge (or discharge)."""


class VoltageBody(ChannelBody):
    """A constant voltage."""

    example = "{at: 1 V, for: 10 min}"
    at: Text = says('The voltage: "1 V", "4.8 V vs Li+/Li"')
    current_range: Text | None = maybe("The largest current that is expected", "current range")


_SWEEP_FROM = 'Where it starts: a voltage, or "open circuit"'


class SweepBody(StepBody):
    """A linear voltage sweep."""

    example = "{from: 0 V, to: 1 V, rate: 1 mV/s}"
    from_: Text = Field(description=_SWEEP_FROM, alias="from")
    to: Text = says("Where it ends")
    rate: Text = says('How fast, e.g. "0.1 mV/s"')
    step: Text | None = maybe("Staircase step; 1 mV unless given")
    until: Conditions = Field(default=(), description=_UNTIL)
    current_range: Text | None = maybe("The largest current that is expected", "current range")
    record: Record = Field(default_factory=Record, description=_RECORD)


class CvBody(StepBody):
    """A cyclic voltammogram: from the start to one vertex, to the other, and so on."""

    from_: Text = Field("open circuit", description=_SWEEP_FROM, alias="from")
    vertices: ListText = says('The two potentials where it turns, the first one first: "2.5, 0 V"')
    to: Text | None = maybe("Where the last cycle ends; where it started unless given")
    cycles: Text = Field("1", description="How many times both vertices are visited")
    rate: Text = says('How fast, e.g. "0.1 mV/s"')
    step: Text | None = maybe("Staircase step; 1 mV unless given")
    until: Conditions = Field(default=(), description=_UNTIL)
    current_range: Text | None = maybe("The largest current that is expected", "current range")
    record: Record = Field(default_factory=Record, description=_RECORD)


class EisBody(StepBody):
    """An impedance spectrum."""

    example = "{from: 1 MHz, to: 100 mHz}"
    from_: Text = Field(description="Highest frequency", alias="from")
    to: Text = says("Lowest frequency")
    points: Text = Field("10 per decade", description='How many, e.g. "10 per decade"')
    amplitude: Text = Field("10 mV", description="Of the voltage; a current is galvanostatic")
    bias: Text = Field("open circuit", description='"open circuit" or a voltage (or current)')
    band: Literal["exact", "as available"] = Field(
        "exact", description="as available: clip to what the instrument can, as a deviation"
    )


class PressBody(StepBody):
    """A standing order to the press."""

    short = "to"
    to: Text = says('A stack pressure ("5 MPa"), a force ("2 kN"), "hold" or "release"')
    ramp: Text = Field("0.5 MPa/s", description="How fast, up and down")
    settle: SettleBody | None = maybe("When it counts as reached")
    hold: Text | None = maybe('How long it is kept before the next step, e.g. "3 min"')
    then: Literal["hold", "release"] = Field("hold", description="release: take the force away")
    by_hand: Literal["refused", "allowed"] = Field(
        "refused",
        description="allowed: the operator presses where the bench's press cannot",
        alias="by hand",
    )


class TemperatureBody(StepBody):
    """A standing order to the chamber."""

    short = "to"
    to: Text = says('A temperature, e.g. "20 degC"')
    settle: SettleBody | None = maybe("When it counts as reached")


class WaitBody(StepBody):
    """Wait at open circuit, for a time or a condition."""

    short = "for"
    for_: Text | None = maybe("How long", "for")
    until: Conditions = Field(default=(), description=_UNTIL)
    at_most: Text | None = maybe("Longest wait", "at most")


class CheckBody(StepBody):
    """What has to be true before the protocol goes on; nothing is energised before."""

    open_circuit: Text | None = maybe(
        'Its voltage, e.g. "1.5 V to 3.6 V vs Li+/Li"', "open circuit"
    )
    contact: Text | None = maybe('Impedance at high frequency, e.g. "at most 10 kOhm"')
    stack_pressure: Text | None = maybe('Within, e.g. "4 MPa to 6 MPa"', "stack pressure")
    temperature: Text | None = maybe('Within, e.g. "15 degC to 30 degC"')


class PromptBody(StepBody):
    """A question to the operator."""

    short = "ask"
    ask: Text = says("What to do or answer")
    choices: tuple[Text, ...] = Field(default=(), description="Answers to choose from")


class MarkBody(StepBody):
    """A remark in the journal."""

    short = "text"
    text: Text = says("The remark")


#: Which model a key holds, so that a typing error below it can be corrected.
MODELS: dict[str, type[BaseModel]] = {
    "rest": RestBody,
    "current": CurrentBody,
    "charge": ChargeBody,
    "discharge": ChargeBody,
    "voltage": VoltageBody,
    "hold": VoltageBody,
    "sweep": SweepBody,
    "cv": CvBody,
    "eis": EisBody,
    "press": PressBody,
    "temperature": TemperatureBody,
    "wait": WaitBody,
    "check": CheckBody,
    "prompt": PromptBody,
    "mark": MarkBody,
    "record": Record,
    "settle": SettleBody,
    "every": EveryBody,
}


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that a model's block can have, as they are written."""
    return [info.alias or name for name, info in model.model_fields.items()]
