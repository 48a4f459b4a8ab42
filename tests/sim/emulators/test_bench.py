"""The simulated bench as a whole: what it says of itself, its life, its determinism."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cellbench.clock import run
from cellbench.errors import CellbenchError, InputError, TransportClosed
from cellbench_sim.bench import SimulatedBench, cell_names

SCRIPT = b"""e
var p
var c
set_pgstat_mode 6
set_range db 1m
cell_on
meas_loop_cp p c 50u 1 100
pck_start
pck_add p
pck_add c
pck_end
endloop
on_finished:
cell_off

"""


def test_an_unknown_cell_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="LYC_PMMA"):
        SimulatedBench("unobtainium", 1)
    assert "LYC_PMMA" in cell_names()


def test_the_description_is_what_a_bench_file_would_say() -> None:
    description = SimulatedBench("LYC", 1, potentiostat="emstat4_hr").description()
    assert description["instruments"]["potentiostat"] == {
        "driver": "palmsens",
        "port": "simulated",
        "f_max": "200 kHz",
    }
    assert description["bench"] == "simulated LYC, fixture: servo"
    assert description["fixture"] == {"die": "10 mm", "kind": "servo", "at most": "5 kN"}


def test_press_and_load_cell_are_those_of_the_fixture() -> None:
    description = SimulatedBench("LYC", 1, fixture="laboratory press").description()
    assert description["bench"] == "simulated LYC, fixture: laboratory press"
    assert description["fixture"]["at most"] == "147 kN"
    instruments = description["instruments"]
    assert (instruments["press"]["capacity"], instruments["press"]["force_min"]) == (
        "147 kN",
        "2000 N",
    )
    assert instruments["load cell"]["capacity"] == "147 kN"


def test_an_unknown_fixture_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="laboratory press, screw, spring"):
        SimulatedBench("LYC", 1, fixture="anvil")


def test_nobody_can_connect_before_the_bench_is_on_or_to_what_is_not_there() -> None:
    async def main() -> None:
        bench = SimulatedBench("LYC", 1)
        with pytest.raises(CellbenchError, match="not switched on"):
            bench.connect("press")
        async with bench:
            with pytest.raises(InputError, match="load cell"):
                bench.connect("oscilloscope")

    run(main(), virtual=True)


def measure(seed: int, polls: int = 0, **options: Any) -> bytes:
    """Run a script, with somebody looking at the other instruments all the while."""

    async def main() -> bytes:
        async with SimulatedBench("LYC_PMMA", seed, **options) as bench:
            stream, load_cell = bench.connect("potentiostat"), bench.connect("load cell")
            await stream.write(SCRIPT)
            for _ in range(polls):
                await load_cell.write(b"w\r")
                await asyncio.sleep(100 / polls)
            return await stream.read_until(b"\n\n", 1000)

    return run(main(), virtual=True)


def test_one_seed_gives_one_measurement_whoever_looks_on() -> None:
    assert measure(3) == measure(3) == measure(3, polls=7) == measure(3, polls=333)
    assert measure(3) != measure(4)


def test_reversed_leads_turn_the_voltage_of_the_cell_not_of_the_current() -> None:
    straight, reversed_ = measure(3).splitlines(), measure(3, polarity=-1).splitlines()
    assert straight[2][:4] == reversed_[2][:4] == b"Pab8"


@pytest.mark.long
def test_a_broken_wire_drives_the_potentiostat_to_its_limit() -> None:
    lines = measure(3, connected=False).splitlines()
    assert all(b",12," in line for line in lines if line.startswith(b"P"))


def test_a_fault_inside_an_emulator_ends_the_bench_with_its_reason() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC", 1) as bench:
            stream = bench.connect("load cell")
            bench.world.advance_to(1e6)
            await stream.write(b"w\r")
            await asyncio.sleep(10)

    with pytest.raises(ExceptionGroup) as caught:
        run(main(), virtual=True)
    assert caught.group_contains(ValueError, match="time runs forward")


def test_an_error_of_the_host_passes_through_unchanged() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC", 1):
            raise InputError("mine")

    with pytest.raises(InputError, match="mine"):
        run(main(), virtual=True)


def test_a_bench_that_is_off_does_nothing_any_more() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC", 1) as bench:
            stream = bench.connect("load cell")
            await stream.write(b"wc\r")
        await stream.drain(0.1)
        await stream.write(b"w\r")
        assert await stream.drain(5) == b""
        await stream.close()
        with pytest.raises(TransportClosed):
            await stream.write(b"w\r")

    run(main(), virtual=True)


def test_the_faults_of_a_connection_hide_the_instrument_and_do_not_stop_it() -> None:
    async def main() -> None:
        async with SimulatedBench("LYC", 1) as bench:
            stream, line = bench.connect("load cell"), bench.load_cell.line
            line.silent = True
            await stream.write(b"unit\r")
            assert await stream.drain(5) == b""
            line.silent, line.delay_s = False, 2.0
            await stream.write(b"unit\rlc\r")
            started_s = asyncio.get_running_loop().time()
            assert await stream.read_exactly(9, 5) == b"N\r\n5000\r\n"
            assert asyncio.get_running_loop().time() - started_s == pytest.approx(2, abs=0.01)
            line.delay_s, line.garble = 0.0, lambda data: data[1:]
            await stream.write(b"unit\r")
            assert await stream.read_exactly(2, 1) == b"\r\n"
            bench.load_cell.hang_up()
            with pytest.raises(TransportClosed):
                await stream.read_exactly(1, 1)

    run(main(), virtual=True)
