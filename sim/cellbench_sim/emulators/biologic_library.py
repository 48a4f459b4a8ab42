"""The stand-in for BioLogic's OEM library: its functions by their names, each call checked.

Source: the manual of the vendor's development package (functions reference). What the manual says
of a call, of its arguments and of their order is required; a call against it is misuse, which the
instrument keeps among its complaints.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from ctypes import Array, c_char, c_double, c_float, c_int32, c_uint8, c_uint32
from typing import Any, Protocol

from cellbench_sim.emulators.biologic_abi import (
    BOOLEAN,
    BUFFER_WORDS,
    DOUBLE,
    INT32,
    LABEL_BYTES,
    SINGLE,
    UINT8,
    UINT32,
    ChannelInfos,
    CurrentValues,
    DataInfos,
    DeviceInfos,
    EccParam,
    EccParams,
    ErrorCode,
    Failure,
    HardwareConf,
    Misuse,
    Numbers,
    Reference,
    Text,
    TextBuffer,
    Value,
    exported,
)
from cellbench_sim.emulators.biologic_channel import BiologicChannel, overloaded, single
from cellbench_sim.emulators.biologic_models import Firmware, Model, Slot
from cellbench_sim.emulators.biologic_parameters import (
    Family,
    Kind,
    Parameters,
    decode,
    default_timebase_s,
    technique_of,
)
from cellbench_sim.emulators.biologic_techniques import E_RANGES_V, Steps, Technique, build

_SLOTS = 16
_VERSION = b"6.08"
_MOST_UPDATED = 10
#: What cannot be changed while a technique runs.
_FIXED = frozenset({"I_Range", "E_Range", "Bandwidth", "tb", "Step_number"})
#: How long a call from another thread waits before it looks whether the bench still lives.
_PATIENCE_S = 0.2


class Instrument(Protocol):
    """What the library connects to.

    Attributes:
        address: What it answers to; None for any.
        libraries: Those that hosts have loaded.
        complaints: What hosts did wrong, in order.
        rate_unit_V_per_s: What a scan rate of 1 is.
    """

    address: str | None
    libraries: list[BiologicLibrary]
    complaints: list[str]
    rate_unit_V_per_s: float

    @property
    def model(self) -> Model:
        """What it is."""

    @property
    def slots(self) -> Mapping[int, Slot]:
        """Its channel boards that are plugged, by number."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it lives on; None while it is switched off."""

    @property
    def silent(self) -> bool:
        """Whether it answers nobody."""

    def complain(self, call: str, misuse: Misuse) -> None:
        """Take note of what a host did wrong."""

    def record_fault(self, fault: Exception) -> None:
        """Take note of a fault of the stand-in itself."""

    def another_runs(self, channel: BiologicChannel) -> bool:
        """Whether another channel runs on the cell that ``channel`` is clipped to."""


class BiologicLibrary:
    """The library as one host has loaded it: the functions by their names in C.

    They take what the C functions take: ctypes values or Python's numbers for numbers, bytes or
    ``c_char_p`` for texts, ``byref``, pointers and arrays for pointers, structures by value. They
    return the library's codes. Misuse returns one too, and is kept in `complaints`.

    Args:
        instrument: What it can connect to.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._connections: set[int] = set()
        self._lost: set[int] = set()
        self._severed = False
        self._next_connection = 0
        instrument.libraries.append(self)

    @property
    def complaints(self) -> list[str]:
        """What hosts of the instrument did wrong, in order."""
        return self._instrument.complaints

    def sever(self) -> None:
        """Cut this host off: nothing that it calls reaches the instrument any more."""
        self._severed = True
        self._lost |= self._connections
        self._connections.clear()

    def mend(self) -> None:
        """Let its calls through again; its connections are gone."""
        self._severed = False

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return bool(self._connections)

    # ------------------------------------------------------------------ from call to code

    def call(self, name: str, action: Callable[[], int | None]) -> int:
        """Do what a call asks for on the bench's loop, from whatever thread; return the code."""
        loop = self._instrument.loop
        if loop is None or loop.is_closed() or self._severed:
            return ErrorCode.COMMFAILED
        if _running_loop() is loop:
            return self._answer(name, action)
        answered: Future[int] = Future()
        loop.call_soon_threadsafe(lambda: answered.set_result(self._answer(name, action)))
        while loop.is_running():
            try:
                return answered.result(_PATIENCE_S)
            except TimeoutError:
                continue
        return ErrorCode.COMMFAILED

    def _answer(self, name: str, action: Callable[[], int | None]) -> int:
        if self._severed or self._instrument.silent:
            return ErrorCode.COMMFAILED
        try:
            return int(action() or ErrorCode.NOERROR)
        except Misuse as misuse:
            self._instrument.complain(name, misuse)
            return misuse.code
        except Failure as failure:
            return failure.code
        except Exception as fault:  # noqa: BLE001 (raised again in the bench's task group)
            self._instrument.record_fault(fault)
            return ErrorCode.FUNCTIONFAILED

    # ------------------------------------------------------------------ general

    @exported(TextBuffer(), Numbers(UINT32))
    def BL_GetLibVersion(self, version: Array[c_char], size: Array[c_uint32]) -> None:
        """Copy the version of the library."""
        _copy_text(_VERSION, version, size)

    @exported(INT32, TextBuffer(), Numbers(UINT32))
    def BL_GetErrorMsg(self, code: int, message: Array[c_char], size: Array[c_uint32]) -> None:
        """Copy the text of an error code."""
        known = {int(entry): entry.name for entry in ErrorCode}
        _copy_text(known.get(code, "unknown error").encode(), message, size)

    @exported(Text(), UINT8, Numbers(INT32), Reference(DeviceInfos))
    def BL_Connect(
        self, address: bytes, timeout_s: int, identifier: Array[c_int32], infos: DeviceInfos
    ) -> None:
        """Connect to the instrument of an address."""
        instrument, asked = self._instrument, address.decode("ascii", "replace")
        if timeout_s == 0:
            raise Misuse(ErrorCode.INVALIDPARAMETERS, "a timeout of 0 s")
        if instrument.address is not None and asked != instrument.address:
            if not _is_address(asked):
                raise Misuse(ErrorCode.INVALIDIPADDRESS, f'"{asked}" is no address')
            raise Failure(ErrorCode.CONNECTIONFAILED, f"nothing answers at {asked}")
        if not asked:
            raise Misuse(ErrorCode.INVALIDIPADDRESS, "no address")
        self._connections.add(self._next_connection)
        identifier[0] = self._next_connection
        self._next_connection += 1
        model = instrument.model
        hosts = sum(library.connected for library in instrument.libraries)
        values = (model.code, 64, 1, len(instrument.slots), model.slots, 608, 2021, 3, 1, 0, hosts)
        _fill(infos, values)

    @exported(INT32)
    def BL_Disconnect(self, identifier: int) -> None:
        """Close a connection."""
        self._require_connection(identifier)
        self._connections.discard(identifier)

    @exported(INT32)
    def BL_TestConnection(self, identifier: int) -> None:
        """Say whether a connection lives."""
        if identifier not in self._connections:
            raise Failure(ErrorCode.NOTCONNECTED, f"connection {identifier} is not open")

    # ------------------------------------------------------------------ channels

    @exported(INT32, UINT8)
    def BL_IsChannelPlugged(self, identifier: int, number: int) -> int:
        """Return whether a channel is plugged."""
        self._require_connection(identifier)
        return int(number in self._instrument.slots)

    @exported(INT32, Numbers(BOOLEAN), UINT8)
    def BL_GetChannelsPlugged(self, identifier: int, plugged: Array[c_uint8], size: int) -> None:
        """Tell which channels are plugged."""
        self._require_connection(identifier)
        _require_room(size, plugged)
        for number in range(size):
            plugged[number] = number in self._instrument.slots

    @exported(INT32, UINT8, Numbers(UINT32))
    def BL_GetChannelBoardType(self, identifier: int, number: int, board: Array[c_uint32]) -> None:
        """Tell the series of a channel's board: 1 for the VMP3's, 2 for the SP-300's."""
        self._slot(identifier, number)
        board[0] = int(self._instrument.model.family)

    @exported(
        INT32, Numbers(BOOLEAN), Numbers(INT32), UINT8, BOOLEAN, BOOLEAN, Text(optional=True),
        Text(optional=True),
    )  # fmt: skip
    def BL_LoadFirmware(
        self,
        identifier: int,
        chosen: Array[c_uint8],
        results: Array[c_int32],
        length: int,
        _show_gauge: bool,
        force: bool,
        firmware_file: bytes | None,
        fpga_file: bytes | None,
    ) -> None:
        """Load the library's firmware on channels, where it is not loaded or where forced to."""
        self._require_connection(identifier)
        _require_room(length, chosen, results)
        self._require_firmware_files(firmware_file, fpga_file)
        numbers = [number for number in range(length) if chosen[number]]
        if not numbers:
            raise Misuse(ErrorCode.NOCHANNELSELECTED, "no channel is selected")
        for number in numbers:
            slot = self._slot(identifier, number)
            if force and slot.channel.running:
                raise Misuse(ErrorCode.CHANNEL_RUNNING, f"channel {number} runs a technique")
            slot.firmware = Firmware.KERNEL
            results[number] = ErrorCode.NOERROR

    @exported(INT32, UINT8, Reference(ChannelInfos))
    def BL_GetChannelInfos(self, identifier: int, number: int, infos: ChannelInfos) -> None:
        """Tell what a channel is and how it stands."""
        slot = self._slot(identifier, number)
        channel, limits = slot.channel, slot.channel.limits
        loaded = slot.firmware == Firmware.KERNEL
        version, xilinx = (608, 0xA600) if loaded else (0, 0)
        memory = channel.memory
        values = (
            number, 1, 1000 + number, slot.firmware, version, xilinx, 0, 0, 0, limits.spectra, 0, 0,
            memory.size_bytes, memory.filled_bytes, channel.state, limits.largest_range,
            limits.smallest_range, limits.bandwidths, len(channel.techniques),
        )  # fmt: skip
        _fill(infos, values)

    @exported(INT32, UINT8, TextBuffer(), Numbers(UINT32))
    def BL_GetMessage(
        self, identifier: int, number: int, message: Array[c_char], size: Array[c_uint32]
    ) -> None:
        """Copy the next message of a channel's firmware: there are none."""
        self._slot(identifier, number)
        _copy_text(b"", message, size)

    @exported(INT32, UINT8, Reference(HardwareConf))
    def BL_GetHardConf(self, identifier: int, number: int, conf: HardwareConf) -> None:
        """Tell how a channel of the SP-300 family is connected."""
        slot = self._hard_conf(identifier, number)
        conf.Conn, conf.Ground = slot.connection, slot.ground

    @exported(INT32, UINT8, Value(HardwareConf))
    def BL_SetHardConf(self, identifier: int, number: int, conf: HardwareConf) -> None:
        """Choose how a channel of the SP-300 family is connected."""
        slot = self._hard_conf(identifier, number)
        if conf.Conn not in range(4) or conf.Ground not in range(2):
            raise Misuse(
                ErrorCode.INVALIDPARAMETERS, f"connection {conf.Conn}, ground {conf.Ground}"
            )
        if slot.channel.running:
            raise Misuse(ErrorCode.CHANNEL_RUNNING, f"channel {number} runs a technique")
        slot.connection, slot.ground = conf.Conn, conf.Ground

    @exported(INT32, UINT8, Numbers(INT32), Numbers(INT32))
    def BL_GetOptErr(
        self, identifier: int, number: int, error: Array[c_int32], position: Array[c_int32]
    ) -> None:
        """Tell the error of a channel's options: there is none."""
        self._slot(identifier, number)
        error[0] = position[0] = 0

    # ------------------------------------------------------------------ techniques

    @exported(Text(), INT32, INT32, Reference(EccParam))
    def BL_DefineIntParameter(self, label: bytes, value: int, index: int, param: EccParam) -> None:
        """Fill in an integer parameter."""
        _define(label, Kind.INTEGER, value, index, param)

    @exported(Text(), BOOLEAN, INT32, Reference(EccParam))
    def BL_DefineBoolParameter(
        self, label: bytes, value: bool, index: int, param: EccParam
    ) -> None:
        """Fill in a boolean parameter."""
        _define(label, Kind.BOOLEAN, int(value), index, param)

    @exported(Text(), SINGLE, INT32, Reference(EccParam))
    def BL_DefineSglParameter(
        self, label: bytes, value: float, index: int, param: EccParam
    ) -> None:
        """Fill in a parameter of single precision."""
        bits = struct.unpack("<i", struct.pack("<I", single(value)))[0]
        _define(label, Kind.SINGLE, bits, index, param)

    @exported(INT32, UINT8, Text(), Value(EccParams), BOOLEAN, BOOLEAN, BOOLEAN)
    def BL_LoadTechnique(
        self,
        identifier: int,
        number: int,
        file: bytes,
        params: EccParams,
        first: bool,
        last: bool,
        _display: bool,
    ) -> None:
        """Load a technique on a channel: the only one, or one of a chain."""
        channel = self._ready(identifier, number)
        if channel.running:
            raise Misuse(ErrorCode.CHANNEL_RUNNING, f"channel {number} runs a technique")
        technique = self._technique(file, params, channel)
        if not first and (not channel.techniques or channel.complete):
            text = "this is not the first technique, but no chain has been begun"
            raise Misuse(ErrorCode.LOADTECHNIQUEFAILED, text)
        if first and channel.techniques and not channel.complete:
            text = "a chain has been begun, and this is a first technique again"
            raise Misuse(ErrorCode.LOADTECHNIQUEFAILED, text)
        channel.load(technique, first=bool(first), last=bool(last))

    @exported(INT32, UINT8, INT32, Value(EccParams), Text())
    def BL_UpdateParameters(
        self, identifier: int, number: int, index: int, params: EccParams, file: bytes
    ) -> None:
        """Change up to ten parameters of a technique while the channel runs."""
        channel = self._ready(identifier, number)
        if not channel.running or not 0 <= index < len(channel.techniques):
            text = f"technique {index} of a channel that has {len(channel.techniques)}"
            raise Misuse(ErrorCode.UPDATEPARAMETERS, f"{text}, running: {channel.running}")
        old = channel.techniques[index]
        name = technique_of(file, channel.limits.family)
        values = decode(params, name)
        fixed = _FIXED & {label for label, _ in values}
        if name != old.name or not isinstance(old, Steps) or fixed or len(values) > _MOST_UPDATED:
            text = f"{len(values)} parameters of {name} cannot be changed while {old.name} runs"
            raise Misuse(ErrorCode.UPDATEPARAMETERS, text)
        merged = Parameters(
            name, old.parameters.values | values, timebase_s=old.hardware.timebase_s
        )
        channel.update(index, self._built(merged, channel))

    # ------------------------------------------------------------------ start, stop

    @exported(INT32, UINT8)
    def BL_StartChannel(self, identifier: int, number: int) -> None:
        """Start what was loaded on a channel."""
        self._start(identifier, number)

    @exported(INT32, UINT8)
    def BL_StopChannel(self, identifier: int, number: int) -> None:
        """Stop a channel; one that has stopped already stays so."""
        self._slot(identifier, number).channel.stop()

    @exported(INT32, Numbers(BOOLEAN), Numbers(INT32), UINT8)
    def BL_StartChannels(
        self, identifier: int, chosen: Array[c_uint8], results: Array[c_int32], length: int
    ) -> None:
        """Start several channels."""
        _require_room(length, chosen, results)
        for number in range(length):
            if chosen[number]:
                self._start(identifier, number)
                results[number] = ErrorCode.NOERROR

    @exported(INT32, Numbers(BOOLEAN), Numbers(INT32), UINT8)
    def BL_StopChannels(
        self, identifier: int, chosen: Array[c_uint8], results: Array[c_int32], length: int
    ) -> None:
        """Stop several channels."""
        _require_room(length, chosen, results)
        for number in range(length):
            if chosen[number]:
                self._slot(identifier, number).channel.stop()
                results[number] = ErrorCode.NOERROR

    # ------------------------------------------------------------------ data

    @exported(INT32, UINT8, Reference(CurrentValues))
    def BL_GetCurrentValues(self, identifier: int, number: int, values: CurrentValues) -> None:
        """Tell state and present readings of a channel."""
        channel = self._ready(identifier, number)
        _fill_current(values, channel, channel.timebase_s)

    @exported(
        INT32, UINT8, Numbers(UINT32, BUFFER_WORDS), Reference(DataInfos), Reference(CurrentValues)
    )
    def BL_GetData(
        self,
        identifier: int,
        number: int,
        buffer: Array[c_uint32],
        infos: DataInfos,
        values: CurrentValues,
    ) -> None:
        """Move rows of one technique and process from a channel's memory to the caller's."""
        channel = self._ready(identifier, number)
        lost, channel.memory.lost = channel.memory.lost, 0
        fetched = channel.memory.fetch()
        if fetched is None:
            technique = channel.techniques[channel.index].identifier if channel.techniques else 0
            _fill(infos, (lost, 0, 0, channel.index, technique, 0, 0, 0.0, 0))
            _fill_current(values, channel, channel.timebase_s)
            return
        rows, words = fetched
        for place, word in enumerate(words):
            buffer[place] = word
        _fill(
            infos,
            (
                lost, len(words) // rows.columns, rows.columns, rows.technique_index,
                rows.technique.identifier, rows.process, 0, rows.start_s, 0,
            ),
        )  # fmt: skip
        _fill_current(values, channel, rows.technique.hardware.timebase_s)

    @exported(UINT32, Numbers(SINGLE))
    def BL_ConvertNumericIntoSingle(self, word: int, result: Array[c_float]) -> None:
        """Read a word of a row as a number."""
        result[0] = _as_single(word)

    @exported(UINT32, Numbers(SINGLE), UINT32)
    def BL_ConvertChannelNumericIntoSingle(
        self, word: int, result: Array[c_float], board: int
    ) -> None:
        """Read a word of a row of a channel's board as a number."""
        self._require_board(board)
        result[0] = _as_single(word)

    @exported(Numbers(UINT32, 2), Numbers(DOUBLE), SINGLE, UINT32)
    def BL_ConvertTimeChannelNumericIntoSeconds(
        self, words: Array[c_uint32], result: Array[c_double], timebase_s: float, board: int
    ) -> None:
        """Read the first two words of a row as the time since the technique's start."""
        self._require_board(board)
        result[0] = ((words[0] << 32) + words[1]) * timebase_s

    # ------------------------------------------------------------------ what calls require

    def _require_connection(self, identifier: int) -> None:
        if identifier in self._lost:
            raise Failure(ErrorCode.NOTCONNECTED, f"connection {identifier} was lost")
        if identifier not in self._connections:
            raise Misuse(ErrorCode.NOTCONNECTED, f"connection {identifier} is not open")

    def _require_board(self, board: int) -> None:
        if board != int(self._instrument.model.family):
            raise Misuse(ErrorCode.INVALIDPARAMETERS, f"no channel has a board of type {board}")

    def _slot(self, identifier: int, number: int) -> Slot:
        self._require_connection(identifier)
        if number not in self._instrument.slots:
            raise Misuse(ErrorCode.CHANNELNOTPLUGGED, f"channel {number} is not plugged")
        return self._instrument.slots[number]

    def _ready(self, identifier: int, number: int) -> BiologicChannel:
        slot = self._slot(identifier, number)
        if slot.firmware != Firmware.KERNEL:
            text = f"channel {number} has not got the library's firmware"
            raise Misuse(ErrorCode.FIRMWARENOTLOADED, text)
        return slot.channel

    def _hard_conf(self, identifier: int, number: int) -> Slot:
        slot = self._slot(identifier, number)
        if slot.channel.limits.family is not Family.SP300:
            raise Misuse(ErrorCode.DEVICE_NOTALLOWED, "this is for the SP-300 family only")
        return slot

    def _require_firmware_files(self, firmware: bytes | None, fpga: bytes | None) -> None:
        vmp3 = self._instrument.model.family is Family.VMP3
        kernel, chip = ("kernel.bin", r"vmp_ii_.*\.xlx") if vmp3 else (
            "kernel4.bin", r"vmp_iv_.*\.xlx"
        )  # fmt: skip
        for given, wanted in ((firmware, re.escape(kernel)), (fpga, chip)):
            name = (given or b"").decode("ascii", "replace").replace("\\", "/").rsplit("/", 1)[-1]
            if name and not re.fullmatch(wanted, name, re.IGNORECASE):
                text = f'"{name}" is no firmware of this family'
                raise Misuse(ErrorCode.FIRMINVALIDFILE, text)

    def _technique(self, file: bytes, params: EccParams, channel: BiologicChannel) -> Technique:
        name = technique_of(file, channel.limits.family)
        timebase_s = default_timebase_s(name, channel.limits.family)
        return self._built(Parameters(name, decode(params, name), timebase_s=timebase_s), channel)

    def _built(self, parameters: Parameters, channel: BiologicChannel) -> Technique:
        unit = self._instrument.rate_unit_V_per_s
        return build(parameters, channel.limits, rate_unit_V_per_s=unit)

    def _start(self, identifier: int, number: int) -> None:
        channel = self._ready(identifier, number)
        if channel.running:
            raise Misuse(ErrorCode.CHANNEL_RUNNING, f"channel {number} runs already")
        if not (channel.techniques and channel.complete):
            text = f"no chain of techniques is loaded to its end on channel {number}"
            raise Misuse(ErrorCode.FUNCTIONFAILED, text)
        if self._instrument.another_runs(channel):
            text = f"another channel runs on the cell of channel {number}"
            raise Misuse(ErrorCode.INVALIDCONF, text)
        channel.start()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _is_address(text: str) -> bool:
    """Whether a text names an instrument on a network or on USB."""
    if re.fullmatch(r"USB\d+", text):
        return True
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _copy_text(text: bytes, buffer: Array[c_char], size: Array[c_uint32]) -> None:
    if size[0] > len(buffer):
        raise Misuse(ErrorCode.INVALIDPARAMETERS, f"{len(buffer)} characters, said to be {size[0]}")
    copied = text[: max(0, size[0] - 1)]
    buffer.value = copied
    size[0] = len(copied)


def _require_room(length: int, *arrays: Array[Any]) -> None:
    shortest = min(len(array) for array in arrays)
    if not 1 <= length <= _SLOTS or shortest < length:
        text = f"a length of {length}, and an array of {shortest}"
        raise Misuse(ErrorCode.INVALIDPARAMETERS, text)


def _define(label: bytes, kind: Kind, bits: int, index: int, param: EccParam) -> None:
    if not 0 < len(label) < LABEL_BYTES or index < 0:
        raise Misuse(ErrorCode.INVALIDPARAMETERS, f"a label {label!r} with index {index}")
    param.ParamStr, param.ParamType, param.ParamVal, param.ParamIndex = label, kind, bits, index


def _fill(structure: ctypes.Structure, values: Iterable[float]) -> None:
    names = [field[0] for field in structure._fields_]
    for name, value in zip(names, values, strict=True):
        setattr(structure, name, value)


def _fill_current(values: CurrentValues, channel: BiologicChannel, timebase_s: float) -> None:
    voltage, current = channel.glance()
    saturated = overloaded(voltage) or overloaded(current)
    range_V = E_RANGES_V[voltage.range_index]
    _fill(
        values,
        (
            channel.state, channel.memory.filled_bytes, timebase_s, voltage.value, -range_V,
            range_V, 0.0, -range_V, range_V, overloaded(voltage), current.value,
            current.range_index, overloaded(current), channel.elapsed_s,
            channel.frequency_Hz, 0.0, saturated, 0, 0,
        ),
    )  # fmt: skip


def _as_single(word: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", word))[0])
