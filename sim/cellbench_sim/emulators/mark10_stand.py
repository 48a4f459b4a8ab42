r"""A Mark-10 ESM303 test stand as the bench's press: single letters over USB serial, 115200 8N1.

    d u s      down, up, stop                  e 30   speed in mm/min
    g 5  h -20 lower and upper travel limit    l m f  limit mode, manual mode, cycles
    i          millimetres                     z x    zero the travel, tell it
    n          tell travel and force           p      tell direction, mode and limit
    /?\        pass a request through to the gauge

A letter acts by itself; those with a number wait for CR or LF, which mean nothing else. Travel is
positive downwards, from where it was zeroed; the stand starts a gap above the stack. It moves at
its speed and stops at what stops it: a host, a travel limit in limit mode, the gauge's range. It
keeps its place then, and holds no force. Never verified: endings, the layout of the answers, how
the numbers follow their letters, that ``f`` only takes a number of cycles, which nothing runs.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.mark10_gauge import Gauge
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

_WITH_NUMBER, _NUMBER = frozenset("efgh"), re.compile(r" ?([+-]?\d{1,5}(?:\.\d{0,4})?)")
_LONGEST = 32
_SPEED_MM_PER_MIN = (0.5, 1100.0)
_UP, _DOWN, _STOPPED = -1, 1, 0
#: Distances below this are none; the gauge's overload protection stops the stand before its end.
_NEAR_M, _RANGE, _SETTLE_S = 1e-6, 0.95, 0.2


class Mark10StandEmulator(Emulator):
    """The stand, with a gauge on its crosshead.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of the gauge's noise and zero.
        capacity_N: Range of the gauge; by default what the press can do.
        compression: The sign that compression has in the gauge's readings.
        gap_m: How far the crosshead is above the stack at the start.
        stiffness_N_per_m: What the force grows by with travel.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        capacity_N: float | None = None,
        compression: Literal[1, -1] = 1,
        gap_m: float = 1e-3,
        stiffness_N_per_m: float = 10e6,
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        self._press = world.press
        rng = random_stream(seed, name)
        self._capacity_N = capacity_N or world.press.max_force_N
        self._gauge = Gauge(world, rng, self._capacity_N, compression)
        self._gap_m, self._stiffness_N_per_m = gap_m, stiffness_N_per_m
        self._zero_m = -gap_m
        self._speed_m_per_s = 10e-3 / 60
        self._direction, self._since_s = _STOPPED, 0.0
        self._on_stack = world.press.force_N > 0.0
        self._limits_m = {_UP: -0.3, _DOWN: 0.3}
        self._limit_mode, self._cycles = False, 1
        self._timer: asyncio.Handle | None = None
        self._text = ""
        self._letters: dict[str, Callable[[], None]] = {
            "d": lambda: self._move(_DOWN),
            "u": lambda: self._move(_UP),
            "s": self._stop,
            "l": lambda: self._set_limit_mode(on=True),
            "m": lambda: self._set_limit_mode(on=False),
            # Millimetres are the one unit there is here.
            "i": lambda: None,
            "z": self._zero,
            "x": lambda: self._say(self._travel()),
            "n": lambda: self._say(f"{self._travel()} {self._gauge.reading()}"),
            "p": lambda: self._say(self._status()),
        }

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the stand a bench file describes: ``capacity``, ``compression`` (or negative)."""
        bench = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            capacity_N=bench.quantity("capacity", "force", 0.0) or None,
            compression=bench.compression,
        )

    # ------------------------------------------------------------------ letters

    def _receive(self, data: bytes) -> None:
        self._advance()
        for character in data.decode("latin-1"):
            self._take(character)

    def _on_attach(self) -> None:
        self._text = ""

    def _take(self, character: str) -> None:
        if self._text.startswith("/"):
            self._pass_through(character)
        elif character in "\r\n":
            self._set_number()
        elif self._text:
            self._text = (self._text + character)[:_LONGEST]
        elif character == "/" or character in _WITH_NUMBER:
            self._text = character
        elif character in self._letters:
            self._letters[character]()

    def _pass_through(self, character: str) -> None:
        if character == "\\":
            request, self._text = self._text[1:].strip().upper(), ""
            self._say(self._gauge.answer(request))
        else:
            self._text = (self._text + character)[:_LONGEST]

    def _set_number(self) -> None:
        text, self._text = self._text, ""
        match = _NUMBER.fullmatch(text[1:])
        if not text or match is None:
            return
        value = float(match[1])
        if text[0] == "e":
            slowest, fastest = _SPEED_MM_PER_MIN
            self._set_speed(min(max(value, slowest), fastest) / 60e3)
        elif text[0] == "f":
            self._cycles = round(value)
        else:
            self._limits_m[_DOWN if text[0] == "g" else _UP] = value / 1e3
            self._start_leg()

    def _say(self, text: str) -> None:
        self._send(f"{text}\r\n".encode("ascii"))

    # ------------------------------------------------------------------ the crosshead

    def _position_m(self) -> float:
        """How far the crosshead is below where it touches the fresh stack."""
        return self._press.position_m if self._on_stack else -self._gap_m

    def _travel_m(self) -> float:
        return self._position_m() - self._zero_m

    def _travel(self) -> str:
        return f"{1e3 * self._travel_m() + 0.0:.3f} mm"

    def _status(self) -> str:
        direction = {_UP: "U", _DOWN: "D", _STOPPED: "S"}[self._direction]
        limit = "".join(
            word for side, word in ((_UP, "UL"), (_DOWN, "DL")) if self._room_m(side) <= _NEAR_M
        )
        return f"{direction}{'L' if self._limit_mode else 'M'}{limit}"

    def _room_m(self, direction: int) -> float:
        """How far it may go; no end of it in manual mode."""
        if not self._limit_mode:
            return math.inf
        return max(0.0, direction * (self._limits_m[direction] - self._travel_m()))

    def _set_limit_mode(self, *, on: bool) -> None:
        self._limit_mode = on
        self._start_leg()

    def _set_speed(self, speed_m_per_s: float) -> None:
        self._speed_m_per_s = speed_m_per_s
        self._start_leg()

    def _zero(self) -> None:
        self._zero_m = self._position_m()
        self._start_leg()

    def _move(self, direction: int) -> None:
        self._direction = direction
        self._press.clear_over_force()
        self._start_leg()

    def _stop(self) -> None:
        """Keep the place: on the stack the force is what the place makes of it."""
        self._direction = _STOPPED
        self._cancel_timer()
        if self._on_stack:
            self._press.stop()

    def _start_leg(self) -> None:
        """Move on through the air or on the stack, up to where the next thing happens."""
        self._cancel_timer()
        if self._direction == _STOPPED:
            return
        room_m = self._room_m(self._direction)
        if room_m <= _NEAR_M:
            self._stop()
            return
        if self._on_stack:
            leg_m = self._press_on(room_m)
        else:
            leg_m = min(room_m, self._gap_m) if self._direction == _DOWN else room_m
        if math.isfinite(leg_m):
            self._end_leg_in(leg_m / self._speed_m_per_s)

    def _press_on(self, room_m: float) -> float:
        """Let the force follow the travel at this speed; return how long the way is."""
        press, stiffness_N_per_m = self._press, self._stiffness_N_per_m
        goal_N = _RANGE * self._capacity_N if self._direction == _DOWN else 0.0
        way_m = min(room_m, abs(goal_N - press.force_N) / stiffness_N_per_m)
        aim_N = max(0.0, press.force_N + self._direction * way_m * stiffness_N_per_m)
        press.ramp_to(aim_N, self._speed_m_per_s * stiffness_N_per_m)
        return way_m

    def _end_leg_in(self, duration_s: float) -> None:
        self._timer = self._call_at(self._timebase.now() + duration_s, self._end_leg)

    def _end_leg(self) -> None:
        self._advance()
        if self._on_stack and self._press.moving:
            # The force lags the crosshead: look again when it has had time to arrive.
            self._end_leg_in(_SETTLE_S)
        elif self._on_stack and self._direction == _UP and self._press.force_N <= 0.0:
            self._on_stack, self._gap_m = False, 0.0
            self._start_leg()
        elif not self._on_stack and self._direction == _DOWN and self._gap_m <= _NEAR_M:
            self._on_stack = True
            self._start_leg()
        else:
            self._stop()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _advance(self) -> None:
        """Bring the world, and a crosshead in the air, to the present."""
        now_s = self._timebase.now()
        self._world.advance_to(now_s)
        if not self._on_stack:
            way_m = self._direction * self._speed_m_per_s * (now_s - self._since_s)
            self._gap_m = max(0.0, self._gap_m - way_m)
        self._since_s = now_s
