"""One step of the file, with the names in force, to a step in SI units at the terminals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from pydantic import ValidationError

from cellbench.cell import CardError
from cellbench.instruments.techniques import ConstantCurrent, Impedance
from cellbench.protocol.arithmetic import ResultMissing
from cellbench.protocol.bodies import PressBody, PromptBody
from cellbench.protocol.channel_steps import (
    OPEN_CIRCUIT,
    resolve_channel,
    resolve_cv,
    resolve_sweep,
)
from cellbench.protocol.fields import Common, Fields, common
from cellbench.protocol.limits import interval
from cellbench.protocol.program import (
    AnyStep,
    ChannelStep,
    CheckStep,
    EisStep,
    Every,
    MarkStep,
    PressStep,
    PromptStep,
    Settle,
    StepNode,
    TemperatureStep,
    WaitStep,
)
from cellbench.protocol.scope import Scope, text_of
from cellbench.protocol.size import refuse_endless
from cellbench.protocol.source import SourceNode
from cellbench.quantities import (
    DIMENSIONS,
    PLAIN,
    Interval,
    Quantity,
    QuantityError,
    format_quantity,
)

_POINTS = re.compile(r"\s*(.+?)\s+per\s+decade\s*$")
_MAX_POINTS_PER_DECADE = 100


def resolve_step(node: StepNode, path: str, scope: Scope, bindings: Mapping[str, str]) -> AnyStep:
    """Resolve one step.

    Raises:
        ProtocolError: It cannot be carried out as written.
        ResultMissing: It uses a result that does not exist yet.
    """
    if scope.unknown is not None:
        scope.unknown.clear()
    fields = Fields(node.body, node.source, scope)
    try:
        step = _RESOLVERS[node.verb](fields, common(node, path, bindings))
    except ValidationError:
        if not scope.unknown:
            raise
        step = None  # a technique that takes no NaN for the result to come
    if step is None or scope.unknown:
        raise ResultMissing(*sorted(scope.unknown or ()))
    if node.every and isinstance(step, ChannelStep):
        step = replace(step, every=_every(node, step, fields, path, bindings))
    refuse_endless(step)
    return step


def _every(
    node: StepNode, step: ChannelStep, fields: Fields, path: str, bindings: Mapping[str, str]
) -> Every:
    inner = fields.inner("every")
    assert inner is not None  # noqa: S101 (it holds the nodes)
    interval, after = inner.place("interval"), inner.place("after")
    if (interval is None) == (after is None):
        inner.source.fail(
            'give either "interval" or "after"',
            '"interval: 20 min" is from one start to the next, while the step\'s time runs on; '
            '"after: 1 h" (or a charge) is of the step alone, whose clock then stops.',
        )
    steps = tuple(
        resolve_step(each, f"{path}/every[{{}}]/{each.name}", fields.scope, bindings)
        for each in node.every
    )
    if interval is not None:
        return Every(fields.scope.positive_si(interval, "time"), True, steps)
    return Every(_after_s(step, inner), False, steps)


def _after_s(step: ChannelStep, inner: Fields) -> float:
    """Return the time between two interruptions; a constant current passes a charge in one."""
    place = inner.needed("after")
    quantity = inner.scope.quantity(place)
    if quantity.exponents == DIMENSIONS["time"].exponents:
        return inner.scope.positive_si(place, "time")
    if not isinstance(step.technique, ConstantCurrent):
        place.fail("only a constant current passes a charge in a known time: give a time")
    period_s = inner.scope.charge_C(place) / abs(step.technique.current_A)
    if period_s <= 0:
        place.fail(f'"{text_of(place)}" is not above zero')
    return period_s


def _eis(fields: Fields, common: Common) -> EisStep:
    ends = [fields.scope.positive_si(fields.needed(name), "frequency") for name in ("from_", "to")]
    if ends[0] == ends[1]:
        fields.source.fail("the spectrum ends at the frequency where it starts")
    amplitude = _amplitude(fields)
    technique = Impedance(
        frequency_max_Hz=max(ends),
        frequency_min_Hz=min(ends),
        points_per_decade=_points(fields),
        amplitude_V=amplitude.voltage_V,
        amplitude_A=amplitude.current_A,
        **_bias(fields, amplitude),
    )
    high, low = (format_quantity(each, "frequency") for each in (max(ends), min(ends)))
    return EisStep(
        **common,
        what=f"eis {high} to {low}, {fields.words('amplitude')}",
        technique=technique,
        band_exact=getattr(fields.body, "band", "exact") == "exact",
    )


class _Amplitude(NamedTuple):
    """Of the voltage or of the current; the other is None."""

    voltage_V: float | None
    current_A: float | None


def _amplitude(fields: Fields) -> _Amplitude:
    place = fields.needed("amplitude")
    quantity = fields.scope.quantity(place)
    if quantity.value <= 0:
        place.fail(f'"{text_of(place)}" is not above zero')
    if quantity.exponents == DIMENSIONS["voltage"].exponents:
        return _Amplitude(quantity.value, None)
    return _Amplitude(None, fields.scope.current_A(place))


def _bias(fields: Fields, amplitude: _Amplitude) -> dict[str, float | None]:
    place = fields.needed("bias")
    if fields.scope.words(text_of(place)).strip() in OPEN_CIRCUIT:
        return {}
    if amplitude.current_A is None:
        return {"bias_V": fields.scope.voltage_V(place)}
    return {"bias_A": fields.scope.current_A(place)}


def _points(fields: Fields) -> int:
    place = fields.needed("points")
    match = _POINTS.match(text_of(place))
    number = place.part(*match.span(1)) if match else place
    quantity = fields.scope.quantity(number)
    if quantity.exponents == PLAIN and math.isnan(quantity.value):
        return 1
    if quantity.exponents != PLAIN or not _whole(quantity, _MAX_POINTS_PER_DECADE):
        place.fail(
            f'"{text_of(place)}" is not a number of points; write for example "10 per decade"'
        )
    return int(quantity.value)


def _whole(quantity: Quantity, largest: int) -> bool:
    return quantity.value == math.floor(quantity.value) and 1 <= quantity.value <= largest


# --- Standing orders ----------------------------------------------------------------------------


def _press(fields: Fields, common: Common) -> PressStep:
    place = fields.needed("to")
    card = fields.scope.card
    rate = _press_rate(fields)
    rate_N_per_s = card.force_N(rate)
    hold_s = fields.positive_si("hold", "time") or 0.0
    match text_of(place).strip():
        case "hold":
            return PressStep(**common, what="press holds", kind="hold", hold_s=hold_s)
        case "release":
            settle = _settle(fields, Settle(within=0.1e6, for_s=1.0, timeout_s=600.0), "pressure")
            return PressStep(
                **common,
                what="press releases",
                kind="release",
                settle=settle,
                rate_Pa_per_s=rate,
                rate_N_per_s=rate_N_per_s,
            )
    pressure_Pa = _pressure(fields, place)
    then_release = isinstance(fields.body, PressBody) and fields.body.then == "release"
    return PressStep(
        **common,
        what=_press_words(pressure_Pa, hold_s, then_release),
        kind="to",
        pressure_Pa=pressure_Pa,
        force_N=card.force_N(pressure_Pa),
        settle=_settle(fields, _usual_gate(pressure_Pa, rate), "pressure"),
        hold_s=hold_s,
        then_release=then_release,
        by_hand=isinstance(fields.body, PressBody) and fields.body.by_hand == "allowed",
        rate_Pa_per_s=rate,
        rate_N_per_s=rate_N_per_s,
    )


def _press_words(pressure_Pa: float, hold_s: float, then_release: bool) -> str:
    words = f"press to {format_quantity(pressure_Pa, 'pressure')}"
    if hold_s:
        words += f", hold {format_quantity(hold_s, 'time')}"
    return f"{words}, release" if then_release else words


def _usual_gate(pressure_Pa: float, rate_Pa_per_s: float) -> Settle:
    """Return the gate of a press step that names none: 2 %, at least 0.1 MPa, for 10 s."""
    approach_s = pressure_Pa / rate_Pa_per_s
    return Settle(within=max(0.1e6, 0.02 * pressure_Pa), for_s=10.0, timeout_s=600.0 + approach_s)


def _pressure(fields: Fields, place: SourceNode) -> float:
    quantity = fields.scope.quantity(place)
    value = fields.scope.si(place, "pressure", "force")
    if value < 0:
        place.fail("a press does not pull: the pressure is at least 0 MPa")
    if quantity.exponents == DIMENSIONS["force"].exponents:
        return fields.scope.card.pressure_Pa(value)
    return value


def _press_rate(fields: Fields) -> float:
    place = fields.needed("ramp")
    value = fields.scope.positive_si(place, "rate of pressure", "rate of force")
    if fields.scope.quantity(place).exponents == DIMENSIONS["rate of force"].exponents:
        return fields.scope.card.pressure_Pa(value)
    return value


def _settle(fields: Fields, usual: Settle, dimension: str) -> Settle:
    inner = fields.inner("settle")
    if inner is None:
        return usual
    difference = "temperature difference" if dimension == "temperature" else dimension
    for_s = inner.positive_si("for_", "time") or usual.for_s
    timeout_s = inner.positive_si("at_most", "time") or usual.timeout_s + for_s
    if timeout_s <= for_s:
        inner.needed("at_most").fail("the step would fail before it can settle")
    return Settle(
        within=inner.positive_si("within", difference) or usual.within,
        for_s=for_s,
        timeout_s=timeout_s,
        slope=inner.positive_si("slope", f"rate of {dimension}"),
    )


def _temperature(fields: Fields, common: Common) -> TemperatureStep:
    place = fields.needed("to")
    temperature_K = fields.scope.positive_si(place, "temperature")
    usual = Settle(within=1.0, for_s=600.0, timeout_s=4 * 3600.0)
    return TemperatureStep(
        **common,
        what=f"temperature {format_quantity(temperature_K, 'temperature')}",
        temperature_K=temperature_K,
        settle=_settle(fields, usual, "temperature"),
    )


# --- Waiting, people, remarks -------------------------------------------------------------------


def _wait(fields: Fields, common: Common) -> WaitStep:
    duration_s = fields.positive_si("for_", "time")
    bound_s = fields.positive_si("at_most", "time")
    conditions = fields.conditions()
    if duration_s is not None and bound_s is not None:
        fields.source.fail('give either "for" or "at most"')
    timeout_s = duration_s or bound_s
    if timeout_s is None:
        fields.source.fail(
            "nothing ends this wait", 'Add "for: 10 min", or "at most: 2 h" to "until".'
        )
    capped = duration_s is None
    words = "for its condition, at most" if capped else "for"
    what = f"wait {words} {format_quantity(timeout_s, 'time')}"
    return WaitStep(**common, what=what, until=conditions, timeout_s=timeout_s, capped=capped)


def _check(fields: Fields, common: Common) -> CheckStep:
    wanted = {
        "voltage": ("open_circuit", "open circuit"),
        "contact_ohm": ("contact", "contact"),
        "pressure": ("stack_pressure", "stack pressure"),
        "temperature": ("temperature", "temperature"),
    }
    found = {name: _interval(fields, field, quantity) for name, (field, quantity) in wanted.items()}
    if not any(found.values()):
        fields.source.fail(
            "nothing is checked", 'Write for example "check: {open circuit: 1.5 V to 3.6 V}".'
        )
    looked_at = [words for name, (_, words) in wanted.items() if found[name] is not None]
    return CheckStep(**common, what=f"check {', '.join(looked_at)}", **found)


def _interval(fields: Fields, field: str, quantity: str) -> Interval | None:
    place = fields.place(field)
    if place is None:
        return None
    try:
        return interval(quantity, place, fields.scope)
    except (QuantityError, CardError) as error:
        place.fail(str(error))


def _prompt(fields: Fields, common: Common) -> PromptStep:
    text = text_of(fields.needed("ask"))
    choices = fields.body.choices if isinstance(fields.body, PromptBody) else ()
    return PromptStep(**common, what=f"ask: {text[:60]}", prompt=text, choices=choices)


def _mark(fields: Fields, common: Common) -> MarkStep:
    text = text_of(fields.needed("text"))
    return MarkStep(**common, what=f"mark: {text[:60]}", text=text)


_RESOLVERS: dict[str, Callable[[Fields, Common], AnyStep]] = {
    "rest": resolve_channel,
    "current": resolve_channel,
    "charge": resolve_channel,
    "discharge": resolve_channel,
    "voltage": resolve_channel,
    "hold": resolve_channel,
    "sweep": resolve_sweep,
    "cv": resolve_cv,
    "eis": _eis,
    "press": _press,
    "temperature": _temperature,
    "wait": _wait,
    "check": _check,
    "prompt": _prompt,
    "mark": _mark,
}
