"""Half-cycles and cycles of a run, found from its steps, or from the sign of the current alone.

A half-cycle is everything that passes charge one way before charge passes the other way: its
constant-current part, the hold after it, and its pieces between rests and spectra; only a residual
discharge at another current, as in a check-up, is one by itself. A cycle is two
half-cycles, of which the first one of the run gives the order: charge before discharge in most
cells, plating before stripping on copper. Charge is counted from the run's own ledger where there
is one, and else integrated by trapezoids.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Literal, TypeAlias

import numpy as np

from cellbench.analysis.dataset import Dataset, FloatArray, Samples, StepData

Direction: TypeAlias = Literal["charge", "discharge"]

CURRENT = "current"
_NAMED = ("charge", "discharge")
_HELD = ("hold", "voltage")
#: Of the largest current: below it a plain table of samples is at rest.
_REST_SHARE = 1e-3
_SAME_CURRENT = 0.02
#: In the path of a step that another one's ``every`` has put into it.
_SCHEDULED = "/every["
_SAME_TIME_S = 1e-6
_REST_S = 1.0


@dataclass(frozen=True, eq=False)
class Piece:
    """The rows of one step: seconds, volts, amperes, and coulombs passed since its start."""

    step: StepData
    time_s: FloatArray
    voltage_V: FloatArray
    current_A: FloatArray
    charge_C: FloatArray

    @property
    def held(self) -> bool:
        """Whether the voltage was constant, not the current."""
        return self.step.kind in _HELD

    @property
    def passed_C(self) -> float:
        """Charge of the whole step, with its sign."""
        return float(self.charge_C[-1]) if len(self.charge_C) else 0.0

    @property
    def set_A(self) -> float | None:
        """Current that was asked for, or what flowed most of the time where a table tells."""
        asked = self.step.number("current_A")
        if asked is not None or self.held:
            return asked
        return float(np.median(self.current_A)) if len(self.current_A) else None


@dataclass(frozen=True, eq=False)
class HalfCycle:
    """One charge or discharge; columns are those of its pieces, charge is positive throughout."""

    direction: Direction
    pieces: tuple[Piece, ...]
    time_s: FloatArray = field(init=False)
    voltage_V: FloatArray = field(init=False)
    current_A: FloatArray = field(init=False)
    charge_C: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        for name in ("time_s", "voltage_V", "current_A"):
            column = np.concatenate([getattr(piece, name) for piece in self.pieces])
            object.__setattr__(self, name, column)
        object.__setattr__(self, "charge_C", self._ledger_C())

    def _ledger_C(self) -> FloatArray:
        parts, so_far_C = [], 0.0
        for piece in self.pieces:
            parts.append(np.abs(so_far_C + piece.charge_C))
            so_far_C += piece.passed_C
        return np.concatenate(parts)

    @property
    def capacity_C(self) -> float:
        """Charge that passed, positive."""
        return abs(sum(piece.passed_C for piece in self.pieces))

    @property
    def energy_J(self) -> float:
        """Energy that went in or came out, positive for a positive voltage."""
        rises_C = np.diff(self.charge_C, prepend=0.0)
        middle_V = (self.voltage_V + np.roll(self.voltage_V, 1)) / 2
        if len(middle_V):
            middle_V[0] = self.voltage_V[0]
        return float(np.nansum(middle_V * rises_C))

    @property
    def start_s(self) -> float:
        """When its first step began."""
        return self.pieces[0].step.start_s

    @property
    def end_s(self) -> float:
        """When its last step ended."""
        return self.pieces[-1].step.end_s

    @property
    def path(self) -> str:
        """Path of its first step."""
        return self.pieces[0].step.path

    @property
    def ending(self) -> str:
        """How its last step ended."""
        return self.pieces[-1].step.ending

    @property
    def set_A(self) -> float | None:
        """Magnitude of its constant current, that of the longest piece if there are several."""
        driven = [piece for piece in self.pieces if piece.set_A]
        if not driven:
            return None
        longest = max(driven, key=lambda piece: piece.step.duration_s)
        return abs(longest.set_A or 0.0)

    def driven(self) -> tuple[FloatArray, FloatArray]:
        """Voltage (V) and charge (C) of the constant-current part, holds left out."""
        parts_V, parts_C, so_far_C = [np.empty(0)], [np.empty(0)], 0.0
        for piece in self.pieces:
            if not piece.held:
                parts_V.append(piece.voltage_V)
                parts_C.append(np.abs(so_far_C + piece.charge_C))
            so_far_C += piece.passed_C
        return np.concatenate(parts_V), np.concatenate(parts_C)


@dataclass(frozen=True, eq=False)
class Cycle:
    """One cycle, numbered from 1; a half-cycle that did not run is None."""

    number: int
    first: HalfCycle | None
    second: HalfCycle | None

    def _of(self, direction: Direction) -> HalfCycle | None:
        halves = (self.first, self.second)
        return next((half for half in halves if half and half.direction == direction), None)

    @property
    def charge(self) -> HalfCycle | None:
        """Its charge."""
        return self._of("charge")

    @property
    def discharge(self) -> HalfCycle | None:
        """Its discharge."""
        return self._of("discharge")

    @property
    def complete(self) -> bool:
        """Whether both half-cycles ran."""
        return self.first is not None and self.second is not None


@lru_cache(maxsize=2)
def half_cycles(dataset: Dataset) -> tuple[HalfCycle, ...]:
    """The half-cycles of a run in order; empty if no charge passed.

    Where the protocol speaks of charge and discharge, a plain current is a pulse and not counted.
    """
    pieces = list(_pieces(dataset))
    directed = list(_directions(pieces, dataset.geometry.charge_sign))
    groups = groupby(zip(directed, pieces, strict=True), key=lambda pair: pair[0])
    halves = [
        HalfCycle(direction, part)
        for direction, group in groups
        for part in _without_residuals(direction, [piece for _, piece in group])
    ]
    # A strip that ended at once has no row, and is a result; one that has only begun is none.
    while halves and not len(halves[-1].time_s):
        halves.pop()
    return tuple(halves)


def cycles(dataset: Dataset) -> list[Cycle]:
    """The cycles of a run; the direction that came first begins each of them.

    A full cell's cycle begins with its charge: a discharge before the first one is cycle 0.

    Raises:
        ValueError: if no charge passed.
    """
    halves = half_cycles(dataset)
    if not halves:
        raise ValueError("No cycle: no step of this run passed charge.")
    begins = "charge" if dataset.geometry.layout == "full" else halves[0].direction
    leading = [] if halves[0].direction == begins else [Cycle(0, None, halves[0])]
    pairs = zip(halves, [*halves[1:], None], strict=True)
    firsts = [
        (first, second if second and second.direction != begins else None)
        for first, second in pairs
        if first.direction == begins
    ]
    return leading + [Cycle(number, *pair) for number, pair in enumerate(firsts, start=1)]


def longest_series(ran: Iterable[Cycle]) -> list[Cycle]:
    """All cycles at the discharge current that most of them have, check-ups apart.

    One whose discharge went on at another current, as a check-up's may, compares with none.
    """
    whole = [one for one in ran if one.discharge is not None and _at_one_current(one.discharge)]
    return most_alike(whole, lambda one: one.discharge.set_A if one.discharge else None)


def most_alike(ran: Iterable[Cycle], set_A: Callable[[Cycle], float | None]) -> list[Cycle]:
    """All cycles at the current that most of them have; ``set_A`` says which one of each counts."""
    groups: list[list[Cycle]] = []
    for cycle in ran:
        for group in groups:
            if same_current(set_A(group[0]), set_A(cycle)):
                group.append(cycle)
                break
        else:
            groups.append([cycle])
    return max(groups, key=len, default=[])


def piece_of(samples: Samples, step: StepData, between: Sequence[StepData] = ()) -> Piece:
    """The rows of one step with the charge passed in it.

    A row at the very start is the last one of the step before. Rows of the steps in ``between``,
    which interrupted this one, are theirs; the ledger goes on after them where it stood.
    """
    rows = samples.between(step.start_s + _SAME_TIME_S, step.end_s)
    known = np.isfinite(rows.current_A) & np.isfinite(rows.voltage_V)
    for other in between:
        known &= (rows.time_s <= other.start_s) | (rows.time_s > other.end_s)
    time_s, current_A = rows.time_s[known], rows.current_A[known]
    ledger_C = rows.charge_C[known] if len(rows.charge_C) else None
    charge_C = passed_C(time_s, current_A, step.start_s, ledger_C)
    return Piece(step, time_s, rows.voltage_V[known], current_A, charge_C)


def passed_C(
    time_s: FloatArray,
    current_A: FloatArray,
    start_s: float,
    ledger_C: FloatArray | None = None,
) -> FloatArray:
    """Charge (C, signed) since the start of a step at each of its rows.

    The ledger counts from the start of the step. Other people's may begin anew within one: where it
    jumps against the current on both sides, the trapezoid stands in. Without a ledger the current
    of the first row is taken to have flowed before it, for one interval at most.
    """
    if not len(time_s):
        return np.empty(0)
    intervals_s = np.diff(time_s)
    before_A, after_A = current_A[:-1], current_A[1:]
    rises_C = (before_A + after_A) / 2 * intervals_s
    if ledger_C is not None:
        counted_C = np.diff(ledger_C)
        anew = (counted_C * before_A < 0) & (counted_C * after_A < 0)
        rises_C = np.where(np.isfinite(counted_C) & ~anew, counted_C, rises_C)
    if ledger_C is not None and np.isfinite(ledger_C[0]):
        lead_C = float(ledger_C[0])
    else:
        usual_s = float(np.median(intervals_s[:10])) if len(intervals_s) else 0.0
        lead_C = float(current_A[0]) * min(max(float(time_s[0]) - start_s, 0.0), usual_s)
    return np.asarray(np.cumsum(np.concatenate(([lead_C], rises_C))))


def rate_C(dataset: Dataset, current_A: float | None) -> float | None:
    """A current as a multiple of 1C, None where the card does not say what 1C is."""
    nominal_C = dataset.geometry.nominal_capacity_C
    return None if current_A is None or not nominal_C else abs(current_A) * 3600 / nominal_C


def rate_text(rate: float | None) -> str:
    """A C-rate as people write it: C/10, C/3, 0.13C, 2C."""
    if not rate:
        return "rate unknown"
    inverse = 1 / rate
    if rate < 0.6 and abs(inverse - round(inverse)) < 0.02 * inverse:
        return f"C/{round(inverse)}"
    return f"{rate:.2g}C"


def same_current(one_A: float | None, other_A: float | None) -> bool:
    """Whether two constant currents are one and the same."""
    if one_A is None or other_A is None:
        return one_A is other_A
    return abs(abs(one_A) - abs(other_A)) <= _SAME_CURRENT * max(abs(one_A), abs(other_A))


def _at_one_current(half: HalfCycle) -> bool:
    driven_A = [piece.set_A for piece in half.pieces if not piece.held]
    return all(same_current(each_A, driven_A[0]) for each_A in driven_A)


def _pieces(dataset: Dataset) -> Iterator[Piece]:
    scheduled = [step for step in dataset.steps if _SCHEDULED in step.path]
    for step in _passing(dataset):
        own = f"{step.path}{_SCHEDULED}"
        between = [other for other in scheduled if other.path.startswith(own)]
        yield piece_of(dataset.samples, step, between)


def _without_residuals(
    direction: Direction, pieces: Sequence[Piece]
) -> Iterator[tuple[Piece, ...]]:
    """Pieces of one half-cycle, with what a check-up takes out after the cut-off set apart.

    A discharge at another current that follows a rest at the cut-off is none of the cycle's
    capacity: a rate test would otherwise find at 2C what C/10 gave.
    """
    own: list[Piece] = []
    for piece in pieces:
        if own and direction == "discharge" and _is_residual(own[-1], piece):
            yield tuple(own)
            own = []
        own.append(piece)
    yield tuple(own)


def _is_residual(before: Piece, piece: Piece) -> bool:
    rested = piece.step.start_s - before.step.end_s > _REST_S
    cut_off = before.step.ending.startswith("voltage")
    driven = not before.held and not piece.held
    return rested and cut_off and driven and not same_current(before.set_A, piece.set_A)


def _passing(dataset: Dataset) -> list[StepData]:
    """The steps that pass charge; of a table without steps, its stretches of one sign."""
    if not dataset.steps:
        return _from_sign(dataset.samples)
    kinds = {step.kind for step in dataset.steps}
    driven = _NAMED if kinds.intersection(_NAMED) else (CURRENT,)
    wanted = {*driven, *(_HELD if kinds.intersection(driven) else ())}
    return [step for step in dataset.steps if step.kind in wanted]


def _from_sign(samples: Samples) -> list[StepData]:
    current_A = np.nan_to_num(samples.current_A)
    if not len(current_A) or not np.any(current_A):
        return []
    sign = np.sign(current_A) * (np.abs(current_A) > _REST_SHARE * np.abs(current_A).max())
    edges = np.flatnonzero(np.diff(sign)) + 1
    stretches = zip([0, *edges.tolist()], [*edges.tolist(), len(sign)], strict=True)
    return [
        StepData(
            f"rows {first} to {end - 1}",
            CURRENT,
            float(samples.time_s[first]) - 2 * _SAME_TIME_S,
            float(samples.time_s[end - 1]),
        )
        for first, end in stretches
        if sign[first] and end - first > 1
    ]


def _directions(pieces: Sequence[Piece], charge_sign: float) -> Iterator[Direction]:
    """Which way each piece passes charge; a hold goes on with what came before it."""
    last: Direction | None = None
    for piece in pieces:
        direction = _direction(piece, charge_sign, last)
        yield direction
        last = direction


def _direction(piece: Piece, charge_sign: float, last: Direction | None) -> Direction:
    match piece.step.kind:
        case "charge":
            return "charge"
        case "discharge":
            return "discharge"
        case "hold" | "voltage" if last is not None:
            return last
        case _:
            flowing = piece.set_A or piece.passed_C
            return "charge" if flowing * charge_sign >= 0 else "discharge"
