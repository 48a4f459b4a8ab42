"""What one sample at 1 Hz costs in each layer, from the bare model up to the stored row.

Each row adds a layer to the one above (the store's stands alone); the ratio is to the bare model,
measured in the same run.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cellbench import clock
from cellbench.engine.run import Conductor
from cellbench.engine.session import prepare
from cellbench.instruments.techniques import ConstantCurrent, ElectricalLimits
from cellbench.store import RunWriter, Store
from cellbench_drivers.palmsens import PalmSens
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

_CURRENT_A = 4e-4
_LIMITS = ElectricalLimits(voltage_min_V=-2, voltage_max_V=2, current_max_A=0.01)


def layers(samples: int) -> list[dict[str, Any]]:
    steps: list[tuple[str, Callable[[int], float]]] = [
        ("bare model", _model),
        ("emulator alone: script runs, bytes discarded", _emulator),
        ("driver and emulator", _driver),
        ("store alone: rows handed over and committed", _store),
        ("all of it: `cellbench run`, press, gauge and chamber every 5 s", _engine),
    ]
    rows: list[dict[str, Any]] = []
    bare_us = 0.0
    for name, measure in steps:
        per_sample_us = measure(samples) / samples * 1e6
        bare_us = bare_us or per_sample_us
        rows.append(
            {
                "layer": name,
                "us_per_sample": round(per_sample_us, 1),
                "ratio_to_model": round(per_sample_us / bare_us, 2),
            }
        )
    return rows


def _model(samples: int) -> float:
    world = World(load_preset("LYC_PMMA"), seed=1)
    world.apply_current(_CURRENT_A)
    started = time.perf_counter()
    for second in range(samples):
        world.advance_to(second + 1.0)
        world.terminals()
    return time.perf_counter() - started


def _emulator(samples: int) -> float:
    script = (
        "e\nvar p\nvar c\nset_pgstat_mode 6\nset_range ba 1m\nset_i 400u\ncell_on\n"
        f"meas_loop_cp p c 400u 1 {samples}\npck_start\npck_add p\npck_add c\npck_end\nendloop\n"
        "on_finished:\ncell_off\n\n"
    )

    async def main() -> float:
        async with SimulatedBench("LYC_PMMA", seed=1) as bench:
            wire = bench.connect("potentiostat")
            started = time.perf_counter()
            await wire.write(script.encode())
            await asyncio.sleep(samples + 10.0)
            return time.perf_counter() - started

    return clock.run(main(), virtual=True)


def _driver(samples: int) -> float:
    technique = ConstantCurrent(current_A=_CURRENT_A, duration_s=samples)

    async def main() -> float:
        async with SimulatedBench("LYC_PMMA", seed=1) as bench:
            driver = PalmSens("potentiostat", bench.connect("potentiostat"), {"f_max": "1 MHz"})
            await driver.connect()
            started = time.perf_counter()
            rows = 0
            async with driver.run(technique, _LIMITS) as running:
                async for block in running:
                    rows += len(block.time_s)
            if rows < samples - 1:
                raise SystemExit(f"the driver lost samples: {rows} of {samples}")
            return time.perf_counter() - started

    return clock.run(main(), virtual=True)


def _store(samples: int) -> float:
    async def main(directory: Path) -> float:
        writer = RunWriter(directory / "run.sqlite", durable=False)
        started = time.perf_counter()
        for second in range(samples):
            writer.add_samples(
                [(float(second), "potentiostat", 1, 0.1, 4e-4, 0.0, None, None, 0, None)]
            )
        await writer.flush()
        seconds = time.perf_counter() - started
        await writer.close()
        return seconds

    with tempfile.TemporaryDirectory() as directory:
        return clock.run(main(Path(directory)), virtual=True)


def _engine(samples: int) -> float:
    protocol = (
        "cellbench: 1\nname: One long step\ncell: LYC_PMMA\nsteps:\n"
        f"  - current: {{at: 0.5 mA/cm2, for: {samples} s, record: {{every: 1 s}}}}\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "long.yaml"
        path.write_text(protocol)
        session = prepare(str(path), seed=1)

        async def main(store: Store) -> float:
            async with session.bench(None) as bench:
                conductor = Conductor(
                    session.program, bench, store, documents=session.documents(bench), seed=1
                )
                started = time.perf_counter()
                end = await conductor.conduct()
                if end.exit_code:
                    raise SystemExit(end.reason)
                return time.perf_counter() - started

        with Store(Path(directory)) as store:
            return clock.run(main(store), virtual=True)
