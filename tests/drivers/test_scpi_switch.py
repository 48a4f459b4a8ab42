"""The SCPI switch against scripted bytes: break before make, read back, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.readings import Identity, Outcome
from cellbench.instruments.roles import Switch
from cellbench.transport import pipe
from cellbench_drivers.scpi_switch import ScpiSwitch

if TYPE_CHECKING:
    from tests.drivers.conftest import Answer, ScriptedInstrument

    Scripted = type[ScriptedInstrument]
    Exchange = tuple[bytes, Answer]

POSITIONS = {"cycler": "101,102", "potentiostat": "103, 104"}
OPTIONS: dict[str, object] = {"positions": POSITIONS}
NO_ERROR = b'0,"No error"\n'
STATE = b"ROUT:CLOS? (@101,102,103,104)\n"
OPENED: list[Exchange] = [
    (b"ROUT:OPEN:ALL\n:SYST:ERR?\n", NO_ERROR),
    (STATE, b"0,0,0,0\n"),
]
CLOSE: Exchange = (b"ROUT:CLOS (@103,104)\n:SYST:ERR?\n", NO_ERROR)


def acted(
    scripted: Scripted,
    act: Callable[[ScpiSwitch], Awaitable[Any]],
    *exchanges: Exchange,
    options: dict[str, object] = OPTIONS,
) -> Any:
    async def scenario() -> Any:
        async with scripted(*exchanges) as instrument:
            return await act(ScpiSwitch("mux", instrument.stream, options))

    return run(scenario(), virtual=True)


async def to_the_potentiostat(switch: ScpiSwitch) -> None:
    await switch.select("potentiostat")


def test_it_plays_the_role_of_a_switch() -> None:
    switch = ScpiSwitch("mux", pipe()[0], OPTIONS)
    assert isinstance(switch, Switch)
    assert switch.capabilities.positions == ("cycler", "potentiostat")


def test_everything_is_open_before_anything_is_closed(scripted: Scripted) -> None:
    acted(scripted, to_the_potentiostat, *OPENED, CLOSE, (STATE, b"0, 0, 1, 1\n"))


def test_relays_are_given_time(scripted: Scripted) -> None:
    async def act(switch: ScpiSwitch) -> float:
        before_s = asyncio.get_running_loop().time()
        await switch.select("potentiostat")
        return asyncio.get_running_loop().time() - before_s

    options = {**OPTIONS, "settle": "0.5 s"}
    whole = [*OPENED, CLOSE, (STATE, b"0,0,1,1\n")]
    assert acted(scripted, act, *whole, options=options) == pytest.approx(1.0, abs=0.2)


def test_a_contact_that_does_not_open_keeps_everything_else_open(scripted: Scripted) -> None:
    welded: list[Exchange] = [OPENED[0], (STATE, b"1,0,0,0\n")]
    with pytest.raises(InstrumentError, match="mux: has 101 closed instead of nothing"):
        acted(scripted, to_the_potentiostat, *welded, *welded)


def test_a_contact_that_does_not_close_opens_the_others(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match="has 103 closed instead of 103, 104"):
        acted(scripted, to_the_potentiostat, *OPENED, CLOSE, (STATE, b"0,0,1,0\n"), *OPENED)


def test_a_refusal_is_told_and_everything_is_opened(scripted: Scripted) -> None:
    refused: list[Exchange] = [
        (CLOSE[0], b'-222,"Parameter data out of range"\n'),
        (b":SYST:ERR?\n", NO_ERROR),
    ]
    with pytest.raises(InstrumentError, match="refuses: -222 Parameter data out of range"):
        acted(scripted, to_the_potentiostat, *OPENED, *refused, *OPENED)


@pytest.mark.parametrize("after_s", [0.17, 0.22])
def test_a_cancelled_change_leaves_everything_open(scripted: Scripted, after_s: float) -> None:
    async def act(switch: ScpiSwitch) -> None:
        change = asyncio.create_task(switch.select("potentiostat"))
        await asyncio.sleep(after_s)
        change.cancel()
        with pytest.raises(asyncio.CancelledError):
            await change

    stuck = {0.17: (b"ROUT:CLOS (@103,104)\n", b""), 0.22: (CLOSE[0], b"")}[after_s]
    acted(scripted, act, *OPENED, stuck, *OPENED)


def test_garbage_in_the_read_back_is_an_error(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match='answers "0,0,maybe,1" to ROUT:CLOS'):
        acted(scripted, to_the_potentiostat, *OPENED, CLOSE, (STATE, b"0,0,maybe,1\n"), *OPENED)


def test_an_unknown_position_is_refused_before_anything_moves(scripted: Scripted) -> None:
    async def act(switch: ScpiSwitch) -> None:
        await switch.select("analyser")

    with pytest.raises(InstrumentError, match='no position "analyser", only cycler, potentiostat'):
        acted(scripted, act)


def test_quiet_opens_everything_and_confirms(scripted: Scripted) -> None:
    outcome = acted(scripted, ScpiSwitch.quiet, *OPENED)
    assert outcome == Outcome("mux", "all contacts open", confirmed=True)


def test_quiet_on_a_dead_line_is_honest() -> None:
    outcome = run(ScpiSwitch("mux", pipe()[0], OPTIONS).quiet(), virtual=True)
    assert not outcome.confirmed


def connected(
    scripted: Scripted, idn: bytes, state: Exchange, options: dict[str, object]
) -> Identity:
    exchanges = [(b"*IDN?\n", idn), (b":SYST:ERR?\n", NO_ERROR), state]
    identity: Identity = acted(scripted, ScpiSwitch.connect, *exchanges, options=options)
    return identity


def test_connecting_moves_nothing_and_tells_the_position_it_finds(scripted: Scripted) -> None:
    idn = b"HEWLETT-PACKARD,34970A,0,13-2-2\n"
    options = {**OPTIONS, "commands": "keysight 34970"}
    identity = connected(scripted, idn, (STATE, b"1,1,0,0\n"), options)
    assert identity.model == "Hewlett-Packard 34970A"
    assert 'found at position "cycler"' in identity.remarks


def test_another_switch_than_the_bench_says_is_refused(scripted: Scripted) -> None:
    with pytest.raises(InstrumentError, match=r"MODEL 2700.*the bench says keithley 7001"):
        acted(
            scripted,
            ScpiSwitch.connect,
            (b"*IDN?\n", b"KEITHLEY INSTRUMENTS INC.,MODEL 2700,1234567,B09 /A02\n"),
            options={**OPTIONS, "commands": "keithley 7001"},
        )


def test_a_2700_closes_several_channels_and_lists_what_is_closed(scripted: Scripted) -> None:
    exchanges: list[Exchange] = [
        (b"ROUT:OPEN:ALL\n:SYST:ERR?\n", b'0,"No error"\n'),
        (b"ROUT:MULT:CLOS?\n", b"(@)\n"),
        (b"ROUT:MULT:CLOS (@103,104)\n:SYST:ERR?\n", b'0,"No error"\n'),
        (b"ROUT:MULT:CLOS?\n", b"(@103,104)\n"),
    ]
    options = {**OPTIONS, "commands": "keithley 2700"}
    acted(scripted, to_the_potentiostat, *exchanges, options=options)


def test_a_channel_that_nobody_named_is_not_ignored(scripted: Scripted) -> None:
    exchanges: list[Exchange] = [
        (b"ROUT:OPEN:ALL\n:SYST:ERR?\n", NO_ERROR),
        (b"ROUT:MULT:CLOS?\n", b"(@210)\n"),
    ]
    options = {**OPTIONS, "commands": "keithley 2700"}
    with pytest.raises(InstrumentError, match="has 210 closed instead of nothing"):
        acted(scripted, to_the_potentiostat, *exchanges * 2, options=options)


def test_a_7001_names_card_and_channel(scripted: Scripted) -> None:
    state = b"ROUT:CLOS? (@1!1,1!2)\n"
    exchanges: list[Exchange] = [
        (b"ROUT:OPEN ALL\n:SYST:ERR?\n", NO_ERROR),
        (state, b"0,0\n"),
        (b"ROUT:CLOS (@1!2)\n:SYST:ERR?\n", NO_ERROR),
        (state, b"0,1\n"),
    ]
    options: dict[str, object] = {
        "positions": {"cycler": "1!1", "potentiostat": ["1!2"]},
        "commands": "keithley 7001",
    }
    acted(scripted, to_the_potentiostat, *exchanges, options=options)


def test_a_34970_opens_the_channels_that_are_named(scripted: Scripted) -> None:
    opened = (b"ROUT:OPEN (@101,102,103,104)\n:SYST:ERR?\n", b'+0,"No error"\n')
    options = {**OPTIONS, "commands": "keysight 34970"}
    acted(scripted, ScpiSwitch.open_all, opened, OPENED[1], options=options)


def test_a_3700_speaks_tsp(scripted: Scripted) -> None:
    no_error: Exchange = (b"print(errorqueue.count)\n", b"0.00000e+00\n")
    exchanges: list[Exchange] = [
        (b'channel.open("allslots")\n' + no_error[0], no_error[1]),
        (b'print(channel.getclose("allslots"))\n', b"nil\n"),
        (b'channel.close("1003,1004")\n' + no_error[0], no_error[1]),
        (b'print(channel.getclose("allslots"))\n', b"1003;1004\n"),
    ]
    options: dict[str, object] = {
        "positions": {"cycler": "1001", "potentiostat": "1003,1004"},
        "commands": "keithley 3700",
    }
    acted(scripted, to_the_potentiostat, *exchanges, options=options)


def test_an_error_of_a_3700_is_told(scripted: Scripted) -> None:
    exchanges: list[Exchange] = [
        (b'channel.open("allslots")\nprint(errorqueue.count)\n', b"1.00000e+00\n"),
        (b"print(errorqueue.next())\n", b"1.11400e+03\tSettings conflict\t2.00000e+01\n"),
        (b"errorqueue.clear()\n", b""),
    ]
    options: dict[str, object] = {"positions": {"a": 1001}, "commands": "keithley 3700"}
    with pytest.raises(InstrumentError, match="Settings conflict"):
        acted(scripted, ScpiSwitch.open_all, *exchanges, options=options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "positions"),
        ({"positions": {}}, "positions"),
        ({"positions": {"a": "101:104"}}, "no channel: write 101"),
        ({"positions": {"a": ""}}, "is no channel"),
        ({**OPTIONS, "commands": "agilent"}, "commands"),
    ],
)
def test_options_are_checked(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ScpiSwitch("mux", pipe()[0], options)
