"""A Loadstar DI-1000U load cell: ASCII requests ended by CR, replies by CR LF.

An empty request answers ``A`` and ends continuous output; ``model``, ``id``, ``unit``, ``lc`` tell
what it is; ``w`` reads once, ``wc`` again and again, ``r`` in counts of the converter; ``tare``
makes the present force the zero. Anything else answers ``E``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.lines import LineEmulator
from cellbench_sim.emulators.load_cell import LoadCell
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

_NEWTONS = {"N": 1.0, "LB": 4.4482216, "Kg": 9.80665}
#: Fractions of the full scale (assumed): noise, spread of the zero, its drift per kelvin.
_NOISE, _ZERO, _DRIFT_PER_K = 2e-4, 1e-3, 2e-5
_COUNTS = 1 << 23
_TARE_S = 0.8


class LoadstarEmulator(LineEmulator):
    """The load cell in the line of force.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        world: The bench's physical system.
        seed: Seed of noise and zero offset.
        capacity_N: Full scale, at which the reading saturates.
        unit: ``N``, ``LB`` or ``Kg``: the native unit of all values.
        rate_Hz: Values per second of continuous output.

    Attributes:
        cell: The load cell behind the digitiser.
    """

    ends: ClassVar[bytes] = b"\r"
    longest: ClassVar[int] = 64

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        capacity_N: float = 5000.0,
        unit: str = "N",
        rate_Hz: float = 10.0,
    ) -> None:
        super().__init__(name, timebase)
        self._world = world
        rng = random_stream(seed, name)
        self.cell = LoadCell(
            world, rng, capacity_N, noise=_NOISE, zero=_ZERO, drift_per_K=_DRIFT_PER_K
        )
        self._unit = unit
        self._interval_s = 1.0 / rate_Hz
        self._tare_N = 0.0
        self._stream_number = 0
        self._streaming = False
        self._requests: dict[str, Callable[[], str]] = {
            "model": lambda: "DI-1000U",
            "id": lambda: f"F{seed % 10000:04d}26",
            "unit": lambda: unit,
            "lc": lambda: f"{capacity_N / _NEWTONS[unit]:g}",
            "w": self._weight,
            "r": lambda: str(round(self._reading_N() / capacity_N * _COUNTS)),
        }

    @classmethod
    def from_bench(
        cls, name: str, timebase: Timebase, world: World, *, seed: int, options: Mapping[str, Any]
    ) -> Self:
        """Build the load cell a bench file describes: ``capacity``; its unit is its own affair."""
        capacity_N = BenchOptions(options).quantity("capacity", "force", world.press.max_force_N)
        return cls(name, timebase, world, seed=seed, capacity_N=capacity_N)

    def _on_attach(self) -> None:
        super()._on_attach()
        self._streaming = False

    def _line(self, text: str) -> None:
        request, self._streaming = text.strip(), False
        if not request:
            self._say("A")
        elif request == "wc":
            self._start_streaming()
        elif request == "tare":
            self._call_at(self._timebase.now() + _TARE_S, self._tare)
        else:
            answer = self._requests.get(request)
            self._say(answer() if answer else "E")

    def _start_streaming(self) -> None:
        self._streaming = True
        self._stream_number += 1
        number, start_s = self._stream_number, self._timebase.now()

        def stream(index: int) -> None:
            if self._streaming and number == self._stream_number:
                self._say(self._weight())
                due_s = start_s + (index + 1) * self._interval_s
                self._call_at(due_s, lambda: stream(index + 1))

        stream(0)

    def _tare(self) -> None:
        self._tare_N = 0.0
        self._tare_N = self._reading_N()
        self._say("Tared")

    def _weight(self) -> str:
        return f"{(self._reading_N() - self._tare_N) / _NEWTONS[self._unit]:.3f}"

    def _reading_N(self) -> float:
        self._world.advance_to(self._timebase.now())
        return self.cell.reading_N()
