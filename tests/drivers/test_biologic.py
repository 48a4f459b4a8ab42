"""The BioLogic driver against a stand-in for the vendor's library that follows a script."""

from __future__ import annotations

import asyncio
import cmath
import ctypes
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.drivers.biologic_stand_in import TIME_BASE_S, Fetch, StandIn, at, cp, number, word

from cellbench.bench import BenchFile, InstrumentEntry, connected
from cellbench.clock import run
from cellbench.engine.session import open_instrument, owned
from cellbench.errors import InputError, InstrumentError, InstrumentTimeout
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag, Identity
from cellbench.instruments.registry import Driver
from cellbench.instruments.roles import Channel
from cellbench.instruments.techniques import (
    ConstantCurrent,
    ConstantVoltage,
    CutOff,
    ElectricalLimits,
    Impedance,
    Rest,
    Sweep,
    Technique,
)
from cellbench.transport import Stream, ownership, pipe
from cellbench_drivers import biologic
from cellbench_drivers.biologic import Biologic
from cellbench_drivers.biologic_abi import (
    NEWER_SIGNATURES,
    PAUSED,
    RUNNING,
    STOPPED,
    AlignedDataInfo,
    AlignedEccParams,
    ChannelInfo,
    CurrentValues,
    DataInfo,
    DeviceInfo,
    EccParam,
    EccParams,
    declare,
    signatures,
)
from cellbench_drivers.biologic_data import spectrum_rows, time_rows
from cellbench_drivers.biologic_library import ERRORS, LibraryError, Rows, load
from cellbench_drivers.biologic_program import Loaded, Program, Settings
from cellbench_drivers.biologic_techniques import program_for

OPTIONS = {"host": "192.109.209.128", "channel": 2}
LIMITS = ElectricalLimits(voltage_min_V=2.0, voltage_max_V=4.6, current_max_A=5e-3)
CHARGE = ConstantCurrent(
    current_A=1e-3, duration_s=3, cut_offs=(CutOff(quantity="voltage", above=True, value=4.3),)
)
HOLD = ConstantVoltage(
    voltage_V=4.3, duration_s=3, cut_offs=(CutOff(quantity="current", above=False, value=1e-4),)
)
SWEEP = Sweep(start_V=3.0, end_V=3.0, vertices_V=(3.01,), rate_V_per_s=1e-3)
SPECTRUM = Impedance(
    frequency_max_Hz=1e4, frequency_min_Hz=1e2, points_per_decade=1, amplitude_V=0.01
)


# --- Structures and functions -------------------------------------------------------------------


def offsets(structure: Any) -> dict[str, int]:
    return {field[0]: getattr(structure, field[0]).offset for field in structure._fields_}


def test_structures_have_the_sizes_and_offsets_of_the_library() -> None:
    assert ctypes.sizeof(DeviceInfo) == 44
    assert ctypes.sizeof(ChannelInfo) == 76
    assert offsets(ChannelInfo)["State"] == 56
    assert offsets(EccParam) == {"ParamStr": 0, "ParamType": 64, "ParamVal": 68, "ParamIndex": 72}
    assert ctypes.sizeof(EccParam) == 76
    assert ctypes.sizeof(CurrentValues) == 76
    assert offsets(CurrentValues) == {
        "State": 0, "MemFilled": 4, "TimeBase": 8, "Ewe": 12, "EweRangeMin": 16, "EweRangeMax": 20,
        "Ece": 24, "EceRangeMin": 28, "EceRangeMax": 32, "Eoverflow": 36, "I": 40, "IRange": 44,
        "Ioverflow": 48, "ElapsedTime": 52, "Freq": 56, "Rcomp": 60, "Saturation": 64,
        "OptErr": 68, "OptPos": 72,
    }  # fmt: skip


def test_packing_decides_where_the_start_time_and_the_parameters_are() -> None:
    assert (offsets(DataInfo)["StartTime"], ctypes.sizeof(DataInfo)) == (28, 40)
    assert (offsets(AlignedDataInfo)["StartTime"], ctypes.sizeof(AlignedDataInfo)) == (32, 48)
    assert (EccParams.pParams.offset, ctypes.sizeof(EccParams)) == (4, 12)
    assert (AlignedEccParams.pParams.offset, ctypes.sizeof(AlignedEccParams)) == (8, 16)


def test_every_function_of_a_library_is_declared_and_newer_ones_where_it_has_them() -> None:
    names = [*signatures(4), "BL_GetChannelBoardType"]
    library = SimpleNamespace(**{name: SimpleNamespace() for name in names})
    declare(library, 8)
    assert all(getattr(library, name).restype is ctypes.c_int32 for name in names)
    assert library.BL_LoadTechnique.argtypes[3] is AlignedEccParams
    newer = NEWER_SIGNATURES["BL_GetChannelBoardType"]
    assert library.BL_GetChannelBoardType.argtypes == newer
    del library.BL_GetData
    with pytest.raises(AttributeError):
        declare(library, 4)


@pytest.mark.skipif(sys.platform == "win32", reason="says what happens elsewhere")
def test_the_library_is_for_windows() -> None:
    with pytest.raises(LibraryError, match="a DLL for Windows"):
        load("EClib64.dll", 4)


def test_errors_have_names_and_meanings() -> None:
    assert ERRORS[-201][0] == "ERR_COMM_CONNECTIONFAILED"
    assert ERRORS[-400][0] == "ERR_TECH_ECCFILENOTEXISTS"
    assert len({name for name, _ in ERRORS.values()}) == len(ERRORS) == 44


# --- Techniques ---------------------------------------------------------------------------------


def parameters(loaded: Loaded) -> dict[str, Any]:
    """Values by label, a list where they are per step."""
    found: dict[str, list[Any]] = {}
    for each in loaded.parameters:
        assert each.index == len(found.setdefault(each.label, []))
        found[each.label].append(each.value)
    return {label: values[0] if len(values) == 1 else values for label, values in found.items()}


def program(technique: Technique, rest_V: float = 3.5, **settings: Any) -> Program:
    return program_for(technique, LIMITS, Settings(range_min=5, **settings), rest_V)


def test_a_rest_is_ocv() -> None:
    made = program(Rest(duration_s=60, interval_s=5))
    assert [each.file for each in made.techniques] == ["ocv"]
    assert parameters(made.techniques[0]) == {
        "Rest_time_T": 60.0,
        "Record_every_dE": 20.0,
        "Record_every_dT": 5.0,
        "E_Range": 1,
        "Bandwidth": 5,
    }


def test_a_current_is_cplimit_with_the_cut_off_and_the_other_limit_as_tests() -> None:
    (loaded,) = program(CHARGE).techniques
    assert loaded.file == "cplimit"
    assert parameters(loaded) == {
        "Current_step": 1e-3,
        "vs_initial": False,
        "Duration_step": 3.0,
        "Step_number": 0,
        "Record_every_dT": 1.0,
        "Record_every_dE": 20.0,
        "N_Cycles": 0,
        "Test1_Config": 0b00101,  # E at or above, OR, active
        "Test1_Value": 4.3,
        "Test2_Config": 0b00001,  # E at or below, OR, active
        "Test2_Value": 2.0,
        "Test3_Config": 0,
        "Test3_Value": 0.0,
        "Exit_Cond": 2,
        "I_Range": 7,
        "E_Range": 1,
        "Bandwidth": 5,
    }


def test_a_cut_off_that_waits_begins_a_step_of_its_own() -> None:
    waiting = CutOff(quantity="voltage", above=False, value=2.5, after_s=10)
    technique = ConstantCurrent(current_A=-2e-3, duration_s=100, cut_offs=(waiting,))
    sent = parameters(program(technique).techniques[0])
    assert sent["Step_number"] == 1
    assert sent["Current_step"] == [-2e-3, -2e-3]
    assert sent["Duration_step"] == [10.0, 90.0]
    assert sent["Test1_Value"] == [4.6, 4.6]
    assert sent["Test2_Value"] == [2.0, 2.5]
    assert sent["I_Range"] == 8


def test_a_voltage_is_calimit_with_a_taper_between_two_bounds() -> None:
    (loaded,) = program(HOLD).techniques
    sent = parameters(loaded)
    assert loaded.file == "calimit"
    assert sent["Voltage_step"] == [4.3, 4.3]
    assert sent["Duration_step"] == [0.01, pytest.approx(2.99)]
    # Not in the spike of the first milliseconds; then (I <= 0.1 mA AND I >= -0.1 mA) OR I >= 5 mA.
    assert sent["Test1_Config"] == [0, 0b1100011]
    assert sent["Test2_Config"] == [0, 0b1100101]
    assert sent["Test3_Config"] == [0, 0b1100101]
    assert [sent[f"Test{n}_Value"][1] for n in (1, 2, 3)] == [1e-4, -1e-4, 5e-3]
    assert (sent["I_Range"], sent["Exit_Cond"]) == (12, [2, 2])


def test_a_voltage_below_the_cell_is_guarded_on_the_other_side() -> None:
    sent = parameters(program(HOLD, rest_V=4.5).techniques[0])
    assert (sent["Test3_Config"][1], sent["Test3_Value"][1]) == (0b1100001, -5e-3)


def test_a_voltage_without_cut_offs_is_guarded_on_both_sides() -> None:
    hold = ConstantVoltage(voltage_V=4.3, duration_s=3, current_range_A=2e-3)
    sent = parameters(program(hold).techniques[0])
    assert sent["Test1_Config"][1], sent["Test1_Value"][1] == (0b1100101, 5e-3)
    assert (sent["Test2_Config"][1], sent["Test2_Value"][1]) == (0b1100001, -5e-3)
    assert (sent["Test3_Config"][1], sent["I_Range"]) == (0, 8)


def test_a_sweep_is_cv_whose_way_is_right_with_and_without_a_return() -> None:
    (loaded,) = program(SWEEP).techniques
    assert loaded.file == "cv"
    assert parameters(loaded) == {
        "vs_initial": [False] * 5,
        "Voltage_step": [3.0, 3.01, 3.0, 3.0, 3.0],
        "Scan_Rate": [1e-3] * 5,
        "Scan_number": 2,
        "Record_every_dE": 1e-3,
        "Average_over_dE": False,
        "N_Cycles": 0,
        "Begin_measuring_I": 0.5,
        "End_measuring_I": 1.0,
        "I_Range": 12,
        "E_Range": 1,
        "Bandwidth": 5,
    }
    assert loaded.duration_s == pytest.approx(20.0)


def test_a_library_may_want_the_scan_rate_in_millivolts() -> None:
    made = program(SWEEP, scan_rate_unit="mV/s")
    assert parameters(made.techniques[0])["Scan_Rate"] == [1.0] * 5


def test_a_sweep_of_more_segments_is_a_chain() -> None:
    sweep = Sweep(start_V=3.0, end_V=3.2, vertices_V=(3.1, 3.0, 3.2, 2.9), rate_V_per_s=0.1)
    made = program(sweep)
    assert [parameters(each)["Voltage_step"] for each in made.techniques] == [
        [3.0, 3.1, 3.0, 3.2, 3.2],
        [3.2, 2.9, 3.2, 3.2, 3.2],
    ]
    assert made.starts_s(1) == pytest.approx(4.0)
    assert made.duration_s == pytest.approx(sweep.duration_s)


def test_a_spectrum_around_the_open_circuit_follows_a_rest() -> None:
    made = program(SPECTRUM)
    assert [each.file for each in made.techniques] == ["ocv", "peis"]
    assert (made.main, made.points) == (1, 3)
    assert parameters(made.techniques[1]) == {
        "vs_initial": True,
        "vs_final": True,
        "Initial_Voltage_step": 0.0,
        "Final_Voltage_step": 0.0,
        "Amplitude_Voltage": 0.01,
        "Record_every_dI": 100.0,
        "Duration_step": 0.0,
        "Step_number": 0,
        "Record_every_dT": 1.0,
        "Initial_frequency": 1e4,
        "Final_frequency": 1e2,
        "sweep": False,
        "Frequency_number": 3,
        "Average_N_times": 1,
        "Correction": False,
        "Wait_for_steady": 1.0,
        "I_Range": 12,
        "E_Range": 1,
        "Bandwidth": 5,
    }


def test_a_spectrum_at_a_voltage_needs_no_rest() -> None:
    made = program(SPECTRUM.model_copy(update={"bias_V": 3.7}))
    assert [each.file for each in made.techniques] == ["peis"]
    sent = parameters(made.techniques[0])
    assert (sent["vs_initial"], sent["Initial_Voltage_step"]) == (False, 3.7)


def test_a_galvanostatic_amplitude_takes_half_of_its_range() -> None:
    technique = Impedance(frequency_max_Hz=1e4, frequency_min_Hz=1.0, amplitude_A=8e-4)
    made = program(technique)
    assert [each.file for each in made.techniques] == ["ocv", "geis"]
    sent = parameters(made.techniques[1])
    assert (sent["Initial_Current_step"], sent["Amplitude_Current"]) == (0.0, 8e-4)
    assert (sent["I_Range"], sent["Record_every_dE"]) == (8, 20.0)


@pytest.mark.parametrize(
    ("technique", "reason"),
    [
        (ConstantCurrent(current_A=6e-3, duration_s=3), "beyond the limit"),
        (ConstantVoltage(voltage_V=4.7, duration_s=3), "outside the limits"),
        (Sweep(start_V=3.0, end_V=1.9, rate_V_per_s=1e-3), "outside the limits"),
        (SPECTRUM.model_copy(update={"bias_V": 4.595}), "outside the limits"),
        (
            Impedance(
                frequency_max_Hz=10, frequency_min_Hz=1, amplitude_A=2e-3, bias_A=4e-3
            ),
            "beyond the limit",
        ),
        (
            ConstantVoltage(voltage_V=4.3, duration_s=9, spectra=SPECTRUM, spectra_every_s=3),
            "leave the hold",
        ),
    ],
)  # fmt: skip
def test_what_the_limits_do_not_allow_is_refused(technique: Technique, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        program(technique)


def test_a_current_beyond_the_channel_is_refused() -> None:
    limits = ElectricalLimits(voltage_min_V=0, voltage_max_V=5, current_max_A=9)
    with pytest.raises(ValueError, match=r"beyond the channel's 0\.4 A"):
        program_for(ConstantCurrent(current_A=1.0, duration_s=3), limits, Settings(), 3.0)


def test_limits_choose_the_voltage_range() -> None:
    for top_V, code in ((2.4, 0), (2.5, 1), (4.9, 1), (5.0, 2), (10.0, 2)):
        limits = ElectricalLimits(voltage_min_V=-1, voltage_max_V=top_V, current_max_A=1)
        made = program_for(Rest(duration_s=1), limits, Settings(), 0.0)
        assert parameters(made.techniques[0])["E_Range"] == code


# --- Rows ---------------------------------------------------------------------------------------


def rows(*words: tuple[int, ...], process: int = 0) -> Rows:
    values = CurrentValues(TimeBase=TIME_BASE_S)
    return Rows(0, 0, process, math.nan, 0, words, values)


def test_a_time_is_two_words_of_time_bases() -> None:
    (row,) = time_rows("cplimit", rows((1, 500, word(3.7), word(-1e-3), 4)), number)
    assert row.time_s == pytest.approx(TIME_BASE_S * (2**32 + 500), rel=1e-6)
    assert (row.voltage_V, row.current_A) == pytest.approx((3.7, -1e-3))


def test_no_current_flows_at_rest_and_its_second_voltage_may_be_missing() -> None:
    for row in ((*at(2.0), word(3.1), word(0.4)), (*at(2.0), word(3.1))):
        (found,) = time_rows("ocv", rows(row), number)
        assert (found.time_s, found.voltage_V) == pytest.approx((2.0, 3.1))
        assert found.current_A == 0.0


def test_a_row_of_a_sweep_has_its_control_voltage_on_a_vmp3_only() -> None:
    with_control = (*at(1.0), word(3.0), word(2e-3), word(2.9), 1)
    without = (*at(1.0), word(2e-3), word(2.9), 1)
    for row in (with_control, without):
        (found,) = time_rows("cv", rows(row), number)
        assert (found.voltage_V, found.current_A) == pytest.approx((2.9, 2e-3))


def spectrum_row(frequency_Hz: float, phase: float, current_A: float = 1e-3) -> tuple[int, ...]:
    head = [frequency_Hz, 0.01, current_A, phase, 3.5, 0.0]
    return (*map(word, head), *[word(0.0)] * 7, word(0.25), 7)


def test_an_impedance_is_the_ratio_of_moduli_at_its_phase() -> None:
    row = spectrum_row(1e3, -math.pi / 4)
    (point,) = spectrum_rows("peis", rows(row, process=1), number, "rad")
    assert point.frequency_Hz == 1e3
    assert abs(point.impedance_ohm) == pytest.approx(10.0)
    assert cmath.phase(point.impedance_ohm) == pytest.approx(-math.pi / 4)
    assert point.impedance_ohm.imag < 0
    assert point.time_s == 0.25


def test_a_phase_that_is_no_radian_is_not_taken_for_one() -> None:
    data = rows(spectrum_row(1e3, -45.0), process=1)
    with pytest.raises(LibraryError, match="phase unit"):
        spectrum_rows("peis", data, number, "rad")
    (point,) = spectrum_rows("peis", data, number, "deg")
    assert point.impedance_ohm.imag == pytest.approx(-10 / math.sqrt(2))


def test_a_row_that_is_too_narrow_is_an_error() -> None:
    with pytest.raises(LibraryError, match="has 3 words, and should have at least 4"):
        time_rows("cplimit", rows((0, 1, 2)), number)


# --- Connecting ---------------------------------------------------------------------------------


def driven(
    device: StandIn, act: Callable[[Biologic], Coroutine[Any, Any, Any]], **options: Any
) -> Any:
    """What comes of acting on a driver that is connected to a device."""

    async def scenario() -> Any:
        driver = Biologic("pstat", device.stream(), OPTIONS | options)
        await driver.connect()
        return await act(driver)

    return run(scenario(), virtual=True)


def connecting(device: StandIn, **options: Any) -> Identity:
    async def scenario() -> Identity:
        return await Biologic("pstat", device.stream(), OPTIONS | options).connect()

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_channel() -> None:
    assert isinstance(Biologic("pstat", pipe()[0], OPTIONS), Channel)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(InputError, match="options are: bandwidth, channel"):
        Biologic("pstat", pipe()[0], OPTIONS | {"speed": 3})


def test_connecting_identifies_the_device_and_its_board() -> None:
    device = StandIn()

    async def act(driver: Biologic) -> Biologic:
        return driver

    able = driven(device, act).capabilities
    assert able.model == "BioLogic VMP3"
    assert (able.current_max_A, able.voltage_max_V) == (0.1, 10.0)
    assert able.current_min_A == pytest.approx(1e-9)
    assert able.impedance is not None
    assert able.impedance.frequency_max_Hz == 1e6
    assert able.on_device == {"duration", "voltage"}
    assert connecting(device) == Identity(
        "BioLogic VMP3",
        "board 815",
        "5282, communication 1105",
        ("never verified on hardware: firmware 5282",),
        found_active=False,
    )
    assert device.count("LoadFirmware") == device.count("StartChannel") == 0


def test_a_channel_without_impedance_board_or_with_an_amplifier_says_so() -> None:
    async def act(driver: Biologic) -> Biologic:
        return driver

    able = driven(StandIn(zboard=0, range_max=11), act, current_max="10 A").capabilities
    assert able.impedance is None
    assert "impedance" not in able.techniques
    assert able.current_max_A == 10.0


def test_a_channel_without_the_librarys_firmware_gets_it() -> None:
    device = StandIn(firmware=0)
    connecting(device)
    assert device.calls[2:] == ["GetChannelInfos", "LoadFirmware", "GetChannelInfos"]
    refusing = StandIn(errors={"BL_GetChannelInfos": -308})
    connecting(refusing)
    assert refusing.count("LoadFirmware") == 1


def test_an_experiment_of_ec_lab_is_not_touched() -> None:
    device = StandIn(firmware=1, state=RUNNING)
    with pytest.raises(InstrumentError, match="EC-Lab runs an experiment"):
        connecting(device)
    assert device.count("LoadFirmware") == device.count("StopChannel") == 0


def test_what_a_dead_host_left_running_is_stopped() -> None:
    device = StandIn(state=RUNNING, memory=400)
    identity = connecting(device)
    assert "a technique was running: stopped, 400 bytes of its rows given up" in identity.remarks
    assert device.calls[-2:] == ["StopChannel", "GetCurrentValues"]


@pytest.mark.parametrize(
    ("device", "options", "reason"),
    [
        (StandIn(), {"host": "10.0.0.1"}, r"the address is not valid \(ERR_COMM_INVALIDIPADDRESS"),
        (StandIn(plugged=(0, 4)), {}, "no channel 2; there are: 1, 5"),
        (StandIn(device_code=99), {}, "device of code 99"),
        (StandIn(device_code=6), {"model": "VMP3"}, "is a VSP, the bench says VMP3"),
        (StandIn(firmware=0, errors={"BL_LoadFirmware": -303}), {}, "ERR_FIRM_FIRMLOADINGFAILED"),
    ],
)
def test_what_is_not_as_the_bench_says_is_refused(
    device: StandIn, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InstrumentError, match=f"^pstat: .*{reason}"):
        connecting(device, **options)


def test_closing_disconnects_even_from_a_device_that_is_gone() -> None:
    device = StandIn(errors={"BL_Disconnect": -200})
    driven(device, lambda driver: driver.close())
    assert device.calls[-1] == "Disconnect"


# --- Running ------------------------------------------------------------------------------------


def outcome(
    device: StandIn, technique: Technique, **options: Any
) -> tuple[list[Block], Ending, Any]:
    async def act(driver: Biologic) -> Any:
        blocks = []
        async with driver.run(technique, LIMITS) as running:
            async for block in running:
                blocks.append(block)  # noqa: PERF401
        assert running.ending is not None
        return blocks, running.ending, running

    blocks, ending, running = driven(device, act, **options)
    return blocks, ending, running


def column(blocks: list[Block], name: str) -> list[float]:
    return [value for block in blocks for value in block.columns[name]]


def flags(blocks: list[Block]) -> list[int]:
    return [flag for block in blocks for flag in block.flags]


def scripted(*fetches: Fetch, **device: Any) -> StandIn:
    return StandIn(script=deque(fetches), **device)


ROWS = [cp(0.0, 3.9, 1e-3), cp(1.0, 4.0, 1e-3), cp(2.0, 4.1, 1e-3), cp(3.0, 4.2, 1e-3)]


def test_a_step_gives_its_rows_at_the_times_of_the_instrument() -> None:
    device = scripted(Fetch(ROWS[:2]), Fetch(ROWS[2:3]), Fetch(), Fetch(ROWS[3:], state=STOPPED))
    blocks, ending, running = outcome(device, CHARGE)
    assert ending == Ending(EndingKind.COMPLETED)
    assert [len(block.time_s) for block in blocks] == [2, 1, 1]
    times_s = [time_s - running.started_s for block in blocks for time_s in block.time_s]
    assert times_s == pytest.approx([0.0, 1.0, 2.0, 3.0])
    assert column(blocks, "voltage_V") == pytest.approx([3.9, 4.0, 4.1, 4.2])
    assert column(blocks, "current_A") == pytest.approx([1e-3] * 4)
    assert flags(blocks) == [0, 0, 0, 0]
    assert running.open_circuit_V == 3.5
    assert device.count("StopChannel") == 0


def test_what_is_loaded_has_the_bytes_of_the_library() -> None:
    device = scripted(Fetch(ROWS, state=STOPPED))
    outcome(device, CHARGE)
    (loaded,) = device.loaded
    assert (loaded.file, loaded.first, loaded.last) == ("cplimit.ecc", True, True)
    assert loaded.raw[0] == b"Current_step".ljust(64, b"\0") + bytes.fromhex(
        "020000006f12833a00000000"
    )
    assert b"Exit_Cond".ljust(64, b"\0") + bytes.fromhex("000000000200000000000000") in loaded.raw
    assert b"vs_initial".ljust(64, b"\0") + bytes.fromhex("010000000000000000000000") in loaded.raw
    assert loaded.parameters["Test1_Value", 0] == pytest.approx(4.3)


def test_the_other_packing_is_read_as_well() -> None:
    device = scripted(Fetch(ROWS, start_s=0.5, state=STOPPED), packing=8)
    _, ending, _ = outcome(device, CHARGE, packing=8)
    assert ending.kind is EndingKind.COMPLETED
    assert len(device.loaded[0].parameters) == 17


def test_an_sp_300_has_its_own_technique_files() -> None:
    device = scripted(Fetch(ROWS, state=STOPPED), device_code=16)
    outcome(device, CHARGE, library=r"C:\OEM\lib\EClib64.dll")
    assert device.loaded[0].file == r"C:\OEM\lib\cplimit4.ecc"


def test_a_newer_library_says_which_board_it_is_and_converts_for_it() -> None:
    device = scripted(Fetch(ROWS, state=STOPPED), newer={"board": 3})
    blocks, _, _ = outcome(device, CHARGE, techniques_folder=r"D:\ecc")
    assert device.loaded[0].file == r"D:\ecc\cplimit5.ecc"
    assert column(blocks, "voltage_V") == pytest.approx([3.9, 4.0, 4.1, 4.2])


def test_rows_of_a_technique_before_are_given_up() -> None:
    old = Fetch([cp(77.0, 1.0, 9.9)], state=STOPPED)
    device = scripted(old, Fetch(state=STOPPED), Fetch(ROWS, state=STOPPED))

    async def act(driver: Biologic) -> list[Block]:
        device.state, device.memory = STOPPED, 20
        async with driver.run(CHARGE, LIMITS) as running:
            return [block async for block in running]

    assert column(driven(device, act), "voltage_V")[0] == pytest.approx(3.9)


def test_a_channel_that_is_busy_is_not_started() -> None:
    device = StandIn()

    async def act(driver: Biologic) -> None:
        device.state = RUNNING
        async with driver.run(CHARGE, LIMITS):
            pass

    with pytest.raises(InstrumentError, match="already runs a technique"):
        driven(device, act)
    assert device.count("LoadTechnique") == 0


def test_a_cut_off_that_the_device_acted_upon_is_told_from_the_last_row() -> None:
    device = scripted(Fetch([ROWS[0], cp(1.0, 4.301, 1e-3)], state=STOPPED))
    _, ending, _ = outcome(device, CHARGE)
    assert ending == Ending(EndingKind.CUT_OFF, "voltage at or above 4.3 V")


def test_a_cut_off_between_two_rows_is_told_from_where_they_lead() -> None:
    device = scripted(Fetch([ROWS[0], cp(1.0, 4.25, 1e-3)], state=STOPPED))
    _, ending, _ = outcome(device, CHARGE)
    assert ending.kind is EndingKind.CUT_OFF


def test_within_the_last_interval_it_depends_on_where_the_rows_lead() -> None:
    for last_V, kind in ((4.295, EndingKind.CUT_OFF), (4.1, EndingKind.COMPLETED)):
        device = scripted(Fetch([cp(1.0, last_V, 1e-3), cp(2.0, last_V, 1e-3)], state=STOPPED))
        _, ending, _ = outcome(device, CHARGE)
        assert ending.kind is kind


def test_a_limit_that_the_device_acted_upon_is_a_trip() -> None:
    device = scripted(Fetch([cp(0.5, 4.2, 4e-3), cp(1.0, 4.3, 5.1e-3)], state=STOPPED))
    _, ending, _ = outcome(device, HOLD)
    assert ending == Ending(EndingKind.TRIPPED, "current at or above 5 mA")


def test_an_end_that_nothing_explains_is_no_success() -> None:
    _, ending, _ = outcome(scripted(Fetch(ROWS[:2], state=STOPPED)), CHARGE)
    assert ending.kind is EndingKind.ABORTED
    assert "after 1 s of 3 s" in ending.detail


def test_an_overheated_amplifier_is_told() -> None:
    device = scripted(Fetch(ROWS[:2], state=STOPPED), option_error=101)
    _, ending, _ = outcome(device, CHARGE)
    assert ending == Ending(EndingKind.ABORTED, "hardware option error 101")


def test_a_paused_channel_is_stopped() -> None:
    device = scripted(Fetch(ROWS[:1]), Fetch(state=PAUSED))
    _, ending, _ = outcome(device, CHARGE)
    assert ending == Ending(EndingKind.STOPPED, "the channel was paused")
    assert device.state == STOPPED


def test_a_test_that_the_device_does_not_obey_is_the_hosts() -> None:
    crossed = [Fetch([cp(float(time_s), 4.4, 1e-3)]) for time_s in range(1, 9)]
    long = CHARGE.model_copy(update={"duration_s": 60.0})
    device = scripted(*crossed)
    blocks, ending, _ = outcome(device, long)
    assert ending == Ending(EndingKind.CUT_OFF, "voltage at or above 4.3 V", on_device=False)
    assert flags(blocks)[0] == 0
    assert set(flags(blocks)[1:]) == {Flag.AFTER_CROSSING}
    assert device.state == STOPPED


def test_a_cut_off_at_rest_is_the_hosts_at_once() -> None:
    rest = Rest(duration_s=60, cut_offs=(CutOff(quantity="voltage", above=False, value=3.0),))
    device = scripted(*[Fetch([(*at(float(t)), word(3.2 - 0.1 * t), 0)]) for t in range(1, 9)])
    blocks, ending, _ = outcome(device, rest)
    assert ending == Ending(EndingKind.CUT_OFF, "voltage at or below 3 V", on_device=False)
    assert len(blocks) == 2
    assert column(blocks, "current_A") == [0.0, 0.0]


def test_rows_of_before_the_hosts_stop_are_fetched_after_it() -> None:
    class Keeping(StandIn):
        def BL_StopChannel(self) -> None:
            self.state = STOPPED
            self.script = deque([Fetch([(*at(4.0), word(2.9), 0)], state=STOPPED)])

    rest = Rest(duration_s=60, cut_offs=(CutOff(quantity="voltage", above=False, value=3.0),))
    device = Keeping(script=deque([Fetch([(*at(3.0), word(2.99), 0)]), Fetch()]))
    blocks, ending, _ = outcome(device, rest)
    assert ending.kind is EndingKind.CUT_OFF
    assert column(blocks, "voltage_V") == pytest.approx([2.99, 2.9])
    assert flags(blocks) == [0, Flag.AFTER_CROSSING]


def test_rows_that_were_left_out_and_overloads_are_flagged() -> None:
    device = scripted(
        Fetch([ROWS[0]], skipped=2),
        Fetch([ROWS[2]]),
        Fetch([ROWS[3]], state=STOPPED, overflow=1),
    )
    blocks, _, _ = outcome(device, CHARGE)
    assert flags(blocks) == [Flag.MISSING, Flag.MISSING, Flag.SATURATED]


def test_rows_are_fetched_until_the_channel_has_none_left() -> None:
    stopped = [Fetch([row], state=STOPPED, left=20) for row in ROWS[:3]]
    slow = Fetch(state=STOPPED, left=20)
    device = scripted(*stopped, slow, Fetch([ROWS[3]], state=STOPPED))
    blocks, ending, _ = outcome(device, CHARGE)
    assert len(column(blocks, "voltage_V")) == 4
    assert ending.kind is EndingKind.COMPLETED


def test_a_channel_that_keeps_its_rows_to_itself_is_an_error() -> None:
    device = scripted(Fetch(ROWS[:1]), *[Fetch(state=STOPPED, left=20)] * 30)
    with pytest.raises(InstrumentError, match="has 20 bytes of rows, and does not give them"):
        outcome(device, CHARGE)


def test_a_start_without_effect_is_an_error() -> None:
    with pytest.raises(InstrumentError, match="took the start, and does not run"):
        outcome(StandIn(), CHARGE)


def test_a_channel_that_runs_without_rows_is_stopped() -> None:
    device = scripted(*[Fetch()] * 200)
    with pytest.raises(InstrumentError, match="has had no row for"):
        outcome(device, CHARGE)
    assert device.state == STOPPED


def test_rows_of_something_else_are_an_error() -> None:
    with pytest.raises(InstrumentError, match="technique 5 of 1: the channel runs something else"):
        outcome(scripted(Fetch(ROWS, index=4)), CHARGE)


def test_a_failing_call_is_told_by_name_and_stops_the_channel() -> None:
    device = scripted(Fetch(ROWS[:1]), Fetch(ROWS[1:2]))

    async def act(driver: Biologic) -> None:
        async with driver.run(CHARGE, LIMITS) as running:
            async for _ in running:
                device.errors["BL_GetData"] = -200

    with pytest.raises(InstrumentError, match=r"BL_GetData: .* \(ERR_COMM_COMMFAILED, -200\)"):
        driven(device, act)
    assert device.state == STOPPED


def test_a_missing_technique_file_is_told_by_its_path_before_anything_starts() -> None:
    device = StandIn(errors={"BL_LoadTechnique": -400})
    with pytest.raises(
        InstrumentError, match=r"BL_LoadTechnique \(cplimit\.ecc\): .* is not there"
    ):
        outcome(device, CHARGE)
    assert device.count("StartChannel") == 0


# --- Sweeps and spectra -------------------------------------------------------------------------


def sweep_rows(rate_V_per_s: float) -> list[Fetch]:
    times = [float(time_s) for time_s in range(1, 21)]
    volts = [3.01 - abs(0.01 - rate_V_per_s * time_s) for time_s in times]
    lines = [
        (*at(time_s), word(volt), word(1e-4), word(volt), 0)
        for time_s, volt in zip(times, volts, strict=True)
    ]
    return [Fetch(lines[:10]), Fetch(lines[10:], state=STOPPED)]


def test_a_sweep_is_complete_after_its_time() -> None:
    blocks, ending, _ = outcome(scripted(*sweep_rows(1e-3)), SWEEP)
    assert ending.kind is EndingKind.COMPLETED
    assert max(column(blocks, "voltage_V")) == pytest.approx(3.01)
    assert column(blocks, "current_A") == pytest.approx([1e-4] * 20)


@pytest.mark.parametrize("rate_V_per_s", [1.0, 1e-6])
def test_a_sweep_at_the_rate_of_another_unit_is_stopped(rate_V_per_s: float) -> None:
    device = scripted(*sweep_rows(rate_V_per_s))
    with pytest.raises(InstrumentError, match='"scan rate unit"'):
        outcome(device, SWEEP)
    assert device.state == STOPPED


def test_the_rate_of_a_sweep_of_a_few_steps_is_not_judged() -> None:
    short = SWEEP.model_copy(update={"vertices_V": (3.005,)})
    assert program(short).rate_V_per_s == 0.0
    assert program(SWEEP).rate_V_per_s == 1e-3


def test_too_much_current_in_a_sweep_is_the_hosts_trip() -> None:
    row = (*at(1.0), word(3.0), word(6e-3), word(3.0), 0)
    device = scripted(Fetch([row]), Fetch())
    _, ending, _ = outcome(device, SWEEP)
    assert ending == Ending(EndingKind.TRIPPED, "current at or above 5 mA", on_device=False)
    assert device.state == STOPPED


def test_the_parts_of_a_chain_follow_each_other_in_time() -> None:
    sweep = Sweep(start_V=3.0, end_V=3.2, vertices_V=(3.1, 3.0, 3.2, 3.1), rate_V_per_s=0.1)
    first = [(*at(each), 0, word(0.0), word(3.0 + 0.1 * each), 0) for each in (0.5, 1.0)]
    second = [(*at(each), 0, word(0.0), word(3.2), 0) for each in (0.5, 2.0)]
    device = scripted(
        Fetch(first, index=0), Fetch(second[:1], index=1), Fetch(second[1:], index=1, start_s=4.0,
                                                              state=STOPPED)
    )  # fmt: skip
    blocks, ending, running = outcome(device, sweep)
    assert [each.file for each in device.loaded] == ["cv.ecc", "cv.ecc"]
    assert [(each.first, each.last) for each in device.loaded] == [(True, False), (False, True)]
    times_s = [time_s - running.started_s for block in blocks for time_s in block.time_s]
    assert times_s == pytest.approx([0.5, 1.0, 4.5, 6.0])
    assert ending.kind is EndingKind.COMPLETED


def test_a_spectrum_tells_the_voltage_at_rest_before_it() -> None:
    rest = [(*at(each), word(3.61), 0) for each in (0.5, 1.0)]
    bias = (*at(0.0), word(3.61), word(0.0))
    points = [spectrum_row(frequency_Hz, -0.5) for frequency_Hz in (1e4, 1e3, 1e2)]
    device = scripted(
        Fetch(rest, index=0),
        Fetch([bias], index=1, start_s=1.0),
        Fetch(points[:2], index=1, process=1, start_s=1.0),
        Fetch(points[2:], index=1, process=1, start_s=1.0, state=STOPPED),
    )
    blocks, ending, running = outcome(device, SPECTRUM)
    assert ending == Ending(EndingKind.COMPLETED)
    assert running.open_circuit_V == pytest.approx(3.61)
    assert column(blocks, "frequency_Hz") == [1e4, 1e3, 1e2]
    expected = [cmath.rect(10.0, -0.5)] * 3
    assert column(blocks, "impedance_real_ohm") == pytest.approx([z.real for z in expected])
    assert column(blocks, "impedance_imag_ohm") == pytest.approx([z.imag for z in expected])
    assert blocks[0].time_s[0] - running.started_s == pytest.approx(0.25)


def test_a_spectrum_that_ends_early_is_no_success() -> None:
    bias = SPECTRUM.model_copy(update={"bias_V": 3.7})
    row = spectrum_row(1e4, -0.5, current_A=0.0)
    blocks, ending, _ = outcome(scripted(Fetch([row], process=1, state=STOPPED)), bias)
    assert ending.detail == "the instrument ended after 1 of 3 points"
    assert flags(blocks) == [Flag.UNDERRANGE]
    assert math.isnan(column(blocks, "impedance_real_ohm")[0])


# --- Safe state ---------------------------------------------------------------------------------


def test_leaving_early_stops_the_channel_and_reads_that_back() -> None:
    device = scripted(Fetch(ROWS[:1]), *[Fetch()] * 9)

    async def act(driver: Biologic) -> Any:
        async with driver.run(CHARGE, LIMITS) as running:
            await anext(aiter(running))
        return running.ending

    ending = driven(device, act)
    assert ending == Ending(EndingKind.ABORTED, "ended by the host", on_device=False)
    assert device.calls[-2:] == ["StopChannel", "GetCurrentValues"]
    assert device.state == STOPPED


def test_cancelled_at_any_time_the_channel_is_stopped() -> None:
    async def consumed(driver: Biologic) -> None:
        async with driver.run(CHARGE, LIMITS) as running:
            async for _ in running:
                await asyncio.sleep(0.3)

    for tenths in range(30):
        device = scripted(*[Fetch([row]) for row in ROWS[:3]], *[Fetch()] * 20)

        async def act(driver: Biologic, after_s: float = tenths / 10) -> None:
            task = asyncio.create_task(consumed(driver))
            await asyncio.sleep(after_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        driven(device, act)
        assert device.state == STOPPED
        assert device.calls[-2:] == ["StopChannel", "GetCurrentValues"] or tenths == 0


def test_a_channel_that_does_not_stop_is_said_to_be_on() -> None:
    device = scripted(Fetch(ROWS[:1]), *[Fetch()] * 99)

    async def act(driver: Biologic) -> None:
        async with driver.run(CHARGE, LIMITS) as running:
            await anext(aiter(running))
            device.deaf = True

    with pytest.raises(InstrumentError, match="the cell may still be on: was told to stop"):
        driven(device, act)
    assert device.count("StopChannel") > 10


def test_a_stop_that_fails_is_tried_again() -> None:
    device = StandIn(errors={"BL_StopChannel": -202}, state=STOPPED)

    async def act(driver: Biologic) -> Any:
        device.state = RUNNING
        asyncio.get_running_loop().call_later(2.0, device.errors.clear)
        return await driver.quiet()

    result = driven(device, act)
    assert result.confirmed
    assert result.state == "stopped, cell open (3.5 V)"


def test_quiet_says_honestly_that_it_does_not_know() -> None:
    device = StandIn()

    async def act(driver: Biologic) -> Any:
        device.errors |= {"BL_StopChannel": -200, "BL_GetCurrentValues": -200}
        return await driver.quiet()

    result = driven(device, act)
    assert not result.confirmed
    assert "cell state unknown" in result.state
    assert "ERR_COMM_COMMFAILED" in result.state


def test_quiet_ends_a_technique_under_way() -> None:
    device = scripted(Fetch(ROWS[:1]), *[Fetch()] * 99)

    async def act(driver: Biologic) -> Any:
        async with driver.run(CHARGE, LIMITS) as running:
            await anext(aiter(running))
            outcome = await driver.quiet()
            left = [block async for block in running]
        return outcome.confirmed, left, running.ending

    confirmed, left, ending = driven(device, act)
    assert (confirmed, left) == (True, [])
    assert ending.kind is EndingKind.ABORTED


# --- The thread, and the bench ------------------------------------------------------------------


def with_dll(
    monkeypatch: pytest.MonkeyPatch,
    device: StandIn,
    act: Callable[[Biologic], Coroutine[Any, Any, Any]],
) -> Any:
    """Act on a driver that loads its library as it would the DLL."""
    monkeypatch.setattr(biologic, "load", lambda _path, _packing: device.library())

    async def scenario() -> Any:
        driver = Biologic("pstat", pipe()[0], OPTIONS)
        await driver.connect()
        try:
            return await act(driver)
        finally:
            await driver.close()

    return run(scenario(), virtual=True)


def test_calls_of_the_dll_leave_the_loop_and_virtual_time_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = set()

    class Watched(StandIn):
        def BL_GetData(self, *arguments: Any) -> None:
            threads.add(threading.current_thread().name)
            super().BL_GetData(*arguments)

    device = Watched(script=deque([Fetch(ROWS[:3]), Fetch(ROWS[3:], state=STOPPED)]))

    async def act(driver: Biologic) -> float:
        started_s = asyncio.get_running_loop().time()
        async with driver.run(CHARGE, LIMITS) as running:
            blocks = [block async for block in running]
        assert len(column(blocks, "voltage_V")) == 4
        return asyncio.get_running_loop().time() - started_s

    assert with_dll(monkeypatch, device, act) == pytest.approx(2.0)
    assert threads == {"pstat_0"}
    assert device.calls[-1] == "Disconnect"


def test_cancelled_while_the_dll_starts_the_channel_it_is_stopped_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, entered = threading.Event(), threading.Event()

    class Slow(StandIn):
        def BL_StartChannel(self) -> None:
            entered.set()
            assert release.wait(10)
            super().BL_StartChannel()

    device = Slow(script=deque([Fetch()] * 99))

    async def act(driver: Biologic) -> None:
        async def started() -> None:
            async with driver.run(CHARGE, LIMITS):
                pass

        task = asyncio.create_task(started())
        assert await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        asyncio.get_running_loop().call_soon(release.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    with_dll(monkeypatch, device, act)
    assert device.state == STOPPED
    assert device.calls[-4:-1] == ["StartChannel", "StopChannel", "GetCurrentValues"]


def test_a_library_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biologic, "_HUNG_S", -4.9)
    release = threading.Event()

    class Hung(StandIn):
        def BL_GetCurrentValues(self, values: Any) -> None:
            assert release.wait(10)
            super().BL_GetCurrentValues(values)

    device = Hung()
    monkeypatch.setattr(biologic, "load", lambda _path, _packing: device.library())

    async def scenario() -> None:
        driver = Biologic("pstat", pipe()[0], OPTIONS)
        await driver.connect()
        try:
            with pytest.raises(InstrumentTimeout, match=r"library has not answered for 0\.1 s"):
                async with driver.run(CHARGE, LIMITS):
                    pass
        finally:
            release.set()
            await driver.close()

    run(scenario())


@pytest.mark.skipif(sys.platform == "win32", reason="there the library would be looked for")
def test_a_bench_file_reaches_it_without_a_stream(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from cellbench_drivers.biologic import Biologic\n")
    entry = {"driver": "own.py:Biologic", "port": "library", **OPTIONS}
    file = BenchFile.model_validate({"bench": "b", "instruments": {"pstat": entry}})
    assert not file.is_simulated

    async def open_stream(name: str, entry: InstrumentEntry, driver: Driver) -> Stream:
        return await open_instrument(name, entry, driver, None)

    async def scenario() -> None:
        async with connected(file, open_stream, simulated=False, beside=tmp_path):
            pass

    with pytest.raises(InstrumentError, match="pstat: BioLogic's library is a DLL for Windows"):
        run(scenario())


def test_a_channel_behind_the_library_has_one_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "locks_directory", lambda: tmp_path)
    (tmp_path / "own.py").write_text("from cellbench_drivers.biologic import Biologic\n")
    entry = {"driver": "own.py:Biologic", "port": "library", **OPTIONS}
    file = BenchFile.model_validate({"bench": "b", "instruments": {"pstat": entry}})
    place = "library, 192.109.209.128, channel 2, unit 1"
    with owned(file, "a test", beside=tmp_path):
        assert "a test" in str(ownership.owner_of(place))
    assert ownership.owner_of(place) is None
