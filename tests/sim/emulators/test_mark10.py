"""The force gauge and the test stand: single letters, the gauge through it, what stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cellbench_sim.emulators.mark10_gauge import Mark10GaugeEmulator
from cellbench_sim.emulators.mark10_stand import Mark10StandEmulator

Tell = Callable[..., None]


class Stand:
    def __init__(self, host: Any) -> None:
        self.host = host

    async def ask(self, letters: str) -> str:
        reply: bytes = await self.host.ask(letters.encode(), timeout_s=5)
        assert reply.endswith(b"\r\n")
        return reply.decode().strip()

    async def do(self, letters: str) -> None:
        assert await self.host.is_silent(letters.encode(), for_s=0.01)

    async def force_N(self) -> float:
        return float((await self.ask("/?\\")).split()[0])

    async def travel_mm(self) -> float:
        number, unit = (await self.ask("x")).split()
        assert unit == "mm"
        return float(number)


def telling(with_emulator: Tell, story: Any, **settings: Any) -> None:
    async def to_client(host: Any, world: Any) -> None:
        await story(Stand(host), world)

    with_emulator(to_client, Mark10StandEmulator, **settings)


async def pressed(world: Any, force_N: float) -> None:
    """Let somebody turn the press, past its controller."""
    world.advance_to(asyncio.get_running_loop().time())
    world.press.ramp_to(force_N, 500.0)
    await asyncio.sleep(30)


@pytest.mark.parametrize(("compression", "sign"), [("positive", 1), ("negative", -1)])
def test_the_gauge_reads_force_and_remembers_peaks(
    with_emulator: Tell, compression: str, sign: int
) -> None:
    async def story(host: Any, world: Any) -> None:
        async def ask(request: bytes) -> float:
            number, unit = (await host.ask(request + b"\r")).decode().split()
            assert unit == "N"
            return float(number)

        await pressed(world, 1500.0)
        assert await ask(b"?") == pytest.approx(sign * 1500.0, abs=6)
        await pressed(world, 400.0)
        assert await ask(b"?C") == pytest.approx(sign * 400.0, abs=6)
        assert await ask(b"?PC") == pytest.approx(sign * 1500.0, abs=8)
        assert await ask(b"?PT") == pytest.approx(0.0, abs=8)
        assert await host.ask(b"?A\r") == b"*10\r\n"

    options = {"compression": compression, "capacity": "2 kN", "port": "COM1"}
    with_emulator(story, Mark10GaugeEmulator.from_bench, options=options)


def test_letters_act_by_themselves_and_say_nothing(with_emulator: Tell) -> None:
    async def story(stand: Stand, world: Any) -> None:
        assert await stand.ask("p") == "SM"
        await stand.do("d")
        assert await stand.ask("p") == "DM"
        await stand.do("s")
        assert await stand.ask("p") == "SM"
        await stand.do("u\r\n")
        assert await stand.ask("p\r") == "UM"
        await stand.do("l")
        assert await stand.ask("p") == "UL"
        await stand.do("m i Q")
        assert await stand.ask("p") == "UM"

    telling(with_emulator, story)


def test_it_travels_down_through_the_air_and_presses(with_emulator: Tell) -> None:
    async def story(stand: Stand, world: Any) -> None:
        await stand.do("e6\r")
        await stand.do("z")
        await stand.do("d")
        await asyncio.sleep(5)
        # 6 mm/min are 0.1 mm/s; the stack is 1 mm below.
        assert await stand.travel_mm() == pytest.approx(0.5, abs=0.01)
        assert await stand.force_N() == pytest.approx(0.0, abs=8)
        await asyncio.sleep(5.5)
        await stand.do("e0.5\r")
        await asyncio.sleep(10)
        await stand.do("s")
        pressed_N = world.force_N()
        assert 500 < pressed_N < 3000
        assert await stand.force_N() == pytest.approx(pressed_N, abs=8)
        travel, force = (await stand.ask("n")).split(" mm ")
        assert float(travel) == pytest.approx(1.0 + pressed_N / 10e6 * 1e3, abs=0.02)
        assert float(force.split()[0]) == pytest.approx(pressed_N, abs=8)
        await asyncio.sleep(60)
        assert await stand.force_N() == pytest.approx(pressed_N, rel=0.02)

    telling(with_emulator, story)


def test_up_takes_the_force_away_and_lifts_off(with_emulator: Tell) -> None:
    async def story(stand: Stand, world: Any) -> None:
        await stand.do("d")
        await asyncio.sleep(7)
        await stand.do("s")
        assert world.force_N() > 500
        await stand.do("u")
        await asyncio.sleep(30)
        assert world.force_N() == 0.0
        assert await stand.travel_mm() < 0.0
        await stand.do("s")
        place_mm = await stand.travel_mm()
        await asyncio.sleep(10)
        assert await stand.travel_mm() == place_mm

    telling(with_emulator, story)


def test_the_gauges_range_stops_it(with_emulator: Tell) -> None:
    async def story(stand: Stand, world: Any) -> None:
        await stand.do("e1\r")
        await stand.do("d")
        await asyncio.sleep(120)
        assert await stand.ask("p") == "SM"
        assert await stand.force_N() == pytest.approx(950.0, abs=60)

    telling(with_emulator, story, capacity_N=1000.0)


def test_travel_limits_stop_it_in_limit_mode(with_emulator: Tell) -> None:
    async def story(stand: Stand, world: Any) -> None:
        await stand.do("z")
        for setting in ("g0.5\r", "h-0.25\r", "e6\r", "l"):
            await stand.do(setting)
        await stand.do("d")
        await asyncio.sleep(20)
        assert await stand.ask("p") == "SLDL"
        assert await stand.travel_mm() == pytest.approx(0.5, abs=0.002)
        await stand.do("u")
        await asyncio.sleep(20)
        assert await stand.ask("p") == "SLUL"
        assert await stand.travel_mm() == pytest.approx(-0.25, abs=0.002)
        assert world.force_N() == 0.0

    telling(with_emulator, story)


def test_a_travel_limit_in_the_stack_bounds_the_force(with_emulator: Tell) -> None:
    async def story(stand: Stand, world: Any) -> None:
        for setting in ("g1.1\r", "e1\r", "l", "d"):
            await stand.do(setting)
        await asyncio.sleep(90)
        assert await stand.force_N() == pytest.approx(1000.0, rel=0.05)
        assert (await stand.ask("p"))[0] == "S"

    telling(with_emulator, story)


def test_it_passes_requests_through_to_the_gauge(with_emulator: Tell) -> None:
    async def story(stand: Stand, world: Any) -> None:
        assert (await stand.ask("/?\\")).endswith(" N")
        assert (await stand.ask("/?PC\r\\")).endswith(" N")
        assert await stand.ask("/what\\") == "*10"

    async def to_client(host: Any, world: Any) -> None:
        await story(Stand(host), world)

    with_emulator(to_client, Mark10StandEmulator.from_bench, options={"capacity": "1.5 kN"})


@pytest.mark.long
@pytest.mark.parametrize("kind", [Mark10GaugeEmulator, Mark10StandEmulator])
@given(
    data=st.one_of(st.binary(max_size=60), st.from_regex(rb"([duslmzfgeh/]|-?[0-9.]{1,4}|\r){9}"))
)
@hypothesis.settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_them_down(with_emulator: Tell, kind: Any, data: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(data + b"\r")
        await asyncio.sleep(100)
        host.stream = host.device.connect()
        stands = kind is Mark10StandEmulator
        assert b" N" in await host.ask(b"n" if stands else b"?\r", timeout_s=1)

    with_emulator(story, kind)
