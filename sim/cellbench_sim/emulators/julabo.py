"""A JULABO circulator that keeps the bench's chamber at its temperature: ASCII, 4800 7E1.

Source: the public julabo and labmcp-julabo packages' tables. Requests end with CR, answers with CR
LF. ``IN_...``, ``VERSION`` and ``STATUS`` are answered by one line; ``OUT_...`` is never answered,
and taken in remote mode alone, which is chosen at the panel. ``STATUS`` tells a two-digit state, or
a fault with its minus sign: a complaint about a request (-08 to -13) until the next good one, an
alarm as long as its cause is there. After a command nothing is heard for 250 ms, after a query for
10 ms.

With its watchdog enabled, a circulator that runs in remote mode stops when no set point has come
for 30 s, and says so until one comes. The words behind the numbers are as recalled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.host_watch import HostWatch
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

_AFTER_COMMAND_S, _AFTER_QUERY_S = 0.25, 0.01
#: A host that waits for as long as it should is heard, whatever its clock rounds to.
_ROUNDING_S = 1e-6
_WATCHDOG_S = 30.0
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{0,6})?")
_NOISE_K, _ZERO_CELSIUS_K = 0.01, 273.15
#: How far the safety sensor, at the heater, runs ahead of the bath at full output.
_HEATER_LEAD_K = 5.0
_INVALID, _NOT_NOW, _TOO_SMALL, _TOO_LARGE, _OUTSIDE_LIMITS = -8, -9, -10, -11, -13
_HIGH_WARNING, _LOW_WARNING = -3, -4
_WORDS = {
    -1: "LOW LEVEL ALARM",
    _HIGH_WARNING: "EXCESS TEMPERATURE WARNING",
    _LOW_WARNING: "LOW TEMPERATURE WARNING",
    -5: "WORKING SENSOR ALARM",
    -6: "SENSOR DIFFERENCE ALARM",
    _INVALID: "INVALID COMMAND",
    _NOT_NOW: "COMMAND NOT ALLOWED IN CURRENT OPERATING MODE",
    _TOO_SMALL: "VALUE TOO SMALL",
    _TOO_LARGE: "VALUE TOO LARGE",
    _OUTSIDE_LIMITS: "VALUE EXCEEDS TEMPERATURE LIMITS",
    -14: "EXCESS TEMPERATURE PROTECTOR ALARM",
    -33: "SAFETY SENSOR ALARM",
    -38: "EXTERNAL SENSOR WITHOUT SIGNAL",
    -40: "LEVEL WARNING",
    -41: "LEVEL TOO HIGH",
    -60: "INTERNAL ERROR",
    -61: "CAN ERROR",
    -62: "CAN ERROR",
    -63: "WATCHDOG TIME-OUT",
    -1501: "WATCHDOG TIME-OUT",
}
#: By model: what VERSION says, and how the watchdog's fault is numbered.
MODELS = {
    "CF31": ("JULABO CRYOCOMPACT CF31 VERSION 5.0", -63),
    "MS": ("JULABO MAGIO MS 200-230V 50/60Hz VERSION 2.2.1", -1501),
}


class JulaboEmulator(LineEmulator):
    """The circulator.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of its sensors' noise.
        model: A key of `MODELS`.
        remote: Whether somebody has chosen remote mode at its panel.
        watchdog: Whether its watchdog is enabled.
        range_C: Lowest and highest set point, in degC.
    """

    ends: ClassVar[bytes] = b"\r"

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        model: str = "CF31",
        remote: bool = True,
        watchdog: bool = False,
        range_C: tuple[float, float] = (-30.0, 200.0),
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._chamber = world.chamber
        self._rng = random_stream(seed, name)
        self._version, self._watchdog_code = MODELS[model]
        self.remote = remote
        self._timed_out = False
        self._host = HostWatch(
            timebase.now,
            self._call_at,
            is_on=lambda: watchdog and self._running and self.remote,
            timeout_s=lambda: _WATCHDOG_S,
            missed=self._miss_host,
        )
        self._range_C = range_C
        start_K = world.chamber.set_point_K
        self._running = start_K is not None
        self._setpoint_C = 25.0 if start_K is None else start_K - _ZERO_CELSIUS_K
        self._high_C, self._low_C = range_C[1], range_C[0]
        self._deaf_until_s = -1.0
        self._complaint: int | None = None
        self._alarm: int | None = None
        self._questions: dict[str, Callable[[], str]] = {
            "VERSION": lambda: self._version,
            "IN_PV_00": lambda: f"{self._bath_C():.2f}",
            "IN_PV_01": lambda: f"{100 * self._chamber.output_fraction:.0f}",
            "IN_PV_02": lambda: f"{self._noisy(world.cell_temperature_K):.2f}",
            "IN_PV_03": lambda: f"{self._heater_C():.2f}",
            "IN_SP_00": lambda: f"{self._setpoint_C:.2f}",
            "IN_SP_03": lambda: f"{self._high_C:.2f}",
            "IN_SP_04": lambda: f"{self._low_C:.2f}",
            "IN_MODE_05": lambda: str(int(self._running)),
        }
        self._orders: dict[str, Callable[[float], None]] = {
            "OUT_SP_00": self._set_setpoint,
            "OUT_SP_03": self._set_high,
            "OUT_SP_04": self._set_low,
            "OUT_MODE_05": self._set_running,
        }

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the circulator that a bench file's options describe: ``model``, ``watchdog``."""
        bench = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            model=bench.text("model", "CF31"),
            watchdog="watchdog" in bench,
        )

    # ------------------------------------------------------------------ faults to be set

    @property
    def alarm(self) -> int | None:
        """What is wrong with the bath, e.g. -1 for too little in it or -14; None if nothing."""
        return self._alarm

    @alarm.setter
    def alarm(self, code: int | None) -> None:
        self._advance()
        self._alarm = code
        if code is not None:
            self._running = False
            self._control()

    # ------------------------------------------------------------------ requests

    def _line(self, text: str) -> None:
        now_s = self._timebase.now()
        if now_s < self._deaf_until_s:
            return
        self._advance()
        request, _, argument = text.strip().upper().partition(" ")
        if request.startswith("OUT_"):
            self._deaf_until_s = now_s + _AFTER_COMMAND_S - _ROUNDING_S
            self._order(request, argument)
            return
        self._deaf_until_s = now_s + _AFTER_QUERY_S - _ROUNDING_S
        if request == "STATUS":
            self._say(self._status())
        elif request in self._questions:
            self._complaint = None
            self._say(self._questions[request]())
        else:
            self._complaint = _INVALID

    def _order(self, request: str, argument: str) -> None:
        """Carry out a command; whatever is wrong with it, only STATUS will say so."""
        if not self.remote:
            self._complaint = _NOT_NOW
            return
        number = _NUMBER.fullmatch(argument)
        if request not in self._orders or number is None:
            self._complaint = _INVALID
            return
        self._complaint = None
        self._orders[request](float(number[0]))

    def _status(self) -> str:
        code = self._fault_code()
        if code is not None:
            return f"-{abs(code):02d} {_WORDS[code]}"
        state = 2 * self.remote + self._running
        where, what = "REMOTE" if self.remote else "MANUAL", "START" if self._running else "STOP"
        return f"{state:02d} {where} {what}"

    def _fault_code(self) -> int | None:
        if self._alarm is not None:
            return self._alarm
        if self._timed_out:
            return self._watchdog_code
        bath_C = self._world.air_temperature_K - _ZERO_CELSIUS_K
        if bath_C > self._high_C:
            return _HIGH_WARNING
        return _LOW_WARNING if bath_C < self._low_C else self._complaint

    # ------------------------------------------------------------------ commands

    def _set_setpoint(self, value_C: float) -> None:
        low, high = self._range_C
        if value_C < low:
            self._complaint = _TOO_SMALL
        elif value_C > high:
            self._complaint = _TOO_LARGE
        elif not self._low_C <= value_C <= self._high_C:
            self._complaint = _OUTSIDE_LIMITS
        else:
            self._setpoint_C = round(value_C, 2)
            self._timed_out = False
            self._control()
            self._host.hear()

    def _set_high(self, value_C: float) -> None:
        self._high_C = self._limit(value_C, self._high_C)

    def _set_low(self, value_C: float) -> None:
        self._low_C = self._limit(value_C, self._low_C)

    def _limit(self, value_C: float, before_C: float) -> float:
        low, high = self._range_C
        if low <= value_C <= high:
            return value_C
        self._complaint = _TOO_SMALL if value_C < low else _TOO_LARGE
        return before_C

    def _set_running(self, value: float) -> None:
        if value not in (0.0, 1.0):
            self._complaint = _TOO_LARGE
        elif value and self._alarm is not None:
            self._complaint = _NOT_NOW
        else:
            self._running = bool(value)
            self._control()
            self._host.hear()

    def _control(self) -> None:
        """Let the chamber follow; a command only where something changes."""
        wanted_K = self._setpoint_C + _ZERO_CELSIUS_K if self._running else None
        if wanted_K != self._chamber.set_point_K:
            self._chamber.set_point_K = wanted_K

    def _miss_host(self) -> None:
        self._advance()
        self._timed_out, self._running = True, False
        self._control()

    # ------------------------------------------------------------------ sensors

    def _bath_C(self) -> float:
        return self._noisy(self._world.air_temperature_K)

    def _heater_C(self) -> float:
        return self._bath_C() + _HEATER_LEAD_K * self._chamber.output_fraction

    def _noisy(self, temperature_K: float) -> float:
        return temperature_K - _ZERO_CELSIUS_K + self._rng.gauss(0.0, _NOISE_K)

    def _advance(self) -> None:
        self._world.advance_to(self._timebase.now())
