"""Emulated instruments that speak lines of ASCII: bytes are collected until a line is complete."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from cellbench_sim.emulators.device import Emulator, Timebase


class LineEmulator(Emulator):
    """Hands complete lines to `_line`; what never ends is thrown away, as a full buffer is.

    Attributes:
        ends: The bytes that end a request, each by itself; empty lines are passed on.
        longest: Without an end, so many bytes are kept.
    """

    ends: ClassVar[bytes] = b"\n"
    longest: ClassVar[int] = 65536

    def __init__(self, name: str, timebase: Timebase) -> None:
        super().__init__(name, timebase)
        self._received = bytearray()

    @abstractmethod
    def _line(self, text: str) -> None:
        """Act on one request, without its ending."""

    def _say(self, text: str) -> None:
        """Answer with a line that CR LF ends."""
        self._send(f"{text}\r\n".encode("ascii"))

    def _on_attach(self) -> None:
        self._received.clear()

    def _receive(self, data: bytes) -> None:
        received, ends = self._received, self.ends
        for byte in data:
            if byte in ends:
                text = received.decode("latin-1")
                received.clear()
                self._line(text)
            else:
                received.append(byte)
        if len(received) > self.longest:
            received.clear()
