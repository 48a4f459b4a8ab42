"""The chamber driver: golden frames of the manual, and a bank of registers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.framer import FramerRTU

from cellbench.clock import run
from cellbench.errors import InstrumentError
from cellbench.instruments.readings import ChamberState, Flag, Outcome
from cellbench.instruments.roles import Chamber
from cellbench.transport import pipe
from cellbench_drivers.eurotherm import Eurotherm

if TYPE_CHECKING:
    from tests.drivers.conftest import RegisterBank, ScriptedInstrument

    Bank = type[RegisterBank]

AMBIENT = {1: 252, 2: 250, 75: 0, 273: 0, 12550: 0}


def played(
    register_bank: Bank,
    act: Callable[[Eurotherm, RegisterBank], Awaitable[Any]],
    **options: Any,
) -> Any:
    async def scenario() -> Any:
        async with register_bank("rtu") as bank:
            bank.registers.update(AMBIENT)
            return await act(Eurotherm("chamber", bank.stream, options), bank)

    return run(scenario(), virtual=True)


def frame(text: str) -> bytes:
    data = bytes.fromhex(text)
    return data + FramerRTU.compute_CRC(data).to_bytes(2, "big")


def test_it_plays_the_role_of_a_chamber() -> None:
    assert isinstance(Eurotherm("chamber", pipe()[0], {}), Chamber)


def test_the_golden_write_of_a_set_point(scripted: type[ScriptedInstrument]) -> None:
    write = bytes.fromhex("01 06 00 02 02 58 28 90")
    exchanges = [
        (frame("01 03 01 11 00 01"), bytes.fromhex("01 03 02 00 00 B8 44")),
        (frame("01 03 00 02 00 01"), bytes.fromhex("01 03 02 00 00 B8 44")),
        (write, write),
        (frame("01 03 00 02 00 01"), frame("01 03 02 02 58")),
    ]

    async def scenario() -> None:
        async with scripted(*exchanges) as instrument:
            options = {"decimals": 1, "write function": 6}
            chamber = Eurotherm("chamber", instrument.stream, options)
            await chamber.set_temperature(333.15)

    run(scenario(), virtual=True)


def test_connecting_reads_the_resolution(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> tuple[str, ...]:
        return (await chamber.connect()).remarks

    assert played(register_bank, act) == (
        "resolution 0.1 degC, from register 12550",
        "found at 25.2 degC",
    )


def test_the_decimals_can_be_given(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> ChamberState:
        await chamber.connect()
        return await chamber.read()

    state = played(register_bank, act, decimals=0)
    assert state.temperature_K == pytest.approx(525.15)


def test_temperatures_below_zero_have_a_sign(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> float:
        bank.registers[1] = 0x10000 - 123
        return (await chamber.read()).temperature_K

    assert played(register_bank, act, decimals=1) == pytest.approx(260.85)


def test_manual_mode_is_refused(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> None:
        bank.registers[273] = 1
        with pytest.raises(InstrumentError, match="manual mode"):
            await chamber.connect()
        with pytest.raises(InstrumentError, match="manual mode"):
            await chamber.set_temperature(300.0)
        assert not bank.written

    played(register_bank, act)


def test_a_set_point_is_written_only_when_it_changes(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> tuple[Any, Any]:
        for _ in range(3):
            await chamber.set_temperature(333.15)
        return bank.written, [function for function in bank.functions if function != 3]

    assert played(register_bank, act, decimals=1) == ([(2, [600])], [16])


def test_a_set_point_that_is_not_taken_is_an_error(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> None:
        bank.on_write = lambda *_: bank.registers.update({2: 500})
        with pytest.raises(InstrumentError, match="keeps 500"):
            await chamber.set_temperature(333.15)

    played(register_bank, act, decimals=1)


def test_the_ramp_is_written_when_connecting(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> Any:
        await chamber.connect()
        return bank.written

    assert played(register_bank, act, rate="2 K/min") == [(35, [20])]


def test_set_points_outside_the_chamber_are_refused(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> None:
        with pytest.raises(InstrumentError, match="outside"):
            await chamber.set_temperature(400.0)
        assert not bank.written

    played(register_bank, act, **{"temperature max": "80 degC"})


def test_alarms_are_named_and_a_broken_sensor_is_no_temperature(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> ChamberState:
        bank.registers[75] = 0x21
        return await chamber.read()

    state = played(register_bank, act, decimals=1)
    assert state.alarm == "alarm 1, sensor break"
    assert state.flags == Flag.SATURATED


def test_quiet_holds_the_set_point(register_bank: Bank) -> None:
    async def act(chamber: Eurotherm, bank: RegisterBank) -> Outcome:
        return await chamber.quiet()

    outcome = played(register_bank, act, decimals=1)
    assert outcome == Outcome("chamber", "holds 25.0 degC", confirmed=True)


def test_a_silent_chamber_is_unknown() -> None:
    async def scenario() -> Outcome:
        return await Eurotherm("chamber", pipe()[0], {}).quiet()

    assert not run(scenario(), virtual=True).confirmed
