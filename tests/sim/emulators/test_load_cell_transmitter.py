"""The transmitters behind a load cell: register maps, tare and zero, wear, a Modbus client."""

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

from cellbench_sim.emulators.load_cell_transmitter import LoadCellTransmitterEmulator

Tell = Callable[..., None]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
TARE, ZERO, SAVE = 7, 8, 99


def framed(payload: str) -> bytes:
    """Append the check sum, computed bit by bit."""
    data, check = bytes.fromhex(payload), 0xFFFF
    for byte in data:
        check ^= byte
        for _ in range(8):
            check = check >> 1 ^ (0xA001 if check & 1 else 0)
    return data + check.to_bytes(2, "little")


async def words(host: Any, register: int, count: int) -> bytes:
    """Read registers by the numbers of the manual, 40001 on."""
    request = framed(f"0103{register - 40001:04x}{count:04x}")
    reply: bytes = await host.exchange(request, 5 + 2 * count)
    return reply[3:-2]


async def write(host: Any, register: int, *values: int) -> bytes:
    data = "".join(f"{value:04x}" for value in values)
    head = f"0110{register - 40001:04x}{len(values):04x}{2 * len(values):02x}"
    reply: bytes = await host.exchange(framed(head + data), 8)
    return reply


async def weight_N(host: Any, register: int) -> float:
    """Read a TLB4's weight, whose division of 0.5 N has one decimal."""
    return float(struct.unpack(">i", await words(host, register, 2))[0]) / 10


async def pressed(world: Any, force_N: float) -> None:
    """Let somebody turn the press, past its controller."""
    world.advance_to(asyncio.get_running_loop().time())
    world.press.ramp_to(force_N, 1000.0)
    await asyncio.sleep(30)


@pytest.mark.parametrize(
    ("profile", "request_", "reply"),
    [
        ("tlb4", "01 03 0000 0002", "01 03 04 0072 0004"),
        ("tlb4", "01 03 000D 0001", "01 03 02 0407"),
        ("tlb4", "01 03 0000 0021", "01 83 03"),
        ("tlb4", "01 03 0063 0002", "01 83 02"),
        ("tlb4", "01 06 0005 0007", "01 86 01"),
        ("tlb4", "01 10 0005 0001 02 0007", "01 10 0005 0001"),
        ("tlb4", "01 10 0005 0001 02 0001", "01 90 03"),
        ("tlb4", "01 10 0007 0001 02 0001", "01 90 02"),
        ("tlb4", "01 10 0010 0002 04 0001 86A0", "01 10 0010 0002"),
        ("z-sg", "01 03 0002 0002", "01 03 04 0000 0001"),
        ("z-sg", "01 06 0003 0005", "01 06 0003 0005"),
        ("z-sg", "01 06 0003 0000", "01 86 03"),
        ("z-sg", "01 06 003F 0000", "01 86 02"),
        ("z-sg", "01 03 004D 0001", "01 03 02 0004"),
    ],
)
def test_frames_are_answered_byte_by_byte(
    with_emulator: Tell, profile: str, request_: str, reply: str
) -> None:
    async def story(host: Any, world: Any) -> None:
        golden = framed(reply)
        assert await host.exchange(framed(request_), len(golden)) == golden

    with_emulator(story, LoadCellTransmitterEmulator, profile=profile)


def test_a_tlb4_weighs_gross_net_and_peak(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        await write(host, 40006, ZERO)
        await pressed(world, 1000.0)
        assert await weight_N(host, 40008) == pytest.approx(1000.0, abs=6)
        assert await weight_N(host, 40008) % 0.5 == 0.0
        await write(host, 40006, TARE)
        await pressed(world, 400.0)
        assert await weight_N(host, 40008) == pytest.approx(400.0, abs=6)
        assert await weight_N(host, 40010) == pytest.approx(-600.0, abs=9)
        assert await weight_N(host, 40012) == pytest.approx(1000.0, abs=9)
        status = int.from_bytes(await words(host, 40007, 1), "big")
        assert status >> 8 & 1
        assert not status >> 7 & 1

    with_emulator(story, LoadCellTransmitterEmulator)


def test_a_tlb4_keeps_its_zero_where_it_was_saved_and_counts_the_saves(
    with_emulator: Tell,
) -> None:
    async def story(host: Any, world: Any) -> None:
        await pressed(world, 500.0)
        await write(host, 40006, ZERO)
        host.device.power_cycle()
        assert await weight_N(host, 40008) == pytest.approx(500.0, abs=15)
        assert host.device.memory_writes == 0
        await write(host, 40006, ZERO)
        await write(host, 40006, SAVE)
        host.device.power_cycle()
        assert await weight_N(host, 40008) == pytest.approx(0.0, abs=6)
        assert host.device.memory_writes == 1

    with_emulator(story, LoadCellTransmitterEmulator)


def test_a_worn_memory_takes_nothing_any_more(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        host.device.registers.writes = 100_000
        await pressed(world, 500.0)
        await write(host, 40006, ZERO)
        await write(host, 40006, SAVE)
        host.device.power_cycle()
        assert await weight_N(host, 40008) == pytest.approx(500.0, abs=15)

    with_emulator(story, LoadCellTransmitterEmulator)


def test_a_z_sg_gives_its_net_weight_as_a_float_of_its_unit(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        host.device.registers.push_tare_button()
        await pressed(world, 980.665)
        (net,) = struct.unpack(">f", await words(host, 40064, 2))
        assert net == pytest.approx(100.0, abs=0.5)

    options = {"profile": "seneca_z_sg", "force_unit": "kg", "capacity": "5 kN", "port": "COM9"}
    with_emulator(story, LoadCellTransmitterEmulator.from_bench, options=options)


def test_a_z_sg_takes_its_address_after_a_restart(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        assert len(await words(host, 40001, 1)) == 2
        await host.exchange(framed("010600030005"), 8)
        assert host.device.memory_writes == 1
        assert len(await words(host, 40001, 1)) == 2
        host.device.power_cycle()
        assert await host.is_silent(framed("010300000001"))
        assert len(await host.exchange(framed("050300000001"), 7)) == 7

    with_emulator(story, LoadCellTransmitterEmulator, profile="z-sg")


def test_a_broken_wire_and_too_much_force_show_in_the_status(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        await pressed(world, 1500.0)
        assert int.from_bytes(await words(host, 40007, 1), "big") & 8
        host.device.transducer.broken = True
        assert int.from_bytes(await words(host, 40007, 1), "big") & 1
        assert await weight_N(host, 40008) == 0.0
        refusal = framed("01 90 03")
        assert await host.exchange(framed("01 10 0005 0001 02 0008"), 5) == refusal

    async def seneca(host: Any, world: Any) -> None:
        host.device.transducer.broken = True
        assert math.isnan(struct.unpack(">f", await words(host, 40064, 2))[0])
        assert await words(host, 40078, 1) == b"\x00\x01"

    with_emulator(story, LoadCellTransmitterEmulator, capacity_N=1000.0)
    with_emulator(seneca, LoadCellTransmitterEmulator, profile="z-sg")


def test_over_tcp_it_is_the_same_map(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        request = bytes.fromhex("000100000006 01 03 0000 0002")
        assert await host.exchange(request, 13) == bytes.fromhex("000100000007 01 03 04 00720004")

    with_emulator(story, LoadCellTransmitterEmulator, framing="tcp")


@posix_only
def test_minimalmodbus_reads_both(to_partner: Callable[..., Any]) -> None:
    minimalmodbus = pytest.importorskip("minimalmodbus", reason="minimalmodbus is not installed")

    def instrument(port: str) -> Any:
        device = minimalmodbus.Instrument(port, 1)
        device.serial.baudrate, device.serial.timeout = 9600, 2.0
        return device

    def laumas(port: str, world: Any) -> tuple[int, int]:
        device = instrument(port)
        device.write_registers(5, [ZERO])
        return device.read_register(0), device.read_long(7, signed=True)

    def seneca(port: str, world: Any) -> float:
        return float(instrument(port).read_float(63))

    kind = LoadCellTransmitterEmulator
    firmware, gross = to_partner(laumas, kind, pty=True)
    assert firmware == 114
    assert abs(gross) < 60
    assert abs(to_partner(seneca, kind, pty=True, profile="z-sg")) < 30


@given(st.binary(max_size=60))
@hypothesis.settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_transmitter_down(with_emulator: Tell, data: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(data)
        await asyncio.sleep(0.1)
        host.stream = host.device.connect()
        assert len(await words(host, 40001, 2)) == 4

    with_emulator(story, LoadCellTransmitterEmulator)
