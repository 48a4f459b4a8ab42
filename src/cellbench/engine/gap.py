"""What a step leaves behind that is cut off: a gap in the data, and the charge that passed in it.

A step is cut off by a hold, by an instrument that failed, or with its host. From the last row that
was kept until the cell was known to be at open circuit, its current may have gone on. The charge of
that time is entered as an interval, bounded by what the instrument was told to do, and the step
goes on as if all of it had passed: no charge is put into a cell twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cellbench.engine.extremes import Extremes
from cellbench.engine.journal import Journal
from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.instruments.techniques import ConstantCurrent, ConstantVoltage, Rest, Sweep
from cellbench.protocol.program import AnyStep, ChannelStep
from cellbench.quantities import format_quantity

#: Kinds of journal entries: a gap in the data; from when the own time of a step counts.
GAP, BEGAN = "gap", "began"
#: Shorter gaps without any charge are none.
_NOTHING_S = 1e-3
_C_PER_MAH = 3.6


@dataclass(frozen=True)
class Bounds:
    """What an instrument can have passed while nobody saw it.

    Attributes:
        current_max_A: The limit that it watches.
        one_way_A: A hold takes current in one direction only: that of its last current, where that
            was at least this large; infinite where it may take either.
        after_s: How long a technique goes on after its time, where its host has to end it and fell
            silent.
    """

    current_max_A: float
    one_way_A: float = math.inf
    after_s: float = 0.0

    @classmethod
    def of(cls, current_max_A: float, able: ChannelCapabilities) -> Bounds:
        """The bounds of an instrument that watches a limit of current."""
        return cls(
            current_max_A,
            math.inf if able.holds_both_ways else able.current_min_A,
            0.0 if "duration" in able.on_device else able.silent_s,
        )

    def of_hold_A(self, last_A: float) -> tuple[float, float]:
        """The least and the largest current of a hold."""
        if abs(last_A) >= self.one_way_A:
            return (0.0, self.current_max_A) if last_A > 0 else (-self.current_max_A, 0.0)
        return -self.current_max_A, self.current_max_A


@dataclass(frozen=True)
class Gap:
    """A time in which nobody saw the cell.

    Attributes:
        from_s, to_s: Since the start of the run; at its end the cell was at open circuit.
        passed_s: Time of it that counts as time of the step.
        charge_C: Charge that is taken to have passed.
        charge_min_C, charge_max_C: What can have passed.
    """

    from_s: float
    to_s: float
    passed_s: float
    charge_C: float
    charge_min_C: float
    charge_max_C: float

    @classmethod
    def of(
        cls, step: ChannelStep, from_s: float, to_s: float, last_A: float, bounds: Bounds,
        left_s: float, latest_s: float | None = None,
    ) -> Gap:  # fmt: skip
        """Bound what passed in a gap of a step.

        Args:
            step: The step.
            from_s: When it was last seen.
            to_s: From when on the cell was at open circuit; infinite if nobody knows.
            last_A: The current that was seen last, nan for none.
            bounds: What the instrument can have passed.
            left_s: How long the instrument would have gone on by itself.
            latest_s: When it can have come to open circuit at the latest, where that is later.
        """
        technique = step.technique
        if math.isinf(to_s):
            # Where nothing at all would end it, that time is a guess: such steps are refused.
            goes_on_s = bounds.after_s if math.isfinite(bounds.after_s) else 0.0
            to_s = from_s + max(0.0, left_s + goes_on_s)
        left_s += bounds.after_s
        if isinstance(technique, Rest):
            return cls(from_s, to_s, to_s - from_s, 0.0, 0.0, 0.0)
        passed_s = max(0.0, min(to_s - from_s, left_s))
        most_s = max(0.0, min((to_s if latest_s is None else latest_s) - from_s, left_s))
        if isinstance(technique, ConstantCurrent):
            current_A, (low_A, high_A) = technique.current_A, sorted((0.0, technique.current_A))
        else:
            current_A = 0.0 if math.isnan(last_A) else last_A
            low_A, high_A = bounds.of_hold_A(last_A)
            # The last row may have been the one beyond the limit.
            low_A, high_A = min(low_A, current_A), max(high_A, current_A)
        return cls(from_s, to_s, passed_s, current_A * passed_s, low_A * most_s, high_A * most_s)

    def enter(self, journal: Journal, path: str) -> None:
        """Enter it in the journal."""
        if self.passed_s < _NOTHING_S:
            return
        text = f"not seen for {format_quantity(self.to_s - self.from_s, 'time')}"
        if self.charge_min_C != self.charge_max_C:
            low, high = self.charge_min_C / _C_PER_MAH, self.charge_max_C / _C_PER_MAH
            text += f", in which {low:.3g} to {high:.3g} mAh have passed"
            text += f"; {self.charge_C / _C_PER_MAH:.3g} mAh are counted"
        journal.enter_soon(
            GAP,
            step=path,
            text=text,
            from_s=self.from_s,
            to_s=self.to_s,
            charge_C=self.charge_C,
            charge_min_C=self.charge_min_C,
            charge_max_C=self.charge_max_C,
        )


def charge_bounds_C(
    technique: Rest | ConstantCurrent | ConstantVoltage, current_max_A: float
) -> tuple[float, float]:
    """What a technique can pass at most, in either direction."""
    if isinstance(technique, Rest):
        return 0.0, 0.0
    if isinstance(technique, ConstantCurrent):
        charge_C = technique.current_A * technique.duration_s
        return min(0.0, charge_C), max(0.0, charge_C)
    most_C = current_max_A * technique.duration_s
    return -most_C, most_C


@dataclass(frozen=True)
class StepLeft:
    """A step that was under way when its host was lost, by what the run's file holds.

    Attributes:
        step_id: Its number in the file.
        elapsed_s, charge_C: Of its own time and charge, up to the last row that was kept.
        last_s, last_A: That row's time and current; the step's start and nan where there is none.
        interruptions: How often it was interrupted for other steps.
        ended_within: Paths of those that have ended; their charge counts as its own.
        within: Those that were under way themselves, by their paths: then the step itself was not.
        extremes: Of the rows that were kept.
        to_s: From when on the cell is known to have been at open circuit.
        latest_s: The same, where the clock that tells it may be wrong; None: it is right.
    """

    step_id: int
    elapsed_s: float
    charge_C: float
    last_s: float
    last_A: float
    interruptions: int
    to_s: float
    latest_s: float | None = None
    ended_within: frozenset[str] = frozenset()
    within: Mapping[str, StepLeft] = field(default_factory=dict)
    extremes: Extremes = field(default_factory=Extremes)

    def gap(self, step: ChannelStep, bounds: Bounds) -> Gap:
        """The time from its last row to the open circuit."""
        left_s = step.technique.duration_s - self.elapsed_s
        if self.within:
            return Gap.of(step, self.last_s, self.last_s, self.last_A, bounds, left_s)
        return Gap.of(step, self.last_s, self.to_s, self.last_A, bounds, left_s, self.latest_s)


def can_go_on(step: AnyStep) -> bool:
    """Whether a step that was cut off goes on where it was; else it begins anew."""
    if not isinstance(step, ChannelStep):
        return False
    return not isinstance(step.technique, Sweep) and step.when_interrupted != "restart"
