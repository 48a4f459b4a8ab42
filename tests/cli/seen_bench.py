"""Run as a program: the simulated bench, served to other processes, and what an onlooker sees.

Prints the bench file as one line of JSON, then for each instant a line with the wall clock's time,
the current through the cell, the force on the stack and the charge that has physically passed.
Nobody on the wires can tell it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from cellbench.bench import simulated_bench
from cellbench.clock import run
from cellbench.engine.session import played_bench
from cellbench.wiring import DEFAULT_FIXTURE
from cellbench_sim.bench import SimulatedBench

LOOK_S = 0.02


async def main(bench: SimulatedBench, speed: float) -> None:
    async with bench, bench.serve() as addresses:
        _tell(bench.description(addresses) | ({} if speed == 1.0 else {"speed": speed}))
        while True:
            bench.world.advance_to(bench._timebase.now())
            current_A = bench.world.terminals()[1]
            passed_C = bench.world.cell.passed_C
            _tell([time.time(), current_A, bench.world.force_N(), passed_C])
            await asyncio.sleep(LOOK_S * speed)


def _tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("cell")
    parser.add_argument("seed", type=int)
    parser.add_argument("--bench", type=Path, help="the bench file that is played")
    parser.add_argument("--speed", type=float, default=1.0)
    given = parser.parse_args()
    played = (
        simulated_bench(given.cell, given.seed, DEFAULT_FIXTURE)
        if given.bench is None
        else played_bench(given.bench, given.cell, None, given.seed)
    )
    assert isinstance(played, SimulatedBench)
    run(main(played, given.speed), virtual=given.speed != 1.0, speed=given.speed)
