"""The press behind its PLC: frames, registers, commands, and what it does by itself."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellbench_sim.emulators.plc_press import Alarm, PlcPressEmulator, Status

Tell = Callable[..., None]
STOP, HOLD, RAMP, UNLOAD, CLEAR, ENABLE, DISABLE = range(1, 8)


class Plc:
    """A Modbus TCP client in a few lines, with an own reading of the frame layout."""

    def __init__(self, host: Any) -> None:
        self.host = host

    async def read(self, address: int, count: int) -> list[int]:
        request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, address, count)
        reply = await self.host.exchange(request, 9 + 2 * count)
        return list(struct.unpack(f">{count}H", reply[9:]))

    async def write(self, address: int, words: Sequence[int]) -> bytes:
        size = 2 * len(words)
        head = struct.pack(">HHHBBHHB", 1, 0, 7 + size, 1, 16, address, len(words), size)
        await self.host.stream.write(head + struct.pack(f">{len(words)}H", *words))
        reply: bytes = await self.host.stream.read_exactly(8, 10)
        function: bytes = await self.host.stream.read_exactly(1, 10)
        rest = 0 if reply[7] & 0x80 else 3
        tail: bytes = await self.host.stream.read_exactly(rest, 10)
        return reply[7:] + function + tail

    async def put(self, address: int, value: float) -> bytes:
        return await self.write(address, struct.unpack("<2H", struct.pack("<f", value)))

    async def command(self, code: int) -> bytes:
        return await self.write(100, [code])

    async def ramp_to(self, force_kN: float, rate_kN_per_s: float = 0.5) -> None:
        await self.command(ENABLE)
        await self.put(101, force_kN)
        await self.put(103, rate_kN_per_s)
        assert await self.command(RAMP) == bytes.fromhex("1000640001")

    async def measured(self) -> tuple[Status, Alarm, float]:
        words = await self.read(0, 4)
        (force_kN,) = struct.unpack("<f", struct.pack("<2H", *words[2:]))
        return Status(words[0]), Alarm(words[1]), force_kN


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("000100000006 01 03 0064 0001", "000100000005 01 03 02 0000"),
        ("000200000006 01 06 006B 0007", "000200000006 01 06 006B 0007"),
        ("00030000000B 01 10 0065 0002 04 0000 3F80", "000300000006 01 10 0065 0002"),
        ("000400000006 01 04 0000 0001", "000400000003 01 84 01"),
        ("000500000006 01 03 000A 0001", "000500000003 01 83 02"),
        ("000600000006 01 03 0009 0002", "000600000003 01 83 02"),
        ("000700000006 01 06 0000 0001", "000700000003 01 86 02"),
        ("000800000006 01 06 0064 0063", "000800000003 01 86 03"),
        ("000900000006 01 03 0000 0000", "000900000003 01 83 03"),
        ("000A0000000B 01 10 0065 0002 04 0000 4120", "000A00000003 01 90 03"),
        ("000B0000000B 01 10 0065 0002 04 0000 7FC0", "000B00000003 01 90 03"),
    ],
)
def test_frames_are_answered_byte_by_byte(with_bench: Tell, request_: str, reply: str) -> None:
    async def story(host: Any, bench: Any) -> None:
        golden = bytes.fromhex(reply)
        assert await host.exchange(bytes.fromhex(request_), len(golden)) == golden

    with_bench(story, "press")


def test_other_units_are_not_answered_and_garbage_is_dropped(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        assert await host.is_silent(bytes.fromhex("000100000006 02 03 0064 0001"))
        assert await host.is_silent(b"GET / HTTP/1.1\r\n\r\n")
        assert await Plc(host).read(100, 1) == [0]

    with_bench(story, "press")


def test_a_ramp_ends_at_its_target(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.ramp_to(2.0)
        await asyncio.sleep(1)
        status, _, force_kN = await plc.measured()
        assert Status.MOVING in status
        assert 0 < force_kN < 1
        await asyncio.sleep(8)
        status, alarm, force_kN = await plc.measured()
        assert Status.AT_TARGET | Status.ENABLED | Status.FORCE_CONTROL | Status.READY in status
        assert alarm is Alarm.NONE
        assert force_kN == pytest.approx(2.0, abs=0.01)
        assert await plc.read(100, 1) == [0]

    with_bench(story, "press")


def test_a_laboratory_press_reaches_30_kN_and_cannot_set_a_low_stack_pressure(
    with_bench: Tell,
) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.command(ENABLE)
        assert await plc.put(101, 0.393) == bytes.fromhex("9003")
        await plc.ramp_to(29.42, 5.0)
        await asyncio.sleep(20)
        status, _, force_kN = await plc.measured()
        assert Status.AT_TARGET in status
        assert force_kN == pytest.approx(29.42, abs=0.15)
        await plc.ramp_to(0.0, 5.0)
        await asyncio.sleep(20)
        assert bench.world.force_N() == 0.0

    with_bench(story, "press", fixture="laboratory press")


def test_a_ramp_before_enabling_is_refused_and_says_so(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.put(101, 1.0)
        await plc.command(RAMP)
        status, alarm, _ = await plc.measured()
        assert alarm is Alarm.COMMAND_REFUSED
        assert Status.ALARM in status
        assert Status.MOVING not in status
        await plc.command(CLEAR)
        assert (await plc.measured())[1] is Alarm.NONE

    with_bench(story, "press")


def test_a_target_above_the_trip_is_an_illegal_value(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.command(ENABLE)
        await plc.put(105, 1.0)
        await plc.put(101, 1.5)
        assert await plc.command(RAMP) == bytes.fromhex("9003")

    with_bench(story, "press")


def test_a_silent_host_is_waited_for_then_the_press_unloads(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.ramp_to(2.0)
        await asyncio.sleep(30)
        status, alarm, force_kN = await plc.measured()
        assert Status.HOST_LOST in status
        assert alarm is Alarm.HOST_LOST
        assert force_kN == pytest.approx(2.0, abs=0.02)
        await asyncio.sleep(120)
        assert (await plc.measured())[2] == pytest.approx(0, abs=0.01)

    with_bench(story, "press")


def test_a_heartbeat_keeps_the_force_and_an_unchanging_one_does_not(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.ramp_to(2.0)
        for beat in range(1, 30):
            await plc.write(107, [beat])
            await asyncio.sleep(9)
        status, _, force_kN = await plc.measured()
        assert Status.HOST_LOST not in status
        assert force_kN == pytest.approx(2.0, abs=0.02)
        for _ in range(3):
            await plc.write(107, [29])
            await asyncio.sleep(9)
        assert Status.HOST_LOST in (await plc.measured())[0]
        await plc.write(107, [30])
        assert Status.HOST_LOST not in (await plc.measured())[0]

    with_bench(story, "press")


def test_too_much_force_latches_and_releases(with_bench: Tell) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.put(108, 3600.0)
        await plc.ramp_to(2.0)
        await asyncio.sleep(8)
        await plc.put(105, 1.0)
        await asyncio.sleep(8)
        status, alarm, force_kN = await plc.measured()
        assert Status.OVER_FORCE in status
        assert alarm is Alarm.OVER_FORCE
        assert force_kN == pytest.approx(0, abs=0.01)
        await plc.put(101, 0.5)
        await plc.command(RAMP)
        await asyncio.sleep(8)
        assert (await plc.measured())[2] == pytest.approx(0, abs=0.01)
        await plc.command(CLEAR)
        await plc.command(RAMP)
        await asyncio.sleep(3)
        assert (await plc.measured())[2] == pytest.approx(0.5, abs=0.01)

    with_bench(story, "press")


@pytest.mark.parametrize(
    ("fault", "bit", "code"),
    [("e_stop", Status.E_STOP, Alarm.E_STOP), ("oil_low", Status.OIL_LOW, Alarm.OIL_LOW)],
)
def test_a_fault_closes_the_valve_until_it_is_gone(
    with_bench: Tell, fault: str, bit: Status, code: Alarm
) -> None:
    async def story(host: Any, bench: Any) -> None:
        plc = Plc(host)
        await plc.ramp_to(4.0, 0.1)
        await asyncio.sleep(10)
        setattr(bench.press, fault, True)
        before_kN = (await plc.measured())[2]
        await asyncio.sleep(20)
        status, alarm, force_kN = await plc.measured()
        assert bit in status
        assert Status.ENABLED not in status
        assert alarm is code
        assert force_kN == pytest.approx(before_kN, abs=0.02)
        setattr(bench.press, fault, False)
        await plc.command(CLEAR)
        await plc.ramp_to(1.0)
        assert Status.MOVING in (await plc.measured())[0]

    with_bench(story, "press")


def test_polling_changes_nothing_in_the_world(with_bench: Tell) -> None:
    forces: list[float] = []

    async def pressed(host: Any, bench: Any, polls: int) -> None:
        plc = Plc(host)
        await plc.ramp_to(1.0)
        for _ in range(polls):
            await plc.read(0, 10)
            await asyncio.sleep(9 / polls)
        bench.world.advance_to(10.0)
        forces.append(bench.world.force_N())

    for polls in (1, 7, 100):

        async def story(host: Any, bench: Any, polls: int = polls) -> None:
            await pressed(host, bench, polls)

        with_bench(story, "press")
    assert forces[0] == forces[1] == forces[2]


@given(st.binary(max_size=300))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_plc_down(with_bench: Tell, data: bytes) -> None:
    async def story(host: Any, bench: Any) -> None:
        await host.stream.write(data)
        await asyncio.sleep(0.1)
        await host.stream.close()
        successor = bench.connect("press")
        await successor.write(bytes.fromhex("000100000006 01 03 0064 0001"))
        assert len(await successor.read_exactly(11, 1)) == 11

    with_bench(story, "press")


OTHER_MAP = {
    "status_word": 1000, "force_kN": 1010, "command": 2000, "target kN": 2003,
    "ramp_kN_per_s": 2007,
}  # fmt: skip


def test_a_bench_file_says_another_installations_map(with_emulator: Tell) -> None:
    async def story(host: Any, world: Any) -> None:
        async def ask(request: str, size: int) -> bytes:
            reply: bytes = await host.exchange(bytes.fromhex(f"0001 0000 {request}"), size)
            return reply[7:]

        one = "3F80 0000"
        assert await ask("0006 07 06 07D0 0006", 12) == bytes.fromhex("06 07D0 0006")
        assert await ask(f"000B 07 10 07D3 0002 04 {one}", 12) == bytes.fromhex("10 07D3 0002")
        assert await ask(f"000B 07 10 07D7 0002 04 {one}", 12) == bytes.fromhex("10 07D7 0002")
        assert await ask("0006 07 06 07D0 0003", 12) == bytes.fromhex("06 07D0 0003")
        await asyncio.sleep(8)
        (force_kN,) = struct.unpack(">f", (await ask("0006 07 03 03F2 0002", 13))[2:])
        assert force_kN == pytest.approx(1.0, abs=0.01)
        assert (await ask("0006 07 03 03E8 0001", 11))[3] & 0b1011 == 0b1011
        # A gap in their map, where the project's own has its command.
        assert await ask("0006 07 03 0064 0001", 9) == bytes.fromhex("83 02")

    options = {"unit": 7, "word order": "msw first", "registers": OTHER_MAP, "capacity": "5 kN"}
    with_emulator(story, PlcPressEmulator.from_bench, options=options)


@pytest.mark.parametrize("registers", [{"command": 101}, {"comand": 7}])
def test_a_map_that_cannot_be_is_refused(with_emulator: Tell, registers: dict[str, int]) -> None:
    async def story(host: Any, world: Any) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="register"):
        with_emulator(story, PlcPressEmulator, registers=registers)
