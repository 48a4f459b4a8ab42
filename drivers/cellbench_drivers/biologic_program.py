"""What a BioLogic channel is told to do: a chain of technique files, and what it watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cellbench.instruments.readings import Ending, EndingKind
from cellbench.quantities import format_quantity
from cellbench_drivers.biologic_library import Parameter

#: Full scales of the current ranges, by their codes from 0.
RANGES_A = tuple(float(f"1e{exponent}") for exponent in range(-10, 1))
BOOSTER, AUTO_RANGE = 11, 12
#: Rows of a sweep over which its rate is judged.
RATE_ROWS = 5
#: An end this near to a crossing was one: the last row is up to an interval older.
_NEAR_V, _NEAR_CURRENT = 0.01, 0.05
_CROSSING = {True: "at or above", False: "at or below"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the channel goes into every technique.

    Attributes:
        range_min: Code of its smallest current range.
        range_max: Code of its largest, which may be the booster.
        current_max_A: Its largest current.
        bandwidth: Number of its control loop's bandwidth.
        scan_rate_unit: What the library takes scan rates of ``cv`` in.
    """

    range_min: int = 0
    range_max: int = 10
    current_max_A: float = 0.4
    bandwidth: int = 5
    scan_rate_unit: Literal["V/s", "mV/s"] = "V/s"

    def range_for(self, current_A: float) -> int:
        """Code of the smallest range that has a current in it.

        Raises:
            ValueError: The channel has none.
        """
        if abs(current_A) > self.current_max_A * (1 + 1e-6):
            raise ValueError(f"{current_A:.4g} A is beyond the channel's {self.current_max_A:g} A")
        for code, top_A in enumerate(RANGES_A):
            if self.range_min <= code <= self.range_max and top_A >= abs(current_A) * (1 - 1e-6):
                return code
        return min(BOOSTER, self.range_max)


@dataclass(frozen=True, slots=True)
class Watch:
    """A crossing that ends a technique; a current is compared by magnitude.

    Attributes:
        on_device: Whether the device has it among its tests.
    """

    quantity: Literal["voltage", "current"]
    above: bool
    value: float
    after_s: float
    kind: EndingKind
    on_device: bool

    def met_by(self, elapsed_s: float, voltage_V: float, current_A: float) -> bool:
        """Whether a row is at or beyond it."""
        return elapsed_s >= self.after_s and self.beyond_by(voltage_V, current_A) >= 0

    def nearly_met_by(
        self, elapsed_s: float, row: Sequence[float], before: Sequence[float]
    ) -> bool:
        """Whether a last row that changed so since the one before may well have met it."""
        change = abs(self.beyond_by(*row) - self.beyond_by(*before))
        near = _NEAR_V if self.quantity == "voltage" else _NEAR_CURRENT * abs(self.value)
        return elapsed_s >= self.after_s and self.beyond_by(*row) >= -(near + 2 * change)

    def ending(self, *, on_device: bool) -> Ending:
        """How a technique ended that it ended."""
        value = format_quantity(self.value, self.quantity)
        return Ending(self.kind, f"{self.quantity} {_CROSSING[self.above]} {value}", on_device)

    def beyond_by(self, voltage_V: float, current_A: float) -> float:
        """How far a row is beyond it; negative before the crossing."""
        value = voltage_V if self.quantity == "voltage" else abs(current_A)
        return value - self.value if self.above else self.value - value


@dataclass(frozen=True, slots=True)
class Loaded:
    """One technique file with its parameters.

    Attributes:
        file: Name of the technique file, without suffix and ending.
        duration_s: How long it takes at most, about.
    """

    file: str
    parameters: tuple[Parameter, ...]
    duration_s: float


@dataclass(frozen=True, slots=True)
class Program:
    """A chain of techniques that the channel runs by itself.

    Attributes:
        main: Position of the first one that is the technique itself, and not the rest before it.
        interval_s: Time between two rows.
        tolerance_s: An end this much before its time is complete.
        patience_s: Silence after which it is stuck.
        watches: What ends it, on the device or by the host.
        points: Of a spectrum; 0 for what has rows of voltage and current.
        is_sweep: Whether its rows come with the voltage, and not with time.
        rate_V_per_s: Rate of a sweep whose first rows show it; 0 for others.
    """

    techniques: tuple[Loaded, ...]
    interval_s: float
    tolerance_s: float
    patience_s: float
    watches: tuple[Watch, ...] = ()
    main: int = 0
    points: int = 0
    is_sweep: bool = False
    rate_V_per_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """How long the technique itself takes at most."""
        return sum(each.duration_s for each in self.techniques[self.main :])

    def starts_s(self, position: int) -> float:
        """When a technique of the chain begins, as far as those before it take their time."""
        return sum(each.duration_s for each in self.techniques[:position])
