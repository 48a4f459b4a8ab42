"""The pressure transmitter: golden frames, its initialisation, range, somebody else's client."""

from __future__ import annotations

import asyncio
import math
import struct
import sys
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cellbench_sim.emulators.keller import KellerEmulator

Tell = Callable[..., None]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
INITIALISE = bytes.fromhex("01303400")
FIRMWARE = bytes.fromhex("01300514141E0501F426")


def framed(payload: bytes) -> bytes:
    """Append the check sum, computed bit by bit, high byte first."""
    check = 0xFFFF
    for byte in payload:
        check ^= byte
        for _ in range(8):
            check = check >> 1 ^ (0xA001 if check & 1 else 0)
    return payload + check.to_bytes(2, "big")


async def pressed(world: Any, force_N: float) -> None:
    """Let somebody turn the press, past its controller."""
    world.advance_to(asyncio.get_running_loop().time())
    world.press.ramp_to(force_N, 2000.0)
    await asyncio.sleep(60)


async def pressure(host: Any, function: int = 73, address: int = 1) -> tuple[float, int]:
    reply = await host.exchange(framed(bytes([address, function, 1])), 9)
    kind = ">f" if function == 73 else ">i"
    return struct.unpack(kind, reply[2:6])[0], reply[6]


def test_the_golden_frames_of_the_manual_page(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await host.exchange(INITIALISE, 10) == FIRMWARE
        assert await host.exchange(bytes.fromhex("0145D3C1"), 8) == bytes.fromhex(
            "01450001E24095D4"
        )
        # 312.5 bar: 3125 N on a square centimetre.
        world.press.force_N = 3125.0
        reply = await host.exchange(bytes.fromhex("01490150D6"), 9)
        assert reply == bytes.fromhex("0149439C400000D26F")
        refused = await host.exchange(framed(bytes.fromhex("012000")), 5)
        assert refused == bytes.fromhex("01A001C099")

    with_emulator(story, KellerEmulator, noise=0.0, piston_area_m2=1e-4)


def test_before_its_initialisation_it_refuses_and_again_after_a_power_cut(
    with_emulator: Tell,
) -> None:
    async def story(host: Any, world: Any) -> None:
        request, refusal = framed(bytes([1, 73, 1])), framed(bytes([1, 73 | 0x80, 32]))
        assert await host.exchange(request, 5) == refusal
        await host.exchange(INITIALISE, 10)
        assert (await pressure(host))[1] == 0
        host.device.power_cycle()
        assert await host.exchange(request, 5) == refusal

    with_emulator(story, KellerEmulator)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ([1, 73, 2], [1, 0xC9, 2]),
        ([1, 73], [1, 0xC9, 2]),
        ([1, 100, 0], [1, 0xE4, 1]),
        ([1, 95, 7], [1, 0xDF, 2]),
        ([1, 31, 64, 0x7F, 0xC0, 0, 0], [1, 0x9F, 3]),
        ([1, 30, 81], [1, 30, 0x43, 0xC8, 0, 0]),
        ([250, 66, 0], [250, 66, 1]),
        ([1, 66, 7], [1, 66, 7]),
        ([1, 66, 250], [1, 0xC2, 3]),
    ],
)
def test_frames_are_answered_byte_by_byte(
    with_emulator: Tell, request_: list[int], reply: list[int]
) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.exchange(INITIALISE, 10)
        golden = framed(bytes(reply))
        assert await host.exchange(framed(bytes(request_)), len(golden)) == golden

    with_emulator(story, KellerEmulator)


def test_other_addresses_and_swapped_check_sums_are_not_answered(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        swapped = INITIALISE[:2] + INITIALISE[:1:-1]
        assert await host.is_silent(swapped, for_s=0.1)
        assert await host.is_silent(framed(bytes([2, 48])), for_s=0.1)
        assert await host.exchange(framed(bytes([250, 48])), 10) == framed(
            bytes([250]) + FIRMWARE[1:-2]
        )

    with_emulator(story, KellerEmulator)


def test_a_converter_sends_the_request_back_first(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert await host.exchange(INITIALISE, 14) == INITIALISE + FIRMWARE

    options = {"echo": True, "address": 1, "pressure max": "250 bar", "baud rate": 9600}
    with_emulator(story, KellerEmulator.from_bench, options=options)


def test_it_follows_the_press_and_its_zero_can_be_set(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.exchange(INITIALISE, 10)
        zero_bar, _ = await pressure(host)
        assert 0 < abs(zero_bar) < 0.4
        await host.exchange(framed(bytes([1, 95, 0])), 5)
        await pressed(world, 4000.0)
        # The ram of the servo fixture has 10 cm2: 40 bar.
        assert (await pressure(host))[0] == pytest.approx(40.0, abs=0.1)
        assert (await pressure(host, 74))[0] == pytest.approx(40e5, abs=1e4)
        await host.exchange(framed(bytes([1, 95, 1])), 5)
        assert (await pressure(host))[0] == pytest.approx(40.0 + zero_bar, abs=0.06)

    with_emulator(story, KellerEmulator)


def test_beyond_its_range_and_with_a_broken_sensor_its_status_says_so(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.exchange(INITIALISE, 10)
        await pressed(world, 4000.0)
        assert await pressure(host) == (math.inf, 2)
        assert await pressure(host, 74) == (0x7FFFFFFF, 2)
        host.device.sensor_broken = True
        value, status = await pressure(host)
        assert math.isnan(value)
        assert status == 2

    with_emulator(story, KellerEmulator, range_bar=10.0)


@posix_only
@pytest.mark.parametrize("echo", [False, True])
def test_the_keller_protocol_package_reads_it(to_partner: Callable[..., Any], echo: bool) -> None:
    package = pytest.importorskip(
        "keller_protocol.keller_protocol", reason="keller-protocol is not installed"
    )

    def program(port: str, world: Any) -> tuple[Any, ...]:
        bus = package.KellerProtocol(port, baud_rate=115200, timeout=2.0, echo=echo)
        # It takes an exception, which is shorter than the answer, for a damaged answer.
        with pytest.raises(Exception, match=r"Device Error|CRC16"):
            bus.f73(1, 1)
        told = bus.f48(1), bus.f69(1), bus.f66(250, 0), bus.f30(1, 81)
        bus.f95(1, 0)
        return *told, bus.f73(1, 1), bus.f74(1, 4), bus.f73(1, 4)

    firmware, serial_number, address, highest, zeroed, hundredths, celsius = to_partner(
        program, KellerEmulator, pty=True, echo=echo
    )
    assert (firmware, serial_number, address, highest) == ("5.20-20.30", 123456, 1, 400.0)
    assert zeroed == pytest.approx(0.0, abs=0.05)
    assert hundredths / 100 == pytest.approx(celsius) == pytest.approx(25.0)


@pytest.mark.long
@given(st.binary(max_size=60))
@hypothesis.settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_transmitter_down(with_emulator: Tell, data: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(data)
        await asyncio.sleep(0.1)
        host.stream = host.device.connect()
        assert await host.exchange(framed(bytes([250, 48])), 10)

    with_emulator(story, KellerEmulator)
