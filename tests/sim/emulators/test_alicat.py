"""The pressure controller: its lines, ramps, hold and refusals, and the alicat package's client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cellbench_sim.emulators.alicat import AlicatEmulator

Tell = Callable[..., None]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
PSI = 6894.757
#: 100 psi on it are 4000 N without friction.
AREA_M2 = 4000.0 / (100 * PSI)


class Client:
    def __init__(self, host: Any) -> None:
        self.host = host

    async def ask(self, request: str) -> str:
        reply: bytes = await self.host.ask(request.encode() + b"\r", b"\r", 5)
        return reply.decode().rstrip("\r")

    async def pressure(self) -> float:
        return float((await self.ask("A")).split()[1])


def telling(with_emulator: Tell, story: Any, kind: Any = AlicatEmulator, **settings: Any) -> None:
    own = {} if "options" in settings else {"piston_area_m2": AREA_M2, "efficiency": 1.0}

    async def to_client(host: Any, world: Any) -> None:
        await story(Client(host), world)

    with_emulator(to_client, kind, **{**own, **settings})


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("AR122", "A 122=34"), ("AW122=38", "A 122=38"), ("AW122=37", "?"), ("ar122", "A 122=34"),
        ("AS-1", "?"), ("AS151", "?"), ("AS1e5", "?"), ("A$$PC", "?"), ("A$$W46=8", "?"),
        ("AQ", "?"), ("ASR 5 4", "A 5.00 10 4 PSI/s"), ("ASR", "A 0.00 10 4 PSI/s"),
        ("ASR 5 9", "?"), ("ALSRC", "A 1 1 1 0"), ("ALSRC 0 1 0 1", "A 0 1 0 1"),
        ("ALS", "A +014.70 +014.70 10 PSI"), ("AVE", "A 10v05.0-R24 PCD"),
    ],
)  # fmt: skip
def test_each_request_has_its_reply(with_emulator: Tell, request_: str, reply: str) -> None:
    async def story(client: Client, world: Any) -> None:
        assert await client.ask(request_) == reply

    telling(with_emulator, story)


def test_data_lines_are_laid_out_as_the_manual_page_shows(with_emulator: Tell) -> None:
    async def story(client: Client, world: Any) -> None:
        letter, pressure, setpoint = (await client.ask("AS21.89")).split(" ")
        assert (letter, setpoint) == ("A", "+021.89")
        assert len(pressure) == 7
        assert float(pressure) == pytest.approx(14.7, abs=0.5)
        assert await client.host.is_silent(b"B\r")

    telling(with_emulator, story)


def test_gauge_pressure_on_the_piston_is_the_force_on_the_stack(with_emulator: Tell) -> None:
    async def story(client: Client, world: Any) -> None:
        await client.ask("AW122=38")
        await client.ask("A$$PC")
        assert await client.pressure() == pytest.approx(0.0, abs=0.1)
        await client.ask("AS50")
        await asyncio.sleep(10)
        assert await client.pressure() == pytest.approx(50.0, abs=0.1)
        assert world.force_N() == pytest.approx(2000.0, abs=5)
        await client.ask("AS0")
        await asyncio.sleep(10)
        assert await client.pressure() == pytest.approx(0.0, abs=0.1)
        assert world.force_N() == 0.0

    telling(with_emulator, story)


def test_a_ramp_bounds_how_fast_the_set_point_moves(with_emulator: Tell) -> None:
    async def story(client: Client, world: Any) -> None:
        await client.ask("AW122=38")
        await client.ask("A$$PC")
        await client.ask("ASR 5 4")
        await client.ask("AS50")
        await asyncio.sleep(5)
        assert await client.pressure() == pytest.approx(23.0, abs=2)
        now, asked = map(float, (await client.ask("ALS")).split()[1:3])
        assert now == pytest.approx(25.0, abs=1)
        assert asked == 50.0
        await asyncio.sleep(10)
        await client.ask("ALSRC 1 1 0 0")
        await client.ask("AS0")
        await asyncio.sleep(5)
        assert await client.pressure() == pytest.approx(0.0, abs=0.1)

    telling(with_emulator, story)


def test_a_hold_traps_the_pressure_until_it_is_cancelled(with_emulator: Tell) -> None:
    async def story(client: Client, world: Any) -> None:
        await client.ask("AW122=38")
        await client.ask("ASR 5 4")
        await client.ask("AS50")
        await asyncio.sleep(5)
        assert (await client.ask("A$$H")).endswith(" HLD")
        trapped_N = world.force_N()
        assert (await client.ask("AS80")).endswith(" HLD")
        await asyncio.sleep(30)
        assert "HLD" in await client.ask("A")
        assert 500.0 < trapped_N == pytest.approx(world.force_N(), rel=1e-3)
        assert "HLD" not in await client.ask("A$$C")
        await asyncio.sleep(20)
        await client.ask("A$$L")
        assert world.force_N() == pytest.approx(3200.0, abs=5)
        assert (await client.ask("A")).endswith(" LCK")

    telling(with_emulator, story)


def test_its_words_say_over_range_and_over_the_limit(with_emulator: Tell) -> None:
    async def story(client: Client, world: Any) -> None:
        world.press.max_force_N = 1000.0
        await client.ask("AS149")
        await asyncio.sleep(5)
        assert "OPL" in await client.ask("A")
        world.press.force_N = 5990.0
        assert "POV" in await client.ask("A")

    telling(with_emulator, story)


def test_a_bench_file_says_what_it_is(with_emulator: Tell) -> None:
    options = {
        "unit": "C", "full_scale": "7 bar", "pressure_unit": "bar", "piston_area": "50 cm2",
        "efficiency": "90 %",
    }  # fmt: skip

    async def story(client: Client, world: Any) -> None:
        assert await client.ask("CS8") == "?"
        await client.ask("CW122=38")
        await client.ask("CS4")
        await asyncio.sleep(10)
        assert (await client.ask("C")).split()[2] == "+004.00"
        assert world.force_N() == pytest.approx(4e5 * 50e-4 * 0.9, abs=5)

    telling(with_emulator, story, AlicatEmulator.from_bench, options=options)


@posix_only
def test_the_alicat_package_drives_it(to_partner: Callable[..., Any]) -> None:
    pytest.importorskip("alicat", reason="the alicat package is not installed")
    driver = pytest.importorskip("alicat.driver")

    async def drive(port: str) -> tuple[Any, ...]:
        async with driver.FlowController(port, timeout=2.0) as controller:
            # Left to itself it expects a mass flow controller's columns behind these two.
            controller.keys = ["pressure", "setpoint"]
            before = await controller.get()
            await controller.set_ramp_config(
                {"up": True, "down": True, "zero": False, "power": False}
            )
            await controller.set_maxramp(20, "s")
            told = await controller.get_ramp_config(), await controller.get_maxramp()
            await controller.set_pressure(40.0)
            while (await controller.get())["pressure"] < 39.5:
                await asyncio.sleep(0.05)
            await controller.hold()
            await controller.cancel_hold()
            await controller.lock()
            return before, *told, await controller.is_locked(), await controller.get_firmware()

    def program(port: str, world: Any) -> tuple[Any, ...]:
        return asyncio.run(drive(port))

    before, ramps, ramp, locked, firmware = to_partner(
        program, AlicatEmulator, pty=True, speed=10.0
    )
    assert before["control_point"] == "abs pressure"
    assert before["setpoint"] == pytest.approx(14.7)
    assert ramps == {"up": True, "down": True, "zero": False, "power": False}
    assert ramp == {"max_ramp": 20.0, "units": "PSI/s"}
    assert locked
    assert "10v05" in firmware


@pytest.mark.long
@given(st.one_of(st.binary(max_size=60), st.from_regex(rb"A[SRLWV$]{0,3}[-0-9 .=]{0,9}")))
@hypothesis.settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_controller_down(with_emulator: Tell, data: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(data + b"\r")
        await asyncio.sleep(1)
        host.stream = host.device.connect()
        assert (await Client(host).ask("A")).startswith("A ")

    with_emulator(story, AlicatEmulator)
