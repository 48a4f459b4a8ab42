"""The EC-Lab OEM library (EClib64.dll) as ctypes sees it: structures, functions, their arguments.

Sources: the manual page of this driver; EC-Lab Development Package user's guide, chapters 3 to 5
(structures, signatures). Structures are aligned on double words (guide, 3.2): read as 4 bytes,
which matters to `DataInfo` and `EccParams`. Never verified against the vendor's header, hence the
driver's option ``packing``.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_bool, c_char, c_char_p, c_double, c_float, c_int32, c_uint8
from typing import Any, ClassVar, Literal, Protocol

c_uint32 = ctypes.c_uint32

Packing = Literal[4, 8]
#: Channels that a device has at most: the length of the arrays that name channels.
CHANNELS_MAX = 16
#: Words of a data buffer.
BUFFER_WORDS = 1000
STOPPED, RUNNING, PAUSED = 0, 1, 2
#: ``FirmwareCode`` of a channel that EC-Lab itself uses, and of one that takes techniques.
FIRMWARE_OF_EC_LAB, FIRMWARE_OF_LIBRARY = 1, 5
#: What `BL_GetChannelBoardType` says: VMP3, SP-300 and digital SP-300 ("P") boards.
BOARD_VMP3, BOARD_SP300, BOARD_SP300_P = 1, 2, 3


def _words(*names: str) -> list[tuple[str, type[c_int32]]]:
    return [(name, c_int32) for name in names]


class DeviceInfo(ctypes.Structure):
    """What a device says of itself when it is connected."""

    _fields_: ClassVar[Any] = _words(
        "DeviceCode", "RAMSize", "CPU", "NumberOfChannels", "NumberOfSlots", "FirmwareVersion",
        "FirmwareDate_yyyy", "FirmwareDate_mm", "FirmwareDate_dd", "HTdisplayOn",
        "NbOfConnectedPC",
    )  # fmt: skip


class ChannelInfo(ctypes.Structure):
    """What a channel is: its board, firmware, ranges, memory."""

    _fields_: ClassVar[Any] = _words(
        "Channel", "BoardVersion", "BoardSerialNumber", "FirmwareCode", "FirmwareVersion",
        "XilinxVersion", "AmpCode", "NbAmps", "Lcboard", "Zboard", "RESERVED0", "RESERVED1",
        "MemSize", "MemFilled", "State", "MaxIRange", "MinIRange", "MaxBandwidth",
        "NbOfTechniques",
    )  # fmt: skip


class EccParam(ctypes.Structure):
    """One parameter of a technique: the bits of its value, for one step (``ParamIndex``)."""

    _fields_: ClassVar[Any] = [
        ("ParamStr", c_char * 64),
        *_words("ParamType", "ParamVal", "ParamIndex"),
    ]


class EccParams(ctypes.Structure):
    """The parameters of a technique, packed to 4 bytes."""

    _layout_ = "ms"
    _pack_ = 4
    _fields_: ClassVar[Any] = [("len", c_int32), ("pParams", POINTER(EccParam))]


class AlignedEccParams(ctypes.Structure):
    """The parameters of a technique, as a C compiler aligns them by itself."""

    _fields_: ClassVar[Any] = [("len", c_int32), ("pParams", POINTER(EccParam))]


class CurrentValues(ctypes.Structure):
    """What a channel is doing and measuring at this moment."""

    _fields_: ClassVar[Any] = [
        *_words("State", "MemFilled"),
        *((name, c_float) for name in (
            "TimeBase", "Ewe", "EweRangeMin", "EweRangeMax", "Ece", "EceRangeMin", "EceRangeMax",
        )),
        ("Eoverflow", c_int32), ("I", c_float), *_words("IRange", "Ioverflow"),
        *((name, c_float) for name in ("ElapsedTime", "Freq", "Rcomp")),
        *_words("Saturation", "OptErr", "OptPos"),
    ]  # fmt: skip


_DATA_INFO = [
    *_words(
        "IRQskipped", "NbRows", "NbCols", "TechniqueIndex", "TechniqueID", "ProcessIndex", "loop"
    ),
    ("StartTime", c_double),
    ("MuxPad", c_int32),
]


class DataInfo(ctypes.Structure):
    """What the rows of a data buffer are, packed to 4 bytes."""

    _layout_ = "ms"
    _pack_ = 4
    _fields_: ClassVar[Any] = _DATA_INFO


class AlignedDataInfo(ctypes.Structure):
    """What the rows of a data buffer are, as a C compiler aligns it by itself."""

    _fields_: ClassVar[Any] = _DATA_INFO


DataBuffer = c_uint32 * BUFFER_WORDS
ChannelFlags = c_uint8 * CHANNELS_MAX
ChannelResults = c_int32 * CHANNELS_MAX

STRUCTURES: dict[Packing, tuple[Any, Any]] = {
    4: (EccParams, DataInfo),
    8: (AlignedEccParams, AlignedDataInfo),
}


class Library(Protocol):
    """The functions of the library that the driver calls, by their C names and arguments.

    Whatever has these methods can take the DLL's place. Scalars come as Python's own numbers and
    bytes, as ctypes takes them; pointers as ``byref`` of the structures above, or as arrays.
    """

    def BL_Connect(self, address: bytes, timeout_s: int, device: Any, info: Any, /) -> int:
        """Open a connection; ``device`` and ``info`` are filled."""

    def BL_Disconnect(self, device: int, /) -> int:
        """Close it."""

    def BL_GetChannelsPlugged(self, device: int, plugged: Any, size: int, /) -> int:
        """Fill ``plugged``: one byte for each channel, 1 where there is one."""

    def BL_LoadFirmware(
        self,
        device: int,
        channels: Any,
        results: Any,
        size: int,
        gauge: bool,
        force: bool,
        binary: bytes | None,
        fpga: bytes | None,
        /,
    ) -> int:
        """Load the firmware into channels; ``results`` is filled with an error code for each."""

    def BL_GetChannelInfos(self, device: int, channel: int, info: Any, /) -> int:
        """Fill ``info``."""

    def BL_DefineIntParameter(self, label: bytes, value: int, index: int, parameter: Any, /) -> int:
        """Fill ``parameter``."""

    def BL_DefineBoolParameter(
        self, label: bytes, value: bool, index: int, parameter: Any, /
    ) -> int:
        """Fill ``parameter``."""

    def BL_DefineSglParameter(
        self, label: bytes, value: float, index: int, parameter: Any, /
    ) -> int:
        """Fill ``parameter``."""

    def BL_LoadTechnique(
        self,
        device: int,
        channel: int,
        file: bytes,
        parameters: Any,
        first: bool,
        last: bool,
        display: bool,
        /,
    ) -> int:
        """Load a technique; the first one replaces those that the channel had."""

    def BL_StartChannel(self, device: int, channel: int, /) -> int:
        """Start what was loaded."""

    def BL_StopChannel(self, device: int, channel: int, /) -> int:
        """Stop it; the cell is then open."""

    def BL_GetCurrentValues(self, device: int, channel: int, values: Any, /) -> int:
        """Fill ``values``."""

    def BL_GetData(self, device: int, channel: int, buffer: Any, info: Any, values: Any, /) -> int:
        """Take rows out of the channel's memory."""

    def BL_ConvertNumericIntoSingle(self, number: int, single: Any, /) -> int:
        """Turn a word of a data buffer into a number."""


_device_channel = [c_int32, c_uint8]
#: Argument types of the functions; all return an int32.
SIGNATURES: dict[str, list[Any]] = {
    "BL_Connect": [c_char_p, c_uint8, POINTER(c_int32), POINTER(DeviceInfo)],
    "BL_Disconnect": [c_int32],
    "BL_GetChannelsPlugged": [c_int32, POINTER(c_uint8), c_uint8],
    "BL_LoadFirmware": [
        c_int32, POINTER(c_uint8), POINTER(c_int32), c_uint8, c_bool, c_bool, c_char_p, c_char_p,
    ],
    "BL_GetChannelInfos": [*_device_channel, POINTER(ChannelInfo)],
    "BL_DefineIntParameter": [c_char_p, c_int32, c_int32, POINTER(EccParam)],
    "BL_DefineBoolParameter": [c_char_p, c_bool, c_int32, POINTER(EccParam)],
    "BL_DefineSglParameter": [c_char_p, c_float, c_int32, POINTER(EccParam)],
    "BL_StartChannel": _device_channel,
    "BL_StopChannel": _device_channel,
    "BL_GetCurrentValues": [*_device_channel, POINTER(CurrentValues)],
    "BL_ConvertNumericIntoSingle": [c_uint32, POINTER(c_float)],
}  # fmt: skip
#: Of newer libraries: needed for boards whose numbers are no plain singles.
NEWER_SIGNATURES: dict[str, list[Any]] = {
    "BL_GetChannelBoardType": [*_device_channel, POINTER(c_uint32)],
    "BL_ConvertChannelNumericIntoSingle": [c_uint32, POINTER(c_float), c_uint32],
}


def signatures(packing: Packing) -> dict[str, list[Any]]:
    """Argument types of all functions that every library has."""
    parameters, info = STRUCTURES[packing]
    return SIGNATURES | {
        "BL_LoadTechnique": [*_device_channel, c_char_p, parameters, c_bool, c_bool, c_bool],
        "BL_GetData": [
            *_device_channel, POINTER(c_uint32), POINTER(info), POINTER(CurrentValues),
        ],
    }  # fmt: skip


def declare(library: Any, packing: Packing) -> Library:
    """Declare arguments and results of the functions of a loaded library."""
    known = {name: types for name, types in NEWER_SIGNATURES.items() if hasattr(library, name)}
    for name, types in (signatures(packing) | known).items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, c_int32
    declared: Library = library
    return declared
