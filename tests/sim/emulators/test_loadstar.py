"""The load cell: its requests, its zero, its noise, its end of scale."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench_sim.emulators import LoadstarEmulator

Tell = Callable[..., None]


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"\r", b"A\r\n"),
        (b"model\r", b"DI-1000U\r\n"),
        (b"unit\r", b"N\r\n"),
        (b"lc\r", b"5000\r\n"),
        (b"tare\r", b"Tared\r\n"),
        (b"what\r", b"E\r\n"),
    ],
)
def test_each_request_has_its_reply(with_bench: Tell, request_: bytes, reply: bytes) -> None:
    async def story(host: Any, bench: Any) -> None:
        assert await host.ask(request_) == reply

    with_bench(story, "load cell")


async def press_to(bench: Any, force_N: float) -> None:
    """Let somebody turn the press, past its PLC."""
    bench.world.advance_to(asyncio.get_running_loop().time())
    bench.world.press.ramp_to(force_N, 500.0)
    await asyncio.sleep(20)


def test_readings_scatter_around_the_force_once_tared(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        offset_N = float(await host.ask(b"w\r"))
        assert offset_N != 0
        await host.ask(b"tare\r")
        await press_to(bench, 400.0)
        readings_N = [float(await host.ask(b"w\r")) for _ in range(200)]
        assert statistics.mean(readings_N) == pytest.approx(400.0, abs=4)
        assert 0.5 < statistics.stdev(readings_N) < 2

    with_bench(story, "load cell")


def test_taring_takes_most_of_a_second(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        await host.ask(b"tare\r")
        assert asyncio.get_running_loop().time() == pytest.approx(0.8, abs=0.01)

    with_bench(story, "load cell")


def test_continuous_output_runs_until_the_empty_request(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        await host.stream.write(b"wc\r")
        await asyncio.sleep(0.95)
        await host.stream.write(b"\r")
        output = await host.stream.read_until(b"A\r\n", 1)
        assert len([float(line) for line in output.split(b"\r\n")[:-2]]) == 10
        assert await host.is_silent(b"", for_s=1.0)

    with_bench(story, "load cell")


def test_the_native_unit_is_the_instruments_own(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        assert await host.ask(b"unit\r") == b"LB\r\n"
        await host.ask(b"tare\r")
        await press_to(bench, 2000.0)
        assert float(await host.ask(b"w\r")) == pytest.approx(2000 / 4.4482, abs=2)

    with_bench(story, "load cell", load_cell_unit="LB")


def test_beyond_its_capacity_it_saturates(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        bench.world.press.max_force_N = 20_000.0
        await press_to(bench, 6000.0)
        assert float(await host.ask(b"w\r")) == 5000.0

    with_bench(story, "load cell")


@given(st.binary(max_size=100))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_load_cell_down(with_bench: Tell, data: bytes) -> None:
    async def story(host: Any, bench: Any) -> None:
        await host.stream.write(data)
        await asyncio.sleep(2)
        await host.stream.write(b"\r\r")
        await host.stream.drain(0.1)
        assert await host.ask(b"\r") == b"A\r\n"

    with_bench(story, "load cell")


def test_a_bench_file_says_its_capacity(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await host.ask(b"lc\r") == b"25000\r\n"

    options = {"capacity": "25 kN", "port": "COM4", "stale after": "3 s"}
    with_emulator(story, LoadstarEmulator.from_bench, options=options)
