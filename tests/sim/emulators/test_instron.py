"""The servo-hydraulic frame: who commands it, raw units, ramps and holds of stress, its stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cellbench_sim.emulators.instron import InstronEmulator

Tell = Callable[..., None]
REFUSAL = b"Not in the correct control mode to execute that command!\r\n"
AREA_MM2 = 78.54


class Frame:
    """A client that writes as the frame's users say it must be written."""

    def __init__(self, host: Any) -> None:
        self.host = host

    async def ask(self, query: str) -> str:
        reply: bytes = await self.host.ask(f"{query}\r\n".encode())
        assert reply.endswith(b"\r\n")
        return reply.decode().strip()

    async def do(self, *commands: str) -> None:
        for each in ("P909,1", "C904,0", *commands, "P909,0"):
            await self.host.stream.write(f"{each}\r\n".encode())

    async def ramp_to(self, stress_MPa: float, in_s: float) -> None:
        scale = float(await self.ask("Q308,2"))
        raw = stress_MPa / scale * AREA_MM2
        await self.do(
            f"C341,2,{AREA_MM2}", "C300,2", "C2,2,3", f"C4,2,{raw}", f"C86,2,{in_s}", "C1,1"
        )

    async def stress_MPa(self) -> float:
        raw, scale = float(await self.ask("Q134,2,0")), float(await self.ask("Q308,2"))
        return raw * scale / float(await self.ask("Q341,2"))


def telling(with_emulator: Tell, story: Any, kind: Any = InstronEmulator, **settings: Any) -> None:
    async def to_client(host: Any, world: Any) -> None:
        await story(Frame(host), world)

    with_emulator(to_client, kind, **settings)


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        ("Q1", "0"), ("Q22", "7680"), ("Q23", "1"), ("Q300", "1"), ("Q2,2", "3"), ("Q4,2", "0"),
        ("Q86,2", "1"), ("Q308,1", "0.05"), ("Q308,2", "5000"), ("Q341,2", "78.54"),
        ("Q340,3", "10"), ("Q307,2", "0,2"), ("Q904", "0"), ("Q909", "0"),
    ],
)  # fmt: skip
def test_each_query_has_its_reply(with_emulator: Tell, query: str, reply: str) -> None:
    async def story(frame: Frame, world: Any) -> None:
        assert await frame.ask(query) == reply

    telling(with_emulator, story)


def test_commands_are_silent_and_refused_outside_computer_control(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await host.ask(b"C300,2\r\n") == REFUSAL
        for line in (b"P909,1\r\n", b"C904,0\r\n", b"C300,2\r\n", b"P909,0\r\n", b"C904,0\r\n"):
            assert await host.is_silent(line)
        assert await host.ask(b"Q300\r\n") == b"2\r\n"
        assert await host.ask(b"C300,1\r\n") == REFUSAL

    with_emulator(story, InstronEmulator)


def test_command_falls_back_to_the_panel_three_seconds_after_the_last_refresh(
    with_emulator: Tell,
) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(b"P909,1\r\nC904,0\r\n")
        for _ in range(4):
            await asyncio.sleep(2.9)
            assert await host.ask(b"Q909\r\n") == b"1\r\n"
            await host.stream.write(b"C904,0\r\n")
        await asyncio.sleep(3.1)
        assert await host.ask(b"Q909\r\n") == b"0\r\n"
        await host.stream.write(b"P909,1\r\n")
        assert await host.ask(b"Q909\r\n") == b"1\r\n"
        await asyncio.sleep(0.2)
        assert await host.ask(b"Q909\r\n") == b"0\r\n"

    with_emulator(story, InstronEmulator)


def test_an_absolute_ramp_takes_its_step_time(with_emulator: Tell) -> None:
    async def story(frame: Frame, world: Any) -> None:
        await frame.ramp_to(10.0, 20.0)
        await asyncio.sleep(10)
        assert await frame.ask("Q1") == "1"
        assert await frame.stress_MPa() == pytest.approx(5.0, abs=0.4)
        await asyncio.sleep(15)
        assert await frame.ask("Q1") == "0"
        assert await frame.stress_MPa() == pytest.approx(10.0, abs=0.1)
        assert world.force_N() == pytest.approx(785.4, abs=10)

    telling(with_emulator, story)


def test_a_ramp_is_held_and_goes_on(with_emulator: Tell) -> None:
    async def story(frame: Frame, world: Any) -> None:
        await frame.ramp_to(10.0, 20.0)
        await asyncio.sleep(10)
        await frame.do("C1,2")
        await asyncio.sleep(30)
        assert await frame.ask("Q1") == "2"
        assert await frame.stress_MPa() == pytest.approx(5.0, abs=0.4)
        await frame.do("C1,3")
        await asyncio.sleep(5)
        assert await frame.ask("Q1") == "1"
        await asyncio.sleep(10)
        assert await frame.stress_MPa() == pytest.approx(10.0, abs=0.1)
        await frame.ramp_to(0.0, 10.0)
        await asyncio.sleep(5)
        await frame.do("C1,0")
        await asyncio.sleep(5)
        assert await frame.ask("Q1") == "0"
        assert await frame.stress_MPa() == pytest.approx(5.0, abs=0.5)

    telling(with_emulator, story)


def test_an_absolute_hold_lasts_its_step_time(with_emulator: Tell) -> None:
    async def story(frame: Frame, world: Any) -> None:
        await frame.do("C300,2", "C2,2,4", "C4,2,0.1", "C86,2,30", "C1,1")
        await asyncio.sleep(20)
        assert await frame.ask("Q1") == "2"
        assert world.force_N() == pytest.approx(500, abs=5)
        await asyncio.sleep(11)
        assert await frame.ask("Q1") == "0"

    telling(with_emulator, story)


def test_compression_may_count_as_negative(with_emulator: Tell) -> None:
    async def story(frame: Frame, world: Any) -> None:
        await frame.do("C300,2", "C2,2,3", "C4,2,-0.1", "C86,2,5", "C1,1")
        await asyncio.sleep(10)
        assert float(await frame.ask("Q134,2,0")) == pytest.approx(-0.1, abs=0.002)
        assert world.force_N() == pytest.approx(500, abs=5)

    options = {"compression": "negative", "area": "1 cm2"}
    telling(with_emulator, story, InstronEmulator.from_bench, options=options)


def test_in_position_control_the_actuator_keeps_its_place(with_emulator: Tell) -> None:
    async def story(frame: Frame, world: Any) -> None:
        await frame.ramp_to(10.0, 10.0)
        await asyncio.sleep(15)
        before = float(await frame.ask("Q134,1,0"))
        await frame.do("C300,1", "C2,1,3", "C4,1,0.5", "C1,1")
        await asyncio.sleep(10)
        assert await frame.ask("Q1") == "0"
        assert float(await frame.ask("Q134,1,0")) == pytest.approx(before, abs=1e-5)

    telling(with_emulator, story)


def test_the_panic_stop_takes_the_pressure_away_until_it_is_switched_on_again(
    with_emulator: Tell,
) -> None:
    async def story(frame: Frame, world: Any) -> None:
        await frame.ramp_to(20.0, 10.0)
        await asyncio.sleep(15)
        await frame.do("C23,0")
        assert (await frame.ask("Q23"), await frame.ask("Q22")) == ("0", str(7680 | 8))
        await asyncio.sleep(10)
        assert await frame.stress_MPa() == pytest.approx(0.0, abs=0.05)
        await frame.ramp_to(5.0, 1.0)
        await asyncio.sleep(5)
        assert world.force_N() == 0.0
        await frame.do("C23,1")
        assert (await frame.ask("Q23"), await frame.ask("Q22")) == ("1", "7680")
        await frame.ramp_to(5.0, 1.0)
        await asyncio.sleep(5)
        assert await frame.stress_MPa() == pytest.approx(5.0, abs=0.1)

    telling(with_emulator, story)


@pytest.mark.parametrize("code", [3, 8])
def test_a_fault_shows_its_code_and_keeps_the_hydraulics_off(
    with_emulator: Tell, code: int
) -> None:
    async def story(frame: Frame, world: Any) -> None:
        await frame.ramp_to(20.0, 10.0)
        await asyncio.sleep(15)
        frame.host.device.fault = code
        status = int(await frame.ask("Q22"))
        assert (status >> 9 & 0xF, status >> 3 & 1) == (code, 1)
        await asyncio.sleep(10)
        await frame.do("C23,1")
        assert await frame.ask("Q23") == "0"
        frame.host.device.fault = None
        await frame.do("C23,1")
        assert await frame.ask("Q22") == "7680"

    telling(with_emulator, story)


def test_the_load_limit_switches_the_actuator_off(with_emulator: Tell) -> None:
    async def story(frame: Frame, world: Any) -> None:
        world.press.max_force_N = 1000.0
        await frame.ramp_to(20.0, 5.0)
        await asyncio.sleep(12)
        assert await frame.ask("Q23") == "0"
        assert await frame.stress_MPa() == pytest.approx(0.0, abs=0.05)

    telling(with_emulator, story)


def test_the_emergency_stop_is_code_3(with_emulator: Tell) -> None:
    async def story(frame: Frame, world: Any) -> None:
        frame.host.device.press_e_stop()
        assert frame.host.device.fault == 3
        assert await frame.ask("Q22") == str(3 << 9 | 8)

    telling(with_emulator, story)


@pytest.mark.long
@given(st.one_of(st.binary(max_size=60), st.from_regex(r"[QCP][0-9]{1,4}(,-?[0-9.]{0,4}){0,3}")))
@hypothesis.settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_frame_down(with_emulator: Tell, data: bytes | str) -> None:
    async def story(host: Any, world: Any) -> None:
        line = data if isinstance(data, bytes) else data.encode("utf-8", "replace")
        await host.stream.write(b"P909,1\r\nC904,0\r\n" + line + b"\r\n")
        await asyncio.sleep(1)
        host.stream = host.device.connect()
        assert await host.ask(b"Q308,2\r\n") == b"5000\r\n"

    with_emulator(story, InstronEmulator)
