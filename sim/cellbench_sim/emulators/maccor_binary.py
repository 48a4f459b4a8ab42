"""The binary port of a MacNet server (57560), as far as JSON cannot do without it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import ClassVar

from cellbench_sim.emulators.device import Emulator, Timebase
from cellbench_sim.emulators.maccor_channel import MaccorChannel
from cellbench_sim.emulators.maccor_steps import Mode, Output


class MaccorBinaryPort(Emulator):
    """The server's other port: little-endian messages that set an output or reset a channel.

    ``FClass FNum Chan Len`` as words of 16 bits, then the data. A reply has the same head and a
    result as another word (assumed: the function table gives requests only).
    """

    _HEAD: ClassVar[struct.Struct] = struct.Struct("<4H")
    _OUTPUT: ClassVar[struct.Struct] = struct.Struct("<4f2B")
    _UNKNOWN = 0xFFFF

    def __init__(self, name: str, timebase: Timebase, channels: Sequence[MaccorChannel]) -> None:
        super().__init__(name, timebase)
        self._channels = channels
        self._received = bytearray()

    def _on_attach(self) -> None:
        self._received.clear()

    def _receive(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= self._HEAD.size:
            f_class, f_number, channel, length = self._HEAD.unpack_from(self._received)
            size = self._HEAD.size + length
            if len(self._received) < size:
                return
            payload = bytes(self._received[self._HEAD.size : size])
            del self._received[:size]
            result = self._act((f_class, f_number), channel, payload)
            self._send(self._HEAD.pack(f_class, f_number, channel, 2) + struct.pack("<H", result))

    def _act(self, function: tuple[int, int], index: int, payload: bytes) -> int:
        if index >= len(self._channels):
            return self._UNKNOWN
        channel = self._channels[index]
        if function == (6, 5):
            channel.reset()
            return 0
        if function != (6, 8) or len(payload) != self._OUTPUT.size:
            return self._UNKNOWN
        *values, current_range, mode = self._OUTPUT.unpack(payload)
        if mode not in set(map(int, Mode)) or not 1 <= current_range <= 4:
            return self._UNKNOWN
        output, _ = Output.read(Mode(mode), values, current_range, channel.ratings)
        return int(channel.set_output(output))
