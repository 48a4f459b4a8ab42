"""Samples per second through a real TCP connection in real time, and how many are lost.

The emulator runs in a process of its own and samples as fast as its script says (2 kHz);
driver and engine's store write every row. The reference is the same wire read line by line.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cellbench.instruments.techniques import ConstantCurrent, ElectricalLimits
from cellbench.store import RunWriter
from cellbench.transport.address import open_stream
from cellbench_drivers.palmsens import PalmSens

sys.path.append(str(Path(__file__).parents[1]))
from tests.serving import served

_LIMITS = ElectricalLimits(voltage_min_V=-2, voltage_max_V=2, current_max_A=0.01)
_RATE_HZ = 2000


def realtime(duration_s: float) -> list[dict[str, Any]]:
    with served() as bench:
        row = asyncio.run(_measure(bench["addresses"]["potentiostat"][0], duration_s))
    return [row]


async def _measure(address: str, duration_s: float) -> dict[str, Any]:
    stream = await open_stream(address, None, None)
    driver = PalmSens("potentiostat", stream, {"f_max": "1 MHz"})
    await driver.connect()
    technique = ConstantCurrent(current_A=4e-4, duration_s=duration_s, interval_s=1 / _RATE_HZ)
    rows = 0
    worst_late_s = 0.0
    with tempfile.TemporaryDirectory() as directory:
        writer = RunWriter(Path(directory) / "run.sqlite", durable=True)
        started = cpu = 0.0
        async with driver.run(technique, _LIMITS) as running:
            async for block in running:
                # From the first row on: what comes before is the script on its way.
                if not rows:
                    started, cpu = time.perf_counter(), time.process_time()
                voltages, currents = block.columns["voltage_V"], block.columns["current_A"]
                writer.add_samples(
                    [
                        (at, driver.name, 1, voltage, current, 0.0, None, None, flag, None)
                        for at, voltage, current, flag in zip(
                            block.time_s, voltages, currents, block.flags, strict=True
                        )
                    ]
                )
                rows += len(block.time_s)
                worst_late_s = max(
                    worst_late_s, asyncio.get_running_loop().time() - block.time_s[-1]
                )
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        await writer.flush()
        await writer.close()
    await driver.close()
    expected = round(duration_s * _RATE_HZ)
    # The first row started the clock.
    rate_Hz = (rows - 1) / seconds
    return {
        "samples_per_s": round(rate_Hz),
        "expected": expected,
        "lost": max(0, expected - rows),
        "worst_late_ms": round(worst_late_s * 1e3, 1),
        "host_cpu": f"{cpu_s / seconds:.0%}",
    }
