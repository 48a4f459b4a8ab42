"""The chamber on HTTP: fragments of JSON, one request per connection, ranges, who may write."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cellbench.errors import TransportClosed, TransportTimeout
from cellbench_sim.emulators.memmert import MemmertEmulator

Tell = Callable[..., None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Unknown\r\nConnection: close\r\n\r\n"


async def all_of(stream: Any) -> bytes:
    """Read until the chamber closes the connection."""
    answer = b""
    while True:
        try:
            answer += await stream.read_exactly(1, 5)
        except TransportClosed:
            return answer


async def get(host: Any, query: str) -> bytes:
    stream = host.device.connect()
    request = f"GET /atmoweb?{query} HTTP/1.1\r\nHost: chamber\r\n\r\n"
    await stream.write(request.encode())
    return await all_of(stream)


async def value(host: Any, query: str) -> Any:
    head, _, body = (await get(host, query)).partition(b"\r\n\r\n")
    assert b"200" in head
    return json.loads("{" + body.decode().strip(", ") + "}")


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("TempSet=", b'"TempSet": 25.0, '),
        ("TempSet=60.0", b'"TempSet": 60.0, '),
        ("CurOp=&DoorOpen=", b'"CurOp": "Manual", "DoorOpen": 0, '),
        ("TempSet_Range=", b'"TempSet_Range": {"min": -42.0, "max": 190.0}, '),
        ("AlTempHi=80", b'"AlTempHi": 80.0, '),
        ("HumRead=&SN=", b'"HumRead": "N/A", "SN": "B007.0042", '),
        ("Nonsense=", b'"Nonsense": "N/D", '),
        ("DevType=", b'"DevType": "CTC256", '),
    ],
)
def test_replies_are_fragments_byte_by_byte(with_emulator: Tell, query: str, body: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await get(host, query) == HEAD + body

    with_emulator(story, MemmertEmulator)


def test_a_set_point_acts(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await value(host, "TempSet=60.0") == {"TempSet": 60.0}
        assert world.chamber.set_point_K == pytest.approx(333.15)
        await asyncio.sleep(3600)
        assert (await value(host, "Temp1Read="))["Temp1Read"] == pytest.approx(60.0, abs=0.1)

    with_emulator(story, MemmertEmulator.from_bench, options={"port": "tcp://192.0.2.7:80"})


@pytest.mark.parametrize("bad", ["TempSet=300", "TempSet=-60", "TempSet=warm", "TempSet=nan"])
def test_what_is_not_taken_reads_as_it_was(with_emulator: Tell, bad: str) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await value(host, bad) == {"TempSet": 25.0}
        assert world.chamber.set_point_K == pytest.approx(298.15)

    with_emulator(story, MemmertEmulator)


def test_the_set_point_acts_in_manual_alone(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await value(host, "CurOp=Idle") == {"CurOp": "Idle"}
        assert await value(host, "TempSet=50") == {"TempSet": 50.0}
        assert world.chamber.set_point_K is None
        assert await value(host, "CurOp=Manual") == {"CurOp": "Manual"}
        assert world.chamber.set_point_K == pytest.approx(323.15)
        assert await value(host, "CurOp=Program") == {"CurOp": "Manual"}

    with_emulator(story, MemmertEmulator)


def test_remote_control_must_be_enabled_at_the_panel(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await value(host, "TempSet=60&RC=") == {"TempSet": 25.0, "RC": "r"}
        host.device.remote = "off"
        assert (await get(host, "TempSet=")).startswith(b"HTTP/1.1 403 ")

    with_emulator(story, MemmertEmulator, remote="r")


def test_another_firmware_answers_whole_json(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        body = (await get(host, "TempSet=&HumRead=")).partition(b"\r\n\r\n")[2]
        assert json.loads(body) == {"TempSet": 25.0, "HumRead": "N/A"}

    with_emulator(story, MemmertEmulator, strict_json=True)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"POST /atmoweb HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_other_requests_are_refused(with_emulator: Tell, request_: bytes, status: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(request_)
        assert (await all_of(host.stream)).split()[1] == status

    with_emulator(story, MemmertEmulator)


def test_half_a_request_waits_for_its_rest(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await host.is_silent(b"GET /atmoweb?TempSet= HTT")
        await host.stream.write(b"P/1.1\r\nHost: a\r\n\r\n")
        assert await all_of(host.stream) == HEAD + b'"TempSet": 25.0, '

    with_emulator(story, MemmertEmulator)


def test_a_slow_line_delivers_before_it_closes(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        host.device.line.delay_s = 1.0
        assert await get(host, "TempSet=") == HEAD + b'"TempSet": 25.0, '
        host.device.line.silent = True
        with pytest.raises(TransportTimeout):
            await get(host, "TempSet=")

    with_emulator(story, MemmertEmulator)


def test_the_pyatmoweb_package_reads_it(to_partner: Callable[..., Any]) -> None:
    atmoweb = pytest.importorskip(
        "pyatmoweb.pyAtmoWeb", reason="pyatmoweb (and requests) are not installed"
    )

    def program(address: str, world: Any) -> tuple[Any, ...]:
        chamber = address.removeprefix("tcp://")
        return (
            atmoweb.get_temp_1(chamber), atmoweb.get_temp_2(chamber), atmoweb.get_humidity(chamber),
            atmoweb.get_low_temp_alarm(chamber), atmoweb.get_high_temp_alarm_range(chamber),
            atmoweb.get_program_state(chamber), atmoweb.get_remote_control_permissions(chamber),
            atmoweb.get_serial_number(chamber),
        )  # fmt: skip

    temperature_C, *others = to_partner(program, MemmertEmulator)
    assert temperature_C == pytest.approx(25.0, abs=0.1)
    limits = {"min": -42.0, "max": 190.0}
    assert others == [None, None, -42.0, limits, "Manual", "rw", "B007.0042"]


@pytest.mark.long
@given(st.binary(max_size=100))
@hypothesis.settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_chamber_down(with_emulator: Tell, data: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        with contextlib.suppress(TransportClosed):
            await host.stream.write(data)
            await host.stream.write(data + b"\r\n\r\n")
        assert await value(host, "TempSet=") == {"TempSet": 25.0}

    with_emulator(story, MemmertEmulator)
