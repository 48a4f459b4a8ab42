"""The 2450: source and limit, output-off states, readings, buffers, the trigger model, refusals."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench.clock import run
from cellbench.errors import InputError
from cellbench_sim.emulators.device import Timebase
from cellbench_sim.emulators.keithley import KeithleyEmulator
from cellbench_sim.presets import load_preset
from cellbench_sim.world import World

CUT_OFF = """
:TRIG:LOAD "Empty"
:TRIG:BLOC:BUFF:CLE 1,"cell"
:TRIG:BLOC:SOUR:STAT 2,ON
:TRIG:BLOC:MEAS 3,"cell",1
:TRIG:BLOC:BRAN:LIM:CONS 4,ABOV,0,4.9,8,3
:TRIG:BLOC:DEL:CONS 5,1.0
:TRIG:BLOC:BRAN:COUN 6,10,3
:TRIG:BLOC:BRAN:ALW 7,9
:TRIG:BLOC:LOG:EVEN 8,WARN1,"CUT vmax"
:TRIG:BLOC:SOUR:STAT 9,OFF
"""


class Unit:
    """A host on one unit: it writes, asks, and reads the queue of errors."""

    def __init__(self, device: KeithleyEmulator) -> None:
        self.device, self.stream = device, device.connect()

    async def write(self, *messages: str) -> None:
        for message in messages:
            await self.stream.write(f"{message}\n".encode())

    async def ask(self, message: str, timeout_s: float = 1e4) -> str:
        await self.write(message)
        return (await self.stream.read_until(b"\n", timeout_s)).decode().rstrip("\n")

    async def values(self, message: str) -> list[float]:
        return [float(value) for value in (await self.ask(message)).split(",")]

    async def error(self) -> int:
        return int((await self.ask("SYST:ERR?")).partition(",")[0])

    async def source_current(self, current_A: float, limit_V: float = 6.0) -> None:
        await self.write(
            "OUTP:SMOD HIMP;:SOUR:FUNC CURR;:SENS:FUNC 'VOLT';:SENS:VOLT:RSEN ON",
            f"SOUR:CURR:VLIM {limit_V};:SOUR:CURR {current_A}",
        )


Story = Callable[[Unit], Awaitable[None]]
Tell = Callable[..., None]


def tell_story(story: Story, cell: Any, **options: Any) -> None:
    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        device = KeithleyEmulator("smu", timebase, cell, **{"seed": 1, **options})
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(device.watch())
            await story(Unit(device))
            watch.cancel()
        timebase.stop()

    run(main(), virtual=True)


@pytest.fixture
def battery(cell: Any) -> Any:
    cell.open_circuit_V = 3.7
    cell.open_circuit()
    return cell


@pytest.fixture
def with_unit(battery: Any) -> Tell:
    def tell(story: Story, **options: Any) -> None:
        tell_story(story, battery, **options)

    return tell


# ---------------------------------------------------------------------- golden frames


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c"),
        ("*LANG?", "SCPI"),
        ("*OPC?", "1"),
        (":SYST:ERR?", '0,"No error;0,0,0"'),
        (":SYST:ERR:NEXT?", '0,"No error;0,0,0"'),
        (":SYST:ERR:COUN?", "0"),
        (":SOUR:FUNC?", "VOLT"),
        (":SOUR:VOLT 3.7;:SOUR:VOLT?", "+3.700000E+00"),
        (":SOUR:VOLT:ILIM?", "+1.050000E-04"),
        (":SOUR:CURR:VLIM?", "+2.100000E+01"),
        (":SOUR:VOLT:ILIM:TRIP?", "0"),
        (":SOUR:VOLT:PROT PROT5;:SOUR:VOLT:PROT?", "PROT5"),
        (":SENS:FUNC?", '"CURR:DC"'),
        (':SENS:FUNC "VOLT";:SENS:FUNC?', '"VOLT:DC"'),
        (":SENS:CURR:RANG 1e-3;RANG?;RANG:AUTO?", "+1.000000E-03;0"),
        (":OUTP?", "0"),
        (":OUTP:VOLT:SMOD?", "NORM"),
        (":OUTP:SMOD HIMP;:OUTP:CURR:SMOD?", "HIMP"),
        (":OUTP:INT:TRIP?", "1"),
        (":ROUT:TERM?", "FRON"),
        (':TRAC:ACT? "defbuffer1"', "0"),
        (":TRIG:STAT?", "EMPTY;EMPTY;0"),
    ],
)
def test_each_request_has_its_reply(with_unit: Tell, request_: str, reply: str) -> None:
    async def story(unit: Unit) -> None:
        assert await unit.ask(request_) == reply

    with_unit(story)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("NO:SUCH:HEADER", -113),
        (":SOUR:VOLT", -109),
        (":SOUR:VOLT 1,2", -108),
        (":SOUR:VOLT five", -104),
        (":SOUR:VOLT 300", -222),
        (":SOUR:VOLT 100;:SOUR:VOLT:ILIM 1", -221),
        (":SENS:CURR:NPLC 20", -222),
        (":SOUR:FUNC OHMS", -224),
        (":SOUR:VOLT:RANG 2;:SOUR:VOLT 3.7", -222),
        (':TRAC:ACT? "none"', -224),
        (':TRAC:DATA? 1,1,"defbuffer1"', -222),
        (':READ? "defbuffer1",COLOUR', 1133),
        (':TRAC:MAKE "a",100;:TRAC:MAKE "a",100', 1115),
        (":INIT", -221),
    ],
)
def test_each_refusal_has_its_number(with_unit: Tell, request_: str, code: int) -> None:
    async def story(unit: Unit) -> None:
        await unit.write(request_)
        assert await unit.error() == code
        assert await unit.error() == 0

    with_unit(story)


def test_after_an_error_the_rest_of_the_message_is_ignored(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.write("NONSENSE;:SOUR:VOLT 2")
        assert await unit.ask("SOUR:VOLT?") == "+0.000000E+00"
        reply = await unit.ask("SYST:ERR?")
        assert reply == '-113,"Undefined header;1;2026/01/05 08:00:00.000"'

    with_unit(story)


def test_an_unknown_model_is_refused(battery: Any) -> None:
    with pytest.raises(InputError, match="2450, 2460, 2461, 2400"):
        KeithleyEmulator("smu", Timebase(), battery, seed=1, model="6430")


def test_the_model_comes_from_the_bench_file() -> None:
    world = World(load_preset("LYC_PMMA"), seed=1)

    async def main() -> None:
        timebase = Timebase()
        timebase.start()
        device = KeithleyEmulator.from_bench(
            "smu", timebase, world, seed=1, options={"model": 2461, "port": "simulated"}
        )
        assert "MODEL 2461" in await Unit(device).ask("*IDN?")

    run(main(), virtual=True)


# ---------------------------------------------------------------------- the cell


def test_nothing_touches_the_cell_before_the_output_is_on(with_unit: Tell, battery: Any) -> None:
    before = len(battery.commands)

    async def story(unit: Unit) -> None:
        await unit.write("*RST", "OUTP:SMOD HIMP", "SOUR:FUNC CURR", "SENS:FUNC 'VOLT'", "OUTP OFF")
        await unit.ask("READ?")
        assert len(battery.commands) == before

    with_unit(story)


def test_a_current_is_sourced_and_the_voltage_read(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write("OUTP ON")
        voltage_V, current_A, elapsed_s = await unit.values('READ? "defbuffer1",READ,SOUR,REL')
        assert voltage_V == pytest.approx(4.7, abs=2e-3)
        assert current_A == pytest.approx(1e-3, rel=1e-3)
        assert elapsed_s == 0
        await unit.write("OUTP OFF")
        assert battery.is_open
        assert await unit.ask("OUTP?") == "0"

    with_unit(story)


def test_the_normal_off_state_discharges_a_battery(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write("SOUR:VOLT 3.7;:SOUR:VOLT:ILIM 1e-3;:OUTP ON")
        await unit.write("OUTP OFF")
        assert battery.commands[-1] == ("current", pytest.approx(-1e-4))
        await unit.write("OUTP:VOLT:SMOD HIMP")
        assert battery.is_open
        await unit.write("*RST")
        assert not battery.is_open

    with_unit(story)


@pytest.mark.parametrize(
    ("state", "command"),
    [
        ("ZERO", ("current", -1e-3)),
        ("GUAR", ("current", -1e-4)),
        ("HIMP", ("open", 0.0)),
    ],
)
def test_each_off_state_does_what_it_is_for(
    with_unit: Tell, battery: Any, state: str, command: tuple[str, float]
) -> None:
    async def story(unit: Unit) -> None:
        await unit.write("SOUR:VOLT 3.7;:SOUR:VOLT:ILIM 1e-3", f"OUTP:SMOD {state}", "OUTP ON")
        await unit.write("OUTP OFF")
        assert battery.commands[-1] == pytest.approx(command)

    with_unit(story)


def test_a_voltage_limit_below_the_cell_makes_the_unit_sink(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3, limit_V=3.0)
        await unit.write("OUTP ON")
        assert battery.commands[-1] == ("voltage", 3.0)
        assert battery.terminals()[1] < 0
        assert await unit.ask("SOUR:CURR:VLIM:TRIP?") == "1"
        await unit.write("SOUR:CURR:VLIM 5")
        assert battery.commands[-1][0] == "current"
        assert await unit.ask("SOUR:CURR:VLIM:TRIP?") == "0"

    with_unit(story)


def test_the_stage_sinks_no_more_than_its_range(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-4, limit_V=1.0)
        await unit.write("OUTP ON")
        assert battery.commands[-1] == ("current", pytest.approx(-1.05e-4))

    with_unit(story)


def test_the_limit_acts_by_itself_and_lets_go_again(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3, limit_V=4.9)
        await unit.write("OUTP ON")
        await unit.stream.close()
        battery.open_circuit_V = 4.5
        await asyncio.sleep(11)
        assert battery.commands[-1] == ("voltage", 4.9)
        battery.open_circuit_V = 3.5
        await asyncio.sleep(11)
        assert battery.commands[-1][0] == "current"

    with_unit(story)


def test_a_voltage_source_is_held_back_by_its_current_limit(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write("OUTP:SMOD HIMP;:SOUR:VOLT 4.8;:SOUR:VOLT:ILIM 5e-4;:OUTP ON")
        current_A, bits = await unit.values('READ? "defbuffer1",READ,SOURSTAT')
        assert current_A == pytest.approx(5e-4, rel=1e-3)
        assert int(bits) & 32
        assert await unit.ask("SOUR:VOLT:ILIM:TRIP?") == "1"
        battery.open_circuit_V = 4.6
        current_A, bits = await unit.values('READ? "defbuffer1",READ,SOURSTAT')
        assert current_A == pytest.approx(2e-4, rel=1e-2)
        assert not int(bits) & 32

    with_unit(story)


def test_overvoltage_protection_clamps_the_output(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(3e-3, limit_V=20)
        await unit.write("SOUR:VOLT:PROT PROT5;:OUTP ON")
        assert battery.commands[-1] == ("voltage", 5.0)
        assert await unit.ask("SOUR:VOLT:PROT:TRIP?") == "1"
        assert int((await unit.values('READ? "defbuffer1",SOURSTAT'))[0]) & 4

    with_unit(story)


def test_an_open_interlock_limits_the_voltage(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        unit.device.set_interlock(closed=False)
        await unit.write("SOUR:VOLT:ILIM 0.1;:SOUR:VOLT 60;:OUTP ON")
        assert battery.commands[-1] == ("voltage", 42.0)
        assert await unit.ask("OUTP:INT:TRIP?") == "0"
        assert (await unit.ask("SYST:EVEN:NEXT?")).startswith('5074,"Output voltage limited')

    with_unit(story)


def test_choosing_another_source_switches_the_output_off(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write("OUTP:SMOD HIMP;:SOUR:VOLT 3.7;:OUTP ON;:SOUR:FUNC CURR")
        assert await unit.ask("OUTP?") == "0"
        assert battery.is_open

    with_unit(story)


def test_two_wires_add_the_voltage_of_the_leads(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-1, limit_V=200)
        await unit.write("SENS:VOLT:RANG 200;:OUTP ON")
        four_wire_V = (await unit.values("READ?"))[0]
        await unit.write("SENS:VOLT:RSEN OFF")
        two_wire_V = (await unit.values("READ?"))[0]
        assert two_wire_V - four_wire_V == pytest.approx(0.01, abs=4e-3)

    with_unit(story)


# ---------------------------------------------------------------------- readings


@pytest.mark.parametrize(
    ("setting", "duration_s"),
    [
        ("SENS:VOLT:NPLC 1", 0.06),
        ("SENS:VOLT:NPLC 10", 0.6),
        ("SENS:VOLT:NPLC 1;AZER OFF", 0.02),
        ("SENS:VOLT:AVER:COUN 5;:SENS:VOLT:AVER ON", 0.3),
        ("SENS:COUN 3", 0.18),
    ],
)
def test_a_reading_takes_its_time(with_unit: Tell, setting: str, duration_s: float) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write("SOUR:CURR:READ:BACK OFF", setting, "OUTP ON")
        await asyncio.sleep(1)
        await unit.ask("READ?")
        elapsed_s = asyncio.get_running_loop().time() - 1
        assert elapsed_s == pytest.approx(duration_s, rel=0.15)

    with_unit(story)


def test_noise_falls_with_the_aperture(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(0.0)
        await unit.write("OUTP ON")
        spread_V = []
        for cycles in (0.01, 1, 10):
            await unit.write(f"SENS:VOLT:NPLC {cycles}")
            readings_V = [(await unit.values("READ?"))[0] for _ in range(60)]
            spread_V.append(statistics.stdev(readings_V))
        assert spread_V[0] > 5 * spread_V[1] > 10 * spread_V[2] > 0

    with_unit(story)


def test_beyond_a_fixed_range_a_reading_overflows(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write("SENS:VOLT:RANG 2;:OUTP ON")
        value, status = await unit.values('READ? "defbuffer1",READ,STAT')
        assert value == 9.9e37
        assert int(status) & 2

    with_unit(story)


def test_with_the_relay_open_there_is_nothing_to_read(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        value, status = await unit.values('READ? "defbuffer1",READ,SOURSTAT')
        assert abs(value) < 1e-3
        assert not int(status) & 128

    with_unit(story)


def test_resolution_is_the_ranges(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write("OUTP ON")
        value = float(await unit.ask("READ?"))
        assert value == pytest.approx(round(value, 5), abs=1e-9)

    with_unit(story)


# ---------------------------------------------------------------------- buffers


def test_a_users_buffer_stops_when_it_is_full(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write('TRAC:MAKE "cell",10', "OUTP ON", "SENS:COUN 12", 'TRAC:TRIG "cell"')
        assert await unit.ask('TRAC:ACT? "cell"') == "10"
        assert await unit.error() == 4915
        assert await unit.error() == 0
        elapsed_s = await unit.values('TRAC:DATA? 1,10,"cell",REL')
        assert elapsed_s[0] == 0
        assert elapsed_s == sorted(elapsed_s)
        await unit.write('TRAC:CLE "cell"')
        assert await unit.ask('TRAC:ACT? "cell"') == "0"

    with_unit(story)


def test_a_continuous_buffer_overwrites_the_oldest(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.write('TRAC:POIN 10,"defbuffer1"', "SENS:COUN 13", "TRAC:TRIG")
        assert await unit.ask("TRAC:ACT?;:TRAC:ACT:STAR?;:TRAC:ACT:END?") == "10;4;3"
        assert await unit.error() == 0

    with_unit(story)


def test_every_element_of_a_reading_can_be_had(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write("OUTP ON")
        reply = await unit.ask(
            'READ? "defbuffer1",DATE,TIME,TST,SEC,FRAC,UNIT,SOURUNIT,STAT,SOURSTAT'
        )
        assert reply.split(",")[0:2] == ["01/05/2026", "08:00:00"]
        assert reply.split(",")[5:7] == ["Volt DC", "Amp DC"]
        assert [int(bits) for bits in reply.split(",")[7:]] == [8, 8 + 64 + 128]

    with_unit(story)


# ---------------------------------------------------------------------- trigger model


async def load(unit: Unit, blocks: str = CUT_OFF) -> None:
    await unit.write('TRAC:MAKE "cell",1000', *blocks.split("\n"))
    assert await unit.ask("SYST:ERR:COUN?") == "0"


def test_the_cut_off_of_the_manual_switches_the_output_off(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await load(unit)
        assert (await unit.ask("TRIG:STAT?")).startswith("EMPTY") is False
        await unit.write("INIT")
        await unit.stream.close()
        await asyncio.sleep(3)
        assert not battery.is_open
        battery.open_circuit_V = 4.0
        await asyncio.sleep(2)
        assert battery.is_open
        again = Unit(unit.device)
        assert await again.ask("TRIG:STAT?") == "IDLE;IDLE;9"
        assert await again.ask("OUTP?") == "0"
        last_V = (await again.values('FETC? "cell",READ'))[0]
        assert last_V > 4.9
        log = [await again.ask("SYST:EVEN:NEXT?") for _ in range(2)]
        assert log[1].startswith('2738,"CUT vmax;2;')

    with_unit(story)


def test_a_counter_ends_the_loop_after_its_passes(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await load(unit)
        await unit.write("INIT")
        await asyncio.sleep(5)
        assert await unit.ask("TRIG:BLOC:BRAN:COUN:COUN? 6") == "4"
        assert await unit.ask("TRIG:STAT?") == "RUNNING;RUNNING;5"
        assert await unit.ask("*OPC?") == "1"
        assert await unit.ask('TRAC:ACT? "cell"') == "10"
        assert await unit.ask("OUTP?") == "0"
        elapsed_s = await unit.values('TRAC:DATA? 1,10,"cell",REL')
        assert elapsed_s[9] == pytest.approx(9 * 1.1208, abs=0.01)

    with_unit(story)


def test_the_state_is_shown_at_most_100_ms_late(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await load(unit, ":TRIG:BLOC:DEL:CONS 1,0.33")
        await asyncio.sleep(0.05)
        await unit.write("INIT")
        assert (await unit.ask("TRIG:STAT?")).startswith("BUILDING")
        await asyncio.sleep(0.1)
        assert (await unit.ask("TRIG:STAT?")).startswith("RUNNING")
        await asyncio.sleep(0.24)
        assert (await unit.ask("TRIG:STAT?")).startswith("RUNNING")
        await asyncio.sleep(0.02)
        assert (await unit.ask("TRIG:STAT?")).startswith("IDLE")

    with_unit(story)


def test_abort_stops_the_model_and_leaves_the_output_as_it_is(
    with_unit: Tell, battery: Any
) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await load(unit)
        await unit.write("INIT")
        await asyncio.sleep(2.05)
        await unit.write("ABOR")
        await asyncio.sleep(0.1)
        assert (await unit.ask("TRIG:STAT?")).startswith("ABORTED;ABORTED;")
        assert await unit.ask("OUTP?") == "1"
        assert not battery.is_open
        await unit.write("OUTP OFF")
        assert battery.is_open

    with_unit(story)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("SOUR:CURR 2e-3", -221),
        ("OUTP OFF", -221),
        ("READ?", -221),
        (':TRIG:LOAD "Empty"', -221),
        ("INIT", -213),
    ],
)
def test_while_the_model_runs_what_conflicts_is_refused(
    with_unit: Tell, request_: str, code: int
) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await load(unit)
        await unit.write("INIT", request_)
        assert await unit.error() == code
        assert await unit.ask("OUTP?") == "1"

    with_unit(story)


def test_reset_stops_everything(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await load(unit)
        await unit.write("INIT", "*RST")
        await asyncio.sleep(0.1)
        assert await unit.ask("OUTP?;:TRIG:STAT?") == "0;EMPTY;EMPTY;0"
        assert battery.commands[-1][0] != "open"

    with_unit(story)


@pytest.mark.parametrize(
    ("blocks", "state"),
    [
        (":TRIG:BLOC:NOP 1\n:TRIG:BLOC:NOP 3", "FAILED"),
        (":TRIG:BLOC:BRAN:ALW 1,7", "FAILED"),
        (":TRIG:BLOC:BRAN:LIM:CONS 1,ABOV,0,1,1", "FAILED"),
        (':TRIG:BLOC:LOG:EVEN 1,ABOR,"enough"', "ABORTED"),
        (":TRIG:BLOC:BRAN:ONCE 1,3\n:TRIG:BLOC:DEL:CONS 2,1e3\n:TRIG:BLOC:NOP 3", "IDLE"),
        (":TRIG:BLOC:BRAN:ONCE:EXCL 1,3\n:TRIG:BLOC:BRAN:ALW 2,1\n:TRIG:BLOC:NOP 3", "IDLE"),
        (":TRIG:BLOC:NOT 1,2\n:TRIG:BLOC:WAIT 2,NOT2", "IDLE"),
        (":TRIG:BLOC:NOT 1,2\n:TRIG:BLOC:WAIT 2,NOT2,ENT", "RUNNING"),
        (":TRIG:BLOC:BRAN:EVEN 1,SLIM,3\n:TRIG:BLOC:WAIT 2,COMM\n:TRIG:BLOC:NOP 3", "RUNNING"),
    ],
)
def test_models_end_as_their_blocks_say(with_unit: Tell, blocks: str, state: str) -> None:
    async def story(unit: Unit) -> None:
        await load(unit, blocks)
        await unit.write("INIT")
        await asyncio.sleep(1)
        assert (await unit.ask("TRIG:STAT?")).startswith(state)

    with_unit(story)


def test_a_trigger_of_the_bus_ends_a_wait(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await load(unit, ":TRIG:BLOC:WAIT 1,COMM")
        await unit.write("INIT")
        await asyncio.sleep(5)
        assert (await unit.ask("TRIG:STAT?")).startswith("RUNNING")
        await unit.write("*TRG")
        assert await unit.ask("*OPC?", 1) == "1"

    with_unit(story)


def test_the_source_limit_is_an_event(with_unit: Tell, battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3, limit_V=4.9)
        await load(
            unit,
            ":TRIG:BLOC:SOUR:STAT 1,ON\n:TRIG:BLOC:WAIT 2,SLIM\n:TRIG:BLOC:SOUR:STAT 3,OFF",
        )
        await unit.write("INIT")
        await asyncio.sleep(30)
        assert not battery.is_open
        battery.open_circuit_V = 4.2
        await asyncio.sleep(11)
        assert battery.is_open

    with_unit(story)


def test_timers_pace_a_loop(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write("TRIG:TIM1:DEL 0.5;:TRIG:TIM1:COUN 0;:TRIG:TIM1:STAR:STIM NOT1")
        await unit.write("TRIG:TIM1:STAT ON")
        await load(
            unit,
            ":TRIG:BLOC:SOUR:STAT 1,ON\n:TRIG:BLOC:NOT 2,1\n:TRIG:BLOC:WAIT 3,TIM1\n"
            ':TRIG:BLOC:MEAS 4,"cell"\n:TRIG:BLOC:BRAN:COUN 5,8,3',
        )
        await unit.write("INIT")
        assert await unit.ask("*OPC?", 10) == "1"
        elapsed_s = await unit.values('TRAC:DATA? 1,8,"cell",REL')
        steps_s = [after - before for before, after in itertools.pairwise(elapsed_s)]
        assert steps_s == pytest.approx([0.5] * 7, abs=1e-6)

    with_unit(story)


def test_configuration_lists_step_the_source(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write('SOUR:CONF:LIST:CRE "steps"', 'SOUR:CONF:LIST:STOR "steps"')
        await unit.write("SOUR:CURR 2e-4", 'SOUR:CONF:LIST:STOR "steps"')
        assert await unit.ask('SOUR:CONF:LIST:SIZE? "steps"') == "2"
        await load(
            unit,
            ':TRIG:BLOC:CONF:REC 1,"steps"\n:TRIG:BLOC:SOUR:STAT 2,ON\n'
            ':TRIG:BLOC:CONF:NEXT 3,"steps"\n:TRIG:BLOC:MEAS 4,"cell"\n'
            ":TRIG:BLOC:BRAN:COUN 5,4,3\n:TRIG:BLOC:SOUR:STAT 6,OFF",
        )
        await unit.write("INIT")
        await unit.ask("*OPC?")
        voltages_V = await unit.values('TRAC:DATA? 1,4,"cell",READ')
        assert voltages_V == pytest.approx([4.7, 3.9, 4.7, 3.9], abs=5e-3)

    with_unit(story)


@pytest.mark.parametrize(
    ("load_command", "count"),
    [('"SimpleLoop",5,0.1,"cell"', 5), ('"DurationLoop",2.0,0.0,"cell"', 17)],
)
def test_predefined_models_run(with_unit: Tell, load_command: str, count: int) -> None:
    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await load(unit, f":TRIG:LOAD {load_command}")
        await unit.write("INIT")
        await unit.ask("*OPC?")
        assert abs(int(await unit.ask('TRAC:ACT? "cell"')) - count) <= 1
        assert await unit.ask("OUTP?") == "0"

    with_unit(story)


def test_blocks_that_never_wait_do_not_stop_time(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await load(unit, ":TRIG:BLOC:NOP 1\n:TRIG:BLOC:BRAN:ALW 2,1")
        await unit.write("INIT")
        await asyncio.sleep(1)
        await unit.write("ABOR")
        assert await unit.error() == 0

    with_unit(story)


def test_digitising_blocks_belong_to_the_2461(battery: Any) -> None:
    async def story(unit: Unit) -> None:
        await unit.write('TRIG:BLOC:DIG 1,"defbuffer1",1')
        assert await unit.error() == (0 if unit.device.model == "2461" else -113)

    for model in ("2450", "2461"):
        battery.time_s = 0.0
        tell_story(story, battery, model=model)


# ---------------------------------------------------------------------- hosts and time


def test_a_wait_that_nobody_ends_is_forgotten_with_its_host(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await load(unit, ":TRIG:BLOC:WAIT 1,COMM")
        await unit.write("INIT", "*WAI", "OUTP ON")
        again = Unit(unit.device)
        assert await again.ask("OUTP?", 1) == "0"
        await again.write("ABOR")
        assert await again.ask("*OPC?", 1) == "1"

    with_unit(story)


def test_a_reply_goes_to_no_other_host(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.write("SENS:CURR:NPLC 10", "READ?")
        again = Unit(unit.device)
        await again.write("SOUR:FUNC?")
        assert (await again.stream.read_until(b"\n", 5)) == b"VOLT\n"

    with_unit(story)


def test_one_seed_gives_one_record(battery: Any) -> None:
    records: list[str] = []

    async def story(unit: Unit) -> None:
        await unit.source_current(1e-3)
        await unit.write("OUTP ON", "SENS:COUN 5")
        await unit.ask("READ?")
        records.append(await unit.ask("TRAC:DATA? 1,5,'defbuffer1',READ,SOUR,REL"))

    for seed in (1, 1, 2):
        battery.time_s = 0.0
        tell_story(story, battery, seed=seed)
    assert records[0] == records[1] != records[2]


def test_a_fast_clock_shows_in_the_times(with_unit: Tell) -> None:
    async def story(unit: Unit) -> None:
        await unit.ask("READ?")
        await asyncio.sleep(1000)
        await unit.ask("READ?")
        elapsed_s = await unit.values("TRAC:DATA? 1,2,'defbuffer1',REL")
        assert elapsed_s[1] == pytest.approx(1000.061 * 1.01, abs=0.01)

    with_unit(story, clock_drift=0.01)


def test_a_cell_is_charged_until_the_unit_cuts_off() -> None:
    world = World(load_preset("LCO_InLi"), seed=1)

    async def story(unit: Unit) -> None:
        await unit.source_current(0.0)
        await unit.write("OUTP ON")
        rest_V = (await unit.values("READ?"))[0]
        await unit.write("OUTP OFF", "SOUR:CURR 1e-4")
        stop_V = rest_V + 0.3
        await load(
            unit,
            ":TRIG:BLOC:SOUR:STAT 1,ON\n"
            ':TRIG:BLOC:MEAS 2,"cell"\n'
            f":TRIG:BLOC:BRAN:LIM:CONS 3,ABOV,0,{stop_V},6\n"
            ":TRIG:BLOC:DEL:CONS 4,10\n"
            ":TRIG:BLOC:BRAN:COUN 5,900,2\n"
            ":TRIG:BLOC:SOUR:STAT 6,OFF",
        )
        await unit.write("INIT")
        await unit.ask("*OPC?", 1e5)
        count = await unit.ask('TRAC:ACT? "cell"')
        voltages_V = await unit.values(f'TRAC:DATA? 1,{count},"cell",READ')
        assert len(voltages_V) > 1
        assert all(voltage_V <= stop_V for voltage_V in voltages_V[:-1])
        assert world.terminals()[1] == 0

    tell_story(story, world)


@given(st.lists(st.binary(max_size=60), max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_unit_down(battery: Any, pieces: list[bytes]) -> None:
    async def story(unit: Unit) -> None:
        for piece in pieces:
            await unit.stream.write(piece + b"\n")
        await unit.stream.drain(1)
        assert "2450" in await unit.ask("*CLS;*IDN?")

    battery.time_s = 0.0
    tell_story(story, battery)
