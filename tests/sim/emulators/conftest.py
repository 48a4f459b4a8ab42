"""A dummy cell as calibration kits contain it, and hosts that talk to emulators in virtual time."""

from __future__ import annotations

import asyncio
import math
import threading
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
from cellbench_sim.physics.fixture import FIXTURES
from cellbench_sim.presets import load_preset
from cellbench_sim.serve import serve
from cellbench_sim.world import World

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

    def tell(story: Story, *, virtual: bool = True, **options: Any) -> None:
        async def main() -> None:
            cell.time_s = 0.0
            timebase = Timebase()
            timebase.start()
            device = PalmSensEmulator("potentiostat", timebase, cell, **{"seed": 1, **options})
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                await story(Host(device.connect(), device))
                watch.cancel()

        run(main(), virtual=virtual)

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


@pytest.fixture
def with_emulator() -> Callable[..., None]:
    """Return a function that tells a story to an emulator of any class, alone on a bench."""

    def tell(story: Story, kind: Any, *, fixture: str = "servo", **settings: Any) -> None:
        async def main() -> None:
            device, world = _switched_on(kind, fixture, settings)
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                await story(Host(device.connect(), device), world)
                watch.cancel()

        run(main(), virtual=True)

    return tell


@pytest.fixture
def to_partner() -> Callable[..., Any]:
    """Return a function that runs a blocking program of others against an emulator.

    The program gets the emulator's address, that of a pseudo-terminal with ``pty``, and the world;
    simulated time passes ``speed`` times as fast as real time. What it returns is returned.
    """

    def talk(
        program: Callable[[str, World], Any],
        kind: Any,
        *,
        pty: bool = False,
        speed: float = 1.0,
        fixture: str = "servo",
        **settings: Any,
    ) -> Any:
        async def main() -> Any:
            device, world = _switched_on(kind, fixture, settings)
            async with serve([device], ptys=pty) as addresses:
                return await _in_thread(lambda: program(addresses[device.name][-1], world))

        return run(main(), virtual=True, speed=speed)

    return talk


def _switched_on(kind: Any, fixture: str, settings: dict[str, Any]) -> tuple[Emulator, World]:
    timebase = Timebase()
    timebase.start()
    world = World(load_preset("LYC_PMMA"), seed=7, fixture=FIXTURES[fixture])
    return kind("instrument", timebase, world, **{"seed": 7, **settings}), world


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Run a blocking program; simulated time goes on meanwhile."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def target() -> None:
        try:
            outcome, error = work(), None
        except BaseException as caught:  # noqa: BLE001 (raised again in the test)
            outcome, error = None, caught
        settle = done.set_result if error is None else done.set_exception
        loop.call_soon_threadsafe(settle, outcome if error is None else error)

    threading.Thread(target=target, daemon=True).start()
    while not done.done():
        await asyncio.sleep(0.01)
    return done.result()
