"""The Keithley driver against scripted bytes: the frames of the manuals, and what goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.readings import Block, Ending, EndingKind, Flag, Identity
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
from cellbench.transport import pipe
from cellbench_drivers import keithley_2450
from cellbench_drivers.keithley import Keithley
from cellbench_drivers.keithley_program import Reach, program_for, staircase

if TYPE_CHECKING:
    from tests.drivers.conftest import Answer, ScriptedInstrument

    Scripted = type[ScriptedInstrument]
    Exchange = tuple[bytes, Answer]

LIMITS = ElectricalLimits(voltage_min_V=2.0, voltage_max_V=4.9, current_max_A=5e-3)
REACH = Reach(20.0, 1.05, 2500)
CHARGE = ConstantCurrent(
    current_A=1e-3, duration_s=3, cut_offs=(CutOff(quantity="voltage", above=True, value=4.3),)
)
HOLD = ConstantVoltage(
    voltage_V=4.3,
    duration_s=5,
    cut_offs=(CutOff(quantity="current", above=False, value=1e-4, after_s=2),),
)
NO_ERROR = b'0,"No error;0,0,0"\n'
CHARGE_LINES = b"""*CLS
:TRIG:LOAD "Empty"
:SOUR:FUNC CURR
:SENS:FUNC "VOLT"
:SENS:VOLT:RANG:AUTO ON
:SENS:VOLT:NPLC 1
:SENS:VOLT:RSEN ON
:OUTP:CURR:SMOD HIMP
:SOUR:VOLT:PROT NONE
:SOUR:CURR:RANG 0.001
:SOUR:CURR:VLIM 4.9445
:SOUR:CURR:READ:BACK ON
:SOUR:CURR 0.001
:SOUR:VOLT:PROT PROT5
:TRAC:CLE "cell"
:TRIG:BLOC:SOUR:STAT 1,ON
:TRIG:BLOC:MEAS 2,"cell"
:TRIG:BLOC:BRAN:LIM:CONS 3,ABOV,4.3,4.3,8,2
:TRIG:BLOC:BRAN:LIM:CONS 4,OUT,1.995,4.905,8,2
:TRIG:BLOC:DEL:CONS 5,0.92
:TRIG:BLOC:BRAN:COUN 6,3,2
:TRIG:BLOC:MEAS 7,"cell"
:TRIG:BLOC:SOUR:STAT 8,OFF
:SYST:ERR?
"""
SET_UP: list[tuple[bytes, bytes]] = [
    (CHARGE_LINES, NO_ERROR),
    (b":SOUR:CURR:VLIM?\n", b"+4.944500E+00\n"),
]
START: list[Exchange] = [*SET_UP, (b":INIT\n", b"")]
OFF: list[Exchange] = [
    (
        b":ABOR\n:OUTP:VOLT:SMOD HIMP\n:OUTP:CURR:SMOD HIMP\n:OUTP OFF\n:TRIG:STAT?\n",
        b"ABORTED;ABORTED;5\n",
    ),
    (b":OUTP:VOLT:SMOD?\n", b"HIMP\n"),
    (b":OUTP:CURR:SMOD?\n", b"HIMP\n"),
    (b":OUTP?\n", b"0\n"),
]
SEEN_OFF: Exchange = (b":OUTP?\n", b"0\n")
IDLE: Exchange = (b":TRIG:STAT?\n", b"IDLE;IDLE;8\n")
RUNNING: Exchange = (b":TRIG:STAT?\n", b"RUNNING;RUNNING;5\n")
RESET: list[Exchange] = [
    (
        b"*RST;:OUTP:VOLT:SMOD HIMP;:OUTP:CURR:SMOD HIMP\n"
        b':TRAC:DEL "cell"\n*CLS\n:TRAC:MAKE "cell",100000\n:ROUT:TERM FRON\n:SYST:ERR?\n',
        NO_ERROR,
    ),
    (b":ROUT:TERM?\n", b"FRON\n"),
]
IDENTIFY: list[Exchange] = [
    (b"*IDN?\n", b"KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c\n"),
    (b"*LANG?\n", b"SCPI\n"),
    SEEN_OFF,
]


def stored(count: int) -> tuple[bytes, bytes]:
    return b':TRAC:ACT? "cell"\n', b"%d\n" % count


def rows(first: int, *readings: tuple[float, float, float], status: int = 8) -> Exchange:
    """Readings, sources and relative times as the instrument prints them."""
    last = first + len(readings) - 1
    query = b':TRAC:DATA? %d,%d,"cell",READ,SOUR,REL,STAT\n' % (first, last)
    values = [f"{a:.6E},{b:.6E},{rel:.6f},{status}" for a, b, rel in readings]
    return query, (",".join(values) + "\n").encode()


def polled(count: int, reading: float, source: float, rel_s: float) -> list[Exchange]:
    """One more reading was found, and fetched."""
    return [stored(count), rows(count, (reading, source, rel_s))]


def silence(count: int) -> list[Exchange]:
    """Looks for a reading that does not come, until the state is asked for."""
    return [stored(count)] * 7


WHOLE = [
    *polled(1, 4.0, 1e-3, 0.0),
    *polled(2, 4.1, 1e-3, 1.0),
    *polled(3, 4.15, 1e-3, 2.0),
    *polled(4, 4.2, 1e-3, 3.0),
    IDLE,
    stored(4),
    SEEN_OFF,
]


async def outcome(driver: Keithley, technique: Technique) -> tuple[list[Block], Ending]:
    blocks = []
    async with driver.run(technique, LIMITS) as running:
        async for block in running:
            blocks.append(block)  # noqa: PERF401
    assert running.ending is not None
    return blocks, running.ending


def played(
    scripted: Scripted, *exchanges: Exchange, technique: Technique = CHARGE
) -> tuple[list[Block], Ending]:
    async def scenario() -> tuple[list[Block], Ending]:
        async with scripted(*exchanges) as instrument:
            return await outcome(Keithley("smu", instrument.stream, {}), technique)

    return run(scenario(), virtual=True)


def acted(
    scripted: Scripted, act: Callable[[Keithley], Awaitable[None]], *exchanges: Exchange
) -> None:
    async def scenario() -> None:
        async with scripted(*exchanges) as instrument:
            await act(Keithley("smu", instrument.stream, {}))

    run(scenario(), virtual=True)


# --- Connecting -----------------------------------------------------------------------------------


def test_it_plays_the_role_of_a_channel_without_impedance() -> None:
    driver = Keithley("smu", pipe()[0], {})
    assert isinstance(driver, Channel)
    assert driver.capabilities.impedance is None
    assert driver.capabilities.bounded_without_host
    assert driver.capabilities.on_device == {"duration", "voltage", "current"}


def connected(scripted: Scripted, options: dict[str, object], *exchanges: Exchange) -> Identity:
    async def scenario() -> Identity:
        async with scripted(*exchanges) as instrument:
            return await Keithley("smu", instrument.stream, options).connect()

    return run(scenario(), virtual=True)


def test_connecting_opens_the_relay_and_resets(scripted: Scripted) -> None:
    identity = connected(scripted, {}, *IDENTIFY, *OFF, *RESET)
    assert identity.model == "Keithley 2450"
    assert identity.serial == "04096331"
    assert identity.firmware == "1.6.7c"
    assert "firmware 1.6.7c has never been tried with cellbench" in identity.remarks


def test_connecting_says_that_a_dead_host_left_the_output_on(scripted: Scripted) -> None:
    on = [*IDENTIFY[:2], (b":OUTP?\n", b"1\n")]
    identity = connected(scripted, {}, *on, *OFF, *RESET)
    assert "its output was on: switched off" in identity.remarks


def test_connecting_waits_until_the_trigger_model_has_let_go(scripted: Scripted) -> None:
    aborting = (OFF[0][0], b"ABORTING;ABORTING;5\n")
    connected(scripted, {}, *IDENTIFY, aborting, IDLE, *OFF[1:], *RESET)


def test_another_model_than_the_bench_says_is_refused(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match="is a 2450, the bench says 2461"):
        connected(scripted, {"model": "2461"}, IDENTIFY[0])


def test_something_else_than_a_keithley_is_refused(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match="is no Keithley"):
        connected(scripted, {}, (b"*IDN?\n", b"JULABO CORIO CD\n"))


def test_another_command_set_is_refused_with_the_cure(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match=r'"SCPI2400": send \*LANG SCPI'):
        connected(scripted, {}, IDENTIFY[0], (b"*LANG?\n", b"SCPI2400\n"))


def test_an_off_state_that_would_load_the_cell_is_an_error(scripted: Scripted) -> None:
    normal = [OFF[0], (b":OUTP:VOLT:SMOD?\n", b"NORM\n")]
    with pytest.raises(InstrumentError, match='"NORM"'):
        connected(scripted, {}, *IDENTIFY, *normal * 3)


def test_a_refused_reset_names_the_complaint(scripted: Scripted) -> None:
    complaint = b'-113,"Undefined header;1;2015/05/06 12:57:04.484"\n'
    refused = [(RESET[0][0], complaint), (b":SYST:ERR?\n", NO_ERROR)]
    with pytest.raises(InstrumentError, match=r"refuses its set-up: -113 Undefined header$"):
        connected(scripted, {}, *IDENTIFY, *OFF, *refused)


# --- Trigger models -------------------------------------------------------------------------------


def model(technique: Technique, delay_s: float = 0.9) -> list[str]:
    return keithley_2450.trigger_commands(program_for(technique, LIMITS, REACH), delay_s)


def test_a_cut_off_counts_from_its_time_on() -> None:
    assert model(HOLD) == [
        ":TRIG:BLOC:SOUR:STAT 1,ON",
        ':TRIG:BLOC:MEAS 2,"cell"',
        ":TRIG:BLOC:BRAN:LIM:CONS 3,OUT,-0.0051,0.0051,12,2",
        ":TRIG:BLOC:DEL:CONS 4,0.9",
        ":TRIG:BLOC:BRAN:COUN 5,2,2",
        ':TRIG:BLOC:MEAS 6,"cell"',
        ":TRIG:BLOC:BRAN:LIM:CONS 7,IN,-0.0001,0.0001,12,6",
        ":TRIG:BLOC:BRAN:LIM:CONS 8,OUT,-0.0051,0.0051,12,6",
        ":TRIG:BLOC:DEL:CONS 9,0.9",
        ":TRIG:BLOC:BRAN:COUN 10,3,6",
        ':TRIG:BLOC:MEAS 11,"cell"',
        ":TRIG:BLOC:SOUR:STAT 12,OFF",
    ]


def test_a_sweep_recalls_its_steps_one_by_one() -> None:
    sweep = Sweep(start_V=3.0, end_V=3.0, vertices_V=(3.01,), step_V=0.005, rate_V_per_s=0.005)
    program = program_for(sweep, LIMITS, REACH)
    commands = list(keithley_2450.setup_commands(program, four_wire=True))
    assert ":SOUR:LIST:VOLT 3,3.005,3.01,3.005,3" in commands
    assert keithley_2450.trigger_commands(program, 0.9) == [
        ':TRIG:BLOC:CONF:REC 1,"VoltCustomSweepList",1',
        ":TRIG:BLOC:SOUR:STAT 2,ON",
        ":TRIG:BLOC:BRAN:ALW 3,5",
        ':TRIG:BLOC:CONF:NEXT 4,"VoltCustomSweepList"',
        ":TRIG:BLOC:DEL:CONS 5,0.9",
        ':TRIG:BLOC:MEAS 6,"cell"',
        ":TRIG:BLOC:BRAN:LIM:CONS 7,OUT,-0.0051,0.0051,9,6",
        ":TRIG:BLOC:BRAN:COUN 8,5,4",
        ":TRIG:BLOC:SOUR:STAT 9,OFF",
    ]


def test_a_long_staircase_goes_out_in_lines_of_a_hundred() -> None:
    sweep = Sweep(start_V=3.0, end_V=3.25, step_V=0.001, rate_V_per_s=0.001)
    program = program_for(sweep, LIMITS, REACH)
    lines = [
        line
        for line in keithley_2450.setup_commands(program, four_wire=False)
        if line.startswith(":SOUR:LIST")
    ]
    assert [line.count(",") + 1 for line in lines] == [100, 100, 51]
    assert [line.split(" ")[0] for line in lines] == [
        ":SOUR:LIST:VOLT",
        *[":SOUR:LIST:VOLT:APP"] * 2,
    ]


def test_a_staircase_that_is_too_long_takes_larger_steps_and_keeps_its_rate() -> None:
    sweep = Sweep(start_V=0.0, end_V=0.0, vertices_V=(5.0,), rate_V_per_s=1e-3)
    levels = staircase(sweep, 2500)
    assert 2400 < len(levels) <= 2500
    assert max(levels) == 5.0
    assert levels[-1] == 0.0
    program = program_for(sweep, LIMITS, REACH)
    assert program.interval_s * (program.rows - 1) == pytest.approx(sweep.duration_s)


def test_every_trigger_model_ends_with_the_output_off_and_every_branch_leads_there() -> None:
    cut_offs = tuple(CutOff(quantity="voltage", above=False, value=v, after_s=v) for v in (2, 3, 4))
    lines = model(CHARGE.model_copy(update={"duration_s": 100.0, "cut_offs": cut_offs}))
    assert lines[-1] == f":TRIG:BLOC:SOUR:STAT {len(lines)},OFF"
    branches = [line.split(",") for line in lines if "LIM" in line]
    assert {branch[-2] for branch in branches} == {str(len(lines))}
    measured = {line.split(" ")[1].split(",")[0] for line in lines if ":MEAS" in line}
    assert {branch[-1] for branch in branches} <= measured


def test_too_many_cut_offs_are_refused_before_anything_is_sent() -> None:
    many = tuple(
        CutOff(quantity="voltage", above=True, value=4.3, after_s=float(at)) for at in range(20)
    )
    technique = CHARGE.model_copy(update={"duration_s": 60.0, "cut_offs": many})
    with pytest.raises(InstrumentError, match="no room for so many cut-offs"):
        run(outcome(Keithley("smu", pipe()[0], {}), technique), virtual=True)


def test_a_rest_is_a_source_of_no_current() -> None:
    commands = list(
        keithley_2450.setup_commands(program_for(Rest(duration_s=3), LIMITS, REACH), four_wire=True)
    )
    assert ":SOUR:FUNC CURR" in commands
    assert ":SOUR:CURR:RANG 1e-06" in commands
    assert ":SOUR:CURR 0" in commands


# --- Running --------------------------------------------------------------------------------------


def test_a_step_gives_its_rows_at_the_times_of_the_instrument(scripted: Scripted) -> None:
    blocks, ending = played(scripted, *START, *WHOLE)
    assert ending == Ending(EndingKind.COMPLETED)
    assert [block.columns["voltage_V"][0] for block in blocks] == [4.0, 4.1, 4.15, 4.2]
    assert [block.columns["current_A"][0] for block in blocks] == [1e-3] * 4
    spacing = [b.time_s[0] - a.time_s[0] for a, b in itertools.pairwise(blocks)]
    assert spacing == pytest.approx([1.0] * 3)
    assert all(block.flags == [0] for block in blocks)


def test_rows_that_came_together_are_fetched_together(scripted: Scripted) -> None:
    readings = ((4.0, 1e-3, 0.5), (4.1, 1e-3, 1.5), (4.2, 1e-3, 2.5), (4.2, 1e-3, 3.5))
    blocks, ending = played(
        scripted, *START, stored(4), rows(1, *readings), IDLE, stored(4), SEEN_OFF
    )
    assert ending.kind is EndingKind.COMPLETED
    assert len(blocks) == 1
    first_s = blocks[0].time_s[0]
    assert [time_s - first_s for time_s in blocks[0].time_s] == pytest.approx([0, 1, 2, 3])


def test_a_cut_off_is_found_in_the_last_reading(scripted: Scripted) -> None:
    cut = [*WHOLE[:2], *polled(2, 4.31, 1e-3, 1.0), IDLE, stored(2), SEEN_OFF]
    _, ending = played(scripted, *START, *cut)
    assert ending == Ending(EndingKind.CUT_OFF, "voltage above 4.3 V", on_device=True)


def test_a_cut_off_by_less_than_is_printed_is_found_too(scripted: Scripted) -> None:
    # The instrument saw 4.3000001 V, and printed seven digits of it.
    cut = [*WHOLE[:2], *polled(2, 4.3, 1e-3, 1.0), *silence(2), IDLE, stored(2), SEEN_OFF]
    _, ending = played(scripted, *START, *cut)
    assert ending.kind is EndingKind.CUT_OFF


def test_a_trip_is_told_with_the_limits(scripted: Scripted) -> None:
    trip = [*WHOLE[:2], *polled(2, 1.9, 1e-3, 1.0), IDLE, stored(2), SEEN_OFF]
    _, ending = played(scripted, *START, *trip)
    assert ending == Ending(EndingKind.TRIPPED, "voltage outside 2 V to 4.9 V", on_device=True)


def test_an_overflow_is_a_trip_and_no_value(scripted: Scripted) -> None:
    trip = [*WHOLE[:2], *polled(2, 9.9e37, 1e-3, 1.0), IDLE, stored(2), SEEN_OFF]
    blocks, ending = played(scripted, *START, *trip)
    assert ending.kind is EndingKind.TRIPPED
    assert math.isnan(blocks[1].columns["voltage_V"][0])
    assert blocks[1].flags[0] & Flag.SATURATED


def test_a_trigger_model_that_ignores_a_crossing_is_aborted(scripted: Scripted) -> None:
    deaf = [*WHOLE[:2], *polled(2, 4.31, 1e-3, 1.0), RUNNING]
    looks = [exchange for _ in range(41) for exchange in (stored(2), RUNNING)]
    _, ending = played(scripted, *START, *deaf, *looks, *OFF, SEEN_OFF)
    assert ending == Ending(EndingKind.CUT_OFF, "voltage above 4.3 V", on_device=False)


def test_a_cut_off_on_what_is_controlled_is_the_hosts(scripted: Scripted) -> None:
    by_current = CHARGE.model_copy(
        update={"cut_offs": (CutOff(quantity="current", above=False, value=5e-4),)}
    )
    lines = CHARGE_LINES.replace(b":TRIG:BLOC:BRAN:LIM:CONS 3,ABOV,4.3,4.3,8,2\n", b"")
    for before, after in ((4, 3), (5, 4), (6, 5), (7, 6), (8, 7)):
        for verb in (b"CONS ", b"COUN ", b"MEAS ", b"STAT "):
            lines = lines.replace(verb + b"%d," % before, verb + b"%d," % after)
    lines = lines.replace(b"4.905,8,2", b"4.905,7,2")
    clamped = polled(1, 4.0, 1e-5, 0.0)
    exchanges = [(lines, NO_ERROR), *START[1:], *clamped, RUNNING, *OFF, SEEN_OFF]
    _, ending = played(scripted, *exchanges, technique=by_current)
    assert ending.kind is EndingKind.CUT_OFF
    assert not ending.on_device


def test_a_trigger_model_that_stops_early_without_a_reason_is_not_complete(
    scripted: Scripted,
) -> None:
    _, ending = played(scripted, *START, *WHOLE[:2], *silence(1), IDLE, stored(1), SEEN_OFF)
    assert ending == Ending(EndingKind.ABORTED, "the trigger model ended after 1 of 4 readings")


def test_a_failed_trigger_model_says_why_and_the_cell_is_opened(scripted: Scripted) -> None:
    failed = [
        *silence(1),
        (b":TRIG:STAT?\n", b"FAILED;FAILED;3\n"),
        (b":SYST:ERR?\n", b'5074,"Interlock;1;2026/11/21"\n'),
        (b":SYST:ERR?\n", NO_ERROR),
    ]
    with pytest.raises(InstrumentError, match="failed: 5074 Interlock"):
        played(scripted, *START, *WHOLE[:2], *failed, *OFF)


def test_a_garbled_block_is_fetched_again(scripted: Scripted) -> None:
    query, good = rows(2, (4.1, 1e-3, 1.0))
    garbled: list[Exchange] = [stored(2), (query, b"4.1E\xff+00,1\n"), (query, b"4.1,1\n")]
    garbled.append((query, good))
    blocks, ending = played(scripted, *START, *WHOLE[:2], *garbled, *WHOLE[4:])
    assert ending.kind is EndingKind.COMPLETED
    assert len(blocks) == 4


def test_a_garbled_state_does_not_end_a_step(scripted: Scripted) -> None:
    garbled: Exchange = (b":TRIG:STAT?\n", b"R?NNING;RUNNING;5\n")
    ended = [*WHOLE[:-3], garbled, IDLE, *WHOLE[-2:]]
    _, ending = played(scripted, *START, *ended)
    assert ending.kind is EndingKind.COMPLETED


def test_a_clock_of_the_instrument_that_goes_slower_is_no_silence(scripted: Scripted) -> None:
    # Twenty seconds of the host to one of the instrument: far beyond what days add up to.
    slow = [
        exchange
        for count in range(1, 5)
        for exchange in (
            (stored(count)[0], [(1.9 if count > 1 else 0.0, stored(count)[1])]),
            rows(count, (4.0, 1e-3, 0.1 * count)),
        )
    ]
    blocks, ending = played(scripted, *START, *slow, IDLE, stored(4), SEEN_OFF)
    assert ending.kind is EndingKind.COMPLETED
    assert len(blocks) == 4


def test_a_late_answer_is_not_taken_for_the_next_one(scripted: Scripted) -> None:
    query, good = rows(2, (4.1, 1e-3, 1.0))
    assert isinstance(good, bytes)
    late: list[Exchange] = [stored(2), (query, [(2.05, good)]), (query, good)]
    blocks, ending = played(scripted, *START, *WHOLE[:2], *late, *WHOLE[4:])
    assert ending.kind is EndingKind.COMPLETED
    assert len(blocks) == 4


def test_nothing_but_garbage_is_an_error_and_the_cell_is_opened(scripted: Scripted) -> None:
    query = b':TRAC:ACT? "cell"\n'
    with pytest.raises(InstrumentError, match='answers "what" to :TRAC:ACT'):
        played(scripted, *START, *[(query, b"what\n")] * 3, *OFF)


def test_a_buffer_that_somebody_cleared_is_an_error(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match="cleared its buffer"):
        played(scripted, *START, *WHOLE[:2], stored(0), *OFF)


def test_a_refused_set_up_leaves_the_output_off(scripted: Scripted) -> None:
    refused = [
        (CHARGE_LINES, b'-221,"Settings conflict;1;2026/11/21"\n'),
        (b":SYST:ERR?\n", b'-222,"Parameter data out of range;1;2026/11/21"\n'),
        (b":SYST:ERR?\n", NO_ERROR),
    ]
    match = "refuses its set-up: -221 Settings conflict; -222 Parameter data out of range"
    with pytest.raises(InstrumentError, match=match):
        played(scripted, *refused, *OFF)


def test_a_limit_that_the_instrument_changed_is_refused(scripted: Scripted) -> None:
    kept = (b":SOUR:CURR:VLIM?\n", b"+2.100000E+01\n")
    with pytest.raises(InstrumentError, match=r"keeps 21 as :SOUR:CURR:VLIM instead of 4\.9445"):
        played(scripted, START[0], kept, *OFF)


def test_an_output_that_stays_on_after_its_end_is_switched_off(scripted: Scripted) -> None:
    still_on: Exchange = (b":OUTP?\n", b"1\n")
    played(scripted, *START, *WHOLE[:-1], still_on, *OFF)


def test_an_output_that_cannot_be_switched_off_is_said_to_be_on(scripted: Scripted) -> None:
    on = [*OFF[:-1], (b":OUTP?\n", b"1\n")]
    with pytest.raises(InstrumentError, match="may still be on: keeps its output on"):
        played(scripted, *START, *WHOLE[:-1], on[-1], *on * 3)


def test_leaving_early_aborts_and_switches_off(scripted: Scripted) -> None:
    async def act(driver: Keithley) -> None:
        async with driver.run(CHARGE, LIMITS) as running:
            async for _ in running:
                break
        assert running.ending is not None
        assert running.ending.kind is EndingKind.ABORTED
        assert not running.ending.on_device

    acted(scripted, act, *START, *WHOLE[:2], *OFF)


def test_a_cancelled_step_still_switches_off(scripted: Scripted) -> None:
    async def act(driver: Keithley) -> None:
        step = asyncio.create_task(outcome(driver, CHARGE))
        await asyncio.sleep(0.8)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    acted(scripted, act, *START, *WHOLE[:2], *OFF)


def test_a_step_cancelled_amid_a_query_does_not_mistake_its_answer(scripted: Scripted) -> None:
    async def act(driver: Keithley) -> None:
        step = asyncio.create_task(outcome(driver, CHARGE))
        await asyncio.sleep(0.3)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    slow: Exchange = (stored(1)[0], [(0.2, b"1\n")])
    acted(scripted, act, *START, slow, *OFF)


@pytest.mark.parametrize(("after_s", "heard"), [(0.05, 0), (0.15, 1), (0.25, 2)])
def test_a_step_cancelled_while_it_is_set_up_switches_off(
    scripted: Scripted, after_s: float, heard: int
) -> None:
    async def act(driver: Keithley) -> None:
        step = asyncio.create_task(outcome(driver, CHARGE))
        await asyncio.sleep(after_s)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    slow: list[Exchange] = [(ask, [(0.1, answer)]) for ask, answer in SET_UP]
    acted(scripted, act, *slow[:heard], *OFF)


def test_quiet_ends_a_step_that_another_task_is_reading(scripted: Scripted) -> None:
    async def act(driver: Keithley) -> None:
        step = asyncio.create_task(outcome(driver, CHARGE))
        await asyncio.sleep(0.8)
        assert (await driver.quiet()).confirmed
        assert (await step)[1].kind is EndingKind.ABORTED

    acted(scripted, act, *START, *WHOLE[:2], *OFF, SEEN_OFF)


def test_quiet_on_a_dead_line_is_honest_and_ends() -> None:
    async def scenario() -> tuple[bool, float]:
        result = await Keithley("smu", pipe()[0], {}).quiet()
        return result.confirmed, asyncio.get_running_loop().time()

    confirmed, took_s = run(scenario(), virtual=True)
    assert not confirmed
    assert took_s < 15.0


def test_the_pause_between_readings_is_learned_from_their_times(scripted: Scripted) -> None:
    slow = [
        *polled(1, 4.0, 1e-3, 0.0),
        *polled(2, 4.1, 1e-3, 1.05),
        *polled(3, 4.15, 1e-3, 2.10),
        *polled(4, 4.2, 1e-3, 3.15),
        IDLE,
        stored(4),
        SEEN_OFF,
    ]
    again = (CHARGE_LINES.replace(b"5,0.92", b"5,0.87"), NO_ERROR)

    async def act(driver: Keithley) -> None:
        await outcome(driver, CHARGE)
        await outcome(driver, CHARGE)

    acted(scripted, act, *START, *slow, again, *START[1:], *WHOLE)


def test_a_long_technique_enlarges_the_buffer(scripted: Scripted) -> None:
    long = Rest(duration_s=200_000.0)
    refused = [
        (b':TRAC:POIN 200001,"cell"\n:SYST:ERR?\n', NO_ERROR),
        (b':TRAC:POIN? "cell"\n', b"150000\n"),
    ]
    with pytest.raises(InstrumentError, match="holds 150000 readings, not 200001: sample less"):
        played(scripted, *refused, *OFF, technique=long)


@pytest.mark.parametrize(
    ("technique", "match"),
    [
        (ConstantCurrent(current_A=2.0, duration_s=1), "2 A is outside -1.05 A to 1.05 A"),
        (ConstantVoltage(voltage_V=50.0, duration_s=1), "50 V is outside -20 V to 20 V"),
        (Impedance(frequency_max_Hz=10, frequency_min_Hz=1, amplitude_V=0.01), "no impedance"),
        (Rest(duration_s=40_000.0, interval_s=20_000.0), "10000 s at most"),
    ],
)
def test_what_the_instrument_cannot_do_is_refused_before_anything_is_sent(
    technique: Technique, match: str
) -> None:
    with pytest.raises(InstrumentError, match=match):
        run(outcome(Keithley("smu", pipe()[0], {}), technique), virtual=True)


def test_options_are_checked() -> None:
    driver = Keithley("smu", pipe()[0], {"model": "2461", "voltage max": "5 V"})
    assert driver.capabilities.voltage_max_V == 5.0
    assert driver.capabilities.current_max_A == 7.35
    assert "voltage_max" not in driver.capabilities.unverified
    with pytest.raises(InputError, match="smu: current_max"):
        Keithley("smu", pipe()[0], {"current_max": "1 V"})
    with pytest.raises(InputError, match="smu: model"):
        Keithley("smu", pipe()[0], {"model": "2612"})


# --- The 2400 series ------------------------------------------------------------------------------

OLD = {"model": "2400", "terminator": "cr"}
OLD_OFF: list[Exchange] = [
    (b":ABOR\r:OUTP:SMOD HIMP\r:OUTP OFF\r:OUTP:SMOD?\r", b"HIMP\r"),
    (b":OUTP?\r", b"0\r"),
]
OLD_START: list[Exchange] = [
    (
        b"*CLS\r:SOUR:FUNC CURR\r:SOUR:CURR:MODE FIX\r:SENS:FUNC:CONC ON\r"
        b':SENS:FUNC "VOLT","CURR"\r:SENS:VOLT:RANG:AUTO ON\r:SENS:VOLT:NPLC 1\r:SYST:RSEN ON\r'
        b":OUTP:SMOD HIMP\r:SOUR:CURR:RANG 0.001\r:SENS:VOLT:PROT 4.9445\r:SOUR:CURR 0.001\r"
        b":ARM:COUN 1\r:TRIG:COUN 1\r:FORM:ELEM VOLT,CURR,STAT\r:SYST:ERR?\r",
        b'0,"No error"\r',
    ),
    (b":SENS:VOLT:PROT?\r", b"+4.944500E+00\r"),
]


def old_reading(voltage_V: float, status: int = 0, before: bytes = b"") -> Exchange:
    answer = f"{voltage_V:+.6E},+1.000000E-03,{status:+.6E}\r".encode()
    return before + b":READ?\r", answer


def old(scripted: Scripted, *exchanges: Exchange) -> tuple[list[Block], Ending]:
    async def scenario() -> tuple[list[Block], Ending]:
        async with scripted(*exchanges) as instrument:
            return await outcome(Keithley("smu", instrument.stream, OLD), CHARGE)

    return run(scenario(), virtual=True)


def test_a_2400_declares_that_it_ends_nothing_by_itself() -> None:
    able = Keithley("smu", pipe()[0], OLD).capabilities
    assert able.on_device == frozenset()
    assert not able.bounded_without_host


def test_a_2400_is_connected_without_asking_for_its_language(scripted: Scripted) -> None:
    async def scenario() -> Identity:
        idn = b"KEITHLEY INSTRUMENTS INC.,MODEL 2401,4105123,C32   Oct  4 2010 14:20:11/A02  /S/K\r"
        reset = b"*RST;:OUTP:SMOD HIMP\r*CLS\r:ROUT:TERM REAR\r:SYST:ERR?\r"
        exchanges: list[Exchange] = [
            (b"*IDN?\r", idn),
            (b":OUTP?\r", b"0\r"),
            *OLD_OFF,
            (reset, b'+0,"No error"\r'),
            (b":ROUT:TERM?\r", b"REAR\r"),
        ]
        async with scripted(*exchanges) as instrument:
            options = {**OLD, "terminals": "rear"}
            return await Keithley("smu", instrument.stream, options).connect()

    assert run(scenario(), virtual=True).model == "Keithley 2401"


def test_a_2400_is_read_once_an_interval_and_ended_by_the_host(scripted: Scripted) -> None:
    readings = [old_reading(4.0, before=b":OUTP ON\r"), *[old_reading(4.1)] * 3]
    blocks, ending = old(scripted, *OLD_START, *readings, *OLD_OFF, OLD_OFF[1])
    assert ending == Ending(EndingKind.COMPLETED, on_device=False)
    spacing = [b.time_s[0] - a.time_s[0] for a, b in itertools.pairwise(blocks)]
    assert spacing == pytest.approx([1.0] * 3)


def test_a_cut_off_of_a_2400_is_the_hosts(scripted: Scripted) -> None:
    readings = [old_reading(4.0, before=b":OUTP ON\r"), old_reading(4.31)]
    blocks, ending = old(scripted, *OLD_START, *readings, *OLD_OFF, OLD_OFF[1])
    assert ending == Ending(EndingKind.CUT_OFF, "voltage above 4.3 V", on_device=False)
    assert len(blocks) == 2


def test_a_2400_in_compliance_has_tripped(scripted: Scripted) -> None:
    readings = [old_reading(4.2, status=8, before=b":OUTP ON\r")]
    _, ending = old(scripted, *OLD_START, *readings, *OLD_OFF, OLD_OFF[1])
    assert ending.kind is EndingKind.TRIPPED
    assert ending.detail == "the source is in compliance, voltage 4.944"


def test_a_2400_whose_output_went_off_does_not_answer_and_is_switched_off(
    scripted: Scripted,
) -> None:
    silent: list[Exchange] = [(b":OUTP ON\r:READ?\r", b""), (b":READ?\r", b""), (b":READ?\r", b"")]
    with pytest.raises(InstrumentError, match="does not answer"):
        old(scripted, *OLD_START, *silent, *OLD_OFF)


def test_a_2400_steps_a_staircase_by_the_host(scripted: Scripted) -> None:
    sweep = Sweep(start_V=3.0, end_V=3.01, step_V=0.005, rate_V_per_s=0.005)

    async def scenario() -> list[float]:
        driver = Keithley("smu", pipe()[0], OLD)
        commands = driver._commands(program_for(sweep, LIMITS, REACH), 0.0)
        setup = "".join(f"{each}\r" for each in [*commands, ":SYST:ERR?"]).encode()
        exchanges: list[Exchange] = [
            (setup, b'0,"No error"\r'),
            (b":SENS:CURR:PROT?\r", b"+5.150000E-03\r"),
            old_reading(3.0, before=b":OUTP ON\r"),
            old_reading(3.005, before=b":SOUR:VOLT 3.005\r"),
            old_reading(3.01, before=b":SOUR:VOLT 3.01\r"),
            *OLD_OFF,
            OLD_OFF[1],
        ]
        async with scripted(*exchanges) as instrument:
            blocks, ending = await outcome(Keithley("smu", instrument.stream, OLD), sweep)
            assert ending.kind is EndingKind.COMPLETED
            return [block.columns["voltage_V"][0] for block in blocks]

    assert run(scenario(), virtual=True) == [3.0, 3.005, 3.01]
