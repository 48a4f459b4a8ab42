"""A constant voltage that the instrument does not hold, although nothing keeps it from that.

A potentiostat whose leads came off, a cycler whose hold takes current in one direction only: the
voltage is another one, and the current is at no limit. Nobody is in danger; what is measured means
something else than the protocol says. So the rows are flagged, it is told once, and the step's
ending says it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cellbench.instruments.capabilities import ChannelCapabilities
from cellbench.instruments.readings import Flag
from cellbench.instruments.techniques import ConstantVoltage

#: A voltage differs from the one to be held by more than this, this fraction, and so many times the
#: instrument's noise: accuracy of set point and reading together.
OFF_V, OFF, OFF_NOISES = 2e-3, 1e-3, 5.0
#: A current within this part of its limit is at it: the instrument is on its way.
AT_LIMIT = 0.9
#: How long a voltage may be off before it counts as not held.
SETTLING_S = 30.0
#: After a gap of so many intervals, and so long, it is judged anew.
_GAP_INTERVALS, _GAP_S = 5.0, 5.0
#: As a plain number: an operation on a member of `Flag` costs more than the rest of a row.
_NOT_HELD, _SATURATED = int(Flag.NOT_HELD), int(Flag.SATURATED)


class HeldVoltage:
    """Watches the rows of one constant voltage.

    Args:
        technique: What is to be held.
        current_max_A: The limit of current.
        able: What the instrument can do.
        tell: Called once, when it is not held.
    """

    def __init__(
        self,
        technique: ConstantVoltage,
        current_max_A: float,
        able: ChannelCapabilities,
        tell: Callable[[str], None],
    ) -> None:
        self._held_V = technique.voltage_V
        self._tolerance_V = max(
            OFF_V + OFF * abs(technique.voltage_V), OFF_NOISES * able.voltage_noise_V
        )
        most_A = min(current_max_A, able.current_max_A, technique.current_range_A or math.inf)
        self._limit_A = AT_LIMIT * most_A
        # One that rests at a known voltage comes to the right side by itself.
        self._one_way = not able.holds_both_ways and technique.rest_V is None
        self._gap_s = max(_GAP_INTERVALS * technique.interval_s, _GAP_S)
        self._tell = tell
        self._told = False
        self._off_s = self._last_s = math.nan
        self._last_V = technique.voltage_V

    def flags(self, time_s: float, voltage_V: float, current_A: float, flags: int) -> int:
        """Take one row and return its flags."""
        if time_s - self._last_s > self._gap_s:
            self._off_s = math.nan
        self._last_s, self._last_V = time_s, voltage_V
        off = abs(voltage_V - self._held_V) > self._tolerance_V
        if not off or abs(current_A) >= self._limit_A or flags & _SATURATED:
            self._off_s = math.nan
            return flags
        if math.isnan(self._off_s):
            self._off_s = time_s
        if time_s - self._off_s < SETTLING_S:
            return flags
        if not self._told:
            self._told = True
            self._tell(
                f"the voltage is not held: {self._shown}, for {time_s - self._off_s:.0f} s, at "
                f"{current_A * 1e3:.3g} mA, which is no limit of current"
            )
        return flags | _NOT_HELD

    def turn(self) -> bool:
        """Whether it is not held, and to be held from the other side; it is then judged anew."""
        if not self._one_way or not self._last_s - self._off_s >= SETTLING_S:
            return False
        self._off_s = math.nan
        return True

    @property
    def unheld(self) -> str:
        """At the end of the step: what its ending is to add, empty where the voltage was held."""
        return "" if math.isnan(self._off_s) else f"not held: {self._shown}"

    @property
    def _shown(self) -> str:
        return f"{self._last_V:.4g} V instead of {self._held_V:.4g} V"
