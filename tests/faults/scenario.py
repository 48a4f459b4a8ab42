"""A scenario: what a lab is told to do, what goes wrong meanwhile, and who comes back when.

All of it is data: a scenario that is written down runs again exactly, and can be made shorter.
Times are of the bench, in seconds since it was switched on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias


class Kind(Enum):
    """What happens on the line of one instrument."""

    SILENT = "silent"  #: nothing gets through, either way
    PULLED = "pulled"  #: the connection is lost, and cannot be made for so long
    REQUEST_LOST = "request lost"  #: one request does not arrive
    REPLY_LOST = "reply lost"  #: one request is carried out, nobody hears of it
    LATE = "late"  #: one reply comes so much later, and those after it behind it
    DUPLICATED = "duplicated"  #: one reply comes twice
    TRUNCATED = "truncated"  #: the end of one reply is lost
    NOISE = "noise"  #: bytes come in between that belong to no number
    FLIPPED = "flipped"  #: one bit of a reply is another one
    RESET = "reset"  #: the instrument loses its power and comes back


@dataclass(frozen=True)
class Line:
    """Something on the line of an instrument.

    Attributes:
        where: In the reply, from 0 to 1.
    """

    kind: Kind
    target: str
    at_s: float
    duration_s: float = 0.0
    where: float = 0.5


@dataclass(frozen=True)
class WrongForce:
    """The gauge reads the force times a factor, or (``factor`` None) what it read last."""

    at_s: float
    duration_s: float
    factor: float | None


@dataclass(frozen=True)
class BrokenSensor:
    """The chamber's thermocouple breaks."""

    at_s: float
    duration_s: float


@dataclass(frozen=True)
class Leak:
    """The press leaks this part of its force in each second, and its pump stands still."""

    at_s: float
    duration_s: float
    per_s: float


@dataclass(frozen=True)
class StuckValve:
    """The press does not move."""

    at_s: float
    duration_s: float


@dataclass(frozen=True)
class Short:
    """The cell is shorted from now on."""

    at_s: float
    resistance_ohm: float


@dataclass(frozen=True)
class FullDisk:
    """The disk takes nothing."""

    at_s: float
    duration_s: float


class Victim(Enum):
    """Which process dies."""

    ENGINE = "host killed"
    GUARD = "guard killed"
    BOTH = "host and guard killed"
    HUNG = "host hangs"  #: the engine, which is still there


@dataclass(frozen=True)
class Kill:
    """A process dies, between two turns of its loop, after a message on a wire.

    Attributes:
        turns: How many turns after the message.
        away_s: How long nobody is there when the engine has died.
        clock_step_s: How wrong the clock of the host is that comes back.
        late_s: How much later the guard notices: a busy computer.
    """

    at_s: float
    turns: int = 0
    away_s: float = 30.0
    clock_step_s: float = 0.0
    victim: Victim = Victim.ENGINE
    late_s: float = 0.0


@dataclass(frozen=True)
class DeafGuard:
    """Nothing that the engine says reaches its guard."""

    at_s: float
    duration_s: float


@dataclass(frozen=True)
class Ask:
    """A person asks the run for something: pause (and continue after a while), or skip."""

    at_s: float
    what: str
    duration_s: float = 0.0


Fault: TypeAlias = (
    Line | WrongForce | BrokenSensor | Leak | StuckValve | Short | FullDisk | Kill | DeafGuard | Ask
)


@dataclass(frozen=True)
class Scenario:
    """One night, compressed.

    Attributes:
        bench: A key of `tests.faults.generate.BENCHES`.
        steps: Of the protocol, one line of YAML each.
        faults: What goes wrong.
        limits: Of the protocol, as YAML; empty for the cell's alone.
        cell: Its card.
        guarded: Whether the engine has a guard.
    """

    seed: int
    bench: str
    steps: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    limits: str = ""
    cell: str = "LYC_PMMA"
    conditions_s: int = 5
    guarded: bool = False
    protocol: str = field(default="", repr=False)

    @property
    def text(self) -> str:
        """The protocol, as a person writes it."""
        if self.protocol:
            return self.protocol
        head = ["cellbench: 1", "name: A night", f"cell: {self.cell}"]
        head.append(f"conditions: {{every: {self.conditions_s} s}}")
        if self.limits:
            head.append(f"limits: {{{self.limits}}}")
        lines = [*head, "steps:", *(f"  - {step}" for step in self.steps)]
        return "\n".join(lines) + "\n"

    def code(self) -> str:
        """Python that makes this scenario, for a test of its own."""
        lines = ["Scenario(", f"    seed={self.seed},", f"    bench={self.bench!r},", "    steps=("]
        lines += [f"        {step!r}," for step in self.steps]
        lines += ["    ),", "    faults=("]
        lines += [f"        {fault!r}," for fault in self.faults]
        lines += ["    ),"]
        if self.limits:
            lines.append(f"    limits={self.limits!r},")
        if self.cell != "LYC_PMMA":
            lines.append(f"    cell={self.cell!r},")
        if self.conditions_s != 5:
            lines.append(f"    conditions_s={self.conditions_s},")
        if self.guarded:
            lines.append("    guarded=True,")
        # An enumeration's own representation is no code.
        return re.sub(r"<((?:Kind|Victim)\.\w+): '[^']*'>", r"\1", "\n".join([*lines, ")"]))


def name_of(fault: Fault) -> str:
    """What kind of fault it is, for counts."""
    match fault:
        case Line():
            return fault.kind.value
        case Ask():
            return fault.what
        case WrongForce(factor=None):
            return "gauge sticks"
        case WrongForce():
            return "gauge off by a factor"
        case BrokenSensor():
            return "thermocouple broken"
        case Leak():
            return "leak"
        case StuckValve():
            return "stuck valve"
        case Short():
            return "short"
        case FullDisk():
            return "full disk"
        case Kill():
            return fault.victim.value
        case DeafGuard():
            return "guard deaf"
