"""BioLogic potentiostats of the VMP3 and SP-300 families, behind the vendor's OEM library.

There is no public wire protocol: the library is the interface. `BiologicLibrary` stands in for it,
as one host has loaded it; `BiologicEmulator` is the instrument, which goes on without any host.
Nothing here has been compared with an instrument.

A driver may call from any thread. What a call does happens on the bench's event loop, where all of
the bench lives: called from another thread, it is handed over and waited for. Virtual time must
stand still meanwhile, as it does for ``run_in_executor`` (and so ``asyncio.to_thread``) of
`cellbench.clock.VirtualLoop`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from typing import Any, Self

from cellbench.errors import TransportClosed
from cellbench_sim.emulators.analog import FrontEnd
from cellbench_sim.emulators.bench_options import BenchOptions
from cellbench_sim.emulators.biologic_abi import Misuse
from cellbench_sim.emulators.biologic_channel import BiologicChannel
from cellbench_sim.emulators.biologic_library import BiologicLibrary
from cellbench_sim.emulators.biologic_models import MODELS, Firmware, Slot
from cellbench_sim.emulators.device import Emulator, Timebase, Wire
from cellbench_sim.randomness import random_stream
from cellbench_sim.world import World

__all__ = ["MODELS", "BiologicEmulator", "BiologicLibrary", "Firmware", "LibraryStream"]

_SCAN_RATE_UNITS = {"mV/s": 1e-3, "V/s": 1.0}
#: Channels that are plugged where nobody says which.
_PLUGGED = 4


class LibraryStream(Wire):
    """What a host holds of an instrument that no byte goes to: the library that it has loaded.

    Attributes:
        library: The library; its calls fail once the stream is closed.
    """

    def __init__(self, device: BiologicEmulator) -> None:
        self.library = BiologicLibrary(device)
        super().__init__(device)

    def _plug_in(self, device: Emulator) -> None:
        self.library.mend()
        device.attach(self.feed, self._cut_off)

    def _cut_off(self) -> None:
        self.library.sever()
        self.fail(TransportClosed("the instrument has lost this host"))

    async def _hang_up(self) -> None:
        self.library.sever()
        await super()._hang_up()

    def sever(self) -> None:
        """Cut the wire at once and for good, as the death of the host does."""
        self.library.sever()
        super().sever()

    async def close(self) -> None:
        """Let the host vanish; the instrument goes on with what it is doing."""
        self.library.sever()
        await super().close()


class BiologicEmulator(Emulator):
    """One instrument; all of its plugged channels are clipped to the one cell there is.

    Args:
        name: Its name on the bench.
        timebase: The bench's clock.
        world: What its leads are clipped to.
        seed: Seed of its noise.
        model: A key of `MODELS`.
        plugged: Its channels that are plugged, from 0.
        address: What it answers to; None for any.
        firmware: What is loaded on its channels when it is switched on.
        memory_bytes: Memory of each channel.
        scan_rate_unit: What cv takes scan rates in, mV/s or V/s.
        strict: Whether misuse of the library is a fault of the bench.

    Attributes:
        complaints: What hosts did wrong, in order.
    """

    def __init__(
        self,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        model: str = "VMP3",
        plugged: Iterable[int] | None = None,
        address: str | None = None,
        firmware: Firmware = Firmware.NONE,
        memory_bytes: int = 1 << 20,
        scan_rate_unit: str = "mV/s",
        strict: bool = False,
    ) -> None:
        super().__init__(name, timebase)
        self.model = MODELS[model]
        self.address = address
        self.complaints: list[str] = []
        self.libraries: list[BiologicLibrary] = []
        self.strict = strict
        self.rate_unit_V_per_s = _SCAN_RATE_UNITS[scan_rate_unit]
        self._world = world
        rng = random_stream(seed, name)
        numbers = range(min(_PLUGGED, self.model.slots)) if plugged is None else plugged
        self.slots = {
            number: Slot(self._channel(random.Random(rng.getrandbits(64)), memory_bytes), firmware)  # noqa: S311 (noise)
            for number in numbers
        }

    @classmethod
    def from_bench(
        cls,
        name: str,
        timebase: Timebase,
        world: World,
        *,
        seed: int,
        options: Mapping[str, Any],
    ) -> Self:
        """Build what a bench file describes: its model, address, and unit of scan rates."""
        read = BenchOptions(options)
        return cls(
            name,
            timebase,
            world,
            seed=seed,
            model=read.text("model", "VMP3"),
            address=read.text("host", "") or None,
            scan_rate_unit=read.text("scan_rate_unit", "V/s"),
            strict=True,
        )

    def connect(self) -> LibraryStream:
        """Start a new host; the one before it is cut off."""
        return LibraryStream(self)

    def library(self) -> BiologicLibrary:
        """Return the library as one more host has loaded it."""
        return BiologicLibrary(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that the bench lives on; None while it is switched off."""
        return self._timebase.loop

    @property
    def silent(self) -> bool:
        """Whether it answers nobody, as if it had frozen."""
        return self.line.silent

    def complain(self, call: str, misuse: Misuse) -> None:
        """Take note of what a host did wrong."""
        self.complaints.append(f"{call}: {misuse}")
        if self.strict:
            self.record_fault(Misuse(misuse.code, f"{self.name}, {call}: {misuse}"))

    def record_fault(self, fault: Exception) -> None:
        """Let the bench know what went wrong."""
        if self._fault is None:
            self._fault = fault
            self._faulted.set()

    def another_runs(self, channel: BiologicChannel) -> bool:
        """Whether another channel runs on the cell that ``channel`` is clipped to."""
        return any(
            slot.channel is not channel and slot.channel.running for slot in self.slots.values()
        )

    def _receive(self, data: bytes) -> None:
        raise ValueError(f"{self.name} is reached through its library, not with {data!r}")

    def _channel(self, rng: random.Random, memory_bytes: int) -> BiologicChannel:
        # One by one: a glance puts the generator back to where it was.
        noise = iter(lambda: rng.gauss(0.0, 1.0), None)
        front = FrontEnd(self._world, self.model.profile, noise)
        return BiologicChannel(
            front,
            rng,
            self.model.limits,
            memory_bytes,
            lambda: self._world.advance_to(self._timebase.now()),
            self._timebase.now,
            self._call_at,
        )
