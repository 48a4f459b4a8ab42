"""The JULABO driver: lines of the manual, its pauses, and every way in which it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError, InstrumentTimeout
from cellbench.instruments.readings import ChamberState, Flag, Identity, Outcome
from cellbench.instruments.roles import Chamber
from cellbench.transport import pipe
from cellbench_drivers.julabo import Julabo

if TYPE_CHECKING:
    from tests.drivers.conftest import Answer, ScriptedInstrument

    Scripted = type[ScriptedInstrument]

Exchange = tuple[bytes, "Answer"]


def asks(query: str, reply: str) -> tuple[bytes, bytes]:
    return f"{query}\r".encode(), f"{reply}\r\n".encode()


def told(command: str, status: str = "03 REMOTE START") -> list[Exchange]:
    """A command, which nothing answers, and the look at the status that follows it."""
    return [(f"{command}\r".encode(), b""), asks("STATUS", status)]


VERSION = asks("VERSION", "JULABO CRYOCOMPACT CF31 VERSION 5.0")
RUNNING = asks("STATUS", "03 REMOTE START")
STOPPED = asks("STATUS", "02 REMOTE STOP")
READING = [asks("IN_PV_00", "29.45"), asks("IN_SP_00", "30.00")]
SET_60 = [
    RUNNING,
    *told("OUT_SP_00 60.00"),
    asks("IN_SP_00", "60.00"),
    asks("IN_MODE_05", "1"),
]


def played(
    scripted: Scripted,
    act: Callable[[Julabo], Awaitable[Any]],
    *exchanges: Exchange,
    **options: Any,
) -> Any:
    async def scenario() -> Any:
        async with scripted(*exchanges) as instrument:
            return await act(Julabo("circulator", instrument.stream, options))

    return run(scenario(), virtual=True)


async def to_60(chamber: Julabo) -> None:
    await chamber.set_temperature(333.15)


async def read(chamber: Julabo) -> ChamberState:
    return await chamber.read()


def test_it_plays_the_role_of_a_chamber() -> None:
    assert isinstance(Julabo("circulator", pipe()[0], {}), Chamber)


def test_connecting_identifies_it_and_changes_nothing(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> Identity:
        return await chamber.connect()

    identity = played(scripted, act, VERSION, STOPPED, READING[0])
    assert identity.model == "JULABO CRYOCOMPACT CF31"
    assert identity.firmware == "5.0"
    assert identity.remarks[0] == "found at 29.45 degC, 02 REMOTE STOP"


def test_another_instrument_is_told_by_what_it_says(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> None:
        with pytest.raises(InstrumentError, match=r"no JULABO circulator.*HUBER"):
            await chamber.connect()

    played(scripted, act, asks("VERSION", "HUBER CC-K6"))


def test_manual_mode_is_refused_with_what_would_be_right(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> None:
        with pytest.raises(InstrumentError, match=r"MANUAL START.*set it to remote at its panel"):
            await chamber.connect()
        with pytest.raises(InstrumentError, match="manual mode"):
            await chamber.set_temperature(300.0)

    manual = asks("STATUS", "01 MANUAL START")
    played(scripted, act, VERSION, manual, manual)


def test_a_set_point_is_checked_by_status_and_reading_back(scripted: Scripted) -> None:
    played(scripted, to_60, *SET_60)


def test_a_circulator_that_is_stopped_is_started_and_that_is_read_back(scripted: Scripted) -> None:
    played(
        scripted,
        to_60,
        STOPPED,
        *told("OUT_SP_00 60.00", "02 REMOTE STOP"),
        asks("IN_SP_00", "60.0"),
        asks("IN_MODE_05", "0"),
        *told("OUT_MODE_05 1"),
        asks("IN_MODE_05", "1"),
    )


def test_one_that_does_not_start_is_an_error(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> None:
        with pytest.raises(InstrumentError, match='does not start: IN_MODE_05 is "0"'):
            await to_60(chamber)

    played(
        scripted,
        act,
        STOPPED,
        *told("OUT_SP_00 60.00", "02 REMOTE STOP"),
        asks("IN_SP_00", "60.0"),
        asks("IN_MODE_05", "0"),
        *told("OUT_MODE_05 1", "02 REMOTE STOP"),
        asks("IN_MODE_05", "0"),
    )


def test_it_is_left_alone_for_250_ms_after_a_command_and_10_ms_after_a_query() -> None:
    heard: list[tuple[float, bytes]] = []
    replies = dict([RUNNING, asks("IN_SP_00", "60.00"), asks("IN_MODE_05", "1")])

    async def scenario() -> None:
        ours, theirs = pipe()
        task = asyncio.create_task(Julabo("circulator", ours, {}).set_temperature(333.15))
        while not task.done():
            await asyncio.sleep(0.001)
            while line := theirs.peek(100):
                heard.append((asyncio.get_running_loop().time(), line))
                await theirs.read_exactly(len(line), 1.0)
                await theirs.write(replies.get(line, b""))
        await task

    run(scenario(), virtual=True)
    order = [line for _, line in heard]
    assert order == [b"STATUS\r", b"OUT_SP_00 60.00\r", b"STATUS\r", b"IN_SP_00\r", b"IN_MODE_05\r"]
    gaps_s = [after - before for (before, _), (after, _) in pairwise(heard)]
    assert gaps_s[1] >= 0.25
    assert all(gap_s >= 0.0099 for gap_s in gaps_s)


def test_a_set_point_that_is_not_taken_is_an_error_and_not_sent_again(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> None:
        with pytest.raises(
            InstrumentError, match=r"keeps a set point of 30 degC instead of 60\.00"
        ):
            await to_60(chamber)

    played(scripted, act, *SET_60[:3], asks("IN_SP_00", "30.00"))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("-08 INVALID COMMAND", "does not know the command"),
        ("-09 COMMAND NOT ALLOWED IN CURRENT OPERATING MODE", "set it to remote"),
        ("-10 VALUE TOO SMALL", "too small"),
        ("-11 VALUE TOO LARGE", "too large"),
        ("-13 VALUE EXCEEDS TEMPERATURE LIMITS", "its own temperature limits"),
        ("-01 LOW LEVEL ALARM", r"low level \(-01 LOW LEVEL ALARM\)"),
    ],
)
def test_a_refusal_is_told_by_name(scripted: Scripted, status: str, text: str) -> None:
    async def act(chamber: Julabo) -> None:
        with pytest.raises(InstrumentError, match=text):
            await to_60(chamber)

    played(scripted, act, RUNNING, *told("OUT_SP_00 60.00", status))


def test_what_was_left_to_say_of_an_earlier_command_is_not_ours(scripted: Scripted) -> None:
    played(scripted, to_60, asks("STATUS", "-08 INVALID COMMAND"), *SET_60)


def test_with_a_fault_it_is_given_no_set_point(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> None:
        with pytest.raises(InstrumentError, match="takes no set point: excess temperature"):
            await to_60(chamber)

    played(scripted, act, asks("STATUS", "-14 EXCESS TEMPERATURE PROTECTOR ALARM"))


def test_a_warning_of_the_temperature_does_not_keep_it_from_a_better_set_point(
    scripted: Scripted,
) -> None:
    warning = "-03 EXCESS TEMPERATURE WARNING"
    played(
        scripted,
        to_60,
        asks("STATUS", warning),
        *told("OUT_SP_00 60.00", warning),
        *SET_60[3:],
    )


def test_a_look_tells_temperature_set_point_and_no_alarm(scripted: Scripted) -> None:
    state = played(scripted, read, RUNNING, *READING)
    assert state.temperature_K == pytest.approx(302.60)
    assert state.set_point_K == pytest.approx(303.15)
    assert state.alarm == ""
    assert state.flags == 0


def test_the_external_sensor_is_an_option(scripted: Scripted) -> None:
    external = [RUNNING, asks("IN_PV_02", "28.22"), READING[1]]
    state = played(scripted, read, *external, sensor="external")
    assert state.temperature_K == pytest.approx(301.37)


@pytest.mark.parametrize(
    ("status", "alarm"),
    [
        ("-05 SENSOR ALARM", "temperature sensor failed (-05 SENSOR ALARM)"),
        ("-63 WATCHDOG", "watchdog: no set point came in time (-63 WATCHDOG)"),
        ("-1501 WATCHDOG", "watchdog: no set point came in time (-1501 WATCHDOG)"),
        ("-06 SOMETHING OF ITS OWN", "-06 SOMETHING OF ITS OWN"),
    ],
)
def test_faults_are_alarms_with_names(scripted: Scripted, status: str, alarm: str) -> None:
    state = played(scripted, read, asks("STATUS", status), *READING)
    assert state.alarm == alarm
    assert state.flags == (Flag.SATURATED if status.startswith("-05") else 0)


def test_somebody_who_takes_it_over_by_hand_is_an_alarm(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> str:
        await to_60(chamber)
        return (await chamber.read()).alarm

    manual = asks("STATUS", "01 MANUAL START")
    alarm = played(scripted, act, *SET_60, manual, *READING)
    assert alarm == "was taken out of remote operation (01 MANUAL START)"


def test_the_watchdog_is_fed_with_the_set_point_that_stands(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> None:
        for pause_s in (0.0, 5.0, 6.0):
            await asyncio.sleep(pause_s)
            await chamber.read()

    look = [RUNNING, *READING]
    feed = told("OUT_SP_00 30.00")
    played(scripted, act, *look, *feed, *look, *look, *feed, watchdog="10 s")


def test_a_watchdog_that_would_be_fed_too_late_is_refused() -> None:
    with pytest.raises(InputError, match="watchdog"):
        Julabo("circulator", pipe()[0], {"watchdog": "30 s"})


@pytest.mark.parametrize("garbage", ["---.--", "nan", "", "29.4.5"])
def test_what_is_no_number_is_an_error(scripted: Scripted, garbage: str) -> None:
    async def act(chamber: Julabo) -> None:
        with pytest.raises(InstrumentError, match="instead of a number"):
            await chamber.read()

    played(scripted, act, RUNNING, asks("IN_PV_00", garbage))


def test_a_late_answer_is_not_taken_for_the_next(scripted: Scripted) -> None:
    late: Exchange = (b"IN_PV_00\r", [(1.05, b"99.99\r\n")])
    state = played(scripted, read, RUNNING, late, *READING)
    assert state.set_point_K == pytest.approx(303.15)


def test_what_it_did_not_hear_is_asked_once_more_and_not_twice(scripted: Scripted) -> None:
    deaf: Exchange = (b"IN_PV_00\r", b"")
    assert played(scripted, read, RUNNING, deaf, *READING).set_point_K == pytest.approx(303.15)
    with pytest.raises(InstrumentTimeout):
        played(scripted, read, RUNNING, deaf, deaf)


def test_a_cancelled_command_leaves_the_line_usable(scripted: Scripted) -> None:
    async def act(chamber: Julabo) -> ChamberState:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(to_60(chamber), 0.3)
        return await chamber.read()

    state = played(scripted, act, *SET_60[:1], (b"OUT_SP_00 60.00\r", b""), RUNNING, *READING)
    assert state.alarm == ""


def test_set_points_outside_the_chamber_are_refused_before_anything_is_said() -> None:
    async def scenario() -> None:
        chamber = Julabo("circulator", pipe()[0], {"temperature max": "80 degC"})
        with pytest.raises(InstrumentError, match="outside"):
            await chamber.set_temperature(360.0)

    run(scenario(), virtual=True)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("03 REMOTE START", Outcome("circulator", "holds 30.0 degC", confirmed=True)),
        ("02 REMOTE STOP", Outcome("circulator", "is stopped", confirmed=True)),
        (
            "-38 EXTERNAL",
            Outcome(
                "circulator",
                "is stopped, external sensor's signal is missing (-38 EXTERNAL)",
                confirmed=False,
            ),
        ),
    ],
)
def test_quiet_says_what_it_does(scripted: Scripted, status: str, outcome: Outcome) -> None:
    async def act(chamber: Julabo) -> Outcome:
        return await chamber.quiet()

    assert played(scripted, act, asks("STATUS", status), *READING) == outcome


def test_a_silent_circulator_is_unknown() -> None:
    async def scenario() -> Outcome:
        return await Julabo("circulator", pipe()[0], {}).quiet()

    assert not run(scenario(), virtual=True).confirmed
