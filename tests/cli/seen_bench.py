"""Run as a program: the simulated bench, served to other processes, and what an onlooker sees.

Prints the bench file as one line of JSON, then for each instant a line with the wall clock's time,
the current through the cell and the force on the stack. Nobody on the wires can tell it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from cellbench_sim.bench import SimulatedBench

LOOK_S = 0.02


async def main(cell: str, seed: int) -> None:
    bench = SimulatedBench(cell, seed)
    async with bench, bench.serve() as addresses:
        _tell(bench.description(addresses))
        while True:
            bench.world.advance_to(bench._timebase.now())
            current_A = bench.world.terminals()[1]
            _tell([time.time(), current_A, bench.world.force_N()])
            await asyncio.sleep(LOOK_S)


def _tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
