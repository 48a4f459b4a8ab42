"""What a channel of a Maccor cycler is told to do, and the codes that say what it does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from cellbench_sim.emulators.cycler import SAMPLE_S, Demand, Ratings


class Stat(IntEnum):
    """States of a channel, those that this one takes."""

    AVAILABLE = 0
    SELECTED = 1
    ACTIVE = 2
    SUSPENDED = 3
    COMPLETED = 4
    PROBLEM = 5
    STARTING = 12


class RF1(IntEnum):
    """What a channel does."""

    AVAILABLE = 0
    CHARGE = 1
    DISCHARGE = 2
    REST = 4
    PROBLEM = 29
    SUSPENDED = 30
    COMPLETE = 31


class RF2(IntEnum):
    """Why the last record was made."""

    START_OF_STEP = 0
    TIME = 1
    CURRENT_CHANGE = 4
    VOLTAGE_CHANGE = 5
    NONE = 128
    END_TIME = 129
    END_CURRENT = 132
    END_VOLTAGE = 133
    END_CAPACITY = 136
    SUSPENDED = 192
    NORMAL_END = 193
    CURRENT_SAFETY = 252
    VOLTAGE_SAFETY = 253
    POWER_SAFETY = 254


class Mode(IntEnum):
    """Charge, discharge, rest: the letters of ``ChMode``."""

    CHARGE = ord("C")
    DISCHARGE = ord("D")
    REST = ord("R")


#: The quantities that limit an output, and the largest power that one can set.
LIMITS = frozenset({"current_A", "voltage_V", "power_W", "resistance_ohm"})
_LARGEST_W = 50.0


@dataclass(frozen=True)
class Output:
    """What a channel is to put out; limits act together, inf (0 for a resistance) for none.

    Attributes:
        current_range: 1 to 4, an index into the ratings' ranges.
    """

    mode: Mode
    current_A: float = math.inf
    voltage_V: float = math.inf
    power_W: float = math.inf
    resistance_ohm: float = 0.0
    current_range: int = 4

    @classmethod
    def read(
        cls, mode: Mode, values: Sequence[float], current_range: int, ratings: Ratings
    ) -> tuple[Self, frozenset[str]]:
        """Return an output, and which of its four quantities are active.

        Args:
            mode: Charge, discharge or rest.
            values: Current, voltage, power and resistance; one out of its range (0 for a
                resistance) is left out.
            current_range: 1 to 4.
            ratings: What the channel can do.
        """
        current_A, voltage_V, power_W, resistance_ohm = values
        range_A = ratings.current_ranges_A[current_range - 1]
        limits: dict[str, Any] = {}
        if 0 <= current_A <= range_A * (1 + 1e-6):
            limits["current_A"] = current_A
        if ratings.covers_voltage(voltage_V):
            limits["voltage_V"] = voltage_V
        if 0 <= power_W <= _LARGEST_W:
            limits["power_W"] = power_W
        if resistance_ohm > 0:
            limits["resistance_ohm"] = resistance_ohm
        return cls(mode, current_range=current_range, **limits), frozenset(limits)

    def without(self, *names: str) -> Output:
        """Return the output without the limits of these names."""
        nothing: dict[str, Any] = dict.fromkeys(names, math.inf)
        if "resistance_ohm" in nothing:
            nothing["resistance_ohm"] = 0.0
        return dataclasses.replace(self, **nothing)

    def demand(self, ratings: Ratings) -> Demand | None:
        """Return what the stage must do within its ratings; None for a rest."""
        if self.mode is Mode.REST:
            return None
        current_A = min(self.current_A, ratings.current_ranges_A[self.current_range - 1])
        charges = self.mode is Mode.CHARGE
        far_V = ratings.voltage_max_V if charges else ratings.voltage_min_V
        voltage_V = self.voltage_V if math.isfinite(self.voltage_V) else far_V
        limit = Demand.charge if charges else Demand.discharge
        return dataclasses.replace(
            limit(current_A, voltage_V), power_W=self.power_W, resistance_ohm=self.resistance_ohm
        )


@dataclass(frozen=True)
class ProcedureStep:
    """One step of a procedure: an output, and what ends it; whatever comes first."""

    output: Output
    duration_s: float = math.inf
    voltage_V: float | None = None
    current_A: float = -math.inf
    capacity_Ah: float = math.inf

    def end(self, time_s: float, voltage_V: float, current_A: float, charge_Ah: float) -> RF2:
        """Return why the step has ended, `RF2.NONE` where it has not."""
        if time_s >= self.duration_s - SAMPLE_S / 2:
            return RF2.END_TIME
        if charge_Ah >= self.capacity_Ah:
            return RF2.END_CAPACITY
        if abs(current_A) <= self.current_A:
            return RF2.END_CURRENT
        if self.voltage_V is None:
            return RF2.NONE
        beyond_V = voltage_V - self.voltage_V
        charges = self.output.mode is Mode.CHARGE
        return RF2.END_VOLTAGE if (beyond_V >= 0 if charges else beyond_V <= 0) else RF2.NONE


Procedure = Sequence[ProcedureStep]


@dataclass(frozen=True)
class Safety:
    """Limits that stop a channel; currents and powers as magnitudes."""

    voltage_max_V: float
    voltage_min_V: float
    charge_A: float
    discharge_A: float
    charge_W: float
    discharge_W: float

    def broken(self, voltage_V: float, current_A: float) -> RF2:
        """Return what a reading violates, `RF2.NONE` for nothing."""
        power_W = abs(voltage_V * current_A)
        if not self.voltage_min_V <= voltage_V <= self.voltage_max_V:
            return RF2.VOLTAGE_SAFETY
        if not -self.discharge_A <= current_A <= self.charge_A:
            return RF2.CURRENT_SAFETY
        if power_W > (self.charge_W if current_A >= 0 else self.discharge_W):
            return RF2.POWER_SAFETY
        return RF2.NONE


@dataclass(frozen=True)
class Recording:
    """When direct mode keeps a record: each interval, each change; inf for never."""

    interval_s: float = math.inf
    voltage_V: float = math.inf
    current_A: float = math.inf


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a test."""

    reason: RF2
    step: int
    test_time_s: float
    voltage_V: float
    current_A: float


class SetOutput(IntEnum):
    """Results of setting a direct output."""

    OK = 0
    NOT_ACTIVE = 2
    TOO_FAST = 3
    NO_DIRECT_MODE = 4
    NOT_READY = 5
