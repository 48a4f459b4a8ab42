"""Before anything is energised: is it the cell that the card describes, the right way round?

The open-circuit voltage is all that can be measured without a current. A lithium symmetric cell
rests at zero, a cell with a cathode shows a positive voltage; reversed leads, a wrong card or a
dead cell show here.
"""

from __future__ import annotations

import math

from cellbench.bench import Bench
from cellbench.cell import CellCard
from cellbench.engine.journal import Journal
from cellbench.engine.recorder import Recorder
from cellbench.engine.trips import StepFailed
from cellbench.instruments.readings import EndingKind, Flag
from cellbench.instruments.techniques import ElectricalLimits, Rest
from cellbench.instruments.wired import serving

#: How long the voltage is watched; the last reading counts.
SCREENING_S = 3.0
#: A symmetric cell's two sides differ by less than this.
SYMMETRIC_V = 0.1
PATH = "screening"


class OutsideLimits(StepFailed):
    """The cell rests outside its limits, which the instrument has seen by itself."""


def expected_open_circuit_V(card: CellCard) -> tuple[float, float] | None:
    """What a sound cell can show at rest, None where anything is possible (blocking electrodes)."""
    if card.kind == "symmetric":
        return -SYMMETRIC_V, SYMMETRIC_V
    if card.kind == "blocking":
        return None
    return 0.0, card.voltage_window_V[1]


async def screen(
    card: CellCard, bench: Bench, limits: ElectricalLimits, recorder: Recorder, journal: Journal
) -> None:
    """Measure the open-circuit voltage and compare it with what the card lets expect.

    Raises:
        StepFailed: It is not that of such a cell.
    """
    expected = expected_open_circuit_V(card)
    if bench.channel is None or expected is None:
        return
    recorder.enter_step(PATH, "rest")
    low, high = expected
    try:
        voltage_V = await open_circuit_V(bench, limits, recorder, journal)
    except OutsideLimits as error:
        raise StepFailed(f"{error}, {_doubts(card, low, high)}") from error
    text = f"open circuit: {voltage_V * 1e3:.4g} mV"
    await journal.enter("screening", step=PATH, text=text, voltage_V=voltage_V)
    if not low <= voltage_V <= high:
        raise StepFailed(f"{text}, {_doubts(card, low, high)}")


def _doubts(card: CellCard, low_V: float, high_V: float) -> str:
    return (
        f"but {card.cell} ({card.layout}) should rest between {low_V:g} and {high_V:g} V: "
        "leads reversed, another cell than on the card, or a dead one? Nothing was energised."
    )


async def open_circuit_V(
    bench: Bench, limits: ElectricalLimits, recorder: Recorder, journal: Journal
) -> float:
    """Measure the voltage of the open cell for some seconds; nan if it is out of range."""
    channel = bench.channel
    assert channel is not None  # noqa: S101 (asked before)
    voltage_V = math.nan
    rest = Rest(duration_s=SCREENING_S)
    source = serving(channel, rest).name
    async with channel.run(rest, limits) as running:
        async for block in running:
            voltages = block.columns["voltage_V"]
            recorder.writer.add_samples(
                [
                    (
                        journal.since_start(time_s), source, recorder.step_id, voltage, 0.0,
                        0.0, None, None, int(flags), None,
                    )
                    for time_s, voltage, flags in zip(
                        block.time_s, voltages, block.flags, strict=True
                    )
                ]
            )  # fmt: skip
            if not block.flags[-1] & Flag.SATURATED:
                voltage_V = voltages[-1]
    if running.ending is not None and running.ending.kind is EndingKind.TRIPPED:
        raise OutsideLimits(f"open circuit outside the limits ({running.ending.detail})")
    if running.ending is None or running.ending.kind is not EndingKind.COMPLETED:
        why = running.ending.detail if running.ending else "the instrument did not say why"
        raise StepFailed(f"the open-circuit voltage could not be watched to the end: {why}")
    return voltage_V
