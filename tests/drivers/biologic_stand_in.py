"""A stand-in for BioLogic's library in driver tests: C functions that follow a script of data.

Its functions are real C function pointers with the argument types of the signatures, so that what
the driver passes goes through ctypes as it would to the DLL.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cellbench.transport.memory import MemoryStream
from cellbench_drivers.biologic_abi import (
    FIRMWARE_OF_LIBRARY,
    NEWER_SIGNATURES,
    RUNNING,
    STOPPED,
    Library,
    Packing,
    signatures,
)

TIME_BASE_S = 1e-3


def word(value: float) -> int:
    """The bits of a single."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return int(bits)


def number(bits: int) -> float:
    """The single that has these bits."""
    (value,) = struct.unpack("<f", struct.pack("<I", bits & 0xFFFFFFFF))
    return float(value)


def at(time_s: float) -> tuple[int, int]:
    """The two words of a time."""
    ticks = round(time_s / TIME_BASE_S)
    return ticks >> 32, ticks & 0xFFFFFFFF


def cp(time_s: float, voltage_V: float, current_A: float) -> tuple[int, ...]:
    """A row of cplimit or calimit."""
    return *at(time_s), word(voltage_V), word(current_A), 0


@dataclass
class Fetch:
    """What one `BL_GetData` gives."""

    rows: Sequence[Sequence[int]] = ()
    index: int = 0
    process: int = 0
    start_s: float = math.nan
    state: int = RUNNING
    skipped: int = 0
    left: int = 0
    overflow: int = 0


@dataclass
class Loaded:
    """A technique as it was loaded."""

    file: str
    first: bool
    last: bool
    raw: list[bytes]

    @property
    def parameters(self) -> dict[tuple[str, int], float]:
        """Values by label and index."""
        return dict(self._decoded(raw) for raw in self.raw)

    @staticmethod
    def _decoded(raw: bytes) -> tuple[tuple[str, int], float]:
        label, kind, value, index = struct.unpack("<64siii", raw)
        name = label.rstrip(b"\0").decode()
        return (name, index), number(value) if kind == 2 else value


@dataclass
class StandIn:
    """The device behind the library.

    Attributes:
        script: What fetching gives, in order; a channel without more of it has stopped.
        errors: Error code that a function returns, by its name.
        deaf: Whether a stop does nothing.
    """

    packing: Packing = 4
    device_code: int = 5
    newer: dict[str, int] = field(default_factory=dict)
    plugged: tuple[int, ...] = (0, 1)
    firmware: int = FIRMWARE_OF_LIBRARY
    range_max: int = 9
    zboard: int = 1
    state: int = STOPPED
    rest_V: float = 3.5
    script: deque[Fetch] = field(default_factory=deque)
    errors: dict[str, int] = field(default_factory=dict)
    deaf: bool = False
    option_error: int = 0
    memory: int = 0
    calls: list[str] = field(default_factory=list)
    loaded: list[Loaded] = field(default_factory=list)

    def library(self) -> Library:
        """The C functions, as attributes of an object."""
        made: Any = type("Functions", (), {})()
        newer = NEWER_SIGNATURES if self.newer else {}
        for name, types in (signatures(self.packing) | newer).items():
            prototype = ctypes.CFUNCTYPE(ctypes.c_int32, *types)
            setattr(made, name, prototype(self._counted(name)))
        library: Library = made
        return library

    def stream(self) -> Carrier:
        """A connection that carries it."""
        return Carrier(self.library())

    def _counted(self, name: str) -> Any:
        def called(*arguments: Any) -> int:
            if not name.startswith(("BL_Define", "BL_Convert")):
                self.calls.append(name.removeprefix("BL_"))
            if name in self.errors:
                return self.errors[name]
            result = getattr(self, name)(*self._beyond_handles(name, arguments))
            return 0 if result is None else int(result)

        return called

    def count(self, name: str) -> int:
        """How often a function was called."""
        return self.calls.count(name)

    @staticmethod
    def _beyond_handles(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Check the handle of the device and the channel's number, and leave them out."""
        if name.startswith(("BL_Connect", "BL_Define", "BL_Convert")):
            return arguments
        assert arguments[0] == 7
        if name in {"BL_Disconnect", "BL_GetChannelsPlugged", "BL_LoadFirmware"}:
            return arguments[1:]
        assert arguments[1] == 1
        return arguments[2:]

    # --- The functions --------------------------------------------------------------------------

    def BL_Connect(self, address: bytes, timeout_s: int, device: Any, info: Any) -> int | None:
        if address != b"192.109.209.128" or timeout_s != 5:
            return -203
        device[0] = 7
        info.contents.DeviceCode = self.device_code
        info.contents.FirmwareVersion = 1105
        return None

    def BL_Disconnect(self) -> None:
        """Nothing to do."""

    def BL_GetChannelsPlugged(self, plugged: Any, size: int) -> None:
        assert size == 16
        for channel in self.plugged:
            plugged[channel] = 1

    def BL_LoadFirmware(
        self, channels: Any, results: Any, size: int, gauge: bool, force: bool,
        binary: bytes | None, fpga: bytes | None,
    ) -> None:  # fmt: skip
        assert channels[:size] == [0, 1, *[0] * 14]
        assert (gauge, force, binary, fpga) == (False, False, None, None)
        results[1] = 0
        self.firmware = FIRMWARE_OF_LIBRARY
        self.errors.pop("BL_GetChannelInfos", None)

    def BL_GetChannelInfos(self, info: Any) -> None:
        got = info.contents
        got.BoardSerialNumber, got.FirmwareCode, got.FirmwareVersion = 815, self.firmware, 5282
        got.Zboard, got.MaxIRange, got.MinIRange = self.zboard, self.range_max, 5
        got.State = self.state

    def BL_GetChannelBoardType(self, board: Any) -> None:
        board[0] = self.newer["board"]

    @staticmethod
    def _define(label: bytes, kind: int, bits: int, index: int, parameter: Any) -> None:
        got = parameter.contents
        got.ParamStr, got.ParamType, got.ParamVal, got.ParamIndex = label, kind, bits, index

    def BL_DefineIntParameter(self, label: bytes, value: int, index: int, to: Any) -> None:
        self._define(label, 0, value, index, to)

    def BL_DefineBoolParameter(self, label: bytes, value: bool, index: int, to: Any) -> None:
        self._define(label, 1, int(value), index, to)

    def BL_DefineSglParameter(self, label: bytes, value: float, index: int, to: Any) -> None:
        self._define(label, 2, struct.unpack("<i", struct.pack("<f", value))[0], index, to)

    def BL_LoadTechnique(
        self, file: bytes, parameters: Any, first: bool, last: bool, display: bool
    ) -> int | None:
        assert not display
        if self.state != STOPPED:
            return -13
        raw = [bytes(parameters.pParams[index]) for index in range(parameters.len)]
        if first:
            self.loaded = []
        self.loaded.append(Loaded(file.decode(), first, last, raw))
        return None

    def BL_StartChannel(self) -> None:
        self.state = RUNNING

    def BL_StopChannel(self) -> None:
        if not self.deaf:
            self.state = STOPPED
            self.script.clear()

    def BL_GetCurrentValues(self, values: Any) -> None:
        got = values.contents
        got.State, got.Ewe, got.MemFilled = self.state, self.rest_V, self.memory

    def BL_GetData(self, buffer: Any, info: Any, values: Any) -> None:
        fetch = self.script.popleft() if self.script else Fetch(state=STOPPED)
        if not self.deaf:
            self.state = fetch.state
        for position, each in enumerate(value for row in fetch.rows for value in row):
            buffer[position] = each
        got, now = info.contents, values.contents
        got.NbRows, got.NbCols = len(fetch.rows), len(fetch.rows[0]) if fetch.rows else 0
        got.TechniqueIndex, got.ProcessIndex = fetch.index, fetch.process
        got.StartTime, got.IRQskipped = fetch.start_s, fetch.skipped
        now.State, now.TimeBase, now.MemFilled = self.state, TIME_BASE_S, fetch.left
        now.Eoverflow, now.OptErr = fetch.overflow, self.option_error
        self.memory = 0

    def BL_ConvertNumericIntoSingle(self, bits: int, single: Any) -> None:
        single[0] = number(bits)

    def BL_ConvertChannelNumericIntoSingle(self, bits: int, single: Any, board: int) -> None:
        assert board == self.newer["board"]
        single[0] = number(bits)


class Carrier(MemoryStream):
    """A connection that brings the library along."""

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.library = library
