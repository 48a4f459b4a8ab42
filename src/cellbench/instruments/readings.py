"""What instruments tell: blocks of readings with flags, identities, endings, confirmed outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag, StrEnum


class Flag(IntFlag):
    """What is wrong with one row; 0 is a sound reading."""

    LATE = 1  #: the instrument could not keep its timing, or the row came late
    SATURATED = 2  #: out of the measuring range; the number is a bound, not a value
    UNDERRANGE = 4  #: too small for the range in use; resolution is lost
    MISSING = 8  #: rows before this one did not arrive
    STALE = 16  #: the instrument repeats an old value
    AFTER_CROSSING = 32  #: recorded after the condition that ended its step was crossed
    NOT_HELD = 64  #: the voltage is not the one to be held, and no limit of current is the reason


@dataclass(slots=True)
class Block:
    """Readings of one instrument as columns of equal length: one row or thousands.

    Attributes:
        time_s: Loop time of each row, taken from the instrument's clock where it has one.
        columns: Values by name with unit: ``voltage_V``, ``current_A``, ``frequency_Hz``,
            ``impedance_real_ohm``, ``impedance_imag_ohm`` (Im Z as is: negative for a capacitor);
            ``charge_C`` where the instrument counts the charge of the technique itself (nan: not in
            this row), which is then believed.
        flags: `Flag` bits of each row.
    """

    time_s: Sequence[float]
    columns: Mapping[str, Sequence[float]]
    flags: Sequence[int]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered: kept with each run.

    Attributes:
        found_active: Whether it was driving the cell when it was connected to; None where its
            driver does not tell. A cycler's test goes on, anything else is ended by then.
    """

    model: str
    serial: str
    firmware: str
    remarks: tuple[str, ...] = ()
    found_active: bool | None = None


class EndingKind(StrEnum):
    """How a technique ended on the instrument."""

    COMPLETED = "completed"  #: its programmed duration or sweep is over
    CUT_OFF = "cut-off"  #: one of its cut-offs was crossed
    TRIPPED = "tripped"  #: one of the electrical limits was crossed
    ABORTED = "aborted"  #: the host ended it, or something that the instrument does not tell
    STOPPED = "stopped"  #: somebody stopped it at the instrument, or with the maker's program


@dataclass(frozen=True, slots=True)
class Ending:
    """How a technique ended, and the place that decided it."""

    kind: EndingKind
    detail: str = ""
    on_device: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a safety action: read back, or honestly unknown."""

    instrument: str
    state: str
    confirmed: bool


@dataclass(slots=True)
class PressState:
    """One look at a press. ``alarm`` is empty when there is none."""

    time_s: float
    force_N: float
    set_point_N: float
    moving: bool
    at_target: bool
    alarm: str = ""
    flags: int = 0


@dataclass(slots=True)
class GaugeReading:
    """One force reading."""

    time_s: float
    force_N: float
    flags: int = 0


@dataclass(slots=True)
class ChamberState:
    """One look at a temperature chamber."""

    time_s: float
    temperature_K: float
    set_point_K: float
    alarm: str = ""
    flags: int = 0
