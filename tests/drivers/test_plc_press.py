"""The press driver against a bank of registers that behaves where a PLC would."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from cellbench.clock import run
from cellbench.errors import InputError, InstrumentError
from cellbench.instruments.readings import Outcome, PressState
from cellbench.instruments.roles import Press
from cellbench.transport import pipe
from cellbench_drivers.plc_press import PlcPress

if TYPE_CHECKING:
    from tests.drivers.conftest import RegisterBank

    Bank = type[RegisterBank]

OPTIONS = {"capacity": "25 kN", "rate max": "2 kN/s", "host timeout": "10 s"}


def words(value_kN: float, *, lsw_first: bool = True) -> list[int]:
    """A float as the manual's example gives it: 123.5 is 0, 17143 with the low word first."""
    high, low = struct.unpack(">HH", struct.pack(">f", value_kN))
    return [low, high] if lsw_first else [high, low]


def show(
    bank: RegisterBank, status: int, force_kN: float, set_point_kN: float, **kind: Any
) -> None:
    values = [status, kind.pop("code", 0), *words(force_kN, **kind), *words(12.5, **kind)]
    values += [*words(3.25, **kind), *words(set_point_kN, **kind)]
    bank.registers.update(enumerate(values))


def played(
    register_bank: Bank,
    act: Callable[[PlcPress, RegisterBank], Awaitable[Any]],
    options: dict[str, Any] = OPTIONS,
) -> Any:
    async def scenario() -> Any:
        async with register_bank() as bank:
            show(bank, 0b0001_1011, 5.1, 5.0)
            return await act(PlcPress("press", bank.stream, options), bank)

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_press() -> None:
    assert isinstance(PlcPress("press", pipe()[0], {}), Press)


def test_the_words_of_a_float_are_those_of_the_manual() -> None:
    assert words(123.5) == [0, 17143]


def test_a_look_tells_force_set_point_and_state_in_newtons(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> PressState:
        return await press.read()

    state = played(register_bank, act)
    assert state.force_N == pytest.approx(5100)
    assert state.set_point_N == pytest.approx(5000)
    assert state.at_target
    assert not state.moving
    assert state.alarm == ""


def test_connecting_sets_the_host_timeout_and_moves_nothing(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[tuple[int, list[int]]]:
        identity = await press.connect()
        assert identity.remarks == ("found at 5.100 kN",)
        return bank.written

    assert played(register_bank, act) == [(108, words(10.0)), (107, [1])]


def test_the_wrong_word_order_is_noticed_before_anything_is_written(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> None:
        with pytest.raises(InstrumentError, match="word order"):
            await press.connect()
        assert not bank.written

    played(register_bank, act, {**OPTIONS, "word order": "msw first"})


def test_the_other_word_order_is_an_option(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> float:
        show(bank, 3, 7.0, 7.0, lsw_first=False)
        state: PressState = await press.read()
        return state.force_N

    options = {**OPTIONS, "word order": "msw first"}
    assert played(register_bank, act, options) == pytest.approx(7000)


def test_parameters_are_written_before_the_command(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[tuple[int, list[int]]]:
        await press.ramp_to(8000, 500, 9000)
        return bank.written

    written = played(register_bank, act)
    assert written == [(101, [*words(8.0), *words(0.5), *words(9.0)]), (100, [3])]


def test_a_press_that_is_disabled_is_enabled_first(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[int]:
        show(bank, 1, 0.0, 0.0)
        await press.ramp_to(8000, 500, 9000)
        return [values[0] for address, values in bank.written if address == 100]

    assert played(register_bank, act) == [6, 3]


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (0x62, 0, "emergency stop"),
        (0xA2, 7, r"over-force \(code 7\)"),
        (0x122, 0, "oil low"),
        (0x22, 0, "does not move: alarm"),
        (0x02, 3, r"alarm \(code 3\)"),
    ],
)
def test_a_press_with_an_alarm_does_not_ramp(
    register_bank: Bank, status: int, code: int, text: str
) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> None:
        show(bank, status, 1.0, 1.0, code=code)
        with pytest.raises(InstrumentError, match=text):
            await press.ramp_to(8000, 500, 9000)
        assert not bank.written

    played(register_bank, act)


def test_a_host_that_is_back_clears_that_it_was_lost(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[int]:
        show(bank, 0x203, 1.0, 1.0)

        def clear(address: int, values: list[int]) -> None:
            if (address, values) == (100, [5]):
                bank.registers[0] &= ~0x200

        bank.on_write = clear
        await press.ramp_to(8000, 500, 9000)
        return [values[0] for address, values in bank.written if address == 100]

    assert played(register_bank, act) == [5, 3]


def test_release_ramps_to_zero_and_unloads_once_there(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[list[list[int]]]:
        await press.release(500)
        await press.read()
        before = [values for address, values in bank.written if address == 100]
        show(bank, 0b1011, 0.01, 0.0)
        await press.read()
        await press.read()
        return [before, [values for address, values in bank.written if address == 100]]

    assert played(register_bank, act) == [[[3]], [[3], [4]]]


def test_a_press_whose_alarm_stays_is_unloaded_at_once(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[tuple[int, list[int]]]:
        show(bank, 0xA2, 9.9, 5.0)
        await press.release(500)
        return bank.written

    assert played(register_bank, act) == [(100, [4])]


def test_the_heartbeat_changes_often_enough_while_the_press_is_looked_at(
    register_bank: Bank,
) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[int]:
        await press.connect()
        await press.heartbeat()
        for _ in range(60):
            await press.read()
            await asyncio.sleep(1.0)
        return [values[0] for address, values in bank.written if address == 107]

    assert played(register_bank, act, OPTIONS | {"host_timeout": "60 s"}) == [1, 2, 3, 4, 5]


def test_a_parameter_that_the_plc_does_not_keep_stops_the_command(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> list[tuple[int, list[int]]]:
        bank.on_write = lambda address, _: bank.registers.update({address: 0xFFFF})
        with pytest.raises(InstrumentError, match="keeps"):
            await press.ramp_to(8000, 500, 9000)
        return bank.written

    assert 100 not in [address for address, _ in played(register_bank, act)]


def test_quiet_holds_and_reads_back(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> Outcome:
        show(bank, 0b111, 4.0, 4.7)

        def hold(address: int, values: list[int]) -> None:
            if (address, values) == (100, [2]):
                asyncio.get_running_loop().call_later(0.5, show, bank, 0b11, 4.0, 4.0)

        bank.on_write = hold
        return await press.quiet()

    assert played(register_bank, act) == Outcome("press", "holds 4.000 kN", confirmed=True)


def test_quiet_is_honest_about_a_press_that_goes_on_moving(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> Outcome:
        show(bank, 0b111, 4.0, 4.7)
        return await press.quiet()

    outcome = played(register_bank, act)
    assert not outcome.confirmed
    assert outcome.state == "does not hold 4.000 kN"


def test_quiet_of_a_dead_press_is_unknown() -> None:
    async def scenario() -> Outcome:
        return await PlcPress("press", pipe()[0], {}).quiet()

    outcome = run(scenario(), virtual=True)
    assert not outcome.confirmed
    assert "unknown" in outcome.state


@pytest.mark.parametrize(
    ("force_N", "rate_N_per_s", "force_max_N", "text"),
    [
        (26e3, 100, 30e3, "force 26000 is outside 0 to 25000"),
        (10e3, 100, 9e3, "force 10000 is outside 0 to 9000"),
        (-1, 100, 9e3, "force -1"),
        (5e3, 3e3, 9e3, "rate 3000"),
    ],
)
def test_what_is_out_of_reach_is_refused(
    register_bank: Bank, force_N: float, rate_N_per_s: float, force_max_N: float, text: str
) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> None:
        with pytest.raises(InstrumentError, match=text):
            await press.ramp_to(force_N, rate_N_per_s, force_max_N)
        assert not bank.written

    played(register_bank, act)


def test_a_force_that_the_press_cannot_set_is_refused_and_none_is_allowed(
    register_bank: Bank,
) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> float:
        with pytest.raises(InstrumentError, match="force 500 is outside 2000 to 9000"):
            await press.ramp_to(500, 100, 9e3)
        assert not bank.written
        await press.ramp_to(0, 100, 9e3)
        return press.capabilities.force_min_N

    assert played(register_bank, act, {**OPTIONS, "force min": "2 kN"}) == 2000


def test_unknown_options_are_refused() -> None:
    with pytest.raises(InputError, match="options are: bits, capacity"):
        PlcPress("press", pipe()[0], {"capacty": "3 t"})


ANOTHER_MAP: dict[str, Any] = {
    "capacity": "25 kN",
    "rate max": "2 kN/s",
    "word order": "msw first",
    "registers": {
        "status": {"at": 40, "type": "u32"},
        "alarm code": None,
        "force": {"at": 42, "type": "i32", "unit": "0.1 N"},
        "pressure": None,
        "position": None,
        "set point": None,
        "command": {"at": 60, "type": "u16"},
        "target": {"at": 62, "type": "i32", "unit": "0.1 N"},
        "ramp": {"at": 64, "type": "u16", "unit": "1 N/s"},
        "max force": None,
        "heartbeat": None,
        "host timeout": None,
    },
    "bits": {"enabled": None, "moving": 16, "at target": 17, "emergency stop": 31},
    "commands": {"ramp": 10, "hold": 11},
}


def test_another_register_map_is_an_option(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> tuple[PressState, list[Any]]:
        bank.registers.update({40: 0x0002, 41: 0, 42: 0xFFFF, 43: 0xFFF6})
        identity = await press.connect()
        assert any("no over-force trip" in remark for remark in identity.remarks)
        assert press.capabilities.heartbeat_s is None
        assert not bank.written
        await press.ramp_to(8000, 500, 9000)
        return await press.read(), bank.written

    state, written = played(register_bank, act, ANOTHER_MAP)
    assert state.force_N == pytest.approx(-1.0)
    assert (state.set_point_N, state.at_target, state.moving) == (8000, True, False)
    # 80000 tenths of a newton are 0x00013880; 62 to 64 have no gap, and go as one.
    assert written == [(62, [0x0001, 0x3880, 500]), (60, [10])]


def test_an_alarm_bit_lies_where_the_map_says(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> str:
        bank.registers.update({40: 0x8000, 41: 0})
        return (await press.read()).alarm

    assert played(register_bank, act, ANOTHER_MAP) == "emergency stop"


def test_a_number_that_its_register_cannot_hold_is_refused(register_bank: Bank) -> None:
    async def act(press: PlcPress, bank: RegisterBank) -> None:
        with pytest.raises(InstrumentError, match="does not fit into i16 at 62"):
            await press.ramp_to(8000, 500, 9000)
        assert not bank.written

    registers = {**ANOTHER_MAP["registers"], "target": {"at": 62, "type": "i16", "unit": "0.1 N"}}
    played(register_bank, act, {**ANOTHER_MAP, "registers": registers})


def test_a_register_with_an_unknown_unit_is_refused() -> None:
    registers = {"force": {"at": 2, "unit": "1 klb"}}
    with pytest.raises(InputError, match=r"registers\.force\.unit: .*klb"):
        PlcPress("press", pipe()[0], {"registers": registers})
