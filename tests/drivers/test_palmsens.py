"""The PalmSens driver against scripted exchanges: the frames of the manual, and what goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError, InstrumentTimeout
from cellbench.instruments.readings import Block, EndingKind, Flag, Identity
from cellbench.instruments.roles import Channel
from cellbench.instruments.techniques import (
    ConstantCurrent,
    CutOff,
    ElectricalLimits,
    Impedance,
    Rest,
    Technique,
)
from cellbench.transport import pipe
from cellbench_drivers.palmsens import PalmSens

if TYPE_CHECKING:
    from tests.drivers.conftest import Answer, ScriptedInstrument

    Scripted = type[ScriptedInstrument]

LIMITS = ElectricalLimits(voltage_min_V=2.0, voltage_max_V=4.9, current_max_A=5e-3)
CHARGE = ConstantCurrent(
    current_A=1e-3, duration_s=3, cut_offs=(CutOff(quantity="voltage", above=True, value=4.3),)
)
SPECTRUM = Impedance(
    frequency_max_Hz=1e5, frequency_min_Hz=1e4, points_per_decade=1, amplitude_V=0.01
)

IDLE: tuple[bytes, Answer] = (b"\nZ\n", b"Z!0006\n")
CELL_OFF: tuple[bytes, Answer] = (b"e\ncell_off\n\n", b"e\n\n")
IDENTIFY: list[tuple[bytes, Answer]] = [
    IDLE,
    CELL_OFF,
    (b"t\n", b"tes4_hr1500#Mar 12 2026 14:28:01\nR*\n"),
    (b"i\n", b"iES4HR20B0008\n"),
    (b"v\n", b"v01.09.00\n"),
    (b"CC\n", b"CC00002F0000003FFFFF98FF00000002\n"),
    (b"CM\n", b"CM0003FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE\n"),
]


def row(voltage_V: float, current_A: float, time_s: float, metadata: str = ",10,218") -> bytes:
    """A package as the instrument prints it: micro for volts, nano for amperes, milli for time."""
    voltage = f"ab{round(voltage_V * 1e6) + (1 << 27):07X}u"
    current = f"ba{round(current_A * 1e9) + (1 << 27):07X}n{metadata}"
    return f"P{voltage};{current};eb{round(time_s * 1e3) + (1 << 27):07X}m\n".encode()


ROWS: list[tuple[float, bytes]] = [
    (0.0, b"e\nM000A\n"),
    (1.1, row(4.0, 1e-3, 1.0)),
    (1.0, row(4.1, 1e-3, 2.0)),
    (1.0, row(4.2, 1e-3, 3.0)),
]


async def outcome(driver: PalmSens, technique: Technique) -> tuple[list[Block], EndingKind]:
    blocks = []
    async with driver.run(technique, LIMITS) as running:
        async for block in running:
            blocks.append(block)  # noqa: PERF401
    assert running.ending is not None
    return blocks, running.ending.kind


def played(
    scripted: Scripted, answer: Answer, *after: tuple[bytes, Answer], technique: Technique = CHARGE
) -> tuple[list[Block], EndingKind]:
    """What comes of a technique whose script is answered so."""

    async def scenario() -> tuple[list[Block], EndingKind]:
        async with scripted((b"e\nvar p\n...", answer), *after) as instrument:
            return await outcome(PalmSens("pstat", instrument.stream, {}), technique)

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_channel() -> None:
    assert isinstance(PalmSens("pstat", pipe()[0], {}), Channel)


def test_connecting_opens_the_cell_and_identifies_the_instrument(scripted: Scripted) -> None:
    async def scenario() -> tuple[Identity, PalmSens]:
        async with scripted(*IDENTIFY) as instrument:
            driver = PalmSens("pstat", instrument.stream, {})
            return await driver.connect(), driver

    identity, driver = run(scenario(), virtual=True)
    assert identity == Identity(
        "PalmSens EmStat4 HR",
        "ES4HR20B0008",
        "es4_hr1500#Mar 12 2026 14:28:01",
        ("MethodSCRIPT 01.09.00",),
        found_active=False,
    )
    assert driver.capabilities.voltage_max_V == 6.0
    assert driver.capabilities.impedance is not None
    assert driver.capabilities.impedance.frequency_max_Hz == 200e3
    assert driver.capabilities.impedance.galvanostatic


def test_connecting_aborts_what_a_dead_host_left_running(scripted: Scripted) -> None:
    left = (b"\nZ\n", [(0.0, row(4.0, 1e-3, 77.0)), (0.7, b"Z\n"), (0.1, b"*\n\n")])

    async def scenario() -> Identity:
        async with scripted(left, *IDENTIFY[1:]) as instrument:
            return await PalmSens("pstat", instrument.stream, {}).connect()

    assert "a script was running: aborted" in run(scenario(), virtual=True).remarks


def test_an_instrument_that_was_still_deaf_is_asked_once_more(scripted: Scripted) -> None:
    unheard: tuple[bytes, Answer] = (CELL_OFF[0], [])

    async def scenario() -> Identity:
        async with scripted(IDLE, unheard, *IDENTIFY) as instrument:
            return await PalmSens("pstat", instrument.stream, {}).connect()

    assert run(scenario(), virtual=True).serial == "ES4HR20B0008"


def test_old_firmware_without_a_version_command_is_accepted(scripted: Scripted) -> None:
    exchanges = [*IDENTIFY]
    exchanges[4] = (b"v\n", b"v!0003\n")

    async def scenario() -> Identity:
        async with scripted(*exchanges) as instrument:
            return await PalmSens("pstat", instrument.stream, {}).connect()

    assert "MethodSCRIPT version not told" in run(scenario(), virtual=True).remarks


def test_another_instrument_than_the_bench_says_is_refused(scripted: Scripted) -> None:
    async def scenario() -> None:
        async with scripted(*IDENTIFY[:5]) as instrument:
            await PalmSens("pstat", instrument.stream, {"model": "nexus"}).connect()

    with pytest.raises(InstrumentError, match="is emstat4 hr, the bench says nexus"):
        run(scenario(), virtual=True)


def test_a_step_gives_its_rows_at_the_times_of_the_instrument(scripted: Scripted) -> None:
    blocks, kind = played(scripted, [*ROWS, (0.0, b"*\n\n")])
    assert kind is EndingKind.COMPLETED
    assert [block.columns["voltage_V"][0] for block in blocks] == pytest.approx([4.0, 4.1, 4.2])
    assert [block.columns["current_A"][0] for block in blocks] == pytest.approx([1e-3] * 3)
    assert [block.time_s[0] for block in blocks] == pytest.approx([1.1, 2.1, 3.1], abs=1e-5)
    assert [block.flags[0] for block in blocks] == [0, 0, 0]


def test_the_clock_of_the_instrument_decides_when_the_wire_stutters(scripted: Scripted) -> None:
    late = [ROWS[0], ROWS[1], (1.9, ROWS[2][1]), (0.1, ROWS[3][1]), (0.0, b"*\n\n")]
    blocks, _ = played(scripted, late)
    spacing = [b.time_s[0] - a.time_s[0] for a, b in itertools.pairwise(blocks)]
    assert spacing == pytest.approx([1.0, 1.0])


def test_a_cut_off_is_told_by_the_instrument(scripted: Scripted) -> None:
    _, kind = played(scripted, [*ROWS[:2], (1.0, b"TCUT 0\n*\n\n")])
    assert kind is EndingKind.CUT_OFF


def test_a_trip_is_told_by_the_instrument(scripted: Scripted) -> None:
    async def scenario() -> str:
        answer = [*ROWS[:2], (1.0, b"TTRIP voltage max\n*\n\n")]
        async with scripted((b"e\nvar p\n...", answer)) as instrument:
            driver = PalmSens("pstat", instrument.stream, {})
            async with driver.run(CHARGE, LIMITS) as running:
                async for _ in running:
                    pass
        assert running.ending is not None
        assert running.ending.kind is EndingKind.TRIPPED
        assert running.ending.on_device
        return running.ending.detail

    assert run(scenario(), virtual=True) == "voltage max, limits are 2 V to 4.9 V, 0.005 A"


def test_a_script_that_stops_early_without_a_word_is_not_complete(scripted: Scripted) -> None:
    long = CHARGE.model_copy(update={"duration_s": 3600.0})
    answer = [*ROWS, (0.0, b"*\n\n")]
    _, kind = played(scripted, answer, IDLE, CELL_OFF, technique=long)
    assert kind is EndingKind.ABORTED


def test_lost_rows_are_flagged_on_the_next_one(scripted: Scripted) -> None:
    blocks, _ = played(scripted, [ROWS[0], ROWS[1], (2.0, ROWS[3][1]), (0.0, b"*\n\n")])
    assert [block.flags[0] for block in blocks] == [0, Flag.MISSING]


def test_a_garbled_row_is_lost_but_the_step_goes_on(scripted: Scripted) -> None:
    answer = [ROWS[0], ROWS[1], (1.0, b"Pab8493E\xfe0u;ba812D450n\n"), ROWS[3], (0.0, b"*\n\n")]
    blocks, kind = played(scripted, answer)
    assert [block.flags[0] for block in blocks] == [0, Flag.MISSING]
    assert kind is EndingKind.COMPLETED


def test_a_row_whose_clock_goes_backwards_is_not_believed(scripted: Scripted) -> None:
    answer = [*ROWS[:3], (0.5, row(4.9, 1e-3, 0.5)), ROWS[3], (0.0, b"*\n\n")]
    blocks, _ = played(scripted, answer)
    assert [block.flags[0] for block in blocks] == [0, 0, Flag.MISSING]


def test_nothing_but_garbage_is_an_error_and_the_cell_is_opened(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match="package"):
        played(scripted, [ROWS[0], (1.0, b"Pgarbage\n" * 5)], IDLE, CELL_OFF)


def test_flags_of_the_instrument_reach_the_row(scripted: Scripted) -> None:
    answer = [ROWS[0], (1.0, row(4.0, 1e-3, 3.0, ",13,218")), (0.0, b"*\n\n")]
    blocks, _ = played(scripted, answer)
    assert blocks[0].flags[0] == Flag.LATE | Flag.SATURATED


def test_at_rest_no_current_flows(scripted: Scripted) -> None:
    answer = [(0.0, b"e\nM000B\n"), (1.0, b"Pab8493E00u;eb80003E8m\n"), (0.0, b"*\n\n")]
    blocks, kind = played(scripted, answer, technique=Rest(duration_s=1))
    assert kind is EndingKind.COMPLETED
    assert blocks[0].columns == {"voltage_V": (4.8,), "current_A": (0.0,)}


def test_a_spectrum_has_its_own_columns_and_the_sign_of_the_instrument(scripted: Scripted) -> None:
    points = b"PdcDF5E100m;cc812D644m;cd21CF738u;eb80186A0u\n"
    answer = [(0.0, b"e\nPab8493E00u\nM000D\n"), (0.1, points * 2), (0.0, b"*\n\n")]
    blocks, kind = played(scripted, answer, technique=SPECTRUM)
    assert kind is EndingKind.COMPLETED
    assert {name: column[0] for name, column in blocks[0].columns.items()} == {
        "frequency_Hz": pytest.approx(1e5),
        "impedance_real_ohm": pytest.approx(1234.5),
        "impedance_imag_ohm": pytest.approx(-98.765),
    }


def test_a_spectrum_with_points_missing_is_not_complete(scripted: Scripted) -> None:
    answer = [(0.0, b"e\nPab8493E00u\nM000D\n"), (0.1, b"*\n\n")]
    _, kind = played(scripted, answer, IDLE, CELL_OFF, technique=SPECTRUM)
    assert kind is EndingKind.ABORTED


def test_a_reading_of_nan_is_kept_as_nan(scripted: Scripted) -> None:
    line = b"Pab     nan;ba812D450n;eb8000BB8m\n"
    blocks, _ = played(scripted, [ROWS[0], (1.0, line), (0.0, b"*\n\n")])
    assert math.isnan(blocks[0].columns["voltage_V"][0])
    assert blocks[0].flags[0] & Flag.SATURATED


def test_a_script_that_does_not_parse_names_its_line(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match=r"not known \(line 1 of"):
        played(scripted, b"e!4001: Line 1, Col 5\n", IDLE, CELL_OFF)


def test_after_a_runtime_error_the_cell_is_opened_and_that_is_checked(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match="critical overload"):
        played(scripted, [*ROWS[:2], (0.5, b"!0032: Line 17\n")], IDLE, CELL_OFF)


def test_a_cell_that_cannot_be_opened_is_said_to_be_on(scripted: Scripted) -> None:
    refused: tuple[bytes, Answer] = (b"e\ncell_off\n\n", b"e\n!0032: Line 1\n")
    with pytest.raises(InstrumentError, match="may still be on"):
        played(scripted, [*ROWS[:2], (0.5, b"!0032: Line 17\n")], IDLE, refused)


def test_leaving_early_aborts_and_opens_the_cell(scripted: Scripted) -> None:
    abort: tuple[bytes, Answer] = (b"\nZ\n", [(0.6, ROWS[2][1] + b"Z\n"), (0.1, b"*\n\n")])

    async def scenario() -> None:
        async with scripted((b"e\nvar p\n...", ROWS[:2]), abort, CELL_OFF) as instrument:
            driver = PalmSens("pstat", instrument.stream, {})
            async with driver.run(CHARGE, LIMITS) as running:
                async for _ in running:
                    break
            assert running.ending is not None
            assert running.ending.kind is EndingKind.ABORTED
            assert not running.ending.on_device

    run(scenario(), virtual=True)


def test_a_cancelled_step_still_opens_the_cell(scripted: Scripted) -> None:
    async def scenario() -> None:
        async with scripted((b"e\nvar p\n...", ROWS[:2]), (b"\nZ\n", b"Z\n*\n\n"), CELL_OFF) as it:
            step = asyncio.create_task(outcome(PalmSens("pstat", it.stream, {}), CHARGE))
            await asyncio.sleep(1.5)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step

    run(scenario(), virtual=True)


def test_quiet_ends_a_step_that_another_task_is_reading(scripted: Scripted) -> None:
    async def scenario() -> tuple[bool, EndingKind]:
        stop: tuple[bytes, Answer] = (b"Z\n", [(0.4, b"Z\n*\n\n")])
        exchanges = ((b"e\nvar p\n...", ROWS[:2]), stop, IDLE, CELL_OFF, IDLE, CELL_OFF)
        async with scripted(*exchanges) as instrument:
            driver = PalmSens("pstat", instrument.stream, {})
            step = asyncio.create_task(outcome(driver, CHARGE))
            await asyncio.sleep(1.5)
            quiet = await driver.quiet()
            return quiet.confirmed, (await step)[1]

    assert run(scenario(), virtual=True) == (True, EndingKind.ABORTED)


def test_quiet_confirms_that_the_cell_is_off(scripted: Scripted) -> None:
    async def scenario() -> tuple[bool, str]:
        async with scripted(IDLE, CELL_OFF) as instrument:
            result = await PalmSens("pstat", instrument.stream, {}).quiet()
            return result.confirmed, result.state

    assert run(scenario(), virtual=True) == (True, "cell off")


def test_quiet_on_a_dead_line_is_honest_and_ends() -> None:
    async def scenario() -> tuple[bool, float]:
        result = await PalmSens("pstat", pipe()[0], {"abort within": "20 s"}).quiet()
        return result.confirmed, asyncio.get_running_loop().time()

    confirmed, took_s = run(scenario(), virtual=True)
    assert not confirmed
    assert took_s < 30.0


def test_an_instrument_that_falls_silent_in_a_step_is_a_timeout(scripted: Scripted) -> None:
    async def scenario() -> None:
        async with scripted((b"e\nvar p\n...", ROWS[:2])) as instrument:
            await outcome(PalmSens("pstat", instrument.stream, {"abort_within": 1.0}), CHARGE)

    with pytest.raises(InstrumentError, match="may still be on") as caught:
        run(scenario(), virtual=True)
    assert isinstance(caught.value.__cause__, InstrumentTimeout)


def test_what_the_instrument_cannot_do_is_refused_before_anything_is_sent() -> None:
    async def scenario() -> None:
        driver = PalmSens("pstat", pipe()[0], {"model": "emstat pico"})
        async with driver.run(CHARGE.model_copy(update={"current_A": 1.0}), LIMITS):
            pass

    with pytest.raises(InstrumentError, match="current 1 A is outside"):
        run(scenario(), virtual=True)


def test_options_are_checked() -> None:
    driver = PalmSens("pstat", pipe()[0], {"f max": "1 MHz"})
    assert driver.capabilities.impedance is not None
    assert driver.capabilities.impedance.frequency_max_Hz == 1e6
    assert "f_max" not in driver.capabilities.unverified
    with pytest.raises(InputError, match=r"pstat: fmax.*options are: abort_within, f_max, model"):
        PalmSens("pstat", pipe()[0], {"fmax": "1 MHz"})
    with pytest.raises(InputError, match="pstat: f_max"):
        PalmSens("pstat", pipe()[0], {"f_max": "1 MV"})
