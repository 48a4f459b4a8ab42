"""Calls to the EC-Lab OEM library (EClib64.dll), and its errors by name.

Every call returns an error code: 0 is fine, a negative one is an error. Sources: the manual page of
this driver; EC-Lab Development Package user's guide, chapters 3 to 6.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from ctypes import byref, c_float, c_int32
from dataclasses import dataclass
from typing import Any

from cellbench.errors import CellbenchError
from cellbench_drivers.biologic_abi import (
    BUFFER_WORDS,
    CHANNELS_MAX,
    STRUCTURES,
    ChannelFlags,
    ChannelInfo,
    ChannelResults,
    CurrentValues,
    DataBuffer,
    DeviceInfo,
    EccParam,
    Library,
    Packing,
    c_uint32,
    declare,
)

#: Name and meaning of the error codes.
ERRORS = {
    -1: ("ERR_GEN_NOTCONNECTED", "no instrument is connected"),
    -2: ("ERR_GEN_CONNECTIONINPROGRESS", "a connection is being made"),
    -3: ("ERR_GEN_CHANNELNOTPLUGGED", "there is no such channel"),
    -4: ("ERR_GEN_INVALIDPARAMETERS", "the call's parameters are not valid"),
    -5: ("ERR_GEN_FILENOTEXISTS", "the file does not exist"),
    -6: ("ERR_GEN_FUNCTIONFAILED", "the call failed"),
    -7: ("ERR_GEN_NOCHANNELSELECTED", "no channel was selected"),
    -8: ("ERR_GEN_INVALIDCONF", "the instrument's configuration is not valid"),
    -9: ("ERR_GEN_ECLAB_LOADED", "EC-Lab's own firmware is loaded: close EC-Lab"),
    -10: ("ERR_GEN_LIBNOTCORRECTLYLOADED", "the library was not loaded completely"),
    -11: ("ERR_GEN_USBLIBRARYERROR", "the USB library was not loaded"),
    -12: ("ERR_GEN_FUNCTIONINPROGRESS", "another call is still in progress"),
    -13: ("ERR_GEN_CHANNEL_RUNNING", "the channel is in use"),
    -14: ("ERR_GEN_DEVICE_NOTALLOWED", "this device is not allowed"),
    -15: ("ERR_GEN_UPDATEPARAMETERS", "the parameters cannot be updated"),
    -101: ("ERR_INSTR_VMEERROR", "communication inside the instrument failed"),
    -102: ("ERR_INSTR_TOOMANYDATA", "too many data to transfer"),
    -103: ("ERR_INSTR_RESPNOTPOSSIBLE", "the channel is not plugged"),
    -104: ("ERR_INSTR_RESPERROR", "the instrument's response is wrong"),
    -105: ("ERR_INSTR_MSGSIZEERROR", "a message has the wrong size"),
    -200: ("ERR_COMM_COMMFAILED", "communication with the instrument failed"),
    -201: ("ERR_COMM_CONNECTIONFAILED", "the instrument cannot be reached"),
    -202: ("ERR_COMM_WAITINGACK", "the instrument has not answered yet"),
    -203: ("ERR_COMM_INVALIDIPADDRESS", "the address is not valid"),
    -204: ("ERR_COMM_ALLOCMEMFAILED", "the instrument has no memory left"),
    -205: ("ERR_COMM_LOADFIRMWAREFAILED", "the firmware could not be loaded"),
    -206: ("ERR_COMM_INCOMPATIBLESERVER", "instrument and library do not fit each other"),
    -207: ("ERR_COMM_MAXCONNREACHED", "too many computers are connected to it"),
    -300: ("ERR_FIRM_FIRMFILENOTEXISTS", "the kernel file is not there"),
    -301: ("ERR_FIRM_FIRMFILEACCESSFAILED", "the kernel file cannot be read"),
    -302: ("ERR_FIRM_FIRMINVALIDFILE", "the kernel file is not valid"),
    -303: ("ERR_FIRM_FIRMLOADINGFAILED", "the kernel could not be loaded"),
    -304: ("ERR_FIRM_XILFILENOTEXISTS", "the FPGA file is not there"),
    -305: ("ERR_FIRM_XILFILEACCESSFAILED", "the FPGA file cannot be read"),
    -306: ("ERR_FIRM_XILINVALIDFILE", "the FPGA file is not valid"),
    -307: ("ERR_FIRM_XILLOADINGFAILED", "the FPGA file could not be loaded"),
    -308: ("ERR_FIRM_FIRMWARENOTLOADED", "the channel has no firmware"),
    -309: ("ERR_FIRM_FIRMWAREINCOMPATIBLE", "firmware and library do not fit each other"),
    -400: ("ERR_TECH_ECCFILENOTEXISTS", "the technique's file is not there"),
    -401: ("ERR_TECH_INCOMPATIBLEECC", "the technique's file and the firmware do not fit"),
    -402: ("ERR_TECH_ECCFILECORRUPTED", "the technique's file is corrupted"),
    -403: ("ERR_TECH_LOADTECHNIQUEFAILED", "the technique could not be loaded"),
    -404: ("ERR_TECH_DATACORRUPTED", "the data that came back are corrupted"),
    -405: ("ERR_TECH_MEMFULL", "the channel's memory is full"),
}


class LibraryError(CellbenchError):
    """The library refuses a call, or cannot be loaded.

    Args:
        message: What it said.
        code: Its error code, None where it has not come that far.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


def load(path: str, packing: Packing) -> Library:
    """Load the vendor's DLL; it calls stdcall.

    Raises:
        LibraryError: This is not Windows, or there is no such library.
    """
    if sys.platform != "win32":
        raise LibraryError("BioLogic's library is a DLL for Windows: run cellbench there")
    try:
        return declare(ctypes.WinDLL(path), packing)
    except (OSError, AttributeError) as error:
        raise LibraryError(
            f'the library {path} cannot be loaded ({error}): its path is the option "library", '
            "and it comes with the EC-Lab Development Package"
        ) from error


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a technique, in the type that its Python type stands for."""

    label: str
    value: bool | int | float
    index: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """What one `BL_GetData` took out of a channel's memory: words, still as they came."""

    technique_index: int
    technique: int
    process: int
    start_s: float
    skipped: int
    words: tuple[tuple[int, ...], ...]
    values: CurrentValues


class Session:
    """Calls to one channel of one device. They block: see that they run where they may.

    Raises (every method): LibraryError, with the error's name and meaning.
    """

    def __init__(self, library: Library, channel: int, packing: Packing) -> None:
        self._library = library
        self._channel = channel
        self._parameters, self._info = STRUCTURES[packing]
        self._device = 0
        self._board = 0

    @property
    def board(self) -> int:
        """Type of the channel's board, 0 where the library cannot tell."""
        return self._board

    def connect(self, address: str, timeout_s: int) -> DeviceInfo:
        """Connect to a device: an IP address, or ``USB0``."""
        device, info = c_int32(), DeviceInfo()
        self._call("BL_Connect", address.encode("ascii"), timeout_s, byref(device), byref(info))
        self._device = device.value
        return info

    def disconnect(self) -> None:
        """Close the connection; what runs goes on."""
        self._call("BL_Disconnect", self._device)

    def plugged(self) -> list[int]:
        """Channels that there are, from 0."""
        flags = ChannelFlags()
        self._call("BL_GetChannelsPlugged", self._device, flags, CHANNELS_MAX)
        return [channel for channel, flag in enumerate(flags) if flag]

    def load_firmware(self) -> None:
        """Load the library's firmware into the channel, unless it is there already."""
        channels, results = ChannelFlags(), ChannelResults()
        channels[self._channel] = 1
        self._call(
            "BL_LoadFirmware",
            self._device, channels, results, CHANNELS_MAX, False, False, None, None,
        )  # fmt: skip
        _check("BL_LoadFirmware", results[self._channel])

    def channel_info(self) -> ChannelInfo:
        """What the channel is; learns the type of its board."""
        info = ChannelInfo()
        self._call("BL_GetChannelInfos", self._device, self._channel, byref(info))
        if hasattr(self._library, "BL_GetChannelBoardType"):
            board = c_uint32()
            self._call("BL_GetChannelBoardType", self._device, self._channel, byref(board))
            self._board = board.value
        return info

    def load(self, file: str, parameters: Sequence[Parameter], *, first: bool, last: bool) -> None:
        """Load one technique of a chain."""
        array = (EccParam * len(parameters))()
        for parameter, slot in zip(parameters, array, strict=True):
            self._define(parameter, slot)
        path = file.encode("mbcs" if sys.platform == "win32" else "utf-8")
        packed = self._parameters(len(parameters), array)
        arguments = (self._device, self._channel, path, packed, first, last, False)
        self._call("BL_LoadTechnique", *arguments, about=file)

    def _define(self, parameter: Parameter, slot: EccParam) -> None:
        kinds = {bool: "Bool", int: "Int", float: "Sgl"}
        name = f"BL_Define{kinds[type(parameter.value)]}Parameter"
        label = parameter.label.encode("ascii")
        self._call(name, label, parameter.value, parameter.index, byref(slot), about=label.decode())

    def start(self) -> None:
        """Start what was loaded."""
        self._call("BL_StartChannel", self._device, self._channel)

    def stop(self) -> None:
        """Stop the channel."""
        self._call("BL_StopChannel", self._device, self._channel)

    def values(self) -> CurrentValues:
        """What the channel is doing now."""
        values = CurrentValues()
        self._call("BL_GetCurrentValues", self._device, self._channel, byref(values))
        return values

    def data(self) -> Rows:
        """Take the next rows out of the channel's memory; none where it has none."""
        buffer, info, values = DataBuffer(), self._info(), CurrentValues()
        self._call("BL_GetData", self._device, self._channel, buffer, byref(info), byref(values))
        rows, columns = info.NbRows, info.NbCols
        if min(rows, columns) < 0 or rows * columns > BUFFER_WORDS:
            raise LibraryError(
                f"BL_GetData tells of {rows} rows of {columns} words, and a buffer has "
                f'{BUFFER_WORDS}: is the option "packing" right?'
            )
        words = tuple(tuple(buffer[row * columns : (row + 1) * columns]) for row in range(rows))
        return Rows(
            info.TechniqueIndex, info.TechniqueID, info.ProcessIndex, info.StartTime,
            info.IRQskipped, words, values,
        )  # fmt: skip

    def single(self, word: int) -> float:
        """Turn a word of a row into a number."""
        number = c_float()
        if self._board and hasattr(self._library, "BL_ConvertChannelNumericIntoSingle"):
            name = "BL_ConvertChannelNumericIntoSingle"
            self._call(name, word, byref(number), self._board)
        else:
            self._call("BL_ConvertNumericIntoSingle", word, byref(number))
        return number.value

    def _call(self, name: str, *arguments: Any, about: str = "") -> None:
        try:
            code = getattr(self._library, name)(*arguments)
        except OSError as error:  # as Windows tells of a crash inside the DLL
            raise LibraryError(f"{name}: the library failed: {error}") from error
        _check(name, code, about)


def _check(name: str, code: int, about: str = "") -> None:
    if code == 0:
        return
    short, meaning = ERRORS.get(code, (f"error {code}", "an error that its manual does not list"))
    of = f"{name} ({about})" if about else name
    raise LibraryError(f"{of}: {meaning} ({short}, {code})", code)
