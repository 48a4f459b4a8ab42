"""A Mark-10 force gauge in the line of force: ASCII requests over USB serial, 115200 8N1.

``?`` and ``?C`` answer the present reading with its unit, ``?PT`` and ``?PC`` the largest tension
and compression since it was switched on. Requests end with CR, answers with CR LF. Never verified:
these endings, the widths of the numbers, the sign of compression (a setting here), and that
anything else answers ``*10``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.emulators.load_cell import LoadCell
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

_ILLEGAL = "*10"
_RESOLUTION = 2e-4


class Gauge:
    """The gauge itself, reached by its own port or through its stand.

    Args:
        world: The bench's physical system.
        rng: Source of noise and zero.
        capacity_N: Its range.
        compression: The sign that compression has in its readings.
    """

    def __init__(
        self, world: World, rng: random.Random, capacity_N: float, compression: Literal[1, -1]
    ) -> None:
        self._cell = LoadCell(world, rng, 1.1 * capacity_N, noise=1e-4, zero=3e-4)
        self._step_N = _RESOLUTION * capacity_N
        self._sign = compression
        self._most_N = self._least_N = 0.0

    def answer(self, request: str) -> str:
        """Return the answer to a request; the world stands at the present time."""
        reading = self.reading()
        if request in {"?", "?C"}:
            return reading
        if request == "?PC":
            return self._text(self._most_N)
        return self._text(self._least_N) if request == "?PT" else _ILLEGAL

    def reading(self) -> str:
        """Return the present reading, and remember the largest ones."""
        force_N = self._cell.reading_N()
        self._most_N, self._least_N = max(self._most_N, force_N), min(self._least_N, force_N)
        return self._text(force_N)

    def _text(self, force_N: float) -> str:
        rounded_N = round(force_N / self._step_N) * self._step_N
        # Nobody displays a negative zero.
        return f"{self._sign * rounded_N + 0.0:.1f} N"


class Mark10GaugeEmulator(LineEmulator):
    """A gauge on a port of its own.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of its noise and zero.
        capacity_N: Its range; by default what the press can do.
        compression: The sign that compression has in its readings.
    """

    ends: ClassVar[bytes] = b"\r"

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        capacity_N: float | None = None,
        compression: Literal[1, -1] = 1,
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        rng = random_stream(seed, name)
        self._gauge = Gauge(world, rng, capacity_N or world.press.max_force_N, compression)

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the gauge a bench file describes: ``capacity``, ``compression`` (or negative)."""
        bench = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            capacity_N=bench.quantity("capacity", "force", 0.0) or None,
            compression=bench.compression,
        )

    def _line(self, text: str) -> None:
        self._world.advance_to(self._timebase.now())
        self._say(self._gauge.answer(text.strip().upper()))
