"""What a sample costs where many cells share one process, from bare models up to the bench's owner.

    python benchmarks/many_cells.py [--quick] [--day]

Each row adds a layer, and is measured with more and more cells. Every cell is one of NMC811 against
lithium that is charged and discharged at C/10 with a sample each 10 s, at a place of its own. The
ratio is to the bare model, measured just before; a cost that does not grow with the cells makes the
whole linear. ``--day`` plays 100 cells for 24 h, the promise being two minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cellbench import clock
from cellbench.engine.owner import Owner, RunRequest, run_all
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
#: Processor seconds, and samples of all cells together.
Measured = tuple[float, float]
_PROTOCOL = f"""
cellbench: 1
name: Cycles at C/10
cell: {_CELL}
conditions: {{every: 10 s}}
parameters: {{cycles: 1, half: 12 h}}
define:
  rows: {{every: 10 s, sample: 10 s}}
steps:
  - repeat: $cycles
    steps:
      - charge: {{at: 18 mA/g, until: potential >= {_HIGH_V} V vs Li+/Li, at most: $half, record: $rows}}
      - discharge: {{at: 18 mA/g, until: potential <= {_LOW_V} V vs Li+/Li, at most: $half, record: $rows}}
"""


def many_cells(*, quick: bool) -> list[dict[str, Any]]:
    layers: list[tuple[str, Callable[[int, float], Measured]]] = [
        ("bare models", _models),
        ("potentiostats: emulators and drivers", _potentiostats),
        ("channels of one cycler: emulator and drivers", _cycler),
        ("potentiostats: all of it, by the bench's owner", _owned),
    ]
    counts = (2, 10) if quick else (1, 10, 50, 100, 200)
    rows = []
    for name, measure in layers:
        for count in counts:
            samples = 2_000 if quick else 40_000
            hours = samples * _SAMPLE_S / 3600 / count
            bare_us = _per_sample_us(_models(1, 5.0))
            row_us = _per_sample_us(measure(count, hours))
            rows.append(
                {
                    "many_cells": name,
                    "cells": count,
                    "us_per_sample": round(row_us, 1),
                    "ratio_to_model": round(row_us / bare_us, 2),
                }
            )
    return rows


def day(cells: int = 100, hours: float = 24.0) -> list[dict[str, Any]]:
    started = time.perf_counter()
    cpu_s, samples = _owned(cells, hours)
    return [
        {
            "day": f"{cells} cells for {hours:g} h, a sample each 10 s",
            "samples": round(samples),
            "s": round(time.perf_counter() - started, 1),
            "cpu_s": round(cpu_s, 1),
        }
    ]


def _per_sample_us(measured: Measured) -> float:
    cpu_s, samples = measured
    return cpu_s / samples * 1e6


def _models(cells: int, hours: float) -> Measured:
    worlds = [_pressed(World(load_preset(_CELL), seed=cell)) for cell in range(cells)]
    current_A = _CURRENT_A_PER_M2 * worlds[0].model.area_m2
    for world in worlds:
        world.apply_current(current_A)
    count = math.ceil(hours * 3600 / _SAMPLE_S)
    started = time.process_time()
    for sample in range(1, count + 1):
        for world in worlds:
            world.advance_to(sample * _SAMPLE_S)
            if world.terminals()[0] > _HIGH_V:
                world.apply_current(-current_A)
    return time.process_time() - started, count * cells


def _potentiostats(cells: int, hours: float) -> Measured:
    entries = {f"c{cell}": _potentiostat() for cell in range(cells)}

    async def cycled(bench: SimulatedBench, name: str) -> int:
        driver = PalmSens(name, bench.connect(name), {"f_max": "1 MHz"})
        await driver.connect()
        rows, end_s = 0, asyncio.get_running_loop().time() + hours * 3600
        sign = 1.0
        while (left_s := end_s - asyncio.get_running_loop().time()) > _SAMPLE_S:
            async with driver.run(_half_cycle(sign, left_s, bench), _LIMITS) as running:
                async for block in running:
                    rows += len(block.time_s)
            sign = -sign
        return rows

    return _driven(entries, cycled)


def _cycler(cells: int, hours: float) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        entries = {f"c{cell}": _channel(cell, folder) for cell in range(cells)}

        async def cycled(bench: SimulatedBench, name: str) -> int:
            options = {key.replace(" ", "_"): each for key, each in entries[name].items()}
            del options["driver"], options["port"]
            driver = Neware(name, bench.connect(name), options)
            await driver.connect()
            once = tuple(_half_cycle(sign, 12 * 3600.0, bench) for sign in (1.0, -1.0))
            program = StepList(steps=(Repeat(times=10, steps=once),))
            end_s = asyncio.get_running_loop().time() + hours * 3600
            rows = 0
            async with driver.run_list(program, _LIMITS, name) as running:
                async for block in running:
                    rows += len(block.time_s)
                    if asyncio.get_running_loop().time() >= end_s:
                        return rows
            return rows

        return _driven(entries, cycled)


def _driven(
    entries: Mapping[str, Mapping[str, Any]],
    cycled: Callable[[SimulatedBench, str], Any],
) -> Measured:
    """Let each channel cycle the cell at its place, all in one loop."""
    places = {f"at {name}": {"channel": name} for name in entries}
    bench = SimulatedBench(_CELL, 1, instruments=entries, cells=places)
    for place in bench.places.values():
        _pressed(place.world)

    async def main() -> Measured:
        async with bench:
            started = time.process_time()
            rows = await asyncio.gather(*(cycled(bench, name) for name in entries))
            return time.process_time() - started, sum(rows)

    return clock.run(main(), virtual=True)


def _owned(cells: int, hours: float) -> Measured:
    entries = {f"c{cell}": _potentiostat() for cell in range(cells)}
    places = {f"P{cell}": {"card": _CELL, "channel": name} for cell, name in enumerate(entries)}
    text = json.dumps({"bench": "many cells", "instruments": entries, "cells": places})
    sets = (f"half={min(hours / 2, 12.0)} h", f"cycles={max(1, round(hours / 24))}")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "bench.yaml").write_text(text, encoding="utf-8")
        protocol = folder / "cycles.yaml"
        protocol.write_text(_PROTOCOL, encoding="utf-8")

        async def main(store: Store) -> Measured:
            async with Owner(folder / "bench.yaml", store, seed=1) as owner:
                # Presses would be polled too; here the stacks are pressed as somebody left them.
                for place in owner._simulator.places.values():  # type: ignore[union-attr]  # noqa: SLF001
                    _pressed(place.world)
                requests = [RunRequest(str(protocol), place, sets=sets) for place in places]
                started = time.process_time()
                ends = await run_all(owner, requests)
                for end in ends.values():
                    if isinstance(end, BaseException) or end.exit_code:
                        raise SystemExit(f"a run failed: {getattr(end, 'reason', end)}")
                seconds = asyncio.get_running_loop().time()
                return time.process_time() - started, seconds / _SAMPLE_S * cells

        with Store(folder / "store") as store:
            return clock.run(main(store), virtual=True)


def _half_cycle(sign: float, longest_s: float, bench: SimulatedBench) -> ConstantCurrent:
    area_m2 = next(iter(bench.places.values())).world.model.area_m2
    cut_off = CutOff(quantity="voltage", above=sign > 0, value=_HIGH_V if sign > 0 else _LOW_V)
    return ConstantCurrent(
        current_A=sign * _CURRENT_A_PER_M2 * area_m2,
        duration_s=longest_s,
        interval_s=_SAMPLE_S,
        cut_offs=(cut_off,),
    )


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


def _pressed(world: World) -> World:
    world.press.ramp_to(5e6 * world.model.area_m2, 40.0)
    return world


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a few cells for a short time")
    arguments.add_argument("--day", action="store_true", help="only 100 cells for 24 h")
    chosen = arguments.parse_args()
    rows = day() if chosen.day else many_cells(quick=chosen.quick)
    for row in rows:
        sys.stdout.write("   ".join(f"{name} {value}" for name, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
