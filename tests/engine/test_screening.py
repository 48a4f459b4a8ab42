"""Before anything is energised: the open-circuit voltage must be that of the cell on the card."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cellbench.engine.run import RunState

Runner = Callable[..., Any]
HEAD = "cellbench: 1\nname: A test\nsteps:\n"
CURRENT = HEAD + "  - current: {at: 0.1 mA/cm2, for: 1 min}\n"


def test_a_symmetric_cell_rests_at_zero_and_the_journal_says_so(run: Runner) -> None:
    ran = run(CURRENT)
    (screening,) = [entry for entry in ran.reader.journal if entry.kind == "screening"]
    assert abs(screening.data["voltage_V"]) < 0.01
    assert ran.end.exit_code == 0


def test_a_cell_that_does_not_rest_where_its_card_says_is_not_energised(run: Runner) -> None:
    commands: list[str] = []

    async def charge(simulator: Any, bench: Any, _conductor: Any) -> None:
        # What another cell in this place would show: the front end reads half a volt more.
        front = simulator.world.cell
        original = front.terminals_after
        front.terminals_after = lambda duration_s: (
            original(duration_s)[0] + 0.5,
            original(duration_s)[1],
        )
        technique_of = bench.channel.run

        def spy(technique: Any, limits: Any) -> Any:
            commands.append(technique.technique)
            return technique_of(technique, limits)

        bench.channel.run = spy
        await asyncio.sleep(0)

    ran = run(CURRENT, disturb=charge)
    assert ran.end.state is RunState.FAILED
    assert "leads reversed" in ran.end.reason
    assert commands == ["rest"]


def test_a_broken_wire_is_found_by_the_first_spectrum(run: Runner) -> None:
    async def cut(simulator: Any, _bench: Any, _conductor: Any) -> None:
        simulator.world.connected = False
        await asyncio.sleep(0)

    ran = run(
        HEAD + "  - eis: {from: 1 MHz, to: 1 kHz, points: 5 per decade, amplitude: 10 mV}\n",
        disturb=cut,
    )
    assert ran.end.state is RunState.FAILED
    assert "are the leads connected?" in ran.end.reason
    assert ran.end.safe
