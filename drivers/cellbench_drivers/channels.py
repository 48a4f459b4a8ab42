"""What channels share: rows of a technique one after the other, and a cell that may still be on."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from cellbench.errors import InstrumentError
from cellbench.instruments.readings import Block, Ending, EndingKind
from cellbench.instruments.techniques import ConstantVoltage, CutOff
from cellbench.quantities import format_quantity

ENDED_BY_HOST = Ending(EndingKind.ABORTED, "ended by the host", on_device=False)


class TechniqueRun(ABC):
    """Blocks of one technique; ``ending`` is there once they are exhausted.

    Attributes:
        ending: How it ended, None while it runs.
        open_circuit_V: Voltage before the cell was closed; nan where it was not measured.
        started_s: Loop time at which it took hold of the cell, nan until that is known.
    """

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self.open_circuit_V = math.nan
        self.started_s = math.nan
        self._now = asyncio.get_running_loop().time

    def __aiter__(self) -> AsyncIterator[Block]:
        """Iterate over the blocks."""
        return self

    async def __anext__(self) -> Block:
        """Wait for the next rows."""
        while self.ending is None:
            if (block := await self._advance()) is not None:
                return block
        raise StopAsyncIteration

    @property
    def ended_by_itself(self) -> bool:
        """Whether the instrument has ended it, and not the host or somebody else."""
        others = {EndingKind.ABORTED, EndingKind.STOPPED}
        return self.ending is not None and self.ending.kind not in others

    def end(self) -> None:
        """Take note that the host has ended it."""
        self.ending = self.ending or ENDED_BY_HOST

    @abstractmethod
    async def _advance(self) -> Block | None:
        """Wait for what comes next: rows, an end, or nothing yet."""


def crossing(cut_off: CutOff) -> str:
    """Say that a cut-off was crossed."""
    side = "at or above" if cut_off.above else "at or below"
    return f"{cut_off.quantity} {side} {format_quantity(cut_off.value, cut_off.quantity)}"


def holds_by_charging(technique: ConstantVoltage, voltage_V: float) -> bool:
    """Whether a hold that takes current in one direction only is to be one that charges.

    Args:
        technique: The hold.
        voltage_V: The cell's voltage before it, which counts where nobody knows where it rests: it
            may still be relaxing from a current.
    """
    if technique.rest_V is not None and technique.rest_V != technique.voltage_V:
        return technique.voltage_V > technique.rest_V
    return technique.voltage_V >= voltage_V


@contextmanager
def opening_cell(name: str) -> Iterator[None]:
    """Say of a failure to open the cell of instrument ``name`` that it may still be on."""
    try:
        yield
    except InstrumentError as error:
        reason = str(error).removeprefix(f"{name}: ")
        raise InstrumentError(name, f"the cell may still be on: {reason}") from error
