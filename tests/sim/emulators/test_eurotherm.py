"""The chamber's controller, in both of its protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from cellbench_sim.emulators import EurothermEmulator

Tell = Callable[..., None]


def framed(payload: str) -> bytes:
    """Append the check sum, computed bit by bit."""
    data, check = bytes.fromhex(payload), 0xFFFF
    for byte in data:
        check ^= byte
        for _ in range(8):
            check = check >> 1 ^ (0xA001 if check & 1 else 0)
    return data + check.to_bytes(2, "little")


def test_the_check_sum_is_modbus_own() -> None:
    frame = framed("010300010001")
    assert frame.hex() == "010300010001d5ca"
    assert FramerRTU.compute_CRC(frame[:-2]).to_bytes(2, "big") == frame[-2:]


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("01 06 0002 0258", "01 06 0002 0258"),
        ("01 10 0002 0001 02 0258", "01 10 0002 0001"),
        ("01 03 0002 0001", "01 03 02 00FA"),
        ("01 03 0070 0001", "01 03 02 FE70"),
        ("01 03 004B 0001", "01 03 02 0000"),
        ("01 03 0FFF 0001", "01 83 02"),
        ("01 06 0001 0000", "01 86 02"),
        ("01 06 0002 0FFF", "01 86 03"),
        ("01 05 0002 FF00", "01 85 01"),
    ],
)
def test_frames_are_answered_byte_by_byte(with_bench: Tell, request_: str, reply: str) -> None:
    async def story(host: Any, bench: Any) -> None:
        golden = framed(reply)
        assert await host.exchange(framed(request_), len(golden)) == golden

    with_bench(story, "chamber")


def test_the_golden_set_point_frame_is_echoed_and_acts(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        golden = bytes.fromhex("0106000202582890")
        assert await host.exchange(golden, 8) == golden
        assert bench.world.chamber.set_point_K == pytest.approx(333.15)
        await asyncio.sleep(3600)
        reply = await host.exchange(framed("010300010001"), 7)
        assert int.from_bytes(reply[3:5], "big") == pytest.approx(600, abs=2)

    with_bench(story, "chamber")


def test_a_damaged_or_foreign_frame_is_not_answered(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        assert await host.is_silent(bytes.fromhex("010300010001D5CB"))
        assert await host.is_silent(framed("020300010001"))
        assert len(await host.exchange(framed("010300010001"), 7)) == 7

    with_bench(story, "chamber")


def test_in_manual_the_chamber_follows_the_room(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        await host.exchange(framed("010601110001"), 8)
        assert bench.world.chamber.set_point_K is None
        await host.exchange(framed("010600020190"), 8)
        assert bench.world.chamber.set_point_K is None
        await host.exchange(framed("010601110000"), 8)
        assert bench.world.chamber.set_point_K == pytest.approx(313.15)

    with_bench(story, "chamber")


def test_a_broken_sensor_switches_the_heater_off(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        bench.chamber.sensor_broken = True
        assert bench.world.chamber.set_point_K is None
        assert await host.exchange(framed("0103004B0001"), 7) == framed("0103020020")
        bench.chamber.sensor_broken = False
        assert bench.world.chamber.set_point_K == pytest.approx(298.15)

    with_bench(story, "chamber")


def test_the_rate_limit_reaches_the_chamber(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        await host.exchange(framed("01060023000F"), 8)
        assert bench.world.chamber.rate_limit_K_per_min == 1.5

    with_bench(story, "chamber")


def test_bisynch_polls_and_selections_are_answered_byte_by_byte(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        poll = b"\x040011EE\x05"
        assert await host.exchange(poll, 9) == b"\x02EE>0x0\x03E"
        assert await host.exchange(b"\x040011\x02SL60.0\x03\x04", 1) == b"\x06"
        assert bench.world.chamber.set_point_K == pytest.approx(333.15)
        assert await host.exchange(b"\x040011SL\x05", 9) == b"\x02SL60.0\x03\x04"
        assert await host.exchange(b"\x15", 9) == b"\x02SL60.0\x03\x04"
        assert await host.exchange(b"\x040011\x02SL60.0\x03\x05", 1) == b"\x15"
        assert await host.exchange(b"\x040011\x02SL999.0\x03\x36", 1) == b"\x15"
        assert await host.exchange(b"\x040011QQ\x05", 1) == b"\x04"
        assert await host.is_silent(b"\x040022PV\x05")

    with_bench(story, "chamber", chamber_protocol="bisynch", temperature_K=298.15)


@pytest.mark.long
@pytest.mark.parametrize("protocol", ["modbus", "bisynch"])
@given(data=st.binary(max_size=100))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_controller_down(with_bench: Tell, protocol: str, data: bytes) -> None:
    asks = {"modbus": framed("010300010001"), "bisynch": b"\x040011PV\x05"}

    async def story(host: Any, bench: Any) -> None:
        await host.stream.write(data)
        await asyncio.sleep(0.1)
        successor = bench.connect("chamber")
        await successor.write(asks[protocol])
        assert len(await successor.read_exactly(7, 1)) == 7

    with_bench(story, "chamber", chamber_protocol=protocol)


def test_a_bench_file_says_protocol_address_and_decimals(with_emulator: Tell) -> None:
    async def bisynch(host: Any, world: Any) -> None:
        assert await host.exchange(b"\x042233SL\x05", 9) == b"\x02SL25.0\x03\x05"

    async def whole_degrees(host: Any, world: Any) -> None:
        assert await host.exchange(framed("050300020001"), 7) == framed("0503020019")
        await host.exchange(framed("05060002003C"), 8)
        assert world.chamber.set_point_K == pytest.approx(333.15)
        assert await host.exchange(framed("0506000200C8"), 5) == framed("058603")
        assert await host.exchange(framed("050300010001"), 7) == framed("0503020019")

    kind = EurothermEmulator.from_bench
    with_emulator(bisynch, kind, options={"protocol": "bisynch", "address": 23})
    with_emulator(whole_degrees, kind, options={"unit": 5, "decimals": 0, "port": "COM1"})
