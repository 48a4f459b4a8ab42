"""What a sample costs where many cells share one process, from bare models up to the bench's owner.

    python benchmarks/many_cells.py [--quick] [--day]

Every cell is one of NMC811 against lithium at a place of its own, cycled at C/10 with a sample each
10 s. Each layer is measured with more and more cells, over some simulated time in which all of them
are at work: starting a run is told apart. The ratio is to the bare model, measured just before; a
ratio that does not grow with the cells makes the whole linear.

``--day`` plays 100 cells for 24 h from beginning to end, on two benches of 50 with an owner for
each core; two minutes are promised.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import itemgetter
from pathlib import Path
from typing import Any

from cellbench import clock
from cellbench.engine.owner import Owner, RunRequest, all_at_once
from cellbench.instruments.techniques import (
    ConstantCurrent,
    CutOff,
    ElectricalLimits,
    Repeat,
    StepList,
)
from cellbench.store import Store
from cellbench_drivers.neware import Neware
from cellbench_drivers.palmsens import PalmSens
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

_CELL, _SAMPLE_S = "NMC811_LYC_PMMA_Li", 10.0
_LOW_V, _HIGH_V = 2.6, 4.2
#: A tenth of 180 mA/g of the card's loading.
_CURRENT_A_PER_M2 = 0.018 * 53.8
_LIMITS = ElectricalLimits(voltage_min_V=-3, voltage_max_V=4.9, current_max_A=0.01)
#: In this time everything has begun.
_BEGUN_S = 600.0
_PROTOCOL = f"""
cellbench: 1
name: Cycle at C/10
cell: {_CELL}
conditions: {{every: 10 s}}
parameters: {{half: 3 h, cycles: 4}}
define:
  rows: {{every: 10 s, sample: 10 s}}
  charged: potential >= {_HIGH_V} V vs Li+/Li
  discharged: potential <= {_LOW_V} V vs Li+/Li
steps:
  - repeat: $cycles
    steps:
      - charge: {{at: 18 mA/g, until: $charged, at most: $half, record: $rows}}
      - discharge: {{at: 18 mA/g, until: $discharged, at most: $half, record: $rows}}
"""
#: Processor seconds until all has begun, and of so many simulated seconds after that.
Measured = tuple[float, float]
Layer = Callable[[int, float], Measured]
Cycled = Callable[[SimulatedBench, str], Awaitable[None]]


def many_cells(*, quick: bool) -> list[dict[str, Any]]:
    layers: list[tuple[str, Layer]] = [
        ("bare models", _models),
        ("potentiostats: emulators and drivers", _potentiostats),
        ("channels of one cycler: emulator and drivers", _cycler),
        ("potentiostats: all of it, by the bench's owner", _owner),
    ]
    length_s, repeats = (900.0, 1) if quick else (3600.0, 3)
    rows = []
    for name, measure in layers:
        for cells in (2, 10) if quick else (1, 10, 50, 100, 200):
            bare_us = _us(_least(_models, 20, length_s, repeats)[1], 20, length_s)
            begun_s, cpu_s = _least(measure, cells, length_s, repeats)
            row_us = _us(cpu_s, cells, length_s)
            rows.append(
                {
                    "many_cells": name,
                    "cells": cells,
                    "us_per_sample": round(row_us, 1),
                    "ratio_to_model": round(row_us / bare_us, 2),
                    "ms_to_begin_each": round(begun_s / cells * 1e3, 1),
                }
            )
    return rows


def day(cells: int = 100, owners: int = 2) -> list[dict[str, Any]]:
    bare_us = _us(_least(_models, 20, 3600.0, 3)[1], 20, 3600.0)
    started = time.perf_counter()
    with ProcessPoolExecutor(owners, get_context("spawn")) as pool:
        days = list(pool.map(_days, [cells // owners] * owners))
    seconds = time.perf_counter() - started
    cpu_s, hours = sum(each for each, _ in days), min(each for _, each in days)
    samples = cells * hours * 3600 / _SAMPLE_S
    return [
        {
            "day": f"{cells} cells for {hours:.1f} h, with {owners} owners of a bench",
            "samples": round(samples),
            "s": round(seconds, 1),
            "cpu_s": round(cpu_s, 1),
            "ratio_to_model": round(cpu_s / samples * 1e6 / bare_us, 2),
        }
    ]


def _days(cells: int) -> tuple[float, float]:
    """Play a day; returns processor seconds and simulated hours."""
    started_s = time.process_time()
    _, simulated_s = _owned(cells, ())
    return time.process_time() - started_s, simulated_s / 3600


def _least(measure: Layer, cells: int, length_s: float, repeats: int) -> Measured:
    """Measure again and again: whatever else the computer does only ever adds."""
    return min((measure(cells, length_s) for _ in range(repeats)), key=itemgetter(1))


def _us(cpu_s: float, cells: int, length_s: float) -> float:
    return cpu_s / (cells * length_s / _SAMPLE_S) * 1e6


async def _measured(length_s: float) -> Measured:
    started_s = time.process_time()
    await asyncio.sleep(_BEGUN_S)
    begun_s = time.process_time()
    await asyncio.sleep(length_s)
    return begun_s - started_s, time.process_time() - begun_s


def _models(cells: int, length_s: float) -> Measured:
    worlds = [World(load_preset(_CELL), seed=cell) for cell in range(cells)]
    for world in worlds:
        world.apply_current(_current_A(world))

    async def main() -> Measured:
        measuring = asyncio.ensure_future(_measured(length_s))
        while not measuring.done():
            await asyncio.sleep(_SAMPLE_S)
            for world in worlds:
                world.advance_to(asyncio.get_running_loop().time())
                world.terminals()
        return await measuring

    return clock.run(main(), virtual=True)


def _potentiostats(cells: int, length_s: float) -> Measured:
    async def cycled(bench: SimulatedBench, name: str) -> None:
        driver = PalmSens(name, bench.connect(name), {"f_max": "1 MHz"})
        await driver.connect()
        for technique in _cycle(bench):
            async with driver.run(technique, _LIMITS) as running:
                async for _ in running:
                    pass

    return _driven({f"c{cell}": _potentiostat() for cell in range(cells)}, cycled, length_s)


def _cycler(cells: int, length_s: float) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        entries = {f"c{cell}": _channel(cell, folder) for cell in range(cells)}

        async def cycled(bench: SimulatedBench, name: str) -> None:
            ours = {"driver", "port"}
            options = {
                key.replace(" ", "_"): value
                for key, value in entries[name].items()
                if key not in ours
            }
            driver = Neware(name, bench.connect(name), options)
            await driver.connect()
            program = StepList(steps=(Repeat(times=10, steps=_cycle(bench)),))
            async with driver.run_list(program, _LIMITS, name) as running:
                async for _ in running:
                    pass

        return _driven(entries, cycled, length_s)


def _driven(entries: Mapping[str, Mapping[str, Any]], cycled: Cycled, length_s: float) -> Measured:
    """Let each channel cycle the cell at its place, all in one loop."""
    places = {f"at {name}": {"channel": name} for name in entries}
    bench = SimulatedBench(_CELL, 1, instruments=entries, cells=places)

    async def main() -> Measured:
        async with bench:
            tasks = [asyncio.ensure_future(cycled(bench, name)) for name in entries]
            measured = await _measured(length_s)
            if any(task.done() for task in tasks):
                raise SystemExit("a channel has ended before its time")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return measured

    return clock.run(main(), virtual=True)


def _owner(cells: int, length_s: float) -> Measured:
    """One cycle at each place, which lasts as long as is measured."""
    sets = ("cycles=1", f"half={(_BEGUN_S + length_s) / 2 + _SAMPLE_S} s")
    return _owned(cells, sets, length_s)[0]


def _owned(cells: int, sets: Sequence[str], length_s: float = 0.0) -> tuple[Measured, float]:
    """Let a bench's owner cycle all cells; returns what was measured, and how long it took (s)."""
    entries = {f"c{cell}": _potentiostat() for cell in range(cells)}
    places = {f"P{name}": {"card": _CELL, "channel": name} for name in entries}
    text = json.dumps({"bench": "many cells", "instruments": entries, "cells": places})
    with tempfile.TemporaryDirectory() as directory:
        bench, protocol = Path(directory) / "bench.yaml", Path(directory) / "cycle.yaml"
        bench.write_text(text, encoding="utf-8")
        protocol.write_text(_PROTOCOL, encoding="utf-8")
        requests = [RunRequest(str(protocol), place, sets=tuple(sets)) for place in places]

        async def main(store: Store) -> tuple[Measured, float]:
            async with Owner(bench, store, seed=1) as owner:
                measuring = asyncio.ensure_future(_measured(length_s))
                ends = await all_at_once({each.place: owner.run(each) for each in requests})
                for end in ends.values():
                    if isinstance(end, BaseException) or end.exit_code:
                        raise SystemExit(f"a run failed: {getattr(end, 'reason', end)}")
                return await measuring, asyncio.get_running_loop().time()

        with Store(Path(directory) / "store") as store:
            return clock.run(main(store), virtual=True)


def _cycle(bench: SimulatedBench) -> tuple[ConstantCurrent, ConstantCurrent]:
    current_A = _current_A(next(iter(bench.places.values())).world)
    charge = ConstantCurrent(
        current_A=current_A,
        duration_s=12 * 3600.0,
        interval_s=_SAMPLE_S,
        cut_offs=(CutOff(quantity="voltage", above=True, value=_HIGH_V),),
    )
    low = CutOff(quantity="voltage", above=False, value=_LOW_V)
    return charge, charge.model_copy(update={"current_A": -current_A, "cut_offs": (low,)})


def _current_A(world: World) -> float:
    return _CURRENT_A_PER_M2 * world.model.area_m2


def _potentiostat() -> dict[str, Any]:
    return {"driver": "palmsens", "port": "simulated", "f_max": "1 MHz"}


def _channel(cell: int, folder: str) -> dict[str, Any]:
    unit, number = divmod(cell, 8)
    return {
        "driver": "neware",
        "port": "simulated",
        "channel": f"27-21-{unit + 1}-{number + 1}",
        "voltage min": "-5 V",
        "steps folder": folder,
        "steps folder on pc": r"C:\cellbench",
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a few cells for a short time")
    arguments.add_argument("--day", action="store_true", help="only 100 cells for 24 h")
    chosen = arguments.parse_args()
    for row in day() if chosen.day else many_cells(quick=chosen.quick):
        sys.stdout.write("   ".join(f"{name} {value}" for name, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
