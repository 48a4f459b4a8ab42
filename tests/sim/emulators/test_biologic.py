"""The stand-in for BioLogic's library: its border, its techniques on a cell, hosts that vanish.

The structures here are a caller's own, as a driver has them; the numbers are those of the manual.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import struct
from collections.abc import Awaitable, Callable, Iterator
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_float, c_int32, c_uint8, c_uint32
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cellbench.clock import run
from cellbench_sim.emulators.biologic import BiologicEmulator, BiologicLibrary, Firmware
from cellbench_sim.emulators.biologic_abi import Misuse
from cellbench_sim.emulators.biologic_techniques import Comparison, Step
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

STOP, RUN = 0, 1
INTEGER, BOOLEAN, SINGLE = 0, 1, 2
MILLIAMPERE, TEN_MILLIAMPERES, AUTO = 7, 8, 12


class DeviceInfo(ctypes.Structure):
    _fields_ = [(f"field{number}", c_int32) for number in range(11)]


class ChannelInfo(ctypes.Structure):
    _fields_ = [
        ("Channel", c_int32),
        ("BoardVersion", c_int32),
        ("BoardSerialNumber", c_int32),
        ("FirmwareCode", c_int32),
        ("FirmwareVersion", c_int32),
        ("XilinxVersion", c_int32),
        ("AmpCode", c_int32),
        ("NbAmps", c_int32),
        ("Lcboard", c_int32),
        ("Zboard", c_int32),
        ("reserved1", c_int32),
        ("reserved2", c_int32),
        ("MemSize", c_int32),
        ("MemFilled", c_int32),
        ("State", c_int32),
        ("MaxIRange", c_int32),
        ("MinIRange", c_int32),
        ("MaxBandwidth", c_int32),
        ("NbOfTechniques", c_int32),
    ]


class CurrentValues(ctypes.Structure):
    _fields_ = [
        ("State", c_int32),
        ("MemFilled", c_int32),
        ("TimeBase", c_float),
        ("Ewe", c_float),
        ("EweRangeMin", c_float),
        ("EweRangeMax", c_float),
        ("Ece", c_float),
        ("EceRangeMin", c_float),
        ("EceRangeMax", c_float),
        ("Eoverflow", c_int32),
        ("I", c_float),
        ("IRange", c_int32),
        ("Ioverflow", c_int32),
        ("ElapsedTime", c_float),
        ("Freq", c_float),
        ("Rcomp", c_float),
        ("Saturation", c_int32),
        ("OptErr", c_int32),
        ("OptPos", c_int32),
    ]


class DataInfo(ctypes.Structure):
    _pack_ = 4
    _layout_ = "ms"
    _fields_ = [
        ("IRQskipped", c_int32),
        ("NbRows", c_int32),
        ("NbCols", c_int32),
        ("TechniqueIndex", c_int32),
        ("TechniqueID", c_int32),
        ("ProcessIndex", c_int32),
        ("loop", c_int32),
        ("StartTime", c_double),
        ("MuxPad", c_int32),
    ]


class Param(ctypes.Structure):
    _fields_ = [
        ("label", ctypes.c_char * 64),
        ("kind", c_int32),
        ("value", c_uint32),
        ("index", c_int32),
    ]


class Params(ctypes.Structure):
    _pack_ = 4
    _layout_ = "ms"
    _fields_ = [("len", c_int32), ("pointer", POINTER(Param))]


Given = dict[str, Any]
OCV: Given = {"Rest_time_T": 10.0, "Record_every_dE": 0.0, "Record_every_dT": 1.0}
CP: Given = {
    "Current_step": [1e-3], "vs_initial": [False], "Duration_step": [10.0], "Step_number": 0,
    "Record_every_dT": 1.0, "Record_every_dE": 0.0, "N_Cycles": 0, "I_Range": MILLIAMPERE,
}  # fmt: skip
CA: Given = {
    "Voltage_step": [0.5], "vs_initial": [False], "Duration_step": [10.0], "Step_number": 0,
    "Record_every_dT": 1.0, "Record_every_dI": 0.0, "N_Cycles": 0,
}  # fmt: skip
CV: Given = {
    "vs_initial": [False] * 5, "Voltage_step": [0.0, 0.5, -0.5, 0.0, 0.0],
    "Scan_Rate": [100.0] * 5, "Scan_number": 2, "Record_every_dE": 0.01, "Average_over_dE": True,
    "N_Cycles": 1, "Begin_measuring_I": 0.5, "End_measuring_I": 1.0,
}  # fmt: skip
PEIS: Given = {
    "vs_initial": False, "vs_final": False, "Initial_Voltage_step": 0.1, "Final_Voltage_step": 0.1,
    "Duration_step": 2.0, "Step_number": 0, "Record_every_dT": 1.0, "Record_every_dI": 0.0,
    "Initial_frequency": 1e5, "Final_frequency": 1.0, "sweep": False, "Amplitude_Voltage": 0.01,
    "Frequency_number": 11, "Average_N_times": 1, "Correction": False, "Wait_for_steady": 0.0,
}  # fmt: skip
GEIS: Given = {
    **{name: value for name, value in PEIS.items() if "Voltage" not in name and "dI" not in name},
    "Initial_Current_step": 0.0, "Final_Current_step": 0.0, "Amplitude_Current": 1e-5,
    "Record_every_dE": 0.0, "I_Range": MILLIAMPERE,
}  # fmt: skip
BY_NAME = {"ocv": OCV, "cp": CP, "ca": CA, "cplimit": CP, "calimit": CA, "cv": CV, "peis": PEIS,
           "geis": GEIS}  # fmt: skip


def bits(value: Any) -> tuple[int, int]:
    """Type and value of a parameter."""
    if isinstance(value, bool):
        return BOOLEAN, int(value)
    if isinstance(value, int):
        return INTEGER, value & 0xFFFFFFFF
    return SINGLE, struct.unpack("<I", struct.pack("<f", value))[0]


def array_of(given: Given) -> Params:
    entries = [
        Param(label.encode(), *bits(value), index)
        for label, values in given.items()
        for index, value in enumerate(values if isinstance(values, list) else [values])
    ]
    params = (Param * len(entries))(*entries)
    return Params(len(entries), ctypes.cast(params, POINTER(Param)))


def single(word: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", word))[0])


class Caller:
    """A host that has the library loaded; it knows no more than the manual."""

    def __init__(self, device: BiologicEmulator, *, channel: int = 0) -> None:
        self.device, self.channel = device, channel
        self.library: BiologicLibrary = device.library()
        self.id = -1
        self.suffix = b"4.ecc" if device.model.code == 16 else b".ecc"

    def connect(self, *, firmware: bool = True) -> int:
        identifier, infos = c_int32(), DeviceInfo()
        code = self.library.BL_Connect(
            c_char_p(b"192.109.209.220"), c_uint8(5), byref(identifier), byref(infos)
        )
        self.id = identifier.value
        if firmware:
            assert self.load_firmware() == 0
        return code

    def load_firmware(self, *, force: bool = False) -> int:
        chosen, results = (c_uint8 * 16)(), (c_int32 * 16)()
        assert self.library.BL_GetChannelsPlugged(self.id, chosen, c_uint8(16)) == 0
        return self.library.BL_LoadFirmware(
            self.id, chosen, results, c_uint8(16), False, force, None, None
        )

    def load(self, name: str, *, first: bool = True, last: bool = True, **changes: Any) -> int:
        given = {**BY_NAME[name], **changes}
        given = {label: value for label, value in given.items() if value is not None}
        return self.library.BL_LoadTechnique(
            self.id, self.channel, name.encode() + self.suffix, array_of(given), first, last, False
        )

    def start(self) -> int:
        return self.library.BL_StartChannel(self.id, self.channel)

    def run(self, name: str, **changes: Any) -> None:
        assert (self.load(name, **changes), self.start()) == (0, 0), self.device.complaints

    def stop(self) -> int:
        return self.library.BL_StopChannel(self.id, self.channel)

    def infos(self) -> ChannelInfo:
        infos = ChannelInfo()
        assert self.library.BL_GetChannelInfos(self.id, self.channel, byref(infos)) == 0
        return infos

    def values(self) -> CurrentValues:
        values = CurrentValues()
        assert self.library.BL_GetCurrentValues(self.id, self.channel, byref(values)) == 0
        return values

    def data(self) -> tuple[DataInfo, CurrentValues, list[list[int]]]:
        buffer, infos, values = (c_uint32 * 1000)(), DataInfo(), CurrentValues()
        code = self.library.BL_GetData(
            self.id, self.channel, buffer, byref(infos), ctypes.pointer(values)
        )
        assert code == 0, self.device.complaints
        width = infos.NbCols
        return (
            infos,
            values,
            [list(buffer[row * width : (row + 1) * width]) for row in range(infos.NbRows)],
        )

    def blocks(self) -> Iterator[tuple[DataInfo, CurrentValues, list[list[int]]]]:
        while (block := self.data())[0].NbRows:
            yield block

    def rows(self, process: int = 0) -> list[list[int]]:
        return [
            row for infos, _, rows in self.blocks() for row in rows if infos.ProcessIndex == process
        ]

    async def finished(self, at_most_s: float = 1e5) -> None:
        async with asyncio.timeout(at_most_s):
            while self.values().State == RUN:
                await asyncio.sleep(0.5)


Story = Callable[[Caller], Awaitable[None]]
Tell = Callable[..., None]


@pytest.fixture
def with_library(cell: Any) -> Tell:
    """Return a function that tells a story to a caller of a library, with a dummy cell behind."""

    def tell(
        story: Story, *, on: Any = None, complaints: int = 0, connected: bool = True, **options: Any
    ) -> None:
        async def main() -> None:
            timebase = Timebase()
            timebase.start()
            device = BiologicEmulator(
                "potentiostat", timebase, cell if on is None else on, **{"seed": 1, **options}
            )
            caller = Caller(device)
            if connected:
                assert caller.connect() == 0
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                await story(caller)
                watch.cancel()
            assert len(device.complaints) == complaints, device.complaints

        run(main(), virtual=True)

    return tell


# ---------------------------------------------------------------------- the border


def test_the_library_says_what_it_connected_to_and_what_is_plugged(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        library, identifier, infos = caller.library, c_int32(-1), DeviceInfo()
        assert library.BL_TestConnection(0) == -1
        assert library.BL_Connect(b"USB0", 5, ctypes.pointer(identifier), byref(infos)) == 0
        assert infos.field0 == 16
        assert infos.field3 == 2
        assert infos.field10 == 1
        plugged = (c_bool * 16)()
        assert library.BL_GetChannelsPlugged(identifier, plugged, 16) == 0
        assert list(plugged) == [True] * 2 + [False] * 14
        assert library.BL_IsChannelPlugged(identifier, 1) == 1
        assert library.BL_IsChannelPlugged(identifier, 2) == 0
        board = c_uint32()
        assert library.BL_GetChannelBoardType(identifier, 0, byref(board)) == 0
        assert board.value == 2
        caller.id = identifier.value
        assert caller.infos().FirmwareCode == 0
        assert caller.load_firmware() == 0
        found = caller.infos()
        assert (found.FirmwareCode, found.Zboard, found.MaxBandwidth) == (5, 1, 9)
        assert library.BL_Disconnect(identifier) == 0
        assert library.BL_TestConnection(identifier) == -1

    with_library(story, model="SP-300", connected=False)


def test_texts_are_copied_within_the_room_there_is(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        room = ctypes.create_string_buffer(255)
        size = c_uint32(255)
        assert caller.library.BL_GetLibVersion(room, byref(size)) == 0
        assert (room.value, size.value) == (b"6.08", 4)
        size = c_uint32(8)
        assert caller.library.BL_GetErrorMsg(-1, room, byref(size)) == 0
        assert room.value == b"NOTCONN"
        size = c_uint32(255)
        assert caller.library.BL_GetMessage(caller.id, 0, room, byref(size)) == 0
        assert size.value == 0
        size = c_uint32(300)
        assert caller.library.BL_GetLibVersion(room, byref(size)) == -4

    with_library(story, complaints=1)


def test_parameters_are_filled_in_bit_by_bit(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        param = Param()
        assert caller.library.BL_DefineSglParameter(b"Rest_time_T", 1.5, 3, byref(param)) == 0
        assert bytes(param)[:12] == b"Rest_time_T\0"
        assert bytes(param)[64:] == struct.pack("<ifi", 2, 1.5, 3)
        caller.library.BL_DefineIntParameter(b"E_Range", c_int32(-1), c_int32(0), byref(param))
        assert (param.kind, param.value) == (0, 0xFFFFFFFF)
        caller.library.BL_DefineBoolParameter(b"sweep", c_bool(True), 0, byref(param))
        assert (param.kind, param.value) == (1, 1)
        assert caller.library.BL_DefineSglParameter(b"x" * 64, 1.5, 0, byref(param)) == -4

    with_library(story, complaints=1)


def test_words_are_read_as_the_page_says(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        value, time_s = c_float(), c_double()
        library = caller.library
        assert library.BL_ConvertNumericIntoSingle(c_uint32(0x3FC00000), byref(value)) == 0
        assert value.value == 1.5
        convert = library.BL_ConvertChannelNumericIntoSingle
        assert convert(0x3FC00000, byref(value), c_uint32(1)) == 0
        words = (c_uint32 * 4)(9, 1, 2, 9)
        to_seconds = library.BL_ConvertTimeChannelNumericIntoSeconds
        assert to_seconds(byref(words, 4), byref(time_s), c_float(0.5), 1) == 0
        assert time_s.value == (2**32 + 2) * 0.5
        assert convert(0, byref(value), 2) == -4

    with_library(story, complaints=1)


def test_a_function_takes_a_declaration_as_one_of_a_dll_does(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.library.BL_TestConnection.argtypes = [c_int32]
        caller.library.BL_TestConnection.restype = c_int32
        assert caller.library.BL_TestConnection.argtypes == [c_int32]
        assert caller.library.BL_TestConnection(c_int32(caller.id)) == 0

    with_library(story)


class LooseDataInfo(ctypes.Structure):
    """The field list without its packing: the double lies 4 bytes too far."""

    _fields_ = DataInfo._fields_


class LooseParams(ctypes.Structure):
    """The field list without its packing: the pointer lies 4 bytes too far."""

    _fields_ = Params._fields_


class ShortValues(ctypes.Structure):
    _fields_ = CurrentValues._fields_[:-1]


class MixedValues(ctypes.Structure):
    _fields_ = [(name, c_int32) for name, *_ in CurrentValues._fields_]


def test_structures_and_buffers_that_the_library_would_misread_are_refused(
    with_library: Tell,
) -> None:
    async def story(caller: Caller) -> None:
        library = caller.library
        buffer, infos, values = (c_uint32 * 1000)(), DataInfo(), CurrentValues()
        assert ctypes.sizeof(DataInfo) == 40
        assert library.BL_GetData(caller.id, 0, buffer, byref(infos), byref(values)) == 0
        for wrong in (
            (caller.id, 0, buffer, byref(LooseDataInfo()), byref(values)),
            (caller.id, 0, (c_uint32 * 999)(), byref(infos), byref(values)),
            (caller.id, 0, (c_float * 1000)(), byref(infos), byref(values)),
            (caller.id, 0, buffer, byref(infos), byref(ShortValues())),
            (caller.id, 0, buffer, byref(infos), byref(MixedValues())),
            (caller.id, 0, buffer, infos, byref(values)),
            (caller.id, 0, buffer, byref(infos), None),
            (caller.id, 0, buffer, byref(infos)),
            (caller.id, c_int32(0), buffer, byref(infos), byref(values)),
            (caller.id, 256, buffer, byref(infos), byref(values)),
            (True, 0, buffer, byref(infos), byref(values)),
            (b"0", 0, buffer, byref(infos), byref(values)),
        ):
            assert library.BL_GetData(*wrong) == -4
        assert "8 bytes of float at offset 28" in caller.device.complaints[0]
        params = array_of(OCV)
        loose = LooseParams(params.len, params.pointer)
        for passed in (loose, byref(params)):
            code = library.BL_LoadTechnique(caller.id, 0, b"ocv.ecc", passed, True, True, False)
            assert code == -4
        code = library.BL_LoadTechnique(caller.id, 0, "ocv.ecc", params, True, True, False)
        assert code == -4

    with_library(story, complaints=15)


def test_calls_out_of_order_are_refused(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        assert caller.load("ocv") == -1
        assert caller.library.BL_Disconnect(3) == -1
        caller.connect(firmware=False)
        assert caller.load("ocv") == -308
        assert caller.library.BL_GetCurrentValues(caller.id, 0, byref(CurrentValues())) == -308
        assert caller.load_firmware() == 0
        assert caller.start() == -6
        caller.channel = 4
        assert caller.load("ocv") == -3
        caller.channel = 0
        assert caller.load("ocv", first=False) == -403
        assert caller.load("ocv", last=False) == 0
        assert caller.start() == -6
        assert caller.load("ocv", first=True) == -403
        assert caller.load("ocv", first=False, last=True) == 0
        assert caller.load("ocv", first=False) == -403
        assert caller.start() == 0
        assert caller.start() == -13
        assert caller.load("ocv") == -13
        assert caller.load_firmware(force=True) == -13
        assert caller.load_firmware() == 0

    with_library(story, complaints=13, connected=False)


def test_firmware_is_chosen_by_channel_and_family(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.connect(firmware=False)
        chosen, results = (c_uint8 * 16)(), (c_int32 * 16)(*[7] * 16)

        def load(binary: bytes | None, chip: bytes | None) -> int:
            return caller.library.BL_LoadFirmware(
                caller.id, chosen, results, 16, False, False, binary, chip
            )

        assert caller.infos().FirmwareCode == Firmware.EC_LAB
        assert load(None, None) == -7
        chosen[1] = 1
        assert load(b"kernel4.bin", None) == -302
        assert load(rb"C:\EC-Lab\kernel.bin", b"Vmp_ii_0437_a6.xlx") == 0
        assert (results[0], results[1]) == (7, 0)
        assert caller.infos().FirmwareCode == Firmware.EC_LAB
        chosen[9] = 1
        assert load(None, None) == -3

    with_library(story, complaints=3, connected=False, firmware=Firmware.EC_LAB)


def test_only_the_right_address_answers_and_only_addresses_are_addresses(
    with_library: Tell,
) -> None:
    async def story(caller: Caller) -> None:
        def connect(address: bytes) -> int:
            return caller.library.BL_Connect(address, 5, byref(c_int32()), byref(DeviceInfo()))

        assert connect(b"192.109.209.220") == 0
        assert connect(b"192.109.209.221") == -201
        assert connect(b"potentiostat") == -203

    with_library(story, complaints=1, connected=False, address="192.109.209.220")


def test_hardware_can_be_configured_in_one_family_only(with_library: Tell) -> None:
    class Conf(ctypes.Structure):
        _fields_ = [("Conn", c_int32), ("Ground", c_int32)]

    async def sp300(caller: Caller) -> None:
        found = Conf()
        assert caller.library.BL_SetHardConf(caller.id, 0, Conf(1, 1)) == 0
        assert caller.library.BL_GetHardConf(caller.id, 0, byref(found)) == 0
        assert (found.Conn, found.Ground) == (1, 1)
        assert caller.library.BL_SetHardConf(caller.id, 0, Conf(4, 0)) == -4

    async def vmp3(caller: Caller) -> None:
        assert caller.library.BL_GetHardConf(caller.id, 0, byref(Conf())) == -14

    with_library(sp300, complaints=1, model="SP-300")
    with_library(vmp3, complaints=1)


# ---------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("ocv", {"Rest_time": 1.0}, 'no parameter "Rest_time"'),
        ("ocv", {"rest_time_t": 1.0}, "no parameter"),
        ("ocv", {"Rest_time_T": 10}, "given with type 0"),
        ("ocv", {"Rest_time_T": math.nan}, "nan"),
        ("ocv", {"Rest_time_T": -1.0}, "-1"),
        ("ocv", {"Rest_time_T": 43000.0}, "2^31 time bases"),
        ("ocv", {"Record_every_dT": None}, "Record_every_dT[0] is missing"),
        ("ocv", {"Record_every_dT": [1.0, 1.0]}, "index 1; there are 1"),
        ("ocv", {"E_Range": 4}, "no E_Range 4"),
        ("ocv", {"Bandwidth": 8}, "no Bandwidth 8"),
        ("ocv", {"I_Range": 4}, "no I_Range 4"),
        ("cp", {"I_Range": None}, "I_Range is missing or auto"),
        ("cp", {"I_Range": AUTO}, "I_Range is missing or auto"),
        ("cp", {"Current_step": [1.1e-3]}, "beyond the range 0.001 A"),
        ("cp", {"Current_step": [1e-3, 1e-3]}, "index 1; there are 1"),
        ("cp", {"Step_number": 1}, "Current_step[1] is missing"),
        ("cp", {"Step_number": 99}, "99, not 0 to 98"),
        ("cp", {"Duration_step": [45100.0]}, "2^31 time bases"),
        ("cp", {"N_Cycles": -1}, "-1"),
        ("cp", {"N_Cycles": 1, "Duration_step": [0.0]}, "no duration"),
        ("cp", {"Record_every_dI": 1e-3}, "no parameter"),
        ("cp", {"Test1_Config": [1]}, "no parameter"),
        ("ca", {"Voltage_step": [11.0]}, "beyond the range 10 V"),
        ("ca", {"Voltage_step": [3.0], "E_Range": 0}, "beyond the range 2.5 V"),
        ("calimit", {"Step_number": 20}, "20, not 0 to 19"),
        ("calimit", {"Test1_Config": [101]}, "Test1_Value[0] is missing"),
        ("calimit", {"Test1_Config": [101], "Test1_Value": [1e-3]}, "Exit_Cond[0] is missing"),
        ("calimit", {"Test2_Config": [5], "Test2_Value": [1.0], "Exit_Cond": [0]}, "Test2 of"),
        ("calimit", {"Test1_Config": [33], "Test1_Value": [1.0], "Exit_Cond": [0]}, "neither E"),
        ("calimit", {"Exit_Cond": [3]}, "3, not 0 to 2"),
        ("cv", {"Scan_number": 3}, "3, not 2 to 2"),
        ("cv", {"Voltage_step": [0.0] * 4}, "Voltage_step[4] is missing"),
        ("cv", {"Scan_Rate": [100.0, 0.0, 100.0, 100.0, 100.0]}, "leads nowhere"),
        ("cv", {"Begin_measuring_I": 1.0}, "from 1 to 1"),
        ("cv", {"Record_every_dE": 0.0}, "record nothing"),
        ("peis", {"Initial_frequency": 2e6}, "does not reach 2e+06 Hz"),
        ("peis", {"Final_frequency": 1e-6}, "does not reach 1e-06 Hz"),
        ("peis", {"Final_Voltage_step": 0.2}, "another than Initial_Voltage_step"),
        ("peis", {"vs_final": True}, "another than vs_initial"),
        ("peis", {"Step_number": 1}, "1, not 0 to 0"),
        ("peis", {"Frequency_number": 0}, "0, not 1"),
        ("peis", {"Amplitude_Voltage": 0.0}, "an amplitude of 0"),
        ("geis", {"Amplitude_Current": 6e-4}, "more than half"),
    ],
)
def test_parameters_against_the_manual_are_refused(
    with_library: Tell, name: str, changes: Given, said: str
) -> None:
    async def story(caller: Caller) -> None:
        assert caller.load(name, **changes) == -4
        assert said in caller.device.complaints[0]
        assert caller.infos().NbOfTechniques == 0

    with_library(story, complaints=1)


def test_a_parameter_cannot_be_given_twice(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        params = array_of(OCV)
        params.pointer[1].label = b"Rest_time_T"
        code = caller.library.BL_LoadTechnique(caller.id, 0, b"ocv.ecc", params, True, True, False)
        assert code == -4
        assert "twice" in caller.device.complaints[0]

    with_library(story, complaints=1)


def test_technique_files_belong_to_a_family(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        def load(file: bytes) -> int:
            return caller.library.BL_LoadTechnique(
                caller.id, 0, file, array_of(OCV), True, True, False
            )

        assert load(b"ocv4.ecc") == -401
        assert load(b"ocv") == -400
        assert load(b"eis.ecc") == -400
        assert load(rb"C:\EC-Lab Development Package\ocv.ecc") == 0

    async def sp300(caller: Caller) -> None:
        assert caller.load("ocv", Bandwidth=9, I_Range=-1) == 0
        caller.suffix = b".ecc"
        assert caller.load("ocv") == -401

    with_library(story, complaints=3)
    with_library(sp300, complaints=1, model="SP-300")


def test_tests_are_joined_as_in_the_manuals_example() -> None:
    # ((E <= 1 V) OR (E >= 3 V)) AND (I <= 0.05 A): the first's bit joins the first two.
    tests = (
        Comparison(of_current=False, above=False, joins_with_and=False, value=1.0),
        Comparison(of_current=False, above=True, joins_with_and=True, value=3.0),
        Comparison(of_current=True, above=False, joins_with_and=False, value=0.05),
    )
    step = Step(0.0, vs_initial=False, duration_s=1.0, tests=tests)
    assert step.ends(0.5, 0.01)
    assert step.ends(3.5, 0.01)
    assert not step.ends(2.0, 0.01)
    assert not step.ends(3.5, 0.1)
    assert not Step(0.0, vs_initial=False, duration_s=1.0).ends(0.0, 0.0)


# ---------------------------------------------------------------------- techniques


def test_a_rest_is_recorded_with_the_time_in_time_bases(with_library: Tell, cell: Any) -> None:
    cell.open_circuit_V = 2.6

    async def story(caller: Caller) -> None:
        caller.run("ocv")
        await asyncio.sleep(4.5)
        assert caller.values().State == RUN
        await caller.finished()
        infos, values, rows = caller.data()
        assert (infos.NbRows, infos.NbCols, infos.TechniqueID) == (11, 4, 100)
        assert math.isnan(infos.StartTime)
        assert values.TimeBase == pytest.approx(20e-6)
        times = [((high << 32) + low) * values.TimeBase for high, low, _, _ in rows]
        assert times == pytest.approx(range(11), abs=1e-4)
        assert [single(row[2]) for row in rows] == pytest.approx([2.6] * 11, abs=1e-3)
        assert (values.State, values.MemFilled, values.I) == (STOP, 0, 0.0)
        assert cell.commands == [("open", 0.0)], "a rest drives nothing"

    with_library(story)


def test_rows_of_the_other_family_lack_what_the_manual_says(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        widths = {}
        for name in ("ocv", "cp", "ca", "cv", "peis"):
            caller.run(name)
            await caller.finished()
            for infos, _, _ in caller.blocks():
                widths[name, infos.ProcessIndex] = infos.NbCols
        assert widths == {
            ("ocv", 0): 3, ("cp", 0): 5, ("ca", 0): 5, ("cv", 0): 5, ("peis", 0): 4, ("peis", 1): 14
        }  # fmt: skip

    with_library(story, model="SP-300")


def test_currents_are_stepped_and_repeated(with_library: Tell, cell: Any) -> None:
    async def story(caller: Caller) -> None:
        caller.run(
            "cp", Current_step=[1e-3, -5e-4], vs_initial=[False, False], Duration_step=[5.0, 10.0],
            Step_number=1, N_Cycles=1,
        )  # fmt: skip
        await caller.finished()
        assert caller.values().ElapsedTime == pytest.approx(30.0)
        rows = caller.rows()
        assert [row[4] for row in rows] == [0] * 17 + [1] * 17
        second = rows[6:17]
        assert [single(row[3]) for row in second] == pytest.approx([-5e-4] * 11, rel=0.01)
        assert [single(row[2]) for row in second] == pytest.approx([-0.5] * 11, rel=0.01)
        assert cell.is_open

    with_library(story)


def test_set_points_can_be_relative_to_what_was_before(with_library: Tell, cell: Any) -> None:
    cell.open_circuit_V = 1.0

    async def story(caller: Caller) -> None:
        caller.run("ca", Voltage_step=[0.2], vs_initial=[True], I_Range=MILLIAMPERE)
        await asyncio.sleep(5.0)
        values = caller.values()
        assert values.Ewe == pytest.approx(1.2, abs=1e-3)
        assert pytest.approx(2e-4, rel=0.01) == values.I
        assert (values.IRange, values.Ioverflow) == (MILLIAMPERE, 0)
        assert cell.commands[-1] == ("voltage", pytest.approx(1.2))
        assert caller.stop() == 0
        assert cell.is_open
        assert caller.values().State == STOP
        assert len(caller.rows()) == 6, "what was recorded outlives the stop"

    with_library(story)


def test_a_stop_takes_effect_at_once(with_library: Tell, cell: Any) -> None:
    async def story(caller: Caller) -> None:
        assert caller.load("ocv", last=False, Rest_time_T=1.0) == 0
        assert caller.load("cp", first=False) == 0
        assert caller.start() == 0
        await asyncio.sleep(3.57)
        assert caller.stop() == 0
        assert cell.time_s == pytest.approx(3.57)
        assert cell.is_open
        assert caller.values().ElapsedTime == pytest.approx(3.57)
        await asyncio.sleep(20)
        assert cell.is_open
        assert len(caller.rows()) == 2 + 3
        # Another technique is loaded: nothing of the chain before is left.
        assert caller.load("ca") == 0
        assert caller.values().TimeBase == pytest.approx(24e-6)
        assert caller.data()[0].TechniqueID == 101

    with_library(story)


def test_rows_are_also_kept_for_a_change(with_library: Tell) -> None:
    world = World(load_preset("LCO_InLi"), seed=3)

    async def story(caller: Caller) -> None:
        caller.run(
            "cp", Current_step=[1e-4], Duration_step=[3600.0], Record_every_dT=0.0,
            Record_every_dE=0.01,
        )  # fmt: skip
        await caller.finished()
        voltages = [single(row[2]) for row in caller.rows()]
        assert len(voltages) > 5
        steps = [abs(b - a) for a, b in pairwise(voltages)]
        assert all(0.01 <= step < 0.015 for step in steps[:-1])

    with_library(story, on=world)


@pytest.mark.parametrize(("exit_condition", "techniques"), [(0, [0, 0, 1]), (1, [0, 1]), (2, [0])])
def test_a_test_ends_a_step_a_technique_or_everything(
    with_library: Tell, cell: Any, exit_condition: int, techniques: list[int]
) -> None:
    cell.open_circuit_V = 0.5

    async def story(caller: Caller) -> None:
        # 1 mA through 1 kOhm passes 1.2 V at once: E >= 1.2 V; the second step never gets there.
        assert caller.load(
            "cplimit", last=False, Current_step=[1e-3, 1e-4], vs_initial=[False] * 2,
            Duration_step=[10.0] * 2, Step_number=1, Test1_Config=[5, 5], Test1_Value=[1.2, 1.2],
            Exit_Cond=[exit_condition, exit_condition],
        ) == 0  # fmt: skip
        assert caller.load("ocv", first=False) == 0
        assert caller.start() == 0
        await caller.finished()
        assert cell.is_open
        blocks = list(caller.blocks())
        seen = [infos.TechniqueIndex for infos, _, _ in blocks]
        assert sorted({*seen}) == sorted({*techniques})
        first = blocks[0][2]
        assert len(first) == (12 if exit_condition == 0 else 1)
        assert blocks[0][0].TechniqueID == 155

    with_library(story)


def test_a_cut_off_acts_on_a_real_cell_without_any_host(with_library: Tell) -> None:
    world = World(load_preset("LCO_InLi"), seed=3)
    rested_V = world.terminals()[0]
    limit_V = rested_V + 0.3

    async def story(caller: Caller) -> None:
        caller.run(
            "cplimit", Current_step=[1e-4], Duration_step=[36000.0], Record_every_dT=60.0,
            Test1_Config=[5], Test1_Value=[limit_V], Exit_Cond=[2],
        )  # fmt: skip
        caller.library.sever()
        await asyncio.sleep(36000)
        later = Caller(caller.device)
        assert later.connect() == 0
        assert later.values().State == STOP
        rows = later.rows()
        assert single(rows[-1][2]) == pytest.approx(limit_V, abs=1e-3)
        assert single(rows[-2][2]) < limit_V

    with_library(story, on=world)


def test_a_cut_off_sees_a_jump_while_it_rises(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        # The double layer takes this cell from 0.036 V to 0.48 V within a second.
        caller.run(
            "cplimit", Current_step=[1e-4], Duration_step=[10.0], Test1_Config=[5],
            Test1_Value=[0.3], Exit_Cond=[2],
        )  # fmt: skip
        await caller.finished()
        assert single(caller.rows()[-1][2]) == pytest.approx(0.3, abs=0.01)

    with_library(story, on=World(load_preset("LYC_PMMA"), seed=3))


def test_techniques_are_chained_with_their_own_times(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        assert caller.load("ocv", last=False) == 0
        assert caller.load("calimit", first=False, last=False) == 0
        assert caller.load("cp", first=False) == 0
        assert caller.infos().NbOfTechniques == 3
        assert caller.start() == 0
        await asyncio.sleep(15.0)
        assert (caller.values().State, caller.values().TimeBase) == (RUN, pytest.approx(50e-6))
        await caller.finished()
        blocks = list(caller.blocks())
        assert [infos.TechniqueID for infos, _, _ in blocks] == [100, 157, 102]
        assert [infos.TechniqueIndex for infos, _, _ in blocks] == [0, 1, 2]
        assert [infos.StartTime for infos, _, _ in blocks[1:]] == pytest.approx([10.0, 20.0])
        assert [values.TimeBase for _, values, _ in blocks] == pytest.approx([2e-5, 5e-5, 2.1e-5])
        assert [rows[0][1] for _, _, rows in blocks] == [0, 0, 0]

    with_library(story)


def test_a_triangle_is_swept_at_its_rate(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.run("cv", I_Range=MILLIAMPERE)
        await caller.finished()
        # Two cycles of 2 V in all at 100 mV/s.
        assert caller.values().ElapsedTime == pytest.approx(40.0)
        rows = caller.rows()
        assert len(rows) == 400
        assert [row[5] for row in rows] == [0] * 200 + [1] * 200
        controls = [single(row[2]) for row in rows]
        assert (max(controls), min(controls)) == pytest.approx((0.5, -0.5))
        for row in rows[5:]:
            # The measured half of a step lies a quarter of it, 2.5 mV, before its end.
            voltage_V, current_A = single(row[4]), single(row[3])
            assert voltage_V == pytest.approx(single(row[2]), abs=3e-3)
            assert current_A * 1000 == pytest.approx(voltage_V, abs=6e-3)

    with_library(story)


def test_the_unit_of_a_scan_rate_is_a_setting(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.run("cv", Scan_Rate=[0.1] * 5)
        await caller.finished()
        assert caller.values().ElapsedTime == pytest.approx(40.0)

    with_library(story, scan_rate_unit="V/s")


@pytest.mark.parametrize("name", ["peis", "geis"])
def test_a_spectrum_shows_the_cells_impedance(with_library: Tell, cell: Any, name: str) -> None:
    async def story(caller: Caller) -> None:
        caller.run(name)
        seen_Hz = set()
        while (values := caller.values()).State == RUN:
            seen_Hz.add(values.Freq)
            await asyncio.sleep(0.05)
        assert 0.0 in seen_Hz
        assert len(seen_Hz) > 5
        blocks = list(caller.blocks())
        assert [(infos.ProcessIndex, infos.NbCols) for infos, _, _ in blocks] == [(0, 4), (1, 15)]
        assert blocks[0][0].NbRows == 3
        frequencies = [single(row[0]) for row in blocks[1][2]]
        assert frequencies == pytest.approx([10 ** (5 - 0.5 * k) for k in range(11)], rel=1e-5)
        ideal = cell.impedance(np.array(frequencies))
        for row, expected in zip(blocks[1][2], ideal, strict=True):
            size, phase_rad = single(row[1]) / single(row[2]), single(row[3])
            assert size == pytest.approx(abs(expected), rel=0.02)
            assert phase_rad == pytest.approx(math.atan2(expected.imag, expected.real), abs=0.02)
        times = [single(row[13]) for row in blocks[1][2]]
        assert times == sorted(times)
        assert times[0] > 2.0

    with_library(story)


def test_a_bias_is_held_during_a_spectrum(with_library: Tell, cell: Any) -> None:
    async def story(caller: Caller) -> None:
        caller.run("peis", Final_frequency=0.1, Wait_for_steady=2.0, Average_N_times=3)
        await asyncio.sleep(4.0)
        assert cell.commands[-1] == ("voltage", pytest.approx(0.1))
        await caller.finished()
        assert cell.is_open
        # Five periods of each frequency; half of them go by in the last one, of 0.1 Hz.
        assert caller.values().ElapsedTime == pytest.approx(2 + 50 + 50 / 3.98, rel=0.3)

    with_library(story)


def test_parameters_change_while_a_technique_runs(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.run("cp", I_Range=TEN_MILLIAMPERES)

        def update(**given: Any) -> int:
            return caller.library.BL_UpdateParameters(caller.id, 0, 0, array_of(given), b"cp.ecc")

        await asyncio.sleep(3.5)
        assert update(Current_step=[2e-3], Duration_step=[20.0]) == 0
        assert pytest.approx(2e-3, rel=0.01) == caller.values().I
        assert update(I_Range=AUTO) == -15
        assert update(Current_step=[1.0]) == -4
        await caller.finished()
        assert caller.values().ElapsedTime == pytest.approx(20.0)
        assert update(Current_step=[1e-3]) == -15

    with_library(story, complaints=3)


# ---------------------------------------------------------------------- data and hosts


def test_a_call_returns_at_most_a_thousand_words(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.run("cp", Duration_step=[450.0])
        await caller.finished()
        filled = caller.values().MemFilled
        assert filled == 451 * 5 * 4
        counts = []
        for infos, values, _ in caller.blocks():
            counts.append(infos.NbRows)
            filled -= infos.NbRows * 20
            assert values.MemFilled == filled
        assert counts == [200, 200, 51]

    with_library(story)


def test_rows_without_room_are_lost_and_counted(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.run("cp", Duration_step=[30.0])
        await caller.finished()
        infos, _, rows = caller.data()
        assert (len(rows), infos.IRQskipped) == (10, 21)
        assert caller.data()[0].IRQskipped == 0

    with_library(story, memory_bytes=200)


def test_looking_changes_nothing_of_what_is_recorded(with_library: Tell) -> None:
    recorded: list[list[list[int]]] = []

    def watched(interval_s: float) -> Story:
        async def story(caller: Caller) -> None:
            caller.run("cp")
            while caller.values().State == RUN:
                await asyncio.sleep(interval_s)
            recorded.append(caller.rows())

        return story

    for interval_s in (0.37, 11.0):
        with_library(watched(interval_s), on=World(load_preset("LYC_PMMA"), seed=3))
    assert recorded[0] == recorded[1]


def test_the_instrument_outlives_its_host_and_is_found_running(
    with_library: Tell, cell: Any
) -> None:
    async def story(caller: Caller) -> None:
        stream = caller.device.connect()
        caller.library = stream.library
        assert caller.connect() == 0
        caller.run("cp", Duration_step=[100.0])
        await asyncio.sleep(30)
        await stream.close()
        assert stream.library.BL_TestConnection(caller.id) == -200
        assert stream.library.BL_StopChannel(caller.id, 0) == -200, "a dead host stops nothing"
        await asyncio.sleep(30)
        assert cell.commands[-1][0] == "current"
        heir = Caller(caller.device)
        assert heir.connect(firmware=False) == 0
        assert heir.infos().FirmwareCode == Firmware.KERNEL
        assert heir.values().State == RUN
        assert len(heir.rows()) == 61
        await heir.finished()
        assert len(heir.rows()) == 40

    with_library(story, connected=False)


def test_a_new_host_cuts_off_the_one_before_and_a_stream_can_be_reopened(
    with_library: Tell,
) -> None:
    async def story(caller: Caller) -> None:
        first = caller.device.connect()
        caller.library = first.library
        assert caller.connect() == 0
        second = caller.device.connect()
        assert first.lost
        assert first.library.BL_TestConnection(caller.id) == -200
        await first.reopen()
        assert second.lost
        assert first.library.BL_TestConnection(caller.id) == -1, "its connections are gone"
        assert caller.connect() == 0

    with_library(story, connected=False)


def test_a_silent_instrument_fails_every_call(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.device.line.silent = True
        assert caller.library.BL_TestConnection(caller.id) == -200
        caller.device.line.silent = False
        assert caller.library.BL_TestConnection(caller.id) == 0

    with_library(story)


def test_two_channels_on_the_one_cell_are_a_mistake(with_library: Tell) -> None:
    async def story(caller: Caller) -> None:
        caller.run("ocv")
        caller.channel = 1
        assert caller.load("ocv") == 0
        assert caller.start() == -8

    with_library(story, complaints=1)


def test_a_resting_channel_leaves_the_cell_to_another_instrument(
    with_library: Tell, cell: Any
) -> None:
    async def story(caller: Caller) -> None:
        cell.apply_current(1e-3)
        caller.run("ocv")
        await caller.finished()
        assert caller.stop() == 0
        assert cell.commands[-1] == ("current", 1e-3)
        assert caller.values().I == 0.0
        assert caller.values().Ewe == pytest.approx(1.0, abs=1e-2)

    with_library(story)


def test_calls_from_threads_happen_on_the_loop_while_time_stands_still(
    with_library: Tell, cell: Any
) -> None:
    async def story(caller: Caller) -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(caller.connect) == 0
        await asyncio.to_thread(caller.run, "cp", Duration_step=[100.0])
        began_s = loop.time()
        for step in range(20):
            await asyncio.sleep(1.0)
            values = await asyncio.to_thread(caller.values)
            assert values.State == RUN
            assert loop.time() == pytest.approx(began_s + step + 1)
        both = await asyncio.gather(
            asyncio.to_thread(caller.values), asyncio.to_thread(caller.rows)
        )
        assert len(both[1]) == 21
        assert await asyncio.to_thread(caller.stop) == 0
        assert cell.is_open

    with_library(story, connected=False)


def test_a_call_after_the_bench_was_switched_off_fails(with_library: Tell) -> None:
    callers: list[Caller] = []

    async def story(caller: Caller) -> None:
        callers.append(caller)

    with_library(story)
    callers[0].device._timebase.stop()
    assert callers[0].stop() == -200


def test_misuse_is_a_fault_of_a_simulated_bench(cell: Any) -> None:
    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        device = BiologicEmulator.from_bench(
            "potentiostat", timebase, cell, seed=1, options={"model": "SP-300", "channel": 1}
        )
        caller = Caller(device)
        caller.connect()
        assert caller.load("ocv", Rest_time_T=-1.0) == -4
        with pytest.raises(Misuse, match=r"potentiostat, BL_LoadTechnique: ocv: Rest_time_T\[0\]"):
            await device.watch()

    run(main(), virtual=True)


def test_a_fault_of_the_stand_in_is_the_benchs_to_know(with_library: Tell, cell: Any) -> None:
    async def story(caller: Caller) -> None:
        cell.terminals = None
        assert caller.library.BL_GetCurrentValues(caller.id, 0, byref(CurrentValues())) == -6
        await asyncio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as caught:
        with_library(story)
    assert isinstance(caught.value.exceptions[0], TypeError)
