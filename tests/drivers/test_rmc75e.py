"""The RMC75E driver against a bank of registers that behaves where a controller would."""

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
from cellbench_drivers.rmc75e import Rmc75e

if TYPE_CHECKING:
    from tests.drivers.conftest import RegisterBank

    Bank = type[RegisterBank]

OPTIONS = {"capacity": "25 kN", "rate max": "2 kN/s"}
ENABLED, HALTED, FORCE_CONTROL, AT_FORCE, RAMP_DONE = (1 << bit for bit in (13, 15, 16, 19, 21))
HOLDING = ENABLED | FORCE_CONTROL | AT_FORCE | RAMP_DONE
STATUS, ERRORS, ACTUAL, SET_POINT, COMMAND, CONTROLLER = 4096, 4098, 4112, 4208, 12800, 10254


def whole(value: int) -> list[int]:
    return [value & 0xFFFF, value >> 16]


def words(value: float) -> list[int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return [low, high]


def put(bank: RegisterBank, address: int, values: list[int]) -> None:
    bank.registers.update(enumerate(values, address))


def show(
    bank: RegisterBank, status: int, errors: int = 0, force_kN: float = 5.0, set_kN: float = 5.0
) -> None:
    put(bank, STATUS, [*whole(status), *whole(errors)])
    put(bank, ACTUAL, words(force_kN))
    put(bank, SET_POINT, words(set_kN))
    put(bank, CONTROLLER, whole(0b11))


def commands(bank: RegisterBank) -> list[tuple[float, ...]]:
    """What was commanded: number and parameters, the zeros at the end left out."""
    found = []
    for address, values in bank.written:
        if address == COMMAND:
            data = struct.pack(">20H", *(w for at in range(0, 20, 2) for w in values[at : at + 2]))
            raw = [struct.unpack(">HH", data[at : at + 4]) for at in range(0, 40, 4)]
            floats = [struct.unpack(">f", struct.pack(">HH", high, low))[0] for low, high in raw]
            while len(floats) > 1 and floats[-1] == 0:
                floats.pop()
            found.append(tuple(floats))
    return found


def obey(bank: RegisterBank) -> None:
    """Enter force control on commands 18 and 19, as the controller is taken to do."""

    def act(address: int, values: list[int]) -> None:
        if address == COMMAND and values[:2] in (words(18.0), words(19.0), words(46.0)):
            put(bank, STATUS, whole(HOLDING))
        if address == COMMAND and values[:2] == words(4.0):
            put(bank, ERRORS, whole(0))
        if address == COMMAND and values[:2] == words(7.0):
            put(bank, STATUS, whole(ENABLED))

    bank.on_write = act


def played(
    register_bank: Bank,
    act: Callable[[Rmc75e, RegisterBank], Awaitable[Any]],
    options: dict[str, Any] | None = None,
) -> Any:
    async def scenario() -> Any:
        async with register_bank() as bank:
            show(bank, HOLDING)
            obey(bank)
            return await act(Rmc75e("press", bank.stream, OPTIONS | (options or {})), bank)

    return run(scenario(), virtual=True)


def test_it_plays_the_role_of_a_press() -> None:
    assert isinstance(Rmc75e("press", pipe()[0], {}), Press)


def test_connecting_writes_nothing(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> tuple[str, ...]:
        identity = await press.connect()
        assert not bank.written
        return identity.remarks

    remarks = played(register_bank, act)
    assert "found at 5.000 kN" in remarks
    assert any("no over-force trip" in remark for remark in remarks)


def test_a_controller_in_program_mode_is_refused(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> None:
        put(bank, CONTROLLER, whole(0b10))
        with pytest.raises(InstrumentError, match="PROGRAM mode"):
            await press.connect()

    played(register_bank, act)


def test_a_look_tells_force_and_state(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[PressState]:
        states = [await press.read()]
        show(bank, ENABLED | FORCE_CONTROL, force_kN=2.5, set_kN=7)
        return [*states, await press.read()]

    holding, ramping = played(register_bank, act)
    assert (holding.force_N, holding.at_target, holding.moving) == (5000, True, False)
    assert (ramping.force_N, ramping.set_point_N, ramping.moving) == (2500, 7000, True)
    assert not ramping.at_target


@pytest.mark.parametrize("order", ["msw first"])
def test_swapped_words_are_noticed_before_anything_is_written(
    register_bank: Bank, order: str
) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> None:
        with pytest.raises(InstrumentError, match="word order"):
            await press.connect()
        assert not bank.written

    played(register_bank, act, {"word order": order})


def test_a_ramp_within_force_control_is_one_command_of_ten_floats(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[int, list[int]]]:
        await press.ramp_to(8000, 500, 9000)
        return bank.written

    zeros = [0] * 14
    command = [*words(18.0), *words(8.0), *words(0.5), *zeros]
    assert played(register_bank, act) == [(COMMAND, command)]


def test_force_control_is_entered_by_holding_the_force_of_the_moment(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[float, ...]]:
        show(bank, 0)
        await press.ramp_to(8000, 500, 9000)
        return commands(bank)

    assert played(register_bank, act) == [(7,), (19,), (18, 8, 0.5)]


def test_commands_and_their_parameters_are_options(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[float, ...]]:
        show(bank, ENABLED)
        await press.ramp_to(8000, 500, 9000)
        await press.ramp_to(6000, 500, 9000)
        return commands(bank)

    options = {"enter command": 46, "ramp command": 42, "ramp takes": "force, time"}
    assert played(register_bank, act, options) == [(46, 8, 6), (42, 6, 2)]


def test_an_axis_that_does_not_enter_force_control_is_an_error(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> None:
        show(bank, ENABLED)
        bank.on_write = None
        with pytest.raises(InstrumentError, match="does not control force after command 19"):
            await press.ramp_to(8000, 500, 9000)
        assert commands(bank) == [(19,)]

    played(register_bank, act)


def test_bit_31_acknowledges_where_the_options_say_so(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> None:
        with pytest.raises(InstrumentError, match="does not acknowledge command 18"):
            await press.ramp_to(8000, 500, 9000)
        bank.on_write = lambda *_: put(bank, STATUS, whole(HOLDING | 1 << 31))
        await press.ramp_to(8000, 500, 9000)

    played(register_bank, act, {"acknowledge": "toggles"})


@pytest.mark.parametrize(
    ("status", "errors", "text"),
    [
        (HOLDING | 1 << 3, 0, r"fault input \(emergency stop\)"),
        (ENABLED | HALTED, 1 << 3, r"fault input \(emergency stop\)"),
        (HOLDING, 1, "following error"),
        (HOLDING, 1 << 18, "no pressure/force transducer"),
        (HOLDING, 1 << 20, "error bit 20"),
        (HOLDING | 1 << 14, 0, "external halt"),
    ],
)
def test_an_axis_with_a_fault_does_not_ramp(
    register_bank: Bank, status: int, errors: int, text: str
) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> None:
        show(bank, status, errors)
        with pytest.raises(InstrumentError, match=f"does not move: {text}"):
            await press.ramp_to(8000, 500, 9000)
        assert not bank.written

    played(register_bank, act)


def test_errors_may_be_tolerated_by_name(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> str:
        show(bank, HOLDING, 1 << 2)
        return (await press.read()).alarm

    assert played(register_bank, act) == "output saturated"
    assert played(register_bank, act, {"tolerated errors": ["output saturated"]}) == ""


def test_a_halt_after_an_order_is_an_alarm_and_one_found_is_not(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> tuple[str, str]:
        show(bank, ENABLED | HALTED)
        found = (await press.read()).alarm
        await press.ramp_to(8000, 500, 9000)
        show(bank, ENABLED | HALTED, 1)
        return found, (await press.read()).alarm

    assert played(register_bank, act) == ("", "halted: following error")


def test_release_clears_latched_faults_and_ramps_to_zero(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[float, ...]]:
        show(bank, ENABLED | HALTED, 1)
        await press.release(500)
        return commands(bank)

    assert played(register_bank, act) == [(4,), (19,), (18, 0, 0.5)]


def test_a_fault_that_stays_is_told_when_the_force_cannot_be_taken_away(
    register_bank: Bank,
) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> None:
        show(bank, HOLDING | 1 << 3, 1 << 3)
        with pytest.raises(InstrumentError, match=r"cannot let go: fault input .*valve stays"):
            await press.release(500)

    played(register_bank, act)


def test_quiet_holds_the_force_of_the_moment_and_sees_that_it_stays(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> tuple[Outcome, list[tuple[float, ...]]]:
        show(bank, ENABLED | FORCE_CONTROL, force_kN=4.0, set_kN=4.7)
        return await press.quiet(), commands(bank)

    outcome, sent = played(register_bank, act)
    assert outcome == Outcome("press", "holds 4.000 kN", confirmed=True)
    assert sent == [(19,)]


def test_quiet_leaves_a_press_alone_that_holds_nothing_or_lets_go(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[float, ...]]:
        show(bank, ENABLED, force_kN=0.01)
        assert (await press.quiet()).confirmed
        assert not commands(bank)
        show(bank, HOLDING)
        await press.release(500)
        assert (await press.quiet()).confirmed
        return commands(bank)

    assert played(register_bank, act) == [(18, 0, 0.5)]


def test_quiet_is_honest_about_a_force_that_goes_on_moving(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> Outcome:
        bank.on_write = None
        show(bank, ENABLED | FORCE_CONTROL)
        return await press.quiet()

    outcome = played(register_bank, act)
    assert outcome == Outcome("press", "does not hold 5.000 kN", confirmed=False)


def test_quiet_of_a_dead_press_is_unknown() -> None:
    async def scenario() -> Outcome:
        return await Rmc75e("press", pipe()[0], {}).quiet()

    outcome = run(scenario(), virtual=True)
    assert not outcome.confirmed
    assert "unknown" in outcome.state


WATCHED = {"heartbeat register": "%MD56.10", "host timeout": "8 s", "limit register": "%MD56.11"}
HEARTBEAT = 2 * (256 * 56 + 10)


def test_a_user_program_hears_the_host_and_knows_the_limit(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[int, list[int]]]:
        await press.connect()
        for _ in range(4):
            await press.read()
            await asyncio.sleep(1.0)
        await press.ramp_to(8000, 500, 9000)
        return bank.written

    written = played(register_bank, act, WATCHED)
    assert written[:2] == [(HEARTBEAT, words(1.0)), (HEARTBEAT, words(2.0))]
    assert written[2] == (HEARTBEAT + 2, words(9.0))
    assert [address for address, _ in written[3:]] == [COMMAND]


def test_leaving_a_program_that_watches_closes_the_valve(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[float, ...]]:
        await press.close()
        return commands(bank)

    assert played(register_bank, act, WATCHED) == [(3,)]
    assert played(register_bank, act) == []


def test_the_software_emergency_stop_faults_the_controller(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> list[tuple[float, ...]]:
        await press.emergency_stop()
        return commands(bank)

    assert played(register_bank, act) == [(8,)]


def test_axis_1_has_its_own_registers(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> tuple[float, int]:
        put(bank, 0x1200, whole(HOLDING))
        put(bank, 0x1210, words(3.0))
        await press.ramp_to(8000, 500, 9000)
        return (await press.read()).force_N, bank.written[0][0]

    assert played(register_bank, act, {"axis": 1}) == (3000, 0x3214)


def test_a_register_that_yaml_took_for_a_number_is_refused() -> None:
    with pytest.raises(InputError, match=r'write file and element, as "%MD56\.10"'):
        Rmc75e("press", pipe()[0], {"heartbeat register": 56.1})


def test_what_is_out_of_reach_is_refused(register_bank: Bank) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> None:
        for force_N, rate in ((26e3, 100.0), (10e3, 100.0), (-1.0, 100.0), (5e3, 3e3), (5e3, 0.0)):
            with pytest.raises(InstrumentError, match=r"force|rate"):
                await press.ramp_to(force_N, rate, 9e3)
        assert not bank.written

    played(register_bank, act)


def test_a_ramp_that_is_cancelled_before_its_command_leaves_the_force_held(
    register_bank: Bank,
) -> None:
    async def act(press: Rmc75e, bank: RegisterBank) -> Outcome:
        show(bank, ENABLED)
        bank.on_write = None  # force control is never entered
        ramp = asyncio.create_task(press.ramp_to(8000, 500, 9000))
        await asyncio.sleep(0.5)
        ramp.cancel()
        await asyncio.wait([ramp])
        obey(bank)
        outcome = await press.quiet()
        assert commands(bank) == [(19,), (19,)]
        return outcome

    assert played(register_bank, act).confirmed
