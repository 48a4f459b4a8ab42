"""SCPI on the instrument's side: messages, headers, parameters, channel lists, the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellbench_sim.emulators.scpi import (
    Call,
    Commands,
    Event,
    EventLog,
    ScpiError,
    Unit,
    channel_list,
    split_message,
)


def headers(message: str) -> list[str]:
    return [unit.header + ("?" if unit.query else "") for unit in split_message(message)]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("*IDN?", ["*IDN?"]),
        (":SENS:CURR:RANG:AUTO 0;:SENS:CURR:RANG 1", ["SENS:CURR:RANG:AUTO", "SENS:CURR:RANG"]),
        ("sour:volt:rang 2;ilim 1e-3", ["SOUR:VOLT:RANG", "SOUR:VOLT:ILIM"]),
        ("SOUR:VOLT 2;*OPC?;VOLT?", ["SOUR:VOLT", "*OPC?", "SOUR:VOLT?"]),
        ("*RST;:stat:pres;:*CLS;", ["*RST", "STAT:PRES", "*CLS"]),
        ("LOG 'a;b';NEXT", ["LOG", "NEXT"]),
    ],
)
def test_a_header_without_a_colon_goes_on_where_the_one_before_it_was(
    message: str, expected: list[str]
) -> None:
    assert headers(message) == expected


def test_separators_in_strings_and_lists_separate_nothing() -> None:
    assert split_message("""DATA "a,b;c",'d"e' , (@1,2)""") == (
        Unit("DATA", query=False, parameters=('"a,b;c"', "'d\"e'", "(@1,2)")),
    )


@pytest.mark.parametrize(("message", "code"), [('A "b', -151), ("A (@1", -171), (":A::B", -102)])
def test_what_is_not_closed_is_an_error(message: str, code: int) -> None:
    with pytest.raises(ScpiError) as caught:
        split_message(message)
    assert caught.value.code == code


@pytest.fixture
def commands() -> Commands:
    commands = Commands()
    commands.add(
        "SOURce[1]:(VOLTage|CURRent)[:LEVel][:IMMediate]?", lambda call: call.captured[0], 0, 1
    )
    commands.add("TRIGger:TIMer#:DELay?", lambda call: call.captured[0])
    commands.add("NPLCycles", lambda call: f"{call.number(0, 0.01, 10, 1)}", 1)
    return commands


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("SOUR:VOLT?", "VOLT"),
        ("source1:current:level?", "CURR"),
        (":SOUR:CURR:IMM?", "CURR"),
        ("TRIG:TIM3:DEL?", "3"),
        ("NPLC MAX", "10"),
        ("NPLC DEF", "1"),
        ("nplcycles 1E-1", "0.1"),
    ],
)
def test_long_and_short_forms_are_one_command(
    commands: Commands, message: str, answer: str
) -> None:
    assert commands.call(split_message(message)[0]) == answer


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("SOURC:VOLT?", -113),
        ("SOUR:VOLT", -113),
        ("NPLC", -109),
        ("NPLC 1,2", -108),
        ("NPLC 11", -222),
        ("NPLC NAN", -222),
        ("NPLC fast", -104),
    ],
)
def test_each_refusal_has_its_number(commands: Commands, message: str, code: int) -> None:
    with pytest.raises(ScpiError) as caught:
        commands.call(split_message(message)[0])
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("(@101)", ["101"]),
        ("(@101,103)", ["101", "103"]),
        ("( @ 101:104 )", ["101", "102", "103", "104"]),
        ("(@104:102,201)", ["104", "103", "102", "201"]),
        ("(@)", []),
    ],
)
def test_channel_lists_hold_channels_and_ranges(text: str, channels: list[str]) -> None:
    assert channel_list(text) == channels


@pytest.mark.parametrize("text", ["101", "(101)", "(@1:)", "(@a)", "(@1,,2)"])
def test_other_expressions_are_no_channel_lists(text: str) -> None:
    with pytest.raises(ScpiError) as caught:
        channel_list(text)
    assert caught.value.code == -171


def test_a_choice_takes_both_forms_and_nothing_between() -> None:
    assert Call((), ("himp",)).choice(0, "NORMal", "HIMPedance") == "HIMP"
    assert Call((), ("'HIMPEDANCE'",)).choice(0, "NORMal", "HIMPedance") == "HIMP"
    with pytest.raises(ScpiError) as caught:
        Call((), ("HIMPE",)).choice(0, "NORMal", "HIMPedance")
    assert caught.value.code == -224


def test_a_full_log_says_so_in_its_last_entry() -> None:
    log = EventLog(2)
    for code in (-113, -222, -109):
        log.add(Event(code, "", 1, 0.0))
    assert [log.next(), log.next()] == [
        Event(-113, "", 1, 0.0),
        Event(-350, "Queue overflow", 1, 0.0),
    ]
    assert log.next() is None


def test_reading_an_error_passes_over_warnings_before_it() -> None:
    log = EventLog(10)
    for code, kind in ((2738, 2), (-222, 1), (2732, 4)):
        log.add(Event(code, "", kind, 0.0))
    error, after = log.next(1), log.next()
    assert error is not None
    assert after is not None
    assert (error.code, after.code) == (-222, 2732)


@given(st.text(alphabet="ABab:;,?*'\"(@) 19.", max_size=40))
def test_no_text_is_more_than_an_error(text: str) -> None:
    code = 0
    try:
        split_message(text)
    except ScpiError as error:
        code = error.code
    assert code in {0, -102, -151, -171}
