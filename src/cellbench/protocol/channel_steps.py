"""Steps on the channel: what ends them, what the instrument can watch, what the host must.

Each has to end: by its time, by a charge that a constant current reaches in a known time, or by a
condition together with a bound (``at most``) for the case that it never comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    Rest,
    Sweep,
)
from cellbench.protocol.conditions import Condition, Threshold
from cellbench.protocol.fields import Common, Fields, recording
from cellbench.protocol.program import ChannelStep, Recording
from cellbench.protocol.scope import text_of
from cellbench.protocol.source import SourceNode
from cellbench.quantities import (
    DIMENSIONS,
    Quantity,
    QuantityError,
    convert,
    format_quantity,
    name_of,
)

#: How a person writes the voltage of a cell at rest.
OPEN_CIRCUIT = frozenset({"open circuit", "OCV", "OCP"})
_CYCLES_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Ends:
    """What ends a step. ``bound_s`` and ``bound_C`` are of "at most"."""

    for_s: float | None
    bound_s: float | None
    for_C: float | None
    bound_C: float | None
    cut_offs: tuple[CutOff, ...]
    host: tuple[Condition, ...]


def resolve_channel(fields: Fields, common: Common) -> ChannelStep:
    """Resolve rest, current, charge, discharge, voltage and hold.

    Raises:
        ProtocolError: It cannot be carried out.
        ResultMissing: It uses a result that does not exist yet.
    """
    match common["verb"]:
        case "rest":
            return _rest(fields, common)
        case "voltage" | "hold":
            return _voltage(fields, common)
        case _:
            return _current(fields, common)


def _rest(fields: Fields, common: Common) -> ChannelStep:
    ends = _ends(fields)
    duration_s, capped = _duration(fields, ends, None)
    record, interval_s = recording(fields)
    technique = Rest(duration_s=duration_s, interval_s=interval_s, cut_offs=ends.cut_offs)
    what = f"rest {_for(duration_s, capped)}"
    return _step(fields, common, technique, ends, record, capped, what)


def _current(fields: Fields, common: Common) -> ChannelStep:
    place = fields.needed("at")
    current_A = _signed(fields, common["verb"], fields.scope.current_A(place), place)
    if current_A == 0:
        place.fail("a current of zero is a rest", 'Write "rest: 10 min".')
    ends = _ends(fields)
    duration_s, capped = _duration(fields, ends, abs(current_A))
    record, interval_s = recording(fields)
    technique = ConstantCurrent(
        current_A=current_A,
        duration_s=duration_s,
        interval_s=interval_s,
        cut_offs=ends.cut_offs,
    )
    written = fields.words("at")
    amperes = format_quantity(current_A, "current")
    shown = written if written == amperes else f"{written} ({amperes})"
    what = f"{common['verb']} {shown} {_for(duration_s, capped)}"
    return _step(fields, common, technique, ends, record, capped, what)


def _signed(fields: Fields, verb: str, current_A: float, place: SourceNode) -> float:
    if verb == "current":
        return current_A
    if not fields.scope.card.knows_charge:
        fields.source.fail(
            f'"{verb}" has no direction on a {fields.scope.card.kind} cell',
            'Write "current" with a sign, or add "charge current: positive" to the card.',
        )
    if current_A < 0:
        place.fail(
            f'"{verb}" has its direction from the cell card: give the current\'s magnitude',
            'A "current" step takes a sign.',
        )
    charging = fields.scope.card.charge_current == "positive"
    return current_A if charging == (verb == "charge") else -current_A


def _voltage(fields: Fields, common: Common) -> ChannelStep:
    voltage_V = fields.scope.voltage_V(fields.needed("at"))
    ends = _ends(fields)
    duration_s, capped = _duration(fields, ends, None)
    record, interval_s = recording(fields)
    technique = ConstantVoltage(
        voltage_V=voltage_V,
        duration_s=duration_s,
        interval_s=interval_s,
        current_range_A=current_range(fields),
        rest_V=0.0 if fields.scope.card.kind in {"symmetric", "blocking"} else None,
        cut_offs=ends.cut_offs,
    )
    what = f"{common['verb']} {fields.words('at')} {_for(duration_s, capped)}"
    return _step(fields, common, technique, ends, record, capped, what)


def resolve_sweep(fields: Fields, common: Common) -> ChannelStep:
    """Resolve a sweep. Raises like `resolve_channel`."""
    end_V = fields.scope.voltage_V(fields.needed("to"))
    start_V, from_rest = _start_V(fields, (end_V,))
    if start_V == end_V:
        fields.source.fail("the sweep ends where it starts")
    what = f"sweep {fields.words('from_')} to {fields.words('to')} at {fields.words('rate')}"
    return _swept(fields, common, (start_V, end_V), from_rest, what)


def resolve_cv(fields: Fields, common: Common) -> ChannelStep:
    """Resolve a cyclic voltammogram. Raises like `resolve_channel`."""
    place = fields.needed("vertices")
    vertices = tuple(fields.scope.voltage_V_of(place, q) for q in fields.scope.quantities(place))
    if len(vertices) != 2 or vertices[0] == vertices[1]:
        place.fail("a cyclic voltammogram turns at two potentials", 'Write "vertices: 2.5, 0 V".')
    start_V, from_rest = _start_V(fields, vertices)
    to = fields.place("to")
    turns = vertices * fields.scope.count(fields.needed("cycles"), _CYCLES_MAX)
    last_V = () if from_rest and to is None else (start_V,)
    path = (start_V, *turns, *(last_V if to is None else (fields.scope.voltage_V(to),)))
    what = (
        f"cv {fields.words('from_')}, {fields.words('vertices')} at {fields.words('rate')}, "
        f"{len(turns) // 2} x"
    )
    return _swept(fields, common, path, from_rest, what)


def _start_V(fields: Fields, towards: Sequence[float]) -> tuple[float, bool]:
    """Return where a sweep starts; from open circuit, the farthest start that the card allows."""
    place = fields.needed("from_")
    if text_of(place).strip() not in OPEN_CIRCUIT:
        return fields.scope.voltage_V(place), False
    window_V = fields.scope.card.voltage_window_V
    return max(window_V, key=lambda start_V: abs(start_V - towards[0])), True


def _swept(
    fields: Fields, common: Common, path: Sequence[float], from_rest: bool, what: str
) -> ChannelStep:
    points = [path[0], *(b for a, b in pairwise(path) if b != a)]
    cut_offs, host = _by_place(fields.conditions())
    record, _ = recording(fields)
    technique = Sweep(
        start_V=points[0],
        vertices_V=tuple(points[1:-1]),
        end_V=points[-1],
        rate_V_per_s=fields.scope.positive_si(fields.needed("rate"), "voltage rate"),
        step_V=fields.positive_si("step", "voltage") or 1e-3,
        current_range_A=current_range(fields),
        cut_offs=cut_offs,
    )
    return ChannelStep(
        **common, what=what, technique=technique, until=host, record=record, from_rest=from_rest
    )


def current_range(fields: Fields) -> float | None:
    """Return the largest expected current in A, None if the step names none."""
    place = fields.place("current_range")
    return None if place is None else abs(fields.scope.current_A(place)) or None


def _step(
    fields: Fields,
    common: Common,
    technique: Rest | ConstantCurrent | ConstantVoltage,
    ends: _Ends,
    record: Recording,
    capped: bool,
    what: str,
) -> ChannelStep:
    charges = [charge for charge in (ends.for_C, ends.bound_C) if charge is not None]
    return ChannelStep(
        **common,
        what=what,
        technique=technique,
        until=ends.host,
        record=record,
        capped=capped,
        charge_max_C=min(charges, default=None),
        stop_if=fields.conditions("stop_if"),
    )


def _for(duration_s: float, capped: bool) -> str:
    return f"{'until its condition, at most' if capped else 'for'} " + format_quantity(
        duration_s, "time"
    )


# --- What ends a step ---------------------------------------------------------------------------


def _ends(fields: Fields) -> _Ends:
    place = fields.place("for_")
    if place is not None:
        fields.scope.quantity(place)
    for_s, for_C = _times_and_charges(fields, place)
    bound_s, bound_C = _times_and_charges(fields, fields.place("at_most"))
    natural = fields.conditions()
    times = [c.value for c in natural if isinstance(c, Threshold) and c.quantity == "time"]
    charges = [c.value for c in natural if isinstance(c, Threshold) and c.quantity == "charge"]
    cut_offs, host = _by_place([c for c in natural if not _is_progress(c)])
    return _Ends(
        for_s=_least(for_s, *times),
        bound_s=bound_s,
        for_C=_least(for_C, *charges),
        bound_C=bound_C,
        cut_offs=cut_offs,
        host=host,
    )


def _is_progress(condition: Condition) -> bool:
    """Whether it comes by itself: a step's time passes, a current's charge adds up."""
    return (
        isinstance(condition, Threshold)
        and condition.quantity in {"time", "charge"}
        and condition.above
    )


def _times_and_charges(
    fields: Fields, place: SourceNode | None
) -> tuple[float | None, float | None]:
    times: list[float] = []
    charges: list[float] = []
    for quantity in () if place is None else fields.scope.quantities(place):
        if quantity.exponents == DIMENSIONS["time"].exponents:
            times.append(quantity.value)
        elif place is not None:
            charges.append(_charge(fields, place, quantity))
    if place is not None and min([*times, *charges]) <= 0:
        place.fail(f'"{text_of(place)}" is not above zero')
    return min(times, default=None), min(charges, default=None)


def _charge(fields: Fields, place: SourceNode, quantity: Quantity) -> float:
    if "charge" in name_of(quantity.exponents) or "capacity" in name_of(quantity.exponents):
        return fields.scope.charge_C_of(place, quantity)
    try:
        return convert(quantity, "time")
    except QuantityError as error:
        place.fail(str(error))


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _by_place(
    conditions: Sequence[Condition],
) -> tuple[tuple[CutOff, ...], tuple[Condition, ...]]:
    """Split into what an instrument can watch and what only the host can."""
    cut_offs: list[CutOff] = []
    host: list[Condition] = []
    for each in conditions:
        match each:
            case Threshold(quantity="voltage", above=above, value=value):
                cut_offs.append(CutOff(quantity="voltage", above=above, value=value))
            case Threshold(quantity="current", above=above, value=value):
                cut_offs.append(CutOff(quantity="current", above=above, value=value))
            case _:
                host.append(each)
    return tuple(cut_offs), tuple(host)


def _duration(fields: Fields, ends: _Ends, current_A: float | None) -> tuple[float, bool]:
    """Return the longest time in s, and whether reaching it means that no condition came."""
    wanted, bound = ends.for_s, ends.bound_s
    if current_A is not None:
        wanted = _least(wanted, None if ends.for_C is None else ends.for_C / current_A)
        bound = _least(bound, None if ends.bound_C is None else ends.bound_C / current_A)
    duration_s = _least(wanted, bound)
    if duration_s is None:
        _endless(fields, ends)
    return duration_s, wanted is None or (bound is not None and bound < wanted)


def _endless(fields: Fields, ends: _Ends) -> NoReturn:
    if ends.cut_offs or ends.host or ends.for_C or ends.bound_C:
        fields.source.fail(
            "nothing ends this step if its condition never comes",
            'A leaking cell never reaches its cut-off. Add a bound: "at most: 12 h", for a '
            'current also "at most: 1.3 of nominal capacity".',
        )
    fields.source.fail(
        "nothing ends this step", 'Add "for: 20 min", or "until: ..." with "at most: ...".'
    )
