"""What cycling protocols of all programs have in common.

Rests, constant currents, holds, scans, spectra and loops: numbers at the terminals, in SI units.
What a protocol says beyond that is a `Misfit`, never lost without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cellbench.errors import InputError
from cellbench.protocol.program import Recording


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a step comes from: its number there, from 1, and its name; of none, all of it."""

    step: int | None = None
    where: str = ""

    def __str__(self) -> str:
        """As a person reads it: "step 3 (cycle/charge): "."""
        name = f" ({self.where})" if self.where else ""
        return "" if self.step is None else f"step {self.step}{name}: "


@dataclass(frozen=True, slots=True)
class Misfit:
    """What does not fit from one program's protocol into another's.

    Attributes:
        text: What it is, and what becomes of it.
        fatal: Whether the protocol would be another one: it is then not translated.
    """

    origin: Origin
    text: str
    fatal: bool = False

    def __str__(self) -> str:
        """As a person reads it."""
        return f"{self.origin}{self.text}"


def refuse_fatal(target: str, misfits: Sequence[Misfit]) -> None:
    """Refuse a translation that would be another protocol.

    Raises:
        InputError: A misfit is fatal; names all that are.
    """
    fatal = [f"  {each}" for each in misfits if each.fatal]
    if fatal:
        raise InputError("\n".join([f"{target} cannot say this:", *fatal]))


# --- What they have in common ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flow:
    """A current in A, or as a C-rate; positive is oxidation at the working electrode.

    That charges a usual cell, and other programs then say "charge" whatever the cell.
    """

    value: float
    is_rate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What every step has."""

    origin: Origin = field(default=Origin(), compare=False)


@dataclass(frozen=True, slots=True)
class Resting(_Step):
    """Open circuit."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class Passing(_Step):
    """A constant current, until a voltage or a time; None is none of them."""

    current: Flow
    duration_s: float | None
    until_V: float | None = None


@dataclass(frozen=True, slots=True)
class Holding(_Step):
    """A constant voltage, until the current's magnitude has fallen, or a time."""

    voltage_V: float
    duration_s: float | None
    until: Flow | None = None


@dataclass(frozen=True, slots=True)
class Scanning(_Step):
    """A linear voltage scan."""

    start_V: float
    end_V: float
    rate_V_per_s: float


@dataclass(frozen=True, slots=True)
class Spectrum(_Step):
    """An impedance spectrum around open circuit, of one amplitude."""

    frequency_max_Hz: float
    frequency_min_Hz: float
    points_per_decade: int
    amplitude_V: float | None = None
    amplitude_A: float | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """Steps that are done so many times; its name is no part of what it does."""

    times: int
    steps: tuple[Doing, ...]
    name: str = field(default="", compare=False)


Doing: TypeAlias = Resting | Passing | Holding | Scanning | Spectrum | Loop


@dataclass(frozen=True, slots=True)
class Safety:
    """Limits that end a test; None is none."""

    voltage_min_V: float | None = None
    voltage_max_V: float | None = None
    current_max_A: float | None = None
    charge_max_C: float | None = None


@dataclass(frozen=True, slots=True)
class Cycling:
    """A protocol as far as cycling programs have it in common.

    Attributes:
        capacity_C: Nominal capacity of the cell that it was made for, None where nobody says.
    """

    name: str
    steps: tuple[Doing, ...]
    record: Recording = field(default_factory=Recording)
    safety: Safety = field(default_factory=Safety)
    cell: str = ""
    capacity_C: float | None = None
