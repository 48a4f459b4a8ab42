"""What a checked protocol becomes: the tree that is walked, and the steps that the walk yields.

A `Program` holds structure nodes around *unresolved* steps; `cellbench.protocol.walk.Walk` goes
through it lazily, binds the variables of its loops, and yields `Step` objects in which every
number is in SI units at the terminals. Planner and engine use the same walk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cellbench.cell import CellCard, OnSoftShort
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
)
from cellbench.protocol.bodies import StepBody
from cellbench.protocol.conditions import Condition
from cellbench.protocol.source import SourceNode
from cellbench.quantities import Interval, Value

WhenInterrupted: TypeAlias = Literal["quiet", "continue", "restart"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds at all times: the card's limits, tightened by the protocol's. None: no limit.

    Attributes:
        charge_max_C: What the cell can be charged with, or give, without the other in between.
        soft_short: What becomes of a run whose cell shows signs of a short that is none yet.
    """

    voltage_min_V: float
    voltage_max_V: float
    current_max_A: float
    pressure_min_Pa: float | None = None
    pressure_max_Pa: float | None = None
    temperature_min_K: float | None = None
    temperature_max_K: float | None = None
    charge_max_C: float | None = None
    soft_short: OnSoftShort = "warn"

    @property
    def electrical(self) -> ElectricalLimits:
        """The part that a channel can be told."""
        return ElectricalLimits(
            voltage_min_V=self.voltage_min_V,
            voltage_max_V=self.voltage_max_V,
            current_max_A=self.current_max_A,
        )


@dataclass(frozen=True, slots=True)
class Recording:
    """Which rows are kept: one each ``every_s``, and each that changed by a delta; edges always.

    ``spacing`` "log" spreads rows over the decades of the step's time, ``every_s`` being the
    longest gap.
    """

    every_s: float | None = None
    dV_V: float | None = None
    dI_A: float | None = None
    dP_Pa: float | None = None
    spacing: Literal["linear", "log"] = "linear"


@dataclass(frozen=True, slots=True)
class Settle:
    """When a standing order counts as reached: inside a band, flat enough, for long enough.

    ``within`` is in Pa or K; ``slope`` in Pa/s or K/s over the last ``for_s``, None for any.
    After ``timeout_s`` the step has failed.
    """

    within: float
    for_s: float
    timeout_s: float
    slope: float | None = None


# --- What the walk yields -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What every resolved step has.

    Attributes:
        path: Its name in the expanded program, e.g. ``for_each[3]/current_2``; unique, stable.
        verb: The protocol's word for it.
        what: One line for people: ``current 0.5 mA/cm2 (0.393 mA) for 20 min``.
        source: Its place in the file, where problems are shown.
        save_as: Name under which its results are known to later expressions.
        required: False where the step is to be left out on a bench that cannot do it.
        when_interrupted: What becomes of the step when the host is lost; None: a cycler that can do
            it by itself goes on, all else comes to quiet.
        bindings: Loop variables in force, as the text a person reads (``j`` -> ``0.5 mA/cm2``).
    """

    path: str
    verb: str
    what: str
    source: SourceNode = field(repr=False, compare=False)
    bindings: Mapping[str, str]
    save_as: str | None = None
    required: bool = True
    when_interrupted: WhenInterrupted | None = None

    @property
    def file(self) -> str:
        """Name of the file that holds it."""
        return self.source.document.name

    @property
    def line(self) -> int:
        """Its line in that file, from 1."""
        return self.source.line


@dataclass(frozen=True, slots=True)
class Every:
    """What interrupts a technique again and again.

    With ``clock_runs`` the step's own time goes on through ``steps``, and ``period_s`` is from one
    start of them to the next; without, it stands still, and ``period_s`` is of the step alone.
    Paths of ``steps`` hold ``[{}]`` where the number of the interruption belongs.
    """

    period_s: float
    clock_runs: bool
    steps: tuple[AnyStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStep(Step):
    """A technique on the channel: rest, constant current or voltage, sweep.

    The technique's own ``cut_offs`` are the conditions that an instrument can watch; ``until``
    holds those that only the host can (charge, pressure, slopes, verdicts, compounds). Any one
    of either ends the step.

    Attributes:
        capped: Reaching the technique's duration means that no condition came first ("at most").
        charge_max_C: End the step at this magnitude of charge, None for no such bound.
        stop_if: Conditions of the host that end the step early, with a warning.
        every: What interrupts it, None for nothing.
        from_rest: A sweep starts at the open-circuit voltage, which only the run can tell; until
            then the technique holds the farthest start that the card allows.
    """

    technique: Rest | ConstantCurrent | ConstantVoltage | Sweep
    until: tuple[Condition, ...] = ()
    record: Recording = Recording()
    capped: bool = False
    charge_max_C: float | None = None
    stop_if: tuple[Condition, ...] = ()
    every: Every | None = None
    from_rest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EisStep(Step):
    """An impedance spectrum as asked for; `check.adapt` clips it to the instrument's band."""

    technique: Impedance
    band_exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PressStep(Step):
    """A standing order to the press.

    ``to`` approaches ``force_N`` (``pressure_Pa`` on the card's stack area) at ``rate_N_per_s``
    (None: the press's own), ``hold`` keeps what is measured now, ``release`` ramps to zero.

    Attributes:
        hold_s: How long the force is kept before the step ends.
        then_release: Whether it is taken away after that.
        by_hand: Whether the operator may press where the bench's press cannot.
    """

    kind: Literal["to", "hold", "release"]
    pressure_Pa: float | None = None
    force_N: float | None = None
    rate_Pa_per_s: float | None = None
    rate_N_per_s: float | None = None
    settle: Settle | None = None
    hold_s: float = 0.0
    then_release: bool = False
    by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureStep(Step):
    """A standing order to the chamber."""

    temperature_K: float
    settle: Settle | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStep(Step):
    """Wait, with the cell at open circuit, for conditions of the host or just ``timeout_s``.

    ``capped`` is True when reaching the timeout means that no condition came.
    """

    until: tuple[Condition, ...]
    timeout_s: float
    capped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStep(Step):
    """What must be true before anything is energised, in SI units at the terminals.

    ``contact`` is the magnitude of the impedance at high frequency; None is not looked at.
    """

    voltage: Interval | None = None
    contact_ohm: Interval | None = None
    pressure: Interval | None = None
    temperature: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStep(Step):
    """A question to the operator."""

    prompt: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkStep(Step):
    """A remark in the journal."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterStep(Step):
    """A step that cannot be resolved yet, since it uses results; only planning walks yield it.

    ``uses`` are the results that it waits for, e.g. ``first.R_low``.
    """

    uses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PassEnded:
    """One pass of a loop is over. The engine tests ``until`` and may call `Walk.leave`.

    Attributes:
        path: The pass, e.g. ``for_each[3]``.
        until: Conditions of the loop, any of which ends it.
        last: Whether the loop ends now in any case.
        unmet: The loop ends by its "at most" without its condition (only with ``last``).
    """

    path: str
    until: tuple[Condition, ...]
    last: bool
    unmet: bool = False


AnyStep: TypeAlias = (
    ChannelStep
    | EisStep
    | PressStep
    | TemperatureStep
    | WaitStep
    | CheckStep
    | PromptStep
    | MarkStep
    | LaterStep
)


# --- The tree -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepNode:
    """An unresolved step. ``source`` is its body in the file, where problems are shown.

    ``every`` are the nodes that interrupt it.
    """

    name: str
    verb: str
    body: StepBody
    source: SourceNode
    every: tuple[StepNode, ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """What a name stands for: a text and where it is; ``outer`` if of the surrounding scope."""

    source: SourceNode
    outer: bool = False


@dataclass(frozen=True, slots=True)
class GroupNode:
    """Steps under one name; of an include, with its own parameters (None: those around)."""

    name: str
    nodes: tuple[Node, ...]
    source: SourceNode
    parameters: Mapping[str, Binding] | None = None


@dataclass(frozen=True, slots=True)
class _LoopNode:
    """What the loops have in common."""

    name: str
    conditions: tuple[SourceNode, ...]
    nodes: tuple[Node, ...]
    source: SourceNode

    @property
    def until(self) -> tuple[str, ...]:
        """The conditions that end the loop, as they are written."""
        return tuple(str(each.content) for each in self.conditions)


@dataclass(frozen=True, slots=True)
class RepeatNode(_LoopNode):
    """A block done ``times`` times, or with ``until``, at most so often."""

    times: SourceNode


@dataclass(frozen=True, slots=True)
class ForEachNode(_LoopNode):
    """A block done for each value; several variables make their product, the last fastest."""

    variables: Mapping[str, SourceNode]


@dataclass(frozen=True, slots=True)
class IfNode:
    """One of two blocks, by an expression."""

    name: str
    test: SourceNode
    nodes: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    source: SourceNode


Node: TypeAlias = StepNode | GroupNode | RepeatNode | ForEachNode | IfNode


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: its value (SI), the text that gave it, and whether the user set it."""

    name: str
    text: str
    value: Value
    changed: bool = False


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that the program was made from, verbatim."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Program:
    """A protocol for one cell card.

    Attributes:
        sources: The files that it was made from, the protocol first; the card and includes follow.
        saved: Names under which steps save results (``as``).
        conditions_every_s: How often stack pressure and temperature are read.
        fixtures: What may hold the stack; empty where nothing is said of it.
    """

    name: str
    reference: str
    card: CellCard
    limits: Limits
    parameters: Mapping[str, Parameter]
    nodes: tuple[Node, ...]
    analyses: tuple[str, ...]
    sources: tuple[SourceFile, ...]
    saved: frozenset[str] = frozenset()
    conditions_every_s: float = 5.0
    fixtures: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """A hash of everything that the program was made from: files and settings."""
        digest = hashlib.sha256()
        texts = [(each.name, each.text) for each in self.sources]
        texts += [(each.name, each.text) for each in self.parameters.values()]
        for name, text in texts:
            digest.update(f"{name}\0{text}\0".encode())
        return digest.hexdigest()
