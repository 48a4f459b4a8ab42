"""Keithley source-measure units: 2450, 2460 and 2461 with their own SCPI, the 2400 with its older.

The unit goes on without a host: the source holds its level for ever, the trigger model runs to its
end, limits and the overvoltage protection act at all times. `keithley_2450` and `keithley_2400`
hold the commands, `keithley_trigger` the trigger model, `source_measure` the analogue half.

When the bench is switched on, the leads see nothing of the unit until its output has been on or
another output-off state has been chosen; from then on the normal state (0 V, with a limit) loads
the cell, as the real one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol, Self

from cellbench.errors import InputError
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.keithley_2400 import Dialect2400
from cellbench_sim.emulators.keithley_2450 import Dialect2450
from cellbench_sim.emulators.scpi import Event
from cellbench_sim.emulators.scpi_device import ScpiEmulator
from cellbench_sim.emulators.source_measure import MODELS, SourceMeasureUnit
from cellbench_sim.leads import Cell
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

_QUEUE, _QUEUE_2400 = 1000, 10


class Dialect(Protocol):
    """The commands of one family, and what they act on besides the source-measure unit."""

    def reset(self) -> None:
        """Do what ``*RST`` does, the source-measure unit apart."""

    def busy(self) -> bool:
        """Whether something goes on beside the commands."""

    def on_limit(self) -> None:
        """Learn that the source has come to its limit."""

    def status_bits(self) -> int:
        """Return bits of the status byte."""

    def format_event(self, event: Event | None) -> str:
        """Return what ``SYSTem:ERRor?`` answers."""


class KeithleyEmulator(ScpiEmulator):
    """One unit, its leads on a cell.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        cell: What the leads are clipped to.
        seed: Seed of noise and errors of calibration.
        model: A key of `MODELS`.
        clock_drift: How much faster the unit's clock runs, as a fraction.

    Attributes:
        smu: Source, limit, output relay and converters.
        dialect: Its commands.

    Raises:
        InputError: There is no such model.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        cell: Cell,
        *,
        seed: int,
        model: str = "2450",
        clock_drift: float = 0.0,
    ) -> None:
        if model not in MODELS:
            raise InputError(f"no Keithley {model!r} is emulated; there are: {', '.join(MODELS)}")
        older = model == "2400"
        super().__init__(name, timebase, queue=_QUEUE_2400 if older else _QUEUE)
        self.model = model
        self._rate = 1.0 + clock_drift
        self._look: asyncio.Handle | None = None
        self._was_limited = False
        self.smu = SourceMeasureUnit(
            cell,
            MODELS[model],
            random_stream(seed, name),
            self.now,
            self._drive_changed,
        )
        self.dialect: Dialect = Dialect2400(self) if older else Dialect2450(self)

    @classmethod
    def from_bench(
        cls,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        options: Mapping[str, Any],
    ) -> Self:
        """Make the unit that a bench file describes: ``model`` (2450, 2460, 2461 or 2400)."""
        return cls(name, timebase, world, seed=seed, model=str(options.get("model", "2450")))

    def now(self) -> float:
        """Return the bench's time."""
        return self._timebase.now()

    def clock_s(self) -> float:
        """Return the time by the unit's own clock."""
        return self._timebase.now() * self._rate

    def call_at(self, time_s: float, action: Callable[[], None]) -> asyncio.Handle:
        """Call ``action`` at a time of the bench."""
        return self._call_at(time_s, action)

    def set_interlock(self, *, closed: bool) -> None:
        """Close or open the interlock at the rear."""
        self.smu.interlock = closed
        self.smu.apply()

    def converted(self, *functions: str) -> Generator[float, None, list[float]]:
        """Wait until readings that start now are done, and return them."""
        yield self.smu.measured_by_s(*functions)
        values = [self.smu.read(name) for name in functions]
        self._note_limit()
        return values

    @property
    def _identity(self) -> str:
        return MODELS[self.model].identity

    def _reset(self) -> None:
        self.dialect.reset()
        self.smu.reset()

    def _operating(self) -> bool:
        return self.dialect.busy()

    def _status_bits(self) -> int:
        return self.dialect.status_bits()

    def _format_event(self, event: Event | None) -> str:
        return self.dialect.format_event(event)

    # ------------------------------------------------------------------ regulation

    def _drive_changed(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self.smu.drives:
            self._look = self._call_at(self.smu.next_look_s(), self._regulate)
        self._note_limit()

    def _regulate(self) -> None:
        self.is_limited()
        self._look = self._call_at(self.smu.next_look_s(), self._regulate)

    def is_limited(self) -> bool:
        """Let the output stage do what is due, and return whether it is held back now."""
        self.smu.regulate()
        self._note_limit()
        return self.smu.limited

    def _note_limit(self) -> None:
        limited = self.smu.limited
        if limited and not self._was_limited:
            self.dialect.on_limit()
        self._was_limited = limited
