"""The cable of a simulated instrument: pulled, and plugged in again."""

from __future__ import annotations

import pytest

from cellbench.clock import run
from cellbench.errors import TransportClosed
from cellbench_sim.bench import LOAD_CELL, SimulatedBench


def test_a_wire_that_was_pulled_is_plugged_in_again_in_place() -> None:
    async def scenario() -> None:
        async with SimulatedBench("LYC", 1) as bench:
            wire = bench.connect(LOAD_CELL)
            bench.load_cell.hang_up()
            with pytest.raises(TransportClosed, match="lost this connection"):
                await wire.write(b"\r")
            await wire.reopen()
            await wire.write(b"unit\r")
            assert await wire.read_until(b"\n", 1.0) == b"N\r\n"

    run(scenario(), virtual=True)


def test_whoever_plugs_in_again_takes_the_instrument_over() -> None:
    async def scenario() -> None:
        async with SimulatedBench("LYC", 1) as bench:
            first = bench.connect(LOAD_CELL)
            second = bench.connect(LOAD_CELL)
            assert first.lost
            await first.reopen()
            assert second.lost
            assert not first.lost
            await first.close()
            with pytest.raises(TransportClosed):
                await first.reopen()

    run(scenario(), virtual=True)
