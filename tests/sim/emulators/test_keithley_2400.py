"""The 2400: its own dialect, its status word, its buffer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cellbench.clock import run
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.keithley import KeithleyEmulator

NOT_A_NUMBER = 9.91e37


class Unit:
    """A host on one unit."""

    def __init__(self, device: KeithleyEmulator) -> None:
        self.device, self.stream = device, device.connect()

    async def write(self, *messages: str) -> None:
        for message in messages:
            await self.stream.write(f"{message}\r".encode())

    async def ask(self, message: str) -> str:
        await self.write(message)
        return (await self.stream.read_until(b"\n", 1e4)).decode().rstrip("\n")

    async def values(self, message: str) -> list[float]:
        return [float(value) for value in (await self.ask(message)).split(",")]


@pytest.fixture
def tell(cell: Any) -> Callable[..., None]:
    """Return a function that tells a story to a 2400 on a cell of 3.7 V and 1 kOhm."""
    cell.open_circuit_V = 3.7

    def tell(story: Callable[[Unit], Awaitable[None]]) -> None:
        async def main() -> None:
            timebase = Timebase()
            timebase.start()
            device = KeithleyEmulator("smu", timebase, cell, seed=1, model="2400")
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(device.watch())
                await story(Unit(device))
                watch.cancel()

        run(main(), virtual=True)

    return tell


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (
            "*IDN?",
            "KEITHLEY INSTRUMENTS INC.,MODEL 2400,1234567,C30   Mar 17 2006 09:29:29/A02  /K/J",
        ),
        (":SYST:ERR?", '0,"No error"'),
        (":SOUR:FUNC?", "VOLT"),
        (":SOUR:VOLT:MODE FIX;:SOUR:VOLT:MODE?", "FIX"),
        (":SOUR:VOLT 3.7;:SOUR:VOLT?", "+3.700000E+00"),
        (":SENS:CURR:PROT?", "+1.050000E-04"),
        (":SENS:VOLT:PROT 4.9;:SENS:VOLT:PROT?", "+4.900000E+00"),
        (":SENS:FUNC?", '"CURR:DC"'),
        (":SENS:FUNC 'VOLT';:SENS:FUNC?", '"CURR:DC","VOLT:DC"'),
        (":SENS:FUNC:CONC OFF;:SENS:FUNC 'VOLT';:SENS:FUNC?", '"VOLT:DC"'),
        (":SENS:CURR:NPLC 0.1;:SENS:VOLT:NPLC?", "+1.000000E-01"),
        (":FORM:ELEM?", "VOLT,CURR,RES,TIME,STAT"),
        (":FORM:ELEM CURR,VOLT;:FORM:ELEM?", "VOLT,CURR"),
        (":OUTP?;:OUTP:SMOD?", "0;NORM"),
        (":OUTP:SMOD HIMP;:OUTP:SMOD?", "HIMP"),
        (":SYST:RSEN ON;:SYST:RSEN?", "1"),
        (":TRIG:COUN 5;:TRIG:COUN?", "5"),
        (":SOUR:DEL 0.5;:SOUR:DEL?;DEL:AUTO?", "+5.000000E-01;0"),
        (":TRAC:POIN?;:TRAC:POIN:ACT?", "100;0"),
    ],
)
def test_each_request_has_its_reply(tell: Any, request_: str, reply: str) -> None:
    async def story(unit: Unit) -> None:
        assert await unit.ask(request_) == reply

    tell(story)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (":READ?", '+802,"Not permitted with OUTPUT off"'),
        (":INIT", '+802,"Not permitted with OUTPUT off"'),
        (":SOUR:VOLT:ILIM 1", '-113,"Undefined header"'),
        (":TRIG:LOAD 'Empty'", '-113,"Undefined header"'),
        (":SOUR:VOLT 211", '-222,"Parameter data out of range"'),
        (":FETC?", '-230,"Data corrupt or stale"'),
        (":TRAC:DATA?", '-230,"Data corrupt or stale"'),
    ],
)
def test_each_refusal_has_its_number(tell: Any, request_: str, error: str) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(request_)
        assert await unit.ask("SYST:ERR?") == error

    tell(story)


def test_a_reading_has_the_elements_that_were_chosen(tell: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(":SOUR:FUNC CURR;:SENS:FUNC 'VOLT';:SENS:FUNC:OFF 'CURR'")
        await unit.write(":SENS:VOLT:PROT 6;:SENS:VOLT:RANG 20;:SOUR:CURR 1e-3;:OUTP ON")
        volts, amperes, ohms, _, status = await unit.values(":READ?")
        assert volts == pytest.approx(4.7, abs=3e-3)
        assert amperes == 1e-3
        assert ohms == NOT_A_NUMBER
        assert int(status) == 1 << 2 | 1 << 11 | 1 << 15
        await unit.write(":FORM:ELEM CURR,VOLT")
        assert len(await unit.values(":READ?")) == 2

    tell(story)


def test_compliance_is_bit_3_of_the_status(tell: Any, cell: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(":SOUR:FUNC CURR;:SENS:FUNC 'VOLT';:SENS:VOLT:PROT 4.2")
        await unit.write(":SOUR:CURR 1e-3;:OUTP ON;:FORM:ELEM VOLT,CURR,STAT")
        volts, amperes, status = await unit.values(":READ?")
        assert (volts, amperes) == pytest.approx((4.2, 5e-4), rel=2e-3)
        assert int(status) & 8
        assert await unit.ask(":SENS:VOLT:PROT:TRIP?") == "1"

    tell(story)


@pytest.mark.parametrize(
    ("state", "command"),
    [("NORM", ("current", -5e-6)), ("ZERO", ("current", -1e-3)), ("HIMP", ("open", 0.0))],
)
def test_off_states_load_the_cell_or_leave_it_alone(
    tell: Any, cell: Any, state: str, command: tuple[str, float]
) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(f":SENS:CURR:PROT 1e-3;:SOUR:VOLT 3.7;:OUTP:SMOD {state};:OUTP ON")
        await unit.write(":OUTP OFF")
        assert cell.commands[-1] == pytest.approx(command)

    tell(story)


def test_the_trigger_count_makes_as_many_readings(tell: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(":FORM:ELEM CURR,TIME;:SOUR:VOLT 3.7;:OUTP ON;:TRIG:COUN 4")
        await unit.write(":SENS:CURR:NPLC 1;:SOUR:DEL 0.5;:TRIG:DEL 0.25")
        values = await unit.values(":READ?")
        assert len(values) == 8
        steps_s = [
            after - before for before, after in zip(values[1:-2:2], values[3::2], strict=True)
        ]
        assert steps_s == pytest.approx([0.81] * 3, abs=0.01)

    tell(story)


def test_the_output_can_be_on_for_the_readings_alone(tell: Any, cell: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(":OUTP:SMOD HIMP;:SOUR:CLE:AUTO ON;:SOUR:VOLT 4.7;:SENS:CURR:PROT 0.01")
        await unit.write(":FORM:ELEM CURR")
        assert (await unit.values(":READ?"))[0] == pytest.approx(1e-3, rel=1e-2)
        assert cell.is_open

    tell(story)


def test_the_buffer_fills_by_itself_and_says_so(tell: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write("*CLS;*SRE 1;:STAT:MEAS:ENAB 512;:TRAC:CLE;:TRAC:POIN 5;:TRIG:COUN 5")
        await unit.write(":TRAC:FEED SENS;:TRAC:FEED:CONT NEXT;:SOUR:VOLT 3.7;:OUTP ON;:INIT")
        assert int(await unit.ask("*STB?")) & 65 == 0
        await asyncio.sleep(1)
        assert int(await unit.ask("*STB?")) & 65 == 65
        assert await unit.ask(":TRAC:POIN:ACT?;:TRAC:FEED:CONT?") == "5;NEV"
        await unit.write(":FORM:ELEM TIME")
        elapsed_s = await unit.values(":TRAC:DATA?")
        assert elapsed_s == pytest.approx([0.0604 * index for index in range(5)], abs=1e-3)
        await unit.write(":TRAC:TST:FORM DELT")
        assert await unit.values(":TRAC:DATA?") == pytest.approx([0] + [0.0604] * 4, abs=1e-3)

    tell(story)


def test_while_readings_are_made_commands_wait(tell: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(":SOUR:VOLT 3.7;:OUTP ON;:TRIG:COUN 50;:INIT;:SOUR:VOLT 2")
        assert await unit.ask(":SOUR:VOLT?") == "+2.000000E+00"
        assert asyncio.get_running_loop().time() > 3
        await unit.write(":INIT;:ABOR")
        assert await unit.ask("*OPC?") == "1"
        assert asyncio.get_running_loop().time() < 4

    tell(story)


def test_configuring_turns_the_output_on(tell: Any, cell: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(":OUTP:SMOD HIMP;:SOUR:FUNC CURR;:FORM:ELEM VOLT")
        assert await unit.values(":MEAS:VOLT?") == pytest.approx([3.7], abs=2e-3)
        assert await unit.ask(":OUTP?;:CONF?") == '1;"VOLT:DC"'
        await unit.write(":OUTP OFF")
        assert cell.is_open

    tell(story)
