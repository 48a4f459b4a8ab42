"""The motion controller: 32-bit registers by file and element, commands, auto-stops, heartbeat."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from cellbench_sim.emulators.rmc75e import Controller, Error, Number, Rmc75eEmulator, Status

Tell = Callable[..., None]
CLEAR, ENABLE, FAULT, HOLD, RAMP_IN_TIME, RAMP_AT_RATE = 4, 7, 8, 19, 42, 18


class Rmc:
    """A client of a few lines, with an own reading of addresses and word order."""

    def __init__(self, host: Any) -> None:
        self.host = host

    async def read(self, file: int, element: int, count: int = 1) -> list[bytes]:
        """Return registers as four bytes each, the low word first as on the wire."""
        address = 2 * (256 * file + element)
        request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, address, 2 * count)
        reply = await self.host.exchange(request, 9 + 4 * count)
        return [reply[at : at + 4] for at in range(9, 9 + 4 * count, 4)]

    async def bits(self, file: int, element: int) -> int:
        low, high = struct.unpack(">2H", (await self.read(file, element))[0])
        return int(low | high << 16)

    async def real(self, file: int, element: int) -> float:
        low, high = struct.unpack(">2H", (await self.read(file, element))[0])
        return float(struct.unpack("<f", struct.pack("<2H", low, high))[0])

    async def write(self, file: int, element: int, *values: float) -> bytes:
        words = struct.unpack(f"<{2 * len(values)}H", struct.pack(f"<{len(values)}f", *values))
        size, address = 2 * len(words), 2 * (256 * file + element)
        head = struct.pack(">HHHBBHHB", 1, 0, 7 + size, 1, 16, address, len(words), size)
        reply: bytes = await self.host.exchange(head + struct.pack(f">{len(words)}H", *words), 12)
        return reply

    async def command(self, number: float, *parameters: float) -> Number:
        await self.write(25, 0, number, *parameters, *[0.0] * (9 - len(parameters)))
        return Number(await self.bits(8, 2))

    async def status(self) -> Status:
        return Status(await self.bits(8, 0))

    async def errors(self) -> Error:
        return Error(await self.bits(8, 1))

    async def press(self, force_N: float) -> None:
        assert await self.command(ENABLE) is Number.NONE
        assert await self.command(RAMP_AT_RATE, force_N, 500.0) is Number.NONE


def telling(
    with_emulator: Tell, story: Any, *, kind: Any = Rmc75eEmulator, **settings: Any
) -> None:
    """Tell a story to a client and the world; by default the host is given a minute."""
    if kind is Rmc75eEmulator:
        settings = {"heartbeat_timeout_s": 60.0, **settings}

    async def to_client(host: Any, world: Any) -> None:
        await story(Rmc(host), world)

    with_emulator(to_client, kind, **settings)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        # Status, with nothing switched on: in position, stopped, target done, direct output.
        ("000100000006 01 03 1000 0002", "000100000007 01 03 04 1241 0000"),
        ("000200000006 01 04 1002 0002", "000200000007 01 04 04 0000 0000"),
        # 20.7 in RUN; one half of a register; axis 1 does not exist; the command area is not read.
        ("000300000006 01 03 280E 0002", "000300000007 01 03 04 0001 0000"),
        ("000400000006 01 03 280F 0001", "000400000005 01 03 02 0000"),
        ("000500000006 01 03 1200 0002", "000500000003 01 83 02"),
        ("000600000006 01 03 3200 0002", "000600000003 01 83 02"),
        ("000700000006 01 06 1010 0001", "000700000003 01 86 02"),
        ("000800000006 01 08 0000 A537", "000800000006 01 08 0000 A537"),
        # The page's example of a float, 123.5 as 0000 42F7, in a variable and read back at once.
        (
            "00090000000F 01 17 7006 0002 7006 0002 04 0000 42F7",
            "000900000007 01 17 04 0000 42F7",
        ),
        ("000A00000006 01 05 1000 FF00", "000A00000003 01 85 01"),
    ],
)
def test_frames_are_answered_byte_by_byte(with_emulator: Tell, request_: str, reply: str) -> None:
    async def story(host: Any, world: Any) -> None:
        golden = bytes.fromhex(reply)
        assert await host.exchange(bytes.fromhex(request_), len(golden)) == golden

    with_emulator(story, Rmc75eEmulator)


def test_a_ramp_of_given_rate_ends_at_its_target(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.press(2000.0)
        await asyncio.sleep(2)
        status = await rmc.status()
        assert Status.FORCE_CONTROL | Status.ENABLED | Status.ENABLE_OUTPUT in status
        assert Status.STOPPED not in status
        assert await rmc.real(8, 9) == 500.0
        await asyncio.sleep(8)
        assert Status.AT_FORCE | Status.FORCE_TARGET_DONE | Status.IN_POSITION in await rmc.status()
        assert await rmc.real(8, 8) == pytest.approx(2000.0, abs=5)
        assert await rmc.real(8, 56) == pytest.approx(2000.0)

    telling(with_emulator, story)


def test_a_ramp_in_given_time_and_other_units(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.command(ENABLE)
        assert await rmc.command(RAMP_IN_TIME, 1.0, 5.0) is Number.NONE
        await asyncio.sleep(2.5)
        assert await rmc.real(8, 8) == pytest.approx(0.42, abs=0.1)
        await asyncio.sleep(6)
        assert await rmc.real(8, 8) == pytest.approx(1.0, abs=0.005)

    telling(with_emulator, story, force_unit_N=1e3)


def test_a_bench_file_says_which_commands_ramp_and_hold(with_emulator: Tell) -> None:
    options = {
        "unit": 1, "force_unit": "1 kN", "ramp_command": 41, "ramp_takes": "force, rate",
        "hold_command": 43, "heartbeat_register": "%MD57.4", "host_timeout": "5 s", "port": "COM1",
    }  # fmt: skip

    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.command(ENABLE)
        assert await rmc.command(RAMP_IN_TIME, 1.0, 5.0) is Number.UNKNOWN_COMMAND
        await rmc.command(CLEAR)
        assert await rmc.command(41, 1.0, 0.5) is Number.NONE
        assert await rmc.command(43) is Number.NONE
        assert await rmc.real(57, 5) == 5.0

    telling(with_emulator, story, kind=Rmc75eEmulator.from_bench, options=options)


@pytest.mark.parametrize(
    ("command", "parameters", "number"),
    [
        (77, (), Number.UNKNOWN_COMMAND),
        (4.5, (), Number.UNKNOWN_COMMAND),
        (RAMP_AT_RATE, (6000.0, 10.0), Number.PARAMETER),
        (RAMP_AT_RATE, (100.0, 0.0), Number.PARAMETER),
        (RAMP_AT_RATE, (float("nan"), 10.0), Number.PARAMETER),
        (9, (3.0,), Number.PARAMETER),
    ],
)
def test_a_rejected_command_leaves_its_number(
    with_emulator: Tell, command: float, parameters: tuple[float, ...], number: Number
) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.command(ENABLE)
        assert await rmc.command(command, *parameters) is number
        assert not world.press.moving

    telling(with_emulator, story)


def test_every_command_is_acknowledged_and_none_moves_before_enabling(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        assert await rmc.command(RAMP_AT_RATE, 100.0, 10.0) is Number.NOT_NOW
        assert Status.ACKNOWLEDGE in await rmc.status()
        assert Controller(await rmc.bits(20, 7)) == Controller.RUN
        await rmc.command(ENABLE)
        assert Status.ACKNOWLEDGE not in await rmc.status()
        assert Controller.ENABLED in Controller(await rmc.bits(20, 7))
        assert not world.press.moving

    telling(with_emulator, story)


def test_the_emergency_stop_closes_the_valve_and_stays_until_cleared(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.press(4000.0)
        await asyncio.sleep(4)
        rmc.host.device.e_stop = True
        stopped_N = world.force_N()
        await asyncio.sleep(20)
        assert world.force_N() == pytest.approx(stopped_N, rel=1e-3)
        assert Status.HALTED | Status.FAULT_INPUT | Status.DIRECT_OUTPUT in await rmc.status()
        assert await rmc.errors() == Error.FAULT_INPUT
        await rmc.command(CLEAR)
        assert await rmc.errors() == Error.FAULT_INPUT
        rmc.host.device.e_stop = False
        assert await rmc.errors() == Error.FAULT_INPUT
        assert await rmc.command(ENABLE) is Number.NOT_NOW
        await rmc.command(CLEAR)
        assert await rmc.errors() == Error(0)
        await rmc.press(1000.0)

    telling(with_emulator, story)


def test_without_its_transducer_the_axis_takes_no_closed_loop_command(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.press(1000.0)
        await asyncio.sleep(5)
        rmc.host.device.transducer_broken = True
        assert await rmc.errors() == Error.NO_TRANSDUCER | Error.FORCE_NO_TRANSDUCER
        assert await rmc.command(RAMP_AT_RATE, 10.0, 10.0) is Number.NOT_NOW
        assert await rmc.command(HOLD) is Number.NOT_NOW
        assert await rmc.real(8, 8) == 0.0
        assert world.press.force_N == pytest.approx(1000.0, abs=5)

    telling(with_emulator, story)


def test_too_much_force_lets_go_by_itself_and_latches(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.press(2000.0)
        await asyncio.sleep(6)
        world.press.max_force_N = 1500.0
        await asyncio.sleep(9)
        assert Error.POSITIVE_LIMIT_INPUT in await rmc.errors()
        assert world.force_N() == 0.0
        assert await rmc.command(RAMP_AT_RATE, 10.0, 10.0) is Number.NOT_NOW
        await rmc.command(CLEAR)
        assert await rmc.command(RAMP_AT_RATE, 10.0, 10.0) is Number.NONE

    telling(with_emulator, story)


def test_faulting_the_controller_and_halting_close_the_valve(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        for command in (FAULT, 2, 3):
            await rmc.press(1000.0)
            await asyncio.sleep(1)
            await rmc.command(command)
            assert not world.press.moving
            assert Status.HALTED in await rmc.status()
            assert Status.FORCE_CONTROL not in await rmc.status()

    telling(with_emulator, story)


def test_a_silent_host_is_waited_for_then_the_program_unloads(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.write(56, 1, 5.0)
        await rmc.press(1000.0)
        for beat in range(1, 20):
            await rmc.write(56, 0, float(beat))
            await asyncio.sleep(4)
        assert await rmc.real(56, 2) == 0.0
        await asyncio.sleep(30)
        assert await rmc.real(56, 2) == 1.0
        assert await rmc.real(8, 8) == pytest.approx(1000.0, abs=10)
        assert await rmc.command(RAMP_AT_RATE, 10.0, 10.0) is Number.NOT_NOW
        await asyncio.sleep(60)
        assert await rmc.real(8, 8) == pytest.approx(0.0, abs=4)
        await rmc.write(56, 0, 100.0)
        assert await rmc.real(56, 2) == 0.0
        assert await rmc.command(CLEAR) is Number.NONE
        assert await rmc.command(RAMP_AT_RATE, 10.0, 10.0) is Number.NONE

    telling(with_emulator, story)


def test_in_program_mode_nobody_misses_the_host(with_emulator: Tell) -> None:
    async def story(rmc: Rmc, world: Any) -> None:
        await rmc.command(99)
        await rmc.press(1000.0)
        await asyncio.sleep(300)
        assert await rmc.real(56, 2) == 0.0
        assert await rmc.real(8, 8) == pytest.approx(1000.0, abs=10)

    telling(with_emulator, story)


def test_pymodbus_presses(to_partner: Callable[..., Any]) -> None:
    client_module = pytest.importorskip("pymodbus.client")

    def program(address: str, world: Any) -> tuple[float, int]:
        host, port = address.removeprefix("tcp://").split(":")
        client = client_module.ModbusTcpClient(host, port=int(port))
        kind = client.DATATYPE.FLOAT32
        for command in ([7.0] + [0.0] * 9, [18.0, 900.0, 450.0] + [0.0] * 7):
            words = client.convert_to_registers(command, kind, word_order="little")
            assert not client.write_registers(0x3200, words).isError()
        for _ in range(20000):
            words = client.read_holding_registers(0x1000, count=20).registers
            if words[0] & 1 and words[1] & 1 << 3:
                break
        force = client.convert_from_registers(words[16:18], kind, word_order="little")
        client.close()
        return force, words[2] | words[3] << 16

    force_N, errors = to_partner(program, Rmc75eEmulator, speed=20.0)
    assert force_N == pytest.approx(900.0, abs=5)
    assert errors == 0


@given(st.binary(max_size=100))
@hypothesis.settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_bring_the_controller_down(with_emulator: Tell, data: bytes) -> None:
    async def story(host: Any, world: Any) -> None:
        await host.stream.write(data)
        host.stream = host.device.connect()
        assert len(await Rmc(host).read(8, 8)) == 1

    with_emulator(story, Rmc75eEmulator)
