"""A dummy cell as calibration kits contain it, and hosts that talk to emulators in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cellbench.clock import run
from cellbench.errors import TransportTimeout
from cellbench.transport import Stream
from cellbench_sim.bench import SimulatedBench
from cellbench_sim.emulators import Emulator, PalmSensEmulator, Timebase

Story = Callable[..., Awaitable[None]]


class DummyCell:
    """A resistor in series with a resistor and a capacitor in parallel; steady at once."""

    def __init__(self, series_ohm: float = 100.0, parallel_ohm: float = 900.0) -> None:
        self.series_ohm, self.parallel_ohm, self.capacitance_F = series_ohm, parallel_ohm, 1e-6
        self.open_circuit_V = 0.0
        self.time_s = 0.0
        self.commands: list[tuple[str, float]] = []
        self.open_circuit()

    @property
    def resistance_ohm(self) -> float:
        return self.series_ohm + self.parallel_ohm

    def advance_to(self, time_s: float) -> None:
        assert time_s >= self.time_s
        self.time_s = time_s

    def open_circuit(self) -> None:
        self._command("open", 0.0)

    def apply_current(self, current_A: float) -> None:
        self._command("current", current_A)

    def apply_voltage(self, voltage_V: float) -> None:
        self._command("voltage", voltage_V)

    def terminals(self) -> tuple[float, float]:
        kind, value = self.commands[-1]
        if kind == "voltage":
            return value, (value - self.open_circuit_V) / self.resistance_ohm
        current_A = value if kind == "current" else 0.0
        return self.open_circuit_V + current_A * self.resistance_ohm, current_A

    def impedance(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        admittance = 1 / self.parallel_ohm + 2j * math.pi * frequency_Hz * self.capacitance_F
        return np.asarray(self.series_ohm + 1 / admittance, dtype=np.complex128)

    @property
    def is_open(self) -> bool:
        return self.commands[-1][0] == "open"

    def _command(self, kind: str, value: float) -> None:
        self.commands.append((kind, value))


class Host:
    """A host that knows nothing: it sends bytes, and waits for bytes."""

    def __init__(self, stream: Stream, device: Emulator) -> None:
        self.stream, self.device = stream, device

    async def ask(self, request: bytes, end: bytes = b"\n", timeout_s: float = 1e6) -> bytes:
        await self.stream.write(request)
        return await self.stream.read_until(end, timeout_s)

    async def exchange(self, request: bytes, size: int) -> bytes:
        await self.stream.write(request)
        return await self.stream.read_exactly(size, 10)

    async def is_silent(self, request: bytes, for_s: float = 0.02) -> bool:
        await self.stream.write(request)
        try:
            await self.stream.read_exactly(1, for_s)
        except TransportTimeout:
            return True
        return False

    async def run_script(self, script: str) -> list[str]:
        """Run a script; return the lines that it printed, its own echo and end left out."""
        await self.stream.write(f"e\n{script.strip()}\n\n".encode())
        lines: list[str] = []
        while True:
            line = (await self.stream.read_until(b"\n", 1e6)).decode().rstrip("\n")
            if not line:
                return lines[1:]
            lines.append(line)
            if "!" in line:
                await asyncio.sleep(0.1)
                return lines if line.startswith("e!") else lines[1:]


@pytest.fixture
def cell() -> DummyCell:
    return DummyCell()


@pytest.fixture
def with_potentiostat(cell: DummyCell) -> Callable[..., None]:
    """Return a function that tells a story to a potentiostat whose leads are on ``cell``."""

    def tell(story: Story, **options: Any) -> None:
        async def main() -> None:
            cell.time_s = 0.0
            timebase = Timebase()
            timebase.start()
            device = PalmSensEmulator("potentiostat", timebase, cell, **{"seed": 1, **options})
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                await story(Host(device.connect(), device))
                watch.cancel()

        run(main(), virtual=True)

    return tell


@pytest.fixture
def with_bench() -> Callable[..., None]:
    """Return a function that tells a story to one instrument of a simulated bench."""

    def tell(story: Story, instrument: str, **options: Any) -> None:
        async def main() -> None:
            async with SimulatedBench("LYC_PMMA", 7, **options) as bench:
                await story(Host(bench.connect(instrument), bench.instruments[instrument]), bench)

        run(main(), virtual=True)

    return tell
