"""What all emulators share: a clock, one wire to one host, and a fault that nobody can overlook.

An emulator is driven by calls alone: bytes that arrive (`Emulator.receive`) and timers that fall
due. It has no task of its own, answers at the instant at which it is asked, and keeps running
without a host, as an instrument does whose cable was pulled.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cellbench.errors import TransportClosed
from cellbench.transport.stream import Stream
from cellbench_sim.leads import Cell

Sink = Callable[[bytes], None]
CallAt = Callable[[float, Callable[[], None]], asyncio.Handle]


def _no_time() -> float:
    raise RuntimeError("the simulated bench is not switched on")


class Timebase:
    """The bench's time: seconds since it was switched on, on the running loop's clock.

    Attributes:
        running: Whether the bench is switched on.
    """

    def __init__(self) -> None:
        self.running = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_time: Callable[[], float] = _no_time
        self._origin_s = 0.0

    def start(self) -> None:
        """Switch on: time 0 is now, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_time = self._loop.time
        self._origin_s = self._loop.time()
        self.running = True

    def stop(self) -> None:
        """Switch off; time cannot be asked for any more."""
        self._loop, self._loop_time = None, _no_time
        self.running = False

    def now(self) -> float:
        """Seconds since the bench was switched on."""
        return self._loop_time() - self._origin_s

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop on which everything of the bench happens; None while it is switched off."""
        return self._loop

    def call_at(self, time_s: float, action: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Call ``action`` when the bench's time reaches ``time_s``."""
        if self._loop is None:
            raise RuntimeError("the simulated bench is not switched on")
        due_s = self._origin_s + time_s
        if due_s - self._origin_s < time_s:
            # By rounding alone: whoever finds itself early would ask again, at the same instant.
            due_s = math.nextafter(due_s, math.inf)
        return self._loop.call_at(due_s, action, *args)


class Wire(Stream):
    """The host's end of the wire to an emulator: what is written here is received there at once."""

    def __init__(self, device: Emulator) -> None:
        super().__init__()
        self._device: Emulator | None = device
        self._plug_in(device)

    def _plug_in(self, device: Emulator) -> None:
        device.attach(
            self.feed, lambda: self.fail(TransportClosed(f"{device.name} has lost this connection"))
        )

    async def _hang_up(self) -> None:
        if self._device is not None:
            self._device.detach(self.feed)

    async def _open_anew(self) -> None:
        if self._device is not None:
            self._plug_in(self._device)

    def _send(self, data: bytes) -> None:
        if self._device is not None:
            self._device.receive(data)

    async def close(self) -> None:
        """Pull the cable; the device goes on with what it is doing."""
        self._unplug()
        await super().close()

    def sever(self) -> None:
        """Cut the wire at once and for good, as the death of the host does."""
        self._unplug()
        self._given_up = True
        self.fail(TransportClosed("cut"))

    def _unplug(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.detach(self.feed)


@dataclass
class LineFaults:
    """What goes wrong between an instrument and its host; nothing, unless a test says so.

    Attributes:
        silent: Nothing gets through, either way, as if the instrument had frozen.
        delay_s: Replies come this late.
        garble: What becomes of the bytes of a reply.
    """

    silent: bool = False
    delay_s: float = 0.0
    garble: Callable[[bytes], bytes] | None = None


class Emulator(ABC):
    """One instrument: bytes in, bytes out, and timers, on the bench's time.

    Args:
        name: The instrument's name on the bench.
        timebase: The bench's clock.
        first: The connection to the same device that was there first, if this is one more.

    Attributes:
        line: The faults of its connection.
    """

    def __init__(self, name: str, timebase: Timebase, *, first: Emulator | None = None) -> None:
        self.name = name
        self.line: LineFaults = LineFaults() if first is None else first.line
        self._first = first
        self._late: deque[bytes] = deque()
        self._timebase = timebase
        self._sink: Sink | None = None
        self._unplug: Callable[[], None] | None = None
        self._fault: Exception | None = None
        self._faulted = asyncio.Event()

    @property
    def at(self) -> object:
        """What is reached at one address; channels of one device are at the same."""
        return self

    def another_channel(
        self,
        name: str,  # noqa: ARG002 (most instruments have one channel)
        cell: Cell,  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        options: Mapping[str, Any],  # noqa: ARG002
    ) -> Emulator | None:
        """Build what a bench file says of another channel of this device, None if it has none.

        Args:
            name: Of that channel on the bench.
            cell: What its leads are clipped to.
            seed: Of its noise.
            options: What the bench file says.
        """
        return None

    def for_new_host(self) -> Emulator:
        """Return what one more host at its address speaks to: itself, with one host at a time."""
        return self

    def connect(self) -> Stream:
        """Plug in a new host; the one before it finds its connection closed."""
        return Wire(self)

    def attach(self, sink: Sink, unplug: Callable[[], None]) -> None:
        """Send to ``sink`` from now on; ``unplug`` is called when another host takes over."""
        if self._unplug is not None:
            self._unplug()
        self._sink, self._unplug = sink, unplug
        self._on_attach()

    def hang_up(self) -> None:
        """Break the connection to the host, as a cable does that falls out."""
        if self._unplug is not None:
            self._unplug()
        self._sink = self._unplug = None

    def detach(self, sink: Sink) -> None:
        """Forget ``sink``, if it is still the one in use."""
        if self._sink == sink:
            self._sink = self._unplug = None

    def receive(self, data: bytes) -> None:
        """Take in bytes from the host, at the present time."""
        if self.line.silent or self._fault is not None or not self._timebase.running:
            return
        try:
            self._receive(data)
        except Exception as fault:  # noqa: BLE001 (raised again by watch, in the bench's task group)
            self._break(fault)

    async def watch(self) -> None:
        """Wait for ever; raise what went wrong inside the emulator, should anything."""
        await self._faulted.wait()
        if self._fault is not None:
            raise self._fault

    @abstractmethod
    def _receive(self, data: bytes) -> None:
        """Act on bytes from the host."""

    def _on_attach(self) -> None:  # noqa: B027 (most instruments do not notice a new host)
        """Forget half a message of the host before."""

    def _send(self, data: bytes) -> None:
        """Send to whoever is plugged in; without a host the bytes are lost, as on a real port."""
        line, sink = self.line, self._sink
        if line.silent or sink is None:
            return
        if line.garble is not None:
            data = line.garble(data)
        if line.delay_s > 0:
            self._late.append(data)
            self._call_at(self._timebase.now() + line.delay_s, self._send_late)
        else:
            sink(data)

    def _send_late(self) -> None:
        data = self._late.popleft()
        if self._sink is not None:
            self._sink(data)

    def _call_at(self, time_s: float, action: Callable[[], None]) -> asyncio.Handle:
        return self._timebase.call_at(time_s, self._guarded, action)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Run ``action`` unless the bench is off."""
        if self._fault is not None or not self._timebase.running:
            return
        try:
            action()
        except Exception as fault:  # noqa: BLE001 (raised again by watch, in the bench's task group)
            self._break(fault)

    def _break(self, fault: Exception) -> None:
        """What is raised here is the bench's to know, never the host's."""
        self._fault = fault
        self._faulted.set()
        if self._first is not None:
            self._first._break(fault)  # noqa: SLF001 (the one that is watched)
