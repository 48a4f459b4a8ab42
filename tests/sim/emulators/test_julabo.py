"""The circulator: silent commands, its pauses, complaints and alarms, its watchdog, a client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cellbench_sim.emulators.julabo import JulaboEmulator

Tell = Callable[..., None]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


class Circulator:
    """A client that keeps the pauses."""

    def __init__(self, host: Any) -> None:
        self.host = host

    async def ask(self, request: str) -> str:
        reply: bytes = await self.host.ask(request.encode() + b"\r", timeout_s=5)
        await asyncio.sleep(0.01)
        assert reply.endswith(b"\r\n")
        return reply.decode().strip()

    async def do(self, command: str) -> str:
        """Send a command; return the status after it."""
        assert await self.host.is_silent(command.encode() + b"\r", for_s=0.25)
        return await self.ask("STATUS")


def telling(with_emulator: Tell, story: Any, kind: Any = JulaboEmulator, **settings: Any) -> None:
    async def to_client(host: Any, world: Any) -> None:
        await story(Circulator(host), world)

    with_emulator(to_client, kind, **settings)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("VERSION", "JULABO CRYOCOMPACT CF31 VERSION 5.0"),
        ("STATUS", "03 REMOTE START"),
        ("status", "03 REMOTE START"),
        ("IN_SP_00", "25.00"),
        ("IN_SP_03", "200.00"),
        ("IN_SP_04", "-30.00"),
        ("IN_MODE_05", "1"),
    ],
)
def test_each_question_has_its_answer(with_emulator: Tell, request_: str, reply: str) -> None:
    async def story(circulator: Circulator, world: Any) -> None:
        assert await circulator.ask(request_) == reply

    telling(with_emulator, story)


def test_commands_act_without_an_answer(with_emulator: Tell) -> None:
    async def story(circulator: Circulator, world: Any) -> None:
        assert await circulator.do("OUT_SP_00 55.5") == "03 REMOTE START"
        assert world.chamber.set_point_K == pytest.approx(328.65)
        await asyncio.sleep(3600)
        assert float(await circulator.ask("IN_PV_00")) == pytest.approx(55.5, abs=0.05)
        assert float(await circulator.ask("IN_PV_02")) == pytest.approx(55.5, abs=0.1)
        assert float(await circulator.ask("IN_PV_01")) > 10
        assert float(await circulator.ask("IN_PV_03")) > 56
        assert await circulator.do("OUT_MODE_05 0") == "02 REMOTE STOP"
        assert world.chamber.set_point_K is None
        assert await circulator.do("OUT_MODE_05 1") == "03 REMOTE START"
        assert world.chamber.set_point_K == pytest.approx(328.65)

    telling(with_emulator, story)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("OUT_SP_00 -31", "-10"), ("OUT_SP_00 201", "-11"), ("OUT_SP_00 abc", "-08"),
        ("OUT_SP_00", "-08"), ("OUT_SP_99 1", "-08"), ("OUT_SP_00 nan", "-08"),
        ("OUT_MODE_05 7", "-11"), ("OUT_SP_03 500", "-11"), ("IN_PV_77", "-08"),
    ],
)  # fmt: skip
def test_only_the_status_tells_what_was_wrong_until_the_next_good_request(
    with_emulator: Tell, command: str, status: str
) -> None:
    async def story(circulator: Circulator, world: Any) -> None:
        assert (await circulator.do(command))[:3] == status
        assert await circulator.ask("IN_SP_00") == "25.00"
        assert await circulator.ask("STATUS") == "03 REMOTE START"

    telling(with_emulator, story)


def test_warning_limits_bound_the_set_point_and_warn(with_emulator: Tell) -> None:
    async def story(circulator: Circulator, world: Any) -> None:
        await circulator.do("OUT_SP_03 40")
        assert (await circulator.do("OUT_SP_00 41"))[:3] == "-13"
        assert (await circulator.do("OUT_SP_03 20"))[:3] == "-03"
        await circulator.do("OUT_SP_03 40")
        assert (await circulator.do("OUT_SP_04 30"))[:3] == "-04"
        assert world.chamber.set_point_K == pytest.approx(298.15)

    telling(with_emulator, story)


def test_under_manual_control_no_command_is_taken(with_emulator: Tell) -> None:
    async def story(circulator: Circulator, world: Any) -> None:
        assert await circulator.ask("STATUS") == "01 MANUAL START"
        assert (await circulator.do("OUT_SP_00 55.5"))[:3] == "-09"
        assert await circulator.ask("IN_SP_00") == "25.00"

    telling(with_emulator, story, remote=False)


def test_what_comes_too_soon_is_not_heard(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await host.ask(b"IN_SP_00\r", timeout_s=1) == b"25.00\r\n"
        assert await host.is_silent(b"IN_SP_00\r", for_s=0.02)
        await host.stream.write(b"OUT_SP_00 30\rOUT_SP_00 40\r")
        assert await host.is_silent(b"IN_SP_00\r", for_s=0.25)
        assert await host.ask(b"IN_SP_00\r", timeout_s=1) == b"30.00\r\n"

    with_emulator(story, JulaboEmulator)


def test_an_alarm_stops_it_until_it_is_started_again(with_emulator: Tell) -> None:
    async def story(circulator: Circulator, world: Any) -> None:
        circulator.host.device.alarm = -1
        assert await circulator.ask("STATUS") == "-01 LOW LEVEL ALARM"
        assert world.chamber.set_point_K is None
        assert (await circulator.do("OUT_MODE_05 1"))[:3] == "-01"
        circulator.host.device.alarm = None
        assert (await circulator.ask("STATUS"))[:3] == "-09"
        assert await circulator.ask("IN_MODE_05") == "0"
        assert await circulator.do("OUT_MODE_05 1") == "03 REMOTE START"

    telling(with_emulator, story)


@pytest.mark.parametrize(("model", "code"), [("CF31", "-63"), ("MS", "-1501")])
def test_its_watchdog_stops_what_nobody_commands(
    with_emulator: Tell, model: str, code: str
) -> None:
    async def story(circulator: Circulator, world: Any) -> None:
        for _ in range(5):
            assert await circulator.do("OUT_SP_00 40") == "03 REMOTE START"
            await asyncio.sleep(29)
        await asyncio.sleep(2)
        assert (await circulator.ask("STATUS")).split()[0] == code
        assert world.chamber.set_point_K is None
        assert await circulator.do("OUT_SP_00 40") == "02 REMOTE STOP"
        assert await circulator.do("OUT_MODE_05 1") == "03 REMOTE START"
        await asyncio.sleep(31)
        assert (await circulator.ask("STATUS")).split()[0] == code

    options = {"model": model, "watchdog": True, "port": "COM3"}
    telling(with_emulator, story, JulaboEmulator.from_bench, options=options)


@posix_only
def test_the_julabo_package_drives_it(to_partner: Callable[..., Any]) -> None:
    pytest.importorskip("julabo", reason="the julabo package is not installed")
    device = pytest.importorskip("julabo.device")

    class Line:
        """A serial port with the two methods that the package wants of a connection."""

        def __init__(self, port: str) -> None:
            import serial

            self.port = serial.Serial(port, 4800, timeout=5)

        def write(self, data: bytes) -> None:
            self.port.write(data)

        def write_readline(self, data: bytes) -> bytes:
            self.port.write(data)
            return self.port.read_until(b"\n")

    def program(port: str, world: Any) -> tuple[Any, ...]:
        circulator = device.JulaboCF(Line(port))
        told = [circulator.identification(), circulator.status()]
        circulator.set_point_1(42.5)
        told += [circulator.set_point_1(), circulator.bath_temperature()]
        circulator.stop()
        return *told, circulator.status(), circulator.is_started()

    told = to_partner(program, JulaboEmulator, pty=True, speed=3.0)
    assert told[:3] == ("JULABO CRYOCOMPACT CF31 VERSION 5.0", "03 REMOTE START", 42.5)
    assert told[3] == pytest.approx(25.0, abs=1.0)
    assert told[4:] == ("02 REMOTE STOP", False)


@pytest.mark.long
@given(st.binary(max_size=60))
@hypothesis.settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_circulator_down(with_emulator: Tell, data: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(data + b"\r")
        await asyncio.sleep(1)
        host.stream = host.device.connect()
        assert await host.ask(b"VERSION\r", timeout_s=1)

    with_emulator(story, JulaboEmulator)
