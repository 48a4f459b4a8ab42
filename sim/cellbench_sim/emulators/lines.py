"""Emulated instruments that speak lines of ASCII: bytes are collected until a line is complete."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from cellbench_sim.emulators.device import Emulator, Timebase

_LONGEST = 65536


class LineEmulator(Emulator):
    """Hands complete lines to `_line`; what never ends is thrown away, as a full buffer is.

    Attributes:
        ends: The bytes that end a request, each by itself; empty lines are passed on.
    """

    ends: ClassVar[bytes] = b"\n"

    def __init__(self, name: str, timebase: Timebase) -> None:
        super().__init__(name, timebase)
        self._received = bytearray()

    @abstractmethod
    def _line(self, text: str) -> None:
        """Act on one request, without its ending."""

    def _on_attach(self) -> None:
        self._received.clear()

    def _receive(self, data: bytes) -> None:
        for byte in data:
            if byte in self.ends:
                text = self._received.decode("latin-1")
                self._received.clear()
                self._line(text)
            else:
                self._received.append(byte)
        if len(self._received) > _LONGEST:
            self._received.clear()
